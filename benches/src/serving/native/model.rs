//! A model on several sessions, and memory for its inputs.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use bytemuck::cast_slice;
use infer_onnxruntime::OnnxRuntime;
use ort::session::Session;
use ort::value::{Tensor, TensorElementType, TensorRef, TensorValueType};
use tokio::sync::Semaphore;

use crate::native::{NativeOptions, session_builder};

/// How a model is served.
#[derive(Clone, Copy, Debug)]
pub struct ModelOptions {
    /// How each session runs.
    pub native: NativeOptions,
    /// How many requests run at one time.
    pub sessions: NonZeroUsize,
}

/// A model with one input that is measured and one output that is answered, both f32.
pub struct Model {
    name: String,
    input: String,
    output: String,
    free: Semaphore,
    sessions: Mutex<Vec<Session>>,
    memory: Mutex<Vec<Vec<f32>>>,
}

impl Model {
    /// Loads a model from its file, as often as it has sessions.
    ///
    /// # Errors
    /// Those of the engine, and for a model that does not have exactly one input, of floats.
    pub fn open(
        engine: &OnnxRuntime,
        (name, file): (&str, &Path),
        options: &ModelOptions,
    ) -> anyhow::Result<Model> {
        let load = |_| {
            let session = session_builder(engine, &options.native)?.commit_from_file(file);
            session.with_context(|| format!("cannot load `{}`", file.display()))
        };
        let sessions = (0..options.sessions.get()).map(load);
        let sessions = sessions.collect::<anyhow::Result<Vec<Session>>>()?;
        let first = sessions.first().context("a model without a session")?;
        let ([input], [output, ..]) = (first.inputs(), first.outputs()) else {
            anyhow::bail!("expected a model with one input and an output");
        };
        let element = input.dtype().tensor_type();
        ensure!(
            element == Some(TensorElementType::Float32),
            "expected an input of f32, got {}",
            input.dtype()
        );
        Ok(Model {
            name: name.to_owned(),
            input: input.name().to_owned(),
            output: output.name().to_owned(),
            free: Semaphore::new(sessions.len()),
            sessions: Mutex::new(sessions),
            memory: Mutex::default(),
        })
    }

    /// The name in requests.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The input's name.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The first output's name.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Memory for so many values, which hold whatever they did.
    pub(super) fn memory(&self, values: usize) -> Vec<f32> {
        let mut memory = locked(&self.memory).pop().unwrap_or_default();
        memory.resize(values, 0.0);
        memory
    }

    /// Keeps memory for the next request.
    pub(super) fn give_back(&self, memory: Vec<f32>) {
        locked(&self.memory).push(memory);
    }

    /// Waits for a session and runs it on this thread.
    pub(super) async fn run(&self, shape: &[usize], values: &[f32]) -> anyhow::Result<Output> {
        // Nothing is awaited between taking a session and giving it back, so a request whose client is gone keeps none.
        let _permit = self.free.acquire().await?;
        let session = locked(&self.sessions).pop();
        let mut session = session.context("a permit without a session")?;
        let output = self.run_on(&mut session, (shape, values));
        locked(&self.sessions).push(session);
        output
    }

    fn run_on(
        &self,
        session: &mut Session,
        (shape, values): (&[usize], &[f32]),
    ) -> anyhow::Result<Output> {
        let input = TensorRef::from_array_view((shape, values))?;
        let mut outputs = session.run(ort::inputs![input])?;
        let output = outputs.remove(&self.output).context("no output")?;
        Ok(Output(output.downcast::<TensorValueType<f32>>()?))
    }
}

/// An output, in the engine's own memory.
pub(super) struct Output(Tensor<f32>);

impl Output {
    pub(super) fn values(&self) -> &[f32] {
        self.0.extract_tensor().1
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        let sizes = self.0.shape().iter();
        sizes
            .map(|size| usize::try_from(*size).unwrap_or(0))
            .collect()
    }
}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        cast_slice(self.values())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
