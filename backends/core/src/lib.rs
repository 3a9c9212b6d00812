//! The contract between infer's wasi-nn host and its inference backends.
//!
//! A [`Backend`] is an engine (tract, ONNX Runtime, OpenVINO). It loads a model into a [`Graph`], which
//! all guests share and which hands out [`Session`]s; a session runs [`Call`]s, one or a batch.
//! [`Tensor`] is the only tensor type, [`Signature`] says what a graph takes and gives, and checks it;
//! [`Error`] has one [`ErrorKind`] per wasi-nn error code.
//!
//! Everything here is synchronous and knows neither wasm nor an engine. Waiting, batching, deadlines
//! and admission live in the host's scheduler.

mod backend;
mod batch;
mod cancel;
mod division;
mod dtype;
mod error;
mod library;
mod panic;
mod signature;
mod tensor;
#[cfg(feature = "testing")]
pub mod testing;

pub use backend::{
    Arithmetic, Backend, Call, Device, DeviceInfo, Encoding, Graph, LoadOptions, LoadRequest,
    Performance, Placement, Precision, Probe, Session, Source,
};
pub use batch::{fit_together, rows, run_batch, run_each};
pub use cancel::{Cancel, Hook};
pub use dtype::Dtype;
pub use error::{Error, ErrorKind, Result, clip, clip_to};
pub use library::{Candidate, Candidates, check_whole};
pub use panic::{in_engine, run_engine};
pub use signature::{SharedDimension, Signature, TensorInfo};
pub use tensor::{Tensor, byte_length, display_shape};
