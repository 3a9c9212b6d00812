//! What tests of backends and of the host need: a backend without an engine, and the suite that every
//! backend has to pass.

pub mod conformance;
mod conformance_cases;
mod engines;
mod fake;
mod fake_model;

pub use engines::{engine_is_there, engine_library, engines_are_skipped};
pub use fake::{Counters, FakeBackend};
