//! Many instances: what they share, what they do not, and what one that misbehaves costs the others.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Abi, Ran};
use infer::{End, Engine, EngineConfig, Guest, Instance, Limits, Registry};
use infer_core::testing::FakeBackend;

/// A registry with one model of the fake backend, as `default`.
fn registry(fake: &FakeBackend, description: &str) -> Arc<Registry> {
    let mut registry = Registry::default();
    common::add_fake(&mut registry, fake, "model", description);
    Arc::new(registry)
}

/// Runs so many instances of a guest at once.
async fn at_once(
    number: usize,
    guest: &Arc<Guest>,
    registry: &Arc<Registry>,
    args: &[&str],
    timeout: Option<Duration>,
) -> Vec<Ran> {
    let spawn = |_| {
        let (guest, mut instance) = (guest.clone(), common::instance(args, registry.clone()));
        instance.limits.timeout = timeout;
        tokio::spawn(async move { common::run(&guest, instance, Vec::new()).await })
    };
    let tasks: Vec<_> = (0..number).map(spawn).collect();
    let mut runs = Vec::new();
    for task in tasks {
        runs.push(task.await.expect("no panic"));
    }
    runs
}

fn module(text: &str) -> Vec<u8> {
    let path = common::root().join("guest-examples/tests/wat").join(text);
    wat::parse_file(path).expect("valid text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_instances_share_one_model_and_its_sessions() {
    let fake = FakeBackend::new();
    let registry = registry(&fake, "identity f32 [?]; concurrency 3");
    for abi in Abi::BOTH {
        let guest = Arc::new(common::guest("loop", abi));
        let mut checksums = Vec::new();
        for ran in at_once(
            50,
            &guest,
            &registry,
            &["--runs", "20", "--dims", "8"],
            None,
        )
        .await
        {
            assert!(
                matches!(ran.end, End::Exited(0)),
                "{:?} {}",
                ran.end,
                ran.stderr
            );
            assert_eq!((ran.usage.bytes(), ran.usage.handles()), (0, 0));
            checksums.push(ran.text());
        }
        checksums.dedup();
        assert_eq!(
            checksums.len(),
            1,
            "the same work gives the same sum: {checksums:?}"
        );
    }
    assert_eq!(fake.counters().loads(), 1);
    assert_eq!(fake.counters().calls(), 2 * 50 * 20);
    assert!(
        fake.counters().most_running() <= 3,
        "{} ran at once",
        fake.counters().most_running()
    );
    assert!(fake.counters().live_sessions() <= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_does_not_stop_costs_a_thread_and_only_so_many() {
    let fake = FakeBackend::new();
    let registry = registry(&fake, "identity f32 [?]; slow 3s; concurrency 100");
    let engine = Engine::new(&EngineConfig::default()).expect("an engine");
    let guest =
        Guest::compile(&engine, &common::guest_bytes("loop", Abi::Preview1)).expect("a guest");
    let guest = Arc::new(guest);
    let run = async |number| {
        let args = ["--runs", "1", "--dims", "8"];
        at_once(
            number,
            &guest,
            &registry,
            &args,
            Some(Duration::from_millis(300)),
        )
        .await
    };
    for ran in run(4).await {
        assert!(matches!(ran.end, End::TimedOut(_)), "{:?}", ran.end);
    }
    assert_eq!(engine.abandoned_threads(), 4, "each is in the engine still");
    run(12).await;
    let refused = run(1).await.remove(0).end;
    match refused {
        End::Failed(error) => assert!(
            error.to_string().contains("could not be stopped"),
            "{error}"
        ),
        end => panic!("past a number of abandoned threads no guest is started: {end:?}"),
    }
    while engine.abandoned_threads() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let end = run(1).await.remove(0).end;
    assert!(
        matches!(end, End::TimedOut(_)),
        "then guests are started again: {end:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_count_as_memory() {
    let engine = Engine::new(&EngineConfig::default()).expect("an engine");
    for text in ["table-grow.wat", "table-grow-component.wat"] {
        let guest = Guest::compile(&engine, &module(text)).expect("a guest");
        let run = async |memory| {
            let mut instance: Instance = common::instance(&[], Arc::default());
            instance.limits = Limits {
                memory,
                ..Limits::default()
            };
            common::run(&guest, instance, Vec::new()).await.end
        };
        assert!(
            matches!(run(64 << 20).await, End::Exited(0)),
            "{text} is refused its table"
        );
        assert!(
            matches!(run(1 << 30).await, End::Exited(1)),
            "{text} gets 160 MB of table"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_without_memory_gets_an_errno() {
    let text = r#"(module
        (import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (func (export "_start")
            (call $exit (call $load (i32.const 0) (i32.const 0) (i32.const 0)))))"#;
    let engine = Engine::new(&EngineConfig::default()).expect("an engine");
    let guest =
        Guest::compile(&engine, &wat::parse_str(text).expect("valid text")).expect("a guest");
    let ran = common::run(&guest, common::instance(&[], Arc::default()), Vec::new()).await;
    assert!(
        matches!(ran.end, End::Exited(3)),
        "missing_memory: {:?}",
        ran.end
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_no_command_is_refused_with_a_remedy() {
    let engine = Engine::new(&EngineConfig::default()).expect("an engine");
    let cases = [
        ("(module)", "does not export the function `_start`"),
        ("(component)", "does not export `wasi:cli/run`"),
        (
            r#"(module (import "env" "x" (func)) (func (export "_start")))"#,
            "imports what infer does not have",
        ),
        (
            r#"(component (import "wasi:http/types@0.2.0" (instance (export "x" (func)))))"#,
            "imports what infer does not have",
        ),
    ];
    for (text, expected) in cases {
        let bytes = wat::parse_str(text).expect("valid text");
        let error = Guest::compile(&engine, &bytes).err().expect("refused");
        assert!(
            error.to_string().contains(expected),
            "{text}: {}",
            error.report()
        );
        assert!(error.hint().is_some(), "{text}");
    }
    for bytes in [
        &b""[..],
        b"\0asm",
        b"\0asm\x01\0\0\0\xff\xff",
        b"(module)",
        b"\x7fELF",
    ] {
        let error = Guest::compile(&engine, bytes).err().expect("refused");
        assert_eq!(
            error.kind(),
            infer_core::ErrorKind::InvalidEncoding,
            "{bytes:?}"
        );
    }
}
