//! A guest, compiled and link-checked once, and its runs.
//!
//! A run makes a store and an instance on a thread of its own, where engine calls may block, and watches
//! its deadline from outside: the guest is interrupted between instructions, waiting is dropped, engines are
//! asked to stop, and what does not stop is abandoned.

use std::sync::Arc;
use std::time::Duration;

use infer_core::{Cancel, Error, ErrorKind, Result};
use wasmtime::component::Component;
use wasmtime::{Module, Store, Trap, UpdateDeadline};
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

use crate::backends::Backends;
use crate::compiled;
use crate::config::{Grants, Limits};
use crate::engine::Engine;
use crate::host::Host;
use crate::nn::state::NnState;
use crate::nn::types;
use crate::nn::usage::Usage;
use crate::registry::Registry;

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
        match compiled::trust(engine, bytes)? {
            compiled::Compiled::Component(component) => Guest::of_component(engine, &component),
            compiled::Compiled::Module(module) => Guest::of_module(engine, &module),
        }
    }

    fn of_component(engine: &Engine, component: &Component) -> Result<Guest> {
        let instance = engine
            .components()
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
            .modules()
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
            .run_to_end(instance, usage.clone())
            .await
            .unwrap_or_else(End::Failed);
        Outcome { end, usage }
    }

    async fn run_to_end(&self, instance: Instance, usage: Arc<Usage>) -> Result<End> {
        let (limits, cancel) = (instance.limits.clone(), Cancel::default());
        let timeout = limits.timeout;
        let store = self.store(instance, usage, cancel.clone())?;
        let (program, runtime) = (self.program.clone(), tokio::runtime::Handle::current());
        let stopped = cancel.clone();
        let work = move || runtime.block_on(execute(&program, store, &limits, &stopped));
        let running = self.engine.threads().run("infer-guest", THREAD_STACK, work);
        tokio::pin!(running);
        let Some(timeout) = timeout else {
            return running.await;
        };
        if let Ok(ended) = tokio::time::timeout(timeout, &mut running).await {
            return ended;
        }
        cancel.cancel();
        self.engine.wasmtime().increment_epoch();
        // Whether it stops in time or is abandoned: its time was up.
        let _ = tokio::time::timeout(GRACE, running).await;
        Ok(End::TimedOut(timeout))
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

async fn execute(
    program: &Program,
    mut store: Store<Host>,
    limits: &Limits,
    cancel: &Cancel,
) -> End {
    let call = start(program, &mut store);
    let result = match limits.timeout {
        // Ends waiting, for input say; the watcher ends everything else.
        Some(timeout) => match tokio::time::timeout(timeout, call).await {
            Ok(result) => result,
            Err(_) => return End::TimedOut(timeout),
        },
        None => call.await,
    };
    if result.is_ok() && store.data().memory.refused {
        let limit = limits.memory;
        tracing::warn!(
            "the guest was refused memory beyond its limit of {limit} bytes (--max-memory)"
        );
    }
    match (result, limits.timeout) {
        (Ok(status), _) => End::Exited(status),
        (Err(error), _) if error.is::<I32Exit>() => End::Exited(
            error
                .downcast_ref::<I32Exit>()
                .map_or(1, |exit| exit.0.cast_unsigned()),
        ),
        (Err(_), Some(timeout)) if cancel.is_cancelled() => End::TimedOut(timeout),
        (Err(error), _) => End::Trapped(trapped(&error, limits, store.data().memory.refused)),
    }
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
