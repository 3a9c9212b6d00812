//! ONNX's own backend tests, run on every engine by several routes.
//!
//! A [`Case`] is a model with inputs and the outputs that the ONNX project expects of them. A [`Harness`] runs
//! it by one route: through a wasm guest and wasi-nn ([`wasm`]), or by the engine's own interface without wasm
//! and without our backends ([`direct`]). [`judge`] holds what came out against what is expected, by the same
//! rule for all routes, and gives an [`Outcome`]. [`pool`] runs the cases in child processes, since engines can
//! crash, and [`report`] makes the table of the documentation.

pub mod about;
pub mod cases;
pub mod compare;
pub mod direct;
pub mod frame;
pub mod judge;
pub mod pool;
pub mod reason;
pub mod report;
pub mod value;
pub mod wasm;
pub mod worker;

use std::fmt;
use std::str::FromStr;

use infer_core::Dtype;
use serde::{Deserialize, Serialize};

pub use about::About;
pub use cases::{Case, DataSet};
pub use value::{Output, Value};

/// The way from a test to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// A component through `wasi:nn`.
    WasmComponent,
    /// A core module through `wasi_ephemeral_nn`.
    WasmPreview1,
    /// The engine's own interface.
    Direct,
}

impl Route {
    /// All of them.
    pub const ALL: [Route; 3] = [Route::WasmComponent, Route::WasmPreview1, Route::Direct];

    /// The name that commands and files use.
    pub fn name(self) -> &'static str {
        match self {
            Route::WasmComponent => "wasm-component",
            Route::WasmPreview1 => "wasm-preview1",
            Route::Direct => "direct",
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Route, String> {
        let found = Route::ALL.into_iter().find(|route| route.name() == text);
        found.ok_or_else(|| {
            let names = Route::ALL.map(Route::name).join(", ");
            format!("expected a route ({names}), got `{text}`")
        })
    }
}

/// What can run a case.
pub trait Harness {
    /// Whether tensors of this dtype can be given to it and taken from it.
    fn carries(&self, dtype: Dtype) -> bool;

    /// Runs the model on one set of inputs and gives its outputs in the model's order.
    ///
    /// # Errors
    /// Why it did not run.
    fn run(&self, case: &Case, set: &DataSet) -> Result<Vec<Output>, Stopped>;
}

/// Why a case did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// What that counts as.
    pub verdict: Verdict,
    /// What was said.
    pub message: String,
}

impl Stopped {
    /// The engine, or a rule of ours, does not run this model.
    pub fn unsupported(message: impl fmt::Display) -> Stopped {
        Stopped::new(Verdict::Unsupported, message)
    }

    /// It should have run.
    pub fn failed(message: impl fmt::Display) -> Stopped {
        Stopped::new(Verdict::Failed, message)
    }

    /// For any reason.
    pub fn new(verdict: Verdict, message: impl fmt::Display) -> Stopped {
        let message = message.to_string();
        Stopped { verdict, message }
    }
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It gave what is expected.
    Passed,
    /// An input or output is of a dtype, or a kind, that the route does not carry.
    NotCarriable,
    /// The engine, or a rule of ours, refused the model.
    Unsupported,
    /// It gave what is expected but for the rounding of floats, by more than ONNX's rule allows.
    Rounded,
    /// It gave something else.
    Wrong,
    /// The process ended.
    Crashed,
    /// It did not end in time.
    TimedOut,
    /// Anything else.
    Failed,
}

impl Verdict {
    /// All of them, in the order of tables.
    pub const ALL: [Verdict; 8] = [
        Verdict::Passed,
        Verdict::NotCarriable,
        Verdict::Unsupported,
        Verdict::Rounded,
        Verdict::Wrong,
        Verdict::Crashed,
        Verdict::TimedOut,
        Verdict::Failed,
    ];

    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::NotCarriable => "not carriable",
            Verdict::Unsupported => "unsupported",
            Verdict::Rounded => "rounded",
            Verdict::Wrong => "wrong",
            Verdict::Crashed => "crashed",
            Verdict::TimedOut => "timed out",
            Verdict::Failed => "failed",
        }
    }
}

/// The result of one case: a line of a file of results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The case.
    pub case: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, in a form that is the same for cases of the same fault; empty for one that passed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, in full.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The nodes of the model, where something is to be found out about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Dtypes and shapes of the test's inputs and outputs, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<String>,
}
