//! Calls of several guests as one run of a real engine: every guest gets its own rows.

mod common;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use common::{Abi, Ran};
use infer::{
    Backends, Batching, DirGrant, End, EngineLibraries, Guest, Instance, Registry, Scheduling,
    Statistics,
};

const ENGINES: [&str; 3] = ["onnxruntime", "openvino", "tract"];

fn batches_of(max_batch: usize, delay_ms: u64) -> Scheduling {
    Scheduling {
        batching: Some(Batching {
            max_batch: NonZeroUsize::new(max_batch).expect("not 0"),
            max_delay: Duration::from_millis(delay_ms),
        }),
        ..Scheduling::default()
    }
}

/// Runs guests at once, each with its own arguments.
async fn at_once(guest: &Arc<Guest>, instances: Vec<Instance>) -> Vec<Ran> {
    let tasks: Vec<_> = instances
        .into_iter()
        .map(|instance| {
            let guest = guest.clone();
            tokio::spawn(async move { common::run(&guest, instance, Vec::new()).await })
        })
        .collect();
    let mut runs = Vec::new();
    for task in tasks {
        let ran = task.await.expect("no panic");
        assert!(
            matches!(ran.end, End::Exited(0)),
            "{:?} {}",
            ran.end,
            ran.stderr
        );
        runs.push(ran);
    }
    runs
}

fn statistics(registry: &Registry) -> Statistics {
    registry.get("default").expect("there").statistics()
}

fn runs_of_several(statistics: &Statistics) -> u64 {
    let several = statistics.batch_sizes.iter().skip(1);
    several.map(|(_, runs)| runs).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_with_other_inputs_each_get_their_own_rows() {
    let backends = Backends::of_machine(&EngineLibraries::default()).expect("the engines");
    let path = common::test_model("batch");
    let model = path.to_str().expect("UTF-8");
    for engine in ENGINES {
        let Some(alone) = common::open_on(&backends, (engine, model), &Scheduling::default())
        else {
            continue;
        };
        let batching = batches_of(6, 5);
        let batched = common::open_on(&backends, (engine, model), &batching).expect("is there");
        let (alone, batched) = (Arc::new(alone), Arc::new(batched));
        for abi in Abi::BOTH {
            let guest = Arc::new(common::guest("loop", abi));
            // Small whole numbers, whose products and sums are exact in any order. Some have several rows.
            let with = |registry: &Arc<Registry>| -> Vec<Instance> {
                (0..8)
                    .map(|number| {
                        let (first, dims) =
                            (format!("{}", number * 20), format!("{},4", 1 + number % 3));
                        let args = ["--runs", "100", "--dims", &dims, "--first", &first];
                        common::instance(&args, registry.clone())
                    })
                    .collect()
            };
            let expected = at_once(&guest, with(&alone)).await;
            let got = at_once(&guest, with(&batched)).await;
            for (number, (expected, got)) in expected.iter().zip(&got).enumerate() {
                assert_eq!(
                    expected.text(),
                    got.text(),
                    "{engine}, {abi:?}, guest {number}"
                );
            }
        }
        let statistics = statistics(&batched);
        assert_eq!(statistics.succeeded, 2 * 8 * 100, "{engine}");
        assert!(runs_of_several(&statistics) > 0, "{engine}: {statistics:?}");
        assert!(
            statistics.runs < statistics.succeeded,
            "{engine}: {statistics:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_of_several_guests_are_one_batch_of_a_real_network() {
    let backends = Backends::of_machine(&EngineLibraries::default()).expect("the engines");
    for engine in ["onnxruntime", "openvino"] {
        let model = (engine, "opennsfw-dynamic");
        let Some(alone) = common::open_on(&backends, model, &Scheduling::default()) else {
            continue;
        };
        let batched = common::open_on(&backends, model, &batches_of(6, 2000)).expect("is there");
        let (alone, batched) = (Arc::new(alone), Arc::new(batched));
        let guest = Arc::new(common::guest("dump", Abi::Component));
        let with = |registry: &Arc<Registry>| -> Vec<Instance> {
            [
                "coffee.png",
                "macaque.jpg",
                "camera.png",
                "coffee.png",
                "macaque.jpg",
                "camera.png",
            ]
            .map(|photo| {
                let photo = format!("photos/{photo}");
                let mut instance = common::instance(&[&photo], registry.clone());
                instance.grants.dirs.push(DirGrant {
                    host: common::root().join("photos"),
                    guest: "photos".to_owned(),
                    read_only: true,
                });
                instance
            })
            .into()
        };
        let expected = at_once(&guest, with(&alone)).await;
        let got = at_once(&guest, with(&batched)).await;
        for (expected, got) in expected.iter().zip(&got) {
            let (expected, got) = (numbers(&expected.stdout), numbers(&got.stdout));
            assert_eq!((expected.len(), got.len()), (2, 2), "{engine}");
            for (expected, got) in expected.iter().zip(&got) {
                assert!(
                    (expected - got).abs() < 1e-5,
                    "{engine}: {expected} and {got}"
                );
            }
        }
        assert_ne!(
            expected[0].stdout, expected[1].stdout,
            "other photos, other answers"
        );
        let statistics = statistics(&batched);
        assert!(runs_of_several(&statistics) > 0, "{engine}: {statistics:?}");
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks();
    numbers
        .iter()
        .map(|number| f32::from_le_bytes(*number))
        .collect()
}
