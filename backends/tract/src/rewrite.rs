//! Rewrites of a decoded model into an equal one, where tract would compute the first wrongly.
//!
//! `DequantizeLinear` of one scale: tract joins everything between it and the next `QuantizeLinear`
//! into one table from byte to byte. That is wrong when the two bytes differ in sign, and when an
//! operator between them looks at more than one element (`Softmax`). Written out as `Cast`, `Sub`
//! and `Mul` it is computed as ONNX defines it. One scale per channel is safe in tract as it is.
//!
//! `ConstantOfShape` without a value is of f32, which tract takes for f64. `Resize` of opset 10 picks
//! the pixel below, where tract picks the nearest: `nearest_mode`, which is newer, tells it. `Celu` of
//! an `alpha` that tract ignores is `alpha` times the `Elu` of the input divided by `alpha`. An output
//! that is an input of the graph loses its type in tract; an `Identity` between them keeps it. `Conv` and
//! `Slice` with strides get a barrier, for which see `repair`.

use std::collections::HashMap;

use infer_core::{Error, ErrorKind, Result};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// How the names of nodes end that are there to keep the optimiser from moving things past them.
pub(crate) const BARRIER: &str = "/barrier";

/// The constants that a graph's nodes can name, by name.
type Constants = HashMap<String, TensorProto>;

/// Rewrites the model and all graphs inside it.
pub(crate) fn rewrite(model: &mut ModelProto) -> Result<()> {
    let opset = model
        .opset_import
        .iter()
        .find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let opset = opset.map_or(0, |opset| opset.version);
    match &mut model.graph {
        Some(graph) => {
            part_outputs_from_inputs(graph);
            rewrite_graph(graph, opset, &Constants::new())
        }
        None => Ok(()),
    }
}

fn part_outputs_from_inputs(graph: &mut GraphProto) {
    for (index, output) in graph.output.iter_mut().enumerate() {
        if graph.input.iter().any(|input| input.name == output.name) {
            let name = format!("{}/output/{index}", output.name);
            graph.node.push(NodeProto {
                op_type: "Identity".to_owned(),
                name: name.clone(),
                input: vec![std::mem::replace(&mut output.name, name.clone())],
                output: vec![name],
                ..Default::default()
            });
        }
    }
}

fn rewrite_graph(graph: &mut GraphProto, opset: i64, outer: &Constants) -> Result<()> {
    let constants = constants_of(graph, outer);
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        for inner in node
            .attribute
            .iter_mut()
            .flat_map(|attribute| &mut attribute.g)
        {
            rewrite_graph(inner, opset, &constants)?;
        }
        match node.op_type.as_str() {
            "DequantizeLinear" => dequantize(node, &constants, graph, &mut nodes)?,
            "Conv" | "ConvInteger" | "QLinearConv" if skips(&node) => {
                behind_a_barrier(node, &mut nodes)
            }
            "Slice" if strides(&node, &constants) => behind_a_barrier(node, &mut nodes),
            "Celu" => celu(node, graph, &mut nodes),
            "ConstantOfShape" => nodes.push(with_value(node)),
            "Resize" if opset == 10 => nodes.push(with_nearest_mode(node, &constants)?),
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
    Ok(())
}

/// Whether tract would split the convolution into one that keeps some positions and one that convolves.
fn skips(node: &NodeProto) -> bool {
    let ints = |name: &str| {
        node.attribute
            .iter()
            .find(|attribute| attribute.name == name)
            .map(|a| a.ints.as_slice())
    };
    ints("strides").is_some_and(|strides| strides.iter().any(|&stride| stride > 1))
        && (ints("kernel_shape").is_none_or(|kernel| kernel.contains(&1))
            || ints("dilations").is_some())
}

/// Whether a slice may leave out positions in between.
fn strides(node: &NodeProto, constants: &Constants) -> bool {
    let Some(steps) = node.input.get(4).filter(|name| !name.is_empty()) else {
        return false;
    };
    let one = |bytes: &[u8]| bytes.iter().rev().skip_while(|&&byte| byte == 0).eq([&1]);
    constants.get(steps).is_none_or(|steps| {
        let size = if steps.data_type == DataType::Int32 as i32 {
            4
        } else {
            8
        };
        let raw = steps.raw_data.chunks(size).all(one);
        !raw || steps.int64_data.iter().any(|&step| step != 1)
            || steps.int32_data.iter().any(|&step| step != 1)
    })
}

fn behind_a_barrier(mut node: NodeProto, nodes: &mut Vec<NodeProto>) {
    if let (Some(input), Some(output)) = (node.input.first_mut(), node.output.first()) {
        let name = format!("{output}{BARRIER}");
        nodes.push(NodeProto {
            op_type: "Identity".to_owned(),
            name: name.clone(),
            input: vec![std::mem::replace(input, name.clone())],
            output: vec![name],
            ..Default::default()
        });
    }
    nodes.push(node);
}

fn celu(node: NodeProto, graph: &mut GraphProto, nodes: &mut Vec<NodeProto>) {
    let alpha = node
        .attribute
        .iter()
        .find(|attribute| attribute.name == "alpha")
        .map_or(1.0, |a| a.f);
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
        return nodes.push(node);
    };
    let part = |what: &str| format!("{output}/celu/{what}");
    graph.initializer.push(TensorProto {
        name: part("alpha"),
        data_type: DataType::Float as i32,
        float_data: vec![alpha],
        ..Default::default()
    });
    let elu = NodeProto {
        op_type: "Elu".to_owned(),
        name: part("elu"),
        input: vec![part("scaled")],
        output: vec![part("elu")],
        ..Default::default()
    };
    nodes.push(binary(
        "Div",
        [input.clone(), part("alpha")],
        part("scaled"),
    ));
    nodes.push(elu);
    nodes.push(binary("Mul", [part("elu"), part("alpha")], output.clone()));
}

fn with_value(mut node: NodeProto) -> NodeProto {
    if !node
        .attribute
        .iter()
        .any(|attribute| attribute.name == "value")
    {
        let zero = TensorProto {
            dims: vec![1],
            data_type: DataType::Float as i32,
            float_data: vec![0.0],
            ..Default::default()
        };
        node.attribute.push(AttributeProto {
            name: "value".to_owned(),
            r#type: AttributeType::Tensor as i32,
            t: Some(zero),
            ..Default::default()
        });
    }
    node
}

fn with_nearest_mode(mut node: NodeProto, constants: &Constants) -> Result<NodeProto> {
    let mode = node
        .attribute
        .iter()
        .find(|attribute| attribute.name == "mode");
    if mode.is_some_and(|mode| mode.s != b"nearest") {
        return Ok(node);
    }
    let scales = node
        .input
        .get(1)
        .and_then(|name| constants.get(name))
        .and_then(floats);
    if !scales.is_some_and(|scales| scales.iter().all(|&scale| scale >= 1.0)) {
        return Err(refuse(
            "Resize",
            "before opset 11 it can enlarge, by a constant of the model, but not shrink",
        ));
    }
    node.attribute.push(AttributeProto {
        name: "nearest_mode".to_owned(),
        r#type: AttributeType::String as i32,
        s: b"floor".to_vec(),
        ..Default::default()
    });
    Ok(node)
}

fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != DataType::Float as i32 {
        return None;
    }
    let raw = tensor
        .raw_data
        .chunks_exact(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().expect("4 bytes")));
    Some(if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        raw.collect()
    })
}

fn constants_of(graph: &GraphProto, outer: &Constants) -> Constants {
    let mut constants = outer.clone();
    for name in graph
        .input
        .iter()
        .map(|input| &input.name)
        .chain(graph.node.iter().flat_map(|node| &node.output))
    {
        constants.remove(name);
    }
    // Scales are small; weights need not be copied.
    let small =
        |tensor: &&TensorProto| tensor.dims.iter().product::<i64>() <= 1 || tensor.dims.len() <= 1;
    for tensor in graph.initializer.iter().filter(small) {
        constants.insert(tensor.name.clone(), tensor.clone());
    }
    for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
        let value = node
            .attribute
            .iter()
            .find(|attribute| attribute.name == "value")
            .and_then(|a| a.t.as_ref());
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
        return Err(refuse(
            "DequantizeLinear",
            "expected inputs `x` and `x_scale`",
        ));
    };
    let [output] = node.output.as_slice() else {
        return Err(refuse("DequantizeLinear", "expected one output"));
    };
    let Some(scale) = constants.get(scale) else {
        return Err(refuse(
            "DequantizeLinear",
            "the scale has to be a constant of the model",
        ));
    };
    if scale.dims.iter().product::<i64>() != 1 {
        nodes.push(node);
        return Ok(());
    }
    let part = |what: &str| format!("{output}/dequantize/{what}");
    let scalar = |tensor: &TensorProto, name: String| TensorProto {
        dims: Vec::new(),
        name,
        ..tensor.clone()
    };
    let float = scale.data_type;
    graph.initializer.push(scalar(scale, part("scale")));
    nodes.push(cast(input, part("cast"), float));
    let mut value = part("cast");
    if let Some(zero_point) = rest.first().filter(|name| !name.is_empty()) {
        let Some(zero_point) = constants.get(zero_point) else {
            return Err(refuse(
                "DequantizeLinear",
                "the zero point has to be a constant of the model",
            ));
        };
        graph
            .initializer
            .push(scalar(zero_point, part("zero_point")));
        nodes.push(cast(&part("zero_point"), part("offset"), float));
        nodes.push(binary("Sub", [value, part("offset")], part("difference")));
        value = part("difference");
    }
    nodes.push(binary("Mul", [value, part("scale")], output.clone()));
    Ok(())
}

fn cast(input: &str, output: String, to: i32) -> NodeProto {
    let attribute = AttributeProto {
        name: "to".to_owned(),
        r#type: AttributeType::Int as i32,
        i: i64::from(to),
        ..Default::default()
    };
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

fn refuse(operator: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::UnsupportedOperation,
        format!("tract cannot run this `{operator}`: {why}"),
    )
    .with_hint("another backend may run this model")
}
