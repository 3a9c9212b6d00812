//! ONNX models that OpenVINO is known to answer wrongly, refused by name; the table is in `rules`.

use std::collections::HashSet;

use infer_core::{Error, ErrorKind, Precision, Result, clip};

use infer_onnx::{Model, Node, Tensor, check_rules};

use crate::constants::{is_wide, makes_wide};
use crate::rules::RULES;
use crate::wholes;

/// ONNX's number of f64.
const DOUBLE: i32 = 11;

/// Checks every node of a model, those inside of nodes and functions too.
///
/// # Errors
/// `UnsupportedOperation` for the first that a rule applies to, with the operator and what about it; for
/// whole numbers that need more than 32 bits, and for f64 and what is computed of whole numbers where less is
/// not asked for.
pub(crate) fn check(model: &Model, precision: Precision) -> Result<()> {
    check_rules(model, "OpenVINO", RULES)?;
    check_numbers(model, precision)
}

/// Checks the numbers of a model, of whatever encoding it was; ONNX's rules by operator and attribute are not looked at.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_numbers(model: &Model, precision: Precision) -> Result<()> {
    if precision == Precision::F32 {
        check_doubles(model)?;
    }
    check_wide_constants(model)?;
    match precision {
        Precision::Auto => Ok(()),
        _ => wholes::check(model),
    }
}

/// The engine computes f64 in f32, and makes of numbers that are too large for it the largest.
fn check_doubles(model: &Model) -> Result<()> {
    let refuse = |what: &str| {
        Err(
            unsupported(format!("OpenVINO would compute f64 in f32: {what}"))
                .with_hint("`--precision auto` allows it"),
        )
    };
    model.for_each_tensor(&mut |tensor| match tensor.dtype {
        DOUBLE if is_only_cast(model, tensor) => Ok(()),
        DOUBLE => refuse(&format!("constant `{}`", clip(&tensor.name))),
        _ => Ok(()),
    })?;
    model.for_each_graph(&mut |scope| {
        let to_double = |node: &&Node| {
            let to = node.attributes.iter().find(|a| a.name == "to");
            node.operator == "Cast" && to.is_some_and(|to| to.int == DOUBLE.into())
        };
        match scope.nodes.iter().find(to_double) {
            Some(_) => refuse("`Cast`"),
            None => Ok(()),
        }
    })
}

/// Whether an f64 constant fits f32 and does nothing but be cast to another element type, as converters write one of f32.
fn is_only_cast(model: &Model, tensor: &Tensor) -> bool {
    let (numbers, rest) = tensor.raw.as_chunks();
    let mut numbers = numbers.iter().map(|number| f64::from_le_bytes(*number));
    let fits = rest.is_empty() && numbers.all(|number| number.abs() <= f64::from(f32::MAX));
    if tensor.name.is_empty() || tensor.raw.is_empty() || !fits {
        return false;
    }
    let is_result = |graph: &infer_onnx::Graph| graph.outputs.iter().any(|o| o.name == tensor.name);
    let mut cast = true;
    let looked = model.for_each_graph(&mut |scope| {
        cast &= !scope.graph.is_some_and(is_result);
        let uses = scope
            .nodes
            .iter()
            .filter(|node| node.inputs.contains(&tensor.name));
        for node in uses {
            let to = node.attributes.iter().find(|a| a.name == "to");
            cast &= node.operator == "Cast" && to.is_some_and(|to| to.int != DOUBLE.into());
        }
        Ok(())
    });
    looked.is_ok() && cast
}

/// The engine computes whole numbers in 32 bits. Only `Slice` takes larger ones, which then mean the end.
fn check_wide_constants(model: &Model) -> Result<()> {
    let mut wide = HashSet::new();
    model.for_each_graph(&mut |scope| {
        let initializers = scope.graph.map_or(&[][..], |graph| &graph.initializers);
        let tensors = initializers.iter().filter(|tensor| is_wide(tensor));
        wide.extend(tensors.map(|tensor| tensor.name.clone()));
        let nodes = scope.nodes.iter().filter(|node| makes_wide(node));
        wide.extend(nodes.flat_map(|node| node.outputs.iter().cloned()));
        Ok(())
    })?;
    if wide.is_empty() {
        return Ok(());
    }
    let refuse = |name: &str| {
        let name = clip(name);
        Err(unsupported(format!(
            "OpenVINO computes whole numbers in 32 bits, and constant `{name}` has larger ones"
        )))
    };
    model.for_each_graph(&mut |scope| {
        let outputs = scope.graph.map_or(&[][..], |graph| &graph.outputs);
        let used = scope.nodes.iter().filter(|node| node.operator != "Slice");
        let mut used = used
            .flat_map(|node| &node.inputs)
            .chain(outputs.iter().map(|output| &output.name));
        match used.find(|name| wide.contains(*name)) {
            Some(name) => refuse(name),
            None => Ok(()),
        }
    })
}

pub(crate) fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::UnsupportedOperation, message)
        .with_hint("another backend may run this model")
}
