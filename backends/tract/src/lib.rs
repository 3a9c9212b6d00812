//! infer's embedded backend: ONNX and TensorFlow Lite models on the CPU by tract, in pure Rust.
//!
//! [`Tract`] reads a model (`load`, `reading`), refuses what tract cannot run or is known to answer wrongly
//! (`refuse`), plans it (`plans`), and runs it node by node so that a cancel is seen between nodes
//! (`graph`); tensors cross in `convert`. All sessions share a model's weights; each holds only the
//! values of the run in progress.

mod convert;
mod graph;
mod limits;
mod lite;
mod load;
mod operators;
mod plans;
mod reading;
mod reductions;
mod refuse;
mod repair;
mod rewrite;
mod rules;
mod structure;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use infer_core::{
    Backend, Cancel, Device, DeviceInfo, Encoding, Error, ErrorKind, Graph, LoadOptions,
    LoadRequest, Precision, Probe, Result, run_engine,
};

/// The version of tract that is built in; `Cargo.toml` pins the same.
const VERSION: &str = "0.23.9";

/// The tract engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tract;

impl Backend for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn probe(&self) -> Result<Probe> {
        let devices = vec![DeviceInfo {
            device: Device::Cpu,
            description: "any processor".to_owned(),
        }];
        Ok(Probe {
            version: VERSION.to_owned(),
            location: "built in".to_owned(),
            devices,
            problems: Vec::new(),
        })
    }

    fn encodings(&self) -> &'static [Encoding] {
        &[Encoding::Onnx, Encoding::TensorFlowLite]
    }

    fn load(&self, request: &LoadRequest, cancel: &Cancel) -> Result<Arc<dyn Graph>> {
        request.expect_encoding(self.encodings())?;
        if request.device != Device::Cpu {
            let message = format!("tract runs on cpu only, got {}", request.device);
            return Err(Error::new(ErrorKind::UnsupportedOperation, message));
        }
        check_options(&request.options)?;
        run_engine("tract", || load::load(request, cancel)).map_err(|error| {
            match error.kind() {
                // A panic: no model that tract can run makes it panic while it reads.
                ErrorKind::RuntimeError => Error::new(
                    ErrorKind::UnsupportedOperation,
                    "tract cannot load the model",
                )
                .with_source(error)
                .with_hint("another backend may run this model"),
                _ => error,
            }
        })
    }
}

/// tract computes in f32 on the caller's own thread.
fn check_options(options: &LoadOptions) -> Result<()> {
    let refuse = |message: String| {
        Err(Error::new(ErrorKind::UnsupportedOperation, message)
            .with_hint("another backend may: `infer engines list`"))
    };
    match (options.precision, options.threads.map_or(1, usize::from)) {
        (Precision::F16 | Precision::BF16, _) => refuse(format!(
            "tract computes in f32, not in {}",
            options.precision
        )),
        (_, 2..) => refuse("tract runs a model on one thread".to_owned()),
        _ if options.device_memory.is_some() => {
            refuse("tract runs on the cpu, which has no memory of a device's".to_owned())
        }
        _ => Ok(()),
    }
}
