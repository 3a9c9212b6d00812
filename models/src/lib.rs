//! From a model's name or path to the files that a backend loads.
//!
//! A [`ModelRef`] is what a person writes, `[NAME=]REF`. Opened against a [`ModelStore`], the folder
//! of installed models, it gives a [`Model`]: its files, checked; their encoding, by content
//! ([`Content`]) and by [`Manifest`]; how inputs are prepared and what outputs mean. The store also
//! brings the known models ([`ModelStore::get`]) by package name, with the machine's own pip. What a
//! model's files say of themselves, a [`Head`], is read without an engine.
//!
//! The encodings that can run are ONNX, OpenVINO IR, TensorFlow (frozen graph and SavedModel) and
//! TensorFlow Lite; others are recognised and refused with a remedy.
//!
//! This crate loads nothing into an engine and never opens a network connection of its own.

mod archive;
mod checked;
mod content;
mod digest;
mod fetch;
mod flatbuffer;
mod found;
mod head;
pub mod install;
mod manifest;
mod onnx;
pub mod packages;
mod private;
mod protobuf;
mod python;
mod reference;
mod store;
mod xml;

pub use content::Content;
pub use fetch::{Fetch, FetchedFile, Progress};
pub use found::looks_like_path;
pub use head::Head;
pub use manifest::{
    Color, Filter, ImagePreparation, Layout, Manifest, ModelFile, ModelInput, ModelOutput, Resize,
    Scores,
};
pub use onnx::OnnxHead;
pub use packages::Package;
pub use reference::{Model, ModelRef, check_name};
pub use store::{ModelEntry, ModelStore};

use infer_core::{Error, ErrorKind, Result};
use install::file_error;
use std::fs::File;
use std::path::Path;

/// Opens a file to read. A pipe or a device is an error at once, since reading it could block.
fn open_file(path: &Path) -> Result<File> {
    check_kind(path)?;
    File::open(path).map_err(|error| file_error("open", path, error))
}

/// Fails for what is neither a file nor a folder.
fn check_kind(path: &Path) -> Result<()> {
    let kind = path
        .metadata()
        .map_err(|error| file_error("open", path, error))?
        .file_type();
    if kind.is_file() || kind.is_dir() {
        return Ok(());
    }
    let message = format!(
        "`{}`: expected a file, got a pipe or a device",
        path.display()
    );
    Err(Error::new(ErrorKind::InvalidArgument, message)
        .with_hint("a model is read more than once: save it to a file first"))
}
