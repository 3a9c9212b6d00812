//! Numbers that OpenVINO would compute wrongly in TensorFlow's graphs, and variables that it would not keep.

mod common;

use common::onnx::{message, number, text};
use infer_core::{Encoding, ErrorKind, Precision, Result, Source};

/// TensorFlow's numbers of element types.
const FLOAT: u64 = 1;
const DOUBLE: u64 = 2;
const INT32: u64 = 3;
const UINT8: u64 = 4;
const INT64: u64 = 9;
const BOOL: u64 = 10;

const WIDE: &str = "in 32 bits, and the result";
const ROUNDED: &str = "in f32, which rounds";
const COMPARED: &str = "takes large ones for equal";
const NARROW: &str = "do not wrap";

type Attributes<'a> = &'a [(&'a str, Vec<u8>)];

fn node(name: &str, operator: &str, inputs: &[&str], attributes: Attributes<'_>) -> Vec<u8> {
    let mut node = [text(1, name), text(2, operator)].concat();
    node.extend(inputs.iter().flat_map(|input| text(3, input)));
    for (key, value) in attributes {
        node.extend(message(5, &[text(1, key), message(2, value)].concat()));
    }
    node
}

fn of_type(dtype: u64) -> Vec<u8> {
    number(6, dtype)
}

fn placeholder(name: &str, dtype: u64) -> Vec<u8> {
    let shape = message(7, &message(2, &number(1, 4)));
    let attributes = [("dtype", of_type(dtype)), ("shape", shape)];
    node(name, "Placeholder", &[], &attributes)
}

/// A constant of one i64.
fn constant(name: &str, value: i64) -> Vec<u8> {
    let shape = message(2, &message(2, &number(1, 1)));
    let tensor = [number(1, INT64), shape, message(4, &value.to_le_bytes())].concat();
    let attributes = [("dtype", of_type(INT64)), ("value", message(8, &tensor))];
    node(name, "Const", &[], &attributes)
}

fn graph(nodes: &[Vec<u8>]) -> Vec<u8> {
    nodes.iter().flat_map(|node| message(1, node)).collect()
}

/// One operator of two inputs of one dtype.
fn binary(operator: &str, dtype: u64) -> Vec<u8> {
    graph(&[
        placeholder("x", dtype),
        placeholder("z", dtype),
        node("y", operator, &["x", "z"], &[("T", of_type(dtype))]),
    ])
}

fn load(bytes: Vec<u8>, precision: Precision) -> Result<()> {
    let engine = common::engine("tensorflow_numbers").expect("asked for before");
    let source = Source::Memory(vec![bytes.into()]);
    let mut request = common::request(Encoding::TensorFlow, source);
    request.options.precision = precision;
    common::load(&engine, &request).map(drop)
}

fn refused(what: &str, bytes: Vec<u8>, expected: &str) {
    let error = load(bytes, Precision::F32).expect_err(what);
    let report = error.report();
    assert_eq!(
        error.kind(),
        ErrorKind::UnsupportedOperation,
        "{what}: {report}"
    );
    assert!(report.contains(expected), "{what}: {report}");
}

fn runs(what: &str, bytes: Vec<u8>) {
    load(bytes, Precision::F32).unwrap_or_else(|error| panic!("{what}: {}", error.report()));
}

#[test]
fn operators_are_refused_by_dtype() {
    if common::engine("operators_are_refused_by_dtype").is_none() {
        return;
    }
    for (operator, dtype, expected) in [
        ("AddV2", INT64, WIDE),
        ("Mul", INT64, WIDE),
        ("SquaredDifference", INT64, WIDE),
        ("AddV2", UINT8, NARROW),
        ("FloorDiv", INT32, ROUNDED),
        ("FloorMod", INT32, ROUNDED),
        ("Equal", INT32, COMPARED),
        ("Less", INT64, COMPARED),
    ] {
        refused(
            &format!("{operator} of {dtype}"),
            binary(operator, dtype),
            expected,
        );
        runs(&format!("{operator} of f32"), binary(operator, FLOAT));
    }
    runs("a sum of i32", binary("AddV2", INT32));
    let double = graph(&[
        placeholder("x", FLOAT),
        node(
            "d",
            "Cast",
            &["x"],
            &[("SrcT", of_type(FLOAT)), ("DstT", of_type(DOUBLE))],
        ),
        node("s", "AddV2", &["d", "d"], &[("T", of_type(DOUBLE))]),
        node(
            "y",
            "Cast",
            &["s"],
            &[("SrcT", of_type(DOUBLE)), ("DstT", of_type(FLOAT))],
        ),
    ]);
    refused("f64", double, "compute f64 in f32");
    // As converters write a constant of f32.
    let cast_constant = |value: f64| {
        let shape = message(2, &message(2, &number(1, 1)));
        let tensor = [number(1, DOUBLE), shape, message(4, &value.to_le_bytes())].concat();
        let attributes = [("dtype", of_type(DOUBLE)), ("value", message(8, &tensor))];
        let to = [("SrcT", of_type(DOUBLE)), ("DstT", of_type(FLOAT))];
        graph(&[
            placeholder("x", FLOAT),
            node("d", "Const", &[], &attributes),
            node("c", "Cast", &["d"], &to),
            node("y", "Mul", &["x", "c"], &[("T", of_type(FLOAT))]),
        ])
    };
    runs("a constant of f64 that is cast", cast_constant(0.1));
    refused(
        "one that f32 does not have",
        cast_constant(1e300),
        "compute f64 in f32",
    );
    load(binary("AddV2", INT64), Precision::Auto).expect("`auto` allows it");
}

#[test]
fn sizes_indices_and_small_constants_run() {
    if common::engine("sizes_indices_and_small_constants_run").is_none() {
        return;
    }
    let int64 = || ("T", of_type(INT64));
    let sizes = graph(&[
        placeholder("x", FLOAT),
        node(
            "s",
            "Shape",
            &["x"],
            &[("T", of_type(FLOAT)), ("out_type", of_type(INT64))],
        ),
        node("m", "Mul", &["s", "s"], &[int64()]),
        node(
            "y",
            "Cast",
            &["m"],
            &[("SrcT", of_type(INT64)), ("DstT", of_type(FLOAT))],
        ),
    ]);
    runs("computed from shapes", sizes);
    let compared = |with| {
        graph(&[
            placeholder("x", INT64),
            constant("c", with),
            node("y", "Less", &["x", "c"], &[int64()]),
        ])
    };
    runs("a small constant", compared(1 << 24));
    refused("a large constant", compared((1 << 24) + 1), COMPARED);
    refused("one of 33 bits", compared(1 << 32), "has larger ones");
    let chosen = graph(&[
        placeholder("c", BOOL),
        placeholder("x", INT64),
        placeholder("z", INT64),
        node("y", "SelectV2", &["c", "x", "z"], &[int64()]),
    ]);
    runs("a choice", chosen);
}

/// A graph that calls a function of the graph's own.
fn calling(operator: &str, dtype: u64) -> Vec<u8> {
    let t = || ("T", of_type(dtype));
    let argument = |field, name| message(field, &[text(1, name), number(3, dtype)].concat());
    let signature = [
        text(1, "f"),
        argument(2, "a"),
        argument(2, "b"),
        argument(3, "c"),
    ]
    .concat();
    let result = [text(1, "c"), text(2, "m:z:0")].concat();
    let function = [
        message(1, &signature),
        message(3, &node("m", operator, &["a", "b"], &[t()])),
        message(4, &result),
    ]
    .concat();
    let types = || message(1, &number(6, dtype));
    let list = |count: usize| types().repeat(count);
    let call = [
        ("f", message(10, &text(1, "f"))),
        ("Tin", list(2)),
        ("Tout", list(1)),
    ];
    let nodes = graph(&[
        placeholder("x", dtype),
        placeholder("z", dtype),
        node("k", "PartitionedCall", &["x", "z"], &call),
        node("y", "Identity", &["k"], &[t()]),
    ]);
    [nodes, message(2, &message(1, &function))].concat()
}

#[test]
fn functions_are_looked_at() {
    if common::engine("functions_are_looked_at").is_none() {
        return;
    }
    refused("a product inside", calling("Mul", INT64), WIDE);
    runs("a product of f32 inside", calling("Mul", FLOAT));
    runs("a sum of i32 inside", calling("AddV2", INT32));
}

/// OpenVINO gives each run the variables of the file, so a graph that counts its runs would never count.
#[test]
fn changes_of_variables_are_refused() {
    if common::engine("changes_of_variables_are_refused").is_none() {
        return;
    }
    let float = || ("dtype", of_type(FLOAT));
    let shape = || ("shape", message(7, &message(2, &number(1, 4))));
    let counting = |change: &str| {
        graph(&[
            placeholder("x", FLOAT),
            node("v", "VarHandleOp", &[], &[float(), shape()]),
            node("start", "AssignVariableOp", &["v", "x"], &[float()]),
            node("more", change, &["v", "x", "^start"], &[float()]),
            node("y", "ReadVariableOp", &["v", "^more"], &[float()]),
        ])
    };
    for change in ["AssignVariableOp", "AssignAddVariableOp"] {
        refused(
            change,
            counting(change),
            "each run starts with the variables of the file",
        );
    }
}
