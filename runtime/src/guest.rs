//! A guest, compiled and link-checked once, and its runs.
//!
//! A run makes a store and an instance on a thread that is its own meanwhile, where engine calls may block, and watches
//! its deadline from outside: the guest is interrupted between instructions, waiting is dropped, engines are
//! asked to stop, and what does not stop is abandoned.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use infer_core::{Cancel, Error, ErrorKind, Result};
use tokio::sync::Notify;
use wasmtime::component::Component;
use wasmtime::{Module, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

use crate::backends::Backends;
use crate::cache::{GuestCache, Key};
use crate::compiled;
use crate::config::{Grants, Limits};
use crate::deadlines::Noted;
use crate::engine::Engine;
use crate::host::Host;
use crate::nn::state::NnState;
use crate::nn::types;
use crate::nn::usage::Usage;
use crate::registry::Registry;
use crate::threads;

/// Stack of the thread that polls a guest, in bytes; the guest itself runs on a stack of wasmtime's.
const THREAD_STACK: usize = 2 << 20;

/// How long an engine that was asked to stop may take before its thread is abandoned.
const GRACE: Duration = Duration::from_millis(30);

/// A guest that is ready to run.
pub struct Guest {
    engine: Engine,
    program: Program,
    /// Whether it knows dtypes that wasi-nn does not name.
    more_dtypes: bool,
}

#[derive(Clone)]
enum Program {
    Component(CommandPre<Host>),
    Module(wasmtime::InstancePre<Host>),
}

/// What one run is given.
pub struct Instance {
    /// The guest's arguments; the first is its own name.
    pub args: Vec<String>,
    /// What it may reach.
    pub grants: Grants,
    /// What it may use.
    pub limits: Limits,
    /// The models that it reaches by name.
    pub registry: Arc<Registry>,
    /// The engines for models that it loads itself.
    pub backends: Arc<Backends>,
    /// Standard input.
    pub stdin: Box<dyn StdinStream + Sync>,
    /// Standard output.
    pub stdout: Box<dyn StdoutStream + Sync>,
    /// Standard error.
    pub stderr: Box<dyn StdoutStream + Sync>,
}

impl Instance {
    /// An instance that reaches models and nothing else, with empty input, its output thrown away, and the
    /// default limits.
    pub fn new(args: Vec<String>, registry: Arc<Registry>, backends: Arc<Backends>) -> Instance {
        Instance {
            args,
            grants: Grants::default(),
            limits: Limits::default(),
            registry,
            backends,
            stdin: Box::new(tokio::io::empty()),
            stdout: Box::new(tokio::io::empty()),
            stderr: Box::new(tokio::io::empty()),
        }
    }
}

/// How a run ended, and what it used.
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The books of the instance, closed by now unless a thread was abandoned.
    pub usage: Arc<Usage>,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// The guest ended by itself with this status.
    Exited(u32),
    /// It was stopped at its deadline.
    TimedOut(Duration),
    /// It trapped, or used up its fuel.
    Trapped(Error),
    /// The host could not run it.
    Failed(Error),
}

impl Guest {
    /// Compiles a component or a core module, told apart by content, and checks that everything it imports
    /// is there.
    ///
    /// # Errors
    /// `InvalidEncoding` for bytes that are no valid guest, `UnsupportedOperation` for imports that the host
    /// does not have.
    pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Guest> {
        let wasmtime = engine.wasmtime();
        let invalid = |error| {
            Error::new(
                ErrorKind::InvalidEncoding,
                "the guest is not valid WebAssembly",
            )
            .with_source(text(&error))
        };
        match compiled::kind(bytes)? {
            compiled::Kind::Component => Guest::of_component(
                engine,
                &Component::from_binary(wasmtime, bytes).map_err(invalid)?,
            ),
            compiled::Kind::Module => Guest::of_module(
                engine,
                &Module::from_binary(wasmtime, bytes).map_err(invalid)?,
            ),
            compiled::Kind::Compiled => Err(Guest::untrusted()),
        }
    }

    /// The same guest, out of a cache if it is there, else compiled and kept there. A cache that cannot be read or
    /// written costs the time to compile and nothing else.
    ///
    /// # Errors
    /// Those of [`Guest::compile`].
    pub fn compile_cached(engine: &Engine, bytes: &[u8], cache: &GuestCache) -> Result<Guest> {
        let kind = compiled::kind(bytes)?;
        if kind == compiled::Kind::Compiled {
            return Err(Guest::untrusted());
        }
        let key = Key::of(engine, bytes);
        let map = |file| {
            compiled::map(engine, kind, file)
                .inspect_err(|error| tracing::info!("a compiled guest is not used: {error:#}"))
                .ok()
        };
        if let Some(mapped) = cache.find(&key).and_then(map) {
            tracing::debug!("the guest was compiled before");
            return Guest::of_compiled(engine, &mapped);
        }
        let code = compiled::compile(engine, bytes)?;
        let kept = cache
            .keep(&key, &code)
            .inspect_err(|error| tracing::info!("the compiled guest is not kept: {error}"));
        match kept.ok().and_then(map) {
            Some(mapped) => Guest::of_compiled(engine, &mapped),
            None => Guest::trust_compiled(engine, &code),
        }
    }

    pub(crate) fn untrusted() -> Error {
        let message = "the guest is compiled code, which runs with all rights of the host";
        Error::new(ErrorKind::Security, message).with_hint(
            "give --allow-precompiled if you trust whoever compiled it as you trust infer itself",
        )
    }

    /// Takes what [`crate::compile`] made. The bytes are native code that runs with the rights of this
    /// process: only their version, processor and settings are checked.
    ///
    /// # Errors
    /// `InvalidEncoding` for bytes that are not compiled code, `UnsupportedOperation` for code of another
    /// version, processor or settings.
    pub fn trust_compiled(engine: &Engine, bytes: &[u8]) -> Result<Guest> {
        Guest::of_compiled(engine, &compiled::trust(engine, bytes)?)
    }

    fn of_compiled(engine: &Engine, compiled: &compiled::Compiled) -> Result<Guest> {
        match compiled {
            compiled::Compiled::Component(component) => Guest::of_component(engine, component),
            compiled::Compiled::Module(module) => Guest::of_module(engine, module),
        }
    }

    fn of_component(engine: &Engine, component: &Component) -> Result<Guest> {
        let instance = engine
            .components()?
            .instantiate_pre(component)
            .map_err(|error| not_linked(&error))?;
        let command = CommandPre::new(instance).map_err(|error| {
            Error::new(
                ErrorKind::UnsupportedOperation,
                "the component is no command: it does not export `wasi:cli/run`",
            )
            .with_source(text(&error))
            .with_hint("build it as a program with a `main` for wasm32-wasip2")
        })?;
        Ok(Guest {
            engine: engine.clone(),
            program: Program::Component(command),
            more_dtypes: component
                .component_type()
                .imports(engine.wasmtime())
                .any(|(name, _)| name == types::TENSOR_TYPES),
        })
    }

    fn of_module(engine: &Engine, module: &Module) -> Result<Guest> {
        if module
            .get_export("_start")
            .and_then(|export| export.func().cloned())
            .is_none()
        {
            let message = "the module is no command: it does not export the function `_start`";
            return Err(Error::new(ErrorKind::UnsupportedOperation, message)
                .with_hint("build it as a program with a `main` for wasm32-wasip1"));
        }
        let instance = engine
            .modules()?
            .instantiate_pre(module)
            .map_err(|error| not_linked(&error))?;
        Ok(Guest {
            engine: engine.clone(),
            program: Program::Module(instance),
            // The ABI hands out bytes, and says no dtype of any.
            more_dtypes: true,
        })
    }

    /// Runs the guest in a new instance, to its end or its deadline. Must be called within a tokio runtime
    /// that has its timers enabled.
    pub async fn run(&self, instance: Instance) -> Outcome {
        let usage = Usage::new(&instance.limits);
        let end = self
            .run_elsewhere(instance, usage.clone())
            .await
            .unwrap_or_else(End::Failed);
        Outcome { end, usage }
    }

    /// The same on the thread that polls this, which saves handing the guest to another: for callers that have threads
    /// for guests. Engine calls block the thread. At the deadline all is done that [`Guest::run`] does, but an engine
    /// that does not stop keeps the thread until it ends.
    pub async fn run_here(&self, instance: Instance) -> Outcome {
        let usage = Usage::new(&instance.limits);
        let running = async {
            let run = self.prepare(instance, usage.clone())?;
            Ok(run.drive().await)
        };
        let end = caught(running).await.unwrap_or_else(End::Failed);
        Outcome { end, usage }
    }

    async fn run_elsewhere(&self, instance: Instance, usage: Arc<Usage>) -> Result<End> {
        let run = self.prepare(instance, usage)?;
        let (stop, timeout) = (run.stop.clone(), run.limits.timeout);
        let mut unwatched = Unwatched {
            engine: self.engine.clone(),
            stop: Some(stop.clone()),
        };
        let runtime = tokio::runtime::Handle::current();
        let work = move || runtime.block_on(run.drive());
        let running = self.engine.threads().run("infer-guest", THREAD_STACK, work);
        let ended = tokio::select! {
            biased;
            ended = running => ended,
            () = stop.abandoned.notified() => Ok(End::TimedOut(timeout.unwrap_or_default())),
        };
        unwatched.stop = None;
        ended
    }

    fn prepare(&self, instance: Instance, usage: Arc<Usage>) -> Result<Run> {
        let (limits, stop) = (instance.limits.clone(), Arc::new(Stop::default()));
        let store = self.store(instance, usage, stop.cancel.clone())?;
        let stopped = stop.clone();
        let deadline = self.at(limits.timeout, move |engine| {
            let (threads, engine) = (engine.threads().clone(), engine.clone());
            let work = {
                let (stopped, engine) = (stopped.clone(), engine.clone());
                move || stopped.now(&engine)
            };
            // An engine that blocks when it is asked to stop holds up no other's deadline.
            if threads.detach(work).is_err() {
                stopped.now(&engine);
            }
        })?;
        let given_up = stop.clone();
        let grace = limits.timeout.map(|timeout| timeout.saturating_add(GRACE));
        let late = self.at(grace, move |engine| {
            // Again: wasmtime reads the epoch anew after it has asked whether to stop, and may have missed the first.
            engine.wasmtime().increment_epoch();
            given_up.abandoned.notify_one();
        })?;
        Ok(Run {
            program: self.program.clone(),
            store,
            limits,
            stop,
            _deadlines: [deadline, late],
        })
    }

    /// Has `act` called after some time; not at all where that is further away than time goes.
    fn at(
        &self,
        after: Option<Duration>,
        act: impl FnOnce(&Engine) + Send + 'static,
    ) -> Result<Option<Noted>> {
        let time = after.and_then(|after| Instant::now().checked_add(after));
        let engine = self.engine.clone();
        let noted = time.map(|time| self.engine.deadlines().at(time, move || act(&engine)));
        noted.transpose()
    }

    fn store(&self, instance: Instance, usage: Arc<Usage>, cancel: Cancel) -> Result<Store<Host>> {
        let wasi = wasi(&instance.args, &instance.grants)?
            .stdin(instance.stdin)
            .stdout(instance.stdout)
            .stderr(instance.stderr)
            .build_p1();
        let limits = instance.limits;
        let nn = NnState {
            registry: instance.registry,
            backends: instance.backends,
            grants: instance.grants,
            usage,
            cancel: cancel.clone(),
            threads: self.engine.threads().clone(),
            more_dtypes: self.more_dtypes,
        };
        let host = Host::new(wasi, nn, limits.memory, limits.handles);
        let mut store = Store::new(self.engine.wasmtime(), host);
        store.limiter(|host| &mut host.memory);
        // No list that a guest passes is larger than its memory; parts of one may overlap.
        store.set_hostcall_fuel(limits.memory.saturating_mul(2));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| match cancel.is_cancelled() {
            true => Ok(UpdateDeadline::Interrupt),
            // The deadline of another instance.
            false => Ok(UpdateDeadline::Continue(1)),
        });
        match (self.engine.config().fuel, limits.fuel) {
            (true, fuel) => {
                let set = store.set_fuel(fuel.unwrap_or(u64::MAX));
                set.map_err(|error| failed("cannot set the fuel", &error))?;
            }
            (false, None) => {}
            (false, Some(_)) => {
                let message =
                    "fuel is limited, but this engine does not count it (`EngineConfig::fuel`)";
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        }
        Ok(store)
    }
}

fn wasi(args: &[String], grants: &Grants) -> Result<WasiCtxBuilder> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(args).envs(&grants.env);
    for dir in &grants.dirs {
        wasi.preopened_dir(&dir.host, &dir.guest, dir.permissions())
            .map_err(|error| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("cannot open the folder `{}`", dir.host.display()),
                )
                .with_source(text(&error))
                .with_hint("--dir takes HOST[::GUEST][:ro], where HOST is a folder that exists")
            })?;
    }
    if grants.network {
        wasi.inherit_network().allow_ip_name_lookup(true);
    }
    Ok(wasi)
}

/// How an instance is stopped.
#[derive(Default)]
struct Stop {
    cancel: Cancel,
    /// Its time is up.
    due: Notify,
    /// It was given time to end, and has not.
    abandoned: Notify,
}

impl Stop {
    fn now(&self, engine: &Engine) {
        // A permit is kept for a guest that does not wait at this moment.
        self.due.notify_one();
        self.cancel.cancel();
        engine.wasmtime().increment_epoch();
    }
}

/// Stops an instance that nobody waits for any more, because the future of its run was dropped.
struct Unwatched {
    engine: Engine,
    stop: Option<Arc<Stop>>,
}

impl Drop for Unwatched {
    fn drop(&mut self) {
        let Some(stop) = self.stop.take() else {
            return;
        };
        let engine = self.engine.clone();
        let stopping = stop.clone();
        let detached = self.engine.threads().detach(move || stopping.now(&engine));
        if detached.is_err() {
            stop.now(&self.engine);
        }
    }
}

/// An instance that is ready to start.
struct Run {
    program: Program,
    store: Store<Host>,
    limits: Limits,
    stop: Arc<Stop>,
    _deadlines: [Option<Noted>; 2],
}

impl Run {
    async fn drive(mut self) -> End {
        let due = End::TimedOut(self.limits.timeout.unwrap_or_default());
        let call = start(&self.program, &mut self.store);
        let result = tokio::select! {
            biased;
            result = call => result,
            // Ends waiting, for input say; the epoch and the engine's own stop end everything else.
            () = self.stop.due.notified() => return due,
        };
        let refused = self.store.data().memory.refused;
        if result.is_ok() && refused {
            let limit = self.limits.memory;
            tracing::warn!(
                "the guest was refused memory beyond its limit of {limit} bytes (--max-memory)"
            );
        }
        let timed_out = self.limits.timeout.is_some() && self.stop.cancel.is_cancelled();
        match result {
            _ if timed_out => due,
            Ok(status) => End::Exited(status),
            Err(error) if error.is::<I32Exit>() => End::Exited(
                error
                    .downcast_ref::<I32Exit>()
                    .map_or(1, |exit| exit.0.cast_unsigned()),
            ),
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                End::Failed(pool_is_full(&error))
            }
            Err(error) => End::Trapped(trapped(&error, &self.limits, refused)),
        }
    }
}

/// A panic of the host's as an error, as it is on a guest's own thread.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(threads::panicked())))
    })
    .await
}

/// Instantiates and calls the program; gives its status.
async fn start(program: &Program, store: &mut Store<Host>) -> wasmtime::Result<u32> {
    match program {
        Program::Component(command) => {
            let command = command.instantiate_async(&mut *store).await?;
            Ok(match command.wasi_cli_run().call_run(store).await? {
                Ok(()) => 0,
                Err(()) => 1,
            })
        }
        Program::Module(module) => {
            let instance = module.instantiate_async(&mut *store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
            start.call_async(store, ()).await?;
            Ok(0)
        }
    }
}

fn trapped(error: &wasmtime::Error, limits: &Limits, memory_refused: bool) -> Error {
    let cause = error.root_cause();
    let trap = error.downcast_ref::<Trap>().copied();
    let message = match (trap, limits.fuel) {
        (Some(Trap::OutOfFuel), Some(fuel)) => {
            format!("the guest used up its {fuel} units of fuel")
        }
        _ => format!("the guest trapped: {cause}"),
    };
    let mut trapped = Error::new(ErrorKind::RuntimeError, message);
    if let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        trapped = trapped.with_source(backtrace.to_string().trim_end().to_owned());
    }
    match (trap, memory_refused) {
        (Some(Trap::OutOfFuel), _) => trapped.with_hint("give it more with --fuel"),
        (_, true) => trapped.with_hint(format!(
            "before that it was refused memory beyond its limit of {} bytes: raise --max-memory",
            limits.memory
        )),
        _ => trapped,
    }
}

fn pool_is_full(error: &wasmtime::Error) -> Error {
    let message = "the engine runs as many instances as it was made for";
    Error::new(ErrorKind::RuntimeError, message)
        .with_source(text(error))
        .with_hint("start fewer at one time, or raise `EngineConfig::instances`")
}

fn not_linked(error: &wasmtime::Error) -> Error {
    Error::new(
        ErrorKind::UnsupportedOperation,
        "the guest imports what infer does not have",
    )
    .with_source(text(error))
    .with_hint("infer has WASI 0.2 (`wasi:cli` and what it needs), WASI preview1 and wasi-nn")
}

fn failed(message: &str, error: &wasmtime::Error) -> Error {
    Error::new(ErrorKind::RuntimeError, message).with_source(text(error))
}

/// wasmtime's chain of causes on one line.
pub(crate) fn text(error: &wasmtime::Error) -> String {
    let chain: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
    chain.join(": ")
}
