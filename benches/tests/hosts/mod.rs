//! The same guests on both hosts: ours, and `wasmtime-wasi-nn` through the adapter. Both run the graphs that
//! tract loaded, once for both. Folders are read-only on both.

use std::path::PathBuf;
use std::sync::Arc;

use infer::{Backends, DirGrant, Registry};
use infer_benches::peer;
pub(crate) use infer_benches::peer::Drops;
use infer_core::{Backend, Cancel, Device, Graph, LoadOptions, run_engine};
use infer_models::{ModelRef, ModelStore};
use infer_tract::Tract;
use tokio::runtime::Runtime;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

/// How much of a guest's output is kept, in bytes.
const OUTPUT: usize = 16 << 20;

/// wasi-nn's two ABIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    Component,
    Preview1,
}

impl Abi {
    pub(crate) const BOTH: [Abi; 2] = [Abi::Component, Abi::Preview1];

    /// A built guest's bytes.
    fn guest(self, name: &str) -> Vec<u8> {
        let target = match self {
            Abi::Component => "wasm32-wasip2",
            Abi::Preview1 => "wasm32-wasip1",
        };
        let path = root().join(format!(
            "guest-examples/target/{target}/release/{name}.wasm"
        ));
        std::fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "cannot read `{}`: {error}\nhint: run guest-examples/build",
                path.display()
            )
        })
    }
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Both hosts, with the same models under the same names; the first is `default` too.
pub(crate) struct Hosts {
    runtime: Runtime,
    engine: infer::Engine,
    registry: Arc<Registry>,
    peer: peer::Host,
    graphs: Vec<(String, Arc<dyn Graph>)>,
}

/// A guest on both hosts.
pub(crate) struct Guest {
    ours: infer::Guest,
    peers: peer::Guest,
}

/// One run of a guest. The default is nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run<'a> {
    /// Its arguments without its own name.
    pub(crate) args: &'a [&'a str],
    /// Folders that it may read: the host's path, and the guest's.
    pub(crate) dirs: &'a [(PathBuf, &'a str)],
    pub(crate) stdin: &'a [u8],
}

/// What a run showed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) end: End,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// How a run ended, on either host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i64),
    Trapped(String),
    Panicked(String),
}

impl Ran {
    /// Standard output of a run that ended well.
    pub(crate) fn well(&self) -> &[u8] {
        assert_eq!(self.end, End::Exited(0), "{self:?}");
        &self.stdout
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }
}

impl Hosts {
    /// Both hosts with the tiny models of `models/testdata`.
    pub(crate) fn with_test_models(names: &[&str]) -> Hosts {
        Hosts::with(names.iter().map(|name| {
            let path = root().join(format!("models/testdata/{name}.onnx"));
            open(path.to_str().expect("UTF-8"), &ModelStore::at("no-store"))
        }))
    }

    /// Both hosts with one installed model.
    pub(crate) fn with_installed(name: &str) -> (Hosts, infer_models::Model) {
        let model = installed(name);
        (Hosts::with([model.clone()]), model)
    }

    fn with(models: impl IntoIterator<Item = infer_models::Model>) -> Hosts {
        let mut registry = Registry::default();
        let mut peer = peer::Host::new(vec![Arc::new(Tract)]).expect("this machine runs wasmtime");
        let mut graphs = Vec::new();
        for files in models {
            let request = files.load_request(Device::Cpu, LoadOptions::default());
            let graph = run_engine("tract", || Tract.load(&request, &Cancel::default()))
                .expect("tract runs it");
            let model = infer::Model::new(&files.name, "tract", files.encoding, graph.clone());
            registry.add(model, Some(&files)).expect("a new name");
            if graphs.is_empty() {
                peer.add_model(infer::DEFAULT_NAME, "tract", graph.clone());
            }
            peer.add_model(&files.name, "tract", graph.clone());
            graphs.push((files.name, graph));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        Hosts {
            runtime: runtime.expect("a runtime"),
            engine: infer::Engine::new(&infer::EngineConfig::default())
                .expect("this machine runs wasmtime"),
            registry: Arc::new(registry),
            peer,
            graphs,
        }
    }

    /// The graph that both hosts run under this name.
    pub(crate) fn graph(&self, name: &str) -> &dyn Graph {
        let found = self.graphs.iter().find(|(known, _)| known == name);
        &*found.unwrap_or_else(|| panic!("`{name}` was not opened")).1
    }

    /// Compiles a guest for both hosts, the peer being as it is.
    pub(crate) fn guest(&self, abi: Abi, name: &str) -> Guest {
        self.guest_with(abi, name, Drops::Absent)
    }

    /// Compiles a guest for both hosts.
    pub(crate) fn guest_with(&self, abi: Abi, name: &str, drops: Drops) -> Guest {
        let bytes = abi.guest(name);
        let peers = self.peer.compile(&bytes, drops);
        Guest {
            ours: infer::Guest::compile(&self.engine, &bytes).expect("a valid guest"),
            peers: peers.unwrap_or_else(|error| panic!("{abi:?} {name} on the peer: {error:#}")),
        }
    }

    /// Why the peer, as it is, refuses to link a guest; nothing where it takes it.
    pub(crate) fn peers_refusal(&self, abi: Abi, name: &str) -> Option<String> {
        let guest = self.peer.compile(&abi.guest(name), Drops::Absent);
        guest.err().map(|error| format!("{error:#}"))
    }

    /// Runs on our host. A guest may load models of its own there, as on the peer.
    pub(crate) fn ours(&self, guest: &Guest, run: Run<'_>) -> Ran {
        let (stdout, stderr) = (MemoryOutputPipe::new(OUTPUT), MemoryOutputPipe::new(OUTPUT));
        let backends = Arc::new(Backends::built_in());
        let mut instance = infer::Instance::new(arguments(run), self.registry.clone(), backends);
        instance.stdin = Box::new(MemoryInputPipe::new(run.stdin.to_vec()));
        instance.stdout = Box::new(stdout.clone());
        instance.stderr = Box::new(stderr.clone());
        instance.grants.load = true;
        instance.grants.devices = vec![Device::Cpu];
        let dirs = run.dirs.iter().map(|(host, guest)| DirGrant {
            host: host.clone(),
            guest: (*guest).to_owned(),
            read_only: true,
        });
        instance.grants.dirs.extend(dirs);
        let outcome = self.runtime.block_on(guest.ours.run(instance));
        Ran {
            end: match outcome.end {
                infer::End::Exited(status) => End::Exited(status.into()),
                infer::End::Trapped(error) => End::Trapped(error.to_string()),
                other => panic!("{:?}: {other:?}", run.args),
            },
            stdout: stdout.contents().to_vec(),
            stderr: String::from_utf8_lossy(&stderr.contents()).into_owned(),
        }
    }

    /// Runs on the peer.
    pub(crate) fn peers(&self, guest: &Guest, run: Run<'_>) -> Ran {
        let dirs = run
            .dirs
            .iter()
            .map(|(host, guest)| (host.clone(), (*guest).to_owned()));
        let instance = peer::Instance {
            args: arguments(run),
            dirs: dirs.collect(),
            stdin: run.stdin.to_vec(),
        };
        let outcome = self
            .peer
            .run(&guest.peers, instance)
            .expect("the folders are there");
        Ran {
            end: match outcome.end {
                peer::End::Exited(status) => End::Exited(status.into()),
                peer::End::Trapped(text) => End::Trapped(text),
                peer::End::Panicked(text) => End::Panicked(text),
            },
            stdout: outcome.stdout,
            stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
        }
    }

    /// Runs on both: ours, the peer's.
    pub(crate) fn both(&self, guest: &Guest, run: Run<'_>) -> (Ran, Ran) {
        (self.ours(guest, run), self.peers(guest, run))
    }
}

fn arguments(run: Run<'_>) -> Vec<String> {
    let all = std::iter::once(&"guest").chain(run.args);
    all.map(|argument| (*argument).to_owned()).collect()
}

/// An installed model's files.
fn installed(name: &str) -> infer_models::Model {
    let store = ModelStore::from_environment().expect("a folder for models");
    open(name, &store)
}

fn open(reference: &str, store: &ModelStore) -> infer_models::Model {
    let parsed: ModelRef = reference.parse().expect("a reference");
    parsed.open(store).unwrap_or_else(|error| {
        panic!(
            "model `{reference}`: {}\nhint: run `infer models get {reference}`",
            error.report()
        )
    })
}

/// The folder of photos, when each of these paths in the repository is there.
pub(crate) fn photos(paths: &[&str]) -> PathBuf {
    for path in paths {
        let there = root().join(path).is_file();
        assert!(there, "`{path}` is missing\nhint: run scripts/get-photos");
    }
    root().join("photos")
}
