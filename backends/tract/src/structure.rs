//! Whether a decoded model is well-formed, where tract would panic, recurse or allocate on one that is not.
//!
//! Checked: how deep graphs nest, that names are defined, and only once, that a tensor's bytes are as
//! many as its shape says, and that the expression of a dynamic dimension is short, since tract reads it
//! by recursion, and that kernels are no larger than tract can list.

use std::collections::HashSet;

use infer_core::{Dtype, Error, ErrorKind, Result, byte_length, clip, display_shape};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::dimension::Value;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use crate::convert::dtype_of;

/// How deep a graph may lie inside the attributes of nodes; tract recurses at each level.
const DEEPEST: usize = 8;

/// The longest expression of a dynamic dimension, in bytes.
const LONGEST_DIMENSION: usize = 256;

/// The most positions of a kernel; tract lists them.
const LARGEST_KERNEL: i64 = 1 << 20;

/// Checks the graph and all graphs inside it.
pub(crate) fn check(graph: &GraphProto) -> Result<()> {
    check_graph(graph, &HashSet::new(), 0)
}

fn check_graph<'a>(graph: &'a GraphProto, outer: &HashSet<&'a str>, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        return Err(invalid(format!(
            "its graphs nest deeper than {DEEPEST} levels"
        )));
    }
    let known = defined_names(graph, outer)?;
    for output in &graph.output {
        if !known.contains(output.name.as_str()) {
            return Err(invalid(format!(
                "nothing computes its output `{}`",
                clip(&output.name)
            )));
        }
    }
    for value in graph.input.iter().chain(&graph.output) {
        check_dimensions(value)?;
    }
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
    }
    for node in &graph.node {
        check_node(node, &known, depth)?;
    }
    Ok(())
}

/// The names that the graph's own nodes may use.
fn defined_names<'a>(graph: &'a GraphProto, outer: &HashSet<&'a str>) -> Result<HashSet<&'a str>> {
    let mut own = HashSet::new();
    for input in &graph.input {
        define(&mut own, &input.name)?;
    }
    let mut initialized = HashSet::new();
    for tensor in &graph.initializer {
        // An initialiser may have an input's name: it is the default.
        define(&mut initialized, &tensor.name)?;
    }
    own.extend(initialized);
    for name in graph
        .node
        .iter()
        .flat_map(|node| &node.output)
        .filter(|name| !name.is_empty())
    {
        define(&mut own, name)?;
    }
    own.extend(outer);
    Ok(own)
}

fn define<'a>(names: &mut HashSet<&'a str>, name: &'a str) -> Result<()> {
    match names.insert(name) {
        true => Ok(()),
        false => Err(invalid(format!("`{}` is defined twice", clip(name)))),
    }
}

fn check_node(node: &NodeProto, known: &HashSet<&str>, depth: usize) -> Result<()> {
    for name in node.input.iter().filter(|name| !name.is_empty()) {
        if !known.contains(name.as_str()) {
            return Err(invalid(format!(
                "nothing computes `{}`, an input of a `{}`",
                clip(name),
                clip(&node.op_type)
            )));
        }
    }
    for attribute in &node.attribute {
        if attribute.name == "kernel_shape" {
            check_kernel(&attribute.ints)?;
        }
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_tensor(tensor)?;
        }
        for inner in attribute.g.iter().chain(&attribute.graphs) {
            check_graph(inner, known, depth + 1)?;
        }
    }
    Ok(())
}

fn check_kernel(sizes: &[i64]) -> Result<()> {
    let positions = sizes
        .iter()
        .try_fold(1i64, |all, &size| all.checked_mul(size));
    match positions {
        Some(..=LARGEST_KERNEL) => Ok(()),
        _ => Err(invalid(format!(
            "a kernel of {sizes:?} has more than {LARGEST_KERNEL} positions"
        ))),
    }
}

fn check_dimensions(value: &ValueInfoProto) -> Result<()> {
    let name = clip(&value.name);
    let Some(type_proto::Value::TensorType(tensor)) =
        value.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Ok(());
    };
    for dimension in tensor.shape.iter().flat_map(|shape| &shape.dim) {
        if let Some(Value::DimParam(text)) = &dimension.value
            && text.len() > LONGEST_DIMENSION
        {
            let got = text.len();
            return Err(invalid(format!(
                "a dimension of `{name}` has {got} bytes, more than {LONGEST_DIMENSION}"
            )));
        }
    }
    Ok(())
}

fn check_tensor(tensor: &TensorProto) -> Result<()> {
    let name = clip(&tensor.name);
    let dimensions: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect();
    let shape =
        dimensions.ok_or_else(|| invalid(format!("tensor `{name}` has a negative dimension")))?;
    let dtype = DataType::try_from(tensor.data_type).map_err(|_| {
        invalid(format!(
            "tensor `{name}` is of unknown dtype {}",
            tensor.data_type
        ))
    })?;
    let external = tensor.data_location == Some(DataLocation::External as i32);
    // Other dtypes are refused by name, files are measured by tract.
    let known = tract_onnx::prelude::DatumType::try_from(dtype)
        .ok()
        .and_then(dtype_of);
    let Some(dtype) = known.filter(|dtype| dtype.size().is_some()) else {
        return Ok(());
    };
    let Some(expected) = byte_length(dtype, &shape) else {
        let shape = display_shape(&shape);
        return Err(invalid(format!(
            "the dimensions {shape} of tensor `{name}` overflow"
        )));
    };
    if !external && !tensor.raw_data.is_empty() && tensor.raw_data.len() != expected {
        let (shape, got) = (display_shape(&shape), tensor.raw_data.len());
        return Err(invalid(format!(
            "tensor `{name}` of {dtype} {shape} has {expected} bytes, got {got}"
        )));
    }
    if dtype == Dtype::Bool && tensor.raw_data.iter().any(|&byte| byte > 1) {
        return Err(invalid(format!(
            "tensor `{name}` of bool has bytes other than 0 and 1"
        )));
    }
    Ok(())
}

fn invalid(why: String) -> Error {
    Error::new(
        ErrorKind::InvalidEncoding,
        format!("not a valid ONNX model: {why}"),
    )
}
