//! The committed test models are what `testdata/make.py` writes, byte for byte, under this Python.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

fn models(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let models = entries.filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "onnx")
    });
    models
        .map(|path| {
            (
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect()
}

#[test]
fn regenerating_gives_the_same_bytes() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let made = tempfile::tempdir().unwrap();
    let status = Command::new("python3")
        .args(["-I", "-B"])
        .arg(testdata.join("make.py"))
        .arg(made.path())
        .status();
    assert!(status.unwrap().success());
    let (committed, made) = (models(&testdata), models(made.path()));
    let names = |models: &BTreeMap<String, Vec<u8>>| models.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&made));
    for (name, bytes) in &committed {
        assert_eq!(*bytes, made[name], "{name}: run models/testdata/make.py");
    }
}

#[test]
fn all_test_models_are_seen_as_onnx() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let all = models(&testdata);
    assert!(all.len() >= 18, "{}", all.len());
    for (name, bytes) in all {
        let content = infer_models::Content::of_bytes(&bytes);
        assert_eq!(
            content,
            infer_models::Content::Model(infer_core::Encoding::Onnx),
            "{name}"
        );
    }
}
