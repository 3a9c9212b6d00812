//! Operators that tract runs wrongly on quantised values: those that stand between `DequantizeLinear` and
//! `QuantizeLinear`, which tract takes into the operator.
//!
//! Found on networks as ONNX Runtime's `quantize_static` makes them. With one of the two only, tract is right.

use std::collections::HashSet;

use infer_core::{Error, ErrorKind, Result, clip};
use tract_onnx::pb::{GraphProto, NodeProto};

/// Operators that were tried in that place, and were right.
const RIGHT: [&str; 24] = [
    "Add",
    "AveragePool",
    "Concat",
    "Conv",
    "DequantizeLinear",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MatMul",
    "MaxPool",
    "Mul",
    "QuantizeLinear",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
];

/// Operators that move values and change none, so that a quantisation is seen through them.
const MOVING: [&str; 7] = [
    "Dropout",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Refuses a graph in which another operator stands there.
pub(crate) fn check(graph: &GraphProto) -> Result<()> {
    let (after, before) = (dequantised(graph), to_be_quantised(graph));
    let between = |node: &&NodeProto| {
        !RIGHT.contains(&node.op_type.as_str())
            && !MOVING.contains(&node.op_type.as_str())
            && node.input.iter().any(|name| after.contains(name.as_str()))
            && node
                .output
                .iter()
                .any(|name| before.contains(name.as_str()))
    };
    match graph.node.iter().find(between) {
        None => Ok(()),
        Some(node) => {
            let message = format!(
                "tract would run `{}` wrongly: between `DequantizeLinear` and `QuantizeLinear`",
                clip(&node.op_type)
            );
            Err(Error::new(ErrorKind::UnsupportedOperation, message)
                .with_hint("another backend may run this model"))
        }
    }
}

/// Values that come out of `DequantizeLinear`. A file has its nodes in the order of their use.
fn dequantised(graph: &GraphProto) -> HashSet<&str> {
    let mut found = HashSet::new();
    for node in &graph.node {
        let moved = MOVING.contains(&node.op_type.as_str())
            && node.input.iter().any(|name| found.contains(name.as_str()));
        if moved || node.op_type == "DequantizeLinear" {
            found.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}

/// Values that go into `QuantizeLinear`.
fn to_be_quantised(graph: &GraphProto) -> HashSet<&str> {
    let mut found = HashSet::new();
    for node in graph.node.iter().rev() {
        let moved = MOVING.contains(&node.op_type.as_str())
            && node.output.iter().any(|name| found.contains(name.as_str()));
        if moved || node.op_type == "QuantizeLinear" {
            found.extend(node.input.first().map(String::as_str));
        }
    }
    found
}
