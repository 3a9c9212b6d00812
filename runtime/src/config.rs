//! What an embedder says about engines and instances: plain values, no command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use infer_core::{Device, LoadOptions};
use wasmtime_wasi::FsPerms;

use crate::scheduler::Scheduling;

/// How guests are compiled. A compiled guest fits only an engine of the same settings.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Count fuel, which `Limits::fuel` needs; it makes guests slower.
    pub fuel: bool,
    /// Take instances from a pool that is made for this many at one time, which is worth it where many are made: memory
    /// and stacks are reused. Without one each instance gets its own, and there may be as many as the machine bears.
    ///
    /// The pool reserves address space and no memory: 4 GiB and more for each of four memories of an instance, 800 KB for
    /// each of 16 tables; where the system has no room for so much, a quarter of that. In it a memory holds at most 4 GiB
    /// and a table 100,000 elements, whatever [`Limits::memory`] says: growing beyond fails as it does at that limit.
    pub instances: Option<u32>,
    /// What the pool keeps of a memory for the next one in its place, in bytes: clearing that is cheaper than having it
    /// mapped anew. It stays resident, once touched, for each memory of the pool.
    pub kept_memory: usize,
    /// How many instances that answer requests, and calls of models that are known to be short, may run on the threads of the
    /// caller's runtime at one time. An instance does until it has computed for a millisecond or two; then, and where so
    /// many run already, it gets a thread of its own. A runtime that has more threads than this stays free for other
    /// work. 0 gives each a thread of its own at once.
    pub on_runtime: usize,
}

impl EngineConfig {
    /// The default of [`EngineConfig::kept_memory`].
    pub const KEPT_MEMORY: usize = 128 << 10;
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            fuel: false,
            instances: None,
            kept_memory: EngineConfig::KEPT_MEMORY,
            on_runtime: 0,
        }
    }
}

/// What one instance may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the guest's start to its end.
    pub timeout: Option<Duration>,
    /// Units of fuel, about one for each wasm instruction.
    pub fuel: Option<u64>,
    /// All linear memories and tables together, in bytes.
    pub memory: usize,
    /// Everything that the host holds for the guest's tensors and models at one time, in bytes.
    pub tensor_bytes: u64,
    /// Graphs, contexts, tensors and errors at one time.
    pub handles: u64,
}

impl Limits {
    /// The default of [`Limits::memory`].
    pub const MEMORY: usize = 1 << 30;
    /// The default of [`Limits::tensor_bytes`].
    pub const TENSOR_BYTES: u64 = 1 << 30;
    /// The default of [`Limits::handles`].
    pub const HANDLES: u64 = 10_000;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            timeout: None,
            fuel: None,
            memory: Limits::MEMORY,
            tensor_bytes: Limits::TENSOR_BYTES,
            handles: Limits::HANDLES,
        }
    }
}

/// What one instance may reach. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Folders.
    pub dirs: Vec<DirGrant>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// The network, all of it.
    pub network: bool,
    /// Hosts that it may send HTTP requests to, beside those that `network` allows.
    pub outgoing: Vec<HostGrant>,
    /// Handing model bytes of its own to the engines.
    pub load: bool,
    /// Devices for models that it loads itself.
    pub devices: Vec<Device>,
    /// The engine for models that it loads itself, and how they run there; of the devices it chooses one.
    pub engine: Selection,
    /// The level of its calls of models that have levels; the model's default where absent.
    pub priority: Option<NonZeroU32>,
}

/// A folder that a guest may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirGrant {
    /// The folder on the host.
    pub host: PathBuf,
    /// Its path as the guest sees it.
    pub guest: String,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// A host that a guest may send HTTP requests to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGrant {
    /// Its name or address, in lower case.
    pub host: String,
    /// The port; that of the request's scheme where absent.
    pub port: Option<u16>,
}

impl DirGrant {
    pub(crate) fn permissions(&self) -> FsPerms {
        if self.read_only {
            FsPerms::ReadOnly
        } else {
            FsPerms::ReadWrite
        }
    }
}

/// Which engine and device a person wants for a model, and how it shall run there.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// A backend's name; the first that can where absent.
    pub backend: Option<String>,
    /// The device.
    pub device: DeviceChoice,
    /// How it shall run there.
    pub options: LoadOptions,
    /// Whether a model of which parts run elsewhere is an error.
    pub strict_device: bool,
    /// Why this backend, for people; that it was asked for where absent.
    pub reason: Option<String>,
    /// Who runs when, and whether calls are made one.
    pub scheduling: Scheduling,
}

/// The device that a person asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best that is there; which it is gets reported.
    #[default]
    Auto,
    /// This one or an error.
    Exactly(Device),
}
