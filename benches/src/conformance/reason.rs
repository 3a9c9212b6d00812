//! Messages of engines, brought into a form that is the same for the same fault.
//!
//! What belongs to one test alone goes: paths, addresses, names of tensors, numbers. What tells faults apart
//! stays: names of operators and dtypes.

use std::collections::BTreeSet;
use std::path::Path;

/// The longest reason, in characters.
const LONGEST: usize = 140;

/// The reason that a message gives; `operators` are those of the model.
pub fn normal(message: &str, operators: &BTreeSet<String>, folder: &Path) -> String {
    let message = message.replace(&*folder.to_string_lossy(), "");
    let line = telling_line(&message);
    let line = unquoted(line, operators);
    let short: String = line.split_whitespace().collect::<Vec<_>>().join(" ");
    short
        .chars()
        .take(LONGEST)
        .collect::<String>()
        .trim_end_matches([':', ' ', '.', ','])
        .to_owned()
}

/// Of several lines the last that says something: engines put the place in their source first.
fn telling_line(message: &str) -> &str {
    let mut lines = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines.next_back().unwrap_or("no message")
}

/// Takes out quoted names that are no operators, and numbers.
fn unquoted(line: &str, operators: &BTreeSet<String>) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(['\'', '"', '`']) {
        let quote = &rest[start..start + 1];
        let (before, quoted) = (&rest[..start], &rest[start + 1..]);
        let Some(end) = quoted.find(quote) else {
            break;
        };
        text.push_str(&plain(before));
        match operators.contains(&quoted[..end]) {
            true => text.push_str(&format!("`{}`", &quoted[..end])),
            false => text.push('…'),
        }
        rest = &quoted[end + 1..];
    }
    text + &plain(rest)
}

/// Replaces numbers that stand alone by `N`.
fn plain(text: &str) -> String {
    let mut words = String::new();
    let mut number = false;
    let mut before = ' ';
    for character in text.chars() {
        let starts = character.is_ascii_digit() && !before.is_alphanumeric();
        if character.is_ascii_digit() && (number || starts) {
            if !number {
                words.push('N');
            }
            number = true;
        } else {
            number = false;
            words.push(character);
        }
        before = character;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_test_goes() {
        let operators = BTreeSet::from(["Celu".to_owned()]);
        let cases = [
            ("cannot run `Celu` of `node 7`", "cannot run `Celu` of …"),
            (
                "/data/x/model.onnx: no 12 of f32",
                "/model.onnx: no N of f32",
            ),
            (
                "Check 'a > b' failed at source.cpp:12:\n  operator Celu: not there\n",
                "operator Celu: not there",
            ),
            ("", "no message"),
        ];
        for (message, reason) in cases {
            assert_eq!(normal(message, &operators, Path::new("/data/x")), reason);
        }
    }
}
