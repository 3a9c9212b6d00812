//! `infer run`: opens models, compiles the guest, runs it once.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use infer::{
    Backends, DeviceChoice, DirGrant, End, Engine, EngineConfig, Guest, GuestCache, Instance,
    Model, Registry, Selection,
};
use infer_core::Device;
use infer_models::ModelStore;

use crate::args::{ModelArgs, RunArgs, SelectionArgs};
use crate::status::Status;
use crate::stdio::Stdout;
use crate::tune;
use crate::{memory, output};

/// What compiling a guest that has a timeout may take at least; its own time starts when it starts.
const COMPILATION: Duration = Duration::from_secs(10);

/// How long a message may take that nobody reads.
const LAST_WORDS: Duration = Duration::from_millis(30);

pub(crate) fn run(args: RunArgs) -> anyhow::Result<Status> {
    if !args.models.models.is_empty() {
        memory::use_large_pages();
    }
    let backends = Arc::new(args.selection.backends()?);
    let selection = args.selection.selection()?;
    let device = granted_device(&backends, &selection)?;
    let compiling = Compiling::start(&args)?;
    let registry = open_models((&args.models, &args.selection), &backends, &selection);
    let Some(guest) = compiling.wait()? else {
        return Ok(timed_out(
            "the guest took too long to compile (--timeout)".to_owned(),
        ));
    };
    let (registry, models) = registry?;
    // The process ends with the guest: giving the models' memory back piece by piece would only take time.
    std::mem::forget(models);
    memory::join_what_is_free();
    let instance = instance(args, (device, selection), registry, backends)?;
    // It does input, output and timers on this thread: the guest has one of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
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

/// A guest that is compiled on a thread of its own where something goes on beside it: the opening of models, or a clock,
/// since what may run for a limited time only may also compile for a limited time only.
struct Compiling {
    guest: mpsc::Receiver<anyhow::Result<Guest>>,
    until: Option<Instant>,
}

impl Compiling {
    fn start(args: &RunArgs) -> anyhow::Result<Compiling> {
        let (sender, guest) = mpsc::channel();
        let alone = args.models.models.is_empty() && args.limits.timeout.is_none();
        let (path, trusted) = (args.guest.clone(), args.grants.allow_precompiled);
        let (keep, dirs) = (!args.no_cache, args.grants.dirs.clone());
        let config = EngineConfig {
            fuel: args.limits.fuel.is_some(),
            ..EngineConfig::default()
        };
        let prepare = move || {
            let engine = Engine::new(&config)?;
            let cache = keep.then(|| open_cache(&dirs)).flatten();
            prepare_guest(&engine, &path, trusted, cache.as_ref())
        };
        // Nobody waits for a guest that takes too long.
        let prepare = move || drop(sender.send(prepare()));
        match alone {
            true => prepare(),
            false => {
                let started = std::thread::Builder::new().spawn(prepare);
                drop(started.context("cannot start a thread")?);
            }
        }
        let until = args
            .limits
            .timeout
            .map(|timeout| Instant::now() + timeout.max(COMPILATION));
        Ok(Compiling { guest, until })
    }

    /// The guest, or nothing if its time was up.
    fn wait(self) -> anyhow::Result<Option<Guest>> {
        let Some(until) = self.until else {
            return self.guest.recv()?.map(Some);
        };
        match self
            .guest
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok(guest) => guest.map(Some),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

pub(crate) fn prepare_guest(
    engine: &Engine,
    path: &Path,
    trusted: bool,
    cache: Option<&GuestCache>,
) -> anyhow::Result<Guest> {
    let bytes = read_guest(path)?;
    let prepare = || match (infer::kind(&bytes), cache) {
        (Ok(infer::Kind::Compiled), _) if trusted => Guest::trust_compiled(engine, &bytes),
        (_, Some(cache)) => Guest::compile_cached(engine, &bytes, cache),
        (_, None) => Guest::compile(engine, &bytes),
    };
    let guest = match bytes.len() < LARGE_GUEST {
        true => prepare(),
        false => saying_so(path, prepare),
    };
    guest.with_context(|| format!("cannot use the guest `{}`", path.display()))
}

/// The least bytes of a guest that may take long to compile: interpreters of other languages take seconds.
const LARGE_GUEST: usize = 1 << 20;

/// How long a guest is compiled before that is said.
const LONG: Duration = Duration::from_secs(1);

/// Does it, and says so where it takes long.
fn saying_so<T>(path: &Path, prepare: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        let say = move || {
            if let Err(mpsc::RecvTimeoutError::Timeout) = is_done.recv_timeout(LONG) {
                tracing::info!(
                    target: "infer::compiling",
                    "compiling the guest `{}`, which takes seconds if it is large",
                    path.display()
                );
            }
        };
        // Without the thread it is not said.
        let _ = std::thread::Builder::new().spawn_scoped(scope, say);
        let prepared = prepare();
        drop(done);
        prepared
    })
}

/// Whether a guest that is granted this folder could change compiled guests.
fn reaches_the_cache(dir: &DirGrant) -> bool {
    let Some(cache) = GuestCache::user_folder() else {
        return false;
    };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (dir, cache, read_only) = (real(&dir.host), real(&cache), dir.read_only);
    !read_only && (cache.starts_with(&dir) || dir.starts_with(&cache))
}

/// The user's cache of compiled guests, for one that is granted these folders. Without it guests start later and no worse.
pub(crate) fn open_cache(granted: &[DirGrant]) -> Option<GuestCache> {
    // A guest that can write the cache's folder could put native code there.
    if granted.iter().any(reaches_the_cache) {
        return None;
    }
    let cache = GuestCache::open(&GuestCache::user_folder()?);
    cache
        .inspect_err(|error| tracing::info!("compiled guests are not kept: {}", error.report()))
        .ok()
}

/// The most bytes of a guest: more than any compiler makes, so that what has no end is not read for ever.
const LARGEST_GUEST: u64 = 1 << 30;

/// The bytes of a guest.
pub(crate) fn read_guest(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || {
        let (file, mut bytes) = (File::open(path)?, Vec::new());
        let length = file.metadata()?.len().min(LARGEST_GUEST);
        bytes.try_reserve_exact(length as usize)?;
        file.take(LARGEST_GUEST + 1).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let bytes = read().with_context(|| format!("cannot read the guest `{}`", path.display()))?;
    anyhow::ensure!(
        bytes.len() as u64 <= LARGEST_GUEST,
        "expected a guest of at most {}, got more in `{}`",
        output::bytes(LARGEST_GUEST),
        path.display()
    );
    Ok(bytes)
}

/// The device that a guest may load models of its own on, beside the processor. One that cannot be used is an error,
/// whether or not there are models to run on it.
pub(crate) fn granted_device(
    backends: &Backends,
    selection: &Selection,
) -> anyhow::Result<Option<Device>> {
    match selection.device {
        // No engine is opened to find that out.
        DeviceChoice::Auto | DeviceChoice::Exactly(Device::Cpu) => Ok(None),
        choice => Ok(Some(backends.device(selection.backend.as_deref(), choice)?)),
    }
}

/// Opens models; gives them by name, and in the order in which they were named.
pub(crate) fn open_models(
    (models, choice): (&ModelArgs, &SelectionArgs),
    backends: &Backends,
    selection: &Selection,
) -> anyhow::Result<(Registry, Vec<Arc<Model>>)> {
    let (mut registry, mut opened) = (Registry::default(), Vec::new());
    if models.models.is_empty() {
        return Ok((registry, opened));
    }
    let store = ModelStore::from_environment()?;
    let tuned = choice.tuned()?;
    for reference in &models.models {
        let model = reference.open(&store).and_then(|files| {
            let selection = tune::selection(tuned.as_ref(), selection, (&files, backends));
            infer::open_model(backends, &files, &selection, &mut registry)
        });
        opened.push(model.with_context(|| format!("cannot open the model `{reference}`"))?);
    }
    Ok((registry, opened))
}

fn instance(
    args: RunArgs,
    (device, engine): (Option<Device>, Selection),
    registry: Registry,
    backends: Arc<Backends>,
) -> anyhow::Result<Instance> {
    let name = args
        .guest
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let devices = [Device::Cpu].into_iter().chain(device).collect();
    Ok(Instance {
        args: std::iter::once(name).chain(args.args).collect(),
        grants: args.grants.grants(devices, &engine),
        limits: args.limits.limits(),
        registry: Arc::new(registry),
        backends,
        stdin: Box::new(tokio::io::stdin()),
        stdout: Box::new(Stdout),
        stderr: Box::new(tokio::io::stderr()),
        permit: None,
        request_id: String::new(),
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
        End::TimedOut(timeout) => Ok(timed_out(format!(
            "the guest was stopped at its timeout of {timeout:?} (--timeout)"
        ))),
        End::Trapped(error) => {
            output::report(&error.into());
            Ok(Status::Trap)
        }
        End::Failed(error) => Err(error.into()),
    }
}

/// Says that the guest's time was up. A reader of stderr that is stuck holds nothing up.
fn timed_out(message: String) -> Status {
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        output::report(&anyhow::anyhow!(message));
        let _ = sender.send(());
    });
    let _ = said.recv_timeout(LAST_WORDS);
    Status::Timeout
}
