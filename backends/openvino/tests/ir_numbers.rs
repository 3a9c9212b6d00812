//! Numbers that OpenVINO would compute wrongly in models of its own form: what is refused, and what runs because such a
//! number cannot arise or means nothing there.

mod common;

use bytes::Bytes;
use infer_core::{Encoding, ErrorKind, Precision, Result, Source};

const WIDE: &str = "in 32 bits, and the result";
const ROUNDED: &str = "in f32, which rounds";
const COMPARED: &str = "takes large ones for equal";
const NARROW: &str = "do not wrap";
const BOUND: &str = "keeps a large constant";
const DOUBLE: &str = "compute f64 in f32";

/// A model under construction: layers in order, the ports of each numbered on from its inputs.
#[derive(Default)]
struct Ir {
    layers: String,
    edges: String,
    weights: Vec<u8>,
    count: usize,
}

/// A layer's output: the layer, its port, its element type.
type Output = (usize, usize, &'static str);

impl Ir {
    fn layer(
        &mut self,
        layer: &str,
        data: &str,
        inputs: &[Output],
        dtype: &'static str,
        shape: &str,
    ) -> Output {
        let id = self.count;
        self.count += 1;
        let dims: String = shape
            .split_terminator(',')
            .map(|dim| format!("<dim>{dim}</dim>"))
            .collect();
        let mut ports = String::new();
        for (to, (from, port, dtype)) in inputs.iter().enumerate() {
            ports += &format!(r#"<port id="{to}" precision="{dtype}"><dim>4</dim></port>"#);
            self.edges += &format!(
                r#"<edge from-layer="{from}" from-port="{port}" to-layer="{id}" to-port="{to}"/>"#
            );
        }
        let output = match layer {
            "Result" => String::new(),
            _ => format!(
                r#"<output><port id="{}" precision="{dtype}">{dims}</port></output>"#,
                inputs.len()
            ),
        };
        let version = match layer {
            "ReadValue" | "Assign" => "opset6",
            "Gather" => "opset8",
            "ShapeOf" => "opset3",
            _ => "opset1",
        };
        self.layers += &format!(
            r#"<layer id="{id}" name="n{id}" type="{layer}" version="{version}"><data {data}/><input>{ports}</input>{output}</layer>"#
        );
        (id, inputs.len(), dtype)
    }

    fn input(&mut self, dtype: &'static str) -> Output {
        let data = format!(r#"element_type="{}" shape="4""#, element_type(dtype));
        self.layer("Parameter", &data, &[], dtype, "4")
    }

    fn constant(&mut self, dtype: &'static str, bytes: &[u8]) -> Output {
        let data = format!(
            r#"element_type="{}" shape="1" offset="{}" size="{}""#,
            element_type(dtype),
            self.weights.len(),
            bytes.len()
        );
        self.weights.extend(bytes);
        self.layer("Const", &data, &[], dtype, "1")
    }

    fn source(mut self, results: &[Output]) -> Source {
        for result in results {
            self.layer("Result", "", &[*result], "", "");
        }
        let xml = format!(
            r#"<net name="made" version="11"><layers>{}</layers><edges>{}</edges></net>"#,
            self.layers, self.edges
        );
        Source::Memory(vec![Bytes::from(xml), Bytes::from(self.weights)])
    }
}

/// A port's element type as a layer's data names it.
fn element_type(precision: &str) -> String {
    match precision {
        "BOOL" => "boolean".to_owned(),
        other => other.to_ascii_lowercase().replace("fp", "f"),
    }
}

fn load(source: Source, precision: Precision) -> Result<()> {
    let engine = common::engine("ir_numbers").expect("asked for before");
    let mut request = common::request(Encoding::OpenVino, source);
    request.options.precision = precision;
    common::load(&engine, &request).map(drop)
}

fn refused(what: &str, source: Source, expected: &str) {
    let error = load(source, Precision::F32).expect_err(what);
    assert_eq!(
        error.kind(),
        ErrorKind::UnsupportedOperation,
        "{what}: {}",
        error.report()
    );
    assert!(error.to_string().contains(expected), "{what}: {error}");
}

fn runs(what: &str, source: Source) {
    load(source, Precision::F32).unwrap_or_else(|error| panic!("{what}: {}", error.report()));
}

/// One layer of two inputs of one dtype.
fn binary(layer: &str, dtype: &'static str, to: &'static str) -> Source {
    let mut ir = Ir::default();
    let inputs = [ir.input(dtype), ir.input(dtype)];
    let numpy = r#"auto_broadcast="numpy""#;
    let result = ir.layer(layer, numpy, &inputs, to, "4");
    ir.source(&[result])
}

fn unary(layer: &str, data: &str, [from, to]: [&'static str; 2]) -> Source {
    let mut ir = Ir::default();
    let input = ir.input(from);
    let result = ir.layer(layer, data, &[input], to, "4");
    ir.source(&[result])
}

#[test]
fn layers_are_refused_by_type_and_dtype() {
    if common::engine("layers_are_refused_by_type_and_dtype").is_none() {
        return;
    }
    let same = [
        ("Add", "I64", WIDE),
        ("Subtract", "U32", WIDE),
        ("Multiply", "U64", WIDE),
        ("Add", "U8", NARROW),
        ("Multiply", "I16", NARROW),
        ("SquaredDifference", "I8", NARROW),
        ("Divide", "I32", ROUNDED),
        ("FloorMod", "I32", ROUNDED),
        ("Power", "I64", ROUNDED),
    ];
    for (layer, dtype, expected) in same {
        refused(
            &format!("{layer} of {dtype}"),
            binary(layer, dtype, dtype),
            expected,
        );
        runs(layer, binary(layer, "FP32", "FP32"));
    }
    for layer in [
        "Equal",
        "NotEqual",
        "Greater",
        "GreaterEqual",
        "Less",
        "LessEqual",
    ] {
        for dtype in ["I32", "I64"] {
            let what = format!("{layer} of {dtype}");
            refused(&what, binary(layer, dtype, "BOOL"), COMPARED);
        }
        runs(layer, binary(layer, "FP32", "BOOL"));
    }
    runs("a sum of i32", binary("Add", "I32", "I32"));
    refused("ReLU", unary("ReLU", "", ["I32", "I32"]), ROUNDED);
    let clamp = |max: &str| unary("Clamp", &format!(r#"min="0" max="{max}""#), ["I32", "I32"]);
    refused("Clamp", clamp("20000001"), BOUND);
    runs("a small bound", clamp("255"));
    let cast = |to: &str| format!(r#"destination_type="{to}""#);
    refused(
        "a cast to i64",
        unary("Convert", &cast("i64"), ["FP32", "I64"]),
        WIDE,
    );
    refused(
        "a cast to f64",
        unary("Convert", &cast("f64"), ["FP32", "FP64"]),
        DOUBLE,
    );
    let auto = load(binary("Add", "I64", "I64"), Precision::Auto);
    auto.expect("`auto` allows it");
}

#[test]
fn constants_are_looked_at() {
    if common::engine("constants_are_looked_at").is_none() {
        return;
    }
    let with = |layer: &str, bytes: &[u8], [dtype, to]: [&'static str; 2]| {
        let mut ir = Ir::default();
        let inputs = [ir.input(dtype), ir.constant(dtype, bytes)];
        let result = ir.layer(layer, r#"auto_broadcast="numpy""#, &inputs, to, "4");
        ir.source(&[result])
    };
    let long = |number: i64| number.to_le_bytes();
    let compared = ["I64", "BOOL"];
    runs("a small one", with("Less", &long(1 << 24), compared));
    refused(
        "a large one",
        with("Less", &long((1 << 24) + 1), compared),
        COMPARED,
    );
    refused(
        "one of 33 bits",
        with("Less", &long(1 << 32), compared),
        "has larger ones",
    );
    let double = 0.5f64.to_le_bytes();
    refused("one of f64", with("Add", &double, ["FP64", "FP64"]), DOUBLE);
}

#[test]
fn numbers_are_followed_to_where_they_show() {
    if common::engine("numbers_are_followed_to_where_they_show").is_none() {
        return;
    }
    // Sizes are small, whatever is computed of them.
    let mut ir = Ir::default();
    let x = ir.input("FP32");
    let shape = ir.layer("ShapeOf", r#"output_type="i64""#, &[x], "I64", "1");
    let numpy = r#"auto_broadcast="numpy""#;
    let product = ir.layer("Multiply", numpy, &[shape, shape], "I64", "1");
    let cast = r#"destination_type="f32""#;
    let result = ir.layer("Convert", cast, &[product], "FP32", "1");
    runs("computed from shapes", ir.source(&[result]));

    // As an index a number beyond 32 bits means nothing; seen as f32 it is wrong.
    let indexed = |shown: bool| {
        let mut ir = Ir::default();
        let (x, i) = (ir.input("FP32"), ir.input("I64"));
        let axis = ir.constant("I64", &0i64.to_le_bytes());
        let sum = ir.layer("Add", numpy, &[i, i], "I64", "4");
        let inputs = [x, sum, axis];
        let gathered = ir.layer("Gather", r#"batch_dims="0""#, &inputs, "FP32", "4");
        if !shown {
            return ir.source(&[gathered]);
        }
        let seen = ir.layer("Convert", cast, &[sum], "FP32", "4");
        ir.source(&[gathered, seen])
    };
    runs("an index", indexed(false));
    refused("an index that is seen too", indexed(true), WIDE);
}

/// What a run leaves in a variable, the next one finds; what a turn leaves, the next turn.
#[test]
fn numbers_are_followed_through_variables_and_turns() {
    if common::engine("numbers_are_followed_through_variables_and_turns").is_none() {
        return;
    }
    let counted = |dtype: &'static str| {
        let mut ir = Ir::default();
        let x = ir.input(dtype);
        let variable = format!(
            r#"variable_id="v" variable_type="{}" variable_shape="4""#,
            element_type(dtype)
        );
        let read = ir.layer("ReadValue", &variable, &[x], dtype, "4");
        let one = r#"auto_broadcast="numpy""#;
        let sum = ir.layer("Add", one, &[read, x], dtype, "4");
        ir.layer("Assign", &variable, &[sum], dtype, "4");
        ir.source(&[read])
    };
    refused("a sum in a variable", counted("I64"), WIDE);
    runs("a sum of f32 in a variable", counted("FP32"));

    let turns = |dtype: &'static str| {
        let mut body = Ir::default();
        let (row, sum) = (body.input(dtype), body.input(dtype));
        let numpy = r#"auto_broadcast="numpy""#;
        let next = body.layer("Add", numpy, &[row, sum], dtype, "4");
        body.layer("Result", "", &[next], "", "");
        let mut ir = Ir::default();
        let (x, start) = (ir.input(dtype), ir.input(dtype));
        let sum = ir.layer("TensorIterator", "", &[x, start], dtype, "4");
        let map = format!(
            r#"<port_map>
            <input external_port_id="0" internal_layer_id="0" axis="0" start="0" end="-1" stride="1" part_size="4"/>
            <input external_port_id="1" internal_layer_id="1"/>
            <output external_port_id="2" internal_layer_id="3"/></port_map>
            <back_edges><edge from-layer="3" to-layer="1"/></back_edges>
            <body><layers>{}</layers><edges>{}</edges></body></layer>"#,
            body.layers, body.edges
        );
        let layer = ir.layers.len() - "</layer>".len();
        ir.layers.replace_range(layer.., &map);
        ir.source(&[sum])
    };
    refused("a sum over turns", turns("I64"), WIDE);
    runs("a sum of f32 over turns", turns("FP32"));
}
