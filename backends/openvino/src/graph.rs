//! A compiled model and its sessions.
//!
//! A run is stopped between nodes, unless the model has dynamic shapes: such a run goes on to its end and
//! is then told to have timed out.

use std::sync::Arc;

use bytes::Bytes;
use infer_core::{
    Call, Cancel, Error, ErrorKind, Graph, Placement, Precision, Result, Session, Signature,
    Tensor, run_batch,
};

use crate::checks::Checks;
use crate::native::{Compiled, Failure, Request};
use crate::tensors::{self, Input, Output};
use crate::{describe, options};

/// Bytes that the compiled model may read for as long as it lives.
pub(crate) type Kept = Option<Bytes>;

/// What a graph is made of.
pub(crate) struct Parts {
    pub(crate) compiled: Compiled,
    pub(crate) placement: Placement,
    /// What was asked for.
    pub(crate) precision: Precision,
    pub(crate) checks: Checks,
    pub(crate) naming: describe::Naming,
    pub(crate) stateful: bool,
    pub(crate) dynamic: bool,
    pub(crate) kept: Kept,
}

/// A compiled model: one copy of its weights, and as many requests as there are sessions.
pub(crate) struct OpenVinoGraph {
    shared: Arc<Shared>,
    placement: Placement,
    concurrency: usize,
}

/// What sessions share. The fields are dropped in this order: the weights go last.
struct Shared {
    compiled: Compiled,
    signature: Signature,
    /// For each input and output of the signature, the engine's index.
    order: describe::Order,
    checks: Checks,
    /// Whether a run may be stopped. Where shapes are dynamic it may not: the engine would leave shapes of
    /// the stopped run in the compiled model, and fail or answer wrongly from then on, whoever asks.
    can_stop: bool,
    _kept: Kept,
}

impl OpenVinoGraph {
    /// # Errors
    /// `UnsupportedOperation` for inputs and outputs that the contract does not have.
    pub(crate) fn new(parts: Parts, onnx: Option<&infer_onnx::Model>) -> Result<OpenVinoGraph> {
        let (mut signature, order) =
            describe::signature(&parts.compiled, onnx, (parts.precision, parts.naming))?;
        signature.stateful = parts.stateful;
        Ok(OpenVinoGraph {
            placement: parts.placement,
            concurrency: options::concurrency(&parts.compiled),
            shared: Arc::new(Shared {
                compiled: parts.compiled,
                signature,
                order,
                checks: parts.checks,
                can_stop: !parts.dynamic,
                _kept: parts.kept,
            }),
        })
    }
}

impl Graph for OpenVinoGraph {
    fn signature(&self) -> &Signature {
        &self.shared.signature
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(OpenVinoSession {
            request: request(&self.shared)?,
            shared: self.shared.clone(),
        }))
    }
}

fn request(shared: &Shared) -> Result<Request> {
    shared
        .compiled
        .request()
        .map_err(|failure| failed("OpenVINO could not make a session", failure))
}

/// One request of the engine's, which holds the state of a model that has one.
struct OpenVinoSession {
    request: Request,
    shared: Arc<Shared>,
}

impl Session for OpenVinoSession {
    fn run(&mut self, calls: &mut [Call]) {
        run_batch(calls, |inputs, cancel| self.run_one(inputs, cancel));
    }

    fn reset(&mut self) -> Result<()> {
        // Without state there is nothing that a run does not write anew.
        if self.shared.signature.stateful {
            self.request = request(&self.shared)?;
        }
        Ok(())
    }
}

impl OpenVinoSession {
    fn run_one(&mut self, inputs: &[Tensor], cancel: &Cancel) -> Result<Vec<Tensor>> {
        cancel.check()?;
        let shared = self.shared.clone();
        shared.checks.check(inputs, &shared.signature)?;
        // These hold the memory that the engine reads and writes; outputs may be read from the inputs'.
        let outputs = self.lend_outputs()?;
        let lent = self.lend_inputs(inputs)?;
        let ended = self.run_request(cancel);
        cancel.check()?;
        ended.map_err(|failure| failed("OpenVINO could not run the model", failure))?;
        let outputs = outputs
            .into_iter()
            .zip(&shared.order.outputs)
            .map(|(output, port)| output.take(&self.request, port.index))
            .collect();
        drop(lent);
        outputs
    }

    fn lend_inputs(&mut self, inputs: &[Tensor]) -> Result<Vec<Input>> {
        let expected = &self.shared.order.inputs;
        if inputs.len() != expected.len() {
            let message = format!("expected {} inputs, got {}", expected.len(), inputs.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let infos = &self.shared.signature.inputs;
        let mut lent = Vec::new();
        for ((tensor, info), index) in inputs.iter().zip(infos).zip(expected) {
            tensors::check(&info.name, tensor)?;
            // An input that no node reads is not there for the engine.
            if let Some(index) = *index {
                lent.push(Input::lend(tensor, &mut self.request, index)?);
            }
        }
        Ok(lent)
    }

    fn lend_outputs(&mut self) -> Result<Vec<Output>> {
        let shared = &self.shared;
        shared
            .signature
            .outputs
            .iter()
            .zip(&shared.order.outputs)
            .map(|(info, port)| Output::lend(info, &mut self.request, port))
            .collect()
    }

    #[allow(unsafe_code, reason = "stopping a run from the canceller's thread")]
    fn run_request(&mut self, cancel: &Cancel) -> std::result::Result<(), Failure> {
        let running = self.request.start()?;
        if !self.shared.can_stop {
            return running.wait();
        }
        // SAFETY: the hook is taken back before this returns, while the request is there.
        let stopper = unsafe { running.stopper() };
        // Only now: the engine forgets a stop that comes before the start.
        let hook = cancel.on_cancel(move || stopper.stop());
        let ended = running.wait();
        drop(hook);
        ended
    }
}

pub(crate) fn failed(message: &str, failure: Failure) -> Error {
    Error::new(ErrorKind::RuntimeError, message).with_source(failure)
}
