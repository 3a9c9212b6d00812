//! What an engine is found to leave behind.

mod common;

use std::path::Path;

use infer_core::testing::engine_library;

/// Every file and folder below.
fn all(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        found.push(path.display().to_string());
        if path.is_dir() {
            all(&path, found);
        }
    }
}

#[test]
fn onnx_runtime_leaves_no_number_of_this_machine() {
    let Some(library) = engine_library("onnxruntime", "ORT_DYLIB_PATH", "libonnxruntime.so") else {
        return;
    };
    let home = tempfile::tempdir().expect("a folder");
    let output = common::shell("infer devices", home.path())
        .env("HOME", home.path())
        .env("XDG_CACHE_HOME", home.path().join("cache"))
        .env("ORT_DYLIB_PATH", &library.path)
        .env_remove("ORT_DISABLE_TELEMETRY")
        .output()
        .expect("runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("CPUExecutionProvider"), "{shown}");
    let mut found = Vec::new();
    all(home.path(), &mut found);
    let left: Vec<&String> = found
        .iter()
        .filter(|path| path.contains("Microsoft") || path.contains("onnxruntime"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
