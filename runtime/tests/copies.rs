//! How often the host copies a tensor: counted in bytes that it allocates for one call more, because no copy does
//! without a place for it. The guest's own memory is not counted: what lands there is the copy that must be.

mod common;

use std::alloc::System;
use std::sync::Arc;

use bytes::Bytes;
use common::Abi;
use http_body_util::{BodyExt, Full};
use infer::{Answering, Backends, End, EngineLibraries, Guest, Registry, Scheduling};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::sync::Mutex;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is counted is that of the whole process: one test at a time.
static COUNTING: Mutex<()> = Mutex::const_new(());

/// A picture of 1 x 3 x 224 x 224 in f32.
const ELEMENTS: usize = 150_528;
const BYTES: usize = ELEMENTS * 4;

/// Buffers of a tensor's size that each engine's call takes: the one copy out of the guest's memory, and what the
/// engine takes beside. Outputs are handed on in the engine's own buffer.
const BUFFERS: [(&str, usize, &str); 3] = [
    (
        "onnxruntime",
        1,
        "it borrows the input, and has the output in memory of its own allocator",
    ),
    (
        "openvino",
        2,
        "it borrows the input, and writes the output into our buffer",
    ),
    (
        "tract",
        2,
        "it takes inputs in memory of its own only; an identity hands the input on",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_tensor_is_copied_once_each_way() {
    let _alone = COUNTING.lock().await;
    let backends = Backends::of_machine(&EngineLibraries::default()).expect("the engines");
    let path = common::test_model("identity-f32");
    let model = path.to_str().expect("UTF-8");
    for (engine, buffers, why) in BUFFERS {
        let scheduling = Scheduling::default();
        let Some(registry) = common::open_on(&backends, (engine, model), &scheduling) else {
            continue;
        };
        let registry = Arc::new(registry);
        for abi in Abi::BOTH {
            let guest = common::guest("worker", abi);
            // The first calls of a process set things up.
            let (few, many) = (4, 24);
            allocated(&guest, &registry, few).await;
            let less = allocated(&guest, &registry, few).await;
            let more = allocated(&guest, &registry, many).await;
            let call = (more - less) / (many - few);
            let (least, most) = (BYTES * buffers, BYTES * buffers + 64 * 1024);
            assert!(
                (least..most).contains(&call),
                "{engine}, {abi:?}: a call allocates {call} bytes: expected {buffers} x {BYTES} ({why})"
            );
        }
    }
}

/// What the host allocates for an instance that makes so many calls, in bytes.
async fn allocated(guest: &Guest, registry: &Arc<Registry>, calls: usize) -> usize {
    let order = format!("default x {ELEMENTS} {BYTES} 1 {calls}\n");
    let before = ALLOCATOR.stats().bytes_allocated;
    let ran = common::run(guest, common::instance(&[], registry.clone()), order.into()).await;
    let after = ALLOCATOR.stats().bytes_allocated;
    assert!(
        matches!(ran.end, End::Exited(0)),
        "{:?} {}",
        ran.end,
        ran.stderr
    );
    after - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_a_guest_reads_is_not_copied_before() {
    let _alone = COUNTING.lock().await;
    let backends = Backends::of_machine(&EngineLibraries::default()).expect("the engines");
    let path = common::test_model("identity-f32");
    let (engine, buffers, why) = BUFFERS[2];
    let model = (engine, path.to_str().expect("UTF-8"));
    let registry = common::open_on(&backends, model, &Scheduling::default()).expect("built in");
    let registry = Arc::new(registry);
    let guest = common::guest("argmax", Abi::Component);
    for (elements, counted) in [(1, false), (1, true), (ELEMENTS, false), (ELEMENTS, true)] {
        let body = Bytes::from(vec![0; elements * 4]);
        let before = ALLOCATOR.stats().bytes_allocated;
        let request = http::Request::post(format!("http://host/default/x/{elements}"))
            .header("content-length", body.len())
            .body(Full::new(body).map_err(|never| -> wasmtime_wasi_http::Error { match never {} }))
            .expect("a request");
        let Answering {
            answer, outcome, ..
        } = guest
            .answer(common::instance(&[], registry.clone()), request)
            .expect("it answers requests");
        let (answer, outcome) = tokio::join!(answer, outcome);
        assert!(matches!(outcome.end, End::Exited(0)), "{:?}", outcome.end);
        let allocated = ALLOCATOR.stats().bytes_allocated - before;
        let answer = answer.expect("an answer").expect("a response");
        assert_eq!(answer.status(), 200);
        // The first requests of a process set things up.
        let most = elements * 4 * buffers + 128 * 1024;
        assert!(
            !counted || allocated < most,
            "a request of {elements} values allocates {allocated} bytes: expected {buffers} x {} ({why})",
            elements * 4
        );
    }
}
