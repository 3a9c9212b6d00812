//! The models that guests reach by name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use infer_core::{Cancel, Encoding, Error, ErrorKind, Graph, Placement, Result, Signature, Tensor};
use infer_models::Model as ModelFiles;

use crate::engine::Engine;
use crate::nn::info;
use crate::scheduler::{Asker, Counters, Elsewhere, Scheduler, Scheduling, Statistics};

/// The name that portable guests ask for.
pub const DEFAULT_NAME: &str = "default";

/// How many names an error lists.
const MOST_NAMES: usize = 8;

/// A loaded model: its graph, and the one scheduler through which all guests run it.
pub struct Model {
    name: String,
    backend: &'static str,
    encoding: Encoding,
    scheduler: Arc<Scheduler>,
    output_names: Vec<Arc<str>>,
}

impl Model {
    /// A model that `backend` loaded. Calls run one by one, see [`Model::scheduled`].
    pub fn new(
        name: impl Into<String>,
        backend: &'static str,
        encoding: Encoding,
        graph: Arc<dyn Graph>,
    ) -> Model {
        let (name, outputs) = (name.into(), &graph.signature().outputs);
        Model {
            backend,
            encoding,
            output_names: outputs
                .iter()
                .map(|info| info.name.as_str().into())
                .collect(),
            scheduler: Arc::new(Scheduler::new(&name, backend, graph)),
            name,
        }
    }

    /// The same model with other rules for who runs when.
    ///
    /// # Errors
    /// `UnsupportedOperation` where calls shall be batched and the model does not allow it: its dimensions, or a
    /// trial in which the rows of a batch got other answers than alone.
    pub fn scheduled(self, scheduling: &Scheduling) -> Result<Model> {
        self.counted(scheduling, Arc::default())
    }

    /// The same model with other rules, which goes on with the counters of one that it takes the place of.
    ///
    /// # Errors
    /// Those of [`Model::scheduled`].
    pub(crate) fn counted(self, scheduling: &Scheduling, counters: Arc<Counters>) -> Result<Model> {
        Ok(Model {
            scheduler: Arc::new(self.scheduler.with(scheduling, counters)?),
            ..self
        })
    }

    /// Runs the model on named inputs, without blocking: engines have threads of their own for it. A model with state
    /// starts anew.
    ///
    /// # Errors
    /// `InvalidArgument` for inputs that do not fit; those of the engine; `Busy` where too many calls wait; `Timeout`
    /// when cancelled.
    pub async fn infer(
        &self,
        engine: &Engine,
        inputs: Vec<(String, Tensor)>,
        cancel: &Cancel,
    ) -> Result<Vec<Tensor>> {
        self.infer_for(engine, inputs, cancel.into()).await
    }

    /// [`Model::infer`] for somebody who may ask for a priority.
    pub(crate) async fn infer_for(
        &self,
        engine: &Engine,
        inputs: Vec<(String, Tensor)>,
        asker: Asker<'_>,
    ) -> Result<Vec<Tensor>> {
        let inputs = self.signature().arrange(inputs)?;
        let elsewhere = Elsewhere {
            threads: engine.threads(),
            places: Some(engine.slices()),
        };
        self.scheduler
            .run_elsewhere(elsewhere, (inputs, asker), &mut None)
            .await
    }

    /// What it has done since it was loaded; in a server, since that has it by this name.
    pub fn statistics(&self) -> Statistics {
        self.scheduler.statistics()
    }

    /// The outputs' names, to be handed out without a copy.
    pub(crate) fn output_names(&self) -> &[Arc<str>] {
        &self.output_names
    }

    /// The name it was registered by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The backend that runs it.
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// How its files were encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        self.scheduler.graph().signature()
    }

    /// Where it really runs.
    pub fn placement(&self) -> Placement {
        self.scheduler.graph().placement()
    }

    pub(crate) fn scheduler(&self) -> &Arc<Scheduler> {
        &self.scheduler
    }
}

/// Names and their models, shared by all instances.
#[derive(Clone, Default)]
pub struct Registry {
    models: HashMap<String, Arc<Model>>,
    /// Names of models that the host has and that these instances were not granted.
    withheld: HashSet<String>,
    /// Names of models that these instances were granted and that are not loaded now.
    held: HashSet<String>,
}

impl Registry {
    /// Adds a model under its own name, and `NAME#info` beside it, which says in JSON what the signature and
    /// the manifest of its files say. The first model is also `default`.
    ///
    /// # Errors
    /// `InvalidArgument` if the name is taken.
    pub fn add(&mut self, model: Model, files: Option<&ModelFiles>) -> Result<Arc<Model>> {
        let model = Arc::new(model);
        let name = model.name.clone();
        if self.models.contains_key(&name) && name != DEFAULT_NAME || self.is_own_default(&name) {
            let message = format!("two models have the name `{name}`");
            return Err(Error::new(ErrorKind::InvalidArgument, message)
                .with_hint("name one of them: --model NAME=REF"));
        }
        let information = Arc::new(info::model(&model, files)?);
        self.enter(&model, &information);
        Ok(model)
    }

    /// Has guests that ask for this name told that they were not granted it.
    pub(crate) fn withhold(&mut self, name: &str) {
        self.withheld.insert(name.to_owned());
    }

    /// Keeps the place of a model that is not loaded now: guests that ask for it are told so, and no other becomes
    /// `default` for it.
    pub(crate) fn hold(&mut self, name: &str) {
        if self.has_no_default() || name == DEFAULT_NAME {
            self.models.remove(DEFAULT_NAME);
            self.models.remove(&info::name_of(DEFAULT_NAME));
            self.held.insert(DEFAULT_NAME.to_owned());
        }
        self.held.insert(name.to_owned());
    }

    /// Adds a model with its information.
    pub(crate) fn enter(&mut self, model: &Arc<Model>, information: &Arc<Model>) {
        let name = &model.name;
        if self.has_no_default() || name == DEFAULT_NAME {
            self.held.remove(DEFAULT_NAME);
            self.insert(DEFAULT_NAME, model, information);
        }
        self.insert(name, model, information);
    }

    fn has_no_default(&self) -> bool {
        !self.models.contains_key(DEFAULT_NAME) && !self.held.contains(DEFAULT_NAME)
    }

    /// The model of this name.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are; `Security` for a model that was not granted; `Busy` for one that is not
    /// loaded now.
    pub fn get(&self, name: &str) -> Result<Arc<Model>> {
        self.models.get(name).cloned().ok_or_else(|| {
            if self.withheld.contains(info::without_suffix(name)) {
                let message = format!(
                    "the model `{name}` was not granted to this guest: {}",
                    self.names()
                );
                return Error::new(ErrorKind::Security, message)
                    .with_hint("name it among the guest's `models`");
            }
            if self.held.contains(info::without_suffix(name)) {
                let message = format!("the model `{name}` is not ready: it is not loaded");
                return Error::new(ErrorKind::Busy, message);
            }
            let name = infer_core::clip(name);
            Error::new(
                ErrorKind::NotFound,
                format!("no model is named `{name}`: {}", self.names()),
            )
            .with_hint("give the host --model NAME=REF")
        })
    }

    fn insert(&mut self, name: &str, model: &Arc<Model>, information: &Arc<Model>) {
        self.models.insert(name.to_owned(), model.clone());
        self.models.insert(info::name_of(name), information.clone());
    }

    /// Whether a model was registered as `default` itself, not only for being the first.
    fn is_own_default(&self, name: &str) -> bool {
        name == DEFAULT_NAME
            && self
                .models
                .get(name)
                .is_some_and(|model| model.name == DEFAULT_NAME)
    }

    fn names(&self) -> String {
        let mut names: Vec<String> = self
            .models
            .keys()
            .filter(|name| !info::is_info(name))
            .map(|name| format!("`{name}`"))
            .collect();
        if names.is_empty() {
            return "the host has no models".to_owned();
        }
        names.sort();
        let more = names.len().saturating_sub(MOST_NAMES);
        names.truncate(MOST_NAMES);
        let more = if more > 0 {
            format!(" or one of {more} more")
        } else {
            String::new()
        };
        format!("expected {}{more}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use infer_models::{ModelRef, ModelStore};

    use super::*;
    use crate::backends::Backends;

    static BACKENDS: LazyLock<Backends> = LazyLock::new(Backends::built_in);

    /// A model and its information.
    fn model(name: &str) -> [Arc<Model>; 2] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/testdata");
        let reference = format!("{name}={folder}/identity-f32.onnx");
        let reference: ModelRef = reference.parse().expect("a path");
        let files = reference.open(&ModelStore::at("no-store"));
        let (mut registry, selection) = (Registry::default(), crate::Selection::default());
        let files = files.expect("a model");
        crate::open_model(&BACKENDS, &files, &selection, &mut registry).expect("tract runs it");
        [name, &info::name_of(name)].map(|name| registry.get(name).expect("it is there"))
    }

    #[test]
    fn no_other_model_is_the_default_while_the_first_is_away() {
        let [second, information] = model("second");
        let mut registry = Registry::default();
        registry.hold("first");
        registry.enter(&second, &information);
        let kind = |name: &str| registry.get(name).map(|_| ()).map_err(|error| error.kind());
        for away in ["first", "first#info", "default", "default#info"] {
            assert_eq!(kind(away), Err(ErrorKind::Busy), "{away}");
        }
        assert_eq!(kind("second"), Ok(()));
        assert_eq!(kind("third"), Err(ErrorKind::NotFound));
        // One that has that name is it, whenever it comes.
        let [own, information] = model(DEFAULT_NAME);
        registry.enter(&own, &information);
        assert_eq!(
            registry.get(DEFAULT_NAME).expect("its own").name(),
            DEFAULT_NAME
        );
        registry.hold(DEFAULT_NAME);
        assert!(registry.get(DEFAULT_NAME).is_err());
    }
}
