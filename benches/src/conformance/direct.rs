//! Engines by their own interfaces: no wasm, and none of our backends. Each is used in the most lenient
//! ordinary way, so that what it can do at all is seen.

mod onnxruntime;
mod openvino;
mod tract;

use crate::conformance::Harness;

/// The engines that can be used directly.
pub const ENGINES: [&str; 3] = ["onnxruntime", "openvino", "tract"];

/// An engine by its name; native ones are looked for where `ORT_DYLIB_PATH` and `INFER_OPENVINO_LIB` say.
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

/// The file that a variable names.
fn library(variable: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = std::env::var_os(variable);
    path.map(Into::into)
        .ok_or_else(|| anyhow::anyhow!("expected the engine's library in {variable}, found none"))
}
