//! infer beside its peers.
//!
//! [`peer`] runs our engines under `wasmtime-wasi-nn`, the reference implementation of wasi-nn, so that the
//! same guests can be run on both hosts and what they answer compared. Nothing here is part of what is shipped.

pub mod peer;
