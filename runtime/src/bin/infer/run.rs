//! `infer run`: opens models, compiles the guest, runs it once.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use infer::{
    Backends, DeviceChoice, End, Engine, EngineConfig, Grants, Guest, Instance, Limits, Registry,
};
use infer_core::Device;
use infer_models::ModelStore;

use crate::args::RunArgs;
use crate::output;
use crate::status::Status;
use crate::stdio::Stdout;

/// Threads of the runtime, which only does input, output and timers: guests have threads of their own.
const RUNTIME_THREADS: usize = 1;

pub(crate) fn run(args: RunArgs) -> anyhow::Result<Status> {
    let backends = Arc::new(Backends::built_in());
    let selection = args.selection.selection();
    // A device that cannot be used is an error, whether or not there are models to run on it.
    let device = backends.device(selection.backend.as_deref(), selection.device)?;
    let (guest, registry) = std::thread::scope(|scope| {
        let guest = scope.spawn(|| prepare_guest(&args));
        let registry = open_models(&args, &backends);
        let guest = guest
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        anyhow::Ok((guest?, registry?))
    })?;
    let instance = instance(args, device, registry, backends)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(guest.run(instance));
    tracing::debug!(
        "the guest used at most {} for tensors and models, and {} handles",
        output::bytes(outcome.usage.peak_bytes()),
        outcome.usage.peak_handles()
    );
    // Threads of the runtime may still wait for input, which no one will use any more.
    runtime.shutdown_background();
    status(outcome.end)
}

fn prepare_guest(args: &RunArgs) -> anyhow::Result<Guest> {
    let engine = Engine::new(&EngineConfig {
        fuel: args.limits.fuel.is_some(),
    })?;
    let bytes = read_guest(&args.guest)?;
    let guest = match infer::kind(&bytes) {
        Ok(infer::Kind::Compiled) if args.grants.allow_precompiled => {
            Guest::trust_compiled(&engine, &bytes)
        }
        _ => Guest::compile(&engine, &bytes),
    };
    guest.with_context(|| format!("cannot use the guest `{}`", args.guest.display()))
}

/// The bytes of a guest.
pub(crate) fn read_guest(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the guest `{}`", path.display()))
}

fn open_models(args: &RunArgs, backends: &Backends) -> anyhow::Result<Registry> {
    let mut registry = Registry::default();
    if args.models.models.is_empty() {
        return Ok(registry);
    }
    let store = ModelStore::from_environment()?;
    let selection = args.selection.selection();
    for reference in &args.models.models {
        let opened = reference.open(&store).and_then(|files| {
            infer::open_model(backends, &files, &selection, &mut registry).map(drop)
        });
        opened.with_context(|| format!("cannot open the model `{reference}`"))?;
    }
    Ok(registry)
}

fn instance(
    args: RunArgs,
    device: Device,
    registry: Registry,
    backends: Arc<Backends>,
) -> anyhow::Result<Instance> {
    let name = args
        .guest
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut devices = vec![Device::Cpu];
    if args.selection.selection().device != DeviceChoice::Auto && device != Device::Cpu {
        devices.push(device);
    }
    Ok(Instance {
        args: std::iter::once(name).chain(args.args).collect(),
        grants: Grants {
            dirs: args.grants.dirs,
            env: args.grants.env,
            network: args.grants.net,
            load: args.grants.allow_load,
            devices,
        },
        limits: Limits {
            timeout: args.limits.timeout,
            fuel: args.limits.fuel,
            memory: usize::try_from(args.limits.max_memory).unwrap_or(usize::MAX),
            tensor_bytes: args.limits.max_tensor_bytes,
            handles: args.limits.max_handles,
        },
        registry: Arc::new(registry),
        backends,
        stdin: Box::new(tokio::io::stdin()),
        stdout: Box::new(Stdout),
        stderr: Box::new(tokio::io::stderr()),
    })
}

fn status(end: End) -> anyhow::Result<Status> {
    match end {
        End::Exited(status) => {
            let reserved = Status::of_guest(status);
            if reserved == Status::Reserved {
                let why = if status > 255 {
                    "no process can have"
                } else {
                    "infer keeps for itself"
                };
                output::report(&anyhow::anyhow!(
                    "the guest ended with status {status}, which {why} (`infer run --help`)"
                ));
            }
            Ok(reserved)
        }
        End::TimedOut(timeout) => {
            output::report(&anyhow::anyhow!(
                "the guest was stopped at its timeout of {timeout:?} (--timeout)"
            ));
            Ok(Status::Timeout)
        }
        End::Trapped(error) => {
            output::report(&error.into());
            Ok(Status::Trap)
        }
        End::Failed(error) => Err(error.into()),
    }
}
