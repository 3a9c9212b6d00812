//! One engine session run by many threads at once, as `api::run` does: every bit of every output is compared with
//! what one thread alone gets.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use infer_core::testing::conformance::TestModel;
use infer_core::{
    Backend, Call, Cancel, Device, Dtype, Graph, LoadOptions, LoadRequest, Session, Tensor,
    run_engine,
};
use infer_models::{ModelRef, ModelStore};
use infer_onnxruntime::OnnxRuntime;

const THREADS: usize = 8;
const RUNS: usize = 1_500;
/// A network's run takes a thousand times as long as a product's.
const NETWORK_RUNS: usize = 40;

/// Rows of a product, enough for the engine to share them out; which depends on who runs it and when.
fn input(seed: usize) -> Tensor {
    const ROWS: usize = 1_000;
    let values: Vec<f32> = (0..4 * ROWS)
        .map(|i| ((seed * 31 + i * 7) % 1009) as f32 / 50.0 - 1.0)
        .collect();
    common::floats(&[ROWS, 4], &values)
}

/// A picture of noise.
fn picture(seed: usize) -> Tensor {
    const SIDE: usize = 224;
    let mut state = seed as u32 + 1;
    let values: Vec<f32> = (0..3 * SIDE * SIDE)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    common::floats(&[1, 3, SIDE, SIDE], &values)
}

fn run(session: &mut dyn Session, input: Tensor) -> Vec<u8> {
    let mut calls = [Call::new(vec![input], Cancel::default())];
    session.run(&mut calls);
    let [call] = calls;
    let outputs = call.result.expect("a result").expect("runs");
    outputs[0].host().expect("in host memory").to_vec()
}

#[test]
fn many_threads_on_one_session_get_what_one_gets() {
    let Some(engine) = common::engine() else {
        return;
    };
    many_get_what_one_gets(&engine, &common::request(TestModel::MatMul), RUNS, input);
}

/// Convolutions, pools and sums keep working memory between nodes, which a product does not.
#[test]
fn many_threads_on_one_network_get_what_one_gets() {
    let Some(engine) = common::engine() else {
        return;
    };
    let store = ModelStore::from_environment().expect("a folder for models");
    let model: ModelRef = "efficientnet-lite0".parse().expect("a name");
    let model = model
        .open(&store)
        .expect("`infer models get efficientnet-lite0` brings it");
    let request = model.load_request(Device::Cpu, LoadOptions::default());
    many_get_what_one_gets(&engine, &request, NETWORK_RUNS, picture);
}

fn many_get_what_one_gets(
    engine: &OnnxRuntime,
    request: &LoadRequest,
    runs: usize,
    input: fn(usize) -> Tensor,
) {
    let graph = engine.load(request, &Cancel::default()).expect("loads");
    let mut alone = graph.session().expect("a session");
    let seeds = runs.min(97);
    let expected: Vec<Vec<u8>> = (0..seeds)
        .map(|seed| run(alone.as_mut(), input(seed)))
        .collect();
    assert!(
        expected.windows(2).all(|pair| pair[0] != pair[1]),
        "inputs must matter"
    );
    let compared = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (graph, expected, compared) = (&graph, &expected, &compared);
            scope.spawn(move || {
                let mut session = graph.session().expect("a session");
                for round in 0..runs {
                    let seed = (thread * 13 + round) % expected.len();
                    assert_eq!(run(session.as_mut(), input(seed)), expected[seed]);
                    compared.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(compared.into_inner(), THREADS * runs);
}

/// A run that is being stopped leaves the others of its session alone.
#[test]
fn stopping_one_run_stops_no_other() {
    let Some(engine) = common::engine() else {
        return;
    };
    let graph: Arc<dyn Graph> = engine
        .load(&common::request(TestModel::MatMul), &Cancel::default())
        .expect("loads");
    let expected = run(graph.session().expect("a session").as_mut(), input(5));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (graph, expected) = (&graph, &expected);
            scope.spawn(move || {
                let mut session = graph.session().expect("a session");
                for _ in 0..RUNS / 3 {
                    if thread % 2 == 0 {
                        assert_eq!(&run(session.as_mut(), input(5)), expected);
                        continue;
                    }
                    let cancel = Cancel::default();
                    let mut calls = [Call::new(vec![input(5)], cancel.clone())];
                    std::thread::scope(|inner| {
                        inner.spawn(|| cancel.cancel());
                        session.run(&mut calls);
                    });
                    if let Some(Ok(outputs)) = &calls[0].result {
                        assert_eq!(&outputs[0].host().expect("in host memory"), expected);
                    }
                }
            });
        }
    });
}

/// An output that is an input, or a weight, stays what it was when everything else is gone.
#[test]
fn outputs_outlive_what_they_came_from() {
    let Some(engine) = common::engine() else {
        return;
    };
    let request = common::request(TestModel::Identity(Dtype::F32));
    let graph = engine.load(&request, &Cancel::default()).expect("loads");
    let values: Vec<f32> = (0..10_000).map(|i| i as f32).collect();
    let mut outputs = Vec::new();
    for _ in 0..20 {
        let mut session = run_engine("onnxruntime", || graph.session()).expect("a session");
        let mut calls = [Call::new(
            vec![common::floats(&[10_000], &values)],
            Cancel::default(),
        )];
        session.run(&mut calls);
        let [call] = calls;
        outputs.extend(call.result.expect("a result").expect("runs"));
    }
    drop(graph);
    let expected = common::floats(&[10_000], &values)
        .host()
        .expect("in host memory");
    for output in outputs {
        assert_eq!(output.host().expect("in host memory"), expected);
    }
}
