//! Runs: many at once, cancelled ones, precision and options, dtypes, and inputs that are not aligned.

mod common;

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use common::onnx::{FLOAT, Model};
use infer_core::{
    Arithmetic, Call, Cancel, Dtype, Encoding, ErrorKind, LoadOptions, LoadRequest, Performance,
    Precision, Source, Tensor,
};

/// `y` = `x` times itself, so many times: each time is a node. A size of 0 is dynamic.
fn products(size: u64, count: usize) -> LoadRequest {
    let mut model = Model::new(13).input("x", FLOAT, &[size, size]);
    let mut last = "x".to_owned();
    for number in 0..count {
        let next = format!("product{number}");
        model = model.node("MatMul", [&[&last, "x"], &[&next]], &[]);
        last = next;
    }
    let model = model
        .node("Identity", [&[&last], &["y"]], &[])
        .output("y", FLOAT, &[size, size]);
    common::request(Encoding::Onnx, Source::Memory(vec![model.bytes().into()]))
}

/// A matrix whose powers stay small.
fn matrix(size: usize, seed: usize) -> Tensor {
    let values: Vec<f32> = (0..size * size)
        .map(|i| ((i * 31 + seed * 7) % 101) as f32 / (101.0 * size as f32))
        .collect();
    common::floats(&[size, size], &values)
}

#[test]
fn threads_with_sessions_give_equal_bits() {
    let Some(engine) = common::engine("threads_with_sessions_give_equal_bits") else {
        return;
    };
    let mut request = products(48, 5);
    request.options.streams = NonZeroUsize::new(2);
    let graph = common::load(&engine, &request).expect("a model");
    assert!(graph.concurrency() >= 2, "{}", graph.concurrency());
    let bits = |session: &mut dyn infer_core::Session, seed| {
        let outputs = common::run(session, vec![matrix(48, seed)]).expect("a run");
        outputs[0].host().expect("in host memory")
    };
    let alone: Vec<Bytes> = (0..8)
        .map(|seed| bits(graph.session().expect("a session").as_mut(), seed))
        .collect();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (graph, alone) = (&graph, &alone);
            scope.spawn(move || {
                let mut session = graph.session().expect("a session");
                for _ in 0..100 {
                    let got = bits(session.as_mut(), seed);
                    assert!(got == alone[seed], "thread {seed} got other bits");
                }
            });
        }
    });
}

#[test]
fn a_run_stops_when_cancelled_and_the_session_goes_on() {
    let Some(engine) = common::engine("a_run_stops_when_cancelled_and_the_session_goes_on") else {
        return;
    };
    // Static shapes, where the engine is stopped, and dynamic ones, where it is not.
    for (size, count) in [(512, 400), (0, 20)] {
        let graph = common::load(&engine, &products(size, count)).expect("a slow model");
        let mut session = graph.session().expect("a session");
        let cancel = Cancel::default();
        let mut calls = [Call::new(vec![matrix(512, 1)], cancel.clone())];
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(10));
                cancel.cancel();
            });
            session.run(&mut calls);
        });
        let result = calls[0].result.take().expect("a result");
        let error = result.expect_err("these products take longer than 10 ms");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());

        let next = if size == 0 {
            matrix(16, 2)
        } else {
            matrix(512, 2)
        };
        let got = common::run(session.as_mut(), vec![next.clone()]).expect("the session runs");
        let graph = common::load(&engine, &products(size, count)).expect("a slow model");
        let mut fresh = graph.session().expect("a session");
        let expected = common::run(fresh.as_mut(), vec![next]).expect("a run");
        let bits = |outputs: &[Tensor]| outputs[0].host().expect("in host memory");
        assert!(bits(&got) == bits(&expected), "other bits after a cancel");
    }
}

#[test]
fn the_precision_is_the_one_that_was_asked_for() {
    let Some(engine) = common::engine("the_precision_is_the_one_that_was_asked_for") else {
        return;
    };
    let asked = [
        (Precision::F32, Some(Arithmetic::F32)),
        (Precision::BF16, Some(Arithmetic::BF16)),
        (Precision::F16, Some(Arithmetic::F16)),
        (Precision::Auto, None),
    ];
    // All at the same time, since the options of one must not reach another.
    std::thread::scope(|scope| {
        for (precision, expected) in asked {
            let engine = &engine;
            scope.spawn(move || {
                let mut request = products(32, 3);
                request.options.precision = precision;
                match (common::load(engine, &request), expected) {
                    (Ok(graph), Some(expected)) => {
                        assert_eq!(graph.placement().precision, expected)
                    }
                    (Ok(_), None) => {}
                    (Err(error), _) => {
                        assert_ne!(precision, Precision::F32, "{}", error.report());
                        assert_ne!(precision, Precision::Auto, "{}", error.report());
                        assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
                        assert!(error.hint().is_some(), "{}", error.report());
                    }
                }
            });
        }
    });
}

#[test]
fn options_are_taken_or_refused() {
    let Some(engine) = common::engine("options_are_taken_or_refused") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut request = products(16, 2);
    request.options = LoadOptions {
        threads: NonZeroUsize::new(1),
        streams: NonZeroUsize::new(1),
        performance: Some(Performance::Throughput),
        cache: Some(folder.path().to_owned()),
        ..LoadOptions::default()
    };
    for _ in 0..2 {
        let graph = common::load(&engine, &request).expect("a model");
        assert_eq!(graph.placement().precision, Arithmetic::F32);
        let mut session = graph.session().expect("a session");
        common::run(session.as_mut(), vec![matrix(16, 1)]).expect("a run");
    }
    let kept = std::fs::read_dir(folder.path()).expect("the cache").count();
    assert!(kept > 0, "nothing is in the cache");

    request.options.device_memory = Some(1 << 30);
    let error = common::load(&engine, &request)
        .err()
        .expect("no such limit");
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
}

#[test]
fn every_fixed_size_dtype_goes_in_and_out() {
    let Some(engine) = common::engine("every_fixed_size_dtype_goes_in_and_out") else {
        return;
    };
    let dtypes: [(u64, Dtype, &[u8]); 12] = [
        (1, Dtype::F32, &[0, 0, 128, 63]),
        (2, Dtype::U8, &[255]),
        (3, Dtype::I8, &[128]),
        (4, Dtype::U16, &[255, 255]),
        (5, Dtype::I16, &[0, 128]),
        (6, Dtype::I32, &[0, 0, 0, 128]),
        (7, Dtype::I64, &[255, 255, 255, 127, 0, 0, 0, 0]),
        (9, Dtype::Bool, &[1]),
        (10, Dtype::F16, &[1, 60]),
        (12, Dtype::U32, &[255, 255, 255, 127]),
        (13, Dtype::U64, &[255, 255, 255, 127, 0, 0, 0, 0]),
        (16, Dtype::BF16, &[129, 63]),
    ];
    for (number, dtype, element) in dtypes {
        let model = Model::new(13)
            .input("x", number, &[0])
            .output("y", number, &[0])
            .node("Identity", [&["x"], &["y"]], &[]);
        let source = Source::Memory(vec![model.bytes().into()]);
        let graph = common::load(&engine, &common::request(Encoding::Onnx, source));
        let graph = graph.unwrap_or_else(|error| panic!("{dtype}: {}", error.report()));
        let mut session = graph.session().expect("a session");
        for count in [3, 0, 5] {
            let bytes = Bytes::from([&[0], element.repeat(count).as_slice()].concat()).slice(1..);
            let input = Tensor::new(dtype, vec![count], bytes.clone()).expect("valid");
            let outputs = common::run(session.as_mut(), vec![input]).expect("a run");
            assert_eq!(outputs[0].dtype(), dtype);
            assert_eq!(outputs[0].shape(), [count]);
            assert_eq!(outputs[0].host().expect("host"), bytes, "{dtype}");
        }
        let wide: &[u8] = match dtype {
            Dtype::I64 | Dtype::U64 => &[0, 0, 0, 128, 0, 0, 0, 0],
            Dtype::U32 => &[0, 0, 0, 128],
            _ => continue,
        };
        let input = Tensor::copied_from(dtype, vec![1], wide).expect("valid");
        let error = common::run(session.as_mut(), vec![input]).expect_err("too wide");
        assert!(error.to_string().contains("input `x`"), "{error}");
    }
}

#[test]
fn strings_are_refused_by_name() {
    let Some(engine) = common::engine("strings_are_refused_by_name") else {
        return;
    };
    let model = Model::new(13)
        .input("x", 8, &[2])
        .output("y", 8, &[2])
        .node("Identity", [&["x"], &["y"]], &[]);
    let source = Source::Memory(vec![model.bytes().into()]);
    let error = common::load(&engine, &common::request(Encoding::Onnx, source)).err();
    let error = error.expect("strings cannot be read back");
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.report().contains("string"), "{}", error.report());
}

#[test]
fn indices_outside_are_refused() {
    let Some(engine) = common::engine("indices_outside_are_refused") else {
        return;
    };
    let model = Model::new(13)
        .input("data", FLOAT, &[0])
        .input("index", 6, &[1])
        .output("y", FLOAT, &[1])
        .node("Gather", [&["data", "index"], &["y"]], &[]);
    let source = Source::Memory(vec![model.bytes().into()]);
    let graph = common::load(&engine, &common::request(Encoding::Onnx, source)).expect("a model");
    let mut session = graph.session().expect("a session");
    let mut pick = |index: i32| {
        let index = Tensor::copied_from(Dtype::I32, vec![1], &index.to_le_bytes());
        let data = common::floats(&[3], &[10.0, 20.0, 30.0]);
        common::run(session.as_mut(), vec![data, index.expect("valid")])
    };
    for (index, expected) in [(2, 30.0), (-3, 10.0), (-1, 30.0)] {
        let outputs = pick(index).expect("inside");
        assert_eq!(common::read_floats(&outputs[0]), [expected]);
    }
    for index in [3, -4, i32::MAX, i32::MIN] {
        let error = pick(index).expect_err("outside");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}
