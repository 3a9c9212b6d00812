//! What an operator says about a server: plain values, no command line and no file format.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use infer_core::Result;
use infer_models::ModelRef;

use crate::config::{Grants, Limits, Selection};
use crate::engine::Engine;
use crate::guest::Guest;

/// A server: where it listens, what it serves, and its limits.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where HTTP is answered: guests, and the Open Inference Protocol under `/v2`.
    pub http: SocketAddr,
    /// Where the Open Inference Protocol is answered by gRPC; nowhere where absent.
    pub grpc: Option<SocketAddr>,
    /// Where metrics, health and the page for operators are; nowhere where absent.
    pub metrics: Option<SocketAddr>,
    /// Certificate and key for HTTP and gRPC; plain text where absent.
    pub tls: Option<TlsFiles>,
    /// The models.
    pub models: Vec<ModelConfig>,
    /// The guests.
    pub guests: Vec<GuestConfig>,
    /// Whether models may be loaded and unloaded by requests, and by whom.
    pub model_control: ModelControl,
    /// Whether the server starts where a model or guest cannot be loaded, and reports it unready.
    pub lazy: bool,
    /// How long requests in flight may take when the server is told to stop.
    pub grace: Duration,
    /// How long connections are still taken when the server is told to stop, already not ready.
    pub drain: Duration,
    /// Limits of connections and requests.
    pub limits: ServerLimits,
    /// Whether each request gets a line in the log, target `infer::access`.
    pub access_log: bool,
    /// Makes a guest of its file when it is loaded anew.
    pub prepare: fn(&Engine, &GuestConfig) -> Result<Guest>,
    /// Called when a model was loaded or taken away, on that thread, for a program that gives freed memory back.
    pub after_change: fn(),
}

/// A certificate chain and its private key, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificates, the server's own first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Whether requests may load and unload models.
#[derive(Clone, Default)]
pub enum ModelControl {
    /// No.
    #[default]
    Off,
    /// Those that carry this bearer token; where absent, all.
    On(Option<String>),
}

impl std::fmt::Debug for ModelControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ModelControl::Off => "off",
            ModelControl::On(None) => "on",
            // The token stays out of logs.
            ModelControl::On(Some(_)) => "on, with a token",
        })
    }
}

/// Limits of connections and requests, whatever they ask for.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at one time; more wait to be taken.
    pub connections: usize,
    /// A request's body in bytes.
    pub body: u64,
    /// How long a request to a model may take, its body and its wait in the queue included.
    pub timeout: Duration,
    /// How long a client may take to say its first request's head.
    pub head_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            connections: 4096,
            body: 64 << 20,
            timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(30),
        }
    }
}

/// A model that is served.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// Which, and by what name.
    pub reference: ModelRef,
    /// On which engine and device, and how its calls are scheduled.
    pub selection: Selection,
    /// Whether it runs once on made-up inputs before it is ready.
    pub warm_up: bool,
}

/// A guest that is served.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// Its name, in logs and metrics; as a model, the model's name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Whether the file may be compiled code, which is trusted as infer itself.
    pub allow_precompiled: bool,
    /// The path below which it answers HTTP requests: `/`, or `/classify`. One that is a model has no use for it.
    pub route: String,
    /// The models that it reaches by name; all where absent.
    pub models: Option<Vec<String>>,
    /// What else it may reach.
    pub grants: Grants,
    /// What one instance may use. A request has no longer than the timeout.
    pub limits: Limits,
    /// How many instances there may be at one time.
    pub concurrency: NonZeroUsize,
    /// How many requests may wait for one; more are refused at once.
    pub queue: usize,
}

impl GuestConfig {
    /// The default of [`GuestConfig::concurrency`].
    pub const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(64).expect("above 0");
    /// The default of [`GuestConfig::queue`].
    pub const QUEUE: usize = 1024;
    /// The default time of a request.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// The default memory of an instance in bytes.
    pub const MEMORY: usize = 256 << 20;
}
