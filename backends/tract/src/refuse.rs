//! Models that tract cannot run, or is known to answer wrongly, refused by name before it tries.

use infer_core::{Error, ErrorKind, Result};
use tract_onnx::Onnx;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, type_proto};

/// Checks a decoded model. `has_files` says whether it may name further files beside its own.
pub(crate) fn check_model(
    model: &ModelProto,
    graph: &GraphProto,
    onnx: &Onnx,
    has_files: bool,
) -> Result<()> {
    for input in graph.input.iter().chain(&graph.output) {
        check_dtype(
            &input.name,
            input.r#type.as_ref().and_then(|t| t.value.as_ref()),
        )?;
    }
    for_each_graph(graph, &mut |graph| {
        for tensor in &graph.initializer {
            check_tensor(tensor, has_files)?;
        }
        for node in &graph.node {
            check_node(model, node, onnx, has_files)?;
        }
        Ok(())
    })
}

fn for_each_graph(
    graph: &GraphProto,
    visit: &mut impl FnMut(&GraphProto) -> Result<()>,
) -> Result<()> {
    visit(graph)?;
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        for inner in attribute.g.iter().chain(&attribute.graphs) {
            for_each_graph(inner, visit)?;
        }
    }
    Ok(())
}

fn check_node(_model: &ModelProto, node: &NodeProto, onnx: &Onnx, has_files: bool) -> Result<()> {
    if !onnx.op_register.0.contains_key(&node.op_type) {
        let domain = if node.domain.is_empty() {
            String::new()
        } else {
            format!(" of domain `{}`", node.domain)
        };
        return Err(unsupported(format!(
            "tract does not have the operator `{}`{domain}",
            node.op_type
        )));
    }
    for attribute in &node.attribute {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_tensor(tensor, has_files)?;
        }
    }
    Ok(())
}

fn check_tensor(tensor: &TensorProto, has_files: bool) -> Result<()> {
    if tensor.data_location == Some(DataLocation::External as i32) && !has_files {
        let message = format!(
            "tensor `{}` lies in another file, which a model given as bytes may not name",
            tensor.name
        );
        return Err(Error::new(ErrorKind::Security, message));
    }
    if DataType::try_from(tensor.data_type) == Ok(DataType::Bfloat16) {
        return Err(no_dtype(&tensor.name, "bf16"));
    }
    Ok(())
}

fn check_dtype(name: &str, value: Option<&type_proto::Value>) -> Result<()> {
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Ok(());
    };
    match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Bfloat16) => Err(no_dtype(name, "bf16")),
        _ => Ok(()),
    }
}

fn no_dtype(name: &str, dtype: &str) -> Error {
    unsupported(format!("tract has no tensors of dtype {dtype} (`{name}`)"))
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::UnsupportedOperation, message)
        .with_hint("another backend may run this model")
}
