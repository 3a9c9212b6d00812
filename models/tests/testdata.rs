//! The committed test models are what `testdata/make.py` writes, byte for byte, under this Python.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The files below a folder but for programs, by their path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            let below = self::files(&entry.path()).into_iter();
            files.extend(below.map(|(path, content)| (format!("{name}/{path}"), content)));
        } else if !is_written_by_hand(&name) {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

fn is_written_by_hand(name: &str) -> bool {
    name.ends_with(".py") || matches!(name, "python-without-network" | "known-answers.json")
}

fn models(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(folder);
    files.retain(|path, _| path.ends_with(".onnx"));
    files
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
    let (committed, made) = (files(&testdata), files(made.path()));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&made));
    for (name, bytes) in &committed {
        assert_eq!(*bytes, made[name], "{name}: run models/testdata/make.py");
    }
}

#[test]
fn each_answer_is_of_a_model_that_is_there() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let text = fs::read(testdata.join("answers.json")).unwrap();
    let answers: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    assert!(answers.len() >= 14, "{}", answers.len());
    for answer in answers {
        let model = answer["model"].as_str().unwrap();
        let path = testdata.join(model);
        let reference: infer_models::ModelRef = path.to_str().unwrap().parse().unwrap();
        let store = infer_models::ModelStore::at("/nonexistent");
        reference
            .open(&store)
            .unwrap_or_else(|error| panic!("{model}: {}", error.report()));
        for tensor in [&answer["inputs"], &answer["outputs"]]
            .into_iter()
            .flat_map(|tensors| tensors.as_array().unwrap())
        {
            let elements: u64 = tensor["dimensions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d.as_u64().unwrap())
                .product();
            assert_eq!(
                tensor["values"].as_array().unwrap().len() as u64,
                elements,
                "{model}: {tensor}"
            );
        }
    }
}

#[test]
fn all_test_models_are_seen_as_onnx() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let all = models(&testdata);
    assert!(all.len() >= 27, "{}", all.len());
    for (name, bytes) in all {
        let content = infer_models::Content::of_bytes(&bytes);
        assert_eq!(
            content,
            infer_models::Content::Model(infer_core::Encoding::Onnx),
            "{name}"
        );
    }
}

#[test]
fn known_answers_are_of_known_models() {
    let text = include_str!("../testdata/known-answers.json");
    let answers: serde_json::Value = serde_json::from_str(text).unwrap();
    let store = infer_models::ModelStore::at("/nonexistent");
    let entries = store.list().unwrap();
    let answered: Vec<&str> = answers["models"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["models"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    for name in &answered {
        assert!(entries.iter().any(|entry| entry.name == *name), "{name}");
    }
    for entry in entries {
        // Checked by the guests that use them.
        let by_guests = matches!(entry.name.as_str(), "magika" | "opennsfw");
        assert!(
            by_guests || answered.contains(&entry.name.as_str()),
            "{}",
            entry.name
        );
    }
}

#[test]
fn the_document_lists_every_known_model() {
    let document = include_str!("../../docs/models.md");
    let store = infer_models::ModelStore::at("/nonexistent");
    for entry in store.list().unwrap() {
        let manifest = &entry.manifest;
        let row = format!(
            "| `{}` | {} | {} | {} | {:.1} |",
            entry.name,
            manifest.description.as_deref().unwrap(),
            manifest.encoding.unwrap(),
            manifest.license.as_deref().unwrap(),
            entry.download_bytes().unwrap() as f64 / 1e6
        );
        assert!(document.contains(&row), "{row}");
    }
}
