//! A run by the component ABI: `wasi:nn`, and `infer:nn/tensor-types` for what that has no name for.

use infer_guest::abi::View;
use infer_guest::abi::component::tensor_types::TensorType;
use infer_guest::abi::component::{Context, Graph, extended_type, send, send_extended, tensor};
use infer_guest::{Code, DType, Error, Info, Result};

use super::{Given, Got};

/// The element types beyond wasi-nn's own.
const EXTENDED: [(&str, TensorType); 7] = [
    ("BOOL", TensorType::Bool),
    ("I8", TensorType::I8),
    ("I16", TensorType::I16),
    ("U16", TensorType::U16),
    ("U32", TensorType::U32),
    ("U64", TensorType::U64),
    ("STRING", TensorType::String),
];

/// Runs `default` once; the tensors are in the order of its inputs.
pub(crate) fn run(info: &Info, given: &[Given]) -> Result<Vec<Got>> {
    let graph = Graph::by_name("default")?;
    let mut context: Context = graph.context()?;
    let names = info.inputs.iter().map(|input| input.name.clone());
    let tensors = given.iter().map(to_host).collect::<Result<Vec<_>>>()?;
    let results = context.compute_tensors(names.zip(tensors).collect())?;
    Ok(results.tensors().map(from_host).collect())
}

fn to_host(given: &Given) -> Result<tensor::Tensor> {
    let (dimensions, data) = (&*given.dimensions, &*given.bytes);
    if let Some(dtype) = DType::from_name(given.dtype) {
        return Ok(send(&View {
            dtype,
            dimensions,
            data,
        }));
    }
    let extended = EXTENDED.iter().find(|(name, _)| *name == given.dtype);
    let (_, dtype) = extended.ok_or_else(|| {
        Error::new(
            Code::InvalidArgument,
            format!("no element type `{}`", given.dtype),
        )
    })?;
    Ok(send_extended(*dtype, dimensions, data))
}

fn from_host(tensor: &tensor::Tensor) -> Got {
    let dtype = match extended_type(tensor) {
        Some(extended) => EXTENDED
            .iter()
            .find(|(_, dtype)| *dtype == extended)
            .map_or("", |(name, _)| name),
        None => DType::from(tensor.ty()).name(),
    };
    Got {
        dtype: dtype.to_owned(),
        dimensions: Some(tensor.dimensions()),
        bytes: tensor.data(),
    }
}
