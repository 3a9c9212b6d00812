//! From a model's files to a model that guests reach by name.

use std::sync::Arc;

use infer_core::{Cancel, Result, Source};
use infer_models::Model as ModelFiles;

use crate::backends::Backends;
use crate::config::Selection;
use crate::registry::{Model, Registry};
use crate::scheduler::Counters;

/// Loads a model and registers it.
///
/// # Errors
/// Those of [`Backends::load`], [`Model::scheduled`] and [`Registry::add`]; `InvalidArgument` where the manifest does not fit the model.
pub fn open_model(
    backends: &Backends,
    files: &ModelFiles,
    selection: &Selection,
    registry: &mut Registry,
) -> Result<Arc<Model>> {
    let model = load_model(backends, files, selection, Arc::default())?;
    registry.add(model, Some(files))
}

/// Loads a model whose calls are counted by `counters`.
///
/// # Errors
/// As for [`open_model`].
pub(crate) fn load_model(
    backends: &Backends,
    files: &ModelFiles,
    selection: &Selection,
    counters: Arc<Counters>,
) -> Result<Model> {
    let source = Source::Files(files.files.clone());
    let loaded = backends
        .load(selection, (&source, files.encoding), &Cancel::default())
        .inspect_err(|_| say_who_chose(&files.name, selection))?;
    files.check_signature(loaded.graph.signature())?;
    let name = &files.name;
    loaded.say_where(name);
    Model::new(name, loaded.backend, files.encoding, loaded.graph)
        .counted(&selection.scheduling, counters)
}

/// What a person did not ask for in this command needs a word where it fails.
fn say_who_chose(name: &str, selection: &Selection) {
    if let Some(reason) = &selection.reason {
        tracing::warn!("model `{name}`: {reason}; --no-tuned leaves that aside");
    }
}
