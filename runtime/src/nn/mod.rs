//! The wasi-nn host: one state, two ABIs.
//!
//! [`state`] does what wasi-nn does, on plain Rust values: models by name, models of the guest's own,
//! contexts, `compute`. [`wit`] serves it to components (`wasi:nn`), [`witx`] to core modules
//! (`wasi_ephemeral_nn`); each only moves values across its ABI and maps errors. [`types`] adds dtypes that
//! wasi-nn does not name. [`usage`] keeps the books, [`info`] makes `NAME#info`.

pub(crate) mod info;
pub(crate) mod state;
pub(crate) mod types;
pub(crate) mod usage;
pub(crate) mod wit;
pub(crate) mod witx;
