//! The engines of this machine, and a model that one of them has loaded.

use std::sync::{Arc, OnceLock};

use infer::{Backends, EngineLibraries, Selection};
use infer_core::testing::engine_is_there;
use infer_core::{
    Call, Cancel, Dtype, Graph, Result, Session, Source, Tensor, TensorInfo, run_engine,
};
use infer_models::Model;

/// The names of those that can be used; prints those that are skipped.
pub(crate) fn that_are_there() -> Vec<&'static str> {
    let engines = all().all().iter();
    engines
        .filter(|engine| engine_is_there(engine.as_ref()))
        .map(|engine| engine.name())
        .collect()
}

fn all() -> &'static Backends {
    static ALL: OnceLock<Backends> = OnceLock::new();
    ALL.get_or_init(|| Backends::of_machine(&EngineLibraries::default()).expect("the engines"))
}

/// A model on an engine.
pub(crate) struct Loaded<'a> {
    /// The engine and the model, for messages.
    pub(crate) what: String,
    pub(crate) model: &'a Model,
    engine: &'static str,
    graph: Arc<dyn Graph>,
    session: Box<dyn Session>,
}

impl<'a> Loaded<'a> {
    /// Loads the model on the named engine, and checks it against its manifest.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) fn new(engine: &'static str, model: &'a Model) -> Result<Loaded<'a>> {
        let selection = Selection {
            backend: Some(engine.to_owned()),
            ..Selection::default()
        };
        let source = Source::Files(model.files.clone());
        let loaded = all().load(&selection, (&source, model.encoding), &Cancel::default())?;
        model.check_signature(loaded.graph.signature())?;
        let session = run_engine(engine, || loaded.graph.session())?;
        Ok(Loaded {
            what: format!("{engine}, {}", model.name),
            model,
            engine,
            graph: loaded.graph,
            session,
        })
    }

    /// The model's inputs, in its own order.
    pub(crate) fn inputs(&self) -> &[TensorInfo] {
        &self.graph.signature().inputs
    }

    /// The name of the model's only input.
    pub(crate) fn input(&self) -> String {
        let [input] = self.inputs() else {
            panic!("{}: expected one input", self.what);
        };
        input.name.clone()
    }

    /// One inference.
    ///
    /// # Errors
    /// What the engine says, and for inputs that do not fit.
    pub(crate) fn run(&mut self, inputs: &[(&str, Tensor)]) -> Result<Outputs> {
        let named = inputs
            .iter()
            .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
        let inputs = self.graph.signature().arrange(named.collect())?;
        let mut call = [Call::new(inputs, Cancel::default())];
        run_engine(self.engine, || {
            self.session.run(&mut call);
            Ok(())
        })?;
        let [call] = call;
        let tensors = call.result.expect("a result")?;
        let names = self.graph.signature().outputs.iter();
        Ok(Outputs(
            names.map(|info| info.name.clone()).zip(tensors).collect(),
        ))
    }
}

/// What a run gave, by name.
pub(crate) struct Outputs(Vec<(String, Tensor)>);

impl Outputs {
    pub(crate) fn tensor(&self, name: &str) -> &Tensor {
        let found = self.0.iter().find(|(own, _)| own == name);
        &found
            .unwrap_or_else(|| panic!("expected an output `{name}`"))
            .1
    }

    /// The elements of an output of f32.
    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensor(name);
        assert_eq!(tensor.dtype(), Dtype::F32, "`{name}`");
        let bytes = tensor.host().expect("in host memory");
        bytes
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes")))
            .collect()
    }

    /// The elements of an output of f32, by its first dimension.
    pub(crate) fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let (values, rows) = (self.floats(name), self.tensor(name).shape()[0]);
        values
            .chunks_exact(values.len() / rows)
            .map(<[f32]>::to_vec)
            .collect()
    }
}

/// A tensor of f32.
pub(crate) fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    tensor(Dtype::F32, shape, values.iter().map(|it| it.to_le_bytes()))
}

/// A tensor of i64.
pub(crate) fn longs(shape: &[usize], values: &[i64]) -> Tensor {
    tensor(Dtype::I64, shape, values.iter().map(|it| it.to_le_bytes()))
}

/// A tensor of i32.
pub(crate) fn ints(shape: &[usize], values: &[i32]) -> Tensor {
    tensor(Dtype::I32, shape, values.iter().map(|it| it.to_le_bytes()))
}

fn tensor<const N: usize>(
    dtype: Dtype,
    shape: &[usize],
    elements: impl Iterator<Item = [u8; N]>,
) -> Tensor {
    let bytes: Vec<u8> = elements.flatten().collect();
    Tensor::copied_from(dtype, shape.to_vec(), &bytes).expect("a valid tensor")
}
