//! What the tests share: the engine that they run on, and calls.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses some of these"
)]

pub mod onnx;

use std::path::PathBuf;
use std::sync::Arc;

use infer_core::{
    Backend, Call, Cancel, Candidate, Device, Dtype, Encoding, Graph, LoadOptions, LoadRequest,
    Result, Session, Source, Tensor,
};
use infer_openvino::OpenVino;

/// The engine, from the place that is set or the place where it is installed; `None` if the person said
/// to do without.
///
/// # Panics
/// If there is none.
pub fn engine(test: &str) -> Option<OpenVino> {
    let place = candidate();
    if place.path.exists() {
        return Some(OpenVino::new(vec![place]));
    }
    if std::env::var_os("INFER_SKIP_ENGINES").is_some_and(|value| value == "1") {
        skipped(test);
        return None;
    }
    panic!(
        "OpenVINO is missing (looked for `{}`): run `infer engines install openvino`, or set \
         INFER_SKIP_ENGINES=1 to do without",
        place.path.display()
    );
}

#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skipped(test: &str) {
    eprintln!("skipped without OpenVINO: {test}");
}

/// Where the library is looked for.
pub fn candidate() -> Candidate {
    let of = |path: PathBuf, origin: &str| Candidate {
        path,
        origin: origin.to_owned(),
        exclusive: true,
    };
    if let Some(path) = std::env::var_os("INFER_OPENVINO_LIB") {
        return of(path.into(), "INFER_OPENVINO_LIB");
    }
    let home = std::env::var_os("INFER_HOME").map(PathBuf::from);
    let data = home.unwrap_or_else(|| {
        let user = std::env::var_os("HOME").expect("a home folder");
        PathBuf::from(user).join(".local/share/infer")
    });
    of(data.join("engines/openvino/libopenvino_c.so"), "installed")
}

/// A request for a model on the processor, with default options.
pub fn request(encoding: Encoding, source: Source) -> LoadRequest {
    LoadRequest {
        source,
        encoding,
        device: Device::Cpu,
        options: LoadOptions::default(),
    }
}

/// Loads a model.
pub fn load(engine: &OpenVino, request: &LoadRequest) -> Result<Arc<dyn Graph>> {
    engine.load(request, &Cancel::default())
}

/// One run.
pub fn run(session: &mut dyn Session, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let mut calls = [Call::new(inputs, Cancel::default())];
    session.run(&mut calls);
    let [call] = calls;
    call.result.expect("a session fills in every result")
}

/// A tensor of f32.
pub fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor::copied_from(Dtype::F32, shape.to_vec(), &bytes).expect("valid")
}

/// The elements of a tensor of f32.
pub fn read_floats(tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.host().expect("in host memory");
    bytes
        .chunks_exact(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().expect("4 bytes")))
        .collect()
}

/// A test model of the project's own.
pub fn testdata(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/testdata"
    ))
    .join(format!("{name}.onnx"))
}
