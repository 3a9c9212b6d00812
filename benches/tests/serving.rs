//! The native server and the load generator of `scripts/bench serve`: right answers are counted as right, wrong ones and
//! failures as such. Nothing is timed. Needs ONNX Runtime.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use infer_benches::measure;
use infer_benches::native::NativeOptions;
use infer_benches::serving::load::client::Connection;
use infer_benches::serving::load::request::{Made, Protocol, Work};
use infer_benches::serving::load::{Expected, Plan, Report, Target, learn, run};
use infer_benches::serving::native::{Model, ModelOptions, serve};
use infer_core::{Backend, Device};
use tokio::net::TcpListener;

const REQUESTS: usize = 3;

/// The native server with a model whose output is its input; `None` where a person said to go on without the engine.
async fn server(test: &str) -> Option<SocketAddr> {
    let engine = measure::engine().expect("a place for engines");
    if let Err(error) = engine.probe() {
        assert!(
            std::env::var_os("INFER_SKIP_ENGINES").is_some(),
            "{}: run `infer engines install onnxruntime`",
            error.report()
        );
        #[allow(clippy::print_stderr, reason = "a test that does less must say so")]
        {
            eprintln!("skipped without onnxruntime: {test}");
        }
        return None;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/testdata/identity-f32.onnx");
    let options = ModelOptions {
        native: NativeOptions {
            threads: NonZeroUsize::new(1),
            ..NativeOptions::on(Device::Cpu)
        },
        sessions: NonZeroUsize::MIN.saturating_add(1),
    };
    let model = Model::open(&engine, ("identity", &file), &options).expect("opens");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, model));
    Some(address)
}

fn target(address: SocketAddr, protocol: Protocol) -> Target {
    let work = Work {
        model: "identity".to_owned(),
        input: "x".to_owned(),
        // More than one read of a connection.
        shape: vec![150_528],
    };
    let made = (0..REQUESTS).map(|number| Made::new(protocol, &work, number).expect("a request"));
    Target {
        address,
        protocol,
        made: Arc::new(made.collect()),
    }
}

fn plan(rate: Option<f64>, expected: Expected) -> Plan {
    Plan {
        connections: NonZeroUsize::MIN.saturating_add(2),
        duration: Duration::from_millis(200),
        rate,
        expected,
    }
}

fn bad(report: &Report) -> (usize, usize, usize) {
    (report.failed, report.wrong, report.unsent)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_checked_in_each_protocol() {
    let Some(address) = server("answers_are_checked_in_each_protocol").await else {
        return;
    };
    let raw = target(address, Protocol::Raw);
    let places = learn(&raw).await.expect("answers");
    let made = raw.made.iter().map(|made| {
        let (values, _) = made.values().as_chunks();
        let values = values.iter().map(|value| f32::from_le_bytes(*value));
        // The last of the largest of the reversed values is the first.
        let places = values.enumerate().collect::<Vec<_>>();
        let largest = places.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1));
        largest.expect("a value").0
    });
    assert_eq!(places, made.collect::<Vec<_>>());
    let places = Arc::new(places);
    let rest = target(address, Protocol::Rest);
    for (target, expected) in [
        (&raw, Expected::Places(Arc::clone(&places))),
        (&rest, Expected::Places(Arc::clone(&places))),
        (&rest, Expected::Echo),
    ] {
        for rate in [None, Some(100.0)] {
            let report = run(target, &plan(rate, expected.clone())).await;
            let report = report.expect("a report");
            assert_eq!(bad(&report), (0, 0, 0), "{report:?}");
            assert!(report.answered >= REQUESTS, "{report:?}");
            assert!(
                report.p50 <= report.p99 && report.p99 <= report.longest,
                "{report:?}"
            );
            if rate.is_some() {
                assert_eq!(report.answered, 20, "as many as were due: {report:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_counted() {
    let Some(address) = server("what_is_wrong_is_counted").await else {
        return;
    };
    let raw = target(address, Protocol::Raw);
    let mut places = learn(&raw).await.expect("answers");
    places[1] += 1;
    let few = Expected::Places(Arc::new(vec![0]));
    let refused = run(&raw, &plan(None, few))
        .await
        .expect_err("too few answers");
    assert_eq!(refused.to_string(), "expected 3 answers, got 1");
    let wrong = Expected::Places(Arc::new(places));
    let report = run(&raw, &plan(None, wrong)).await.expect("a report");
    assert!(report.wrong > 0 && report.answered > 0, "{report:?}");
    assert_eq!(
        report.failure.as_deref(),
        Some("a wrong answer to request 1")
    );

    let work = Work {
        model: "identity".to_owned(),
        input: "x".to_owned(),
        shape: vec![2],
    };
    // The model does not take these, and the server has no such path or method.
    let mut cases = Vec::new();
    for (model, input, shape, expected) in [
        ("identity", "x", vec![1, 2], "status 400"),
        ("identity", "y", vec![2], "status 404"),
        ("other", "x", vec![2], "status 404"),
    ] {
        let work = Work {
            model: model.to_owned(),
            input: input.to_owned(),
            shape,
        };
        cases.push((Protocol::Raw, work, expected));
    }
    cases.push((Protocol::Json, work, "status 400"));
    for (protocol, work, expected) in cases {
        let made = Made::new(protocol, &work, 0).expect("a request");
        let target = Target {
            address,
            protocol,
            made: Arc::new(vec![made]),
        };
        let error = learn(&target).await.expect_err(expected);
        assert!(
            error.to_string().starts_with(expected),
            "{work:?}: {error:#}"
        );
        let report = run(&target, &plan(None, Expected::Echo)).await;
        let report = report.expect("a report");
        assert!(report.failed > 0 && report.answered == 0, "{report:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    for protocol in [Protocol::Raw, Protocol::Grpc] {
        let error = Connection::open(address, protocol).await.err();
        let error = error.expect("nothing listens").to_string();
        assert!(error.starts_with("cannot connect to 127.0.0.1:"), "{error}");
    }
}
