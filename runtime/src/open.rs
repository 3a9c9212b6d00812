//! From a model's files to a model that guests reach by name.

use std::sync::Arc;

use infer_core::{Cancel, LoadOptions, Result, run_engine};
use infer_models::Model as ModelFiles;

use crate::backends::Backends;
use crate::config::DeviceChoice;
use crate::registry::{Model, Registry};

/// Which engine and device a person wants for models.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// A backend's name; the first that can where absent.
    pub backend: Option<String>,
    /// The device.
    pub device: DeviceChoice,
    /// How it shall run there.
    pub options: LoadOptions,
}

/// Loads a model and registers it.
///
/// # Errors
/// Those of [`Backends::choose`], of the engine's load and of [`Registry::add`]; `InvalidArgument` where the
/// manifest does not fit the model.
pub fn open_model(
    backends: &Backends,
    files: &ModelFiles,
    selection: &Selection,
    registry: &mut Registry,
) -> Result<Arc<Model>> {
    let chosen = backends.choose(
        selection.backend.as_deref(),
        selection.device,
        files.encoding,
    )?;
    let backend = chosen.backend;
    let request = files.load_request(chosen.device, selection.options.clone());
    let graph = run_engine(backend.name(), || {
        backend.load(&request, &Cancel::default())
    })?;
    files.check_signature(graph.signature())?;
    let (name, placement) = (&files.name, graph.placement());
    tracing::info!(
        "model `{name}` runs on {} on {} ({})",
        backend.name(),
        placement.device,
        chosen.reason
    );
    registry.add(
        Model::new(name, backend.name(), files.encoding, graph),
        Some(files),
    )
}
