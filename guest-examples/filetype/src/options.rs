//! The command line.

use lexopt::{Arg, Parser, ValueExt};

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Says what kind of file each file is, by its content.

Usage: filetype [OPTIONS] [FILE...]

Without a FILE, or as `-`, standard input is read. The host must have been started with the model magika.

  --model NAME         by the name that the host gave it (default)
  --json               print one JSON document
  --help               print this

Exit status: 0, or 1 when a file or the model failed.
";

/// How files are to be classified.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    /// The files' paths, `-` for standard input; never empty.
    pub(crate) files: Vec<String>,
    /// The model's name.
    pub(crate) model: String,
    /// Whether one JSON document is printed instead of text.
    pub(crate) json: bool,
}

/// Reads this process's command line; `None` when it asks for help.
pub(crate) fn parse() -> Result<Option<Options>, lexopt::Error> {
    parse_from(Parser::from_env())
}

fn parse_from(mut parser: Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        files: Vec::new(),
        model: "default".into(),
        json: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("json") => options.json = true,
            Arg::Long("model") => options.model = parser.value()?.string()?,
            Arg::Value(file) => options.files.push(file.string()?),
            other => return Err(other.unexpected()),
        }
    }
    if options.files.is_empty() {
        options.files.push("-".into());
    }
    Ok(Some(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_read_or_refused() {
        let Ok(Some(options)) = parse_from(Parser::from_args(["--json", "a", "b"])) else {
            panic!("parses")
        };
        assert_eq!(
            (options.files, options.json),
            (vec!["a".to_owned(), "b".to_owned()], true)
        );
        let Ok(Some(options)) = parse_from(Parser::from_args([""; 0])) else {
            panic!("parses")
        };
        assert_eq!(options.files, ["-"]);
        assert!(parse_from(Parser::from_args(["--jsn"])).is_err());
    }
}
