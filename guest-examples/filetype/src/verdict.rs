//! What is known of each file, and how it is printed.

use std::fmt::Write as _;

/// A file and its verdict.
pub(crate) struct File {
    /// Its path as it was given, `-` for standard input.
    pub(crate) path: String,
    /// What is known of it.
    pub(crate) verdict: Verdict,
}

/// What is known of a file.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Verdict {
    /// Its features wait for the model.
    #[serde(skip)]
    Waiting(Vec<i32>),
    /// What it is, and how sure that is, from 0 to 1.
    Known { label: String, score: f32 },
    /// Why it cannot be told.
    Failed { error: String },
}

impl File {
    /// Whether the model is needed.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.verdict, Verdict::Waiting(_))
    }

    /// Gives the features away; none are left.
    pub(crate) fn take_features(&mut self) -> Vec<i32> {
        match &mut self.verdict {
            Verdict::Waiting(features) => std::mem::take(features),
            _ => Vec::new(),
        }
    }
}

/// Two of the model's classes stand for having found nothing; people know them by plainer names.
pub(crate) fn plain(label: String) -> String {
    match label.as_str() {
        "randombytes" => "unknown".into(),
        "randomtxt" => "txt".into(),
        _ => label,
    }
}

/// A line per file: `path: label (score)`.
pub(crate) fn text(files: &[File]) -> String {
    let mut text = String::new();
    for file in files {
        if let Verdict::Known { label, score } = &file.verdict {
            let _ = writeln!(text, "{}: {label} ({score:.2})", file.path);
        }
    }
    text
}

/// The JSON document.
#[derive(serde::Serialize)]
struct Document<'a> {
    version: u32,
    files: Vec<Row<'a>>,
}

/// A file in the document: `label` and `score`, or `error`.
#[derive(serde::Serialize)]
struct Row<'a> {
    path: &'a str,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// One document: `{"version":1,"files":[{"path":PATH,"label":L,"score":S}|{"path":PATH,"error":TEXT}]}`.
pub(crate) fn json(files: &[File]) -> String {
    let files = files
        .iter()
        .map(|File { path, verdict }| Row { path, verdict })
        .collect();
    serde_json::to_string_pretty(&Document { version: 1, files }).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_every_file() {
        let known = Verdict::Known {
            label: plain("randomtxt".into()),
            score: 0.5,
        };
        let files = [
            File {
                path: "a".into(),
                verdict: known,
            },
            File {
                path: "b".into(),
                verdict: Verdict::Failed {
                    error: "gone".into(),
                },
            },
        ];
        assert_eq!(text(&files), "a: txt (0.50)\n");
        let document: serde_json::Value = serde_json::from_str(&json(&files)).expect("JSON");
        assert_eq!(document["files"][0]["label"], "txt");
        assert_eq!(document["files"][1]["error"], "gone");
    }
}
