//! A model's file, and the files beside it that hold its weights: which a model may name.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use infer_core::{Error, ErrorKind, Result, clip};

use crate::model::{Model, Tensor};

/// The value of `data_location` for elements in another file.
const EXTERNAL: i32 = 1;

/// Checks the files that a model names; those of a model given as bytes would be files of the host's.
/// Tells whether there are any.
///
/// # Errors
/// `Security` for a file outside the model's folder, and for any if there is no folder; `NotFound` for
/// one that is not there.
pub fn check_files(model: &Model, folder: Option<&Path>) -> Result<bool> {
    let mut any = false;
    model.for_each_tensor(&mut |tensor| {
        if tensor.location != EXTERNAL && tensor.external.is_empty() {
            return Ok(());
        }
        any = true;
        check_tensor(tensor, folder)
    })?;
    Ok(any)
}

fn check_tensor(tensor: &Tensor, folder: Option<&Path>) -> Result<()> {
    let name = clip(&tensor.name);
    let Some(folder) = folder else {
        return Err(denied(format!(
            "tensor `{name}` lies in another file, which a model given as bytes may not name"
        )));
    };
    let locations = tensor.external.iter().filter(|e| e.key == "location");
    let mut locations = locations.map(|entry| entry.value.as_str()).peekable();
    if locations.peek().is_none_or(|location| location.is_empty()) {
        return Err(denied(format!(
            "tensor `{name}` lies in a file without a name"
        )));
    }
    // The engine takes the last where there are several: each is checked.
    locations.try_for_each(|location| check_location(name, location, folder))
}

fn check_location(name: &str, location: &str, folder: &Path) -> Result<()> {
    let shown = clip(location);
    let outside = || {
        denied(format!(
            "tensor `{name}` lies in `{shown}`, outside the model's folder"
        ))
    };
    // A name with a star is ONNX Runtime's for an address in memory, which the engine would follow.
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.contains('*') || !Path::new(location).components().all(inside) {
        return Err(outside());
    }
    let missing = |error: std::io::Error| {
        let message = format!("tensor `{name}` lies in `{shown}`, which cannot be read");
        Error::new(ErrorKind::NotFound, message).with_source(error)
    };
    let folder: PathBuf = folder.canonicalize().map_err(missing)?;
    let file = folder.join(location).canonicalize().map_err(missing)?;
    match file.starts_with(&folder) {
        true => Ok(()),
        false => Err(outside()),
    }
}

fn denied(message: String) -> Error {
    Error::new(ErrorKind::Security, message)
}

/// Maps a model's file.
///
/// # Errors
/// `NotFound` for one that is missing or cannot be read.
#[allow(unsafe_code, reason = "a file is mapped")]
pub fn map_file(path: &Path) -> Result<Bytes> {
    let unreadable = |error| {
        let message = format!("cannot read `{}`", path.display());
        Error::new(ErrorKind::NotFound, message).with_source(error)
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is only read. A file that somebody truncates meanwhile would fault: model files
    // belong to the person who runs the host, not to a guest.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(unreadable)?;
    Ok(Bytes::from_owner(map))
}

/// The folder that a file lies in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
