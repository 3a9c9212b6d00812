//! What the tests of this backend share: the engine, test models, tensors.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::PathBuf;

use infer_core::testing::conformance::TestModel;
use infer_core::testing::engine_library;
use infer_core::{Device, Dtype, Encoding, LoadOptions, LoadRequest, Source, Tensor};
use infer_onnxruntime::OnnxRuntime;

/// The engine, or `None` where a person said to go on without.
pub(crate) fn engine() -> Option<OnnxRuntime> {
    let library = engine_library("onnxruntime", "ORT_DYLIB_PATH", "libonnxruntime.so")?;
    Some(OnnxRuntime::new(vec![library], Vec::new()))
}

/// A request for a test model.
pub(crate) fn request(model: TestModel) -> LoadRequest {
    request_for(&format!("{}.onnx", model.name()))
}

/// A request for a file of `models/testdata`.
pub(crate) fn request_for(file: &str) -> LoadRequest {
    let folder = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/testdata"
    ));
    LoadRequest {
        source: Source::Files(vec![folder.join(file)]),
        encoding: Encoding::Onnx,
        device: Device::Cpu,
        options: LoadOptions::default(),
    }
}

/// A tensor of f32.
pub(crate) fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Tensor::copied_from(Dtype::F32, shape.to_vec(), &bytes).expect("a valid tensor")
}
