//! A model for each rule of what is refused, and some just beside, which run.

use infer_core::{Cancel, ErrorKind};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{AttributeProto, StringStringEntryProto};

use super::model::{Model, float, int, ints, text, texts, unary};
use super::values::{run, tensor};
use crate::load::load_model;

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
