//! infer beside its peers, and held against ONNX's own tests.
//!
//! [`peer`] runs our engines under `wasmtime-wasi-nn`, the reference implementation of wasi-nn, so that the
//! same guests can be run on both hosts and what they answer compared. [`conformance`] runs ONNX's backend tests
//! through a guest and without one. [`native`] drives ONNX Runtime without us, to measure ourselves beside it, and
//! [`gpu_check`] does it on a GPU; [`sessions`] measures what several callers of one model get. [`serving`] has a
//! native server and what puts servers under load. [`measure`] has what measurements share. Nothing here is part of what is shipped.

pub mod conformance;
pub mod gpu_check;
pub mod measure;
pub mod native;
pub mod peer;
pub mod serving;
pub mod sessions;
