//! The run itself, by either ABI: tensors of every element type that infer carries, those that wasi-nn has no name
//! for too, which the library's `Model` leaves out.

#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
mod component;
#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
pub(crate) use component::run;

#[cfg(all(target_arch = "wasm32", target_env = "p1"))]
mod preview1;
#[cfg(all(target_arch = "wasm32", target_env = "p1"))]
pub(crate) use preview1::run;

/// On a native target, where the pure functions are tested, there is no host.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn run(_: &infer_guest::Info, _: &[Given]) -> infer_guest::Result<Vec<Got>> {
    let code = infer_guest::Code::UnsupportedOperation;
    Err(infer_guest::Error::new(code, "no host"))
}

/// A tensor that goes in.
#[derive(Debug)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    allow(dead_code, reason = "there is no host")
)]
pub(crate) struct Given {
    /// The name of its element type, as infer's descriptions of models spell it: `FP32`, `BOOL`.
    pub(crate) dtype: &'static str,
    /// The size of each dimension, in elements.
    pub(crate) dimensions: Vec<u32>,
    /// The elements, little-endian; a text is its length in 4 bytes, then its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// A tensor that comes out.
#[derive(Debug)]
pub(crate) struct Got {
    /// The name of its element type.
    pub(crate) dtype: String,
    /// The size of each dimension, where it is known.
    pub(crate) dimensions: Option<Vec<u32>>,
    /// The elements.
    pub(crate) bytes: Vec<u8>,
}
