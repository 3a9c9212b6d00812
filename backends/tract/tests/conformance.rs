//! The conformance suite on tract, with the ONNX test models of `models/testdata`.

use std::path::PathBuf;

use infer_core::testing::conformance::{self, TestModel};
use infer_core::{Device, Encoding, LoadOptions, LoadRequest, Source};
use infer_tract::Tract;

fn request(model: TestModel) -> LoadRequest {
    let folder = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/testdata"
    ));
    let path = folder.join(format!("{}.onnx", model.name()));
    LoadRequest {
        source: Source::Files(vec![path]),
        encoding: Encoding::Onnx,
        device: Device::Cpu,
        options: LoadOptions::default(),
    }
}

#[test]
fn tract_conforms_but_for_what_it_refuses_by_name() {
    let refused = conformance::run(&Tract, &request);
    assert_eq!(
        refused,
        ["identity-bf16: tract has no tensors of dtype bf16 (`x`)"]
    );
}
