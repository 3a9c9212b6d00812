//! Engines by their own interfaces: no wasm, and none of our backends. Each is used in the most lenient
//! ordinary way, so that what it can do at all is seen.

mod onnxruntime;
mod openvino;
mod tract;

use std::path::PathBuf;

use infer_engines::{EngineStore, NativeEngine, candidates};

use crate::conformance::Harness;

/// The engines that can be used directly.
pub const ENGINES: [&str; 3] = ["onnxruntime", "openvino", "tract"];

/// An engine by its name; native ones are looked for where `infer` looks.
///
/// # Errors
/// For an unknown name, and where its library cannot be loaded.
pub fn harness(engine: &str) -> anyhow::Result<Box<dyn Harness>> {
    Ok(match engine {
        "onnxruntime" => Box::new(onnxruntime::OnnxRuntime::new()?),
        "openvino" => Box::new(openvino::OpenVino::new()?),
        "tract" => Box::new(tract::Tract),
        other => anyhow::bail!("expected an engine ({}), got `{other}`", ENGINES.join(", ")),
    })
}

/// The engine's version.
///
/// # Errors
/// As for [`harness`].
pub fn version(engine: &str) -> anyhow::Result<String> {
    Ok(match engine {
        "onnxruntime" => onnxruntime::OnnxRuntime::new()?.version(),
        "openvino" => openvino::OpenVino::new()?.version(),
        _ => tract::VERSION.to_owned(),
    })
}

/// The engine's library: the first that is there of the places where our backend looks too.
fn library(engine: NativeEngine) -> anyhow::Result<PathBuf> {
    let store = EngineStore::from_environment()?;
    let places = candidates(engine, None, &store);
    let found = places
        .places
        .into_iter()
        .map(|place| place.path)
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        let variable = engine.variable();
        anyhow::anyhow!("expected the engine's library, installed or in {variable}, found none")
    })
}
