//! Runs WebAssembly guests that do AI inference through wasi-nn.
//!
//! Once per process: [`Backends`] are the engines that are there, models are opened into a [`Registry`],
//! an [`Engine`] compiles a [`Guest`] and checks its imports. Per request: [`Guest::run`] makes an
//! [`Instance`], whose calls to wasi-nn end in the scheduler of the model that they name.
//!
//! ```no_run
//! # async fn example(bytes: &[u8]) -> infer_core::Result<()> {
//! let engine = infer::Engine::new(&infer::EngineConfig::default())?;
//! let guest = infer::Guest::compile(&engine, bytes)?;
//! let mut registry = infer::Registry::default();
//! let backends = std::sync::Arc::new(infer::Backends::built_in());
//! let store = infer_models::ModelStore::from_environment()?;
//! let reference: infer_models::ModelRef = "efficientnet-lite0".parse()?;
//! infer::open_model(&backends, &reference.open(&store)?, &infer::Selection::default(), &mut registry)?;
//! let outcome = guest.run(infer::Instance::new(vec!["classify".to_owned()], registry.into(), backends)).await;
//! println!("{:?}", outcome.end);
//! # Ok(())
//! # }
//! ```

mod backends;
pub mod bench;
mod cache;
mod compiled;
mod config;
mod deadlines;
mod describe;
mod engine;
mod guest;
mod host;
mod latency;
mod nn;
mod open;
mod pages;
mod registry;
mod scheduler;
#[cfg(feature = "serve")]
pub mod serve;
mod slices;
mod spans;
mod threads;
pub mod tune;
pub mod values;
mod wasi;

pub use backends::{Backends, EngineLibraries, Loaded, refuse_telemetry};
pub use cache::GuestCache;
pub use compiled::{Kind, compile, kind};
pub use config::{DeviceChoice, DirGrant, EngineConfig, Grants, HostGrant, Limits, Selection};
pub use describe::{GuestDescription, Import};
pub use engine::Engine;
pub use guest::{Answering, End, Guest, Instance, Outcome, Role, Stopper};
pub use nn::usage::Usage;
pub use open::open_model;
pub use registry::{DEFAULT_NAME, Model, Registry};
pub use scheduler::{Batching, Priorities, Scheduling, Statistics};
