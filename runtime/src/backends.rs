//! The engines of this host, and which of them shall run a model.
//!
//! The only file that names a concrete backend.

use std::sync::Arc;

use infer_core::{Backend, Device, Encoding, Error, ErrorKind, Result};

use crate::config::DeviceChoice;

/// The engines, in the order in which they are preferred.
pub struct Backends(Vec<Arc<dyn Backend>>);

/// An engine and a device of it, for one model.
pub struct Chosen {
    /// The engine.
    pub backend: Arc<dyn Backend>,
    /// The device.
    pub device: Device,
    /// Why these, for people.
    pub reason: String,
}

impl Backends {
    /// Those that infer comes with.
    pub fn built_in() -> Backends {
        Backends::new(vec![Arc::new(infer_tract::Tract)])
    }

    /// An embedder's own.
    pub fn new(backends: Vec<Arc<dyn Backend>>) -> Backends {
        Backends(backends)
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<dyn Backend>] {
        &self.0
    }

    /// The engine and device for a model of this encoding.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown backend, `InvalidEncoding` if none reads the encoding, `NotFound` if
    /// none has the device, with what each said.
    pub fn choose(
        &self,
        backend: Option<&str>,
        device: DeviceChoice,
        encoding: Encoding,
    ) -> Result<Chosen> {
        let named = self.named(backend)?;
        let readers: Vec<_> = named
            .iter()
            .filter(|backend| backend.encodings().contains(&encoding))
            .collect();
        if readers.is_empty() {
            return Err(self.no_reader(backend, encoding));
        }
        let mut refusals = Vec::new();
        for backend in readers {
            match device_of(backend, device) {
                Ok(device) => {
                    let reason = match refusals.is_empty() {
                        true => format!("the first backend that reads {encoding}"),
                        false => refusals.join("; "),
                    };
                    return Ok(Chosen {
                        backend: (*backend).clone(),
                        device,
                        reason,
                    });
                }
                Err(refusal) => refusals.push(refusal),
            }
        }
        Err(no_device(device, &refusals))
    }

    /// The real device that a choice means, whatever model is run on it.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown backend, `NotFound` if no engine has the device, with what each said.
    pub fn device(&self, backend: Option<&str>, choice: DeviceChoice) -> Result<Device> {
        let mut refusals = Vec::new();
        for backend in self.named(backend)? {
            match device_of(&backend, choice) {
                Ok(device) => return Ok(device),
                Err(refusal) => refusals.push(refusal),
            }
        }
        Err(no_device(choice, &refusals))
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

/// The device of this engine that a choice means, or why there is none.
fn device_of(
    backend: &Arc<dyn Backend>,
    choice: DeviceChoice,
) -> std::result::Result<Device, String> {
    let name = backend.name();
    let probe = backend
        .probe()
        .map_err(|error| format!("{name}: {}", error.report()))?;
    let devices: Vec<Device> = probe.devices.iter().map(|info| info.device).collect();
    let found = match choice {
        DeviceChoice::Auto => devices.first(),
        DeviceChoice::Exactly(wanted) => devices.iter().find(|device| **device == wanted),
    };
    found.copied().ok_or_else(|| {
        let has: Vec<String> = devices.iter().map(Device::to_string).collect();
        format!(
            "{name} {} has {}",
            probe.version,
            if has.is_empty() {
                "no devices".to_owned()
            } else {
                has.join(", ")
            }
        )
    })
}

fn no_device(device: DeviceChoice, refusals: &[String]) -> Error {
    let wanted = match device {
        DeviceChoice::Auto => "any device".to_owned(),
        DeviceChoice::Exactly(device) => format!("device `{device}`"),
    };
    let message = format!("no backend can use {wanted}: {}", refusals.join("; "));
    Error::new(ErrorKind::NotFound, message).with_hint(
        "`infer devices` shows what this machine has; run without --gpu or --device to use the cpu",
    )
}
