//! An engine without some of its plugins and frontends says which are missing. A process has one engine, so this is a
//! test program of its own.

mod common;

use std::path::Path;

use infer_core::{Backend, Candidate, Encoding, ErrorKind, Source};
use infer_openvino::OpenVino;

const MISSING: [&str; 2] = [
    "libopenvino_intel_npu_plugin.so",
    "libopenvino_onnx_frontend.so",
];

/// The engine's folder but for what is to be missing.
fn copy(from: &Path, to: &Path) {
    for entry in from.read_dir().expect("the engine's folder") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a file").to_string_lossy();
        if !MISSING.iter().any(|part| name.starts_with(part)) {
            std::fs::copy(&path, to.join(&*name)).expect("a copy");
        }
    }
}

#[test]
fn parts_that_are_missing_are_named() {
    if common::engine("parts_that_are_missing_are_named").is_none() {
        return;
    }
    let place = common::candidate().path.canonicalize().expect("a library");
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(place.parent().expect("a folder"), folder.path());
    let engine = OpenVino::new(vec![Candidate {
        path: folder.path().join("libopenvino_c.so"),
        origin: "test".to_owned(),
        exclusive: true,
    }]);
    let problems = engine.probe().expect("the engine starts").problems;
    for part in MISSING {
        let names_it = |problem: &&String| {
            problem.contains(part) && problem.contains("`infer engines install openvino`")
        };
        let found = problems.iter().filter(names_it).count();
        assert_eq!(found, 1, "{part}: {problems:?}");
    }
    let model = |file: &str| common::testdata("network").with_file_name(file);
    let load = |encoding, file| {
        let source = Source::Files(vec![model(file)]);
        common::load(&engine, &common::request(encoding, source))
    };
    let error = load(Encoding::Onnx, "network.onnx")
        .err()
        .expect("its frontend is missing");
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.report().contains(MISSING[1]), "{}", error.report());
    assert_eq!(error.hint(), Some("run `infer engines install openvino`"));
    if let Err(error) = load(Encoding::OpenVino, "network.xml") {
        panic!("another encoding: {}", error.report());
    }
}
