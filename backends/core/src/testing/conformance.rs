//! The suite that every backend has to pass: one table of cases over a dozen tiny models.
//!
//! Steps of a case: have the caller make a request for a [`TestModel`], load it, make a session, run
//! calls through [`run_engine`] as the host does, and compare. A case panics with what it expected and
//! got. What a backend may lack (an element type, an operator) it has to refuse with
//! `UnsupportedOperation` and by name; [`run`] returns these refusals, so that the caller asserts them
//! and none appears unnoticed.
//!
//! It does not measure speed and does not know any engine.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Once};

use bytes::Bytes;

use super::conformance_cases::CASES;
use crate::{
    Backend, Call, Cancel, Dtype, Error, ErrorKind, Graph, LoadRequest, Result, Session, Source,
    Tensor, in_engine, run_engine,
};

/// The models that a backend is tried on. `models/testdata/make.py` writes them as ONNX; a backend that
/// reads something else brings the same in its own encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestModel {
    /// `x` \[N\] -> `y`, the same.
    Identity(Dtype),
    /// `a`, `b` f32 \[2, 3\] -> `sum`.
    Add,
    /// `x` f32 \[4\] -> `double`, `half`, `count` (an i64 scalar, 4).
    Several,
    /// `x` f32 \[\] -> `y`, twice as much.
    Scalar,
    /// `x` f32 \[N, 3\] -> `y`, negative numbers become 0.
    Relu,
    /// `x` f32 \[2, 2\] -> `y`, transposed.
    Transpose,
    /// `x` f32 \[N, 4\] -> `y` f32 \[N, 2\], times \[\[1, 2\], \[3, 4\], \[5, 6\], \[7, 8\]\].
    MatMul,
    /// `a`, `b` f32 \[N\] -> `sum`, where both N are one symbol.
    Shared,
    /// `index` i64 \[N\] -> `y` f32 \[N\], out of \[10, 20, 30, 40\]; fails on any other index.
    Pick,
    /// `x` f32 \[1, 1, 4, 4\] -> `probabilities` f32 \[1, 3\]: convolution, relu, gemm, softmax.
    Network,
    /// Takes its weights from a file outside its own folder.
    OutsideFile,
    /// Uses the operator `Frobnicate`, which nobody has.
    UnknownOperator,
}

impl TestModel {
    /// The name of the model's file, without its ending.
    pub fn name(self) -> String {
        match self {
            TestModel::Identity(dtype) => format!("identity-{dtype}"),
            TestModel::Add => "add".to_owned(),
            TestModel::Several => "several".to_owned(),
            TestModel::Scalar => "scalar".to_owned(),
            TestModel::Relu => "empty-ok".to_owned(),
            TestModel::Transpose => "two-d".to_owned(),
            TestModel::MatMul => "batch".to_owned(),
            TestModel::Shared => "shared".to_owned(),
            TestModel::Pick => "pick".to_owned(),
            TestModel::Network => "network".to_owned(),
            TestModel::OutsideFile => "external".to_owned(),
            TestModel::UnknownOperator => "unknown-op".to_owned(),
        }
    }
}

/// Runs every case and returns what the backend refused, as `MODEL: MESSAGE`.
///
/// # Panics
/// At the first case that fails, saying which, what was expected and what came.
pub fn run(backend: &dyn Backend, models: &dyn Fn(TestModel) -> LoadRequest) -> Vec<String> {
    silence_engines();
    let suite = Suite {
        backend,
        models,
        case: RefCell::default(),
        refused: RefCell::default(),
    };
    for (name, case) in CASES {
        suite.case.replace(name);
        case(&suite);
    }
    suite.refused.into_inner()
}

/// An engine's panic is an error here and needs no message of its own.
fn silence_engines() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !in_engine() {
                hook(info);
            }
        }));
    });
}

/// What the cases share.
pub(super) struct Suite<'a> {
    pub(super) backend: &'a dyn Backend,
    models: &'a dyn Fn(TestModel) -> LoadRequest,
    case: RefCell<&'static str>,
    refused: RefCell<Vec<String>>,
}

/// A loaded model under test.
pub(super) struct Loaded {
    engine: &'static str,
    pub(super) graph: Arc<dyn Graph>,
}

impl Suite<'_> {
    pub(super) fn request(&self, model: TestModel) -> LoadRequest {
        (self.models)(model)
    }

    /// Loads what the backend must not be asked to do more than report.
    pub(super) fn try_load(&self, request: &LoadRequest) -> Result<Loaded> {
        let engine = self.backend.name();
        let graph = run_engine(engine, || self.backend.load(request, &Cancel::default()))?;
        Ok(Loaded { engine, graph })
    }

    /// Loads a model that the backend may lack an operator for; `None` once that is on record.
    pub(super) fn load(&self, model: TestModel) -> Option<Loaded> {
        match self.try_load(&self.request(model)) {
            Ok(loaded) => Some(loaded),
            Err(error) => {
                self.refuse(model, &error, "");
                None
            }
        }
    }

    /// Records a refusal, which has to name `what` is lacking.
    pub(super) fn refuse(&self, model: TestModel, error: &Error, what: &str) {
        let (kind, report) = (error.kind(), error.report());
        self.check(kind == ErrorKind::UnsupportedOperation, || {
            format!(
                "`{}`: expected it to run or an unsupported operation, got {kind:?}: {report}",
                model.name()
            )
        });
        self.check(report.contains(what), || {
            format!("expected `{what}` in the refusal, got: {report}")
        });
        let line = format!("{}: {error}", model.name());
        let mut refused = self.refused.borrow_mut();
        if !refused.contains(&line) {
            refused.push(line);
        }
    }

    /// Fails the case unless `holds`.
    pub(super) fn check(&self, holds: bool, message: impl FnOnce() -> String) {
        assert!(
            holds,
            "conformance of {}, case `{}`: {}",
            self.backend.name(),
            self.case.borrow(),
            message()
        );
    }

    /// Fails the case unless both are equal.
    pub(super) fn equal<T: PartialEq + std::fmt::Debug>(&self, what: &str, got: T, expected: T) {
        self.check(got == expected, || {
            format!("{what}: expected {expected:?}, got {got:?}")
        });
    }

    /// What must have worked.
    pub(super) fn done<T>(&self, what: &str, result: Result<T>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => {
                self.check(false, || {
                    format!(
                        "{what}: expected success, got {:?}: {}",
                        error.kind(),
                        error.report()
                    )
                });
                unreachable!("the check has failed")
            }
        }
    }

    /// What must have failed, with one of these kinds.
    pub(super) fn failed<T>(&self, what: &str, result: Result<T>, kinds: &[ErrorKind]) -> Error {
        match result {
            Ok(_) => {
                self.check(false, || {
                    format!("{what}: expected one of {kinds:?}, got success")
                });
                unreachable!("the check has failed")
            }
            Err(error) => {
                let (kind, report) = (error.kind(), error.report());
                self.check(kinds.contains(&kind), || {
                    format!("{what}: expected one of {kinds:?}, got {kind:?}: {report}")
                });
                error
            }
        }
    }

    /// The first part of a model, and the request that it came from.
    pub(super) fn bytes(&self, model: TestModel) -> (Bytes, LoadRequest) {
        let request = self.request(model);
        let bytes = match &request.source {
            Source::Memory(parts) => parts[0].clone(),
            Source::Files(paths) => std::fs::read(&paths[0])
                .expect("a test model can be read")
                .into(),
        };
        (bytes, request)
    }
}

impl Loaded {
    pub(super) fn session(&self) -> Box<dyn Session> {
        run_engine(self.engine, || self.graph.session()).expect("a loaded graph has a session")
    }

    /// Checks the inputs and runs one call, as the host does.
    pub(super) fn run(
        &self,
        session: &mut dyn Session,
        inputs: Vec<(&str, Tensor)>,
    ) -> Result<Vec<Tensor>> {
        let named = inputs
            .into_iter()
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect();
        let inputs = self.graph.signature().arrange(named)?;
        let mut calls = [Call::new(inputs, Cancel::default())];
        self.run_calls(session, &mut calls)?;
        let [call] = calls;
        call.result.expect("a session fills in every result")
    }

    pub(super) fn run_calls(&self, session: &mut dyn Session, calls: &mut [Call]) -> Result<()> {
        run_engine(self.engine, || {
            session.run(calls);
            Ok(())
        })
    }
}

/// A tensor of f32.
pub(super) fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Tensor::copied_from(Dtype::F32, shape.to_vec(), &bytes).expect("a valid tensor of f32")
}

/// A tensor of i64.
pub(super) fn integers(shape: &[usize], values: &[i64]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Tensor::copied_from(Dtype::I64, shape.to_vec(), &bytes).expect("a valid tensor of i64")
}

/// The elements of a tensor of f32.
pub(super) fn read_floats(tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.host().expect("an output can be read");
    bytes
        .chunks_exact(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().expect("4 bytes")))
        .collect()
}

/// A folder that is removed when dropped.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("infer-conformance-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it, and a test that fails must say why it failed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
