//! What a file is, by its content: a model of some encoding, or something that came in its place.
//!
//! Only the outermost structure is looked at, a few bytes of it: whether a model is valid is for the
//! engine to say. Steps: the first bytes; the directory of a zip archive; the outer fields of a protobuf
//! message, which tell ONNX, TensorFlow and Core ML apart. Never reads more than some hundred kilobytes,
//! whatever the file's size.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use infer_core::{Encoding, Result};

use crate::protobuf::{Field, Reader, Span, Step, Value};
use crate::{archive, file_error, open_file};

/// What the bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A model of this encoding; with TensorFlow's, a frozen graph.
    Model(Encoding),
    /// The `saved_model.pb` of a TensorFlow SavedModel, which is a folder.
    SavedModel,
    /// An ONNX model whose outer structure ends after the end of the file.
    TruncatedOnnx,
    /// A TensorFlow graph or SavedModel whose outer structure ends after the end of the file.
    TruncatedTensorFlow,
    /// A PyTorch checkpoint: tensors without the network.
    TorchCheckpoint,
    /// Python objects as `pickle` writes them: an old PyTorch checkpoint, say.
    Pickle,
    /// Tensors without the network, as safetensors.
    Safetensors,
    /// A Keras model.
    Keras,
    /// An HDF5 file: an old Keras model, say.
    Hdf5,
    /// A Core ML model.
    CoreMl,
    /// No bytes at all.
    Empty,
    /// A web page.
    Html,
    /// A Git LFS pointer, which stands for a file that was not fetched.
    GitLfsPointer,
    /// A zip archive that is no model: a wheel, say.
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
        f.write_str(match self {
            Content::Model(Encoding::PyTorch) => "a TorchScript model",
            Content::Model(Encoding::Ggml) => "a GGUF or GGML model",
            Content::Model(encoding) => encoding.name(),
            Content::SavedModel => "the saved_model.pb of a TensorFlow SavedModel",
            Content::TruncatedOnnx => "the beginning of an ONNX model, cut short",
            Content::TruncatedTensorFlow => "the beginning of a TensorFlow model, cut short",
            Content::TorchCheckpoint => "a PyTorch checkpoint",
            Content::Pickle => "Python objects (a pickle), a PyTorch checkpoint perhaps",
            Content::Safetensors => "tensors without a network (safetensors)",
            Content::Keras => "a Keras model",
            Content::Hdf5 => "an HDF5 file, a Keras model perhaps",
            Content::CoreMl => "a Core ML model",
            Content::Empty => "an empty file",
            Content::Html => "a web page (HTML)",
            Content::GitLfsPointer => "a Git LFS pointer",
            Content::Zip => "a zip archive",
            Content::Gzip => "a gzip file",
            Content::Wasm => "a WebAssembly guest",
            Content::Unknown => "bytes of no known model encoding",
        })
    }
}

impl Content {
    /// Looks at a file.
    ///
    /// # Errors
    /// `NotFound` for a missing file, `InvalidArgument` for a pipe or a device, `RuntimeError` for a file
    /// that cannot be read.
    pub fn of_file(path: &Path) -> Result<Content> {
        let mut file = open_file(path)?;
        Content::read(&mut file).map_err(|error| file_error("read", path, error))
    }

    /// Looks at bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> Content {
        Content::read(&mut io::Cursor::new(bytes)).unwrap_or(Content::Unknown)
    }

    /// What a person can do who expected a model that runs.
    pub fn hint(self) -> &'static str {
        match self {
            Content::TruncatedOnnx
            | Content::TruncatedTensorFlow
            | Content::Empty
            | Content::Html => "the download seems to have failed: get the file again",
            Content::GitLfsPointer => "run `git lfs pull` in the repository that it came from",
            Content::SavedModel => {
                "give the folder that it lies in: the weights are in files beside it"
            }
            Content::Zip | Content::Gzip => "unpack it and give the model inside",
            Content::Wasm => {
                "a guest is the first argument of `infer run`, a model follows `--model`"
            }
            Content::Model(Encoding::PyTorch | Encoding::Ggml)
            | Content::TorchCheckpoint
            | Content::Pickle
            | Content::Safetensors
            | Content::Keras
            | Content::Hdf5
            | Content::CoreMl => {
                "infer runs ONNX, OpenVINO IR, TensorFlow (frozen graph or SavedModel) and TensorFlow Lite: \
                 export the model to ONNX"
            }
            Content::Model(_) | Content::Unknown => {
                "convert the model to ONNX, or say `encoding` in a manifest beside it"
            }
        }
    }

    fn read(source: &mut (impl Read + Seek)) -> io::Result<Content> {
        let mut start = Vec::new();
        source.by_ref().take(1024).read_to_end(&mut start)?;
        match by_signature(&start) {
            Some(Content::Zip) => archive::content(source),
            Some(content) => Ok(content),
            None if is_safetensors(&start, source.seek(SeekFrom::End(0))?) => {
                Ok(Content::Safetensors)
            }
            None => protobuf(source),
        }
    }
}

fn by_signature(start: &[u8]) -> Option<Content> {
    let text = String::from_utf8_lossy(start);
    let text = text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    Some(match start {
        [] => Content::Empty,
        [b'P', b'K', 3 | 5, ..] => Content::Zip,
        [0x1f, 0x8b, ..] => Content::Gzip,
        [0, b'a', b's', b'm', ..] => Content::Wasm,
        [b'G', b'G', b'U', b'F', ..] => Content::Model(Encoding::Ggml),
        // GGML's older magic numbers: ggml, ggmf, ggjt and ggla, little-endian.
        [b'l' | b'f', b'm', b'g', b'g', ..] => Content::Model(Encoding::Ggml),
        [b't', b'j', b'g', b'g', ..] | [b'a', b'l', b'g', b'g', ..] => {
            Content::Model(Encoding::Ggml)
        }
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Content::Model(Encoding::TensorFlowLite),
        [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => Content::Hdf5,
        // The second byte is the version of pickle's protocol, then comes an opcode that pickles start with.
        [0x80, 2..=5, b'}' | b']' | b'(' | b'c' | 0x8a | 0x95, ..] => Content::Pickle,
        _ if text.starts_with("version https://git-lfs") => Content::GitLfsPointer,
        _ if text.starts_with("<!doctype html") || text.starts_with("<html") => Content::Html,
        _ if text.starts_with('<') && (text.contains("<net ") || text.contains("<net>")) => {
            Content::Model(Encoding::OpenVino)
        }
        _ => return None,
    })
}

/// Whether the file starts with the length of a JSON header, and the header with a brace.
fn is_safetensors(start: &[u8], length: u64) -> bool {
    let Some((head, [b'{', ..])) = start.split_at_checked(8) else {
        return false;
    };
    let header = head
        .iter()
        .rev()
        .fold(0, |n, byte| n << 8 | u64::from(*byte));
    header >= 2 && header.checked_add(8).is_some_and(|end| end <= length)
}

// The outermost fields of an ONNX ModelProto that are numbers, and those that have a length.
const ONNX_NUMBERS: [u64; 2] = [1, 5];
const ONNX_MESSAGES: [u64; 10] = [2, 3, 4, 6, 7, 8, 14, 20, 25, 26];
const ONNX_GRAPH: u64 = 7;
const LATEST_ONNX_VERSION: u64 = 999;
// Those of a TensorFlow GraphDef, whose first message is a node, function library or version.
const GRAPH_NUMBERS: [u64; 1] = [3];
const GRAPH_MESSAGES: [u64; 4] = [1, 2, 4, 5];
// Those of a SavedModel: its version, 1 so far, and its graphs.
const SAVED_MODEL_VERSION: Value = Value::Number(1);
const SAVED_MODEL_GRAPH: u64 = 2;
// A Core ML model's version and description; from 200 on, the network of some kind.
const CORE_ML_NETWORKS: std::ops::Range<u64> = 200..4000;
// More fields than this are not looked at.
const MOST_FIELDS: usize = 1000;

/// The outermost fields of a message, as far as they were looked at.
struct Outline {
    fields: Vec<Field>,
    last: Step,
}

/// Tells protobuf messages apart by their outermost fields, seeking over their contents.
fn protobuf(source: &mut (impl Read + Seek)) -> io::Result<Content> {
    let mut reader = Reader::new(source)?;
    let mut left = reader.whole();
    let (mut fields, mut last) = (Vec::new(), Step::End);
    while fields.len() < MOST_FIELDS {
        last = reader.next(&mut left);
        match last {
            Step::Field(field) => fields.push(field),
            _ => break,
        }
    }
    let outline = Outline { fields, last };
    Ok(outline
        .saved_model(&mut reader)
        .or_else(|| outline.core_ml())
        .or_else(|| outline.onnx())
        .or_else(|| outline.tensorflow(&mut reader))
        .unwrap_or(Content::Unknown))
}

impl Outline {
    fn cut_short(&self) -> bool {
        matches!(self.last, Step::CutShort(_))
    }

    fn has(&self, number: u64) -> bool {
        self.fields.iter().any(|field| field.number == number)
    }

    /// Whether every field, one that is cut short too, is among these.
    fn only(&self, numbers: &[u64], messages: &[u64]) -> bool {
        let last = match self.last {
            Step::CutShort(number) => messages.contains(&number),
            Step::Field(_) | Step::End => true,
            Step::Fault => false,
        };
        last && self.fields.iter().all(|field| match field.value {
            Value::Number(_) => numbers.contains(&field.number),
            Value::Bytes(_) => messages.contains(&field.number),
            Value::Fixed => false,
        })
    }

    fn onnx(&self) -> Option<Content> {
        let version = self.fields.iter().any(|field| {
            matches!(field, Field { number: 1, value: Value::Number(version) } if *version <= LATEST_ONNX_VERSION)
        });
        if !version {
            return None;
        }
        let whole = self.has(ONNX_GRAPH) && !self.cut_short();
        self.only(&ONNX_NUMBERS, &ONNX_MESSAGES)
            .then_some(match whole {
                true => Content::Model(Encoding::Onnx),
                false => Content::TruncatedOnnx,
            })
    }

    fn core_ml(&self) -> Option<Content> {
        let network = self.fields.iter().any(|field| {
            CORE_ML_NETWORKS.contains(&field.number) && matches!(field.value, Value::Bytes(_))
        });
        let version = self
            .fields
            .first()
            .is_some_and(|field| field.number == 1 && matches!(field.value, Value::Number(_)));
        (network && version && !matches!(self.last, Step::Fault)).then_some(Content::CoreMl)
    }

    fn saved_model(&self, reader: &mut Reader<impl Read + Seek>) -> Option<Content> {
        let first = self.fields.first()?;
        let version = first.number == 1 && first.value == SAVED_MODEL_VERSION;
        if !version || !self.only(&[1], &[SAVED_MODEL_GRAPH]) {
            return None;
        }
        match self.fields.get(1)?.value {
            // Its first fields are messages, where ONNX would have the producer's name.
            Value::Bytes(graph) => {
                let parts = reader.fields(graph, 8);
                let is_graph = parts.len() > 1 && parts.iter().all(is_meta_graph_part);
                is_graph.then_some(match self.cut_short() {
                    true => Content::TruncatedTensorFlow,
                    false => Content::SavedModel,
                })
            }
            _ => None,
        }
    }

    fn tensorflow(&self, reader: &mut Reader<impl Read + Seek>) -> Option<Content> {
        if !self.only(&GRAPH_NUMBERS, &GRAPH_MESSAGES) {
            return None;
        }
        let node = self.fields.iter().find_map(|field| match field {
            Field {
                number: 1,
                value: Value::Bytes(node),
            } => Some(*node),
            _ => None,
        })?;
        is_node(reader, node).then_some(match self.cut_short() {
            true => Content::TruncatedTensorFlow,
            false => Content::Model(Encoding::TensorFlow),
        })
    }
}

/// A MetaGraphDef has its description, graph, saver, collections, signatures, assets and objects.
fn is_meta_graph_part(field: &Field) -> bool {
    (1..=7).contains(&field.number) && matches!(field.value, Value::Bytes(_))
}

/// Whether this is a TensorFlow NodeDef: a name, then an operator.
fn is_node(reader: &mut Reader<impl Read + Seek>, node: Span) -> bool {
    let fields = reader.fields(node, 2);
    let [
        Field {
            number: 1,
            value: Value::Bytes(name),
        },
        Field {
            number: 2,
            value: Value::Bytes(operator),
        },
    ] = fields[..]
    else {
        return false;
    };
    let letters = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./>-:".contains(byte);
    let mut is_word = |span| {
        let text = reader.bytes(span);
        text.is_some_and(|text| !text.is_empty() && text.iter().all(letters))
    };
    is_word(name) && is_word(operator)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::archive::tests::zip;

    const ONNX: &[u8] = include_bytes!("../testdata/add.onnx");
    const GRAPH: &[u8] = include_bytes!("../testdata/network.pb");
    const SAVED_MODEL: &[u8] = include_bytes!("../testdata/network-saved-model/saved_model.pb");
    const LITE: &[u8] = include_bytes!("../testdata/network.tflite");
    const IR: &[u8] = include_bytes!("../testdata/network.xml");

    #[test]
    fn content_by_its_bytes() {
        let script = zip(&["m/data.pkl", "m/constants.pkl"]);
        let cases: [(&[u8], Content); 38] = [
            (ONNX, Content::Model(Encoding::Onnx)),
            (&ONNX[..ONNX.len() - 7], Content::TruncatedOnnx),
            (&ONNX[..40], Content::TruncatedOnnx),
            (&ONNX[..2], Content::TruncatedOnnx),
            (GRAPH, Content::Model(Encoding::TensorFlow)),
            (&GRAPH[..GRAPH.len() / 2], Content::TruncatedTensorFlow),
            (SAVED_MODEL, Content::SavedModel),
            (LITE, Content::Model(Encoding::TensorFlowLite)),
            (IR, Content::Model(Encoding::OpenVino)),
            (&script, Content::Model(Encoding::PyTorch)),
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
            (b"lmgg\x01\0\0\0", Content::Model(Encoding::Ggml)),
            (b"tjgg\x03\0\0\0", Content::Model(Encoding::Ggml)),
            (b"\x1c\0\0\0TFL3", Content::Model(Encoding::TensorFlowLite)),
            (
                b"<?xml version=\"1.0\"?>\n<net name=\"m\">",
                Content::Model(Encoding::OpenVino),
            ),
            (
                b"\xef\xbb\xbf<?xml version=\"1.0\"?><net name=\"m\">",
                Content::Model(Encoding::OpenVino),
            ),
            (b"<?xml version=\"1.0\"?><network/>", Content::Unknown),
            (
                b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
                Content::Pickle,
            ),
            (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}", Content::Pickle),
            (b"\x02\0\0\0\0\0\0\0{}", Content::Safetensors),
            (b"\x09\0\0\0\0\0\0\0{}", Content::Unknown),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff{}", Content::Unknown),
            (b"\x89HDF\r\n\x1a\n", Content::Hdf5),
            (
                b"\x08\x04\x12\x02\x0a\x00\xa2\x1f\x02\x0a\0",
                Content::CoreMl,
            ),
            (b"\x08\x01\x12\x04\x0a\0\x12\0", Content::SavedModel),
            // An ONNX model of the first version: only its producer so far.
            (b"\x08\x01\x12\x04test", Content::TruncatedOnnx),
            (
                b"\x0a\x06\x0a\x01x\x12\x01A",
                Content::Model(Encoding::TensorFlow),
            ),
            (b"\x0a\x05\x0a\x01x\x12\0", Content::Unknown),
            (b"\x0a\x06\x0a\x01x\x1a\x01A", Content::Unknown),
            (b"\x0a\x05hello", Content::Unknown),
            (b"hello world", Content::Unknown),
            (b"{\"a\": 1}", Content::Unknown),
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

    #[test]
    fn any_bytes_are_looked_at_without_a_panic() {
        for whole in [ONNX, GRAPH, SAVED_MODEL, LITE, IR] {
            for at in 0..whole.len().min(400) {
                Content::of_bytes(&whole[..at]);
                let mut broken = whole.to_vec();
                broken[at] = broken[at].wrapping_add(0x7f);
                Content::of_bytes(&broken);
            }
        }
    }

    #[test]
    fn each_content_that_cannot_run_has_a_remedy() {
        for content in [
            Content::Model(Encoding::PyTorch),
            Content::Model(Encoding::Ggml),
            Content::TorchCheckpoint,
            Content::Pickle,
            Content::Safetensors,
            Content::Keras,
            Content::Hdf5,
            Content::CoreMl,
        ] {
            assert!(
                content.hint().contains("export the model to ONNX"),
                "{content}"
            );
        }
        assert!(Content::SavedModel.hint().contains("give the folder"));
    }
}
