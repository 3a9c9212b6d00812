//! The thin layer over either ABI of wasi-nn: the same few types on both, and no checks.
//!
//! [`Model`](crate::Model) is built on it and is what a guest wants. This layer is public for guests that must
//! see the ABI as it is: it sends whatever it is given, also what cannot be right, and leaves the answer to the
//! host.

use crate::tensor::DType;

#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
pub mod component;
#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
pub use component::{BY_POSITION, Context, Graph, Remote, Results};

#[cfg(all(target_arch = "wasm32", target_env = "p1"))]
pub mod preview1;
#[cfg(all(target_arch = "wasm32", target_env = "p1"))]
pub use preview1::{BY_POSITION, Context, Graph, Results};

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
pub use native::{BY_POSITION, Context, Graph, Remote, Results};

/// How the bytes of a model are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// OpenVINO's IR: two parts, the XML and the weights.
    OpenVino,
    /// ONNX: one part.
    Onnx,
    /// A TensorFlow graph.
    TensorFlow,
    /// TorchScript.
    PyTorch,
    /// TensorFlow Lite: one part.
    TensorFlowLite,
    /// GGML or GGUF; preview1 has no number for it.
    Ggml,
    /// By content.
    Autodetect,
}

/// Where a model is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The processor.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// A neural processor, or another such device.
    Tpu,
}

/// A tensor as it is sent; nothing says that its parts fit each other.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The element type.
    pub dtype: DType,
    /// The size of each dimension, in elements.
    pub dimensions: &'a [u32],
    /// The values, little-endian.
    pub data: &'a [u8],
}

/// A tensor and the input that it is for.
#[derive(Clone, Copy, Debug)]
pub struct Argument<'a> {
    /// The input's name, which counts in the component ABI.
    pub name: &'a str,
    /// The input's position, which counts in preview1.
    pub index: u32,
    /// What is sent.
    pub tensor: View<'a>,
}

/// An output as it arrived; preview1 gives bytes only.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The element type.
    pub dtype: Option<DType>,
    /// The size of each dimension, in elements.
    pub dimensions: Option<Vec<u32>>,
    /// The values, little-endian.
    pub data: Vec<u8>,
}
