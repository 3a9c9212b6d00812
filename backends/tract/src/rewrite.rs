//! Rewrites of a decoded model into an equal one, where tract would compute the first wrongly.
//!
//! `DequantizeLinear` of one scale: tract joins everything between it and the next `QuantizeLinear`
//! into one table from byte to byte. That is wrong when the two bytes differ in sign, and when an
//! operator between them looks at more than one element (`Softmax`). Written out as `Cast`, `Sub`
//! and `Mul` it is computed as ONNX defines it. One scale per channel is safe in tract as it is.

use std::collections::HashMap;

use infer_core::{Error, ErrorKind, Result};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// The constants that a graph's nodes can name, by name.
type Constants = HashMap<String, TensorProto>;

/// Rewrites the model and all graphs inside it.
pub(crate) fn rewrite(model: &mut ModelProto) -> Result<()> {
    match &mut model.graph {
        Some(graph) => rewrite_graph(graph, &Constants::new()),
        None => Ok(()),
    }
}

fn rewrite_graph(graph: &mut GraphProto, outer: &Constants) -> Result<()> {
    let mut nodes = Vec::with_capacity(graph.node.len());
    let uses = |node: &NodeProto| node.op_type == "DequantizeLinear" || node.attribute.iter().any(|a| a.g.is_some());
    if !graph.node.iter().any(uses) {
        return Ok(());
    }
    let constants = constants_of(graph, outer);
    for mut node in std::mem::take(&mut graph.node) {
        for inner in node.attribute.iter_mut().flat_map(|attribute| &mut attribute.g) {
            rewrite_graph(inner, &constants)?;
        }
        match node.op_type.as_str() {
            "DequantizeLinear" => dequantize(node, &constants, graph, &mut nodes)?,
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
    Ok(())
}

fn constants_of(graph: &GraphProto, outer: &Constants) -> Constants {
    let mut constants = outer.clone();
    for name in graph.input.iter().map(|input| &input.name).chain(graph.node.iter().flat_map(|node| &node.output)) {
        constants.remove(name);
    }
    // Scales are small; weights need not be copied.
    let small = |tensor: &&TensorProto| tensor.dims.iter().product::<i64>() <= 1 || tensor.dims.len() <= 1;
    for tensor in graph.initializer.iter().filter(small) {
        constants.insert(tensor.name.clone(), tensor.clone());
    }
    for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
        let value = node.attribute.iter().find(|attribute| attribute.name == "value").and_then(|a| a.t.as_ref());
        if let (Some(value), Some(name)) = (value.filter(small), node.output.first()) {
            constants.insert(name.clone(), value.clone());
        }
    }
    constants
}

/// `y = (x - zero_point) * scale`, written out.
fn dequantize(
    node: NodeProto,
    constants: &Constants,
    graph: &mut GraphProto,
    nodes: &mut Vec<NodeProto>,
) -> Result<()> {
    let [input, scale, rest @ ..] = node.input.as_slice() else {
        return Err(refuse("expected inputs `x` and `x_scale`"));
    };
    let [output] = node.output.as_slice() else { return Err(refuse("expected one output")) };
    let Some(scale) = constants.get(scale) else {
        return Err(refuse("the scale has to be a constant of the model"));
    };
    if scale.dims.iter().product::<i64>() != 1 {
        nodes.push(node);
        return Ok(());
    }
    let part = |what: &str| format!("{output}/dequantize/{what}");
    let scalar = |tensor: &TensorProto, name: String| TensorProto { dims: Vec::new(), name, ..tensor.clone() };
    let float = scale.data_type;
    graph.initializer.push(scalar(scale, part("scale")));
    nodes.push(cast(input, part("cast"), float));
    let mut value = part("cast");
    if let Some(zero_point) = rest.first().filter(|name| !name.is_empty()) {
        let Some(zero_point) = constants.get(zero_point) else {
            return Err(refuse("the zero point has to be a constant of the model"));
        };
        graph.initializer.push(scalar(zero_point, part("zero_point")));
        nodes.push(cast(&part("zero_point"), part("offset"), float));
        nodes.push(binary("Sub", [value, part("offset")], part("difference")));
        value = part("difference");
    }
    nodes.push(binary("Mul", [value, part("scale")], output.clone()));
    Ok(())
}

fn cast(input: &str, output: String, to: i32) -> NodeProto {
    let attribute =
        AttributeProto { name: "to".to_owned(), r#type: AttributeType::Int as i32, i: i64::from(to), ..Default::default() };
    NodeProto {
        op_type: "Cast".to_owned(),
        name: output.clone(),
        input: vec![input.to_owned()],
        output: vec![output],
        attribute: vec![attribute],
        ..Default::default()
    }
}

fn binary(op_type: &str, inputs: [String; 2], output: String) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        name: output.clone(),
        input: inputs.to_vec(),
        output: vec![output],
        ..Default::default()
    }
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::UnsupportedOperation, format!("tract cannot run this `DequantizeLinear`: {why}"))
        .with_hint("another backend may run this model")
}
