//! Libraries that are missing, broken or others, each told with its name and the remedy.

mod common;

use std::path::PathBuf;

use infer_core::{Backend, Candidate, Device, ErrorKind};
use infer_openvino::OpenVino;

fn candidate(path: impl Into<PathBuf>, exclusive: bool) -> Candidate {
    Candidate {
        path: path.into(),
        origin: "SOME_VARIABLE".to_owned(),
        exclusive,
    }
}

/// A folder of this test's own.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn what_cannot_be_used_is_named() {
    let folder = folder();
    let text = folder.path().join("libopenvino_c.so");
    std::fs::write(&text, "not a library").expect("a file");
    let missing = folder.path().join("missing.so");
    let name = "libinfer-has-no-such-library.so";
    let cases = [
        (
            candidate(&missing, true),
            ErrorKind::NotFound,
            "missing.so` (SOME_VARIABLE) is not there",
        ),
        (
            candidate(&missing, false),
            ErrorKind::NotFound,
            "missing.so` (SOME_VARIABLE)",
        ),
        (candidate(name, true), ErrorKind::NotFound, "is not there"),
        (
            candidate(name, false),
            ErrorKind::NotFound,
            "is not installed: looked for",
        ),
        (
            candidate(&text, false),
            ErrorKind::RuntimeError,
            "it does not load",
        ),
        (
            candidate("libc.so.6", false),
            ErrorKind::RuntimeError,
            "it has no function `ov_available_devices_free`",
        ),
    ];
    for (candidate, kind, expected) in cases {
        let engine = OpenVino::new(vec![candidate]);
        // The second answer comes from memory.
        for _ in 0..2 {
            let error = engine.probe().expect_err(expected);
            let report = error.report();
            assert_eq!(error.kind(), kind, "{report}");
            assert!(report.contains(expected), "{expected}: {report}");
            assert!(!report.contains('\n'), "{report}");
            let hint = error.hint().expect("a remedy");
            assert!(hint.contains("infer engines install openvino"), "{hint}");
        }
    }
    let nowhere = OpenVino::new(Vec::new()).probe().expect_err("nowhere");
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}

#[test]
fn a_missing_place_is_passed_over_and_a_broken_one_is_not() {
    let test = "a_missing_place_is_passed_over_and_a_broken_one_is_not";
    if common::engine(test).is_none() {
        return;
    }
    let folder = folder();
    let missing = candidate(folder.path().join("missing.so"), false);
    let text = folder.path().join("libopenvino_c.so");
    std::fs::write(&text, "not a library").expect("a file");

    let engine = OpenVino::new(vec![missing, common::candidate()]);
    let probe = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| engine.probe())).collect();
        let mut probes = threads.into_iter().map(|t| t.join().expect("no panic"));
        let first = probes
            .next()
            .expect("8 threads")
            .expect("the engine is there");
        for probe in probes {
            assert_eq!(probe.expect("the same").version, first.version);
        }
        first
    });
    assert!(probe.version.starts_with("2026.4"), "{}", probe.version);
    let processor = probe.devices.iter().find(|d| d.device == Device::Cpu);
    assert!(!processor.expect("a processor").description.is_empty());
    for problem in &probe.problems {
        assert!(!problem.contains('\n'), "{problem}");
    }

    let broken = OpenVino::new(vec![candidate(text, false), common::candidate()]);
    let error = broken.probe().expect_err("a broken library");
    assert_eq!(error.kind(), ErrorKind::RuntimeError);
}
