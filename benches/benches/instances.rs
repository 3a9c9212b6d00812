//! What a new instance costs in a running process: infer by both ABIs, beside bare wasmtime for components, all with a pool.
//!
//! Bare wasmtime has the same WASI, the same limits of time and no wasi-nn: a store, an instance on the caller's
//! thread, its run, and the end of all of it. infer does that by `Guest::run_here`, and by `Guest::run`, which has
//! another thread do it. A deadline is what a server gives each guest. Figures of one run are to be compared with one
//! another.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use infer::{Backends, End, Engine, EngineConfig, Guest, Instance, Registry};
use tokio::runtime::Runtime;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, PoolingAllocationConfig, Store};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// A component that does nothing.
const NOTHING: &str = r#"
    (component
        (core module $nothing (func (export "run") (result i32) (i32.const 0)))
        (core instance $instance (instantiate $nothing))
        (func $run (result (result)) (canon lift (core func $instance "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $command)))"#;

/// A module that does nothing.
const NOTHING_PREVIEW1: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// Instances that the pools are made for.
const INSTANCES: u32 = 100;

struct BareHost {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for BareHost {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

struct Bare {
    engine: wasmtime::Engine,
    command: CommandPre<BareHost>,
}

impl Bare {
    fn new(bytes: &[u8]) -> wasmtime::Result<Bare> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(INSTANCES)
            .total_memories(INSTANCES)
            .total_stacks(INSTANCES);
        let mut config = Config::new();
        config.allocation_strategy(pool).epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let component = Component::from_binary(&engine, bytes)?;
        let command = CommandPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Bare { engine, command })
    }

    fn store(&self) -> Store<BareHost> {
        let host = BareHost {
            wasi: WasiCtx::builder().arg("guest").build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, host);
        store.set_epoch_deadline(1);
        store
    }

    async fn instantiate(&self) {
        let mut store = self.store();
        let command = self.command.instantiate_async(&mut store).await;
        black_box(command.expect("room in the pool"));
    }

    async fn run(&self) {
        let mut store = self.store();
        let command = self.command.instantiate_async(&mut store).await;
        let command = command.expect("room in the pool");
        let ended = command.wasi_cli_run().call_run(&mut store).await;
        ended.expect("no trap").expect("status 0");
    }
}

struct Ours {
    guest: Guest,
    registry: Arc<Registry>,
    backends: Arc<Backends>,
}

impl Ours {
    fn new(bytes: &[u8]) -> Ours {
        let config = EngineConfig {
            instances: Some(INSTANCES),
            ..EngineConfig::default()
        };
        let engine = Engine::new(&config).expect("this machine runs wasmtime");
        Ours {
            guest: Guest::compile(&engine, bytes).expect("a valid guest"),
            registry: Arc::default(),
            backends: Arc::new(Backends::built_in()),
        }
    }

    fn instance(&self, timeout: Option<Duration>) -> Instance {
        let args = vec!["guest".to_owned()];
        let mut instance = Instance::new(args, self.registry.clone(), self.backends.clone());
        instance.limits.timeout = timeout;
        instance
    }

    async fn run_here(&self, timeout: Option<Duration>) {
        let outcome = self.guest.run_here(self.instance(timeout)).await;
        assert!(matches!(outcome.end, End::Exited(0)), "{:?}", outcome.end);
    }

    async fn run(&self, timeout: Option<Duration>) {
        let outcome = self.guest.run(self.instance(timeout)).await;
        assert!(matches!(outcome.end, End::Exited(0)), "{:?}", outcome.end);
    }
}

fn components(criterion: &mut Criterion, name: &str, bytes: &[u8]) {
    let runtime = Runtime::new().expect("a runtime");
    let bare = Bare::new(bytes).expect("a valid guest");
    let mut group = criterion.benchmark_group(format!("{name}, component"));
    group.bench_function("bare wasmtime, instantiate and drop", |bencher| {
        bencher.iter(|| runtime.block_on(bare.instantiate()));
    });
    group.bench_function("bare wasmtime, run and drop", |bencher| {
        bencher.iter(|| runtime.block_on(bare.run()));
    });
    measure(group, bytes);
}

fn modules(criterion: &mut Criterion, name: &str, bytes: &[u8]) {
    measure(
        criterion.benchmark_group(format!("{name}, preview1")),
        bytes,
    );
}

fn measure(mut group: BenchmarkGroup<'_, WallTime>, bytes: &[u8]) {
    let runtime = Runtime::new().expect("a runtime");
    let ours = Ours::new(bytes);
    let deadline = Some(Duration::from_secs(10));
    group.bench_function("infer, run here and drop", |bencher| {
        bencher.iter(|| runtime.block_on(ours.run_here(None)));
    });
    group.bench_function("infer, run here with a deadline and drop", |bencher| {
        bencher.iter(|| runtime.block_on(ours.run_here(deadline)));
    });
    group.bench_function("infer, run on another thread and drop", |bencher| {
        bencher.iter(|| runtime.block_on(ours.run(None)));
    });
    group.bench_function(
        "infer, run on another thread with a deadline and drop",
        |bencher| {
            bencher.iter(|| runtime.block_on(ours.run(deadline)));
        },
    );
    group.finish();
}

fn instances(criterion: &mut Criterion) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let hello = |target: &str| {
        let path = format!("guest-examples/target/{target}/release/hello.wasm");
        std::fs::read(root.join(path)).expect("guest-examples/build was run")
    };
    let text = |text: &str| wat::parse_str(text).expect("valid text");
    components(criterion, "nothing", &text(NOTHING));
    components(criterion, "hello", &hello("wasm32-wasip2"));
    modules(criterion, "nothing", &text(NOTHING_PREVIEW1));
    modules(criterion, "hello", &hello("wasm32-wasip1"));
}

criterion_group!(benches, instances);
criterion_main!(benches);
