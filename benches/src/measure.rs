//! What measurements share: the engine, models by name, made-up inputs, and times with their spread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use infer_core::{
    Backend, Cancel, Device, Dtype, Encoding, Error, Graph, LoadOptions, LoadRequest, Signature,
    Source, Tensor, TensorInfo, byte_length,
};
use infer_engines::{EngineStore, NativeEngine, candidates, cuda_folders};
use infer_models::{ModelRef, ModelStore};
use infer_onnxruntime::OnnxRuntime;

/// ONNX Runtime as `infer` finds it on this machine.
///
/// # Errors
/// Where no variable says where the user's data is.
pub fn engine() -> anyhow::Result<OnnxRuntime> {
    let store = EngineStore::from_environment()?;
    let libraries = candidates(NativeEngine::OnnxRuntime, None, &store);
    Ok(OnnxRuntime::new(libraries, cuda_folders(&store)))
}

/// The file of an ONNX model, by what a person writes for the model.
///
/// # Errors
/// Where it is not there or is another kind of model.
pub fn model_file(reference: &str) -> anyhow::Result<PathBuf> {
    let model = reference.parse::<ModelRef>()?;
    let model = model.open(&ModelStore::from_environment()?);
    let model = model.map_err(described)?;
    ensure!(
        model.encoding == Encoding::Onnx,
        "expected a model of encoding onnx, got {}",
        model.encoding
    );
    let file = model.files.into_iter().next();
    file.context("a model without a file")
}

/// A model on our backend.
///
/// # Errors
/// Those of the engine, with their remedies.
pub fn load(
    engine: &OnnxRuntime,
    file: PathBuf,
    (device, options): (Device, LoadOptions),
) -> anyhow::Result<Arc<dyn Graph>> {
    let request = LoadRequest {
        source: Source::Files(vec![file]),
        encoding: Encoding::Onnx,
        device,
        options,
    };
    let loaded = engine.load(&request, &Cancel::default());
    loaded.map_err(described)
}

/// An error of ours with its causes and its remedy.
pub(crate) fn described(error: Error) -> anyhow::Error {
    match error.hint() {
        Some(hint) => anyhow::anyhow!("{} ({hint})", error.report()),
        None => anyhow::anyhow!("{}", error.report()),
    }
}

/// Inputs by name, the same in every run: floats in 0 to 1, other numbers 0 or 1. The dynamic dimensions of each
/// input are `dynamic`, in this order, and 1 where there are more.
///
/// # Errors
/// For an input of strings, and where the dimensions overflow.
pub fn made_up(signature: &Signature, dynamic: &[usize]) -> anyhow::Result<Vec<(String, Tensor)>> {
    let made = signature.inputs.iter().map(|info| {
        let tensor = made_up_tensor(info, dynamic);
        let tensor = tensor.with_context(|| format!("cannot make up the input `{}`", info.name))?;
        Ok((info.name.clone(), tensor))
    });
    made.collect()
}

fn made_up_tensor(info: &TensorInfo, dynamic: &[usize]) -> anyhow::Result<Tensor> {
    let mut dynamic = dynamic.iter().copied();
    let shape: Vec<usize> = info
        .dimensions
        .iter()
        .map(|size| size.unwrap_or_else(|| dynamic.next().unwrap_or(1)))
        .collect();
    let length = byte_length(info.dtype, &shape).context("it has no fixed size")?;
    let mut bytes = vec![0; length];
    let size = info.dtype.size().unwrap_or(1);
    for (index, element) in bytes.chunks_exact_mut(size).enumerate() {
        // The fractional parts of the multiples of an irrational number are spread evenly.
        let part = (index as f64 * 0.618_033_988_749_895).fract();
        match info.dtype {
            Dtype::F16 => {
                element.copy_from_slice(&half::f16::from_f64(part).to_le_bytes());
            }
            Dtype::BF16 => {
                element.copy_from_slice(&half::bf16::from_f64(part).to_le_bytes());
            }
            Dtype::F32 => element.copy_from_slice(&(part as f32).to_le_bytes()),
            Dtype::F64 => element.copy_from_slice(&part.to_le_bytes()),
            _ => element[0] = u8::from(part >= 0.5),
        }
    }
    Ok(Tensor::copied_from(info.dtype, shape, &bytes)?)
}

/// Times of many runs of the same work.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// What 5 of 100 did not exceed.
    pub p5: Duration,
    /// The middle one.
    pub median: Duration,
    /// What 95 of 100 did not exceed.
    pub p95: Duration,
    /// How many.
    pub runs: usize,
}

impl Spread {
    /// Of these times; `None` where there are none.
    pub fn of(mut times: Vec<Duration>) -> Option<Spread> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |part: usize| times[last * part / 100];
        Some(Spread {
            p5: at(5),
            median: at(50),
            p95: at(95),
            runs: times.len(),
        })
    }
}

/// A time that a person gives: `2s`, `200ms`.
///
/// # Errors
/// For other text, and for no time at all.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time as `2s` or `200ms`, got `{text}`");
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1.0),
    };
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * unit;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(wrong()),
    }
}

/// The processor's name and how many threads it runs at once, for people.
pub fn machine() -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {count} processors")
}
