//! Whole numbers that OpenVINO would compute wrongly: what is refused, and what runs because such a number
//! cannot arise or means nothing there.

mod common;

use common::onnx::{FLOAT, INT64, Model, graph, inner, int, node};
use infer_core::{Encoding, ErrorKind, Precision, Result, Source};

/// ONNX's numbers of element types.
const UINT8: u64 = 2;
const INT8: u64 = 3;
const UINT16: u64 = 4;
const INT16: u64 = 5;
const INT32: u64 = 6;
const BOOL: u64 = 9;
const UINT32: u64 = 12;
const UINT64: u64 = 13;

const WIDE: &str = "in 32 bits, and the result";
const ROUNDED: &str = "in f32, which rounds";
const COMPARED: &str = "takes large ones for equal";
const NARROW: &str = "do not wrap";

/// Inputs `x` and `z` of one dtype, and an output.
fn model(dtype: u64, output: u64) -> Model {
    Model::new(18)
        .input("x", dtype, &[4])
        .input("z", dtype, &[4])
        .integers("axis", &[0])
        .output("y", output, &[0])
}

fn load(model: Model, precision: Precision) -> Result<()> {
    let engine = common::engine("wholes").expect("asked for before");
    let source = Source::Memory(vec![model.bytes().into()]);
    let mut request = common::request(Encoding::Onnx, source);
    request.options.precision = precision;
    common::load(&engine, &request).map(drop)
}

fn refused(what: &str, model: Model, expected: [&str; 2]) {
    let Err(error) = load(model, Precision::F32) else {
        panic!("{what}: it was not refused");
    };
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation, "{what}");
    let text = error.to_string();
    assert!(
        expected.iter().all(|part| text.contains(part)),
        "{what}: {text}"
    );
}

fn runs(what: &str, model: Model) {
    load(model, Precision::F32).unwrap_or_else(|error| panic!("{what}: {}", error.report()));
}

#[test]
fn operators_that_pass_32_bits_are_refused() {
    if common::engine("operators_that_pass_32_bits_are_refused").is_none() {
        return;
    }
    for dtype in [INT64, UINT32, UINT64] {
        for operator in ["Add", "Sub", "Mul", "Pow", "Sum"] {
            let name = format!("`{operator}` wrongly");
            let reason = if operator == "Pow" { ROUNDED } else { WIDE };
            let one = model(dtype, dtype).node(operator, [&["x", "z"], &["y"]], &[]);
            refused(&format!("{operator} of {dtype}"), one, [&name, reason]);
        }
    }
    for operator in ["Neg", "Abs"] {
        let one = model(INT64, INT64).node(operator, [&["x"], &["y"]], &[]);
        refused(operator, one, [&format!("`{operator}` wrongly"), WIDE]);
    }
    let sums = model(INT64, INT64).node("CumSum", [&["x", "axis"], &["y"]], &[]);
    refused("CumSum", sums, ["`CumSum` wrongly", WIDE]);
    for (from, to) in [
        (FLOAT, INT64),
        (FLOAT, UINT64),
        (INT32, UINT32),
        (INT64, UINT64),
    ] {
        let cast = model(from, to).node("Cast", [&["x"], &["y"]], &[int("to", to)]);
        refused(
            &format!("cast of {from} to {to}"),
            cast,
            ["`Cast` wrongly", WIDE],
        );
    }
}

#[test]
fn operators_that_compute_in_f32_are_refused() {
    if common::engine("operators_that_compute_in_f32_are_refused").is_none() {
        return;
    }
    for dtype in [INT32, INT64] {
        for operator in [
            "ReduceSum",
            "ReduceMean",
            "ReduceProd",
            "ReduceMax",
            "ReduceMin",
        ] {
            let one = model(dtype, dtype).node(operator, [&["x", "axis"], &["y"]], &[]);
            let name = format!("`{operator}` wrongly");
            refused(&format!("{operator} of {dtype}"), one, [&name, ROUNDED]);
        }
        for operator in ["Div", "Mod", "Pow", "MatMul", "Einsum"] {
            let equation = common::onnx::string("equation", "i,i->i");
            let attributes = if operator == "Einsum" {
                vec![equation]
            } else {
                Vec::new()
            };
            let one = model(dtype, dtype).node(operator, [&["x", "z"], &["y"]], &attributes);
            let name = format!("`{operator}` wrongly");
            refused(&format!("{operator} of {dtype}"), one, [&name, ROUNDED]);
        }
    }
}

/// A number beyond 2^24 equals its neighbour there; one that is smaller differs from any.
#[test]
fn comparisons_of_two_large_numbers_are_refused() {
    if common::engine("comparisons_of_two_large_numbers_are_refused").is_none() {
        return;
    }
    for dtype in [INT32, INT64, UINT32, UINT64] {
        for operator in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"] {
            let compared = |with| {
                model(dtype, BOOL)
                    .integers("small", &[16_777_216])
                    .integers("large", &[-16_777_217])
                    .node("Cast", [&["small"], &["s"]], &[int("to", dtype)])
                    .node("Cast", [&["large"], &["l"]], &[int("to", dtype)])
                    .node(operator, [&["x", with], &["y"]], &[])
            };
            let name = format!("`{operator}` wrongly");
            for with in ["z", "l"] {
                let what = format!("{operator} of {dtype} with {with}");
                refused(&what, compared(with), [&name, COMPARED]);
            }
            runs(&format!("{operator} of {dtype}"), compared("s"));
        }
    }
    let floats = model(FLOAT, BOOL).node("Less", [&["x", "z"], &["y"]], &[]);
    runs("a comparison of f32", floats);
    let narrow = model(UINT16, BOOL).node("Equal", [&["x", "z"], &["y"]], &[]);
    runs("a comparison of 16 bits", narrow);
}

#[test]
fn bounds_that_f32_rounds_are_refused() {
    if common::engine("bounds_that_f32_rounds_are_refused").is_none() {
        return;
    }
    for dtype in [INT32, INT64] {
        let one = model(dtype, dtype).node("Relu", [&["x"], &["y"]], &[]);
        refused("Relu", one, ["`Relu` wrongly", ROUNDED]);
    }
    let clipped = |bound| {
        model(INT64, INT64)
            .integers("high", &[bound])
            .node("Squeeze", [&["high", "axis"], &["h"]], &[])
            .node("Clip", [&["x", "", "h"], &["y"]], &[])
    };
    runs("a small bound", clipped(16_777_216));
    refused(
        "a large bound",
        clipped(33_554_433),
        ["`Clip` wrongly", "keeps a large constant"],
    );
    let least = |bound| {
        model(INT64, INT64)
            .integers("high", &[bound])
            .integers("low", &[0])
            .node("Min", [&["x", "high"], &["m"]], &[])
            .node("Max", [&["low", "m"], &["y"]], &[])
    };
    refused(
        "a large bound",
        least(33_554_433),
        ["`Max` wrongly", "keeps a large constant"],
    );
    runs("a small bound of Min", least(-5));
    let alone = model(INT64, INT64).integers("high", &[33_554_433]).node(
        "Min",
        [&["x", "high"], &["y"]],
        &[],
    );
    runs("a large bound alone", alone);
}

#[test]
fn operators_of_8_and_16_bits_are_refused() {
    if common::engine("operators_of_8_and_16_bits_are_refused").is_none() {
        return;
    }
    for dtype in [UINT8, INT8, UINT16, INT16] {
        for operator in ["Add", "Sub", "Mul", "Pow"] {
            let one = model(dtype, dtype).node(operator, [&["x", "z"], &["y"]], &[]);
            refused(
                &format!("{operator} of {dtype}"),
                one,
                [&format!("`{operator}`"), NARROW],
            );
        }
    }
    for dtype in [INT8, INT16] {
        for operator in ["Neg", "Abs"] {
            let one = model(dtype, dtype).node(operator, [&["x"], &["y"]], &[]);
            refused(
                &format!("{operator} of {dtype}"),
                one,
                [&format!("`{operator}`"), NARROW],
            );
        }
        let divided = model(dtype, dtype).node("Div", [&["x", "z"], &["y"]], &[]);
        refused(&format!("Div of {dtype}"), divided, ["`Div`", NARROW]);
    }
    let left = [common::onnx::string("direction", "LEFT")];
    let shifted = model(UINT8, UINT8).node("BitShift", [&["x", "z"], &["y"]], &left);
    refused("BitShift", shifted, ["`BitShift`", NARROW]);
}

/// What is wrong inside of a model shows in what is computed from it.
#[test]
fn a_number_is_followed_to_where_it_shows() {
    if common::engine("a_number_is_followed_to_where_it_shows").is_none() {
        return;
    }
    let product = |output| model(INT64, output).node("Mul", [&["x", "z"], &["p"]], &[]);
    let cast = |to| [int("to", to)];
    let single = product(FLOAT).node("Cast", [&["p"], &["y"]], &cast(FLOAT));
    refused("cast to f32", single, ["`Mul`", WIDE]);
    let narrower = product(INT32).node("Cast", [&["p"], &["y"]], &cast(INT32));
    refused("cast to i32", narrower, ["`Mul`", WIDE]);
    let compared = product(BOOL).node("Greater", [&["p", "axis"], &["y"]], &[]);
    refused("comparison", compared, ["`Mul`", WIDE]);
    let largest = product(INT64).node("ArgMax", [&["p"], &["y"]], &[]);
    refused("ArgMax", largest, ["`Mul`", WIDE]);
    let moved = product(INT64)
        .node("Reshape", [&["p", "axis"], &["r"]], &[])
        .node("Gather", [&["r", "axis"], &["y"]], &[]);
    refused("moved", moved, ["`Mul`", WIDE]);

    let branch = graph(&node("Mul", [&["x", "z"], &["v"]], &[]), "v");
    let branches = [inner("then_branch", &branch), inner("else_branch", &branch)];
    let inside = model(INT64, INT64)
        .input("c", BOOL, &[])
        .node("If", [&["c"], &["y"]], &branches);
    refused("a branch", inside, ["`Mul`", WIDE]);
    let body = [node("Mul", [&["a", "b"], &["m"]], &[])];
    let function = model(INT64, INT64)
        .node("own.Times", [&["x", "z"], &["y"]], &[])
        .function("Times", [&["a", "b"], &["m"]], &body);
    refused("a function", function, ["`Mul`", WIDE]);
    let allowed = load(
        product(FLOAT).node("Cast", [&["p"], &["y"]], &cast(FLOAT)),
        Precision::Auto,
    );
    allowed.expect("`auto` allows it");
}

/// Whether a value is an input or was computed in an earlier turn.
#[test]
fn a_number_is_followed_through_the_turns_of_a_loop() {
    if common::engine("a_number_is_followed_through_the_turns_of_a_loop").is_none() {
        return;
    }
    let turns = |operator| {
        let body = Model::new(18)
            .input("i", INT64, &[])
            .input("c", BOOL, &[])
            .input("v", INT64, &[4])
            .input("w", INT64, &[4])
            .output("d", BOOL, &[])
            .output("a", INT64, &[4])
            .output("b", INT64, &[4])
            .node("Identity", [&["c"], &["d"]], &[])
            .node("Identity", [&["w"], &["a"]], &[])
            .node(operator, [&["w", "x"], &["b"]], &[])
            .body();
        model(INT64, INT64)
            .input("n", INT64, &[])
            .input("go", BOOL, &[])
            .node(
                "Loop",
                [&["n", "go", "x", "z"], &["y", "e"]],
                &[inner("body", &body)],
            )
    };
    refused("a turn's product", turns("Mul"), ["`Mul`", WIDE]);
    runs("a turn's choice", turns("Max"));
}

#[test]
fn shapes_indices_and_small_numbers_run() {
    if common::engine("shapes_indices_and_small_numbers_run").is_none() {
        return;
    }
    let cast = |to| [int("to", to)];
    let from_shapes = model(FLOAT, FLOAT)
        .node("Shape", [&["x"], &["s"]], &[])
        .node("Mul", [&["s", "s"], &["t"]], &[])
        .node("ReduceProd", [&["t"], &["u"]], &[int("keepdims", 0)])
        .node("Cast", [&["u"], &["f"]], &cast(FLOAT))
        .node("Floor", [&["f"], &["g"]], &[])
        .node("Cast", [&["g"], &["h"]], &cast(INT64))
        .node("Cast", [&["h"], &["y"]], &cast(FLOAT));
    runs("computed from shapes", from_shapes);
    let index = model(INT64, INT64)
        .node("Add", [&["x", "z"], &["a"]], &[])
        .node("Gather", [&["x", "a"], &["y"]], &[]);
    runs("an index", index);
    let rounded = model(FLOAT, FLOAT)
        .node("Cast", [&["x"], &["i"]], &cast(INT64))
        .node("Cast", [&["i"], &["j"]], &cast(INT32))
        .node("Gather", [&["z", "j"], &["y"]], &[]);
    runs("an index that was rounded", rounded);
    let counted = model(FLOAT, INT64)
        .node("Greater", [&["x", "z"], &["b"]], &[])
        .node("Cast", [&["b"], &["n"]], &cast(INT64))
        .node("ReduceSum", [&["n", "axis"], &["y"]], &[]);
    runs("bools that are counted", counted);
    let given = model(INT64, FLOAT)
        .node("Equal", [&["x", "axis"], &["b"]], &[])
        .node("Where", [&["b", "x", "z"], &["w"]], &[])
        .node("Cast", [&["w"], &["y"]], &cast(FLOAT));
    runs("numbers as they are given", given);
    let right = [common::onnx::string("direction", "RIGHT")];
    let shifted = model(UINT8, UINT8).node("BitShift", [&["x", "z"], &["y"]], &right);
    runs("a shift that makes it smaller", shifted);
    for dtype in [INT32, FLOAT] {
        let plain = model(dtype, dtype).node("Add", [&["x", "z"], &["y"]], &[]);
        runs("a sum of other dtypes", plain);
    }
}
