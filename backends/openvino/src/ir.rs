//! What has to be known of a model in OpenVINO's own form before the engine reads it: that it is one, that
//! it names no file, and whether it has state.
//!
//! For these its text is searched. `layers` takes it apart, to see what the engine would compute wrongly.

pub(crate) mod layers;

use infer_core::{Error, ErrorKind, Result};

/// The layers of a model that remembers.
const STATE: [&str; 2] = ["ReadValue", "Assign"];

/// What the engine's reader takes for the name of a file.
const NAMES_FILES: &str = "weights_path";

/// Whether the model has variables. A name that merely looks so counts as well: a session more is the
/// only cost.
///
/// # Errors
/// `InvalidEncoding` for what is no such model.
pub(crate) fn is_stateful(xml: &[u8]) -> Result<bool> {
    let start = xml.strip_prefix(b"\xef\xbb\xbf").unwrap_or(xml);
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'<') || !contains(xml, "<net") {
        return Err(Error::new(
            ErrorKind::InvalidEncoding,
            "not a valid OpenVINO model: expected XML with an element `net`",
        ));
    }
    Ok(STATE.iter().any(|layer| contains(&plain(xml), layer)))
}

/// Checks that a model given as bytes names no file of the host's.
///
/// # Errors
/// `Security` if it does.
pub(crate) fn check_names_no_file(xml: &[u8]) -> Result<()> {
    match contains(&plain(xml), NAMES_FILES) {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::Security,
            format!("the model sets `{NAMES_FILES}`, which a model given as bytes may not"),
        )),
    }
}

/// The text with its numbered characters (`&#82;`) as the characters that they are.
fn plain(xml: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(xml.len());
    let mut rest = xml;
    while let Some(at) = rest.iter().position(|&byte| byte == b'&') {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        match numbered(rest) {
            Some((character, length)) => {
                plain.push(character);
                rest = &rest[length..];
            }
            None => {
                plain.push(b'&');
                rest = &rest[1..];
            }
        }
    }
    plain.extend_from_slice(rest);
    plain
}

/// An ASCII character written as its number, and the length of that in bytes.
fn numbered(text: &[u8]) -> Option<(u8, usize)> {
    let inner = text.strip_prefix(b"&#")?;
    let end = inner.iter().take(64).position(|&byte| byte == b';')?;
    let digits = std::str::from_utf8(&inner[..end]).ok()?;
    let number = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let character = u8::try_from(number.ok()?).ok()?;
    Some((character, end + 3))
}

fn contains(text: &[u8], word: &str) -> bool {
    let word = word.as_bytes();
    text.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_files_are_seen_however_they_are_written() {
        let cases: [(&str, bool, bool); 5] = [
            ("<net><layer type=\"Relu\"/></net>", false, true),
            ("<net><layer type='ReadValue'/></net>", true, true),
            ("<net><layer type='&#82;eadV&#x61;lue'/></net>", true, true),
            ("<net><__weights_path value='x'/></net>", false, false),
            ("<net a='&amp;&#;&#99999;&#x;'/>", false, true),
        ];
        for (xml, stateful, harmless) in cases {
            assert_eq!(is_stateful(xml.as_bytes()).expect(xml), stateful, "{xml}");
            let checked = check_names_no_file(xml.as_bytes());
            assert_eq!(checked.is_ok(), harmless, "{xml}");
        }
        assert!(is_stateful(b"net").is_err());
        assert!(is_stateful(b"<html></html>").is_err());
    }
}
