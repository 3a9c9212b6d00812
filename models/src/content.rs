//! What a file is, by its content: a model of some encoding, or something that came in its place.
//!
//! Only the outermost structure is looked at, a few bytes of it: whether a model is valid is for the
//! engine to say. Never reads more than a few kilobytes, whatever the file's size.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use infer_core::{Encoding, Result};

use crate::file_error;

/// What the bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A model of this encoding.
    Model(Encoding),
    /// An ONNX model whose outer structure ends after the end of the file.
    TruncatedOnnx,
    /// No bytes at all.
    Empty,
    /// A web page.
    Html,
    /// A Git LFS pointer, which stands for a file that was not fetched.
    GitLfsPointer,
    /// A zip archive: a wheel, say, or a PyTorch checkpoint.
    Zip,
    /// A gzip file.
    Gzip,
    /// WebAssembly: a guest, not a model.
    Wasm,
    /// Anything else.
    Unknown,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Model(encoding) => write!(f, "{encoding}"),
            Content::TruncatedOnnx => f.write_str("the beginning of an ONNX model, cut short"),
            Content::Empty => f.write_str("an empty file"),
            Content::Html => f.write_str("a web page (HTML)"),
            Content::GitLfsPointer => f.write_str("a Git LFS pointer"),
            Content::Zip => f.write_str("a zip archive"),
            Content::Gzip => f.write_str("a gzip file"),
            Content::Wasm => f.write_str("a WebAssembly guest"),
            Content::Unknown => f.write_str("bytes of no known model encoding"),
        }
    }
}

impl Content {
    /// Looks at a file.
    ///
    /// # Errors
    /// `NotFound` for a missing file, `RuntimeError` for one that cannot be read.
    pub fn of_file(path: &Path) -> Result<Content> {
        let mut file = File::open(path).map_err(|error| file_error("open", path, error))?;
        Content::read(&mut file).map_err(|error| file_error("read", path, error))
    }

    /// Looks at bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> Content {
        Content::read(&mut io::Cursor::new(bytes)).unwrap_or(Content::Unknown)
    }

    /// What a person can do who expected a model.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Content::TruncatedOnnx | Content::Empty | Content::Html => {
                "the download seems to have failed: get the file again"
            }
            Content::GitLfsPointer => "run `git lfs pull` in the repository that it came from",
            Content::Zip | Content::Gzip => "unpack it and give the model inside",
            Content::Wasm => {
                "a guest is the first argument of `infer run`, a model follows `--model`"
            }
            Content::Model(_) | Content::Unknown => {
                "convert the model to ONNX, or say `encoding` in a manifest beside it"
            }
        }
    }

    fn read(source: &mut (impl Read + Seek)) -> io::Result<Content> {
        let mut start = Vec::new();
        source.by_ref().take(512).read_to_end(&mut start)?;
        match Content::by_signature(&start) {
            Some(content) => Ok(content),
            None => protobuf(source),
        }
    }

    fn by_signature(start: &[u8]) -> Option<Content> {
        let text = String::from_utf8_lossy(start)
            .trim_start()
            .to_ascii_lowercase();
        Some(match start {
            [] => Content::Empty,
            [b'P', b'K', 3 | 5, ..] => Content::Zip,
            [0x1f, 0x8b, ..] => Content::Gzip,
            [0, b'a', b's', b'm', ..] => Content::Wasm,
            [b'G', b'G', b'U', b'F', ..] => Content::Model(Encoding::Ggml),
            [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Content::Model(Encoding::TensorFlowLite),
            _ if text.starts_with("version https://git-lfs") => Content::GitLfsPointer,
            _ if text.starts_with("<!doctype html") || text.starts_with("<html") => Content::Html,
            _ if text.starts_with('<') && text.contains("<net") => {
                Content::Model(Encoding::OpenVino)
            }
            _ => return None,
        })
    }
}

// The outermost fields of an ONNX ModelProto that are numbers, and those that have a length.
const ONNX_NUMBERS: [u64; 2] = [1, 5];
const ONNX_MESSAGES: [u64; 9] = [2, 3, 4, 6, 7, 8, 14, 20, 25];
const ONNX_VERSION: u64 = 1;
const ONNX_GRAPH: u64 = 7;
// More outer fields than this are not looked at.
const MOST_FIELDS: usize = 1000;

/// Walks a protobuf message's outermost fields, seeking over their contents.
fn protobuf(source: &mut (impl Read + Seek)) -> io::Result<Content> {
    let length = source.seek(SeekFrom::End(0))?;
    let mut position = source.seek(SeekFrom::Start(0))?;
    let (mut version, mut graph) = (false, false);
    for _ in 0..MOST_FIELDS {
        if position >= length {
            break;
        }
        let Some(tag) = varint(source)? else {
            return Ok(Content::Unknown);
        };
        let Some(value) = varint(source)? else {
            return Ok(Content::Unknown);
        };
        let field = tag >> 3;
        position = source.stream_position()?;
        match tag & 7 {
            0 if ONNX_NUMBERS.contains(&field) => version |= field == ONNX_VERSION && value < 1000,
            2 if ONNX_MESSAGES.contains(&field) => {
                graph |= field == ONNX_GRAPH;
                match position.checked_add(value) {
                    Some(end) if end <= length => position = source.seek(SeekFrom::Start(end))?,
                    _ if version => return Ok(Content::TruncatedOnnx),
                    _ => return Ok(Content::Unknown),
                }
            }
            _ => return Ok(Content::Unknown),
        }
    }
    Ok(match (version, graph) {
        (true, true) => Content::Model(Encoding::Onnx),
        (true, false) => Content::TruncatedOnnx,
        (false, _) => Content::Unknown,
    })
}

/// A protobuf number; `None` at the end of the file or where there is none.
fn varint(source: &mut impl Read) -> io::Result<Option<u64>> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let mut byte = [0];
        if source.read(&mut byte)? == 0 {
            return Ok(None);
        }
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn content_by_its_bytes() {
        let onnx: &[u8] = include_bytes!("../testdata/add.onnx");
        let cases: [(&[u8], Content); 14] = [
            (onnx, Content::Model(Encoding::Onnx)),
            (&onnx[..onnx.len() - 7], Content::TruncatedOnnx),
            (&onnx[..40], Content::TruncatedOnnx),
            (&onnx[..2], Content::TruncatedOnnx),
            (b"", Content::Empty),
            (b"\n <!DOCTYPE html><html>", Content::Html),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                Content::GitLfsPointer,
            ),
            (b"PK\x03\x04rest", Content::Zip),
            (b"\x1f\x8b\x08", Content::Gzip),
            (b"\0asm\x0d\0\x01\0", Content::Wasm),
            (b"GGUF\x03\0\0\0", Content::Model(Encoding::Ggml)),
            (b"\x1c\0\0\0TFL3", Content::Model(Encoding::TensorFlowLite)),
            (
                b"<?xml version=\"1.0\"?>\n<net name=\"m\">",
                Content::Model(Encoding::OpenVino),
            ),
            (b"hello world", Content::Unknown),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                Content::of_bytes(bytes),
                expected,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn hostile_lengths_are_no_model() {
        let cases: [&[u8]; 3] = [
            b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            &[0xff; 64],
        ];
        for bytes in cases {
            assert_ne!(
                Content::of_bytes(bytes),
                Content::Model(Encoding::Onnx),
                "{bytes:?}"
            );
        }
    }
}
