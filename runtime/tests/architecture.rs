//! The directions in which the crates depend on one another, and where `unsafe` may stand.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate and the normal dependencies that it may have in common with what is listed below.
const ALLOWED: &[(&str, &[&str])] = &[
    ("infer-core", &[]),
    ("infer-tract", &["infer-core"]),
    ("infer-onnx", &["infer-core"]),
    ("infer-onnxruntime", &["infer-core", "infer-onnx"]),
    ("infer-openvino", &["infer-core", "infer-onnx"]),
    ("infer-models", &["infer-core"]),
    ("infer-engines", &["infer-core", "infer-models"]),
    (
        "infer",
        &[
            "infer-core",
            "infer-engines",
            "infer-models",
            "infer-onnxruntime",
            "infer-openvino",
            "infer-tract",
            "wasmtime",
            "wasmtime-wasi",
            "tokio",
            "clap",
        ],
    ),
];

/// What only some crates may know.
const WATCHED: &[&str] = &[
    "infer",
    "infer-core",
    "infer-engines",
    "infer-models",
    "infer-onnx",
    "infer-onnxruntime",
    "infer-openvino",
    "infer-tract",
    "infer-benches",
    "wasmtime",
    "wasmtime-wasi",
    "wasmtime-wasi-nn",
    "tokio",
    "clap",
];

/// Folders and files in which `unsafe` may stand: backends, the file that catches what an engine may not divide, those that map compiled guests and
/// advise on memory, and the one that sets the allocator.
const UNSAFE: &[&str] = &[
    "backends/core/src/division.rs",
    "backends/onnx/src/files.rs",
    "backends/onnxruntime/src",
    "backends/openvino/src",
    "backends/tract/src",
    "runtime/src/bin/infer/memory.rs",
    "runtime/src/compiled.rs",
    "runtime/src/pages.rs",
];

#[test]
fn dependencies_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(common::root())
        .output()
        .expect("cargo");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (name, allowed) in ALLOWED {
        let package = metadata["packages"]
            .as_array()
            .expect("packages")
            .iter()
            .find(|package| package["name"] == *name)
            .unwrap_or_else(|| panic!("there is a crate `{name}`"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let dependency_name = dependency["name"].as_str().expect("a name");
            let normal = dependency["kind"].is_null();
            let known = !normal
                || !WATCHED.contains(&dependency_name)
                || allowed.contains(&dependency_name);
            assert!(known, "`{name}` must not depend on `{dependency_name}`");
            let only_for_the_binary = dependency_name != "clap" || dependency["optional"] == true;
            assert!(
                only_for_the_binary,
                "the library of `{name}` must not know clap"
            );
        }
    }
}

#[test]
fn unsafe_stands_where_it_may() {
    let root = common::root();
    let mut files = Vec::new();
    for folder in ["backends", "models", "runtime", "benches"] {
        rust_files(&root.join(folder), &mut files);
    }
    assert!(files.len() > 40, "the source is found");
    for file in files {
        let relative = file.strip_prefix(&root).expect("below the root");
        let text = std::fs::read_to_string(&file).expect("readable");
        let has_unsafe = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or("");
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        });
        // This file names what it looks for.
        let may = UNSAFE.iter().any(|place| relative.starts_with(place))
            || file.ends_with("architecture.rs");
        assert!(!has_unsafe || may, "`unsafe` in {}", relative.display());
    }
}

/// The library does without the command line's crates.
#[test]
fn only_the_binary_knows_clap() {
    let mut files = Vec::new();
    rust_files(&common::root().join("runtime/src"), &mut files);
    let folder = Path::new("src/bin");
    for file in files
        .iter()
        .filter(|file| !file.to_string_lossy().contains(&*folder.to_string_lossy()))
    {
        let text = std::fs::read_to_string(file).expect("readable");
        let names = ["clap", "anyhow", "indicatif"];
        let known = names
            .iter()
            .find(|name| text.contains(&format!("{name}::")));
        assert!(
            known.is_none(),
            "{} knows `{}`",
            file.display(),
            known.unwrap_or(&"")
        );
    }
}

/// Only one file of the runtime may name a concrete backend.
#[test]
fn one_file_names_backends() {
    let mut files = Vec::new();
    rust_files(&common::root().join("runtime/src"), &mut files);
    for file in files
        .iter()
        .filter(|file| !file.ends_with("src/backends.rs"))
    {
        let text = std::fs::read_to_string(file).expect("readable");
        assert!(
            !text.contains("infer_tract"),
            "{} names a backend",
            file.display()
        );
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
