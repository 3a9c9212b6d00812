//! The command line.

use infer_imaging::{Flags, HELP};
use lexopt::{Arg, Parser, ValueExt};

/// How photos are to be classified.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    /// The photos' paths, `-` for standard input; never empty.
    pub(crate) photos: Vec<String>,
    /// How many classes are printed per photo.
    pub(crate) top: usize,
    /// Whether one JSON document is printed instead of text.
    pub(crate) json: bool,
    /// The path of a file with one label per line.
    pub(crate) labels: Option<String>,
    /// The model, and how pictures are prepared for it.
    pub(crate) flags: Flags,
}

/// The text of `--help`.
pub(crate) fn help() -> String {
    format!(
        "\
Says what is on photos. The host that runs this guest chooses the model.

Usage: classify [OPTIONS] [PHOTO...]

PHOTO is a JPEG or PNG file; without one, or as `-`, the photo is read from standard input.

  --top N              how many classes to print per photo (5)
  --json               print one JSON document
  --labels FILE        what the classes are called, one per line, by class index
  --help               print this

{HELP}

Exit status: 0, or 1 when a photo or the model failed.
"
    )
}

/// Reads this process's command line; `None` when it asks for help.
pub(crate) fn parse() -> Result<Option<Options>, lexopt::Error> {
    parse_from(Parser::from_env())
}

fn parse_from(mut parser: Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        photos: Vec::new(),
        top: 5,
        json: false,
        labels: None,
        flags: Flags::default(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("json") => options.json = true,
            Arg::Long("labels") => options.labels = Some(parser.value()?.string()?),
            Arg::Long("top") => options.top = parser.value()?.parse()?,
            Arg::Long(option) => {
                let option = option.to_owned();
                if !options.flags.take(&option, &mut parser)? {
                    return Err(Arg::Long(&option).unexpected());
                }
            }
            Arg::Value(photo) => options.photos.push(photo.string()?),
            other => return Err(other.unexpected()),
        }
    }
    if options.photos.is_empty() {
        options.photos.push("-".into());
    }
    Ok(Some(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Option<Options>, lexopt::Error> {
        parse_from(Parser::from_args(line))
    }

    #[test]
    fn a_usual_command_line_is_read() {
        let command =
            parse(&["--top", "1", "a.jpg", "--json", "--model", "m", "b.png"]).expect("parses");
        let flags = Flags {
            model: Some("m".into()),
            ..Flags::default()
        };
        let photos = vec!["a.jpg".to_owned(), "b.png".to_owned()];
        assert_eq!(
            command,
            Some(Options {
                photos,
                top: 1,
                json: true,
                labels: None,
                flags
            })
        );
    }

    #[test]
    fn without_a_photo_standard_input_is_read() {
        let Ok(Some(options)) = parse(&[]) else {
            panic!("parses")
        };
        assert_eq!(options.photos, ["-"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in [
            &["--tops"][..],
            &["-x"],
            &["--top", "many"],
            &["--json=yes"],
            &["--labels"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
        assert_eq!(parse(&["--help", "--nonsense"]).expect("help"), None);
    }
}
