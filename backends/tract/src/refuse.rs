//! Models that tract cannot run, or is known to answer wrongly, refused by name.
//!
//! Three passes: [`check_model`] looks at the file alone, before tract sees it; [`check_typed`] at what
//! tract found out about dtypes, shapes and constants; [`check_simplified`] at what tract made of it. The
//! tables of what is refused, and why, are in `rules`.

use std::path::{Component, Path};

use infer_core::{Error, ErrorKind, Result, clip};
use tract_onnx::Onnx;
use tract_onnx::model::ParseResult;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, type_proto};
use tract_onnx::prelude::{TypedModel, TypedNode};
use tract_onnx::tract_core::ops::array::DynSlice;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::scan::Scan;

use crate::rules::{FROM_FILE, FROM_TYPES, Facts, Rule, domain_has};

/// The opsets whose operators have been tried. A newer one may give a known operator a new meaning.
const NEWEST_OPSET: i64 = 27;
const NO_OPSET: i64 = 0;

/// Checks a decoded model. It may name further files in `folder`, if there is one.
pub(crate) fn check_model(
    model: &ModelProto,
    graph: &GraphProto,
    onnx: &Onnx,
    folder: Option<&str>,
) -> Result<()> {
    let opset = opset(model)?;
    for tensor in graph.input.iter().chain(&graph.output) {
        check_value(
            &tensor.name,
            tensor.r#type.as_ref().and_then(|t| t.value.as_ref()),
        )?;
    }
    for_each_graph(graph, &mut |graph| {
        for tensor in &graph.initializer {
            check_tensor(tensor, folder)?;
        }
        for node in &graph.node {
            check_operator(node, opset, onnx)?;
            for tensor in node
                .attribute
                .iter()
                .flat_map(|a| a.t.iter().chain(&a.tensors))
            {
                check_tensor(tensor, folder)?;
            }
            check_rules(FROM_FILE, &Facts::new(node, opset, None))?;
        }
        Ok(())
    })
}

/// Checks what tract made of the model once it has worked out dtypes and shapes.
pub(crate) fn check_typed(
    model: &ModelProto,
    graph: &GraphProto,
    parsed: &ParseResult,
) -> Result<()> {
    let opset = opset(model)?;
    for node in &graph.node {
        check_rules(FROM_TYPES, &Facts::new(node, opset, Some(parsed)))?;
        for inner in node
            .attribute
            .iter()
            .flat_map(|a| a.g.iter().chain(&a.graphs))
        {
            // Nothing is known of the types in there.
            for_each_graph(inner, &mut |inner| {
                inner
                    .node
                    .iter()
                    .try_for_each(|node| check_rules(FROM_TYPES, &Facts::new(node, opset, None)))
            })?;
        }
    }
    Ok(())
}

/// Checks a model whose constants have been computed, for what is left that no run gets through: tract counts
/// the elements of such a slice by a symbol that it has forgotten by then.
pub(crate) fn check_simplified(model: &TypedModel) -> Result<()> {
    model.nodes.iter().try_for_each(|node| {
        if node.op_is::<DynSlice>() {
            return Err(unsupported(
                "tract cannot run this `Slice`: `starts` and `ends` have to be known, or to come from shapes"
                    .to_owned(),
            ));
        }
        inner_models(node).into_iter().try_for_each(check_simplified)
    })
}

fn inner_models(node: &TypedNode) -> Vec<&TypedModel> {
    if let Some(scan) = node.op_as::<Scan>() {
        return vec![&scan.body];
    }
    match node.op_as::<IfThenElse>() {
        Some(branches) => vec![&branches.then_body, &branches.else_body],
        None => Vec::new(),
    }
}

fn check_rules(rules: &[Rule], facts: &Facts<'_>) -> Result<()> {
    let operator = facts.node.op_type.as_str();
    match rules
        .iter()
        .find(|rule| rule.operators.contains(&operator) && (rule.applies)(facts))
    {
        None => Ok(()),
        Some(rule) => Err(unsupported(format!(
            "tract would run `{operator}` wrongly: {}",
            rule.what
        ))),
    }
}

fn opset(model: &ModelProto) -> Result<i64> {
    let imported = model
        .opset_import
        .iter()
        .find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    match imported.map(|opset| opset.version) {
        Some(version @ 1..=NEWEST_OPSET) => Ok(version),
        Some(version) => Err(unsupported(format!(
            "expected an opset of 1 to {NEWEST_OPSET}, got {version}"
        ))),
        // Such a model may still use other domains.
        None => Ok(NO_OPSET),
    }
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

/// tract looks operators up by their type alone, whatever their domain.
fn check_operator(node: &NodeProto, opset: i64, onnx: &Onnx) -> Result<()> {
    if opset == NO_OPSET && matches!(node.domain.as_str(), "" | "ai.onnx") {
        let message = format!(
            "not a valid ONNX model: it uses `{}` and names no opset",
            clip(&node.op_type)
        );
        return Err(Error::new(ErrorKind::InvalidEncoding, message));
    }
    if domain_has(&node.domain, &node.op_type) && onnx.op_register.0.contains_key(&node.op_type) {
        return Ok(());
    }
    let domain = match node.domain.as_str() {
        "" => String::new(),
        domain => format!(" of domain `{}`", clip(domain)),
    };
    Err(unsupported(format!(
        "tract does not have the operator `{}`{domain}",
        clip(&node.op_type)
    )))
}

fn check_tensor(tensor: &TensorProto, folder: Option<&str>) -> Result<()> {
    if tensor.data_location == Some(DataLocation::External as i32) {
        check_location(tensor, folder)?;
    }
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Bfloat16) => Err(no_dtype(&tensor.name, "bf16")),
        _ => Ok(()),
    }
}

/// tract resolves links itself and refuses those that lead out of the folder. It would wait for what comes out of a pipe.
fn check_location(tensor: &TensorProto, folder: Option<&str>) -> Result<()> {
    let name = clip(&tensor.name);
    let denied = |message: String| Err(Error::new(ErrorKind::Security, message));
    let Some(folder) = folder else {
        return denied(format!(
            "tensor `{name}` lies in another file, which a model given as bytes may not name"
        ));
    };
    let location = tensor
        .external_data
        .iter()
        .find(|entry| entry.key == "location");
    let location = location.map_or("", |entry| entry.value.as_str());
    let shown = clip(location);
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(location).components().all(inside) {
        return denied(format!(
            "tensor `{name}` lies in `{shown}`, outside the model's folder"
        ));
    }
    match Path::new(folder).join(location).metadata() {
        Ok(found) if !location.is_empty() && !found.is_file() => denied(format!(
            "tensor `{name}` lies in `{shown}`: expected a file, got a folder, a pipe or a device"
        )),
        // tract says what is wrong with it.
        _ => Ok(()),
    }
}

fn check_value(name: &str, value: Option<&type_proto::Value>) -> Result<()> {
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Ok(());
    };
    match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Bfloat16) => Err(no_dtype(name, "bf16")),
        _ => Ok(()),
    }
}

fn no_dtype(name: &str, dtype: &str) -> Error {
    unsupported(format!(
        "tract has no tensors of dtype {dtype} (`{}`)",
        clip(name)
    ))
}

pub(crate) fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::UnsupportedOperation, message)
        .with_hint("another backend may run this model")
}
