//! TensorFlow's frozen graphs and SavedModels, and what is no model of TensorFlow Lite.

mod common;

use std::path::Path;

use common::onnx::{message, number, text};
use infer_core::{Encoding, ErrorKind, Source};

/// A node with attributes of key and encoded value.
fn node(name: &str, operator: &str, inputs: &[&str], attributes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut node = [text(1, name), text(2, operator)].concat();
    node.extend(inputs.iter().flat_map(|input| text(3, input)));
    for (key, value) in attributes {
        node.extend(message(5, &[text(1, key), message(2, value)].concat()));
    }
    node
}

/// `y` = `x` + `x`, of two numbers.
fn graph(operator: &str) -> Vec<u8> {
    let float = number(6, 1);
    let shape = message(7, &message(2, &number(1, 2)));
    let x = [("dtype", float.clone()), ("shape", shape)];
    [
        message(1, &node("x", "Placeholder", &[], &x)),
        message(1, &node("y", operator, &["x", "x"], &[("T", float)])),
    ]
    .concat()
}

fn saved_model() -> Vec<u8> {
    let info = |name: &str| {
        let shape = message(3, &message(2, &number(1, 2)));
        [text(1, name), number(2, 1), shape].concat()
    };
    let end = |field, key: &str, name: &str| {
        let entry = [text(1, key), message(2, &info(name))].concat();
        message(field, &entry)
    };
    let signature = [
        end(1, "given", "x:0"),
        end(2, "doubled", "y:0"),
        text(3, "tensorflow/serving/predict"),
    ]
    .concat();
    let entry = [text(1, "serving_default"), message(2, &signature)].concat();
    let meta_graph = [
        message(1, &text(4, "serve")),
        message(2, &graph("AddV2")),
        message(5, &entry),
    ]
    .concat();
    [number(1, 1), message(2, &meta_graph)].concat()
}

fn files(path: &Path) -> Source {
    Source::Files(vec![path.to_owned()])
}

#[test]
fn frozen_graphs_and_saved_models_run() {
    let Some(engine) = common::engine("frozen_graphs_and_saved_models_run") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("saved")).expect("a folder");
    for (name, bytes) in [
        ("frozen.pb", graph("AddV2")),
        ("other-name", graph("AddV2")),
        ("saved/saved_model.pb", saved_model()),
    ] {
        std::fs::write(at(name), bytes).expect("a file");
    }
    let cases = [
        (Source::Memory(vec![graph("AddV2").into()]), "x"),
        (files(&at("frozen.pb")), "x"),
        (files(&at("other-name")), "x"),
        (files(&at("saved")), "given"),
        (files(&at("saved/saved_model.pb")), "given"),
    ];
    for (source, name) in cases {
        let what = format!("{source:?}");
        let graph = common::load(&engine, &common::request(Encoding::TensorFlow, source));
        let graph = graph.unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        let input = &graph.signature().inputs[0];
        assert!(input.name.starts_with(name), "{what}: `{}`", input.name);
        let mut session = graph.session().expect("a session");
        let outputs = common::run(session.as_mut(), vec![common::floats(&[2], &[1.0, 2.5])]);
        assert_eq!(common::read_floats(&outputs.expect(&what)[0]), [2.0, 5.0]);
    }
}

#[test]
fn what_is_no_model_is_told() {
    let Some(engine) = common::engine("what_is_no_model_is_told") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let memory = |bytes: &[u8]| Source::Memory(vec![bytes.to_vec().into()]);
    let unknown = graph("Frobnicate");
    let cases = [
        (
            Encoding::TensorFlow,
            memory(b"text"),
            ErrorKind::InvalidEncoding,
        ),
        (
            Encoding::TensorFlow,
            memory(b""),
            ErrorKind::InvalidEncoding,
        ),
        (
            Encoding::TensorFlow,
            files(folder.path()),
            ErrorKind::InvalidEncoding,
        ),
        (
            Encoding::TensorFlow,
            memory(&unknown),
            ErrorKind::UnsupportedOperation,
        ),
        (
            Encoding::TensorFlow,
            memory(&saved_model()),
            ErrorKind::UnsupportedOperation,
        ),
        (
            Encoding::TensorFlow,
            files(Path::new("missing.pb")),
            ErrorKind::NotFound,
        ),
        (
            Encoding::TensorFlowLite,
            memory(b"text"),
            ErrorKind::InvalidEncoding,
        ),
        (
            Encoding::TensorFlowLite,
            memory(&unknown),
            ErrorKind::InvalidEncoding,
        ),
        (
            Encoding::TensorFlowLite,
            files(Path::new("missing.tflite")),
            ErrorKind::NotFound,
        ),
        (Encoding::Ggml, memory(b"GGUF"), ErrorKind::InvalidEncoding),
    ];
    for (encoding, source, kind) in cases {
        let what = format!("{encoding}: {source:?}");
        let error = common::load(&engine, &common::request(encoding, source)).err();
        let error = error.expect(&what);
        assert_eq!(error.kind(), kind, "{what}: {}", error.report());
        let named = ["Frobnicate", "a TensorFlow SavedModel is a folder"];
        if kind == ErrorKind::UnsupportedOperation {
            let report = error.report();
            assert!(named.iter().any(|name| report.contains(name)), "{report}");
        }
    }
}
