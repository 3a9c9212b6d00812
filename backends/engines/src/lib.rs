//! Native engines: brought as packages, found, listed and removed.
//!
//! An [`EngineStore`] is the user's folder of engines, one flat folder per engine: libraries, licences
//! and a record of what lies there. [`EngineStore::install`] fills it from wheels of the Python package
//! index. [`candidates`] is where a backend looks for its library, and [`cuda_folders`] where the CUDA
//! libraries may lie.
//!
//! This crate loads no library and opens no network connection of its own.

mod cuda;
mod install;
mod manifest;
mod places;
mod search;
mod store;
mod unpack;

pub use cuda::cuda_folders;
pub use install::{Origin, Progress};
pub use manifest::{EngineManifest, EnginePackage, Role};
pub use search::{NativeEngine, candidates};
pub use store::{EngineEntry, EngineState, EngineStore};
