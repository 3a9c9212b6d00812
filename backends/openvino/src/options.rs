//! How a model shall run, as properties of the engine's; and what it really got.

use infer_core::{
    Arithmetic, Error, ErrorKind, LoadOptions, Performance, Placement, Precision, Result,
};

use crate::devices::device_of;
use crate::library::Engine;
use crate::native::{Compiled, Failure};

/// A property and its value.
type Property = (&'static str, String);

const PRECISION: &str = "INFERENCE_PRECISION_HINT";

/// Properties that would make f32 less than that for some models, with the value that does not.
const TRUE_TO_F32: [(&str, &str); 2] = [
    ("DYNAMIC_QUANTIZATION_GROUP_SIZE", "0"),
    ("KV_CACHE_PRECISION", "f32"),
];

/// The properties for these options.
///
/// # Errors
/// `UnsupportedOperation` for an option that the device does not have.
pub(crate) fn properties(
    engine: &Engine,
    device: &str,
    options: &LoadOptions,
) -> Result<Vec<Property>> {
    if options.device_memory.is_some() {
        return Err(unsupported("OpenVINO has no limit of a device's memory")
            .with_hint("leave the limit out"));
    }
    let supported = listed(engine, device, "SUPPORTED_PROPERTIES")?;
    let mut properties = precision(engine, device, options.precision)?;
    if options.precision == Precision::F32 {
        let present = TRUE_TO_F32.iter().filter(|(key, _)| has(&supported, key));
        properties.extend(present.map(|(key, value)| (*key, (*value).to_owned())));
    }
    let cache = options.cache.as_ref().map(|folder| {
        let text = folder.to_str().map(str::to_owned);
        text.ok_or_else(|| unsupported("the cache folder's name is not valid UTF-8"))
    });
    let asked: [(&str, Option<String>); 4] = [
        (
            "INFERENCE_NUM_THREADS",
            options.threads.map(|n| n.to_string()),
        ),
        ("NUM_STREAMS", options.streams.map(|n| n.to_string())),
        ("PERFORMANCE_HINT", options.performance.map(hint)),
        ("CACHE_DIR", cache.transpose()?),
    ];
    for (key, value) in asked {
        let Some(value) = value else { continue };
        // Every device has this one, since the engine's core keeps the cache.
        if key != "CACHE_DIR" && !has(&supported, key) {
            let message = format!("OpenVINO's device {device} has no property `{key}`");
            return Err(unsupported(&message).with_hint("leave the option out"));
        }
        properties.push((key, value));
    }
    Ok(properties)
}

/// What a compiled model runs on, from the model itself.
///
/// # Errors
/// `UnsupportedOperation` if this is not the precision that was asked for.
pub(crate) fn placement(
    compiled: &Compiled,
    asked: Precision,
    device: infer_core::Device,
) -> Result<Placement> {
    let precision = match compiled.property(PRECISION).as_deref() {
        Ok("bf16") => Arithmetic::BF16,
        Ok("f16") => Arithmetic::F16,
        _ => Arithmetic::F32,
    };
    let right = match asked {
        Precision::Auto => true,
        Precision::F32 => precision == Arithmetic::F32,
        Precision::F16 => precision == Arithmetic::F16,
        Precision::BF16 => precision == Arithmetic::BF16,
    };
    if !right {
        let message = format!("OpenVINO would compute in {precision} on {device}, not in {asked}");
        return Err(unsupported(&message).with_hint(PRECISION_HINT));
    }
    let devices = compiled.property("EXECUTION_DEVICES").unwrap_or_default();
    let real = devices.split([' ', ',']).find_map(device_of);
    if real.is_some_and(|real| real != device) {
        let message = format!("OpenVINO would run the model on `{devices}`, not on {device}");
        return Err(unsupported(&message));
    }
    Ok(Placement {
        device,
        precision,
        nodes: None,
        elsewhere: Vec::new(),
    })
}

/// How many runs the engine does at one time.
pub(crate) fn concurrency(compiled: &Compiled) -> usize {
    let number = |key| {
        let text = compiled.property(key).ok()?;
        text.trim().parse::<usize>().ok().filter(|&n| n > 0)
    };
    number("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        .or_else(|| number("NUM_STREAMS"))
        .unwrap_or(1)
}

const PRECISION_HINT: &str = "`--precision f32` and `--precision auto` run on every device";

fn precision(engine: &Engine, device: &str, precision: Precision) -> Result<Vec<Property>> {
    let capability = match precision {
        Precision::Auto => return Ok(Vec::new()),
        Precision::F32 => return Ok(vec![(PRECISION, "f32".to_owned())]),
        Precision::F16 => "FP16",
        Precision::BF16 => "BF16",
    };
    let capabilities = listed(engine, device, "OPTIMIZATION_CAPABILITIES")?;
    if !has(&capabilities, capability) {
        let message = format!("OpenVINO's device {device} does not compute in {precision}");
        return Err(unsupported(&message).with_hint(PRECISION_HINT));
    }
    Ok(vec![(PRECISION, precision.to_string())])
}

/// A property whose value is a list.
fn listed(engine: &Engine, device: &str, key: &str) -> Result<String> {
    engine
        .core
        .property(device, key)
        .map_err(|failure: Failure| {
            let message = format!("OpenVINO's device {device} does not tell `{key}`");
            Error::new(ErrorKind::RuntimeError, message).with_source(failure)
        })
}

fn has(list: &str, word: &str) -> bool {
    list.split([' ', ',', ':']).any(|entry| entry == word)
}

fn hint(performance: Performance) -> String {
    match performance {
        Performance::Latency => "LATENCY",
        Performance::Throughput => "THROUGHPUT",
    }
    .to_owned()
}

fn unsupported(message: &str) -> Error {
    Error::new(ErrorKind::UnsupportedOperation, message)
}
