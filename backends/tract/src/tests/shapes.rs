//! Models whose callers choose shapes: what each of many shapes gives, and which plans are kept.

use std::sync::Arc;

use infer_core::{Cancel, ErrorKind, Tensor};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value;
use tract_onnx::pb::{AttributeProto, type_proto};

use super::model::{Model, int};
use super::values::{run, tensor};
use crate::plans::{KEPT, Plans};
use crate::reading::Reading;

/// Sums of 2 x 2 pixels, of a picture of any size.
fn sums(shape: &[i64]) -> Model {
    Model::new(13)
        .x(shape)
        .floats("w", &[1, 1, 2, 2], &[1.0; 4])
        .node("Conv", &["x", "w"], &["y"], &[])
}

/// The same, with dimensions that the file gives no name.
fn nameless() -> Model {
    let mut model = sums(&[0, 1, 0, 0]);
    let input = model.graph.input.first_mut();
    let of = input.and_then(|input| input.r#type.as_mut()?.value.as_mut());
    let type_proto::Value::TensorType(tensor) = of.expect("a type");
    for dimension in &mut tensor.shape.as_mut().expect("a shape").dim {
        if !matches!(dimension.value, Some(Value::DimValue(_))) {
            dimension.value = None;
        }
    }
    model
}

fn picture(batch: usize, height: usize, width: usize) -> Tensor {
    let pixels: Vec<f32> = (0..batch * height * width)
        .map(|at| (at % 7) as f32)
        .collect();
    tensor(&[batch, 1, height, width], &pixels)
}

fn sums_of(batch: usize, height: usize, width: usize) -> Vec<f64> {
    let pixel = |n: usize, y: usize, x: usize| (((n * height + y) * width + x) % 7) as f64;
    let mut all = Vec::new();
    for n in 0..batch {
        for y in 0..height - 1 {
            for x in 0..width - 1 {
                let (next_y, next_x) = (y + 1, x + 1);
                let above = pixel(n, y, x) + pixel(n, y, next_x);
                all.push(above + pixel(n, next_y, x) + pixel(n, next_y, next_x));
            }
        }
    }
    all
}

#[test]
fn every_shape_is_answered() {
    for model in [sums(&[0, 1, 0, 0]), nameless()] {
        let graph = model.load().expect("loads");
        let dimensions = graph.signature().inputs[0].dimensions.clone();
        assert_eq!(dimensions, [None, Some(1), None, None]);
        // More shapes than plans are kept, and all of them again.
        for (batch, height, width) in (0..14).map(|at| (1 + at % 2, 2 + at % 7, 9 - at % 7)) {
            let got = run(graph.as_ref(), &[picture(batch, height, width)]).expect("runs");
            assert_eq!(
                got,
                sums_of(batch, height, width),
                "{batch} {height} {width}"
            );
        }
    }
}

#[test]
fn a_shape_that_fails_costs_no_other_its_answer() {
    let graph = sums(&[0, 0, 0, 0]).load().expect("loads");
    let three_colours = tensor(&[1, 3, 2, 2], &[1.0; 12]);
    let error = run(graph.as_ref(), &[three_colours]).expect_err("the kernel has one");
    let kinds = [ErrorKind::UnsupportedOperation, ErrorKind::RuntimeError];
    assert!(kinds.contains(&error.kind()), "{}", error.report());
    let got = run(graph.as_ref(), &[picture(1, 3, 3)]).expect("runs");
    assert_eq!(got, sums_of(1, 3, 3));
}

#[test]
fn what_cannot_be_worked_out_before_a_call_is_in_it() {
    // As many zeros as the square of the length: a number that depends on the shape in a way that tract
    // has no expression for.
    let to = |dtype: DataType| -> Vec<AttributeProto> { vec![int("to", i64::from(dtype as i32))] };
    let model = Model::new(13)
        .x(&[0])
        .floats("half", &[1], &[0.5])
        .node("Shape", &["x"], &["length"], &[])
        .node("Cast", &["length"], &["number"], &to(DataType::Float))
        .node("Mul", &["number", "half"], &["fewer"], &[])
        .node("Cast", &["fewer"], &["size"], &to(DataType::Int64))
        .node("Expand", &["half", "size"], &["y"], &[]);
    let mut proto = model.proto();
    let graph = proto.graph.as_mut().expect("a graph");
    graph.output = vec![super::value("y", DataType::Float, &[0])];
    let graph = crate::load::load_model(proto, None, &Cancel::default()).expect("loads");
    for length in [4, 10] {
        let got = run(graph.as_ref(), &[tensor(&[length], &vec![1.0; length])]).expect("runs");
        assert_eq!(got, vec![0.5; length / 2]);
    }
}

#[test]
fn the_last_plans_are_kept() {
    let proto = sums(&[0, 1, 0, 0]).proto();
    let parsed = tract_onnx::onnx().parse(&proto, None).expect("parses");
    let plans = Plans::by_shapes(Reading::new(parsed, proto).expect("a model"), KEPT);
    let plan = |width: usize| {
        let plan = plans.plan(&[picture(1, 2, width)], &Cancel::default());
        plan.expect("a plan")
    };
    let cancel = Cancel::default();
    cancel.cancel();
    let cancelled = plans.plan(&[picture(1, 2, 2)], &cancel);
    assert!(cancelled.is_err_and(|error| error.kind() == ErrorKind::Timeout));
    let first = [2, 3, 4, 5].map(plan);
    let again = [2, 3, 4, 5].map(plan);
    for (one, other) in first.iter().zip(&again) {
        assert!(Arc::ptr_eq(one, other));
    }
    // No kernel fits it, and it takes nobody's place.
    let three_colours = tensor(&[1, 3, 2, 2], &[1.0; 12]);
    assert!(plans.plan(&[three_colours], &Cancel::default()).is_err());
    assert!(Arc::ptr_eq(&first[0], &plan(2)) && Arc::ptr_eq(&first[1], &plan(3)));
    for width in [4, 5, 2, 3] {
        plan(width);
    }
    plan(6);
    assert!(Arc::ptr_eq(&first[1], &plan(3)), "used last before it");
    assert!(!Arc::ptr_eq(&first[2], &plan(4)), "given up for the fifth");
}
