//! Libraries that are not there, or not what they should be: each is named with the remedy.

use std::path::PathBuf;

use infer_core::{Backend, Candidate, Error, ErrorKind};
use infer_onnxruntime::OnnxRuntime;

fn candidate(path: impl Into<PathBuf>, exclusive: bool) -> Candidate {
    Candidate {
        path: path.into(),
        origin: if exclusive {
            "ORT_DYLIB_PATH"
        } else {
            "installed"
        }
        .to_owned(),
        exclusive,
    }
}

fn refused(candidates: Vec<Candidate>) -> Error {
    OnnxRuntime::new(candidates, Vec::new())
        .probe()
        .expect_err("no library")
}

#[test]
fn what_is_wrong_with_a_library_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("libonnxruntime.so");
    std::fs::write(&text, "not a library").expect("written");
    let missing = folder.path().join("missing.so");

    let error = refused(vec![candidate(&missing, false)]);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.report().contains("missing.so` (installed)"),
        "{}",
        error.report()
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("infer engines install"))
    );

    let cases = [
        (candidate(&missing, true), "No such file"),
        (candidate(&text, true), "cannot open ONNX Runtime"),
        (candidate(&text, false), "file too short"),
        // A library, but another one.
        (candidate("libc.so.6", false), "OrtGetApiBase"),
    ];
    for (candidate, expected) in cases {
        let (path, exclusive) = (candidate.path.clone(), candidate.exclusive);
        // Whatever comes after it is not taken in its place.
        let error = refused(vec![candidate, self::candidate("libm.so.6", false)]);
        let report = error.report();
        assert!(report.contains(expected), "{report}");
        assert!(report.contains(&path.display().to_string()), "{report}");
        let hint = error.hint().expect("a remedy");
        assert!(hint.contains("infer engines install onnxruntime"), "{hint}");
        assert_eq!(hint.contains("ORT_DYLIB_PATH"), exclusive, "{hint}");
    }
}
