//! The models of a server, and its guests that are models: loaded, reloaded and unloaded while requests go on.
//!
//! A change makes a new set of names; requests that run keep what they began with. Each guest sees the models that it
//! was granted, and no guests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use infer_core::{Arithmetic, Device, Error, ErrorKind, Result, clip};
use infer_models::{ModelStore, check_name};

use crate::backends::Backends;
use crate::engine::Engine;
use crate::guest::{Guest, Role};
use crate::registry::Registry;
use crate::scheduler::{Counters, Statistics};
use crate::serve::config::{GuestConfig, ModelConfig, ServeConfig};
use crate::serve::counters::Requests;
use crate::serve::guests::ServedGuest;
use crate::serve::served::{GUEST_PLATFORM, Served};
use crate::spans;

/// What stands in the protocol in the place of a name.
const STATISTICS: &str = "stats";

/// The models, by the names that they are served under.
pub(crate) struct Repository {
    engine: Engine,
    backends: Arc<Backends>,
    store: ModelStore,
    entries: Vec<Entry>,
    /// One per guest.
    views: Vec<Arc<View>>,
    /// Held while the models are changed.
    changing: Mutex<()>,
    prepare: fn(&Engine, &GuestConfig) -> Result<Guest>,
    after_change: fn(),
}

/// A model that the server was given, whether or not it is loaded.
pub(crate) struct Entry {
    name: String,
    source: Source,
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

/// What a model is made of.
enum Source {
    Files(Box<ModelConfig>),
    Guest(Arc<ServedGuest>),
}

impl Placed {
    fn of(served: &Served) -> Placed {
        let Some(model) = served.model() else {
            // The guest itself; where its models run, these say.
            return Placed {
                backend: GUEST_PLATFORM,
                device: Device::Cpu.to_string(),
                precision: Arithmetic::F32.to_string(),
            };
        };
        let placement = model.placement();
        Placed {
            backend: model.backend(),
            device: placement.device.to_string(),
            precision: placement.precision.to_string(),
        }
    }
}

/// What became of a model.
#[derive(Clone)]
pub(crate) enum Stage {
    Unloaded,
    /// For the first time, or about to be; one that is reloaded stays ready.
    Loading,
    Ready(Arc<Ready>),
    Failed(Arc<Error>),
}

/// A loaded model.
pub(crate) struct Ready {
    pub(crate) model: Served,
}

/// The names that a guest was granted, all where absent, and its models now.
pub(crate) struct View {
    granted: Option<Vec<String>>,
    registry: RwLock<Arc<Registry>>,
}

impl View {
    /// Without models until a repository knows it.
    pub(crate) fn new(granted: Option<Vec<String>>) -> View {
        View {
            granted,
            registry: RwLock::default(),
        }
    }

    /// The models that its guest reaches now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        let registry = self.registry.read();
        registry.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, entries: &[Entry]) {
        let mut registry = Registry::default();
        let models = entries.iter().filter(|entry| entry.is_model());
        for entry in models {
            let granted = self.granted.as_ref();
            if granted.is_some_and(|names| !names.contains(&entry.name)) {
                registry.withhold(&entry.name);
                continue;
            }
            match entry.stage() {
                Stage::Ready(ready) => {
                    if let Served::Model(model, information) = &ready.model {
                        registry.enter(model, information);
                    }
                }
                Stage::Loading | Stage::Unloaded | Stage::Failed(_) => registry.hold(&entry.name),
            }
        }
        let mut current = self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(registry);
    }
}

impl Repository {
    /// A repository in which nothing is loaded yet. Guests that are models come after the models, which they may need to
    /// describe themselves.
    ///
    /// # Errors
    /// `InvalidArgument` for two models of one name, a guest among them, and for a granted name that no model has.
    pub(crate) fn new(
        engine: Engine,
        (backends, store): (Arc<Backends>, ModelStore),
        config: &ServeConfig,
        guests: &[Arc<ServedGuest>],
    ) -> Result<Repository> {
        let mut entries: Vec<Entry> = Vec::new();
        for config in &config.models {
            // A model that cannot be found yet may come, under the name that it was given.
            let name = match (config.reference.resolve(&store), &config.reference.name) {
                (Ok(files), _) => files.name,
                (Err(_), Some(name)) => name.clone(),
                (Err(error), None) => return Err(error),
            };
            add(&mut entries, name, Source::Files(Box::new(config.clone())))?;
        }
        for guest in guests {
            check_granted(
                &guest.config.name,
                guest.config.models.iter().flatten(),
                &entries,
            )?;
        }
        for guest in guests.iter().filter(|guest| guest.role() == Role::Model) {
            let name = guest.config.name.clone();
            check_name(&name)?;
            add(&mut entries, name, Source::Guest(guest.clone()))?;
        }
        let repository = Repository {
            engine,
            backends,
            store,
            entries,
            views: guests.iter().map(|guest| guest.view.clone()).collect(),
            changing: Mutex::default(),
            prepare: config.prepare,
            after_change: config.after_change,
        };
        repository.change_views();
        Ok(repository)
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

    /// Whether a request for it can be answered now: a guest needs the models that it was granted by name, too.
    pub(crate) fn can_answer(&self, entry: &Entry) -> bool {
        let needed = match &entry.source {
            Source::Files(_) => None,
            Source::Guest(guest) => guest.config.models.as_ref(),
        };
        let is_ready = |entry: &Entry| matches!(entry.stage(), Stage::Ready(_));
        let mut needed = needed.into_iter().flatten();
        is_ready(entry) && needed.all(|name| self.entry(name).is_ok_and(is_ready))
    }

    /// Loads a model, or loads it anew and puts that in the old one's place; a guest describes itself. Blocks, on a
    /// thread of a tokio runtime's that may.
    ///
    /// # Errors
    /// `NotFound` for an unknown name; those of loading. A model that was ready stays so where the new one fails, one that
    /// was unloaded too.
    pub(crate) fn load(&self, name: &str) -> Result<()> {
        let entry = self.entry(name)?;
        let _span = spans::load(name).entered();
        let _changing = self.changing();
        let before = entry.stage();
        if matches!(before, Stage::Failed(_)) {
            entry.set(Stage::Loading);
        }
        match self.loaded(entry, &before) {
            Ok(ready) => {
                entry.set(Stage::Ready(Arc::new(ready)));
                drop(before);
                self.change_views();
                (self.after_change)();
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                match before {
                    // It is as it was, and the server as ready: one that somebody unloaded need not be there.
                    Stage::Ready(_) | Stage::Unloaded => {}
                    Stage::Loading | Stage::Failed(_) => entry.set(Stage::Failed(error.clone())),
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
        (self.after_change)();
        Ok(())
    }

    fn loaded(&self, entry: &Entry, before: &Stage) -> Result<Ready> {
        Ok(Ready {
            model: match &entry.source {
                Source::Files(config) => {
                    let calls = entry.calls.clone();
                    Served::load(&self.backends, (&self.store, config), calls)?
                }
                Source::Guest(guest) => {
                    let program = match before {
                        // It was prepared when the server started.
                        Stage::Loading => guest.program(),
                        _ => self.prepare(guest)?,
                    };
                    let described = Served::describe(guest, program.clone(), entry.calls.clone())?;
                    guest.replace(program);
                    described
                }
            },
        })
    }

    fn prepare(&self, guest: &ServedGuest) -> Result<Arc<Guest>> {
        guest.prepare_anew(|config| (self.prepare)(&self.engine, config))
    }

    /// Reads a guest's file anew, for requests that come from now on; one that is a model is loaded instead. Blocks.
    ///
    /// # Errors
    /// Those of reading and compiling. The guest stays as it was then.
    pub(crate) fn renew(&self, guest: &ServedGuest) -> Result<()> {
        // Of two at once, the last that reads the file is the one that stays.
        let _changing = self.changing();
        guest.replace(self.prepare(guest)?);
        (self.after_change)();
        Ok(())
    }

    /// Makes anew what guests see.
    fn change_views(&self) {
        for view in &self.views {
            view.change(&self.entries);
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

    /// Whether it is no guest.
    fn is_model(&self) -> bool {
        matches!(self.source, Source::Files(_))
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its settings, where it is no guest.
    pub(crate) fn config(&self) -> Option<&ModelConfig> {
        match &self.source {
            Source::Files(config) => Some(config),
            Source::Guest(_) => None,
        }
    }

    /// What became of all calls, and how many wait now.
    pub(crate) fn statistics(&self) -> Statistics {
        match self.stage() {
            Stage::Ready(ready) => match ready.model.model() {
                Some(model) => model.statistics(),
                None => self.calls.read(0),
            },
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
            *self.placed.write().unwrap_or_else(PoisonError::into_inner) =
                Some(Arc::new(Placed::of(&ready.model)));
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
            // Why may name files of the server, which its clients have no business with.
            Stage::Failed(_) => {
                let message = format!(
                    "the model `{name}` is not ready: it could not be loaded, as the server's log says"
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

fn add(entries: &mut Vec<Entry>, name: String, source: Source) -> Result<()> {
    if name == STATISTICS {
        let message = "a served model cannot have the name `stats`: `/v2/models/stats` is what is said of all";
        return Err(
            Error::new(ErrorKind::InvalidArgument, message).with_hint(match source {
                Source::Files(_) => "name it: --model NAME=REF",
                Source::Guest(_) => "give the guest's file, or its table, another name",
            }),
        );
    }
    if entries.iter().any(|entry| entry.name == name) {
        let message = format!("two models have the name `{name}`");
        return Err(
            Error::new(ErrorKind::InvalidArgument, message).with_hint(match source {
                Source::Files(_) => "name one of them: --model NAME=REF",
                Source::Guest(_) => "one is a guest: name the model (--model NAME=REF)",
            }),
        );
    }
    entries.push(Entry {
        name,
        source,
        stage: RwLock::new(Stage::Loading),
        requests: Requests::default(),
        calls: Arc::default(),
        placed: RwLock::default(),
    });
    Ok(())
}

/// Fails for a name that no model has.
fn check_granted<'a>(
    guest: &str,
    mut granted: impl Iterator<Item = &'a String>,
    entries: &[Entry],
) -> Result<()> {
    let known = |name: &&String| entries.iter().all(|entry| entry.name != **name);
    let Some(name) = granted.find(known) else {
        return Ok(());
    };
    let names: Vec<String> = entries.iter().map(|e| format!("`{}`", e.name)).collect();
    let message = format!(
        "the guest `{guest}` is granted the model `{name}`, which the server does not have: expected {}",
        names.join(", ")
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}
