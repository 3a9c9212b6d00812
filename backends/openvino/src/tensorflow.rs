//! What has to be known of TensorFlow models: that the bytes are one, and files under the names that the
//! engine expects.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use infer_core::{Error, ErrorKind, Result};
use infer_onnx::Model;
use prost::Message;
use tempfile::TempDir;

use self::graph::{GraphDef, NodeDef, SavedModel};

mod graph;

/// Reads a frozen graph in ONNX's words.
///
/// # Errors
/// `InvalidEncoding` if the bytes are none, `UnsupportedOperation` for a SavedModel and for a graph that changes
/// variables.
pub(crate) fn read_frozen(bytes: Bytes) -> Result<Model> {
    let decoded = GraphDef::decode(bytes.clone()).map_err(|error| {
        if SavedModel::decode(bytes).is_ok_and(|saved| saved.has_graphs()) {
            let message = "a TensorFlow SavedModel is a folder with `saved_model.pb` in it, got the content of that file alone";
            return Error::new(ErrorKind::UnsupportedOperation, message).with_hint(
                "name the folder with `--model`, or freeze the model into one graph",
            );
        }
        invalid("not a valid TensorFlow frozen graph: it does not decode").with_source(error)
    });
    let graph = decoded?;
    let whole = |node: &NodeDef| !node.name.is_empty() && !node.operator.is_empty();
    match !graph.nodes.is_empty() && graph.nodes.iter().all(whole) {
        true => graph::words(&graph, None),
        false => Err(invalid(
            "not a valid TensorFlow frozen graph: expected nodes with names and operators",
        )),
    }
}

/// Reads a SavedModel's `saved_model.pb` in ONNX's words.
///
/// # Errors
/// `InvalidEncoding` if the bytes are none, `UnsupportedOperation` for a graph that changes variables.
pub(crate) fn read_saved(bytes: Bytes) -> Result<Model> {
    let not_saved = || invalid("not a valid TensorFlow SavedModel");
    let saved = SavedModel::decode(bytes).map_err(|error| not_saved().with_source(error))?;
    saved.words()?.ok_or_else(not_saved)
}

/// A file under a name that the engine knows an encoding by, and the private folder that it may be in.
pub(crate) struct NamedFile {
    pub(crate) path: PathBuf,
    /// Removed, with the file in it, when dropped.
    _folder: Option<TempDir>,
}

impl NamedFile {
    /// The file itself if it has the ending, else a link to it.
    pub(crate) fn of(path: &Path, ending: &str) -> Result<NamedFile> {
        if path.extension().is_some_and(|found| found == ending) {
            return Ok(NamedFile {
                path: path.to_owned(),
                _folder: None,
            });
        }
        let target = path.canonicalize().map_err(no_folder)?;
        NamedFile::made(ending, |link| std::os::unix::fs::symlink(target, link))
    }

    /// A file of these bytes that nobody else can read.
    pub(crate) fn holding(bytes: &[u8], ending: &str) -> Result<NamedFile> {
        NamedFile::made(ending, |path| std::fs::write(path, bytes))
    }

    fn made(ending: &str, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<NamedFile> {
        let folder = tempfile::Builder::new()
            .prefix("infer-")
            .tempdir()
            .map_err(no_folder)?;
        let path = folder.path().join(format!("model.{ending}"));
        make(&path).map_err(no_folder)?;
        Ok(NamedFile {
            path,
            _folder: Some(folder),
        })
    }
}

fn no_folder(error: std::io::Error) -> Error {
    let message = "cannot put the model into a temporary folder, from which OpenVINO reads it";
    Error::new(ErrorKind::RuntimeError, message).with_source(error)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidEncoding, message)
}
