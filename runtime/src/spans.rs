//! The spans of traces: load, request, instance, queue, compute.
//!
//! They are `tracing` spans of one target, which a server exports where it was told to; where nobody listens to the
//! target, making one is looking at a flag.

use tracing::Span;

/// The target of all spans.
pub(crate) const TARGET: &str = "infer::trace";

/// A model is loaded.
pub(crate) fn load(model: &str) -> Span {
    tracing::info_span!(target: TARGET, "load", model)
}

/// A guest's instance, from its making to its end.
pub(crate) fn instance(guest: &str) -> Span {
    tracing::info_span!(target: TARGET, "instance", guest)
}

/// A request or a call waits for its turn.
pub(crate) fn queue() -> Span {
    tracing::info_span!(target: TARGET, "queue")
}

/// An engine runs so many calls of a model as one.
pub(crate) fn compute((model, engine): (&str, &str), calls: usize) -> Span {
    tracing::info_span!(target: TARGET, "compute", model, engine, calls = number(calls))
}

/// An engine runs a call together with that of another caller, for the span of this one.
pub(crate) fn compute_for(caller: &Span, (model, engine): (&str, &str), calls: usize) -> Span {
    tracing::info_span!(target: TARGET, parent: caller, "compute", model, engine, calls = number(calls))
}

/// A number as traces have it: with a sign.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
