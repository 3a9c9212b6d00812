//! NVIDIA GPUs by CUDA: whether one can be used, and the engine's settings for it.
//!
//! The engine says that CUDA is available wherever its library has been built with it, and goes on on the CPU where
//! it is not, so we look ourselves: the driver and its GPUs; the engine's CUDA library; everything that this needs.
//! Then registering the provider is an error if it fails, and the engine's record says where the nodes run.
#![allow(unsafe_code, reason = "libraries of the system are opened and called")]

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use infer_core::{
    Arithmetic, Device, DeviceInfo, Error, ErrorKind, LoadOptions, Precision, Result,
};
use libloading::os::unix::{Library as Loaded, RTLD_GLOBAL, RTLD_NOW};
use ort::ep::{CUDA, TensorRT};
use ort::session::builder::SessionBuilder;

use crate::library::{Library, why};

const DRIVER: &str = "libcuda.so.1";
const PROVIDER: &str = "libonnxruntime_providers_cuda.so";
const TENSORRT_PROVIDER: &str = "libonnxruntime_providers_tensorrt.so";
const TENSORRT: &str = "libnvinfer.so.10";

/// What the provider needs, each after what it needs itself. cuDNN opens its own parts by name, from where it lies.
const NEEDED: [&str; 5] = [
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcudnn.so.9",
];

/// What some builds and some operators need.
const WANTED: [&str; 2] = ["libcufft.so.12", "libnvrtc.so.13"];

/// The GPUs that this engine can use; what it takes is opened, once per process.
///
/// # Errors
/// `NotFound` with the first thing that is missing and the remedy.
pub(crate) fn devices(library: &Library, folders: &[PathBuf]) -> Result<Vec<DeviceInfo>> {
    static PRELOADED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let gpus = gpus()?;
    let folder = library
        .candidate
        .path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let provider = folder.map(|folder| folder.join(PROVIDER));
    if !provider.as_ref().is_none_or(|provider| provider.exists()) {
        let message = format!(
            "this build of ONNX Runtime is for the cpu only: expected `{PROVIDER}` beside {}",
            library.location()
        );
        return Err(Error::new(ErrorKind::NotFound, message)
            .with_hint("get one for CUDA: `infer engines install onnxruntime-cuda`"));
    }
    let beside = folder.map(Path::to_owned).into_iter();
    let folders: Vec<PathBuf> = beside.chain(folders.iter().cloned()).collect();
    PRELOADED
        .get_or_init(|| {
            for name in WANTED {
                // Where it is missed, the engine says so by itself.
                let _ = preload(name, &folders);
            }
            NEEDED.iter().try_for_each(|name| preload(name, &folders))
        })
        .clone()
        .map_err(|missing| {
            Error::new(ErrorKind::NotFound, missing)
                .with_hint("get what CUDA needs: `infer engines install onnxruntime-cuda`")
        })?;
    Ok(gpus)
}

/// One GPU of this engine.
///
/// # Errors
/// `NotFound` where it cannot be used, with the reason and the remedy.
pub(crate) fn device(library: &Library, folders: &[PathBuf], device: Device) -> Result<()> {
    let unusable = |error: Error| {
        let message = format!("ONNX Runtime cannot use {device}: {}", error.report());
        let remedy = error
            .hint()
            .unwrap_or("`infer devices` shows what there is");
        Error::new(ErrorKind::NotFound, message).with_hint(remedy)
    };
    let devices = devices(library, folders).map_err(unusable)?;
    match devices.iter().any(|found| found.device == device) {
        true => Ok(()),
        false => {
            let found: Vec<String> = devices
                .iter()
                .map(|found| found.device.to_string())
                .collect();
            let message = format!("there are {}", found.join(", "));
            Err(unusable(Error::new(ErrorKind::NotFound, message)))
        }
    }
}

/// Opens a library for good, so that those which need it by name find it.
fn preload(name: &str, folders: &[PathBuf]) -> std::result::Result<(), String> {
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .filter(|path| path.exists());
    let mut reasons = Vec::new();
    for path in found.chain([PathBuf::from(name)]) {
        // SAFETY: opening a library runs its initialisers. It is one of NVIDIA's, from folders that the person who
        // runs infer has set up.
        match unsafe { Loaded::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                std::mem::forget(library);
                return Ok(());
            }
            Err(error) => reasons.push(why(&error)),
        }
    }
    let looked: Vec<String> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    Err(format!(
        "cannot open `{name}`, which CUDA needs (looked in {} and where the system's loader looks): {}",
        looked.join(", "),
        reasons.join("; ")
    ))
}

type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
type Memory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
type Init = unsafe extern "C" fn(c_uint) -> c_int;

/// The GPUs by NVIDIA's driver.
fn gpus() -> Result<Vec<DeviceInfo>> {
    let missing = |message: String| {
        Error::new(ErrorKind::NotFound, message)
            .with_hint("a GPU needs NVIDIA's driver: `nvidia-smi` shows whether it works")
    };
    // SAFETY: opening the driver's library runs its initialisers; it belongs to the system.
    let driver = unsafe { libloading::Library::new(DRIVER) }
        .map_err(|error| missing(format!("no NVIDIA driver: {}", why(&error))))?;
    // SAFETY: these functions have had these types since the driver's first versions, and are called within the
    // life of `driver`.
    unsafe {
        let symbol =
            |error: libloading::Error| missing(format!("an unknown NVIDIA driver: {error}"));
        let init = driver.get::<Init>(b"cuInit\0").map_err(symbol)?;
        let count = driver.get::<Count>(b"cuDeviceGetCount\0").map_err(symbol)?;
        let name = driver.get::<Name>(b"cuDeviceGetName\0").map_err(symbol)?;
        let memory = driver
            .get::<Memory>(b"cuDeviceTotalMem_v2\0")
            .map_err(symbol)?;
        let code = init(0);
        if code != 0 {
            return Err(missing(format!(
                "the NVIDIA driver finds no GPU (cuInit answers {code})"
            )));
        }
        let mut gpus = 0;
        if count(&mut gpus) != 0 || gpus == 0 {
            return Err(missing("the NVIDIA driver finds no GPU".to_owned()));
        }
        let describe = |index: c_int| {
            let (mut text, mut bytes) = ([0; 256], 0);
            name(text.as_mut_ptr(), 255, index);
            memory(&mut bytes, index);
            let text = CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned();
            DeviceInfo {
                device: Device::Gpu(index.unsigned_abs()),
                description: format!("{text}, {} MiB, CUDAExecutionProvider", bytes >> 20),
            }
        };
        let gpus = (0..gpus).map(describe).collect();
        // The engine uses the driver too.
        std::mem::forget(driver);
        Ok(gpus)
    }
}

/// Adds the providers for a GPU: TensorRT where its library is, then CUDA. Failing is an error, never the CPU.
pub(crate) fn register(
    builder: SessionBuilder,
    (library, index): (&Library, u32),
    options: &LoadOptions,
) -> std::result::Result<SessionBuilder, ort::Error> {
    let id = i32::try_from(index).unwrap_or(i32::MAX);
    // The engine computes in tf32, of 10 bits, unless it is told not to.
    let exact = options.precision == Precision::F32;
    let mut cuda = CUDA::default().with_device_id(id).with_tf32(!exact);
    if let Some(bytes) = options.device_memory {
        cuda = cuda.with_memory_limit(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    let cuda = cuda.build().error_on_failure();
    let builder = match options.precision == Precision::Auto && has_tensorrt(library) {
        true => {
            let mut tensorrt = TensorRT::default().with_device_id(id);
            if let Some(cache) = &options.cache {
                tensorrt = tensorrt
                    .with_engine_cache(true)
                    .with_engine_cache_path(cache.display().to_string());
            }
            builder.with_execution_providers([tensorrt.build().error_on_failure(), cuda])?
        }
        false => builder.with_execution_providers([cuda])?,
    };
    Ok(builder)
}

fn has_tensorrt(library: &Library) -> bool {
    let folder = library.candidate.path.parent();
    let provider = folder.map(|folder| folder.join(TENSORRT_PROVIDER));
    let folders: Vec<PathBuf> = folder.map(Path::to_owned).into_iter().collect();
    provider.is_some_and(|provider| provider.exists()) && preload(TENSORRT, &folders).is_ok()
}

/// The device that a provider computes on, for a model that was given `device`.
pub(crate) fn device_of(provider: &str, device: Device) -> Device {
    match provider {
        "CPUExecutionProvider" => Device::Cpu,
        _ => device,
    }
}

/// What the engine computes in where the model says f32; see [`register`]. A GPU without tf32 stays at f32.
pub(crate) fn computes_in(device: Device, precision: Precision) -> Arithmetic {
    match (device, precision) {
        (Device::Gpu(_), Precision::Auto) => Arithmetic::Tf32,
        _ => Arithmetic::F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_on_a_gpu_leaves_f32() {
        for (device, precision, expected) in [
            (Device::Cpu, Precision::F32, Arithmetic::F32),
            (Device::Cpu, Precision::Auto, Arithmetic::F32),
            (Device::Gpu(0), Precision::F32, Arithmetic::F32),
            (Device::Gpu(1), Precision::Auto, Arithmetic::Tf32),
        ] {
            let got = computes_in(device, precision);
            assert_eq!(got, expected, "{precision} on {device}");
        }
    }
}
