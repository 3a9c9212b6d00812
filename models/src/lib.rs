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
mod manifest;
mod onnx;
mod python;
mod reference;
mod store;

pub use content::Content;
pub use fetch::{Fetch, FetchedFile, Package, Progress};
pub use manifest::{
    Color, Filter, ImagePreparation, Layout, Manifest, ModelFile, ModelInput, ModelOutput, Resize,
    Scores,
};
pub use onnx::OnnxHead;
pub use reference::{Model, ModelRef, check_name};
pub use store::{ModelEntry, ModelStore};

use infer_core::{Error, ErrorKind};
use std::path::Path;

/// An error of the file system, with the path and what was tried.
fn file_error(action: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::RuntimeError,
    };
    Error::new(kind, format!("cannot {action} `{}`", path.display())).with_source(error)
}
