//! `infer serve`: models and guests for many clients.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use infer::serve::config::{
    GuestConfig, ModelConfig, ModelControl, ServeConfig, ServerLimits, TlsFiles,
};
use infer::serve::{ServeFile, Server, Traces, engine_config, worker_threads};
use infer::{Engine, Guest, Limits, Scheduling, Selection};
use infer_core::{Device, Error, ErrorKind};
use infer_models::ModelStore;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Verbosity;
use crate::args::serve::ServeArgs;
use crate::run::{granted_device, open_cache, prepare_guest};
use crate::status::Status;
use crate::{logging, memory, output, tune};

/// How long requests in flight may take when the server is told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// How long the last traces may take to be sent when the server has ended.
const LAST_TRACES: Duration = Duration::from_secs(5);

pub(crate) fn serve(args: ServeArgs, verbosity: &Verbosity) -> anyhow::Result<Status> {
    memory::keep();
    raise_descriptors();
    let file = match &args.config {
        Some(path) => ServeFile::read(path),
        None => Ok(ServeFile::default()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let said = file
        .as_ref()
        .ok()
        .and_then(|file| file.server.otlp.as_ref());
    let traces = args.serving.otlp.as_ref().or(said).map(|collector| {
        let _within = runtime.enter();
        Traces::to(collector)
    });
    let traces = traces.transpose();
    logging::start(verbosity, traces.as_ref().ok().and_then(Option::as_ref));
    let (file, traces) = (file?, traces?);
    let backends = Arc::new(args.selection.backends()?);
    let mut config = config(&args, &file, &backends)?;
    config.access_log |= verbosity.verbose > 0;
    anyhow::ensure!(
        !config.models.is_empty() || !config.guests.is_empty(),
        "expected models or guests in the file: there is nothing to serve"
    );
    let engine = Engine::new(&engine_config(&config.guests))?;
    let guests = config.guests.iter().map(|guest| prepare(&engine, guest));
    let guests: Vec<Guest> = guests.collect::<anyhow::Result<_>>()?;
    let grace = config.grace;
    let served = runtime.block_on(async {
        // One that comes while models are loaded ends nothing.
        let mut hangup = signal(SignalKind::hangup())?;
        let server = Server::start(config, (engine, guests), backends).await?;
        say_where(&server)?;
        let reload = server.reloader();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload();
            }
        });
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        server
            .run(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tokio::spawn(async move {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    output::warn("stopped at once by a second signal");
                    std::process::exit(Status::Failure.code().into());
                });
            })
            .await;
        anyhow::Ok(())
    });
    // The runtime still runs, which sends them.
    if let Some(traces) = traces {
        traces.end(LAST_TRACES.min(grace));
    }
    served?;
    // Engines that do not let go of their threads hold nothing up.
    runtime.shutdown_background();
    Ok(Status::Success)
}

/// Takes as many descriptors as the system allows: each connection and each file that a guest opens is one.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it cannot be raised, there are as many as there are.
    let _ = setrlimit(Resource::Nofile, all);
}

fn say_where(server: &Server) -> anyhow::Result<()> {
    for (what, address) in server.addresses()? {
        tracing::info!(target: "infer::addresses", "{what} on {address}");
    }
    Ok(())
}

fn prepare(engine: &Engine, guest: &GuestConfig) -> anyhow::Result<Guest> {
    let cache = open_cache(&guest.grants.dirs);
    prepare_guest(engine, &guest.path, guest.allow_precompiled, cache.as_ref())
}

fn prepare_anew(engine: &Engine, guest: &GuestConfig) -> infer_core::Result<Guest> {
    prepare(engine, guest)
        .map_err(|error| Error::new(ErrorKind::RuntimeError, format!("{error:#}")))
}

/// What the command line says, before what the file says.
fn config(
    args: &ServeArgs,
    file: &ServeFile,
    backends: &infer::Backends,
) -> anyhow::Result<ServeConfig> {
    let selection = Selection {
        scheduling: Scheduling {
            queue: args.serving.queue.unwrap_or(Scheduling::default().queue),
            ..args.batching.scheduling()
        },
        ..args.selection.selection()?
    };
    let device = granted_device(backends, &selection)?;
    let mut guests: Vec<GuestConfig> = args
        .guest
        .iter()
        .map(|path| guest(args, path, (device, &selection)))
        .collect();
    guests.extend(file.guests(&selection)?);
    let mut models = models(args, backends, &selection)?;
    models.extend(file.models(&selection)?);
    let (listen, serving, server) = (&args.listen, &args.serving, &file.server);
    let limits = ServerLimits::default();
    let local = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let certificate = listen.tls_cert.clone().or(server.tls_cert.clone());
    let key = listen.tls_key.clone().or(server.tls_key.clone());
    let token = serving.admin_token.as_ref().or(server.admin_token.as_ref());
    let control = serving.allow_model_control || server.allow_model_control.unwrap_or(false);
    // Where it is said to be off, that is meant.
    let control_is_said = control || server.allow_model_control.is_some();
    anyhow::ensure!(
        control_is_said || token.is_none(),
        "expected `allow-model-control` beside `admin-token`, got the token alone"
    );
    Ok(ServeConfig {
        http: listen.http.or(server.http).unwrap_or(local(8000)),
        grpc: Some(listen.grpc.or(server.grpc).unwrap_or(local(8001))),
        metrics: Some(listen.metrics.or(server.metrics).unwrap_or(local(8002))),
        tls: match (certificate, key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => anyhow::bail!("expected `tls-cert` and `tls-key` together, got one of them"),
        },
        models,
        guests,
        model_control: match control {
            true => ModelControl::On(token.map(|path| read_token(path)).transpose()?),
            false => ModelControl::Off,
        },
        lazy: serving.lazy || server.lazy.unwrap_or(false),
        grace: serving.grace.or(server.grace).unwrap_or(GRACE),
        drain: serving.drain.or(server.drain).unwrap_or_default(),
        limits: ServerLimits {
            connections: serving
                .max_connections
                .or(server.max_connections)
                .map_or(limits.connections, usize::from),
            body: serving.max_body.or(server.max_body).unwrap_or(limits.body),
            timeout: serving
                .request_timeout
                .or(server.request_timeout)
                .unwrap_or(limits.timeout),
            ..limits
        },
        access_log: serving.access_log || server.access_log.unwrap_or(false),
        prepare: prepare_anew,
        after_change: memory::give_back,
    })
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token `{}`", path.display()))?;
    let token = text.trim();
    anyhow::ensure!(
        !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()),
        "expected a token of printable characters in `{}`",
        path.display()
    );
    Ok(token.to_owned())
}

fn models(
    args: &ServeArgs,
    backends: &infer::Backends,
    selection: &Selection,
) -> anyhow::Result<Vec<ModelConfig>> {
    if args.models.models.is_empty() {
        return Ok(Vec::new());
    }
    let (store, tuned) = (ModelStore::from_environment()?, args.selection.tuned()?);
    let models = args.models.models.iter().map(|reference| {
        let selection = match reference.resolve(&store) {
            Ok(files) => {
                tune::selection(tuned.as_ref(), selection, (&files, backends)).into_owned()
            }
            // What is wrong is said when it is loaded.
            Err(_) => selection.clone(),
        };
        Ok(ModelConfig {
            reference: reference.clone(),
            selection,
            warm_up: args.serving.warm_up,
        })
    });
    models.collect()
}

fn guest(
    args: &ServeArgs,
    path: &Path,
    (device, selection): (Option<Device>, &Selection),
) -> GuestConfig {
    let devices = [Device::Cpu].into_iter().chain(device).collect();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let limits = &args.limits;
    GuestConfig {
        name: name.into_owned(),
        path: path.to_owned(),
        allow_precompiled: args.grants.allow_precompiled,
        route: "/".to_owned(),
        models: None,
        grants: args.grants.grants(devices, selection),
        limits: Limits {
            timeout: Some(limits.timeout),
            fuel: limits.fuel,
            memory: usize::try_from(limits.max_memory).unwrap_or(usize::MAX),
            tensor_bytes: limits.max_tensor_bytes,
            handles: limits.max_handles,
        },
        concurrency: limits.max_instances,
        queue: limits.max_waiting,
    }
}
