//! What a model's files say of themselves, whatever their encoding: facts to print, without an engine.
//!
//! Costs little for a model of any size but a TensorFlow graph of very many nodes, of which no more than
//! [`MOST_FIELDS`] are counted.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use infer_core::{Encoding, Error, ErrorKind, Result};

use crate::protobuf::{Reader, Span, Step, Value};
use crate::{Model, OnnxHead, file_error, flatbuffer, open_file, xml};

const MOST_FIELDS: usize = 1_000_000;
const MOST_SIGNATURES: usize = 64;
const SAVED_MODEL: &str = "saved_model.pb";

/// What a model's files say of themselves: labels and values in the order to print them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// A label of one or two words in lower case, and its value. A value comes from the file as it is:
    /// any text.
    pub facts: Vec<(&'static str, String)>,
}

impl Head {
    /// Reads what the model's files say.
    ///
    /// ONNX gives `ir version`, `written by` and `opset`; OpenVINO IR `ir version`, `network` and
    /// `layers`; TensorFlow Lite `schema version`, `about`, `subgraphs` and `operators`; a frozen graph
    /// `producer version` and `nodes`; a SavedModel `written by`, `tags`, `signatures` and `nodes`. A fact
    /// that a file leaves out is left out.
    ///
    /// # Errors
    /// `NotFound` for a missing file, `InvalidEncoding` for one that is not what its encoding says.
    pub fn read(model: &Model) -> Result<Head> {
        let path = &model.files[0];
        let facts = match model.encoding {
            Encoding::Onnx => Some(onnx(OnnxHead::read(path)?)),
            Encoding::OpenVino => Some(openvino(path)?),
            Encoding::TensorFlowLite => flatbuffer::lite_head(open_file(path)?).map(lite),
            Encoding::TensorFlow if path.is_dir() => {
                saved_model(&mut open(&path.join(SAVED_MODEL))?)
            }
            Encoding::TensorFlow => {
                let mut reader = open(path)?;
                let whole = reader.whole();
                graph(&mut reader, whole)
            }
            Encoding::PyTorch | Encoding::Ggml => Some(Vec::new()),
        };
        let facts = facts.ok_or_else(|| {
            let message = format!("`{}` is no {} model", path.display(), model.encoding);
            Error::new(ErrorKind::InvalidEncoding, message)
        })?;
        Ok(Head {
            facts: facts
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        })
    }
}

type Facts = Vec<(&'static str, String)>;

fn open(path: &Path) -> Result<Reader<File>> {
    Reader::new(open_file(path)?).map_err(|error| file_error("read", path, error))
}

fn onnx(head: OnnxHead) -> Facts {
    let opset = |(domain, version): (String, u64)| match domain.as_str() {
        "" => format!("ai.onnx {version}"),
        domain => format!("{domain} {version}"),
    };
    let opsets: Vec<String> = head.opsets.into_iter().map(opset).collect();
    vec![
        ("ir version", head.ir_version.to_string()),
        ("written by", head.producer),
        ("opset", opsets.join(", ")),
    ]
}

fn openvino(path: &Path) -> Result<Facts> {
    let head = xml::ir_head(open_file(path)?).map_err(|error| file_error("read", path, error))?;
    Ok(vec![
        ("ir version", head.version),
        ("network", head.name),
        ("layers", head.layers.to_string()),
    ])
}

fn lite(head: flatbuffer::LiteHead) -> Facts {
    vec![
        ("schema version", head.version.to_string()),
        ("about", head.description),
        ("subgraphs", head.subgraphs.to_string()),
        ("operators", head.operators.to_string()),
    ]
}

/// The facts of a GraphDef: its nodes are field 1, its versions 4, whose field 1 is the producer.
fn graph(reader: &mut Reader<impl Read + Seek>, mut left: Span) -> Option<Facts> {
    let (mut nodes, mut producer) = (0u64, String::new());
    for _ in 0..MOST_FIELDS {
        let field = match reader.next(&mut left) {
            Step::Field(field) => field,
            Step::End => break,
            Step::CutShort(_) | Step::Fault => return None,
        };
        match (field.number, field.value) {
            (1, Value::Bytes(_)) => nodes += 1,
            (4, Value::Bytes(versions)) => {
                for field in reader.fields(versions, 8) {
                    if let (1, Value::Number(version)) = (field.number, field.value) {
                        producer = version.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    Some(vec![
        ("producer version", producer),
        ("nodes", nodes.to_string()),
    ])
}

/// The facts of a SavedModel's first graph: description (field 1), graph (2) and signatures (5).
fn saved_model(reader: &mut Reader<impl Read + Seek>) -> Option<Facts> {
    let whole = reader.whole();
    let first = reader.fields(whole, 16).into_iter().find_map(|field| {
        match (field.number, field.value) {
            (2, Value::Bytes(graph)) => Some(graph),
            _ => None,
        }
    })?;
    let (mut written, mut tags, mut signatures, mut nodes) =
        (String::new(), Vec::new(), Vec::new(), Facts::new());
    for field in reader.fields(first, 4096) {
        match (field.number, field.value) {
            (1, Value::Bytes(description)) => {
                tags = texts(reader, description, 4);
                written = texts(reader, description, 5).join(", ");
            }
            (2, Value::Bytes(span)) => nodes = graph(reader, span)?,
            // An entry of a map: its key is field 1.
            (5, Value::Bytes(entry)) if signatures.len() < MOST_SIGNATURES => {
                signatures.extend(texts(reader, entry, 1));
            }
            _ => {}
        }
    }
    // TensorFlow adds one for its own use.
    signatures.retain(|name| !name.starts_with("__saved_model"));
    let mut facts = vec![
        ("written by", tensorflow_version(written)),
        ("tags", tags.join(", ")),
        ("signatures", signatures.join(", ")),
    ];
    facts.extend(nodes);
    Some(facts)
}

fn tensorflow_version(version: String) -> String {
    match version.as_str() {
        "" => version,
        version => format!("TensorFlow {version}"),
    }
}

/// The texts in a message's fields of this number.
fn texts(reader: &mut Reader<impl Read + Seek>, message: Span, number: u64) -> Vec<String> {
    let fields = reader.fields(message, 64);
    let spans = fields.into_iter().filter_map(|field| match field.value {
        Value::Bytes(span) if field.number == number => Some(span),
        _ => None,
    });
    spans.filter_map(|span| reader.text(span)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{ModelRef, ModelStore};

    fn head(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(path);
        let reference: ModelRef = path.to_str().unwrap().parse().unwrap();
        let model = reference.open(&ModelStore::at("/nonexistent")).unwrap();
        let head = Head::read(&model).unwrap();
        let facts = head
            .facts
            .iter()
            .map(|(label, value)| format!("{label}: {value}"));
        facts.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_encoding_has_a_head() {
        let cases = [
            (
                "network.onnx",
                "ir version: 8; written by: infer; opset: ai.onnx 13",
            ),
            ("network.xml", "ir version: 11; network: network; layers: "),
            (
                "network.tflite",
                "schema version: 3; about: network; subgraphs: 1; operators: 4",
            ),
            ("network.pb", "producer version: 134; nodes: "),
            (
                "network-saved-model",
                "written by: TensorFlow 2.0.0; tags: serve; signatures: serving_default; producer version: 134; nodes: ",
            ),
        ];
        for (path, expected) in cases {
            let head = head(path);
            assert!(head.starts_with(expected), "{path}: {head}");
        }
    }

    #[test]
    fn hostile_bytes_give_facts_or_none() {
        let bytes = include_bytes!("../testdata/network-saved-model/saved_model.pb");
        let of = |bytes: &[u8]| saved_model(&mut Reader::new(std::io::Cursor::new(bytes)).unwrap());
        assert!(of(bytes).is_some_and(|facts| facts.len() == 5));
        for at in 0..bytes.len() {
            of(&bytes[..at]);
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut broken = bytes.to_vec();
                broken[at] = value;
                of(&broken);
            }
        }
        assert_eq!(of(b""), None);
    }
}
