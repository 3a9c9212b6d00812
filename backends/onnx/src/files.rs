//! The files of a model: its own, mapped, and those that it names for weights.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use infer_core::{Error, ErrorKind, Result, Source, clip};

use crate::proto::{GraphProto, SparseTensorProto, TensorProto};

/// ONNX's number for data that lies in another file.
const EXTERNAL: i32 = 1;

/// The bytes of a model's one part, and its folder if it is a file.
pub(crate) fn read(source: &Source) -> Result<(Bytes, Option<PathBuf>)> {
    match source {
        Source::Files(paths) => match &paths[..] {
            [path] => {
                let folder = match path.parent() {
                    Some(folder) if !folder.as_os_str().is_empty() => folder,
                    _ => Path::new("."),
                };
                Ok((map(path)?, Some(folder.to_owned())))
            }
            paths => Err(one_part(paths.len())),
        },
        Source::Memory(parts) => match &parts[..] {
            [part] => Ok((part.clone(), None)),
            parts => Err(one_part(parts.len())),
        },
    }
}

fn one_part(got: usize) -> Error {
    let message = format!("an ONNX model has one part, got {got}");
    Error::new(ErrorKind::InvalidArgument, message)
}

#[allow(unsafe_code, reason = "a file is mapped")]
fn map(path: &Path) -> Result<Bytes> {
    let failed = |action: &str, error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::RuntimeError,
        };
        Error::new(kind, format!("cannot {action} `{}`", path.display())).with_source(error)
    };
    let file = File::open(path).map_err(|error| failed("open", error))?;
    let length = file
        .metadata()
        .map_err(|error| failed("read", error))?
        .len();
    if length == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the bytes are read once, as plain numbers. A file that somebody writes meanwhile gives other
    // numbers, one that is cut gives a bus error; the engine that reads it after us has the same to fear.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| failed("map", error))?;
    Ok(Bytes::from_owner(map))
}

/// Checks every tensor of a graph, its subgraphs apart.
pub(crate) fn check(graph: &GraphProto, folder: Option<&Path>) -> Result<()> {
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let sparse = graph
        .sparse_initializer
        .iter()
        .chain(attributes().flat_map(|a| a.sparse_tensor.iter().chain(&a.sparse_tensors)))
        .flat_map(|SparseTensorProto { values, indices }| values.iter().chain(indices));
    graph
        .initializer
        .iter()
        .chain(attributes().flat_map(|a| a.t.iter().chain(&a.tensors)))
        .chain(sparse)
        .filter(|tensor| tensor.data_location == EXTERNAL || !tensor.external_data.is_empty())
        .try_for_each(|tensor| check_location(tensor, folder))
}

fn check_location(tensor: &TensorProto, folder: Option<&Path>) -> Result<()> {
    let name = clip(&tensor.name);
    let denied = |message: String| Err(Error::new(ErrorKind::Security, message));
    let Some(folder) = folder else {
        return denied(format!(
            "tensor `{name}` lies in another file, which a model given as bytes may not name"
        ));
    };
    let location = tensor
        .external_data
        .iter()
        .find(|entry| entry.key == "location");
    let location = location.map_or("", |entry| entry.value.as_str());
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    let inside = Path::new(location).components().all(plain) && stays_inside(folder, location);
    match inside {
        true => Ok(()),
        false => denied(format!(
            "tensor `{name}` lies in `{}`, outside the model's folder",
            clip(location)
        )),
    }
}

/// Whether the file is in the folder once links are followed; one that is missing leads nowhere.
fn stays_inside(folder: &Path, location: &str) -> bool {
    let (Ok(file), Ok(folder)) = (folder.join(location).canonicalize(), folder.canonicalize())
    else {
        return true;
    };
    file.starts_with(folder)
}
