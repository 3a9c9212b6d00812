//! The conformance suite on OpenVINO, with the ONNX test models of `models/testdata`.

mod common;

use infer_core::testing::conformance::{self, TestModel};
use infer_core::{Encoding, LoadRequest, Source};

fn request(model: TestModel) -> LoadRequest {
    let path = common::testdata(&model.name());
    common::request(Encoding::Onnx, Source::Files(vec![path]))
}

#[test]
fn openvino_conforms_but_for_what_it_refuses_by_name() {
    let Some(engine) = common::engine("openvino_conforms_but_for_what_it_refuses_by_name") else {
        return;
    };
    let refused = conformance::run(&engine, &request);
    // The model of i64 itself runs; the suite gives it numbers of 64 bits.
    assert_eq!(
        refused,
        [
            "identity-f64: OpenVINO would compute input `x` of f64 in f32",
            "identity-i64: input `x`: OpenVINO computes i64 in 32 bits, and element 0 does not fit",
        ]
    );
}
