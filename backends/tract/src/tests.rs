//! What tract would answer wrongly: a model for each rule, which has to be refused (`refused`), and for each repair,
//! which has to give the right numbers. All are built here, as small as they can be.

mod lite;
mod model;
mod numbers;
mod refused;
mod shapes;
mod values;

use infer_core::{Call, Cancel, Error, ErrorKind, Tensor};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

use model::{Model, float, int, ints, value};
use values::{bools, integers, run, strings, tensor};

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
