//! The models of a server: loaded, reloaded and unloaded while requests go on.
//!
//! A change makes a new set of names; requests that run keep what they began with. Each guest sees the models that it
//! was granted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use infer_core::{Cancel, Error, ErrorKind, Result, Signature, Tensor, clip};
use infer_models::ModelStore;

use crate::backends::Backends;
use crate::engine::Engine;
use crate::nn::info;
use crate::open::load_model;
use crate::registry::{Model, Registry};
use crate::scheduler::{Counters, Statistics};
use crate::serve::config::ModelConfig;
use crate::serve::counters::Requests;
use crate::spans;
use crate::tune::inputs;

/// The models, by the names that they are served under.
pub(crate) struct Repository {
    engine: Engine,
    backends: Arc<Backends>,
    store: ModelStore,
    entries: Vec<Entry>,
    /// One per guest: the names that it was granted (all where absent), and its models now.
    views: Vec<View>,
    /// Held while the models are changed.
    changing: Mutex<()>,
}

/// A model that the server was given, whether or not it is loaded.
pub(crate) struct Entry {
    name: String,
    config: ModelConfig,
    stage: RwLock<Stage>,
    /// What is counted of the protocol's requests, and of all calls, those of guests among them.
    pub(crate) requests: Requests,
    pub(crate) calls: Arc<Counters>,
    /// Where it runs, or did when it was last loaded.
    placed: RwLock<Option<Arc<Placed>>>,
}

/// Where a model really runs, for labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) backend: &'static str,
    pub(crate) device: String,
    pub(crate) precision: String,
}

/// What became of a model.
#[derive(Clone)]
pub(crate) enum Stage {
    Unloaded,
    /// For the first time; one that is reloaded stays ready.
    Loading,
    Ready(Arc<Ready>),
    Failed(Arc<Error>),
}

/// A loaded model.
pub(crate) struct Ready {
    pub(crate) model: Arc<Model>,
    information: Arc<Model>,
    pub(crate) since: Instant,
}

struct View {
    granted: Option<Vec<String>>,
    registry: RwLock<Arc<Registry>>,
}

impl Repository {
    /// A repository in which nothing is loaded; one view for each guest's granted names.
    ///
    /// # Errors
    /// `InvalidArgument` for two models of one name, and for a granted name that no model has.
    pub(crate) fn new(
        engine: Engine,
        (backends, store): (Arc<Backends>, ModelStore),
        models: &[ModelConfig],
        granted: Vec<Option<Vec<String>>>,
    ) -> Result<Repository> {
        let mut entries: Vec<Entry> = Vec::new();
        for config in models {
            let name = config.reference.resolve(&store)?.name;
            if entries.iter().any(|entry| entry.name == name) {
                let message = format!("two models have the name `{name}`");
                return Err(Error::new(ErrorKind::InvalidArgument, message)
                    .with_hint("name one of them: --model NAME=REF"));
            }
            entries.push(Entry {
                name,
                config: config.clone(),
                stage: RwLock::new(Stage::Unloaded),
                requests: Requests::default(),
                calls: Arc::default(),
                placed: RwLock::default(),
            });
        }
        for name in granted.iter().flatten().flatten() {
            if entries.iter().all(|entry| entry.name != *name) {
                let names: Vec<String> = entries.iter().map(|e| format!("`{}`", e.name)).collect();
                let message = format!(
                    "a guest is granted the model `{name}`, which the server does not have: expected {}",
                    names.join(", ")
                );
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        }
        let view = |granted| View {
            granted,
            registry: RwLock::default(),
        };
        let repository = Repository {
            engine,
            backends,
            store,
            entries,
            views: granted.into_iter().map(view).collect(),
            changing: Mutex::default(),
        };
        repository.change_views();
        Ok(repository)
    }

    pub(crate) fn backends(&self) -> &Arc<Backends> {
        &self.backends
    }

    /// All models that the server was given, in that order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of this name.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are.
    pub(crate) fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| {
                let names: Vec<String> = self
                    .entries
                    .iter()
                    .map(|entry| format!("`{}`", entry.name))
                    .collect();
                let expected = match names.is_empty() {
                    true => "the server has none".to_owned(),
                    false => format!("expected {}", names.join(", ")),
                };
                let message = format!("no model is named `{}`: {expected}", clip(name));
                Error::new(ErrorKind::NotFound, message)
            })
    }

    /// The models that a guest reaches now.
    pub(crate) fn view(&self, guest: usize) -> Arc<Registry> {
        let registry = &self.views[guest].registry;
        registry
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Loads a model, or loads it anew and puts that in the old one's place. Blocks.
    ///
    /// # Errors
    /// `NotFound` for an unknown name; those of loading. A model that was ready stays so where the new one fails.
    pub(crate) fn load(&self, name: &str) -> Result<()> {
        let entry = self.entry(name)?;
        let _span = spans::load(name).entered();
        let _changing = self.changing();
        let before = entry.stage();
        if !matches!(before, Stage::Ready(_)) {
            entry.set(Stage::Loading);
        }
        match self.loaded(entry) {
            Ok(ready) => {
                entry.set(Stage::Ready(Arc::new(ready)));
                self.change_views();
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                if !matches!(before, Stage::Ready(_)) {
                    entry.set(Stage::Failed(error.clone()));
                }
                Err(Error::new(error.kind(), error.report()))
            }
        }
    }

    /// Takes a model away; requests that run on it go on.
    ///
    /// # Errors
    /// `NotFound` for an unknown name.
    pub(crate) fn unload(&self, name: &str) -> Result<()> {
        let entry = self.entry(name)?;
        let _changing = self.changing();
        entry.set(Stage::Unloaded);
        self.change_views();
        Ok(())
    }

    fn loaded(&self, entry: &Entry) -> Result<Ready> {
        let Entry { config, calls, .. } = entry;
        let files = config.reference.open(&self.store)?;
        let model = load_model(&self.backends, &files, &config.selection, calls.clone())?;
        let model = Arc::new(model);
        if config.warm_up {
            warm_up(&model)?;
        }
        let information = Arc::new(info::model(&model, Some(&files))?);
        Ok(Ready {
            model,
            information,
            since: Instant::now(),
        })
    }

    /// Makes anew what guests see.
    fn change_views(&self) {
        for view in &self.views {
            let mut registry = Registry::default();
            for entry in &self.entries {
                let granted = view.granted.as_ref();
                if granted.is_some_and(|names| !names.contains(&entry.name)) {
                    registry.withhold(&entry.name);
                } else if let Stage::Ready(ready) = entry.stage() {
                    registry.enter(&ready.model, &ready.information);
                }
            }
            *view
                .registry
                .write()
                .unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Entry {
    /// The name that it is served under.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its settings.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What became of all calls, and how many wait now.
    pub(crate) fn statistics(&self) -> Statistics {
        match self.stage() {
            Stage::Ready(ready) => ready.model.statistics(),
            _ => self.calls.read(0),
        }
    }

    /// Where it runs, or did when it was last loaded.
    pub(crate) fn placed(&self) -> Option<Arc<Placed>> {
        self.placed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, stage: Stage) {
        if let Stage::Ready(ready) = &stage {
            let placement = ready.model.placement();
            *self.placed.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Placed {
                backend: ready.model.backend(),
                device: placement.device.to_string(),
                precision: placement.precision.to_string(),
            }));
        }
        *self.stage.write().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// The loaded model.
    ///
    /// # Errors
    /// `NotReady`'s kind is `Busy`: it may be loaded later.
    pub(crate) fn ready(&self) -> Result<Arc<Ready>> {
        let name = &self.name;
        match self.stage() {
            Stage::Ready(ready) => Ok(ready),
            Stage::Failed(error) => {
                let message = format!(
                    "the model `{name}` is not ready: it could not be loaded: {}",
                    error.report()
                );
                Err(Error::new(ErrorKind::Busy, message))
            }
            Stage::Loading => {
                let message = format!("the model `{name}` is not ready: it is being loaded");
                Err(Error::new(ErrorKind::Busy, message))
            }
            Stage::Unloaded => {
                let message = format!("the model `{name}` is not ready: it is not loaded");
                Err(Error::new(ErrorKind::Busy, message))
            }
        }
    }
}

/// Runs a model once: engines put off work until then.
fn warm_up(model: &Model) -> Result<()> {
    let made = match inputs::make(model.signature(), &[]) {
        Ok(made) => made,
        Err(error) => {
            tracing::info!(
                "model `{}` is not warmed up: {}",
                model.name(),
                error.report()
            );
            return Ok(());
        }
    };
    let made: Vec<Tensor> = model.signature().arrange(made)?;
    model.scheduler().run(made, &Cancel::default(), &mut None)?;
    Ok(())
}

/// What answers requests to a name.
impl Ready {
    pub(crate) fn signature(&self) -> &Signature {
        self.model.signature()
    }
}
