//! Small tensors, run again and again on one session, which is when the backend runs them in memory that stays bound:
//! every answer is that of a session that has run nothing before.

#[path = "common/mod.rs"]
mod common;
#[path = "../../openvino/tests/common/onnx.rs"]
mod onnx;

use std::sync::Arc;

use infer_core::{
    Backend, Call, Cancel, Device, Dtype, Encoding, ErrorKind, Graph, LoadOptions, LoadRequest,
    Result, Session, Source, Tensor,
};
use onnx::{FLOAT, INT64, Model};

/// More runs than a session takes to bind, and as many after that.
const RUNS: usize = 8;

fn load(model: Model) -> Option<Arc<dyn Graph>> {
    let request = LoadRequest {
        source: Source::Memory(vec![model.bytes().into()]),
        encoding: Encoding::Onnx,
        device: Device::Cpu,
        options: LoadOptions::default(),
    };
    let loaded = common::engine()?.load(&request, &Cancel::default());
    Some(loaded.expect("loads"))
}

fn run(session: &mut dyn Session, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut calls = [Call::new(inputs.to_vec(), Cancel::default())];
    session.run(&mut calls);
    let [call] = calls;
    call.result.expect("a result")
}

/// dtype, shape and bytes of each.
fn content(tensors: &[Tensor]) -> Vec<(Dtype, Vec<usize>, Vec<u8>)> {
    let content = |tensor: &Tensor| {
        let bytes = tensor.host().expect("in host memory").to_vec();
        (tensor.dtype(), tensor.shape().to_vec(), bytes)
    };
    tensors.iter().map(content).collect()
}

fn floats(values: &[f32]) -> Tensor {
    common::floats(&[values.len()], values)
}

fn integers(values: &[i64]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor::copied_from(Dtype::I64, vec![values.len()], &bytes).expect("a valid tensor")
}

/// Runs the inputs on one session, each several times, and holds every answer against that of a new session.
fn agrees(graph: &dyn Graph, inputs: &[Tensor]) {
    let mut session = graph.session().expect("a session");
    let mut kept = Vec::new();
    for input in inputs {
        for _ in 0..RUNS {
            let mut new = graph.session().expect("a session");
            let input = std::slice::from_ref(input);
            let (expected, got) = (run(new.as_mut(), input), run(session.as_mut(), input));
            match (expected, got) {
                (Ok(expected), Ok(got)) => {
                    assert_eq!(content(&expected), content(&got));
                    kept.push((got, content(&expected)));
                }
                (Err(expected), Err(got)) => assert_eq!(expected.report(), got.report()),
                (expected, got) => panic!("expected {expected:?}, got {got:?}"),
            }
        }
    }
    // What a caller has is its own: later runs have not changed it.
    for (got, expected) in kept {
        assert_eq!(content(&got), expected);
    }
}

#[test]
fn values_and_shapes_may_change() {
    let model = Model::new(17)
        .input("x", FLOAT, &[0])
        .output("y", FLOAT, &[0])
        .output("size", INT64, &[])
        .floats("two", &[1], &[2.0])
        .node("Mul", [&["x", "two"], &["y"]], &[])
        .node("Size", [&["x"], &["size"]], &[]);
    let Some(graph) = load(model) else { return };
    let large = vec![0.5; 5000];
    agrees(
        &*graph,
        &[
            floats(&[1.0, 2.0]),
            floats(&[3.0, -4.0]),
            floats(&[5.0]),
            floats(&[]),
            floats(&[f32::NAN, 0.0]),
            floats(&large),
            floats(&[1.0, 2.0]),
        ],
    );
}

#[test]
fn an_input_or_a_weight_that_is_an_output_comes_back() {
    let model = Model::new(17)
        .input("x", FLOAT, &[2])
        .output("x", FLOAT, &[2])
        .output("weight", FLOAT, &[2])
        .output("y", FLOAT, &[2])
        .floats("weight", &[2], &[7.0, 8.0])
        .node("Add", [&["x", "weight"], &["y"]], &[]);
    let Some(graph) = load(model) else { return };
    // All zeros too: that is what cleared memory looks like.
    agrees(
        &*graph,
        &[
            floats(&[0.0, 0.0]),
            floats(&[1.0, 2.0]),
            floats(&[3.0, 4.0]),
        ],
    );
}

#[test]
fn an_output_may_have_another_size_for_other_values() {
    let model = Model::new(17)
        .input("x", FLOAT, &[3])
        .output("places", INT64, &[1, 0])
        .node("NonZero", [&["x"], &["places"]], &[]);
    let Some(graph) = load(model) else { return };
    agrees(
        &*graph,
        &[
            floats(&[1.0, 0.0, 2.0]),
            floats(&[1.0, 0.0, 0.0]),
            floats(&[0.0, 0.0, 0.0]),
            floats(&[1.0, 2.0, 3.0]),
            floats(&[0.0, 2.0, 3.0]),
        ],
    );
}

#[test]
fn a_value_that_fails_costs_the_next_nothing() {
    let model = Model::new(17)
        .input("index", INT64, &[0])
        .output("y", FLOAT, &[0])
        .floats("table", &[3], &[10.0, 20.0, 30.0])
        .node("Gather", [&["table", "index"], &["y"]], &[]);
    let Some(graph) = load(model) else { return };
    agrees(
        &*graph,
        &[
            integers(&[0, 1]),
            integers(&[2, 9]),
            integers(&[2, 1]),
            integers(&[-9, 1]),
            integers(&[0, 0]),
        ],
    );
}

#[test]
fn what_is_made_up_stays_so() {
    let model = Model::new(17)
        .input("x", FLOAT, &[16])
        .output("y", FLOAT, &[16])
        .node("RandomUniformLike", [&["x"], &["y"]], &[]);
    let Some(graph) = load(model) else { return };
    let mut session = graph.session().expect("a session");
    let input = [floats(&[1.0; 16])];
    let mut answers: Vec<_> = (0..RUNS)
        .map(|_| content(&run(session.as_mut(), &input).expect("runs")))
        .collect();
    answers.sort_by(|a, b| a[0].2.cmp(&b[0].2));
    answers.dedup();
    assert_eq!(answers.len(), RUNS, "other numbers in each run");
}

#[test]
fn a_call_that_is_stopped_costs_the_next_nothing() {
    let model = Model::new(17)
        .input("x", FLOAT, &[2])
        .output("y", FLOAT, &[2])
        .node("Neg", [&["x"], &["y"]], &[]);
    let Some(graph) = load(model) else { return };
    let mut session = graph.session().expect("a session");
    for round in 0..RUNS {
        let input = floats(&[round as f32, 1.0]);
        let expected = floats(&[-(round as f32), -1.0]);
        for _ in 0..RUNS {
            let answer = run(session.as_mut(), std::slice::from_ref(&input)).expect("runs");
            assert_eq!(content(&answer), content(std::slice::from_ref(&expected)));
        }
        let cancelled = Cancel::default();
        cancelled.cancel();
        let mut calls = [Call::new(vec![input], cancelled)];
        session.run(&mut calls);
        let [call] = calls;
        let error = call.result.expect("a result").expect_err("stopped");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}
