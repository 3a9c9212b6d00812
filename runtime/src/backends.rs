//! The engines of this host, and which of them runs a model.
//!
//! The only file that names a concrete backend. Engines that are loaded at run time are opened only when a model
//! or a person asks for them.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use infer_core::{
    Backend, Cancel, Device, Encoding, Error, ErrorKind, Graph, LoadRequest, Probe, Result, Source,
    run_engine,
};
use infer_engines::{EngineStore, NativeEngine, candidates, cuda_folders};

use crate::config::{DeviceChoice, Selection};

/// The engines, in the order in which they are preferred. Where native engines are is looked up when one is first
/// asked for: a guest that needs no model does not pay for it.
pub struct Backends(LazyLock<Vec<Arc<dyn Backend>>, Find>);

type Find = Box<dyn FnOnce() -> Vec<Arc<dyn Backend>> + Send>;

/// Where a person says that the libraries of native engines are; nothing else is used in their place.
#[derive(Clone, Debug, Default)]
pub struct EngineLibraries {
    /// ONNX Runtime's `libonnxruntime.so`, or its folder.
    pub onnxruntime: Option<PathBuf>,
    /// OpenVINO's `libopenvino_c.so`, or its folder.
    pub openvino: Option<PathBuf>,
}

/// A model that an engine has loaded.
pub struct Loaded {
    /// The engine.
    pub backend: &'static str,
    /// The model.
    pub graph: Arc<dyn Graph>,
    /// Why this engine and device, for people.
    pub reason: String,
}

impl Loaded {
    /// Tells the log where a model runs, and why there.
    pub(crate) fn say_where(&self, name: &str) {
        let placement = self.graph.placement();
        tracing::info!(
            "model `{name}` runs on {} on {} in {} ({})",
            self.backend,
            placement.device,
            placement.precision,
            self.reason
        );
        for (node, device) in &placement.elsewhere {
            tracing::info!("model `{name}`: node `{node}` runs on {device}");
        }
    }
}

impl Backends {
    /// The names of all engines that this host knows, whether or not they are there.
    pub const NAMES: [&'static str; 3] = ["onnxruntime", "openvino", "tract"];

    /// Those that infer comes with, whatever else is on the machine.
    pub fn built_in() -> Backends {
        Backends::new(vec![Arc::new(infer_tract::Tract)])
    }

    /// Every engine of this machine: those that are installed, then those that infer comes with.
    ///
    /// # Errors
    /// `NotFound` where a relative folder is meant and the current one is gone.
    pub fn of_machine(libraries: &EngineLibraries) -> Result<Backends> {
        let (store, libraries) = (EngineStore::from_environment()?, libraries.clone());
        Ok(Backends(LazyLock::new(Box::new(move || {
            find(&store, &libraries)
        }))))
    }

    /// An embedder's own.
    pub fn new(backends: Vec<Arc<dyn Backend>>) -> Backends {
        Backends(LazyLock::new(Box::new(move || backends)))
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<dyn Backend>] {
        &self.0
    }

    /// Loads a model on the first engine that reads its encoding, has the device and can run it. Where a person
    /// named an engine it is that one or an error.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown engine, `InvalidEncoding` if none reads the encoding, `NotFound` if none has
    /// the device, with what each said; those of the engine's load.
    pub fn load(
        &self,
        selection: &Selection,
        (source, encoding): (&Source, Encoding),
        cancel: &Cancel,
    ) -> Result<Loaded> {
        let readers = self.readers(selection.backend.as_deref(), encoding)?;
        let (mut passed_over, mut refused) = (Vec::new(), Vec::new());
        for backend in readers {
            let probed = match (probe(&*backend), &selection.backend) {
                // What is wrong with an engine that was asked for is said in its own words.
                (Err(error), Some(_)) => return Err(error),
                (probed, _) => probed,
            };
            let device = match device_of(backend.name(), probed, selection.device) {
                Ok(device) => device,
                Err(reason) => {
                    passed_over.push(reason);
                    continue;
                }
            };
            let request = LoadRequest {
                source: source.clone(),
                encoding,
                device,
                options: selection.options.clone(),
            };
            let name = backend.name();
            let loaded = run_engine(name, || backend.load(&request, cancel))
                .and_then(|graph| check_placement(name, graph, selection));
            match loaded {
                Ok(graph) => {
                    let reason = match (&selection.backend, passed_over.is_empty()) {
                        (Some(_), _) => selection.reason.clone().unwrap_or("as asked".to_owned()),
                        (None, true) => format!("the first backend that reads {encoding}"),
                        (None, false) => passed_over.join("; "),
                    };
                    return Ok(Loaded {
                        backend: name,
                        graph,
                        reason,
                    });
                }
                // Another engine may well run it.
                Err(error) if cannot_run(&error) => {
                    passed_over.push(format!("{name} cannot run it: {}", error.report()));
                    refused.push((name, error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(match refused.len() {
            0 => no_device(selection.device, &passed_over),
            1 => refused.remove(0).1,
            _ => all_refused(refused),
        })
    }

    /// The real device that a choice means, whatever model is run on it.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown engine, `NotFound` if no engine has the device, with what each said.
    pub fn device(&self, backend: Option<&str>, choice: DeviceChoice) -> Result<Device> {
        let mut refusals = Vec::new();
        for backend in self.named(backend)? {
            match device_of(backend.name(), probe(&*backend), choice) {
                Ok(device) => return Ok(device),
                Err(refusal) => refusals.push(refusal),
            }
        }
        Err(no_device(choice, &refusals))
    }

    /// The engines that read an encoding: all of them, or the one that a person named.
    pub(crate) fn readers(
        &self,
        backend: Option<&str>,
        encoding: Encoding,
    ) -> Result<Vec<Arc<dyn Backend>>> {
        let mut readers = self.named(backend)?;
        readers.retain(|backend| backend.encodings().contains(&encoding));
        match readers.is_empty() {
            true => Err(self.no_reader(backend, encoding)),
            false => Ok(readers),
        }
    }

    fn named(&self, name: Option<&str>) -> Result<Vec<Arc<dyn Backend>>> {
        let Some(name) = name else {
            return Ok(self.0.clone());
        };
        match self.0.iter().find(|backend| backend.name() == name) {
            Some(backend) => Ok(vec![backend.clone()]),
            None => {
                let known: Vec<&str> = self.0.iter().map(|backend| backend.name()).collect();
                let message = format!(
                    "expected a backend (auto, {}), got `{name}`",
                    known.join(", ")
                );
                Err(Error::new(ErrorKind::InvalidArgument, message))
            }
        }
    }

    fn no_reader(&self, backend: Option<&str>, encoding: Encoding) -> Error {
        let read: Vec<String> = self
            .0
            .iter()
            .filter(|candidate| backend.is_none_or(|name| name == candidate.name()))
            .map(|candidate| {
                let encodings: Vec<&str> = candidate
                    .encodings()
                    .iter()
                    .map(|encoding| encoding.name())
                    .collect();
                format!("{} reads {}", candidate.name(), encodings.join(", "))
            })
            .collect();
        let message = format!(
            "no backend reads models of encoding `{encoding}`: {}",
            read.join("; ")
        );
        Error::new(ErrorKind::InvalidEncoding, message).with_hint("convert the model to ONNX")
    }
}

/// Keeps engines from reporting what they do and from leaving files of their own for that. For programs, to be called
/// first of all: it does nothing once there are other threads.
pub fn refuse_telemetry() {
    infer_onnxruntime::refuse_telemetry();
}

fn find(store: &EngineStore, libraries: &EngineLibraries) -> Vec<Arc<dyn Backend>> {
    let onnxruntime = libraries.onnxruntime.as_deref();
    let onnxruntime = candidates(NativeEngine::OnnxRuntime, onnxruntime, store);
    let openvino = libraries.openvino.as_deref();
    let openvino = candidates(NativeEngine::OpenVino, openvino, store);
    let cuda = cuda_folders(store);
    vec![
        Arc::new(infer_onnxruntime::OnnxRuntime::new(onnxruntime, cuda)),
        Arc::new(infer_openvino::OpenVino::new(openvino)),
        Arc::new(infer_tract::Tract),
    ]
}

/// Whether another engine may take a model that this one did not.
fn cannot_run(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnsupportedOperation | ErrorKind::InvalidEncoding
    )
}

fn all_refused(refused: Vec<(&'static str, Error)>) -> Error {
    // One that takes the file for no model at all is not what a person has to hear of.
    let kind = match refused
        .iter()
        .all(|(_, error)| error.kind() == ErrorKind::InvalidEncoding)
    {
        true => ErrorKind::InvalidEncoding,
        false => ErrorKind::UnsupportedOperation,
    };
    let reports: Vec<String> = refused
        .into_iter()
        .map(|(name, error)| format!("{name}: {}", error.report()))
        .collect();
    Error::new(kind, "no backend can run the model").with_source(reports.join("; "))
}

/// Fails for a model of which parts run elsewhere, where that is not wanted.
fn check_placement(
    backend: &str,
    graph: Arc<dyn Graph>,
    selection: &Selection,
) -> Result<Arc<dyn Graph>> {
    let placement = graph.placement();
    if !selection.strict_device || placement.elsewhere.is_empty() {
        return Ok(graph);
    }
    const MOST: usize = 5;
    let (count, device) = (placement.elsewhere.len(), placement.device);
    let shown = placement.elsewhere.iter().take(MOST);
    let mut shown: Vec<String> = shown
        .map(|(node, device)| format!("`{node}` on {device}"))
        .collect();
    if count > MOST {
        shown.push(format!("{} more", count - MOST));
    }
    let message = format!(
        "{backend} runs {count} nodes of the model elsewhere than on {device}: {}",
        shown.join(", ")
    );
    Err(Error::new(ErrorKind::RuntimeError, message)
        .with_hint("run without --strict-device to allow it"))
}

fn probe(backend: &dyn Backend) -> Result<Probe> {
    run_engine(backend.name(), || backend.probe())
}

/// The device of this engine that a choice means, or why there is none.
fn device_of(
    name: &str,
    probed: Result<Probe>,
    choice: DeviceChoice,
) -> std::result::Result<Device, String> {
    let probe = probed.map_err(|error| {
        if error.kind() != ErrorKind::NotFound {
            // It is there and broken: somebody should know, even if another engine does the work.
            tracing::warn!("{name} cannot be used: {}", error.report());
        }
        match error.kind() {
            ErrorKind::NotFound => format!("{name} is not installed"),
            _ => format!("{name}: {}", error.report()),
        }
    })?;
    let devices: Vec<Device> = probe.devices.iter().map(|info| info.device).collect();
    let found = match choice {
        DeviceChoice::Auto => devices.first(),
        DeviceChoice::Exactly(wanted) => devices.iter().find(|device| **device == wanted),
    };
    found.copied().ok_or_else(|| {
        let has: Vec<String> = devices.iter().map(Device::to_string).collect();
        let has = match has.is_empty() {
            true => "no devices".to_owned(),
            false => has.join(", "),
        };
        let problems: String = probe
            .problems
            .iter()
            .map(|problem| format!(", {problem}"))
            .collect();
        format!("{name} {} has {has}{problems}", probe.version)
    })
}

fn no_device(device: DeviceChoice, refusals: &[String]) -> Error {
    let wanted = match device {
        DeviceChoice::Auto => "any device".to_owned(),
        DeviceChoice::Exactly(device) => format!("device `{device}`"),
    };
    let message = format!("no backend can use {wanted}: {}", refusals.join("; "));
    Error::new(ErrorKind::NotFound, message).with_hint(match device {
        DeviceChoice::Auto => {
            "install an engine that reads the model: `infer engines install openvino` reads all encodings"
        }
        DeviceChoice::Exactly(_) => {
            "`infer devices` shows what this machine has, `infer engines list` what it could have; run without --gpu \
             or --device to use the cpu"
        }
    })
}
