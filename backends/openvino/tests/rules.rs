//! What OpenVINO would answer wrongly: a model for each rule, which has to be refused by name, and models
//! just beside, which have to run.

mod common;

use common::onnx::{FLOAT, INT64, Model, graph, inner, int, ints, node, one, string};
use infer_core::{Encoding, ErrorKind, Source, Tensor};

fn resize(inputs: &[&str], attributes: &[Vec<u8>]) -> Model {
    one("Resize", inputs, &["y"], attributes)
}

/// An `If` whose branches nest so deep.
fn nested(levels: usize) -> Model {
    let mut inner_node = node("Neg", [&["x"], &["y"]], &[]);
    let branches = |node: &[u8]| {
        let branch = graph(node, "y");
        [inner("then_branch", &branch), inner("else_branch", &branch)]
    };
    for _ in 1..levels {
        inner_node = node("If", [&["c"], &["y"]], &branches(&inner_node));
    }
    Model::new(22)
        .input("x", FLOAT, &[4])
        .input("c", 9, &[])
        .output("y", FLOAT, &[0])
        .node("If", [&["c"], &["y"]], &branches(&inner_node))
}

#[test]
fn each_is_refused_by_name() {
    let Some(engine) = common::engine("each_is_refused_by_name") else {
        return;
    };
    let recurrent = ["x", "w", "r"];
    let pooled = [
        int("ceil_mode", 1),
        ints("kernel_shape", &[1, 1]),
        ints("strides", &[2, 2]),
    ];
    let counted = [int("count_include_pad", 1), ints("pads", &[1, 1, 1, 1])];
    let aligned = string("coordinate_transformation_mode", "align_corners");
    let attention = ["q", "k", "v", "m", "pk", "pv"];
    let peepholes = ["x", "w", "r", "", "", "", "", "p"];
    let cases: [(&str, Model); 30] = [
        (
            "`Div` wrongly: a constant divisor of 0",
            Model::new(22)
                .floats("zero", &[2], &[1.0, -0.0])
                .input("x", FLOAT, &[2])
                .output("y", FLOAT, &[2])
                .node("Div", [&["x", "zero"], &["y"]], &[]),
        ),
        (
            "`QuantizeLinear` wrongly: numbers of 16 bits",
            one(
                "QuantizeLinear",
                &["x", "s"],
                &["y"],
                &[int("output_dtype", 4)],
            ),
        ),
        (
            "`Attention` wrongly: `is_causal` together",
            one("Attention", &attention, &["y"], &[int("is_causal", 1)]),
        ),
        ("`DFT` wrongly", one("DFT", &["x"], &["y"], &[])),
        (
            "`DynamicQuantizeLinear` wrongly",
            one("DynamicQuantizeLinear", &["x"], &["y", "s", "z"], &[]),
        ),
        (
            "`GRU` wrongly: `layout` 1",
            one("GRU", &recurrent, &["y"], &[int("layout", 1)]),
        ),
        (
            "`LSTM` wrongly: `layout` 1",
            one("LSTM", &recurrent, &["y"], &[int("layout", 1)]),
        ),
        (
            "`RNN` wrongly: `layout` 1",
            one("RNN", &recurrent, &["y"], &[int("layout", 1)]),
        ),
        (
            "`LSTM` wrongly: it ignores peepholes",
            one("LSTM", &peepholes, &["y"], &[]),
        ),
        (
            "`MaxPool` wrongly: `ceil_mode`",
            one("MaxPool", &["x"], &["y"], &pooled),
        ),
        (
            "`NonMaxSuppression` wrongly",
            one("NonMaxSuppression", &["b", "s"], &["y"], &[]),
        ),
        (
            "`Resize` wrongly: `exclude_outside`",
            resize(&["x", "", "s"], &[int("exclude_outside", 1)]),
        ),
        (
            "`Resize` wrongly: `antialias`",
            resize(&["x", "", "s"], &[int("antialias", 1)]),
        ),
        (
            "`Resize` wrongly: `keep_aspect_ratio_policy`",
            resize(
                &["x", "", "", "s"],
                &[string("keep_aspect_ratio_policy", "not_larger")],
            ),
        ),
        (
            "`Resize` wrongly: `align_corners`",
            resize(&["x", "", "s"], std::slice::from_ref(&aligned)),
        ),
        (
            "`Resize` wrongly: `align_corners`",
            Model::new(22)
                .floats("s", &[4], &[1.0, 1.0, 0.8, 0.8])
                .input("x", FLOAT, &[1, 1, 4, 4])
                .output("y", FLOAT, &[1, 1, 3, 3])
                .node("Resize", [&["x", "", "s"], &["y"]], &[aligned]),
        ),
        (
            "`RoiAlign` wrongly: mode `max`",
            one(
                "RoiAlign",
                &["x", "r", "b"],
                &["y"],
                &[string("mode", "max")],
            ),
        ),
        (
            "`Tile` wrongly: repeats",
            one("Tile", &["x"], &["y"], &[])
                .input("repeats", INT64, &[4])
                .node("Tile", [&["x", "repeats"], &["z"]], &[]),
        ),
        (
            "`TopK` wrongly: the indices",
            one("TopK", &["x", "k"], &["v", "i"], &[]),
        ),
        (
            "`AveragePool` wrongly: beside padding `count_include_pad`",
            one(
                "AveragePool",
                &["x"],
                &["y"],
                &[&pooled[..], &counted].concat(),
            ),
        ),
        (
            "`ConvTranspose` wrongly: it ignores `auto_pad`",
            Model::new(22)
                .floats("w", &[1, 1, 3, 3], &[1.0; 9])
                .input("x", FLOAT, &[0, 1, 4, 4])
                .output("y", FLOAT, &[0, 1, 8, 8])
                .node(
                    "ConvTranspose",
                    [&["x", "w"], &["y"]],
                    &[string("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])],
                ),
        ),
        (
            "`Expand` wrongly: a size of 0",
            one("Neg", &["x"], &["y"], &[])
                .integers("sizes", &[0, 1, 4, 4])
                .node("Expand", [&["x", "sizes"], &["z"]], &[]),
        ),
        ("`If` wrongly: graphs that nest", nested(9)),
        (
            "`LSTM` wrongly: it ignores `input_forget`",
            one("LSTM", &recurrent, &["y"], &[int("input_forget", 1)]),
        ),
        (
            "`MaxPool` wrongly: it ignores `storage_order`",
            one(
                "MaxPool",
                &["x"],
                &["y", "i"],
                &[ints("kernel_shape", &[2, 2]), int("storage_order", 1)],
            ),
        ),
        (
            "`ReduceL1` wrongly: `noop_with_empty_axes`",
            one(
                "ReduceL1",
                &["x"],
                &["y"],
                &[int("noop_with_empty_axes", 1)],
            ),
        ),
        (
            "`ReduceL2` wrongly: `noop_with_empty_axes`",
            one("Neg", &["x"], &["y"], &[]).integers("none", &[]).node(
                "ReduceL2",
                [&["x", "none"], &["z"]],
                &[int("noop_with_empty_axes", 1)],
            ),
        ),
        (
            "`ReduceLogSumExp` wrongly: it ignores",
            Model::new(13)
                .input("x", FLOAT, &[2, 2])
                .output("y", FLOAT, &[2, 1])
                .node("ReduceLogSumExp", [&["x"], &["y"]], &[ints("axes", &[1])]),
        ),
        (
            "`Softmax` wrongly: of opset 11",
            Model::new(11)
                .input("x", FLOAT, &[2, 3, 4])
                .output("y", FLOAT, &[2, 3, 4])
                .node("Softmax", [&["x"], &["y"]], &[]),
        ),
        (
            "`ReduceLogSum` wrongly: it ignores",
            Model::new(17)
                .input("x", FLOAT, &[2, 2])
                .output("y", FLOAT, &[1, 2])
                .node("ReduceLogSum", [&["x"], &["y"]], &[ints("axes", &[0])]),
        ),
    ];
    for (expected, model) in cases {
        refused(&engine, expected, model.bytes());
    }
}

#[test]
fn numbers_that_need_64_bits_are_refused() {
    let Some(engine) = common::engine("numbers_that_need_64_bits_are_refused") else {
        return;
    };
    let largest = |number: i64| {
        Model::new(13)
            .input("x", INT64, &[1])
            .output("y", INT64, &[1])
            .integers("n", &[number])
            .node("Max", [&["x", "n"], &["y"]], &[])
    };
    refused(&engine, "in 32 bits", largest(1 << 31).bytes());
    refused(&engine, "in 32 bits", largest(i64::MIN).bytes());
    let whole = int("value_int", 1 << 40);
    let constant = Model::new(13)
        .input("x", INT64, &[])
        .output("y", INT64, &[])
        .node("Constant", [&[], &["n"]], &[whole])
        .node("Mul", [&["x", "n"], &["y"]], &[]);
    refused(&engine, "in 32 bits", constant.bytes());
    let doubled = Model::new(13)
        .input("x", FLOAT, &[1])
        .output("y", FLOAT, &[1])
        .node("Cast", [&["x"], &["d"]], &[int("to", 11)])
        .node("Mul", [&["d", "d"], &["e"]], &[])
        .node("Cast", [&["e"], &["y"]], &[int("to", 1)]);
    refused(&engine, "f64 in f32: `Cast`", doubled.bytes());

    let to_the_end = Model::new(13)
        .input("x", INT64, &[4])
        .output("y", INT64, &[3])
        .integers("start", &[1])
        .integers("end", &[i64::MAX])
        .node("Slice", [&["x", "start", "end"], &["y"]], &[]);
    for model in [to_the_end, largest(i32::MAX.into())] {
        let source = Source::Memory(vec![model.bytes().into()]);
        let loaded = common::load(&engine, &common::request(Encoding::Onnx, source));
        loaded.unwrap_or_else(|error| panic!("{}", error.report()));
    }
}

#[test]
fn nodes_inside_of_nodes_and_functions_are_looked_at() {
    let Some(engine) = common::engine("nodes_inside_of_nodes_and_functions_are_looked_at") else {
        return;
    };
    let wrong = node("TopK", [&["x", "k"], &["v", "i"]], &[]);
    let branch = graph(&wrong, "v");
    let inside = Model::new(22)
        .input("x", FLOAT, &[4])
        .input("k", INT64, &[1])
        .input("c", 9, &[])
        .output("y", FLOAT, &[0])
        .node(
            "If",
            [&["c"], &["y"]],
            &[inner("then_branch", &branch), inner("else_branch", &branch)],
        );
    let function = Model::new(22)
        .input("x", FLOAT, &[4])
        .input("k", INT64, &[1])
        .output("y", FLOAT, &[0])
        .node("own.Best", [&["x", "k"], &["y"]], &[])
        .function("Best", [&["x", "k"], &["v"]], &[wrong]);
    for model in [inside, function] {
        refused(&engine, "`TopK` wrongly", model.bytes());
    }
}

fn refused(engine: &infer_openvino::OpenVino, expected: &str, model: Vec<u8>) {
    let source = Source::Memory(vec![model.into()]);
    let error = common::load(engine, &common::request(Encoding::Onnx, source))
        .err()
        .unwrap_or_else(|| panic!("{expected}: it was not refused"));
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation, "{expected}");
    assert!(error.to_string().contains(expected), "{expected}: {error}");
}

#[test]
fn what_is_just_beside_runs() {
    let Some(engine) = common::engine("what_is_just_beside_runs") else {
        return;
    };
    let aligned = string("coordinate_transformation_mode", "align_corners");
    let pool = [
        int("ceil_mode", 1),
        ints("kernel_shape", &[3, 3]),
        ints("strides", &[2, 2]),
    ];
    let same = [string("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])];
    let average = [&pool[..], &[int("count_include_pad", 1)]].concat();
    let noop = [int("noop_with_empty_axes", 1)];
    let linear = string("mode", "linear");
    let small = common::floats(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let large: Vec<f32> = (0..16).map(|number| number as f32).collect();
    let large = common::floats(&[1, 1, 4, 4], &large);
    let cases: [(&str, Model, &Tensor, &[f32]); 13] = [
        (
            "whole scales",
            Model::new(19)
                .floats("s", &[4], &[1.0, 1.0, 1.0, 2.0])
                .node("Resize", [&["x", "", "s"], &["y"]], &[aligned, linear]),
            &small,
            &[
                1.0,
                4.0 / 3.0,
                5.0 / 3.0,
                2.0,
                3.0,
                10.0 / 3.0,
                11.0 / 3.0,
                4.0,
            ],
        ),
        (
            "windows that start inside",
            Model::new(19).node("MaxPool", [&["x"], &["y"]], &pool),
            &large,
            &[10.0, 11.0, 14.0, 15.0],
        ),
        (
            "constant repeats",
            Model::new(19)
                .integers("r", &[1, 1, 2, 1])
                .node("Tile", [&["x", "r"], &["y"]], &[]),
            &small,
            &[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0],
        ),
        (
            "the largest alone",
            Model::new(19)
                .integers("k", &[1])
                .node("TopK", [&["x", "k"], &["y"]], &[]),
            &small,
            &[2.0, 4.0],
        ),
        (
            "an average without padding",
            Model::new(19).node("AveragePool", [&["x"], &["y"]], &average),
            &large,
            &[5.0, 6.5, 11.0, 12.5],
        ),
        (
            "sizes that are known",
            Model::new(19).floats("w", &[1, 1, 3, 3], &[1.0; 9]).node(
                "ConvTranspose",
                [&["x", "w"], &["y"]],
                &same,
            ),
            &small,
            &[
                1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 3.0, 2.0, 4.0, 4.0, 10.0, 6.0, 3.0, 3.0, 7.0, 4.0,
            ],
        ),
        (
            "an even zero point",
            Model::new(19)
                .floats("s", &[], &[2.0])
                .byte("zero", 4)
                .node("QuantizeLinear", [&["x", "s", "zero"], &["q"]], &[])
                .node("DequantizeLinear", [&["q", "s", "zero"], &["y"]], &[]),
            &small,
            &[0.0, 2.0, 4.0, 4.0],
        ),
        (
            "a step of 1",
            Model::new(19)
                .node("Size", [&["x"], &["end"]], &[])
                .node("Constant", [&[], &["start"]], &[int("value_int", 0)])
                .node("Constant", [&[], &["step"]], &[int("value_int", 1)])
                .node("Range", [&["start", "end", "step"], &["r"]], &[])
                .node("Cast", [&["r"], &["f"]], &[int("to", 1)])
                .node("Shape", [&["x"], &["shape"]], &[])
                .node("Reshape", [&["f", "shape"], &["y"]], &[]),
            &small,
            &[0.0, 1.0, 2.0, 3.0],
        ),
        (
            "axes beside `noop_with_empty_axes`",
            Model::new(19)
                .integers("last", &[3])
                .node("Neg", [&["x"], &["n"]], &[])
                .node("ReduceL1", [&["n", "last"], &["y"]], &noop),
            &small,
            &[3.0, 7.0],
        ),
        (
            "axes before opset 13",
            Model::new(12).node("ReduceL1", [&["x"], &["y"]], &[ints("axes", &[2])]),
            &small,
            &[4.0, 6.0],
        ),
        (
            "the last axis",
            Model::new(11).node("Softmax", [&["x"], &["y"]], &[int("axis", 3)]),
            &small,
            &[0.268_941_4, 0.731_058_6, 0.268_941_4, 0.731_058_6],
        ),
        (
            "all axes before opset 11",
            Model::new(10).node("Softmax", [&["x"], &["y"]], &[]),
            &small,
            &[0.032_058_6, 0.087_144_3, 0.236_882_8, 0.643_914_3],
        ),
        (
            "an input that is an output",
            Model::new(19).node("Dropout", [&["x"], &["y"]], &[]),
            &small,
            &[1.0, 2.0, 3.0, 4.0],
        ),
    ];
    for (what, model, input, expected) in cases {
        let shape: Vec<u64> = input.shape().iter().map(|size| *size as u64).collect();
        let model = model
            .input("x", FLOAT, &shape)
            .output("y", FLOAT, &[0, 0, 0, 0]);
        let source = Source::Memory(vec![model.bytes().into()]);
        let loaded = common::load(&engine, &common::request(Encoding::Onnx, source));
        let graph = loaded.unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        let mut session = graph.session().expect("a session");
        for _ in 0..2 {
            let outputs = common::run(session.as_mut(), vec![input.clone()]).expect(what);
            let got = common::read_floats(&outputs[0]);
            assert_eq!(got.len(), expected.len(), "{what}");
            let close = got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-5);
            assert!(close, "{what}: expected {expected:?}, got {got:?}");
        }
    }
}
