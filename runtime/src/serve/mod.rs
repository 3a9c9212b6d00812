//! A server: models by the Open Inference Protocol, guests by HTTP, one scheduler for both.
//!
//! The life of a request to a guest: `listen` takes the connection, `guests` finds the guest by the path and waits for
//! a place (`admission`), an instance answers it. To a model: `v2` reads the tensors and hands them to the model's
//! scheduler. Models come, change and go in `repository`.

mod access;
mod admission;
pub mod config;
mod counters;
mod errors;
mod fate;
mod file;
mod guests;
mod lingering;
mod listen;
mod log;
mod metrics;
mod page;
mod patience;
mod repository;
mod served;
mod trace;
mod v2;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use infer_core::{Error, ErrorKind, Result};
use infer_models::ModelStore;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backends::Backends;
use crate::config::EngineConfig;
use crate::engine::Engine;
use crate::guest::{Guest, Role};
use access::Watch;
use admission::Admission;
use config::{GuestConfig, ServeConfig};
use counters::Connections;
use errors::LastErrors;
pub use file::ServeFile;
use guests::{Guests, ServedGuest};
use listen::Listening;
use repository::{Repository, Stage};
pub use trace::Traces;

/// What the pool keeps of an instance's memory, in bytes: a tensor of a picture, read twice.
const KEPT_MEMORY: usize = 4 << 20;

/// How long is waited before models that could not be loaded are tried again: at first, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How many requests that change models may wait.
const MOST_CHANGES: usize = 64;

/// What listens, by its name in logs and metrics.
const HTTP: &str = "HTTP";
const GRPC: &str = "gRPC";
const METRICS: &str = "metrics";
const SOCKETS: [&str; 3] = [HTTP, GRPC, METRICS];

/// A server that has its sockets, its models and its guests.
pub struct Server {
    state: Arc<State>,
    work: Vec<Listening>,
    metrics: Option<Listening>,
}

/// What all requests share.
pub(crate) struct State {
    pub(crate) config: ServeConfig,
    pub(crate) repository: Repository,
    pub(crate) guests: Guests,
    pub(crate) started: Instant,
    pub(crate) errors: Arc<LastErrors>,
    /// What listens, and the connections there.
    pub(crate) sockets: Vec<(&'static str, Arc<Connections>)>,
    /// Requests that change models, one after the other.
    pub(crate) changes: Admission,
    stopping: AtomicBool,
}

impl State {
    /// What requests on a socket are watched with.
    fn watch(&self, what: &str) -> Watch {
        let connections = self.sockets.iter().find(|(name, _)| *name == what);
        Watch {
            connections: connections.map_or_else(Arc::default, |(_, found)| found.clone()),
            errors: self.errors.clone(),
            // Whoever reads figures every second would fill the log and the traces.
            log: self.config.access_log && what != METRICS,
            trace: what != METRICS,
        }
    }

    /// Whether everything that shall be there is, and the server is not about to stop.
    pub(crate) fn is_ready(&self) -> bool {
        let there = |stage| matches!(stage, Stage::Ready(_) | Stage::Unloaded);
        let mut entries = self.repository.entries().iter();
        !self.stopping.load(Ordering::Relaxed) && entries.all(|entry| there(entry.stage()))
    }
}

/// The engine settings for these guests: a pool with room for all of their instances.
pub fn engine_config(guests: &[GuestConfig]) -> EngineConfig {
    let instances: usize = guests.iter().map(|guest| guest.concurrency.get()).sum();
    EngineConfig {
        fuel: guests.iter().any(|guest| guest.limits.fuel.is_some()),
        instances: (instances > 0).then(|| u32::try_from(instances).unwrap_or(u32::MAX)),
        kept_memory: KEPT_MEMORY,
        on_runtime: worker_threads() - 1,
    }
}

/// How many threads the runtime of a server should have; guests take all but one of them.
pub fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2))
}

impl Server {
    /// Binds the sockets and loads the models. The guests, in the order of the configuration, are of an engine of
    /// [`engine_config`].
    ///
    /// # Errors
    /// What is wrong with an address, a certificate, a route, a name; unless `lazy`, with a model or a guest that is one.
    pub async fn start(
        config: ServeConfig,
        (engine, guests): (Engine, Vec<Guest>),
        backends: Arc<Backends>,
    ) -> Result<Server> {
        let tls = config.tls.as_ref().map(listen::tls).transpose()?;
        let http = listen::bind(config.http, "--http").await?;
        let grpc = match config.grpc {
            Some(address) => Some(listen::bind(address, "--grpc").await?),
            None => None,
        };
        let metrics = match config.metrics {
            Some(address) => Some(listen::bind(address, "--metrics").await?),
            None => None,
        };
        let errors = Arc::default();
        let guests = config.guests.iter().cloned().zip(guests);
        let guests = Guests::new(guests, (&backends, &errors))?;
        let repository = Repository::new(
            engine,
            (backends, ModelStore::from_environment()?),
            &config,
            guests.all(),
        )?;
        let state = Arc::new(State {
            guests,
            repository,
            started: Instant::now(),
            errors,
            sockets: SOCKETS.map(|what| (what, Arc::default())).to_vec(),
            changes: Admission::new("the control of models", 1, MOST_CHANGES),
            stopping: AtomicBool::new(false),
            config,
        });
        if !state.config.lazy {
            load_all(&state).await?;
        }
        let guests = state.clone();
        let http = Listening {
            what: HTTP,
            watch: state.watch(HTTP),
            listener: http,
            tls: tls.clone(),
            router: v2::router(state.clone())
                .fallback(move |request| guests::handle(guests.clone(), request)),
        };
        let grpc = grpc.map(|listener| Listening {
            what: GRPC,
            watch: state.watch(GRPC),
            listener,
            tls,
            router: v2::grpc_router(state.clone()),
        });
        let metrics = metrics.map(|listener| Listening {
            what: METRICS,
            watch: state.watch(METRICS),
            listener,
            tls: None,
            router: operators(&state),
        });
        Ok(Server {
            work: std::iter::once(http).chain(grpc).collect(),
            metrics,
            state,
        })
    }

    /// Where it listens, and for what.
    ///
    /// # Errors
    /// `RuntimeError` where the system does not say.
    pub fn addresses(&self) -> Result<Vec<(&'static str, SocketAddr)>> {
        let all = self.work.iter().chain(&self.metrics);
        let addresses = all.map(|listening| Ok((listening.what, listening.listener.local_addr()?)));
        addresses.collect::<std::io::Result<_>>().map_err(|error| {
            let message = "the system does not say an address";
            Error::new(ErrorKind::RuntimeError, message).with_source(error)
        })
    }

    /// Loads all models and guests anew and swaps them in; one that fails stays as it was, with a word in the log.
    pub fn reloader(&self) -> impl Fn() + Send + Sync + 'static {
        let state = self.state.clone();
        move || {
            let state = state.clone();
            tokio::spawn(async move {
                let renewed = renew_guests(&state).await;
                if load_all(&state).await.and(renewed).is_ok() {
                    tracing::info!("all models and guests were loaded anew");
                }
            });
        }
    }

    /// Answers requests until `stop` comes, then is not ready, and ends when those in flight have ended or their time
    /// is up.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Server {
            state,
            work,
            metrics,
        } = self;
        let (stop_work, stopping) = watch::channel(false);
        let (stop_metrics, stopping_metrics) = watch::channel(false);
        let limits = state.config.limits.clone();
        let mut working = JoinSet::new();
        for listening in work {
            working.spawn(listen::serve(listening, limits.clone(), stopping.clone()));
        }
        let mut watching = JoinSet::new();
        if let Some(listening) = metrics {
            watching.spawn(listen::serve(
                listening,
                limits.clone(),
                stopping_metrics.clone(),
            ));
        }
        if state.config.lazy {
            tokio::spawn(load_until_all_are_there(state.clone()));
        }
        stop.await;
        state.stopping.store(true, Ordering::Relaxed);
        tracing::info!("stopping: not ready, requests in flight go on");
        tokio::time::sleep(state.config.drain).await;
        // Whether anybody listens does not matter.
        let _ = stop_work.send(true);
        let ended = tokio::time::timeout(state.config.grace, working.join_all()).await;
        if ended.is_err() {
            let grace = state.config.grace;
            tracing::warn!("requests were cut off that went on after {grace:?} (--grace)");
        }
        let _ = stop_metrics.send(true);
        // Nobody waits long for figures of a server that has stopped.
        let _ = tokio::time::timeout(listen::LAST_WORDS, watching.join_all()).await;
    }
}

/// Loads every model, and again and again those that cannot be loaded yet.
async fn load_until_all_are_there(state: Arc<State>) {
    let mut pause = SHORTEST_PAUSE;
    let mut said = BTreeMap::new();
    let _ = load_all(&state).await;
    loop {
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
        let mut done = true;
        for entry in state.repository.entries() {
            if state.stopping.load(Ordering::Relaxed) {
                return;
            }
            // Whoever changes models meanwhile may have unloaded it.
            let before = match entry.stage() {
                Stage::Failed(error) => error,
                Stage::Loading => {
                    done = false;
                    continue;
                }
                Stage::Ready(_) | Stage::Unloaded => continue,
            };
            let name = entry.name();
            let Err(error) = load(&state, name).await else {
                tracing::info!("model `{name}` is loaded now");
                continue;
            };
            done = false;
            // Once for each reason, since it is tried often.
            let report = error.report();
            let last = said.insert(name.to_owned(), report.clone());
            if report != last.unwrap_or_else(|| before.report()) {
                tracing::error!("model `{name}` cannot be loaded: {report}");
            }
        }
        if done {
            return;
        }
    }
}

/// Loads a model on a thread that may block.
async fn load(state: &Arc<State>, name: &str) -> Result<()> {
    let (loading, name) = (state.clone(), name.to_owned());
    on_blocking_thread(move || loading.repository.load(&name)).await
}

/// Loads every model.
async fn load_all(state: &Arc<State>) -> Result<()> {
    let mut first = Ok(());
    for entry in state.repository.entries() {
        if let Err(error) = load(state, entry.name()).await {
            let name = entry.name();
            tracing::error!("model `{name}` cannot be loaded: {}", error.report());
            if first.is_ok() {
                let message = format!("cannot load the model `{name}`");
                first = Err(Error::new(error.kind(), message).with_source(error.report()));
            }
        }
    }
    first
}

/// Reads the files of all guests anew that answer requests.
async fn renew_guests(state: &Arc<State>) -> Result<()> {
    let mut first = Ok(());
    let answer = |guest: &&Arc<ServedGuest>| guest.role() == Role::Http;
    for guest in state.guests.all().iter().filter(answer) {
        let (renewing, renewed) = (state.clone(), guest.clone());
        let renew = move || renewing.repository.renew(&renewed);
        if let Err(error) = on_blocking_thread(renew).await {
            let name = &guest.config.name;
            tracing::error!("guest `{name}` stays as it was: {}", error.report());
            first = first.and(Err(error));
        }
    }
    first
}

async fn on_blocking_thread(load: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::RuntimeError, "loading failed").with_source(error))
    })
}

/// What operators ask for.
fn operators(state: &Arc<State>) -> Router {
    v2::health(state.clone())
        .merge(metrics::router(state.clone()))
        .merge(page::router(state.clone()))
}
