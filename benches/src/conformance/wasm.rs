//! The route that infer is for: host, wasi-nn, guest.
//!
//! The guest `conformance` is compiled once. Each case opens its model as `default` and runs the guest, which is
//! granted the data set's folder and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use infer::{
    Backends, DEFAULT_NAME, DeviceChoice, DirGrant, End, Engine, EngineLibraries, Guest, Instance,
    Registry, Selection,
};
use infer_core::{Device, Dtype, ErrorKind, LoadOptions};
use infer_models::{ModelRef, ModelStore};
use tokio::runtime::Runtime;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

use crate::conformance::{Case, DataSet, Harness, Output, Route, Stopped, Verdict, frame};

/// How much of a guest's output is kept, in bytes.
const OUTPUT: usize = 256 << 20;

/// How long a guest may run.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Our host with one backend, and the guest.
pub struct Wasm {
    runtime: Runtime,
    guest: Guest,
    backends: Arc<Backends>,
    selection: Selection,
}

impl Wasm {
    /// A host with this backend; `guests` is the folder of built guests.
    ///
    /// # Errors
    /// Where the guest is missing or this machine cannot run wasmtime.
    pub fn new(route: Route, backend: &str, guests: &Path) -> anyhow::Result<Wasm> {
        let target = match route {
            Route::WasmPreview1 => "wasm32-wasip1",
            _ => "wasm32-wasip2",
        };
        let path = guests.join(target).join("release/conformance.wasm");
        let bytes = std::fs::read(&path)
            .with_context(|| format!("{}: run guest-examples/build", path.display()))?;
        let engine = Engine::new(&infer::EngineConfig::default())?;
        let options = LoadOptions {
            threads: std::num::NonZeroUsize::new(1),
            ..LoadOptions::default()
        };
        Ok(Wasm {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
            guest: Guest::compile(&engine, &bytes)?,
            backends: Arc::new(Backends::of_machine(&EngineLibraries::default())?),
            selection: Selection {
                backend: Some(backend.to_owned()),
                device: DeviceChoice::Exactly(Device::Cpu),
                options,
                ..Selection::default()
            },
        })
    }

    fn open(&self, case: &Case) -> infer_core::Result<Registry> {
        let reference = case.model().to_string_lossy().into_owned();
        let reference = ModelRef {
            name: Some(DEFAULT_NAME.to_owned()),
            reference,
        };
        let files = reference.open(&ModelStore::at("no-store"))?;
        let mut registry = Registry::default();
        infer::open_model(&self.backends, &files, &self.selection, &mut registry)?;
        Ok(registry)
    }
}

impl Harness for Wasm {
    fn carries(&self, _dtype: Dtype) -> bool {
        // Those that wasi-nn does not name cross by `infer:nn/tensor-types` and its numbers in preview1.
        true
    }

    fn run(&self, case: &Case, set: &DataSet) -> Result<Vec<Output>, Stopped> {
        let registry = self.open(case).map_err(|error| refused(&error))?;
        let (stdout, stderr) = (
            MemoryOutputPipe::new(OUTPUT),
            MemoryOutputPipe::new(1 << 20),
        );
        let arguments = vec!["conformance".to_owned(), "data".to_owned()];
        let mut instance = Instance::new(arguments, Arc::new(registry), self.backends.clone());
        instance.limits.timeout = Some(TIMEOUT);
        instance.stdout = Box::new(stdout.clone());
        instance.stderr = Box::new(stderr.clone());
        instance.grants.dirs.push(DirGrant {
            host: set.folder.clone(),
            guest: "data".to_owned(),
            read_only: true,
        });
        match self.runtime.block_on(self.guest.run(instance)).end {
            End::Exited(0) => frame::read(&stdout.contents())
                .ok_or_else(|| Stopped::failed("the guest wrote something else than outputs")),
            End::Exited(_) => Err(told(&String::from_utf8_lossy(&stderr.contents()))),
            End::TimedOut(time) => Err(Stopped::new(
                Verdict::TimedOut,
                format!("over {} s", time.as_secs()),
            )),
            End::Trapped(error) | End::Failed(error) => Err(Stopped::failed(error.report())),
        }
    }
}

/// The model was not opened.
fn refused(error: &infer_core::Error) -> Stopped {
    let message = error.report();
    match error.kind() {
        ErrorKind::UnsupportedOperation | ErrorKind::InvalidEncoding => {
            Stopped::unsupported(message)
        }
        ErrorKind::Timeout => Stopped::new(Verdict::TimedOut, message),
        kind => Stopped::failed(format!("{}: {message}", kind.name())),
    }
}

/// The guest ended with a line `CODE: message`.
fn told(line: &str) -> Stopped {
    let line = line.trim();
    let (code, message) = line.split_once(": ").unwrap_or(("", line));
    match code {
        "unsupported-operation" => Stopped::unsupported(message),
        "not-carriable" => Stopped::new(Verdict::NotCarriable, message),
        "timeout" => Stopped::new(Verdict::TimedOut, message),
        _ => Stopped::failed(line),
    }
}
