//! The component ABI, `wasi:nn@0.2.0-rc-2024-10-28`, by `wit-bindgen`.
//!
//! Graphs, contexts, tensors and errors are resources of the host; dropping the Rust value drops the handle.
//! A run moves its input tensors to the host, so they are made anew for each.

use super::{Argument, Encoding, Fetched, Target, View};
use crate::error::{Code, Error, Result};
use crate::tensor::DType;
use std::marker::PhantomData;

/// The bindings as `wit-bindgen` makes them.
#[allow(missing_docs, reason = "generated from the WIT file")]
pub mod bindings {
    wit_bindgen::generate!({
        world: "infer:nn/model",
        path: "wit",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "infer_guest::abi::component::bindings",
    });
}

use crate::transform::{DataType, HostTensor, ModelInfo, Tensors, Transform};
use bindings::exports::infer::nn::transform;
pub use bindings::infer::nn::tensor_types;
pub use bindings::wasi::nn::{errors, graph, inference, tensor};

/// Whether inputs are told apart by position; here names decide.
pub const BY_POSITION: bool = false;

/// A loaded model.
pub struct Graph(graph::Graph);

impl Graph {
    /// Loads a model from its bytes.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn load(parts: &[&[u8]], encoding: Encoding, target: Target) -> Result<Graph> {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        graph::load(&parts, encoding.into(), target.into())
            .map(Graph)
            .map_err(error)
    }

    /// Finds a model by name.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn by_name(name: &str) -> Result<Graph> {
        graph::load_by_name(name).map(Graph).map_err(error)
    }

    /// Makes an execution context.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn context(&self) -> Result<Context> {
        self.0.init_execution_context().map(Context).map_err(error)
    }

    /// Drops the handle, as dropping the value does.
    ///
    /// # Errors
    /// None in this ABI.
    pub fn close(self) -> Result<()> {
        Ok(())
    }
}

/// An execution context of a graph.
pub struct Context(inference::GraphExecutionContext);

impl Context {
    /// Makes the tensors and runs.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn compute(&mut self, arguments: &[Argument<'_>]) -> Result<Results<'_>> {
        let tensors = arguments
            .iter()
            .map(|argument| (argument.name.to_owned(), send(&argument.tensor)))
            .collect();
        self.compute_tensors(tensors)
    }

    /// Runs with tensors that [`send`] made before; they are the host's from then on.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn compute_tensors(
        &mut self,
        tensors: Vec<(String, tensor::Tensor)>,
    ) -> Result<Results<'_>> {
        Ok(Results {
            outputs: self.0.compute(tensors).map_err(error)?,
            context: PhantomData,
        })
    }

    /// Runs with tensors of the host; what it gives stays there, too.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn compute_remote(
        &mut self,
        tensors: Vec<(String, Remote)>,
    ) -> Result<Vec<(String, Remote)>> {
        let tensors = tensors.into_iter();
        let tensors = tensors.map(|(name, tensor)| (name, tensor.0)).collect();
        let outputs = self.0.compute(tensors).map_err(error)?.into_iter();
        Ok(outputs
            .map(|(name, tensor)| (name, Remote(tensor)))
            .collect())
    }

    /// Drops the handle, as dropping the value does.
    ///
    /// # Errors
    /// None in this ABI.
    pub fn close(self) -> Result<()> {
        Ok(())
    }
}

/// A tensor of the host.
pub struct Remote(tensor::Tensor);

impl Remote {
    /// One copy of its values.
    ///
    /// # Errors
    /// None: a malformed one is refused when it is used.
    pub fn send(view: &View<'_>) -> Result<Remote> {
        Ok(Remote(send(view)))
    }

    /// The same of strings, each a length of 4 bytes and as many bytes.
    ///
    /// # Errors
    /// None: a malformed one is refused when it is used.
    pub fn send_strings(dimensions: &[u32], data: &[u8]) -> Result<Remote> {
        let dtype = tensor_types::TensorType::String;
        Ok(Remote(send_extended(dtype, dimensions, data)))
    }

    /// The type of its elements.
    pub fn data_type(&self) -> DataType {
        match extended_type(&self.0) {
            None => DType::from(self.0.ty()).into(),
            Some(tensor_types::TensorType::Bool) => DataType::Bool,
            Some(tensor_types::TensorType::I8) => DataType::I8,
            Some(tensor_types::TensorType::I16) => DataType::I16,
            Some(tensor_types::TensorType::U16) => DataType::U16,
            Some(tensor_types::TensorType::U32) => DataType::U32,
            Some(tensor_types::TensorType::U64) => DataType::U64,
            Some(tensor_types::TensorType::String) => DataType::String,
        }
    }

    /// The size of each dimension, in elements.
    pub fn dimensions(&self) -> Vec<u32> {
        self.0.dimensions()
    }

    /// Copies its values here.
    pub fn data(&self) -> Vec<u8> {
        self.0.data()
    }
}

/// What the component exports, by what the guest says and does.
impl<T: Transform> transform::Guest for T {
    fn describe() -> std::result::Result<transform::ModelInfo, String> {
        match T::describe() {
            Ok(info) => Ok(info.into()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn transform(
        inputs: Vec<(String, tensor::Tensor)>,
    ) -> std::result::Result<Vec<(String, tensor::Tensor)>, String> {
        let inputs = inputs.into_iter();
        let inputs = inputs.map(|(name, tensor)| (name, HostTensor(Remote(tensor))));
        match T::transform(Tensors(inputs.collect())) {
            Ok(outputs) => {
                let outputs = outputs.0.into_iter();
                Ok(outputs.map(|(name, tensor)| (name, tensor.0.0)).collect())
            }
            Err(failure) => Err(failure.to_string()),
        }
    }
}

impl From<ModelInfo> for transform::ModelInfo {
    fn from(info: ModelInfo) -> Self {
        let infos = |infos: Vec<crate::transform::TensorInfo>| {
            let infos = infos.into_iter().map(|info| transform::TensorInfo {
                name: info.name,
                ty: info.data_type.into(),
                dimensions: info.dimensions,
            });
            infos.collect()
        };
        transform::ModelInfo {
            inputs: infos(info.inputs),
            outputs: infos(info.outputs),
        }
    }
}

impl From<DataType> for transform::DataType {
    fn from(data_type: DataType) -> Self {
        match data_type {
            DataType::F16 => Self::Fp16,
            DataType::F32 => Self::Fp32,
            DataType::F64 => Self::Fp64,
            DataType::Bf16 => Self::Bf16,
            DataType::U8 => Self::U8,
            DataType::I32 => Self::I32,
            DataType::I64 => Self::I64,
            DataType::Bool => Self::Bool,
            DataType::I8 => Self::I8,
            DataType::I16 => Self::I16,
            DataType::U16 => Self::U16,
            DataType::U32 => Self::U32,
            DataType::U64 => Self::U64,
            DataType::String => Self::String,
        }
    }
}

/// Makes a tensor of the host: one copy of its values. A malformed one is refused when it is used.
pub fn send(view: &View<'_>) -> tensor::Tensor {
    tensor::Tensor::new(view.dimensions, view.dtype.into(), view.data)
}

/// Makes a tensor of an element type that wasi-nn has no name for. A guest that calls this imports
/// `infer:nn/tensor-types`, which only infer has.
pub fn send_extended(
    dtype: tensor_types::TensorType,
    dimensions: &[u32],
    data: &[u8],
) -> tensor::Tensor {
    tensor_types::create(dimensions, dtype, data)
}

/// The element type of a tensor where wasi-nn has no name for it. Imports as [`send_extended`] does.
pub fn extended_type(tensor: &tensor::Tensor) -> Option<tensor_types::TensorType> {
    tensor_types::ty(tensor)
}

/// The outputs of one run.
pub struct Results<'context> {
    outputs: Vec<(String, tensor::Tensor)>,
    context: PhantomData<&'context mut Context>,
}

impl Results<'_> {
    /// The outputs' names, in the model's order.
    pub fn names(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        Some(self.outputs.iter().map(|(name, _)| name.as_str()))
    }

    /// The outputs' tensors, in the model's order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &tensor::Tensor> {
        self.outputs.iter().map(|(_, tensor)| tensor)
    }

    /// Copies one output here, with what the host says of it. The expected number of bytes is not needed.
    ///
    /// # Errors
    /// [`NotFound`](Code::NotFound) when there is no such output.
    pub fn fetch(&self, index: u32, _expected: Option<usize>) -> Result<Fetched> {
        let tensor = self.tensor(index)?;
        Ok(Fetched {
            dtype: Some(tensor.ty().into()),
            dimensions: Some(tensor.dimensions()),
            data: tensor.data(),
        })
    }

    /// Copies one output's bytes here, with one call of the host.
    ///
    /// # Errors
    /// [`NotFound`](Code::NotFound) when there is no such output.
    pub fn bytes(&self, index: u32, _expected: usize) -> Result<Vec<u8>> {
        Ok(self.tensor(index)?.data())
    }

    fn tensor(&self, index: u32) -> Result<&tensor::Tensor> {
        self.outputs
            .get(index as usize)
            .map(|(_, tensor)| tensor)
            .ok_or_else(|| Error::new(Code::NotFound, format!("no output number {index}")))
    }
}

/// Takes over the code and the message of an error of the host.
pub fn error(error: errors::Error) -> Error {
    use errors::ErrorCode;
    let code = match error.code() {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::InvalidEncoding => Code::InvalidEncoding,
        ErrorCode::Timeout => Code::Timeout,
        ErrorCode::RuntimeError => Code::RuntimeError,
        ErrorCode::UnsupportedOperation => Code::UnsupportedOperation,
        ErrorCode::TooLarge => Code::TooLarge,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::Security => Code::Security,
        ErrorCode::Unknown => Code::Unknown,
    };
    Error::new(code, error.data())
}

impl From<Encoding> for graph::GraphEncoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::OpenVino => Self::Openvino,
            Encoding::Onnx => Self::Onnx,
            Encoding::TensorFlow => Self::Tensorflow,
            Encoding::PyTorch => Self::Pytorch,
            Encoding::TensorFlowLite => Self::Tensorflowlite,
            Encoding::Ggml => Self::Ggml,
            Encoding::Autodetect => Self::Autodetect,
        }
    }
}

impl From<Target> for graph::ExecutionTarget {
    fn from(target: Target) -> Self {
        match target {
            Target::Cpu => Self::Cpu,
            Target::Gpu => Self::Gpu,
            Target::Tpu => Self::Tpu,
        }
    }
}

impl From<DType> for tensor::TensorType {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F16 => Self::Fp16,
            DType::F32 => Self::Fp32,
            DType::F64 => Self::Fp64,
            DType::Bf16 => Self::Bf16,
            DType::U8 => Self::U8,
            DType::I32 => Self::I32,
            DType::I64 => Self::I64,
        }
    }
}

impl From<tensor::TensorType> for DType {
    fn from(dtype: tensor::TensorType) -> Self {
        match dtype {
            tensor::TensorType::Fp16 => Self::F16,
            tensor::TensorType::Fp32 => Self::F32,
            tensor::TensorType::Fp64 => Self::F64,
            tensor::TensorType::Bf16 => Self::Bf16,
            tensor::TensorType::U8 => Self::U8,
            tensor::TensorType::I32 => Self::I32,
            tensor::TensorType::I64 => Self::I64,
        }
    }
}
