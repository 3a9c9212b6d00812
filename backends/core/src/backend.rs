//! The traits that an engine implements, from the engine as a whole down to one run.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Cancel, Error, ErrorKind, Result, Signature, Tensor};

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
    /// How it shall run; what an engine cannot do it refuses, never ignores.
    pub options: LoadOptions,
}

impl LoadRequest {
    /// Refuses a model of an encoding that an engine does not read.
    ///
    /// # Errors
    /// `InvalidEncoding`, with those that it reads.
    pub fn expect_encoding(&self, readable: &[Encoding]) -> Result<()> {
        if readable.contains(&self.encoding) {
            return Ok(());
        }
        let names: Vec<&str> = readable.iter().map(|encoding| encoding.name()).collect();
        let message = format!(
            "expected a model of encoding {}, got {}",
            names.join(", "),
            self.encoding
        );
        Err(Error::new(ErrorKind::InvalidEncoding, message))
    }
}

/// How a model shall run. The default leaves everything to the engine, but for the precision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What the engine computes in where the model says f32.
    pub precision: Precision,
    /// Threads of one run.
    pub threads: Option<NonZeroUsize>,
    /// Runs at one time.
    pub streams: Option<NonZeroUsize>,
    /// What matters more; a wish, which engines without such a choice meet in any case.
    pub performance: Option<Performance>,
    /// The most that the engine may take of the device's own memory, in bytes.
    pub device_memory: Option<u64>,
    /// A folder of the host in which the engine may keep compiled models.
    pub cache: Option<PathBuf>,
}

/// What an engine computes in where the model says f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32, as the model says.
    #[default]
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// What the engine takes for the fastest on the device.
    Auto,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::BF16 => "bf16",
            Precision::Auto => "auto",
        })
    }
}

/// What an engine really computes in where the model says f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// f32, as the model says.
    F32,
    /// f32 but for products of matrices and convolutions, whose factors a GPU may cut to 10 bits of fraction.
    Tf32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    BF16,
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arithmetic::F32 => "f32",
            Arithmetic::Tf32 => "tf32",
            Arithmetic::F16 => "f16",
            Arithmetic::BF16 => "bf16",
        })
    }
}

/// What matters more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Performance {
    /// The time of each run.
    Latency,
    /// The number of runs in a given time.
    Throughput,
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
    /// What it could have used but cannot, and why: one line each.
    pub problems: Vec<String>,
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
    /// What it computes in where the model says f32.
    pub precision: Arithmetic,
    /// How many nodes the engine made of the model, where it says so.
    pub nodes: Option<usize>,
    /// Nodes that run elsewhere: the node's name and its device.
    pub elsewhere: Vec<(String, Device)>,
}

/// The working memory of one run at a time.
pub trait Session: Send {
    /// Runs the calls and fills in each call's result. There are several only of a graph whose signature
    /// [can be batched](Signature::can_batch), and [they fit together](crate::fit_together):
    /// [`run_batch`](crate::run_batch) makes them one.
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
