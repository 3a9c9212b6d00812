//! What is printed: text for people, JSON for scripts.

use infer_imaging::Class;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// A photo and what came of it.
pub(crate) struct Photo {
    /// Its path as it was given, `-` for standard input.
    pub(crate) photo: String,
    /// Its classes, best first, or why there are none.
    pub(crate) classes: Result<Vec<Class>, String>,
}

/// A block per photo: its name, then a line per class.
pub(crate) fn text(photos: &[Photo]) -> String {
    let mut text = String::new();
    for photo in photos {
        let Ok(classes) = &photo.classes else {
            continue;
        };
        let _ = writeln!(text, "{}", photo.photo);
        for class in classes {
            let _ = writeln!(text, "  {:.2}  {}", class.probability, class.label);
        }
    }
    text
}

/// The JSON document.
#[derive(serde::Serialize)]
struct Document<'a> {
    version: u32,
    model: &'a str,
    photos: Vec<Row<'a>>,
}

/// A photo in the document: `classes` or `error`.
#[derive(serde::Serialize)]
struct Row<'a> {
    photo: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<&'a [Class]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// One document: `{"version":1,"model":NAME,"photos":[{"photo":PATH,"classes":[...]}|{"photo":PATH,"error":TEXT}]}`.
pub(crate) fn json(model: &str, photos: &[Photo]) -> String {
    let photos = photos.iter().map(|Photo { photo, classes }| Row {
        photo,
        classes: classes.as_deref().ok(),
        error: classes.as_ref().err().map(String::as_str),
    });
    let document = Document {
        version: 1,
        model,
        photos: photos.collect(),
    };
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

/// Writes to standard output; a reader that has gone away is no failure.
pub(crate) fn print(text: String) -> ExitCode {
    let mut output = io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photos() -> Vec<Photo> {
        let espresso = Class {
            index: 967,
            label: "espresso".into(),
            probability: 0.951,
        };
        vec![
            Photo {
                photo: "a.png".into(),
                classes: Ok(vec![espresso]),
            },
            Photo {
                photo: "b.png".into(),
                classes: Err("no picture".into()),
            },
        ]
    }

    #[test]
    fn text_has_a_block_per_photo() {
        assert_eq!(text(&photos()), "a.png\n  0.95  espresso\n");
    }

    #[test]
    fn json_has_every_photo() {
        let document: serde_json::Value =
            serde_json::from_str(&json("default", &photos())).expect("JSON");
        assert_eq!(document["photos"][0]["classes"][0]["label"], "espresso");
        assert_eq!(document["photos"][1]["error"], "no picture");
    }
}
