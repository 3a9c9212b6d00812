//! The conformance suite on ONNX Runtime, with the ONNX test models of `models/testdata`.

mod common;

use infer_core::Backend;
use infer_core::testing::conformance;

#[test]
fn onnxruntime_conforms() {
    let Some(engine) = common::engine() else {
        return;
    };
    let refused = conformance::run(&engine, &common::request);
    assert_eq!(refused, Vec::<String>::new());
}

#[test]
fn it_says_what_and_where_it_is() {
    let Some(engine) = common::engine() else {
        return;
    };
    let probe = engine.probe().expect("the engine is there");
    assert!(probe.version.starts_with("1."), "{}", probe.version);
    assert!(
        probe.location.contains("ORT_DYLIB_PATH"),
        "{}",
        probe.location
    );
    assert!(!probe.devices.is_empty());
}
