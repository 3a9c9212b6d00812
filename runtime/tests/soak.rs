//! A thousand live instances of one model: what each further one costs in resident memory.
//!
//! Each loads the model, computes once and keeps its context, its tensors and its outputs while it waits for input
//! that the test holds back. A process of its own, so that nothing else changes its memory.
//!
//! tract's large, short-lived tensors come from the C library's heap. With its default settings, glibc keeps small
//! blocks for each thread, between which that memory stays in pieces; a program that keeps many instances on tract
//! turns that off, as this does.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::Abi;
use infer::{Backends, End, Engine, EngineConfig, Guest, Registry, Selection};
use infer_models::{ModelRef, ModelStore};
use tokio::io::AsyncRead;
use tokio::sync::watch;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

/// Instances before the first look and at the last.
const FEW: usize = 100;
const MANY: usize = 1000;

/// What each further instance may cost beside its tensors, in bytes.
const GOAL: u64 = 1 << 20;

/// A standard input that gives nothing until it ends, and counts who waits for it.
#[derive(Clone)]
struct Gate {
    ended: watch::Receiver<bool>,
    waiting: Arc<AtomicUsize>,
}

impl IsTerminal for Gate {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Gate {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }
}

impl InputStream for Gate {
    fn read(&mut self, _size: usize) -> StreamResult<Bytes> {
        match *self.ended.borrow() {
            true => Err(StreamError::Closed),
            false => Ok(Bytes::new()),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Gate {
    async fn ready(&mut self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A sender that is gone ends the wait too.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

/// A model for the backend, and how many bytes of tensors a guest of it holds.
fn registry(reference: &str, backend: &str) -> Arc<Registry> {
    let reference: ModelRef = reference.parse().expect("a reference");
    let store = ModelStore::from_environment().expect("a folder for models");
    let files = reference.open(&store).expect("an installed model");
    let backends = Backends::of_machine(&Default::default()).expect("engines");
    let selection = Selection {
        backend: Some(backend.to_owned()),
        ..Selection::default()
    };
    let mut registry = Registry::default();
    infer::open_model(&backends, &files, &selection, &mut registry).expect("a sound model");
    Arc::new(registry)
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    let kibibytes: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kibibytes << 10
}

struct Live {
    guest: Arc<Guest>,
    registry: Arc<Registry>,
    gate: Gate,
    running: Vec<tokio::task::JoinHandle<(infer::Outcome, Bytes)>>,
}

impl Live {
    /// Starts instances until there are so many that have computed and wait.
    async fn grow(&mut self, number: usize) {
        while self.running.len() < number {
            let mut instance = common::instance(&[], self.registry.clone());
            let stdout = MemoryOutputPipe::new(1 << 10);
            instance.stdin = Box::new(self.gate.clone());
            instance.stdout = Box::new(stdout.clone());
            instance.limits.timeout = Some(Duration::from_secs(600));
            let guest = self.guest.clone();
            self.running.push(tokio::spawn(async move {
                let outcome = guest.run(instance).await;
                (outcome, stdout.contents())
            }));
        }
        while self.gate.waiting.load(Ordering::Relaxed) < number {
            for running in &self.running {
                assert!(!running.is_finished(), "a guest ended before its input did");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What each further instance costs beside its tensors, in bytes.
async fn soak(name: &str, backend: &str, abi: Abi, config: EngineConfig) -> u64 {
    let engine = Engine::new(&config).expect("an engine");
    let guest = Guest::compile(&engine, &common::guest_bytes("hold", abi)).expect("a guest");
    let (end, ended) = watch::channel(false);
    let gate = Gate {
        ended,
        waiting: Arc::default(),
    };
    let mut live = Live {
        guest: Arc::new(guest),
        registry: registry(name, backend),
        gate,
        running: Vec::new(),
    };
    live.grow(FEW).await;
    let few = resident();
    live.grow(MANY).await;
    let many = resident();
    end.send(true).expect("guests wait");
    let mut tensors = 0;
    for running in live.running {
        let (outcome, said) = running.await.expect("no panic");
        assert!(matches!(outcome.end, End::Exited(0)), "{:?}", outcome.end);
        assert!(said.len() > 1, "it says how much the outputs have");
        tensors = outcome.usage.peak_bytes();
        assert_eq!((outcome.usage.bytes(), outcome.usage.handles()), (0, 0));
    }
    let each = many.saturating_sub(few) / (MANY - FEW) as u64;
    #[allow(clippy::print_stderr, reason = "the figure is what the test is for")]
    {
        eprintln!(
            "{name} on {backend}, {abi:?}, pool {:?}: {} KiB for each further instance, tensors of {} KiB included",
            config.instances,
            each >> 10,
            tensors >> 10
        );
    }
    each.saturating_sub(tensors)
}

/// glibc keeps no freed blocks for single threads.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// One after the other, since they share the memory that is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_instances_share_one_model() {
    if std::env::var_os(TUNABLES.0).is_some_and(|value| value == TUNABLES.1) {
        return soak_both("tract").await;
    }
    let this = std::env::current_exe().expect("a program");
    let tract = Command::new(this)
        .args(["--nocapture", "a_thousand_instances_share_one_model"])
        .env(TUNABLES.0, TUNABLES.1)
        .status();
    assert!(tract.expect("starts").success(), "on tract");
    match std::env::var_os("INFER_SKIP_ENGINES") {
        #[allow(clippy::print_stderr, reason = "a test that does nothing must say so")]
        Some(_) => eprintln!("skipped without native engines: instances on ONNX Runtime"),
        None => soak_both("onnxruntime").await,
    }
}

/// By both ABIs, with instances of their own and out of a pool.
async fn soak_both(backend: &str) {
    let pool = EngineConfig {
        instances: Some(MANY as u32),
        ..EngineConfig::default()
    };
    let costs = [
        soak("magika", backend, Abi::Component, EngineConfig::default()).await,
        soak("magika", backend, Abi::Preview1, pool).await,
    ];
    assert!(
        costs.iter().all(|cost| *cost <= GOAL),
        "{costs:?} bytes for each further instance, expected at most {GOAL}"
    );
}
