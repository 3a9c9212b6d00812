//! The devices that the engine finds, by our names, and why it may not find one.

use std::path::Path;

use infer_core::{Device, DeviceInfo, Error, ErrorKind, Probe, Result};
use libloading::Library;

use crate::library::{Engine, INSTALL};
use crate::native::Failure;
use crate::parts;

/// What the engine says of itself.
pub(crate) fn probe(engine: &Engine) -> Result<Probe> {
    let devices: Vec<DeviceInfo> = named(engine)?
        .into_iter()
        .map(|(device, name)| DeviceInfo {
            device,
            description: engine
                .core
                .property(&name, "FULL_DEVICE_NAME")
                .map_or(name, |text| text.trim().to_owned()),
        })
        .collect();
    Ok(Probe {
        version: engine.version.clone(),
        location: format!("{} ({})", engine.path.display(), engine.origin),
        problems: problems(engine, &devices),
        devices,
    })
}

/// The engine's name for a device.
///
/// # Errors
/// `UnsupportedOperation` if the engine does not find it here.
pub(crate) fn name_of(engine: &Engine, device: Device) -> Result<String> {
    let devices = named(engine)?;
    if let Some((_, name)) = devices.iter().find(|(found, _)| *found == device) {
        return Ok(name.clone());
    }
    let found: Vec<String> = devices.iter().map(|(d, _)| d.to_string()).collect();
    let error = Error::new(
        ErrorKind::UnsupportedOperation,
        format!(
            "OpenVINO finds no device {device} here, only {}",
            found.join(", ")
        ),
    );
    let plugin = parts::missing(engine).find(|part| part.is_for(device));
    let plugin = plugin.map(|part| format!("{part}; {INSTALL}"));
    let problem = plugin.or_else(|| match device {
        Device::Gpu(_) => missing_opencl(engine),
        Device::Cpu | Device::Npu => None,
    });
    Err(error.with_hint(problem.unwrap_or("`infer devices` lists what is there".to_owned())))
}

/// Our name for a device of the engine's: `CPU`, `GPU`, `GPU.1`, `NPU`.
pub(crate) fn device_of(name: &str) -> Option<Device> {
    let name = name.trim_matches(|c| c == '(' || c == ')');
    match name.split_once('.') {
        None if name == "CPU" => Some(Device::Cpu),
        None if name == "GPU" => Some(Device::Gpu(0)),
        None if name == "NPU" => Some(Device::Npu),
        Some(("GPU", index)) => index.parse().ok().map(Device::Gpu),
        Some(("NPU", _)) => Some(Device::Npu),
        _ => None,
    }
}

fn named(engine: &Engine) -> Result<Vec<(Device, String)>> {
    let failed = |failure: Failure| {
        Error::new(ErrorKind::RuntimeError, "OpenVINO cannot list its devices").with_source(failure)
    };
    let names = engine.core.devices().map_err(failed)?;
    Ok(names
        .into_iter()
        .filter_map(|name| Some((device_of(&name)?, name)))
        .collect())
}

fn problems(engine: &Engine, devices: &[DeviceInfo]) -> Vec<String> {
    let has_gpu = devices.iter().any(|d| matches!(d.device, Device::Gpu(_)));
    let opencl = match has_gpu {
        true => None,
        false => missing_opencl(engine),
    };
    let parts = parts::missing(engine).map(|part| format!("{part}; {INSTALL}"));
    opencl.into_iter().chain(parts).collect()
}

/// Why no GPU can be found, where the engine has a plugin for them that does not load.
fn missing_opencl(engine: &Engine) -> Option<String> {
    let has_plugin = !parts::missing(engine).any(|part| part.is_for(Device::Gpu(0)));
    (has_plugin && !loads("libOpenCL.so.1")).then(|| {
        "no GPU can be used: `libOpenCL.so.1` is missing; install the OpenCL loader and Intel's compute \
         runtime (packages `ocl-icd-libopencl1` and `intel-opencl-icd`)"
            .to_owned()
    })
}

#[allow(unsafe_code, reason = "opening a library to see whether it is there")]
fn loads(name: impl AsRef<Path>) -> bool {
    // SAFETY: it is the system's own OpenCL loader, which the engine opens too; nothing of it is called.
    unsafe { Library::new(name.as_ref()) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_our_names() {
        let cases = [
            ("CPU", Some(Device::Cpu)),
            ("GPU", Some(Device::Gpu(0))),
            ("GPU.1", Some(Device::Gpu(1))),
            ("(GPU.0)", Some(Device::Gpu(0))),
            ("NPU", Some(Device::Npu)),
            ("GNA", None),
            ("GPU.x", None),
        ];
        for (name, device) in cases {
            assert_eq!(device_of(name), device, "{name}");
        }
    }
}
