//! What tract would answer wrongly: a model for each rule, which has to be refused, and for each repair,
//! which has to give the right numbers. All are built here, as small as they can be.

mod lite;
mod model;
mod numbers;
mod shapes;
mod values;

use infer_core::{Call, Cancel, Error, ErrorKind, Tensor};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, StringStringEntryProto};

use crate::load::load_model;
use model::{Model, float, int, ints, text, texts, value};
use values::{bools, integers, run, strings, tensor};

/// An operator of one input of four elements.
fn unary(opset: i64, op_type: &str, attributes: &[AttributeProto]) -> Model {
    Model::new(opset)
        .x(&[1, 1, 2, 2])
        .node(op_type, &["x"], &["y"], attributes)
}

fn recurrent(op_type: &str, gates: i64, attributes: &[AttributeProto]) -> Model {
    let mut all = vec![int("hidden_size", 1)];
    all.extend_from_slice(attributes);
    Model::new(14)
        .x(&[2, 1, 1])
        .floats("w", &[1, gates, 1], &vec![0.5; gates as usize])
        .floats("r", &[1, gates, 1], &vec![0.25; gates as usize])
        .node(op_type, &["x", "w", "r"], &["y"], &all)
}

fn with_integers(model: Model, name: &str, dims: &[i64], values: &[i64]) -> Model {
    let mut model = model.integers(name, values);
    model.graph.initializer.last_mut().expect("just added").dims = dims.to_vec();
    model
}

/// An `LSTM` of three steps of two rows.
fn cells(outputs: &[&str]) -> Model {
    Model::new(14)
        .x(&[3, 2, 1])
        .floats("w", &[1, 4, 1], &[0.5; 4])
        .floats("r", &[1, 4, 1], &[0.25; 4])
        .node("LSTM", &["x", "w", "r"], outputs, &[int("hidden_size", 1)])
}

fn padded(mode: &str, inputs: &[&str]) -> Model {
    Model::new(13)
        .x(&[3])
        .integers("pads", &[1, 1])
        .floats("seven", &[], &[7.0])
        .node("Pad", inputs, &["y"], &[text("mode", mode)])
}

fn normalized(model: Model, input: &str) -> Model {
    let inputs = [input, "one", "one", "one", "one"];
    model
        .floats("one", &[1], &[1.0])
        .node("BatchNormalization", &inputs, &["y"], &[])
}

/// Every rule: what the refusal says, and a model that it is about.
fn refused() -> Vec<(&'static str, Model)> {
    let f32s = DataType::Float;
    vec![
        (
            "`Add` wrongly: it ignores the attribute `axis`",
            Model::new(6)
                .x(&[2, 3, 3])
                .floats("b", &[3], &[1.0; 3])
                .node(
                    "Add",
                    &["x", "b"],
                    &["y"],
                    &[int("axis", 1), int("broadcast", 1)],
                ),
        ),
        (
            "`Dropout` wrongly: it ignores `is_test`",
            unary(6, "Dropout", &[]),
        ),
        (
            "`AveragePool` wrongly: it counts padding",
            unary(
                6,
                "AveragePool",
                &[ints("kernel_shape", &[2, 2]), ints("pads", &[1, 1, 1, 1])],
            ),
        ),
        (
            "`BatchNormalization` wrongly: it ignores `training_mode`",
            Model::new(15)
                .x(&[1, 1, 2])
                .floats("one", &[1], &[1.0])
                .node(
                    "BatchNormalization",
                    &["x", "one", "one", "one", "one"],
                    &["y"],
                    &[int("training_mode", 1)],
                ),
        ),
        (
            "`Swish` wrongly: it ignores `alpha`",
            unary(24, "Swish", &[float("alpha", 0.5)]),
        ),
        (
            "`ConvTranspose` wrongly: `auto_pad`",
            Model::new(13)
                .x(&[1, 1, 3, 3])
                .floats("w", &[1, 1, 3, 3], &[1.0; 9])
                .node(
                    "ConvTranspose",
                    &["x", "w"],
                    &["y"],
                    &[
                        text("auto_pad", "SAME_UPPER"),
                        ints("strides", &[2, 2]),
                        ints("output_padding", &[1, 0]),
                    ],
                ),
        ),
        (
            "`ConvTranspose` wrongly: `output_shape`",
            Model::new(13)
                .x(&[1, 1, 5, 4])
                .floats("w", &[1, 1, 3, 3], &[1.0; 9])
                .node(
                    "ConvTranspose",
                    &["x", "w"],
                    &["y"],
                    &[ints("strides", &[2, 2]), ints("output_shape", &[10, 8])],
                ),
        ),
        (
            "`DFT` wrongly: an inverse",
            with_integers(Model::new(17).x(&[1, 8, 2]), "n", &[], &[6]).node(
                "DFT",
                &["x", "n"],
                &["y"],
                &[int("axis", 1), int("inverse", 1), int("onesided", 1)],
            ),
        ),
        (
            "`Cast` wrongly: it writes numbers",
            unary(13, "Cast", &[int("to", 8)]),
        ),
        (
            "`CastLike` wrongly: it writes numbers",
            Model::new(15)
                .x(&[2])
                .input("like", DataType::String, &[1])
                .node("CastLike", &["x", "like"], &["y"], &[]),
        ),
        (
            "`Equal` wrongly: bools",
            Model::new(13)
                .input("x", DataType::Bool, &[2])
                .node("Equal", &["x", "x"], &["y"], &[]),
        ),
        (
            "`Tile` wrongly: strings",
            Model::new(13)
                .input("x", DataType::String, &[2])
                .integers("twice", &[2])
                .node("Tile", &["x", "twice"], &["y"], &[]),
        ),
        (
            "`Slice`: `starts` and `ends` have to be known",
            Model::new(13)
                .x(&[6])
                .input("start", DataType::Int64, &[1])
                .integers("end", &[6])
                .node("Slice", &["x", "start", "end"], &["y"], &[]),
        ),
        (
            "`Dropout` wrongly: its mask",
            Model::new(10)
                .x(&[2])
                .node("Dropout", &["x"], &["y", "mask"], &[]),
        ),
        (
            "`Einsum` wrongly: a sum over every axis",
            Model::new(12)
                .x(&[2, 3])
                .node("Einsum", &["x"], &["y"], &[text("equation", "ij->")]),
        ),
        (
            "`Einsum` wrongly: an index twice",
            Model::new(12).x(&[2, 2]).floats("v", &[2], &[1.0; 2]).node(
                "Einsum",
                &["x", "v"],
                &["y"],
                &[text("equation", "ii, i -> i")],
            ),
        ),
        ("`GlobalLpPool` wrongly", unary(13, "GlobalLpPool", &[])),
        (
            "`GridSample` wrongly: cubic",
            Model::new(16)
                .x(&[1, 1, 4, 4])
                .input("grid", f32s, &[1, 2, 2, 2])
                .node(
                    "GridSample",
                    &["x", "grid"],
                    &["y"],
                    &[text("mode", "bicubic"), text("padding_mode", "border")],
                ),
        ),
        (
            "`LRN` wrongly: an even `size`",
            unary(13, "LRN", &[int("size", 2)]),
        ),
        (
            "`Normalizer` wrongly",
            Model::new(13)
                .x(&[2, 2])
                .node("Normalizer", &["x"], &["y"], &[])
                .domain("ai.onnx.ml"),
        ),
        (
            "`SkipSimplifiedLayerNormalization` wrongly: it ignores `bias`",
            Model::new(13)
                .x(&[1, 1, 2])
                .floats("w", &[2], &[1.0; 2])
                .node(
                    "SkipSimplifiedLayerNormalization",
                    &["x", "x", "w", "w"],
                    &["y"],
                    &[],
                )
                .domain("com.microsoft"),
        ),
        (
            "`NonMaxSuppression` wrongly",
            Model::new(11)
                .x(&[1, 2, 4])
                .input("scores", f32s, &[1, 1, 2])
                .node("NonMaxSuppression", &["x", "scores"], &["y"], &[]),
        ),
        (
            "`QuantizeLinear` wrongly: it ignores `output_dtype`",
            Model::new(21).x(&[2]).floats("scale", &[], &[0.5]).node(
                "QuantizeLinear",
                &["x", "scale"],
                &["y"],
                &[int("output_dtype", 3)],
            ),
        ),
        (
            "`RNN` wrongly: it ignores `direction`",
            recurrent("RNN", 1, &[text("direction", "reverse")]),
        ),
        (
            "`GRU` wrongly: it ignores `activations`",
            recurrent("GRU", 3, &[texts("activations", &["Sigmoid", "Relu"])]),
        ),
        (
            "`LSTM` wrongly: it ignores `clip`",
            recurrent("LSTM", 4, &[float("clip", 0.5)]),
        ),
        (
            "`LSTM` wrongly: it ignores `input_forget`",
            recurrent("LSTM", 4, &[int("input_forget", 1)]),
        ),
        (
            "`LSTM` wrongly: `Y_c` beside another output",
            cells(&["y", "", "c"]),
        ),
        (
            "`Pad` wrongly: with a constant value",
            padded("reflect", &["x", "pads", "seven"]),
        ),
        (
            "`RandomNormal` wrongly",
            Model::new(13).node(
                "RandomNormal",
                &[],
                &["y"],
                &[ints("shape", &[2]), int("dtype", 10)],
            ),
        ),
        (
            "`Pow` wrongly: an input without elements",
            Model::new(13).x(&[1, 3]).floats("base", &[0, 3], &[]).node(
                "Pow",
                &["base", "x"],
                &["y"],
                &[],
            ),
        ),
        (
            "`ParametricSoftplus` wrongly",
            unary(13, "ParametricSoftplus", &[]),
        ),
        (
            "`ReduceSumSquare` wrongly: the squares",
            Model::new(13).input("x", DataType::Int32, &[2]).node(
                "ReduceSumSquare",
                &["x"],
                &["y"],
                &[],
            ),
        ),
        (
            "`ReduceSum` wrongly: the sums",
            Model::new(13)
                .input("x", DataType::Int8, &[2])
                .node("ReduceSum", &["x"], &["y"], &[]),
        ),
        (
            "`ReduceL2` wrongly",
            Model::new(13).input("x", DataType::Float16, &[2]).node(
                "ReduceL2",
                &["x"],
                &["y"],
                &[],
            ),
        ),
        (
            "`ReduceLogSum` wrongly: integers",
            Model::new(13).input("x", DataType::Int32, &[2]).node(
                "ReduceLogSum",
                &["x"],
                &["y"],
                &[],
            ),
        ),
        (
            "`ReduceMax` wrongly: an input without elements",
            Model::new(13)
                .x(&[2, 3])
                .integers("none", &[0])
                .integers("axis", &[1])
                .node("Slice", &["x", "none", "none", "axis"], &["few"], &[])
                .node("ReduceMax", &["few"], &["y"], &[ints("axes", &[1])]),
        ),
        (
            "`Resize` wrongly: the nearest pixel",
            Model::new(13)
                .x(&[1, 1, 4, 5])
                .floats("scales", &[4], &[1.0, 1.0, 1.7, 2.3])
                .node(
                    "Resize",
                    &["x", "", "scales"],
                    &["y"],
                    &[
                        text("coordinate_transformation_mode", "align_corners"),
                        text("nearest_mode", "floor"),
                    ],
                ),
        ),
        (
            "`Resize`: before opset 11",
            Model::new(10)
                .x(&[1, 1, 4, 4])
                .floats("scales", &[4], &[1.0, 1.0, 0.5, 0.5])
                .node("Resize", &["x", "scales"], &["y"], &[]),
        ),
        (
            "`Slice` wrongly: it ignores `steps`",
            Model::new(13)
                .x(&[6])
                .input("start", DataType::Int64, &[1])
                .integers("end", &[6])
                .integers("axis", &[0])
                .integers("two", &[2])
                .node("Slice", &["x", "start", "end", "axis", "two"], &["y"], &[]),
        ),
        (
            "`Slice` wrongly: it cuts `starts` off",
            Model::new(13)
                .x(&[6])
                .integers("start", &[1 + (1 << 32)])
                .integers("end", &[6])
                .node("Slice", &["x", "start", "end"], &["y"], &[]),
        ),
        (
            "`Expand` wrongly: it cuts sizes off",
            Model::new(13).x(&[1]).integers("size", &[1 << 32]).node(
                "Expand",
                &["x", "size"],
                &["y"],
                &[],
            ),
        ),
        (
            "`Mul` wrongly: beside a dimension",
            Model::new(13)
                .x(&[0])
                .integers("large", &[1 << 40])
                .node("Shape", &["x"], &["size"], &[])
                .node("Mul", &["size", "large"], &["y"], &[]),
        ),
        (
            "`ArrayFeatureExtractor` wrongly",
            with_integers(Model::new(13).x(&[3, 4]), "at", &[1, 2], &[0, 2])
                .node("ArrayFeatureExtractor", &["x", "at"], &["y"], &[])
                .domain("ai.onnx.ml"),
        ),
        (
            "`Squeeze` wrongly: without axes",
            Model::new(13)
                .x(&[0, 3])
                .node("Squeeze", &["x"], &["y"], &[]),
        ),
        (
            "`TopK` wrongly: more elements",
            Model::new(11).x(&[0, 4]).integers("k", &[5]).node(
                "TopK",
                &["x", "k"],
                &["y", "i"],
                &[],
            ),
        ),
        (
            "`Transpose` wrongly: a `perm`",
            Model::new(13)
                .x(&[2, 3])
                .node("Transpose", &["x"], &["y"], &[ints("perm", &[0, 0])]),
        ),
        (
            "`Transpose` wrongly: a `perm`",
            Model::new(13)
                .x(&[2, 3])
                .node("Transpose", &["x"], &["y"], &[ints("perm", &[2, 1])]),
        ),
        (
            "cannot run `BatchNormalization` of a tensor of rank 1",
            normalized(Model::new(15).x(&[4]), "x"),
        ),
        (
            "cannot run `BatchNormalization` of a tensor of rank 0",
            normalized(
                Model::new(12).x(&[2, 3]).node(
                    "ReduceSum",
                    &["x"],
                    &["all"],
                    &[int("keepdims", 0)],
                ),
                "all",
            ),
        ),
        (
            "cannot run `DFT` of a tensor of rank 0",
            Model::new(17).x(&[]).node("DFT", &["x"], &["y"], &[]),
        ),
        (
            "cannot run `GatherND` of a tensor of rank 0",
            with_integers(Model::new(13).x(&[2]), "at", &[], &[0]).node(
                "GatherND",
                &["x", "at"],
                &["y"],
                &[],
            ),
        ),
        (
            "cannot run `LayerNormalization` of a tensor of rank 0",
            Model::new(17).x(&[]).floats("one", &[], &[1.0]).node(
                "LayerNormalization",
                &["x", "one"],
                &["y"],
                &[],
            ),
        ),
        (
            "cannot run `LayerNormalization` of a tensor of rank 2, below 3",
            Model::new(17)
                .x(&[2, 3])
                .floats("one", &[3], &[1.0; 3])
                .node(
                    "LayerNormalization",
                    &["x", "one"],
                    &["y"],
                    &[int("axis", -3)],
                ),
        ),
        (
            "does not have the operator `Relu` of domain `com.acme`",
            unary(13, "Relu", &[]).domain("com.acme"),
        ),
        (
            "does not have the operator `TreeEnsembleClassifier`",
            unary(13, "TreeEnsembleClassifier", &[]),
        ),
        (
            "expected an opset of 1 to 27, got 28",
            unary(28, "Relu", &[]),
        ),
    ]
}

#[test]
fn what_tract_gets_wrong_is_refused() {
    for (expected, model) in refused() {
        let Err(error) = model.load() else {
            panic!("{expected}: expected a refusal, got a model")
        };
        assert_eq!(
            error.kind(),
            ErrorKind::UnsupportedOperation,
            "{expected}: {}",
            error.report()
        );
        assert!(
            error.report().contains(expected),
            "expected `{expected}`, got `{}`",
            error.report()
        );
    }
}

#[test]
fn what_is_just_beside_runs() {
    let x = tensor(&[3], &[1.0, 2.0, 3.0]);
    let square = tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let steps = tensor(&[3, 2, 1], &[0.0; 6]);
    let cases = [
        (
            padded("reflect", &["x", "pads"]),
            &x,
            vec![2.0, 1.0, 2.0, 3.0, 2.0],
        ),
        (
            padded("constant", &["x", "pads", "seven"]),
            &x,
            vec![7.0, 1.0, 2.0, 3.0, 7.0],
        ),
        (
            Model::new(12)
                .x(&[2, 2])
                .node("Einsum", &["x"], &["y"], &[text("equation", "ii->i")]),
            &square,
            vec![1.0, 4.0],
        ),
        (
            Model::new(11).x(&[0, 2]).integers("k", &[2]).node(
                "TopK",
                &["x", "k"],
                &["y", "i"],
                &[],
            ),
            &square,
            vec![2.0, 1.0, 4.0, 3.0],
        ),
        (cells(&["y", "h"]), &steps, vec![0.0; 6]),
        (cells(&["", "", "c"]), &steps, vec![0.0; 2]),
    ];
    for (model, input, expected) in cases {
        let graph = model
            .load()
            .unwrap_or_else(|error| panic!("{}", error.report()));
        let got = run(graph.as_ref(), std::slice::from_ref(input)).expect("runs");
        assert_eq!(got, expected);
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_beside_the_model_is_refused_at_once() {
    let folder = std::env::temp_dir().join(format!("infer-tract-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let pipe = folder.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let mut model =
        Model::new(13)
            .x(&[1])
            .floats("w", &[1], &[])
            .node("Add", &["x", "w"], &["y"], &[]);
    let weights = model.graph.initializer.last_mut().expect("just added");
    weights.data_location = Some(DataLocation::External as i32);
    weights.external_data = vec![StringStringEntryProto {
        key: "location".to_owned(),
        value: "pipe".to_owned(),
    }];
    let path = folder.to_str().expect("a name");
    let loaded = load_model(model.proto(), Some(path), &Cancel::default());
    std::fs::remove_dir_all(&folder).expect("removed");
    let error = loaded.err().expect("it is no file").report();
    assert!(
        error.contains("`w` lies in `pipe`: expected a file"),
        "{error}"
    );
}

/// A chain between `DequantizeLinear` and `QuantizeLinear`, from i8 to `to`, both of scale 1/64.
fn quantized(to: DataType, op_type: &str) -> Model {
    Model::new(13)
        .x(&[1, 4])
        .floats("scale", &[], &[1.0 / 64.0])
        .byte("from", DataType::Int8, 0)
        .byte("to", to, 0)
        .node("QuantizeLinear", &["x", "scale", "from"], &["narrow"], &[])
        .node(
            "DequantizeLinear",
            &["narrow", "scale", "from"],
            &["wide"],
            &[],
        )
        .node(op_type, &["wide"], &["z"], &[])
        .node("QuantizeLinear", &["z", "scale", "to"], &["y"], &[])
}

/// A one-channel convolution of 3 by 3 that adds up what it sees.
fn convolution(model: Model, input: &str, output: &str, attributes: &[AttributeProto]) -> Model {
    model
        .floats(output_weights(output), &[1, 1, 3, 3], &[1.0; 9])
        .node(
            "Conv",
            &[input, output_weights(output)],
            &[output],
            attributes,
        )
}

fn output_weights(output: &str) -> &'static str {
    if output == "y" { "w_last" } else { "w" }
}

type Repaired = (&'static str, Model, Vec<Tensor>, Vec<f64>);

fn scan() -> Model {
    let body = GraphProto {
        name: "body".to_owned(),
        input: vec![
            value("sum", DataType::Float, &[1]),
            value("next", DataType::Float, &[1]),
        ],
        output: vec![
            value("new", DataType::Float, &[1]),
            value("each", DataType::Float, &[1]),
        ],
        node: vec![
            NodeProto {
                op_type: "Add".to_owned(),
                input: vec!["sum".to_owned(), "next".to_owned()],
                output: vec!["new".to_owned()],
                ..Default::default()
            },
            NodeProto {
                op_type: "Identity".to_owned(),
                input: vec!["new".to_owned()],
                output: vec!["each".to_owned()],
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    let body = AttributeProto {
        name: "body".to_owned(),
        r#type: AttributeType::Graph as i32,
        g: Some(body),
        ..Default::default()
    };
    Model::new(13).x(&[3, 1]).floats("zero", &[1], &[0.0]).node(
        "Scan",
        &["zero", "x"],
        &["y", "all"],
        &[body, int("num_scan_inputs", 1)],
    )
}

/// Every repair: a model, its inputs, and what it has to give.
fn repaired() -> Vec<Repaired> {
    let ramp = |count: u16| (0..count).map(f32::from).collect::<Vec<f32>>();
    let large = (1i64 << 40) + 7;
    vec![
        (
            "softmax between quantized tensors",
            quantized(DataType::Int8, "Softmax"),
            vec![tensor(&[1, 4], &[1.0, 0.5, -0.5, -1.0])],
            vec![33.0, 20.0, 7.0, 4.0],
        ),
        (
            "from signed to unsigned",
            quantized(DataType::Uint8, "Abs"),
            vec![tensor(&[1, 4], &[1.0, 0.5, -0.5, -1.0])],
            vec![64.0, 32.0, 32.0, 64.0],
        ),
        (
            "a cast to int64",
            Model::new(13).input("x", DataType::Int64, &[2]).node(
                "Cast",
                &["x"],
                &["y"],
                &[int("to", 7)],
            ),
            vec![integers(&[large, -large])],
            vec![large as f64, -large as f64],
        ),
        (
            "int64 beside a dimension",
            Model::new(13)
                .x(&[0])
                .input("n", DataType::Int64, &[1])
                .node("Shape", &["x"], &["size"], &[])
                .node("Add", &["size", "n"], &["y"], &[]),
            vec![tensor(&[2], &[0.0; 2]), integers(&[large])],
            vec![(large + 2) as f64],
        ),
        (
            "the size of an input",
            Model::new(13).x(&[0, 3]).node("Size", &["x"], &["y"], &[]),
            vec![tensor(&[4, 3], &[0.0; 12])],
            vec![12.0],
        ),
        (
            "log softmax of distant logits",
            Model::new(13)
                .x(&[1, 2])
                .node("LogSoftmax", &["x"], &["y"], &[]),
            vec![tensor(&[1, 2], &[0.0, 200.0])],
            vec![-200.0, 0.0],
        ),
        (
            "log softmax before opset 13",
            Model::new(11)
                .x(&[1, 2, 1])
                .node("LogSoftmax", &["x"], &["y"], &[]),
            vec![tensor(&[1, 2, 1], &[0.0, 200.0])],
            vec![-200.0, 0.0],
        ),
        (
            "a remainder whose first input is broadcast",
            Model::new(13)
                .input("x", DataType::Int64, &[1])
                .integers("by", &[2, 5, 7])
                .node("Mod", &["x", "by"], &["y"], &[]),
            vec![integers(&[-9])],
            vec![1.0, 1.0, 5.0],
        ),
        (
            "celu with alpha",
            Model::new(13)
                .x(&[2])
                .node("Celu", &["x"], &["y"], &[float("alpha", 2.0)]),
            vec![tensor(&[2], &[3.0, -2.0])],
            vec![3.0, 2.0 * ((-1.0f64).exp() - 1.0)],
        ),
        (
            "a constant without a value",
            Model::new(13)
                .x(&[1])
                .integers("size", &[2])
                .node("ConstantOfShape", &["size"], &["zeros"], &[])
                .node("Add", &["x", "zeros"], &["y"], &[]),
            vec![tensor(&[1], &[3.0])],
            vec![3.0, 3.0],
        ),
        (
            "the pixel below",
            Model::new(10)
                .x(&[1, 1, 1, 2])
                .floats("scales", &[4], &[1.0, 1.0, 1.0, 3.0])
                .node("Resize", &["x", "scales"], &["y"], &[]),
            vec![tensor(&[1, 1, 1, 2], &[1.0, 2.0])],
            vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0],
        ),
        (
            "a constant minus a convolution",
            {
                let model = convolution(
                    Model::new(13).x(&[1, 1, 3, 3]).floats("c", &[], &[1.0]),
                    "x",
                    "z",
                    &[],
                );
                model.node("Sub", &["c", "z"], &["y"], &[])
            },
            vec![tensor(&[1, 1, 3, 3], &ramp(9))],
            vec![-35.0],
        ),
        (
            "every second of a softmax",
            Model::new(13)
                .x(&[1, 4])
                .integers("start", &[1])
                .integers("end", &[4])
                .integers("axis", &[1])
                .integers("two", &[2])
                .node("Softmax", &["x"], &["z"], &[])
                .node("Slice", &["z", "start", "end", "axis", "two"], &["y"], &[]),
            vec![tensor(&[1, 4], &[0.0; 4])],
            vec![0.25, 0.25],
        ),
        (
            "every second of a convolution, from the second on",
            {
                let model = convolution(Model::new(13).x(&[1, 1, 3, 6]), "x", "z", &[]);
                model
                    .integers("start", &[1])
                    .integers("end", &[4])
                    .integers("axis", &[3])
                    .integers("two", &[2])
                    .node("Slice", &["z", "start", "end", "axis", "two"], &["y"], &[])
            },
            vec![tensor(&[1, 1, 3, 6], &ramp(18))],
            vec![72.0, 90.0],
        ),
        (
            "a convolution that skips, of a softmax",
            Model::new(13)
                .x(&[1, 1, 1, 4])
                .floats("w", &[1, 1, 1, 1], &[1.0])
                .node("Softmax", &["x"], &["z"], &[int("axis", 3)])
                .node(
                    "Conv",
                    &["z", "w"],
                    &["y"],
                    &[ints("kernel_shape", &[1, 1]), ints("strides", &[1, 2])],
                ),
            vec![tensor(&[1, 1, 1, 4], &[0.0; 4])],
            vec![0.25, 0.25],
        ),
        (
            "a scan that starts afresh",
            scan(),
            vec![tensor(&[3, 1], &[1.0, 2.0, 3.0])],
            vec![6.0],
        ),
        (
            "a mask that nothing uses",
            Model::new(9)
                .x(&[2])
                .node("Dropout", &["x"], &["z", "mask"], &[])
                .node("Neg", &["z"], &["y"], &[]),
            vec![tensor(&[2], &[1.0, 2.0])],
            vec![-1.0, -2.0],
        ),
        (
            "a choice by bools",
            Model::new(13)
                .input("which", DataType::Bool, &[3])
                .x(&[1])
                .floats("other", &[], &[5.0])
                .node("Where", &["which", "x", "other"], &["y"], &[]),
            vec![bools(&[true, false, true]), tensor(&[1], &[2.0])],
            vec![2.0, 5.0, 2.0],
        ),
        (
            "strings compared",
            Model::new(19)
                .input("x", DataType::String, &[2, 1])
                .input("to", DataType::String, &[2])
                .node("Equal", &["x", "to"], &["y"], &[]),
            vec![strings(&[2, 1], &["a", "b"]), strings(&[2], &["b", "a"])],
            vec![0.0, 1.0, 1.0, 0.0],
        ),
        (
            "an output that is an input",
            Model::new(13)
                .x(&[2])
                .node("Identity", &["x"], &["x2"], &[]),
            vec![tensor(&[2], &[1.0, 2.0])],
            vec![1.0, 2.0],
        ),
    ]
}

#[test]
fn what_tract_gets_wrong_is_put_right() {
    let all = repaired().into_iter().chain(numbers::repaired());
    for (what, model, inputs, expected) in all {
        let graph = model
            .load()
            .unwrap_or_else(|error: Error| panic!("{what}: {}", error.report()));
        let got = run(graph.as_ref(), &inputs)
            .unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        let close = |(got, expected): (&f64, &f64)| {
            got == expected || (got - expected).abs() <= 1e-5 * expected.abs().max(1.0)
        };
        let right = got.len() == expected.len() && got.iter().zip(&expected).all(close);
        assert!(right, "{what}: expected {expected:?}, got {got:?}");
    }
}

#[test]
fn no_tensor_gets_too_large() {
    let load = |model: Model| {
        model
            .load()
            .err()
            .map_or("loaded".to_owned(), |error| error.report())
    };
    let sized = Model::new(13).integers("size", &[1 << 20, 1 << 20]).node(
        "ConstantOfShape",
        &["size"],
        &["y"],
        &[],
    );
    let report = load(sized);
    assert!(report.contains("bytes"), "{report}");

    // The product of a column and a row, whose length the caller chooses.
    let outer = Model::new(13)
        .x(&[0, 1])
        .node("Transpose", &["x"], &["row"], &[ints("perm", &[1, 0])])
        .node("MatMul", &["x", "row"], &["y"], &[]);
    let graph = outer.load().expect("loads");
    let call = |rows: usize| run(graph.as_ref(), &[tensor(&[rows, 1], &vec![1.0; rows])]);
    assert_eq!(call(2).expect("is small"), [1.0; 4]);
    assert_eq!(
        call(1 << 17).expect_err("is too large").kind(),
        ErrorKind::TooLarge
    );
    assert_eq!(call(2).expect("is small again"), [1.0; 4]);
}

#[test]
fn hostile_expressions_end() {
    let mut nested = Model::new(13)
        .x(&[0])
        .integers("three", &[3])
        .integers("one", &[1])
        .node("Shape", &["x"], &["s0"], &[]);
    for level in 0..100 {
        let (from, middle, to) = (
            format!("s{level}"),
            format!("d{level}"),
            format!("s{}", level + 1),
        );
        nested = nested.node("Div", &[&from, "three"], &[&middle], &[]).node(
            "Add",
            &[&middle, "one"],
            &[&to],
            &[],
        );
    }
    let mut squared = Model::new(13)
        .x(&[0])
        .node("Shape", &["x"], &["s0"], &[])
        .integers("one", &[1]);
    for level in 0..30 {
        let (from, middle, to) = (
            format!("s{level}"),
            format!("t{level}"),
            format!("s{}", level + 1),
        );
        squared = squared.node("Add", &[&from, "one"], &[&middle], &[]).node(
            "Mul",
            &[&from, &middle],
            &[&to],
            &[],
        );
    }
    for model in [nested, squared] {
        let error = model.load().err().expect("is refused");
        assert!(error.report().contains("expression"), "{}", error.report());
    }
}

#[test]
fn strings_come_out_as_they_went_in() {
    let graph = Model::new(13)
        .input("x", DataType::String, &[1, 2])
        .node("Identity", &["x"], &["y"], &[])
        .load()
        .expect("loads");
    let run = |tensor: Tensor| {
        let mut calls = [Call::new(vec![tensor], Cancel::default())];
        graph.session().expect("a session").run(&mut calls);
        let [call] = calls;
        call.result.expect("has run")
    };
    let values = ["caf\u{e9}", ""];
    let outputs = run(strings(&[1, 2], &values)).expect("runs");
    assert_eq!(outputs[0].shape(), [1, 2]);
    let got = outputs[0].strings().expect("strings");
    assert_eq!(got, values.map(str::as_bytes));

    let bytes: [&[u8]; 2] = [b"\xff", b""];
    let bytes = Tensor::of_strings(vec![1, 2], &bytes).expect("a valid tensor");
    let error = run(bytes).expect_err("no text");
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
}
