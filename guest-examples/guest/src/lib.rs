//! Machine-learning inference from inside a WebAssembly guest.
//!
//! A guest holds no model and no engine: it asks its host, through wasi-nn, to run a model that the host was
//! started with. This library is the guest's side of that, and builds from one source for both ABIs:
//!
//! | target          | what it makes | imports                                               |
//! |-----------------|---------------|-------------------------------------------------------|
//! | `wasm32-wasip2` | a component   | `wasi:nn@0.2.0-rc-2024-10-28`                         |
//! | `wasm32-wasip1` | a core module | `wasi_ephemeral_nn`, the older ABI that most hosts have |
//!
//! ```no_run
//! use infer_guest::{Model, Tensor};
//!
//! fn main() -> Result<(), infer_guest::Error> {
//!     let mut model = Model::open("default")?;
//!     let pixels = Tensor::new(&[1, 3, 224, 224], vec![0.0f32; 3 * 224 * 224])?;
//!     let outputs = model.run(&[("input", &pixels)])?;
//!     let scores = outputs.get("probabilities")?.values::<f32>()?.into_owned();
//!     println!("{} classes", scores.len());
//!     Ok(())
//! }
//! ```
//!
//! Steps of a run: [`Model::open`] asks the host for a model by name; [`Tensor::new`] makes an input of any of
//! the seven element types; [`Model::run`] sends the inputs, waits, and gives [`Outputs`], whose values are
//! copied into the guest only when [`Outputs::get`] asks for them. [`Model::info`] is what the host tells of the
//! model: names, types, dimensions, how a picture becomes its input, labels.
//!
//! It does not: hold models, choose engines or devices, or retry. On a native target everything that needs a
//! host answers [`Code::UnsupportedOperation`], so that a guest's pure functions can be tested with `cargo test`.

pub mod abi;
mod error;
mod info;
mod model;
mod scores;
mod tensor;
#[cfg(not(all(target_arch = "wasm32", target_env = "p1")))]
pub mod transform;

pub use abi::{Encoding, Target};
pub use error::{Code, Error, Result};
pub use info::{Color, Filter, Image, Info, Input, Layout, Output as OutputInfo, Resize, Scores};
pub use model::{Key, Model, Outputs};
pub use scores::{softmax, top};
pub use tensor::{Bf16, DType, Element, F16, Output, Tensor};

/// Compiles the programs of `WRITING.md`.
#[cfg(doctest)]
#[doc = include_str!("../../WRITING.md")]
struct Writing;
