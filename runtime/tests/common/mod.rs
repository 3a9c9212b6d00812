//! What the tests of the runtime share: built guests, test models, a run with its output.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use infer::{
    Backends, End, Engine, EngineConfig, EngineLibraries, Guest, Instance, Model, Registry,
};
use infer_core::testing::{FakeBackend, engine_is_there};
use infer_core::{Backend, Cancel, Encoding};
use infer_models::{ModelRef, ModelStore};
use infer_tract::Tract;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

/// How much of a guest's output is kept, in bytes.
const OUTPUT: usize = 16 << 20;

/// Whether ONNX Runtime is there; where it is not, the person must have said to skip it.
pub fn onnxruntime_is_there() -> bool {
    let backends = Backends::of_machine(&EngineLibraries::default()).expect("the engines");
    let mut engines = backends.all().iter();
    let engine = engines.find(|found| found.name() == "onnxruntime");
    engine_is_there(engine.expect("a known engine").as_ref())
}

/// wasi-nn's two ABIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    Component,
    Preview1,
}

impl Abi {
    pub const BOTH: [Abi; 2] = [Abi::Component, Abi::Preview1];

    fn target(self) -> &'static str {
        match self {
            Abi::Component => "wasm32-wasip2",
            Abi::Preview1 => "wasm32-wasip1",
        }
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The path of a built guest.
pub fn guest_path(name: &str, abi: Abi) -> PathBuf {
    let path = root().join(format!(
        "guest-examples/target/{}/release/{name}.wasm",
        abi.target()
    ));
    assert!(
        path.is_file(),
        "`{}` is missing: run guest-examples/build",
        path.display()
    );
    path
}

/// A built guest's bytes.
pub fn guest_bytes(name: &str, abi: Abi) -> Vec<u8> {
    std::fs::read(guest_path(name, abi)).expect("readable")
}

/// A compiled guest.
pub fn guest(name: &str, abi: Abi) -> Guest {
    let engine = Engine::new(&EngineConfig::default()).expect("this machine runs wasmtime");
    Guest::compile(&engine, &guest_bytes(name, abi)).expect("a valid guest")
}

/// A tiny model of the project's own.
pub fn test_model(name: &str) -> PathBuf {
    root().join(format!("models/testdata/{name}.onnx"))
}

/// Adds a tiny model, run by tract.
pub fn add_model(registry: &mut Registry, name: &str) {
    let reference: ModelRef = test_model(name)
        .to_str()
        .expect("UTF-8")
        .parse()
        .expect("a path");
    let files = reference
        .open(&ModelStore::at("no-store"))
        .expect("a model");
    let backends = Backends::new(vec![Arc::new(Tract)]);
    infer::open_model(&backends, &files, &infer::Selection::default(), registry)
        .expect("tract runs it");
}

/// Adds a model that an engine of this machine runs, by its reference (a path or a name); says nothing where the
/// engine is missing and the person said to skip it.
pub fn open_on(
    backends: &Backends,
    (engine, reference): (&str, &str),
    scheduling: &infer::Scheduling,
) -> Option<Registry> {
    let found = backends.all().iter().find(|found| found.name() == engine);
    if !engine_is_there(found.expect("a known engine").as_ref()) {
        return None;
    }
    let store = ModelStore::from_environment().expect("a place for models");
    let reference: ModelRef = reference.parse().expect("a model");
    let files = reference
        .open(&store)
        .expect("`infer models get` brings it");
    let selection = infer::Selection {
        backend: Some(engine.to_owned()),
        scheduling: scheduling.clone(),
        ..infer::Selection::default()
    };
    let mut registry = Registry::default();
    infer::open_model(backends, &files, &selection, &mut registry).expect("it runs");
    Some(registry)
}

/// Adds a model of the fake backend.
pub fn add_fake(registry: &mut Registry, fake: &FakeBackend, name: &str, description: &str) {
    let graph = fake
        .load(&FakeBackend::request(description), &Cancel::default())
        .expect("a description");
    registry
        .add(Model::new(name, "fake", Encoding::Onnx, graph), None)
        .expect("a new name");
}

/// A shell that has `infer` on its path and no input, and nothing of this shell that would change what it shows.
pub fn shell(command: &str, folder: &Path) -> Command {
    let infer = Path::new(env!("CARGO_BIN_EXE_infer"))
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", infer.display()))
        .env("COLUMNS", "100")
        .env_remove("RUST_LOG")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null());
    shell
}

/// Everything that a run showed.
pub struct Ran {
    pub end: End,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub usage: Arc<infer::Usage>,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// An instance with a guest's arguments; the first is added.
pub fn instance(args: &[&str], registry: Arc<Registry>) -> Instance {
    let args = std::iter::once("guest")
        .chain(args.iter().copied())
        .map(str::to_owned)
        .collect();
    Instance::new(args, registry, Arc::new(Backends::built_in()))
}

/// Runs a guest and keeps its output.
pub async fn run(guest: &Guest, mut instance: Instance, stdin: Vec<u8>) -> Ran {
    let (stdout, stderr) = (MemoryOutputPipe::new(OUTPUT), MemoryOutputPipe::new(OUTPUT));
    instance.stdin = Box::new(MemoryInputPipe::new(stdin));
    instance.stdout = Box::new(stdout.clone());
    instance.stderr = Box::new(stderr.clone());
    let outcome = guest.run(instance).await;
    Ran {
        end: outcome.end,
        stdout: stdout.contents().to_vec(),
        stderr: String::from_utf8_lossy(&stderr.contents()).into_owned(),
        usage: outcome.usage,
    }
}

/// An ONNX model of so many Relu nodes, one after another.
pub fn chain(nodes: usize) -> Vec<u8> {
    chain_of(nodes, "Relu", 1)
}

/// An ONNX model that gives back the string that it takes.
pub fn strings() -> Vec<u8> {
    chain_of(1, "Identity", 8)
}

/// An ONNX model of so many nodes of an operator, one after another, and one element of an ONNX element type.
fn chain_of(nodes: usize, operator: &str, element: u8) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(bytes);
        field
    };
    // ValueInfoProto: the element type, [1].
    let value = |name: &str| {
        let shape = field(2, &field(1, &[0x08, 1]));
        let tensor = [&[0x08, element][..], &shape].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    let mut graph = Vec::new();
    for node in 0..nodes {
        let (from, to) = (format!("v{node}"), format!("v{}", node + 1));
        let parts = [
            field(1, from.as_bytes()),
            field(2, to.as_bytes()),
            field(4, operator.as_bytes()),
        ];
        graph.extend(field(1, &parts.concat()));
    }
    graph.extend(field(2, b"chain"));
    graph.extend(field(11, &value("v0")));
    graph.extend(field(12, &value(&format!("v{nodes}"))));
    [vec![0x08, 8], field(7, &graph), field(8, &[0x10, 13])].concat()
}
