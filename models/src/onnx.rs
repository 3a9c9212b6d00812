//! What the head of an ONNX file says of itself: versions, without reading the graph.
//!
//! Reads the outermost fields of the protobuf and skips over the rest, so it costs the same for a model
//! of any size.

use std::io::{Read, Seek};
use std::path::Path;

use infer_core::{Error, ErrorKind, Result};

use crate::protobuf::{Reader, Span, Step, Value};
use crate::{file_error, open_file};

// More outer fields than this are not looked at.
const MOST_FIELDS: usize = 10_000;

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
        let file = open_file(path)?;
        let mut reader = Reader::new(file).map_err(|error| file_error("read", path, error))?;
        head(&mut reader).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidEncoding,
                format!("`{}` is no ONNX model", path.display()),
            )
        })
    }
}

fn head(reader: &mut Reader<impl Read + Seek>) -> Option<OnnxHead> {
    let (mut head, mut left) = (OnnxHead::default(), reader.whole());
    for _ in 0..MOST_FIELDS {
        let field = match reader.next(&mut left) {
            Step::Field(field) => field,
            Step::End => break,
            Step::CutShort(_) | Step::Fault => return None,
        };
        match (field.number, field.value) {
            (1, Value::Number(version)) => head.ir_version = version,
            (2, Value::Bytes(text)) => head.producer = reader.text(text).unwrap_or_default(),
            (8, Value::Bytes(message)) => head.opsets.push(opset(reader, message)),
            _ => {}
        }
    }
    Some(head)
}

fn opset(reader: &mut Reader<impl Read + Seek>, message: Span) -> (String, u64) {
    let (mut domain, mut version) = (String::new(), 0);
    for field in reader.fields(message, 8) {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => domain = reader.text(text).unwrap_or_default(),
            (2, Value::Number(number)) => version = number,
            _ => {}
        }
    }
    (domain, version)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn head_of(bytes: &[u8]) -> Option<OnnxHead> {
        head(&mut Reader::new(std::io::Cursor::new(bytes)).unwrap())
    }

    #[test]
    fn a_head_is_read_and_noise_is_not() {
        let bytes =
            b"\x08\x08\x12\x04test\x3a\x02\x0a\x00\x42\x02\x10\x0d\x42\x07\x0a\x03com\x10\x01";
        let expected = OnnxHead {
            ir_version: 8,
            producer: "test".to_owned(),
            opsets: vec![(String::new(), 13), ("com".to_owned(), 1)],
        };
        assert_eq!(head_of(bytes), Some(expected));
        assert_eq!(head_of(b"\x0f\xff\xff"), None);
    }
}
