//! The command line of `infer serve`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueHint};
use infer::serve::config::GuestConfig;
use infer::values::{parse_address, parse_any_duration, parse_duration, parse_size};

use crate::args::values::{parse_count, parse_number};
use crate::args::{BatchingArgs, GrantArgs, ModelArgs, SelectionArgs};

/// Serve models and guests to many clients.
///
/// Models are served by the Open Inference Protocol (KServe v2): REST below /v2 of the HTTP address, and gRPC. A guest
/// that answers HTTP requests has all other paths, and a new instance for each request. Several guests, and what
/// each may reach and use, are said in a file (--config).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  infer serve --model efficientnet-lite0
  infer serve classify-http.wasm --model efficientnet-lite0
  infer serve --model opennsfw-dynamic --max-batch 8 --max-delay 2ms
  infer serve --config infer.toml --http 0.0.0.0:8000
  curl -s localhost:8000/v2/models/efficientnet-lite0

Signals:
  SIGTERM, SIGINT  not ready at once; requests in flight end (--grace), then exit 0. The second one ends it at once
  SIGHUP           load all models anew and swap them in

Exit status:
  0    stopped by a signal, in order
  2    wrong usage
  125  it cannot start: an address that is taken, a model that cannot be loaded, ...",
    group = ArgGroup::new("served").args(["guest", "models", "config"]).multiple(true).required(true)
)]
pub(crate) struct ServeArgs {
    /// A guest: a component that answers HTTP requests (it exports `wasi:http/incoming-handler`) or is a model
    /// (`infer:nn/transform`)
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) guest: Option<PathBuf>,
    /// Models, guests and settings in a file; what the command line says goes before it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) models: ModelArgs,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) batching: BatchingArgs,
    #[command(flatten)]
    pub(crate) serving: ServingArgs,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    #[command(flatten)]
    pub(crate) limits: InstanceArgs,
}

/// Where it listens.
#[derive(Debug, Args)]
#[command(next_help_heading = "Addresses")]
pub(crate) struct ListenArgs {
    /// HTTP [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) http: Option<SocketAddr>,
    /// gRPC [default: 127.0.0.1:8001]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) grpc: Option<SocketAddr>,
    /// Metrics, health and a page for operators [default: 127.0.0.1:8002]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
    /// A certificate in PEM, for HTTP and gRPC
    #[arg(long, value_name = "FILE", requires = "tls_key", value_hint = ValueHint::FilePath)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,
}

/// How it serves.
#[derive(Debug, Args)]
#[command(next_help_heading = "Serving")]
pub(crate) struct ServingArgs {
    /// Requests that may wait for a model; more are refused at once [default: 1024]
    #[arg(long, value_name = "NUMBER", value_parser = parse_number::<usize>)]
    pub(crate) queue: Option<usize>,
    /// Run each model once on made-up inputs before it is ready
    #[arg(long)]
    pub(crate) warm_up: bool,
    /// Let requests load and unload models
    #[arg(long)]
    pub(crate) allow_model_control: bool,
    /// Who may: requests that carry the bearer token that this file holds
    #[arg(long, value_name = "FILE", requires = "allow_model_control", value_hint = ValueHint::FilePath)]
    pub(crate) admin_token: Option<PathBuf>,
    /// Start although models cannot be loaded yet; that is tried again and again, and they are not ready until then
    #[arg(long)]
    pub(crate) lazy: bool,
    /// How long requests in flight may take when it is told to stop [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_any_duration)]
    pub(crate) grace: Option<Duration>,
    /// How long it still takes connections when it is told to stop, already not ready [default: 0]
    #[arg(long, value_name = "TIME", value_parser = parse_any_duration)]
    pub(crate) drain: Option<Duration>,
    /// The largest body of a request [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_body: Option<u64>,
    /// Connections at one time; more wait [default: 4096]
    #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// How long a request to a model may take, its wait included [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) request_timeout: Option<Duration>,
    /// Write a line to the log for each request, as -v does
    #[arg(long)]
    pub(crate) access_log: bool,
    /// Where traces are sent by OTLP over gRPC: http://localhost:4317, say [default: nowhere]
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub(crate) otlp: Option<String>,
}

/// What one instance of a guest may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of the guest")]
pub(crate) struct InstanceArgs {
    /// How long a request to it may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Units of fuel, about one per instruction [default: none]
    #[arg(long, value_name = "UNITS", value_parser = parse_number::<u64>)]
    pub(crate) fuel: Option<u64>,
    /// An instance's own memory
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    pub(crate) max_memory: u64,
    /// What the host holds for an instance at one time: tensors, contexts and models of its own
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    pub(crate) max_tensor_bytes: u64,
    /// Graphs, contexts, tensors and errors of an instance at one time
    #[arg(long, value_name = "NUMBER", default_value_t = infer::Limits::HANDLES, value_parser = parse_number::<u64>)]
    pub(crate) max_handles: u64,
    /// Instances at one time
    #[arg(long, value_name = "NUMBER", default_value_t = GuestConfig::CONCURRENCY, value_parser = parse_count)]
    pub(crate) max_instances: NonZeroUsize,
    /// Requests that may wait for an instance; more are refused at once
    #[arg(long, value_name = "NUMBER", default_value_t = GuestConfig::QUEUE, value_parser = parse_number::<usize>)]
    pub(crate) max_waiting: usize,
}
