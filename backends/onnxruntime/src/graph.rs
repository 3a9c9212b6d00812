//! A loaded model and its sessions.
//!
//! The engine's own session is the model: one copy of the weights, which many threads run at once on the CPU. A
//! [`Session`] of ours is what one run at a time needs beside it, the options by which the run is stopped.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use infer_core::{
    Call, Cancel, Device, Error, ErrorKind, Graph, Hook, Placement, Result, Session, Signature,
    Tensor, run_batch,
};
use ort::ErrorCode;
use ort::memory::MemoryInfo;

use crate::api::{self, Binding, Few, Names, RunOptions};
use crate::bound::Rerun;
use crate::values::Value;

/// A loaded model.
pub(crate) struct Model {
    pub(crate) session: ort::session::Session,
    pub(crate) names: Names,
    pub(crate) signature: Signature,
    pub(crate) placement: Placement,
    pub(crate) concurrency: usize,
    pub(crate) device: RunsOn,
}

/// How a run is done.
pub(crate) enum RunsOn {
    /// In host memory, by any number of threads.
    Host,
    /// On a device, by one thread at a time, with outputs in memory that the device writes and the host reads.
    Device {
        lock: Mutex<()>,
        outputs: MemoryInfo<'static>,
    },
}

/// The graph of a model.
pub(crate) struct OrtGraph(pub(crate) Arc<Model>);

impl Graph for OrtGraph {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn placement(&self) -> Placement {
        self.0.placement.clone()
    }

    fn concurrency(&self) -> usize {
        self.0.concurrency
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(OrtSession {
            model: self.0.clone(),
            stop: Stop {
                options: Arc::new(RunOptions::new()?),
                hook: None,
            },
            rerun: Rerun::default(),
        }))
    }
}

struct OrtSession {
    // Dropped before the model that it is bound to.
    rerun: Rerun,
    model: Arc<Model>,
    stop: Stop,
}

/// How runs are told to stop.
struct Stop {
    options: Arc<RunOptions>,
    /// What tells them, for the caller of the last run: the next one is often its, too.
    hook: Option<Hook>,
}

impl Session for OrtSession {
    fn run(&mut self, calls: &mut [Call]) {
        run_batch(calls, |inputs, cancel| self.run_one(inputs, cancel));
    }

    fn reset(&mut self) -> Result<()> {
        // Nothing outlives a run: ONNX has no state.
        Ok(())
    }
}

impl OrtSession {
    fn run_one(&mut self, inputs: &[Tensor], cancel: &Cancel) -> Result<Vec<Tensor>> {
        cancel.check()?;
        let expected = self.model.names.inputs.len();
        if inputs.len() != expected {
            let message = format!("expected {expected} inputs, got {}", inputs.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        if let Some(bound) = self.rerun.bound(inputs) {
            let (session, binding) = (&self.model.session, bound.prepare(inputs)?);
            match self
                .stop
                .run(cancel, |options| binding.run(session, options))
            {
                Ok(()) => return bound.outputs(),
                Err(_) => {
                    cancel.check()?;
                    // A run of its own tells what is wrong, or gives outputs of other shapes.
                    self.rerun = Rerun::Unknown;
                }
            }
        }
        self.run_unbound(inputs, cancel)
    }

    fn run_unbound(&mut self, inputs: &[Tensor], cancel: &Cancel) -> Result<Vec<Tensor>> {
        let OrtSession { rerun, model, stop } = self;
        let values: Few<Value> = inputs.iter().map(Value::input).collect::<Result<_>>()?;
        let on_host = matches!(model.device, RunsOn::Host);
        let started = (on_host && rerun.wants(inputs)).then(Instant::now);
        let outputs = stop.run(cancel, |options| model.run(options, &values));
        let time = started.map(|started| started.elapsed());
        let outputs = outputs.map_err(|error| cancel.check().err().unwrap_or(run_error(&error)))?;
        if outputs.len() != model.names.outputs.len() {
            let message = "the model left out an output that it declares";
            return Err(Error::new(ErrorKind::UnsupportedOperation, message));
        }
        let outputs = outputs
            .into_iter()
            .map(|output| output.into_tensor(&values, model))
            .collect::<Result<Vec<Tensor>>>()?;
        if let Some(time) = time {
            let run = |binding: &Binding| {
                let session = &model.session;
                stop.run(cancel, |options| binding.run(session, options))
            };
            let model = (&model.names, &model.session);
            rerun.learn(model, (inputs, &outputs), time, run);
        }
        Ok(outputs)
    }
}

impl Stop {
    /// A run that is told to stop when the call is.
    fn run<T>(&mut self, cancel: &Cancel, run: impl FnOnce(&RunOptions) -> T) -> T {
        let told = |hook: &Hook| hook.waits_for(cancel);
        if !self.hook.as_ref().is_some_and(told) {
            self.forget();
            let options = self.options.clone();
            self.hook = Some(cancel.on_cancel(move || options.terminate()));
        }
        let ran = run(&self.options);
        if cancel.is_cancelled() {
            self.forget();
        }
        ran
    }

    /// Makes ready for another caller, whether or not the last one stopped.
    fn forget(&mut self) {
        if self.hook.take().is_some_and(Hook::take_back) {
            self.options.renew();
        }
    }
}

impl Model {
    fn run(
        &self,
        options: &RunOptions,
        inputs: &[Value],
    ) -> std::result::Result<Few<Value>, ort::Error> {
        match &self.device {
            RunsOn::Host => api::run(&self.session, options, &self.names, inputs),
            RunsOn::Device { lock, outputs } => {
                let _only = lock.lock().unwrap_or_else(PoisonError::into_inner);
                api::run_bound(&self.session, options, (&self.names, outputs), inputs)
            }
        }
    }
}

fn run_error(error: &ort::Error) -> Error {
    let kind = match error.code() {
        ErrorCode::NotImplemented => ErrorKind::UnsupportedOperation,
        ErrorCode::InvalidArgument => ErrorKind::InvalidArgument,
        _ => ErrorKind::RuntimeError,
    };
    api::failed(
        kind,
        "ONNX Runtime could not run the model",
        error.message(),
    )
}

/// How many runs are sensible at once.
pub(crate) fn concurrency(device: Device, asked: Option<usize>) -> usize {
    match device {
        Device::Cpu => {
            asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
        }
        Device::Gpu(_) | Device::Npu => 1,
    }
}
