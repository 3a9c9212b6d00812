//! A guest, compiled and link-checked once. What it exports says what it can be asked for: to run as a command
//! (`run`), to answer an HTTP request (`http`), or to be a model (`transform`).

mod http;
pub(crate) mod outgoing;
mod run;
mod transform;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use infer_core::{Error, ErrorKind, Result};
use wasmtime::Module;
use wasmtime::component::Component;
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::backends::Backends;
use crate::cache::{GuestCache, Key};
use crate::compiled;
use crate::config::{Grants, Limits};
use crate::engine::Engine;
use crate::host::Host;
use crate::nn::types;
use crate::nn::wit::Waits;
use crate::registry::Registry;
use crate::scheduler::Owner;

pub use run::{Answering, End, Outcome, Stopper};
use transform::{TRANSFORM, Transform};

/// What a component exports that answers HTTP requests.
const HTTP: &str = "wasi:http/incoming-handler@0.2.";

/// A guest that is ready to run.
pub struct Guest {
    engine: Engine,
    program: Program,
    /// Whether it knows dtypes that wasi-nn does not name.
    more_dtypes: bool,
    /// As whom its instances take turns with other guests.
    owner: Owner,
}

/// What can be asked of it.
#[derive(Clone)]
enum Program {
    /// To run: a component.
    Command(CommandPre<Host>),
    /// To run: a core module.
    Module(wasmtime::InstancePre<Host>),
    /// To answer a request.
    Http(ProxyPre<Host>),
    /// To be a model.
    Transform(Transform),
}

/// What a guest can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To run from its start to its end: it exports `wasi:cli/run`, or is a core module.
    Command,
    /// To answer HTTP requests: it exports `wasi:http/incoming-handler`.
    Http,
    /// To be a model: it exports `infer:nn/transform`.
    Model,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Command => "is a command",
            Role::Http => "answers HTTP requests",
            Role::Model => "is a model",
        })
    }
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
    /// What is dropped when the instance is gone for good: a permit, say. A thread that an engine keeps keeps it too.
    pub permit: Option<Box<dyn Any + Send>>,
    /// The id of the request that it answers, for the log.
    pub request_id: String,
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
            permit: None,
            request_id: String::new(),
        }
    }
}

impl Guest {
    /// What it can be asked for. Of a component that exports several, a model goes before a handler of requests, and
    /// that before a command.
    pub fn role(&self) -> Role {
        match &self.program {
            Program::Command(_) | Program::Module(_) => Role::Command,
            Program::Http(_) => Role::Http,
            Program::Transform(_) => Role::Model,
        }
    }

    /// Compiles a component or a core module, told apart by content, and checks that everything it imports
    /// is there.
    ///
    /// # Errors
    /// `InvalidEncoding` for bytes that are no valid guest, `UnsupportedOperation` for imports that the host
    /// does not have.
    pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Guest> {
        let wasmtime = engine.wasmtime();
        let refused = |error| compiled::refused(engine, bytes, &error);
        match compiled::kind(bytes)? {
            compiled::Kind::Component => Guest::of_component(
                engine,
                &Component::from_binary(wasmtime, bytes).map_err(refused)?,
            ),
            compiled::Kind::Module => Guest::of_module(
                engine,
                &Module::from_binary(wasmtime, bytes).map_err(refused)?,
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
        let ty = component.component_type();
        let exports = |start: &str| {
            let mut exports = ty.exports(engine.wasmtime());
            exports.any(|(name, _)| name.starts_with(start))
        };
        let answers = exports(HTTP);
        let waits = match answers || exports(TRANSFORM) {
            true => Waits::Suspended,
            false => Waits::Blocking,
        };
        let instance = engine
            .components(waits)?
            .instantiate_pre(component)
            .map_err(|error| not_linked(&error))?;
        let program = match Transform::of(component, &instance) {
            Some(transform) => Program::Transform(transform),
            None if answers => Program::Http(ProxyPre::new(instance).map_err(no_use)?),
            None => Program::Command(CommandPre::new(instance).map_err(no_use)?),
        };
        Ok(Guest {
            engine: engine.clone(),
            program,
            more_dtypes: ty
                .imports(engine.wasmtime())
                .any(|(name, _)| name == types::TENSOR_TYPES),
            owner: Owner::new(),
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
            owner: Owner::new(),
        })
    }
}

fn no_use(error: wasmtime::Error) -> Error {
    let message = "the component can be asked for nothing: it exports none of `wasi:cli/run`, \
                   `wasi:http/incoming-handler` and `infer:nn/transform`";
    Error::new(ErrorKind::UnsupportedOperation, message)
        .with_source(text(&error))
        .with_hint("build it as a program with a `main` for wasm32-wasip2, or for `infer serve` with a handler of requests or as a model")
}

fn not_linked(error: &wasmtime::Error) -> Error {
    Error::new(
        ErrorKind::UnsupportedOperation,
        "the guest imports what infer does not have",
    )
    .with_source(text(error))
    .with_hint(
        "infer has WASI 0.2 (`wasi:cli`, `wasi:http` and what they need), WASI preview1, and wasi-nn as \
         `wasi:nn@0.2.0-rc-2024-10-28` and `wasi_ephemeral_nn`",
    )
}

/// wasmtime's chain of causes on one line.
pub(crate) fn text(error: &wasmtime::Error) -> String {
    let chain: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
    chain.join(": ")
}
