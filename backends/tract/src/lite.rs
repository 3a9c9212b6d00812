//! TensorFlow Lite models: those of which tract's reader is known to be right, and no others.
//!
//! Steps: verify the file's structure; check each tensor and operator against what has been tried beside plain
//! arithmetic; let tract read them; put right what its reader gets wrong; compare the outputs' shapes with
//! those of the file. The reader takes a file at its word and panics where that is wrong, and its table of
//! operators cannot be changed: hence a list of what is allowed, where ONNX has rules of what is not.

mod operators;

use std::collections::HashSet;

use infer_core::{Error, ErrorKind, Result, clip};
use tract_onnx::prelude::{DatumType, TypedModel};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::math::Mul;
use tract_onnx::tract_core::ops::quant::Scale;
use tract_onnx::tract_hir::internal::Framework;
use tract_tflite::tflite::{Model, SubGraph, Tensor, TensorType, root_as_model};

use crate::limits::{self, LARGEST};
use crate::load::{Declared, rejected};

/// The highest rank of a tensor; TensorFlow Lite's own kernels stop earlier.
const HIGHEST_RANK: usize = 8;

/// Reads a model from a file's bytes.
pub(crate) fn read(mut bytes: &[u8]) -> Result<(TypedModel, Declared)> {
    let file = root_as_model(bytes)
        .map_err(|error| invalid("it does not decode").with_source(error.to_string()))?;
    let graph = Graph::of(&file)?;
    graph.check()?;
    graph.check_shared(bytes.len())?;
    operators::check(&file, &graph)?;
    let reader = tract_tflite::tflite();
    let mut model = reader
        .proto_model_for_read(&mut bytes)
        .and_then(|proto| reader.model_for_proto_model(&proto))
        .map_err(|error| rejected("parse", error))?;
    limits::check(&model)?;
    put_right(&mut model);
    crate::repair::put_right(&mut model);
    graph.check_shapes(&model)?;
    let declared = Declared {
        inputs: graph.names(&graph.inputs),
        outputs: graph.names(&graph.outputs),
        shared: Vec::new(),
        infos: None,
    };
    Ok((model, declared))
}

/// The one graph of a file. Tensors have numbers.
struct Graph<'a> {
    flat: SubGraph<'a>,
    tensors: Vec<Tensor<'a>>,
    /// The elements of those tensors that have them in the file.
    constants: Vec<Option<&'a [u8]>>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

impl<'a> Graph<'a> {
    fn of(file: &Model<'a>) -> Result<Graph<'a>> {
        let graphs = file.subgraphs().filter(|graphs| graphs.len() == 1);
        let flat = graphs
            .map(|graphs| graphs.get(0))
            .ok_or_else(|| unsupported("a file of other than one graph".to_owned()))?;
        let tensors: Vec<Tensor<'a>> = flat.tensors().into_iter().flatten().collect();
        let constants = tensors
            .iter()
            .map(|tensor| elements(file, tensor))
            .collect::<Result<_>>()?;
        let ends = |numbers: Option<Vec<i32>>| {
            numbers.map_or(Ok(Vec::new()), |all| indexes(&all, tensors.len()))
        };
        Ok(Graph {
            inputs: ends(flat.inputs().map(|all| all.iter().collect()))?,
            outputs: ends(flat.outputs().map(|all| all.iter().collect()))?,
            flat,
            constants,
            tensors,
        })
    }

    /// The dimensions of a tensor, which `check` has found to be none that is negative.
    fn shape(&self, tensor: usize) -> Vec<usize> {
        let dimensions = self.tensors[tensor].shape().into_iter().flatten();
        dimensions
            .map(|size| usize::try_from(size).unwrap_or(0))
            .collect()
    }

    /// The numbers of a constant of dtype i32; `None` for any other tensor.
    fn integers(&self, tensor: usize) -> Option<Vec<i32>> {
        let bytes = self.constants[tensor]?;
        let i32s = self.tensors[tensor].type_() == TensorType::INT32;
        i32s.then(|| bytes.chunks_exact(4).map(number).collect())
    }

    fn name(&self, tensor: usize) -> &'a str {
        self.tensors[tensor].name().unwrap_or("")
    }

    fn names(&self, tensors: &[usize]) -> Vec<String> {
        let name = |&tensor: &usize| self.name(tensor).to_owned();
        tensors.iter().map(name).collect()
    }

    fn check(&self) -> Result<()> {
        for (tensor, constant) in self.tensors.iter().zip(&self.constants) {
            check_tensor(tensor, *constant)?;
        }
        for tensors in [&self.inputs, &self.outputs] {
            let names: HashSet<&str> = tensors.iter().map(|&tensor| self.name(tensor)).collect();
            if names.len() != tensors.len() || names.contains("") {
                return Err(invalid("inputs or outputs without a name of their own"));
            }
            let f32s = |&&tensor: &&usize| self.tensors[tensor].type_() == TensorType::FLOAT32;
            if let Some(&tensor) = tensors.iter().find(|tensor| !f32s(tensor)) {
                let name = clip(self.name(tensor));
                return Err(unsupported(format!("`{name}`, which is not of f32")));
            }
        }
        match self
            .inputs
            .iter()
            .find(|&&input| self.constants[input].is_some())
        {
            Some(&input) => Err(invalid(&format!(
                "its input `{}` is a constant",
                clip(self.name(input))
            ))),
            None => Ok(()),
        }
    }

    /// tract copies the elements of each tensor, so that few bytes shared by many tensors would fill the memory.
    fn check_shared(&self, file: usize) -> Result<()> {
        let constants = self.constants.iter().flatten();
        let copied = constants.fold(0usize, |sum, data| sum.saturating_add(data.len()));
        match copied <= file.saturating_mul(2) {
            true => Ok(()),
            false => Err(unsupported("tensors that share their elements".to_owned())),
        }
    }

    /// What tract works out has to be what the file says.
    fn check_shapes(&self, model: &TypedModel) -> Result<()> {
        for (&tensor, outlet) in self.outputs.iter().zip(&model.outputs) {
            let fact = model
                .outlet_fact(*outlet)
                .map_err(|e| rejected("type", e))?;
            let (expected, got) = (self.shape(tensor), fact.shape.as_concrete());
            if got != Some(expected.as_slice()) || fact.datum_type != DatumType::F32 {
                let name = clip(self.name(tensor));
                return Err(unsupported(format!(
                    "`{name}`: expected f32 {expected:?} as the file says, got {fact:?}"
                )));
            }
        }
        Ok(())
    }
}

fn elements<'a>(file: &Model<'a>, tensor: &Tensor<'a>) -> Result<Option<&'a [u8]>> {
    if tensor.buffer() == 0 {
        return Ok(None);
    }
    let buffers = file.buffers();
    let buffer = buffers
        .filter(|buffers| (tensor.buffer() as usize) < buffers.len())
        .map(|buffers| buffers.get(tensor.buffer() as usize))
        .ok_or_else(|| invalid("a tensor names a buffer that is not there"))?;
    let data = buffer.data().map(|data| data.bytes());
    Ok(data.filter(|data| !data.is_empty()))
}

fn check_tensor(tensor: &Tensor<'_>, constant: Option<&[u8]>) -> Result<()> {
    let name = clip(tensor.name().unwrap_or(""));
    let plain = match tensor.type_() {
        TensorType::FLOAT32 => true,
        // Axes and shapes, which tract has to know.
        TensorType::INT32 => constant.is_some(),
        _ => false,
    };
    let scaled = tensor.quantization().and_then(|q| q.scale());
    if !plain || scaled.is_some_and(|scale| !scale.is_empty()) {
        return Err(unsupported(format!("`{name}`, which is not of f32")));
    }
    if tensor.is_variable() || tensor.sparsity().is_some() {
        return Err(unsupported(format!(
            "`{name}`, which is variable or sparse"
        )));
    }
    let shape: Vec<i32> = tensor.shape().into_iter().flatten().collect();
    let bytes = shape.iter().try_fold(4usize, |bytes, &size| {
        bytes.checked_mul(usize::try_from(size).ok()?)
    });
    match bytes {
        Some(bytes) if constant.is_some_and(|data| data.len() != bytes) => Err(invalid(&format!(
            "tensor `{name}` of {shape:?} has {bytes} bytes, got another number"
        ))),
        Some(..=LARGEST) if shape.len() <= HIGHEST_RANK => Ok(()),
        _ => Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "tensor `{name}` of {shape:?} has more than {LARGEST} bytes or a rank over {HIGHEST_RANK}"
            ),
        )),
    }
}

/// Numbers of tensors as indexes, all of which are there.
fn indexes(numbers: &[i32], tensors: usize) -> Result<Vec<usize>> {
    numbers
        .iter()
        .map(|&number| {
            usize::try_from(number)
                .ok()
                .filter(|&index| index < tensors)
                .ok_or_else(|| invalid(&format!("it has no tensor {number}")))
        })
        .collect()
}

fn number(bytes: &[u8]) -> i32 {
    i32::from_le_bytes(bytes.try_into().unwrap_or_default())
}

/// `MEAN`: the reader divides by an operator for quantised numbers, which rounds to whole ones.
fn put_right(model: &mut TypedModel) {
    for node in &mut model.nodes {
        let f32s = node
            .outputs
            .iter()
            .all(|output| output.fact.datum_type == DatumType::F32);
        if let Some(binary) = node.op_as_mut::<TypedBinOp>()
            && binary.0.is::<Scale>()
            && f32s
        {
            binary.0 = Box::new(Mul);
        }
    }
}

fn invalid(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidEncoding,
        format!("not a valid TensorFlow Lite model: {why}"),
    )
}

fn unsupported(what: String) -> Error {
    Error::new(
        ErrorKind::UnsupportedOperation,
        format!("tract does not run TensorFlow Lite models with {what}"),
    )
    .with_hint("another backend may run this model")
}
