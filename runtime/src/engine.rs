//! The configured wasmtime: compiler settings, and linkers with everything that a guest may import.

use wasmtime::{Config, component};

use infer_core::{Error, ErrorKind, Result};

use crate::config::EngineConfig;
use crate::host::Host;
use crate::nn::{types, wit, witx};
use crate::threads::Threads;

/// Stack of a guest's wasm and of the engine calls that it makes, in bytes; pages are used when touched.
const ASYNC_STACK: usize = 8 << 20;

/// Compiles guests and links them; one per process is enough. Clones share everything.
#[derive(Clone)]
pub struct Engine(std::sync::Arc<Inner>);

struct Inner {
    config: EngineConfig,
    wasmtime: wasmtime::Engine,
    components: component::Linker<Host>,
    modules: wasmtime::Linker<Host>,
    threads: Threads,
}

impl Engine {
    /// An engine of these settings.
    ///
    /// # Errors
    /// `UnsupportedOperation` where wasmtime cannot compile for this processor.
    pub fn new(config: &EngineConfig) -> Result<Engine> {
        let failed = |error: wasmtime::Error| {
            Error::new(ErrorKind::UnsupportedOperation, "cannot set up wasmtime").with_source(error)
        };
        let wasmtime = wasmtime::Engine::new(&settings(config)).map_err(failed)?;
        let components = component_linker(&wasmtime).map_err(failed)?;
        let modules = module_linker(&wasmtime).map_err(failed)?;
        let threads = Threads::default();
        Ok(Engine(std::sync::Arc::new(Inner {
            config: *config,
            wasmtime,
            components,
            modules,
            threads,
        })))
    }

    pub(crate) fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    pub(crate) fn components(&self) -> &component::Linker<Host> {
        &self.0.components
    }

    pub(crate) fn modules(&self) -> &wasmtime::Linker<Host> {
        &self.0.modules
    }

    pub(crate) fn threads(&self) -> &Threads {
        &self.0.threads
    }

    /// How many threads are in engine calls that outlived their guests.
    pub fn abandoned_threads(&self) -> usize {
        self.0.threads.abandoned()
    }
}

fn settings(config: &EngineConfig) -> Config {
    let mut settings = Config::new();
    settings.consume_fuel(config.fuel);
    // Deadlines: the watcher of an instance moves the epoch on when one has passed.
    settings.epoch_interruption(true);
    settings.async_stack_size(ASYNC_STACK);
    settings
}

fn component_linker(wasmtime: &wasmtime::Engine) -> wasmtime::Result<component::Linker<Host>> {
    let mut linker = component::Linker::new(wasmtime);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wit::add_to_linker(&mut linker)?;
    types::add_to_linker(&mut linker)?;
    Ok(linker)
}

fn module_linker(wasmtime: &wasmtime::Engine) -> wasmtime::Result<wasmtime::Linker<Host>> {
    let mut linker = wasmtime::Linker::new(wasmtime);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)?;
    witx::add_to_linker(&mut linker)?;
    // wasmtime's own traps on a status of 126 or more, which a native program may end with.
    linker.allow_shadowing(true);
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "proc_exit",
        |status: i32| -> wasmtime::Result<()> { Err(wasmtime_wasi::I32Exit(status).into()) },
    )?;
    Ok(linker)
}
