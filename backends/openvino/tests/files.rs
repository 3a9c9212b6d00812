//! Weights beside an ONNX model: those in its folder are read, others are not reached.

mod common;

use std::path::Path;

use common::onnx::{FLOAT, Model};
use infer_core::{Encoding, ErrorKind, Result, Source};
use infer_openvino::OpenVino;

/// `y` = `x` + the two numbers in a file.
fn model(location: &str) -> Vec<u8> {
    Model::new(13)
        .input("x", FLOAT, &[2])
        .output("y", FLOAT, &[2])
        .external("w", &[2], location)
        .node("Add", [&["x", "w"], &["y"]], &[])
        .bytes()
}

fn run(engine: &OpenVino, path: &Path) -> Result<Vec<f32>> {
    let source = Source::Files(vec![path.to_owned()]);
    let graph = common::load(engine, &common::request(Encoding::Onnx, source))?;
    let mut session = graph.session()?;
    let outputs = common::run(session.as_mut(), vec![common::floats(&[2], &[1.0, 2.0])])?;
    Ok(common::read_floats(&outputs[0]))
}

#[test]
fn a_model_reaches_its_own_folder_only() {
    let Some(engine) = common::engine("a_model_reaches_its_own_folder_only") else {
        return;
    };
    let outer = tempfile::tempdir().expect("a temporary folder");
    let folder = outer.path().join("model");
    std::fs::create_dir_all(folder.join("inner")).expect("folders");
    let weights: Vec<u8> = [10f32, 20.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    for place in [
        "model/weights.bin",
        "model/inner/weights.bin",
        "outside.bin",
    ] {
        std::fs::write(outer.path().join(place), &weights).expect("a file");
    }
    std::os::unix::fs::symlink(outer.path().join("outside.bin"), folder.join("link.bin"))
        .expect("a link");
    let absolute = outer.path().join("outside.bin");
    let path = folder.join("model.onnx");
    for inside in ["weights.bin", "inner/weights.bin", "./weights.bin"] {
        std::fs::write(&path, model(inside)).expect("a model");
        let got = run(&engine, &path).unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(got, [11.0, 22.0], "{inside}");
    }
    let outside = [
        ("../outside.bin", ErrorKind::Security),
        (absolute.to_str().expect("a path"), ErrorKind::Security),
        ("link.bin", ErrorKind::Security),
        ("inner/../../outside.bin", ErrorKind::Security),
        ("*/_ORT_MEM_ADDR_/*", ErrorKind::Security),
        ("", ErrorKind::Security),
        ("missing.bin", ErrorKind::NotFound),
    ];
    for (location, kind) in outside {
        std::fs::write(&path, model(location)).expect("a model");
        let error = run(&engine, &path).expect_err(location);
        assert_eq!(error.kind(), kind, "`{location}`: {}", error.report());
    }
    let source = Source::Memory(vec![model("weights.bin").into()]);
    let error = common::load(&engine, &common::request(Encoding::Onnx, source)).err();
    assert_eq!(
        error.expect("bytes name a file").kind(),
        ErrorKind::Security
    );
}
