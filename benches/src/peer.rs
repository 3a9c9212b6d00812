//! `wasmtime-wasi-nn` as a host of its own, on our engines.
//!
//! A [`Host`] has models by name and compiles a [`Guest`]: a component gets the peer's `wit` module and WASI 0.2,
//! a core module its `witx` module and preview1. Each run makes a store, an instance and the peer's context.
//! [`adapter`] is what turns an engine and its graphs into the peer's.
//!
//! All of it is synchronous, because the peer's functions are: a run blocks the calling thread, which must not
//! be one that runs async tasks. There is no limit and no deadline.

pub mod adapter;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use infer_core::{Backend, Graph};
use wasmtime::component::{self, Component, ResourceTable};
use wasmtime::{Engine, Linker, Module, Result, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::sync::CommandPre;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_nn::wit::WasiNnView;
use wasmtime_wasi_nn::{GraphRegistry, Registry, wit, witx};

/// How much of a guest's output is kept, in bytes.
const OUTPUT: usize = 16 << 20;

/// The peer, its models and its engines.
pub struct Host {
    engine: Engine,
    engines: Vec<Arc<dyn Backend>>,
    models: Models,
}

/// WasmEdge's `unload` and `finalize_execution_context`, which the peer does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drops {
    /// As the peer is: a core module that imports them is refused.
    Absent,
    /// They are there, answer success, and do nothing, since the peer's tables cannot be emptied from outside.
    Ignored,
}

/// A guest that is compiled and linked.
pub struct Guest(Program);

enum Program {
    Component(CommandPre<OfComponent>),
    Module(wasmtime::InstancePre<OfModule>),
}

/// What one run is given. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// The guest's arguments; the first is its own name.
    pub args: Vec<String>,
    /// Folders that it may read: the host's path, and the guest's.
    pub dirs: Vec<(PathBuf, String)>,
    /// Standard input.
    pub stdin: Vec<u8>,
}

/// How a run ended, and what it printed.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest ended by itself with this status.
    Exited(i32),
    /// It trapped, with the text of what stopped it.
    Trapped(String),
    /// The peer panicked, with this message. The store is gone; the host can run the next guest.
    Panicked(String),
}

impl Host {
    /// A host without models, whose guests may load their own into these engines.
    ///
    /// # Errors
    /// Where wasmtime cannot compile for this processor.
    pub fn new(engines: Vec<Arc<dyn Backend>>) -> Result<Host> {
        Ok(Host {
            engine: Engine::new(&wasmtime::Config::new())?,
            engines,
            models: Models::default(),
        })
    }

    /// Gives guests a model, which the engine of this name has loaded, under this name and no other.
    pub fn add_model(&mut self, name: &str, engine: &'static str, graph: Arc<dyn Graph>) {
        let graph = adapter::graph(engine, graph);
        self.models.0.insert(name.to_owned(), graph);
    }

    /// Compiles and links a component or a core module.
    ///
    /// # Errors
    /// For bytes that are neither, and for imports that the peer does not have.
    pub fn compile(&self, bytes: &[u8], drops: Drops) -> Result<Guest> {
        Ok(Guest(match is_component(bytes) {
            true => Program::Component(self.component(bytes)?),
            false => Program::Module(self.module(bytes, drops)?),
        }))
    }

    fn component(&self, bytes: &[u8]) -> Result<CommandPre<OfComponent>> {
        let mut linker = component::Linker::new(&self.engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        wit::add_to_linker(&mut linker, |host: &mut OfComponent| {
            WasiNnView::new(&mut host.table, &mut host.nn)
        })?;
        let component = Component::from_binary(&self.engine, bytes)?;
        CommandPre::new(linker.instantiate_pre(&component)?)
    }

    fn module(&self, bytes: &[u8], drops: Drops) -> Result<wasmtime::InstancePre<OfModule>> {
        let mut linker = Linker::new(&self.engine);
        wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |host: &mut OfModule| &mut host.wasi)?;
        witx::add_to_linker(&mut linker, |host: &mut OfModule| &mut host.nn)?;
        if drops == Drops::Ignored {
            for name in ["unload", "finalize_execution_context"] {
                linker.func_wrap("wasi_ephemeral_nn", name, |_handle: u32| 0u32)?;
            }
        }
        linker.instantiate_pre(&Module::from_binary(&self.engine, bytes)?)
    }

    /// Runs a guest to its end in a store of its own; a panic of the peer's is caught.
    ///
    /// # Errors
    /// Where a folder cannot be opened.
    pub fn run(&self, guest: &Guest, instance: Instance) -> Result<Outcome> {
        let (stdout, stderr) = (MemoryOutputPipe::new(OUTPUT), MemoryOutputPipe::new(OUTPUT));
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&instance.args)
            .stdin(MemoryInputPipe::new(instance.stdin))
            .stdout(stdout.clone())
            .stderr(stderr.clone());
        for (host, guest) in &instance.dirs {
            wasi.preopened_dir(host, guest, FsPerms::ReadOnly)?;
        }
        let ended = catch_unwind(AssertUnwindSafe(|| self.start(guest, wasi)));
        Ok(Outcome {
            end: ended.map_or_else(|panic| End::Panicked(message(&*panic)), end),
            stdout: stdout.contents().to_vec(),
            stderr: stderr.contents().to_vec(),
        })
    }

    /// Instantiates and calls the guest; gives its status.
    fn start(&self, guest: &Guest, mut wasi: WasiCtxBuilder) -> Result<i32> {
        let backends = self.engines.iter().flat_map(adapter::backends);
        let registry = Registry::from(self.models.clone());
        match &guest.0 {
            Program::Component(command) => {
                let host = OfComponent {
                    wasi: wasi.build(),
                    table: ResourceTable::new(),
                    nn: wit::WasiNnCtx::new(backends, registry),
                };
                let mut store = Store::new(&self.engine, host);
                let command = command.instantiate(&mut store)?;
                let answer = command.wasi_cli_run().call_run(&mut store)?;
                Ok(i32::from(answer.is_err()))
            }
            Program::Module(module) => {
                let host = OfModule {
                    wasi: wasi.build_p1(),
                    nn: witx::WasiNnCtx::new(backends, registry),
                };
                let mut store = Store::new(&self.engine, host);
                let instance = module.instantiate(&mut store)?;
                let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
                start.call(&mut store, ())?;
                Ok(0)
            }
        }
    }
}

/// The store's data of a component.
struct OfComponent {
    wasi: WasiCtx,
    table: ResourceTable,
    nn: wit::WasiNnCtx,
}

impl WasiView for OfComponent {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// The store's data of a core module.
struct OfModule {
    wasi: WasiP1Ctx,
    nn: witx::WasiNnCtx,
}

/// Names and their models. Clones share the graphs, since a run takes a registry of its own.
#[derive(Clone, Default)]
struct Models(HashMap<String, wasmtime_wasi_nn::Graph>);

impl GraphRegistry for Models {
    fn get(&self, name: &str) -> Option<&wasmtime_wasi_nn::Graph> {
        self.0.get(name)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut wasmtime_wasi_nn::Graph> {
        self.0.get_mut(name)
    }
}

/// The layer field of the binary format: 1 for a component, 0 for a core module.
fn is_component(bytes: &[u8]) -> bool {
    bytes.get(6..8) == Some(&[1, 0])
}

fn end(result: Result<i32>) -> End {
    match result {
        Ok(status) => End::Exited(status),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => End::Exited(exit.0),
            None => End::Trapped(error.root_cause().to_string()),
        },
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
