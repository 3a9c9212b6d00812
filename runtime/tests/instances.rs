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
    let registry = registry(&fake, "identity f32 [?]; slow 6s; concurrency 100");
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
    // They have a moment to end.
    let abandoned = async |number| {
        while engine.abandoned_threads() < number {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(engine.abandoned_threads(), number, "each is in the engine");
    };
    abandoned(4).await;
    run(12).await;
    abandoned(16).await;
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
        ("(component)", "it exports none of `wasi:cli/run`"),
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

/// A module that runs until it is stopped.
const ENDLESS: &str = r#"(module (func (export "_start") (loop $again (br $again))))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_s_division_is_its_trap_and_no_engine_s() {
    let engine = Engine::new(&EngineConfig::default()).expect("an engine");
    // Both look at the same signal.
    infer_core::run_engine("engine", || Ok(())).expect("nothing is wrong");
    for (a, b) in [(i32::MIN, -1), (1, 0)] {
        let text = format!(
            r#"(module
                (memory (export "memory") 1)
                (global $a (mut i32) (i32.const {a}))
                (global $b (mut i32) (i32.const {b}))
                (func (export "_start")
                    (drop (i32.div_s (global.get $a) (global.get $b)))))"#
        );
        let guest = guest_of(&engine, &text);
        let instance = common::instance(&[], Arc::default());
        let ran = common::run(&guest, instance, Vec::new()).await;
        assert!(matches!(ran.end, End::Trapped(_)), "{:?}", ran.end);
    }
}

/// A module that ends at once.
const SHORT: &str = r#"(module (func (export "_start")))"#;

fn guest_of(engine: &Engine, text: &str) -> Arc<Guest> {
    let bytes = wat::parse_str(text).expect("valid text");
    Arc::new(Guest::compile(engine, &bytes).expect("a guest"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_an_error_and_empties_again() {
    let config = EngineConfig {
        instances: Some(2),
        ..EngineConfig::default()
    };
    let engine = Engine::new(&config).expect("an engine");
    let (endless, short) = (guest_of(&engine, ENDLESS), guest_of(&engine, SHORT));
    let registry = Arc::default();
    let timeout = Some(Duration::from_millis(500));
    let ended = async |number| at_once(number, &endless, &registry, &[], timeout).await;
    let ends: Vec<End> = ended(6).await.into_iter().map(|ran| ran.end).collect();
    let timed_out = |end: &&End| matches!(end, End::TimedOut(_));
    assert_eq!(ends.iter().filter(timed_out).count(), 2, "{ends:?}");
    for end in ends.iter().filter(|end| !timed_out(end)) {
        match end {
            End::Failed(error) => {
                assert!(error.to_string().contains("as many instances"), "{error}");
            }
            end => panic!("{end:?}"),
        }
    }
    // On a busy machine one may have been given up, and keeps its place until it is stopped.
    while engine.abandoned_threads() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..10 {
        let ran = common::run(&short, common::instance(&[], Arc::default()), Vec::new()).await;
        assert!(matches!(ran.end, End::Exited(0)), "{:?}", ran.end);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_on_the_caller_s_thread_stops_at_its_deadline_too() {
    let engine = Engine::new(&EngineConfig::default()).expect("an engine");
    let (endless, short) = (guest_of(&engine, ENDLESS), guest_of(&engine, SHORT));
    let instance = |timeout| {
        let mut instance = common::instance(&[], Arc::default());
        instance.limits.timeout = Some(timeout);
        instance
    };
    for _ in 0..3 {
        let end = endless.run_here(instance(Duration::from_millis(20))).await;
        assert!(matches!(end.end, End::TimedOut(_)), "{:?}", end.end);
        let end = short.run_here(instance(Duration::MAX)).await.end;
        assert!(matches!(end, End::Exited(0)), "{end:?}");
        let end = short.run(instance(Duration::MAX)).await.end;
        assert!(matches!(end, End::Exited(0)), "{end:?}");
    }
    // One that waits, for input that does not come.
    let mut waiting = instance(Duration::from_millis(20));
    let (_held, input) = tokio::io::duplex(1);
    waiting.stdin = Box::new(wasmtime_wasi::cli::AsyncStdinStream::new(input));
    let mut registry = Registry::default();
    common::add_model(&mut registry, "network");
    waiting.registry = Arc::new(registry);
    let hold = common::guest("hold", Abi::Component);
    let end = hold.run_here(waiting).await.end;
    assert!(matches!(end, End::TimedOut(_)), "{end:?}");
}

/// What a guest left in a pooled memory or table is not there for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_memory_is_as_new_for_the_next_instance() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 4)
        (data (i32.const 70000) "\07")
        (global $at (mut i32) (i32.const 0))
        (func (export "_start")
            (if (i32.ne (i32.load8_u (i32.const 70000)) (i32.const 7)) (then (call $exit (i32.const 1))))
            (i32.store8 (i32.const 70000) (i32.const 0))
            (loop $next
                (if (i32.load8_u (global.get $at)) (then (call $exit (i32.const 2))))
                (i32.store8 (global.get $at) (i32.const 255))
                (global.set $at (i32.add (global.get $at) (i32.const 1)))
                (br_if $next (i32.lt_u (global.get $at) (i32.const 262144))))
            (call $exit (i32.const 0))))"#;
    let config = EngineConfig {
        instances: Some(1),
        ..EngineConfig::default()
    };
    let engine = Engine::new(&config).expect("an engine");
    let guest = guest_of(&engine, text);
    for _ in 0..20 {
        let end = guest
            .run_here(common::instance(&[], Arc::default()))
            .await
            .end;
        assert!(matches!(end, End::Exited(0)), "{end:?}");
    }
}

/// However many memories and tables a guest has, another's instance finds its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_many_memories_takes_none_of_another_s() {
    let (memories, tables) = ("(memory 1)".repeat(4), "(table 100000 funcref)".repeat(16));
    let endless = format!(r#"(module {memories} {tables} (func (export "_start") (loop (br 0))))"#);
    let config = EngineConfig {
        instances: Some(4),
        ..EngineConfig::default()
    };
    let engine = Engine::new(&config).expect("an engine");
    let (endless, short) = (guest_of(&engine, &endless), guest_of(&engine, SHORT));
    let registry = Arc::default();
    let timeout = Some(Duration::from_millis(500));
    let running = at_once(3, &endless, &registry, &[], timeout);
    let beside = async {
        for _ in 0..20 {
            let ran = common::run(&short, common::instance(&[], Arc::default()), Vec::new()).await;
            assert!(matches!(ran.end, End::Exited(0)), "{:?}", ran.end);
        }
    };
    let (ran, ()) = tokio::join!(running, beside);
    for ran in ran {
        assert!(matches!(ran.end, End::TimedOut(_)), "{:?}", ran.end);
    }
    // One that has more is refused before it runs.
    let memories = "(memory 1)".repeat(5);
    let bytes = wat::parse_str(format!(r#"(module {memories} (func (export "_start")))"#));
    let refused = Guest::compile(&engine, &bytes.expect("valid text"));
    let error = refused.err().expect("too many memories");
    assert!(
        error
            .to_string()
            .contains("more memories, tables or instances"),
        "{error}"
    );
}
