//! What an OpenVINO IR's XML says of itself, found by its bytes: no XML is parsed.
//!
//! Reads the file once, in pieces. Only what engines and exporters write is looked for: a tag's name
//! after `<`, an attribute as `name="value"` or with single quotes.

use std::io::Read;

const PIECE: usize = 64 * 1024;
// The tag `<net ...>` is found in the first piece.
const LAYER: &[u8] = b"<layer ";
const CONSTANTS: [&[u8]; 2] = [b"type=\"Const\"", b"type='Const'"];

/// The head of an OpenVINO IR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IrHead {
    /// The version of the file format; empty where it is not said.
    pub(crate) version: String,
    /// The network's name.
    pub(crate) name: String,
    /// How many layers there are, those inside of loops too.
    pub(crate) layers: u64,
    /// How many of them are constants, which are in the `.bin` file.
    pub(crate) constants: u64,
}

/// Reads the head.
pub(crate) fn ir_head(mut source: impl Read) -> std::io::Result<IrHead> {
    let mut start = Vec::new();
    source.by_ref().take(PIECE as u64).read_to_end(&mut start)?;
    let tag = tag(&start, b"<net ").unwrap_or_default();
    let mut head = IrHead {
        version: attribute(tag, "version"),
        name: attribute(tag, "name"),
        ..IrHead::default()
    };
    let needles = [LAYER, CONSTANTS[0], CONSTANTS[1]];
    let [layers, double, single] = count(start.as_slice().chain(source), needles)?;
    (head.layers, head.constants) = (layers, double + single);
    Ok(head)
}

/// How often each of the texts occurs.
fn count<const N: usize>(mut source: impl Read, needles: [&[u8]; N]) -> std::io::Result<[u64; N]> {
    let longest = needles.iter().map(|needle| needle.len()).max().unwrap_or(1);
    let (mut counts, mut window) = ([0; N], Vec::new());
    loop {
        let kept = window.len();
        source
            .by_ref()
            .take(PIECE as u64)
            .read_to_end(&mut window)?;
        let is_last = window.len() == kept;
        // A text that starts in the last bytes may go on in the next piece.
        let sure = match is_last {
            true => window.len(),
            false => (window.len() + 1).saturating_sub(longest),
        };
        for at in (0..sure).filter(|at| matches!(window[*at], b'<' | b't')) {
            for (count, needle) in counts.iter_mut().zip(needles) {
                *count += u64::from(window[at..].starts_with(needle));
            }
        }
        if is_last {
            return Ok(counts);
        }
        window.drain(..sure);
    }
}

/// The text from a tag's name to its end.
fn tag<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = text.windows(name.len()).position(|part| part == name)?;
    let tag = &text[start + name.len() - 1..];
    let end = tag.iter().position(|byte| *byte == b'>')?;
    Some(&tag[..end])
}

fn attribute(tag: &[u8], name: &str) -> String {
    let tag = String::from_utf8_lossy(tag);
    for quote in ['"', '\''] {
        let value = tag
            .split_once(&format!(" {name}={quote}"))
            .and_then(|(_, rest)| rest.split_once(quote));
        if let Some((value, _)) = value {
            return value.to_owned();
        }
    }
    String::new()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        let head = ir_head(&include_bytes!("../testdata/network.xml")[..]).unwrap();
        assert_eq!(
            (head.version.as_str(), head.name.as_str()),
            ("11", "network")
        );
        assert!(head.layers > 8 && head.constants > 3, "{head:?}");
        let quoted = ir_head(&b"<net name='a' version='10'><layer type='Const'"[..]).unwrap();
        assert_eq!((quoted.name.as_str(), quoted.constants), ("a", 1));
        assert_eq!(ir_head(&b"<net "[..]).unwrap(), IrHead::default());
    }

    #[test]
    fn a_text_across_pieces_is_counted_once() {
        let needle = b"<layer ";
        for before in PIECE - 9..PIECE + 3 {
            let text = [vec![b'x'; before], needle.to_vec(), vec![b'y'; PIECE]].concat();
            assert_eq!(count(&text[..], [&needle[..]]).unwrap(), [1], "{before}");
        }
    }
}
