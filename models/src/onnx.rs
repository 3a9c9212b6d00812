//! What the head of an ONNX file says of itself: versions, without reading the graph.
//!
//! Reads the outermost fields of the protobuf and skips over the rest, so it costs the same for a model
//! of any size.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use infer_core::{Error, ErrorKind, Result};

use crate::file_error;

/// The longest text or message that is read whole, in bytes.
const LONGEST: u64 = 64 * 1024;

/// The head of an ONNX model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnnxHead {
    /// The version of the file format.
    pub ir_version: u64,
    /// The program that wrote it, where it says so.
    pub producer: String,
    /// Operator sets: domain, empty for ONNX's own, and version.
    pub opsets: Vec<(String, u64)>,
}

impl OnnxHead {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// `NotFound` for a missing file, `InvalidEncoding` for what is no protobuf.
    pub fn read(path: &Path) -> Result<OnnxHead> {
        let file = File::open(path).map_err(|error| file_error("open", path, error))?;
        head(&mut BufReader::new(file)).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidEncoding,
                format!("`{}` is no ONNX model", path.display()),
            )
        })
    }
}

fn head(file: &mut (impl Read + Seek)) -> Option<OnnxHead> {
    let mut head = OnnxHead::default();
    while let Some((number, field)) = field(file)? {
        match (number, field) {
            (1, Field::Number(version)) => head.ir_version = version,
            (2, Field::Bytes(text)) => head.producer = String::from_utf8_lossy(&text).into_owned(),
            (8, Field::Bytes(message)) => head.opsets.push(opset(&message)?),
            _ => {}
        }
    }
    Some(head)
}

fn opset(message: &[u8]) -> Option<(String, u64)> {
    let (mut domain, mut version) = (String::new(), 0);
    let mut message = std::io::Cursor::new(message);
    while let Some((number, field)) = field(&mut message)? {
        match (number, field) {
            (1, Field::Bytes(text)) => domain = String::from_utf8_lossy(&text).into_owned(),
            (2, Field::Number(number)) => version = number,
            _ => {}
        }
    }
    Some((domain, version))
}

enum Field {
    Number(u64),
    Bytes(Vec<u8>),
    Skipped,
}

/// The next field: `Some(None)` at the end, `None` for what is no protobuf.
#[allow(clippy::option_option, reason = "an end and a fault are two things")]
fn field(file: &mut (impl Read + Seek)) -> Option<Option<(u64, Field)>> {
    let Some(tag) = varint(file) else {
        return Some(None);
    };
    let field = match tag & 7 {
        0 => Field::Number(varint(file)?),
        1 => skip(file, 8)?,
        2 => match varint(file)? {
            length if length <= LONGEST => {
                let mut bytes = vec![0; usize::try_from(length).ok()?];
                file.read_exact(&mut bytes).ok()?;
                Field::Bytes(bytes)
            }
            length => skip(file, length)?,
        },
        5 => skip(file, 4)?,
        _ => return None,
    };
    Some(Some((tag >> 3, field)))
}

fn skip(file: &mut impl Seek, length: u64) -> Option<Field> {
    file.seek_relative(i64::try_from(length).ok()?).ok()?;
    Some(Field::Skipped)
}

fn varint(file: &mut impl Read) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        file.read_exact(&mut byte).ok()?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_and_noise_is_not() {
        let bytes =
            b"\x08\x08\x12\x04test\x3a\x02\x0a\x00\x42\x02\x10\x0d\x42\x07\x0a\x03com\x10\x01";
        let expected = OnnxHead {
            ir_version: 8,
            producer: "test".to_owned(),
            opsets: vec![(String::new(), 13), ("com".to_owned(), 1)],
        };
        assert_eq!(head(&mut std::io::Cursor::new(&bytes[..])), Some(expected));
        assert_eq!(head(&mut std::io::Cursor::new(&b"\x0f\xff\xff"[..])), None);
    }
}
