//! infer's backend on ONNX Runtime, which is loaded at run time: ONNX models on the CPU, and on NVIDIA GPUs
//! by CUDA.
//!
//! [`OnnxRuntime`] finds and opens the engine's library when it is first asked (`library`) and what a GPU
//! needs (`cuda`); it refuses what the engine answers wrongly (`rules`), loads a model (`load`) and runs it
//! (`graph`). Tensors cross in `values` without a copy: inputs are the host's own buffers, outputs the
//! engine's; small ones of short runs are copied into memory that stays bound (`bound`). `api` has the calls into the C library that `ort` does not offer, `direct` one for who measures
//! this backend.

mod api;
mod bound;
mod cuda;
mod direct;
mod graph;
mod library;
mod load;
mod rules;
mod values;

use std::path::PathBuf;
use std::sync::Arc;

use infer_core::{
    Backend, Cancel, Candidates, Device, DeviceInfo, Encoding, Error, ErrorKind, Graph,
    LoadRequest, Probe, Result,
};

pub use direct::run_bound;
pub use library::refuse_telemetry;

use library::Library;
use ort::environment::Environment;

/// The name of the engine, in messages too.
const NAME: &str = "onnxruntime";

/// The ONNX Runtime engine.
#[derive(Clone, Debug)]
pub struct OnnxRuntime {
    candidates: Candidates,
    cuda_folders: Vec<PathBuf>,
}

impl OnnxRuntime {
    /// The engine by the first of these libraries that is there. What CUDA needs is looked for beside it, in
    /// `cuda_folders`, and where the system's loader looks.
    pub fn new(candidates: impl Into<Candidates>, cuda_folders: Vec<PathBuf>) -> OnnxRuntime {
        OnnxRuntime {
            candidates: candidates.into(),
            cuda_folders,
        }
    }

    /// The engine's environment with what `device` takes opened, for whoever drives the engine without this backend
    /// beside it: `ort` allows one environment in a process.
    ///
    /// # Errors
    /// `NotFound` where the engine is missing or cannot use the device, `UnsupportedOperation` for one that it never
    /// runs on.
    pub fn environment(&self, device: Device) -> Result<Environment> {
        Ok(self.library_for(device)?.environment.clone())
    }

    fn library(&self) -> Result<Arc<Library>> {
        Library::open(&self.candidates)
    }

    fn library_for(&self, device: Device) -> Result<Arc<Library>> {
        let library = self.library()?;
        match device {
            Device::Cpu => {}
            Device::Gpu(_) => cuda::device(&library, &self.cuda_folders, device)?,
            Device::Npu => {
                let message = "ONNX Runtime runs on cpu and gpu here, got npu";
                return Err(Error::new(ErrorKind::UnsupportedOperation, message));
            }
        }
        Ok(library)
    }
}

impl Backend for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self) -> Result<Probe> {
        let library = self.library()?;
        let mut probe = Probe {
            version: library.version.clone(),
            location: library.location(),
            devices: Vec::new(),
            problems: Vec::new(),
        };
        match cuda::devices(&library, &self.cuda_folders) {
            Ok(devices) => probe.devices = devices,
            Err(error) => probe.problems.push(match error.hint() {
                Some(hint) => format!("no gpu: {} ({hint})", error.report()),
                None => format!("no gpu: {}", error.report()),
            }),
        }
        probe.devices.push(DeviceInfo {
            device: Device::Cpu,
            description: "CPUExecutionProvider".to_owned(),
        });
        Ok(probe)
    }

    fn encodings(&self) -> &'static [Encoding] {
        &[Encoding::Onnx]
    }

    fn load(&self, request: &LoadRequest, cancel: &Cancel) -> Result<Arc<dyn Graph>> {
        request.expect_encoding(self.encodings())?;
        let library = self.library_for(request.device)?;
        Ok(Arc::new(load::load(&library, request, cancel)?))
    }
}
