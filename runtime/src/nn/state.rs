//! What wasi-nn does, for one instance and without an ABI.
//!
//! A name or bytes become a [`GuestGraph`], a graph gives [`GuestContext`]s, and a context computes on
//! [`Held`] tensors. Everything that the host keeps for the guest is entered in its books.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use infer_core::{
    Cancel, Device, Dtype, Encoding, Error, ErrorKind, Result, Signature, Source, Tensor,
    TensorInfo, byte_length,
};
use infer_models::Content;
use smallvec::SmallVec;

use crate::backends::Backends;
use crate::config::{DeviceChoice, Grants, Selection};
use crate::nn::usage::{Charge, Handle, Usage};
use crate::registry::{Model, Registry};
use crate::scheduler::{Asker, Elsewhere, OwnSession, Owner};
use crate::threads::Threads;

/// Stack of the thread that loads a guest's own model: parsers recurse on nested graphs.
const LOAD_STACK: usize = 64 << 20;

/// More dimensions than any model has.
pub(crate) const MOST_DIMENSIONS: usize = 64;

/// More parts than any encoding has.
const MOST_PARTS: usize = 64;

/// The longest name that is looked up, in bytes.
pub(crate) const LONGEST_NAME: usize = 4096;

/// The wasi-nn state of one instance.
pub(crate) struct NnState {
    pub(crate) registry: Arc<Registry>,
    pub(crate) backends: Arc<Backends>,
    pub(crate) grants: Grants,
    pub(crate) usage: Arc<Usage>,
    pub(crate) cancel: Cancel,
    pub(crate) threads: Threads,
    /// Whether the thread that polls the guest is its own, so that engines may block it.
    pub(crate) may_block: bool,
    /// Whether the guest knows dtypes that wasi-nn does not name.
    pub(crate) more_dtypes: bool,
    /// As whom it takes turns with other guests.
    pub(crate) owner: Owner,
    /// Whether it was told that a model is busy, for which wasi-nn has no code.
    pub(crate) busy: bool,
}

/// wasi-nn's execution targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Cpu,
    Gpu,
    Tpu,
}

/// A guest's handle on a model; contexts keep its parts alive when it is dropped.
#[allow(unreachable_pub, reason = "generated code re-exports it")]
pub struct GuestGraph {
    model: Arc<Model>,
    /// The bytes of a model that the guest brought itself.
    charge: Option<Arc<Charge>>,
    _handle: Handle,
}

/// A guest's context.
#[allow(unreachable_pub, reason = "generated code re-exports it")]
pub struct GuestContext {
    model: Arc<Model>,
    session: OwnSession,
    /// The bytes of a model that the guest brought itself.
    own_model: Option<Arc<Charge>>,
    /// The size of its outputs, as far as it is known before a run, in bytes.
    known_outputs: u64,
    /// The places of its inputs and outputs.
    _slots: Charge,
    _handle: Handle,
}

impl GuestContext {
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

/// A tensor and its entry in the books.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) tensor: Tensor,
    charge: Arc<Charge>,
    /// Of an output of a guest's own model, that model's bytes: an engine may keep it for as long as the output.
    _model: Option<Arc<Charge>>,
}

/// A call of a context, and what the books have of it meanwhile.
struct Computing {
    inputs: Vec<Tensor>,
    _entries: SmallVec<[Arc<Charge>; 4]>,
}

impl Borrow<Tensor> for Held {
    fn borrow(&self) -> &Tensor {
        &self.tensor
    }
}

impl NnState {
    /// The model that the host has under this name.
    pub(crate) fn load_by_name(&self, name: &str) -> Result<GuestGraph> {
        if name.len() > LONGEST_NAME {
            let message = format!(
                "expected a name of at most {LONGEST_NAME} bytes, got {}",
                name.len()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let handle = self.usage.handle()?;
        let model = self.registry.get(name)?;
        Ok(GuestGraph {
            model,
            charge: None,
            _handle: handle,
        })
    }

    /// Whether a guest may load a model of this many bytes: asked before anything is copied.
    pub(crate) fn admit_load(&self, target: Target, bytes: u64) -> Result<(Device, Charge)> {
        if !self.grants.load {
            return Err(Error::new(
                ErrorKind::Security,
                "this guest may not load models of its own",
            )
            .with_hint("allow it with --allow-load, or name a model of the host's: load-by-name"));
        }
        let device = self.granted_device(target)?;
        let charge = self.usage.charge("a model", bytes)?;
        Ok((device, charge))
    }

    /// Loads a guest's own model.
    pub(crate) async fn load(
        &self,
        parts: Vec<Bytes>,
        encoding: Option<Encoding>,
        (device, charge): (Device, Charge),
    ) -> Result<GuestGraph> {
        let handle = self.usage.handle()?;
        let encoding = encoding.map_or_else(|| detect(&parts), Ok)?;
        let (backends, cancel) = (self.backends.clone(), self.cancel.clone());
        let selection = Selection {
            device: DeviceChoice::Exactly(device),
            ..self.grants.engine.clone()
        };
        let source = Source::Memory(parts);
        let work = move || backends.load(&selection, (&source, encoding), &cancel);
        let loaded = self.threads.run("infer-load", LOAD_STACK, work).await??;
        loaded.say_where("a guest's own");
        let model = Arc::new(Model::new(
            "a guest's own",
            loaded.backend,
            encoding,
            loaded.graph,
        ));
        Ok(GuestGraph {
            model,
            charge: Some(Arc::new(charge)),
            _handle: handle,
        })
    }

    fn granted_device(&self, target: Target) -> Result<Device> {
        let wanted = |device: &Device| {
            matches!(
                (target, device),
                (Target::Cpu, Device::Cpu)
                    | (Target::Gpu, Device::Gpu(_))
                    | (Target::Tpu, Device::Npu)
            )
        };
        self.grants
            .devices
            .iter()
            .copied()
            .find(wanted)
            .ok_or_else(|| {
                let granted: Vec<String> =
                    self.grants.devices.iter().map(Device::to_string).collect();
                let (target, granted) = (target.name(), granted.join(", "));
                Error::new(
                    ErrorKind::Security,
                    format!("target `{target}` was not granted: expected {granted}"),
                )
                .with_hint("grant a device with --device")
            })
    }

    /// A new context on a graph.
    pub(crate) fn context(&self, graph: &GuestGraph) -> Result<GuestContext> {
        let handle = self.usage.handle()?;
        let signature = graph.model.signature();
        if !self.more_dtypes {
            check_carried(signature)?;
        }
        let slots = (signature.inputs.len() + signature.outputs.len()) * size_of::<Option<Held>>();
        let slots = self.usage.charge("a context", slots as u64)?;
        Ok(GuestContext {
            model: graph.model.clone(),
            session: None,
            own_model: graph.charge.clone(),
            known_outputs: known_bytes(&signature.outputs),
            _slots: slots,
            _handle: handle,
        })
    }

    /// A tensor of a copy of a guest's bytes; nothing is copied if it is wrong or over a limit.
    pub(crate) fn tensor(&self, dtype: Dtype, shape: Vec<usize>, bytes: &[u8]) -> Result<Held> {
        let strings = strings_bytes(dtype, &shape);
        let charge = (bytes.len() as u64).saturating_add(strings);
        let charge = self.usage.charge("a tensor", charge)?;
        let tensor = Tensor::copied_from(dtype, shape, bytes)?;
        Ok(Held {
            tensor,
            charge: Arc::new(charge),
            _model: None,
        })
    }

    /// Runs a context's model on checked inputs in the model's order. The inputs' entries stay in the
    /// books until the run is over, whether or not the guest still has them.
    pub(crate) fn compute(
        &self,
        context: &mut GuestContext,
        inputs: Vec<Held>,
    ) -> Result<Vec<Held>> {
        let mut computing = self.begin(context, inputs)?;
        let (model, inputs) = (context.model.clone(), std::mem::take(&mut computing.inputs));
        let (ran, took) = model
            .scheduler()
            .run_timed(inputs, self.asker(), &mut context.session);
        self.end(context, computing, (ran, took))
    }

    /// [`NnState::compute`] for a guest whose thread is not its own.
    pub(crate) async fn compute_elsewhere(
        &self,
        context: &mut GuestContext,
        inputs: Vec<Held>,
    ) -> Result<Vec<Held>> {
        if context.own_model.is_some() {
            // The sessions of the host's models bound how many threads of theirs can hang; a guest may load ever more.
            self.threads.check()?;
        }
        let mut computing = self.begin(context, inputs)?;
        let started = Instant::now();
        let (model, inputs) = (context.model.clone(), std::mem::take(&mut computing.inputs));
        let call = (inputs, self.asker());
        let elsewhere = Elsewhere {
            threads: &self.threads,
            places: None,
        };
        let ran = model
            .scheduler()
            .run_elsewhere(elsewhere, call, &mut context.session)
            .await;
        self.end(context, computing, (ran, started.elapsed()))
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            cancel: &self.cancel,
            priority: self.grants.priority,
            owner: self.owner,
        }
    }

    fn begin(&self, context: &GuestContext, inputs: Vec<Held>) -> Result<Computing> {
        // What is known of the outputs before the run is refused before the run.
        self.usage.check("the output", context.known_outputs)?;
        let (inputs, entries) = inputs
            .into_iter()
            .map(|input| (input.tensor, input.charge))
            .unzip();
        Ok(Computing {
            inputs,
            _entries: entries,
        })
    }

    fn end(
        &self,
        context: &GuestContext,
        computing: Computing,
        (ran, took): (Result<Vec<Tensor>>, Duration),
    ) -> Result<Vec<Held>> {
        self.usage.computed(took);
        let outputs = ran?;
        let outputs = outputs
            .into_iter()
            .map(|tensor| {
                Ok(Held {
                    _model: context.own_model.clone(),
                    ..self.held("an output", tensor)?
                })
            })
            .collect();
        drop(computing);
        outputs
    }

    /// Enters a tensor that the host has already.
    pub(crate) fn held(&self, what: &str, tensor: Tensor) -> Result<Held> {
        let strings = strings_bytes(tensor.dtype(), tensor.shape());
        let bytes = (tensor.byte_length() as u64).saturating_add(strings);
        let charge = self.usage.charge(what, bytes)?;
        Ok(Held {
            tensor,
            charge: Arc::new(charge),
            _model: None,
        })
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Cpu => "cpu",
            Target::Gpu => "gpu",
            Target::Tpu => "tpu",
        }
    }
}

/// What engines take for strings beside their bytes: an object for each, however short it is.
fn strings_bytes(dtype: Dtype, shape: &[usize]) -> u64 {
    const OBJECTS: u64 = 64;
    if dtype != Dtype::String {
        return 0;
    }
    let sizes = shape.iter().map(|&size| size as u64);
    sizes.fold(OBJECTS, u64::saturating_mul)
}

/// The size of the outputs whose shape is known before a run; one that overflows fits no limit.
fn known_bytes(outputs: &[TensorInfo]) -> u64 {
    let shapes = outputs
        .iter()
        .filter_map(|info| Some((info.dtype, info.static_shape()?)));
    // Of a string the length is there in any case.
    let least = |dtype| {
        if dtype == Dtype::String {
            Dtype::U32
        } else {
            dtype
        }
    };
    shapes
        .map(|(dtype, shape)| {
            byte_length(least(dtype), &shape).map_or(u64::MAX, |bytes| bytes as u64)
        })
        .fold(0, u64::saturating_add)
}

/// Fails for a number of dimensions that no model has.
pub(crate) fn check_rank(rank: usize) -> Result<()> {
    at_most(MOST_DIMENSIONS, "dimensions", rank)
}

/// Fails for a number of parts that no model has.
pub(crate) fn check_parts(parts: usize) -> Result<()> {
    at_most(MOST_PARTS, "parts", parts)
}

fn at_most(most: usize, what: &str, got: usize) -> Result<()> {
    if got <= most {
        return Ok(());
    }
    let message = format!("expected at most {most} {what}, got {got}");
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// Fails for a model that takes or gives what wasi-nn has no dtype for.
fn check_carried(signature: &Signature) -> Result<()> {
    let inputs = signature.inputs.iter().map(|info| ("input", info));
    let mut all = inputs.chain(signature.outputs.iter().map(|info| ("output", info)));
    match all.find(|(_, info)| !info.dtype.in_wasi_nn()) {
        Some((what, info)) => Err(not_carried(what, &info.name, info.dtype)),
        None => Ok(()),
    }
}

fn not_carried(what: &str, name: &str, dtype: Dtype) -> Error {
    let carried: Vec<String> = Dtype::WASI_NN.iter().map(Dtype::to_string).collect();
    let carried = carried.join(", ");
    Error::new(
        ErrorKind::UnsupportedOperation,
        format!(
            "{what} `{name}` has dtype {dtype}, which wasi-nn does not carry: expected one of {carried}"
        ),
    )
    .with_hint("a component that imports `infer:nn/tensor-types` can use it")
}

fn detect(parts: &[Bytes]) -> Result<Encoding> {
    let first = parts.first().map(Bytes::as_ref).unwrap_or_default();
    match Content::of_bytes(first) {
        Content::Model(encoding) => Ok(encoding),
        other => {
            let message = format!("cannot tell the encoding of the model: it looks like {other}");
            Err(Error::new(ErrorKind::InvalidEncoding, message).with_hint(other.hint()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_overflow_fit_no_limit() {
        let output = |dimensions: &[Option<usize>]| TensorInfo {
            name: "y".to_owned(),
            dtype: Dtype::F32,
            dimensions: dimensions.to_vec(),
        };
        let half = output(&[Some(usize::MAX / 8)]);
        assert_eq!(
            known_bytes(&[output(&[Some(3)]), output(&[None]), output(&[])]),
            16
        );
        assert_eq!(known_bytes(&[half.clone(), half.clone(), half]), u64::MAX);
        assert_eq!(
            known_bytes(&[output(&[Some(usize::MAX), Some(2)])]),
            u64::MAX
        );
    }
}
