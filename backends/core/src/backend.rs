//! The traits that an engine implements, from the engine as a whole down to one run.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Cancel, Dtype, Error, ErrorKind, Result, Signature, Tensor};

/// An inference engine.
pub trait Backend: Send + Sync {
    /// The name that users give, `tract` say.
    fn name(&self) -> &'static str;

    /// Looks whether the engine can be used here, and on which devices.
    ///
    /// # Errors
    /// `NotFound` where the engine is missing, with what was looked for and a hint.
    fn probe(&self) -> Result<Probe>;

    /// The encodings that the engine reads.
    fn encodings(&self) -> &'static [Encoding];

    /// Loads a model. This may take long and looks at `cancel` where it can.
    ///
    /// # Errors
    /// `InvalidEncoding` for an encoding that the engine does not read and for bytes that are no model of
    /// it, `UnsupportedOperation` for a model or device that the engine cannot run, `NotFound` for a
    /// missing file, `Security` for a model that reaches outside its own files, `Timeout` when cancelled.
    fn load(&self, request: &LoadRequest, cancel: &Cancel) -> Result<Arc<dyn Graph>>;
}

/// What to load, and where it shall run.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The model's parts.
    pub source: Source,
    /// How they are encoded.
    pub encoding: Encoding,
    /// The device: a real one, chosen by the caller.
    pub device: Device,
}

/// The parts of a model, in the order that its encoding defines.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files, which the engine maps.
    Files(Vec<PathBuf>),
    /// Bytes; such a model can refer to no file.
    Memory(Vec<Bytes>),
}

/// How a model is serialised; wasi-nn's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// OpenVINO's intermediate representation: XML and weights.
    OpenVino,
    /// ONNX.
    Onnx,
    /// A TensorFlow frozen graph or SavedModel.
    TensorFlow,
    /// TorchScript.
    PyTorch,
    /// TensorFlow Lite.
    TensorFlowLite,
    /// GGML and GGUF.
    Ggml,
}

impl Encoding {
    /// wasi-nn's name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::OpenVino => "openvino",
            Encoding::Onnx => "onnx",
            Encoding::TensorFlow => "tensorflow",
            Encoding::PyTorch => "pytorch",
            Encoding::TensorFlowLite => "tensorflowlite",
            Encoding::Ggml => "ggml",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Encoding> {
        const ALL: [Encoding; 6] = [
            Encoding::OpenVino,
            Encoding::Onnx,
            Encoding::TensorFlow,
            Encoding::PyTorch,
            Encoding::TensorFlowLite,
            Encoding::Ggml,
        ];
        ALL.into_iter()
            .find(|encoding| encoding.name() == text)
            .ok_or_else(|| {
                let names = ALL.map(Encoding::name).join(", ");
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!("expected an encoding ({names}), got `{text}`"),
                )
            })
    }
}

/// A real device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A graphics card, by its index.
    Gpu(u32),
    /// A neural processing unit; wasi-nn's `tpu`.
    Npu,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Gpu(index) => write!(f, "gpu:{index}"),
            Device::Npu => f.write_str("npu"),
        }
    }
}

/// What an engine says of itself.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The engine's version.
    pub version: String,
    /// Where it was found: a path, or `built in`.
    pub location: String,
    /// The devices that it can use.
    pub devices: Vec<DeviceInfo>,
}

/// A device as an engine sees it.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Our name for it.
    pub device: Device,
    /// The engine's own description.
    pub description: String,
}

/// A loaded model: one copy of its weights, shared by all guests.
pub trait Graph: Send + Sync {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// Where it really runs.
    fn placement(&self) -> Placement;

    /// How many sessions may run at once on this one copy of the weights; at least 1.
    fn concurrency(&self) -> usize;

    /// A session of its own working memory.
    ///
    /// # Errors
    /// Those of the engine.
    fn session(&self) -> Result<Box<dyn Session>>;
}

/// Where a graph runs, found out after loading and not taken from what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The device of most nodes.
    pub device: Device,
    /// The precision that it computes in where the model says f32.
    pub precision: Dtype,
    /// Nodes that run elsewhere: the node's name and its device.
    pub elsewhere: Vec<(String, Device)>,
}

/// The working memory of one run at a time.
pub trait Session: Send {
    /// Runs the calls, one or a batch, and fills in each call's result.
    fn run(&mut self, calls: &mut [Call]);

    /// Forgets what earlier runs left, so that another guest may have the session.
    ///
    /// # Errors
    /// Those of the engine; the session must then be dropped.
    fn reset(&mut self) -> Result<()>;
}

/// One inference.
#[derive(Debug)]
pub struct Call {
    /// The inputs, checked, in the signature's order.
    pub inputs: Vec<Tensor>,
    /// Asks this call to stop.
    pub cancel: Cancel,
    /// The outputs in the signature's order, or what went wrong; `None` until it has run.
    pub result: Option<Result<Vec<Tensor>>>,
}

impl Call {
    /// A call that has not run.
    pub fn new(inputs: Vec<Tensor>, cancel: Cancel) -> Call {
        Call {
            inputs,
            cancel,
            result: None,
        }
    }
}
