//! An inference, whatever protocol it came by: named tensors in, named tensors out.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use infer_core::{Cancel, Error, ErrorKind, Result, Signature, Tensor, clip};

use crate::scheduler::{Asker, Owner};
use crate::serve::State;
use crate::serve::counters::Ending;
use crate::serve::repository::{Entry, Ready};

/// The only version that a model has.
pub(crate) const VERSION: &str = "1";

/// What is asked of a model.
pub(crate) struct Inference {
    pub(crate) inputs: Vec<(String, Tensor)>,
    /// The outputs that are wanted, in that order; all where empty.
    pub(crate) outputs: Vec<String>,
    /// The level that it asks for.
    pub(crate) priority: Option<NonZeroU32>,
}

/// The level of the parameter `priority`; 0 asks for none.
pub(crate) fn level(asked: u64) -> Option<NonZeroU32> {
    // One that is larger than a model can have is as good as none.
    u32::try_from(asked).ok().and_then(NonZeroU32::new)
}

/// Cancels what nobody waits for any more.
struct Caller(Cancel);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Fails for a version that there is not.
pub(crate) fn check_version(model: &str, version: &str) -> Result<()> {
    if version.is_empty() || version == VERSION {
        return Ok(());
    }
    let (model, version) = (clip(model), clip(version));
    let message = format!("the model `{model}` has version `{VERSION}` only, not `{version}`");
    Err(Error::new(ErrorKind::NotFound, message))
}

/// The time at which a request's time is up: the server's limit, or what the request says where that is less.
pub(crate) fn deadline(state: &State, started: Instant, asked: Option<Duration>) -> Instant {
    let limit = state.config.limits.timeout;
    let time = asked.map_or(limit, |asked| asked.min(limit));
    // Time does not go as far as some limits.
    let far = started + Duration::from_secs(1 << 30);
    started.checked_add(time).unwrap_or(far)
}

/// Runs a model, and gives the outputs that are wanted. When the future is dropped the engine is asked to stop.
///
/// # Errors
/// `InvalidArgument` for inputs that do not fit and outputs that there are not; `Timeout` past the deadline; those of
/// the model.
pub(crate) async fn infer(
    state: &State,
    ready: &Ready,
    inference: Inference,
    deadline: Instant,
) -> Result<Vec<(String, Tensor)>> {
    let signature = ready.model.signature();
    let wanted = places(signature, &inference.outputs)?;
    let caller = Caller(Cancel::default());
    let engine = state.repository.engine();
    let late = caller.0.clone();
    let _noted = engine.deadlines().at(deadline, move || late.cancel())?;
    let asker = Asker {
        cancel: &caller.0,
        priority: inference.priority,
        owner: Owner::default(),
    };
    let outputs = ready.model.infer(engine, inference.inputs, asker).await?;
    let named = wanted.into_iter().map(|place| {
        let output = outputs.get(place).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::RuntimeError,
                "the model gave fewer outputs than it has",
            )
        })?;
        Ok((signature.outputs[place].name.clone(), output))
    });
    named.collect()
}

/// The places of the outputs that are wanted among those of the model. Each is given once: an answer is no larger than
/// what the model gives.
fn places(signature: &Signature, wanted: &[String]) -> Result<Vec<usize>> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, message);
    if wanted.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    let mut places = Vec::new();
    for name in wanted {
        let mut outputs = signature.outputs.iter();
        let place = outputs.position(|info| info.name == *name);
        let place = place.ok_or_else(|| {
            let names = signature
                .outputs
                .iter()
                .map(|info| format!("`{}`", clip(&info.name)));
            let (name, names) = (clip(name), names.collect::<Vec<_>>().join(", "));
            invalid(format!("unknown output `{name}`: expected {names}"))
        })?;
        if places.contains(&place) {
            return Err(invalid(format!(
                "output `{}` is asked for twice",
                clip(name)
            )));
        }
        places.push(place);
    }
    Ok(places)
}

/// Counts a request to a model when it has ended, or its client has gone.
pub(crate) struct Counted<'a> {
    entry: &'a Entry,
    started: Instant,
    ending: Ending,
    reading: Duration,
    writing: Duration,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(entry: &'a Entry, started: Instant) -> Counted<'a> {
        Counted {
            entry,
            started,
            ending: Ending::Cancelled,
            reading: Duration::ZERO,
            writing: Duration::ZERO,
        }
    }

    /// Its inputs were read, since then.
    pub(crate) fn read_since(&mut self, began: Instant) {
        self.reading = began.elapsed();
    }

    /// Its outputs were written, since then.
    pub(crate) fn wrote_since(&mut self, began: Instant) {
        self.writing = began.elapsed();
    }

    /// How it ended.
    pub(crate) fn ends<T>(&mut self, result: &Result<T>) {
        self.ending = result.as_ref().map_or_else(Ending::of, |_| Ending::Ok);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let requests = &self.entry.requests;
        requests.ended(self.ending, self.started.elapsed());
        if self.ending == Ending::Ok {
            requests.read_inputs(self.reading);
            requests.wrote_outputs(self.writing);
        }
    }
}
