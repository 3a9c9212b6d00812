//! The books of one instance: bytes and handles that the host holds for it, and their limits.
//!
//! A [`Charge`] and a [`Handle`] give back what they stand for when they are dropped, so that nothing
//! is counted after the guest dropped it or ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use infer_core::{Error, ErrorKind, Result};

use crate::config::Limits;
use crate::latency::nanoseconds;

/// A limit of an instance or of the requests to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Memory,
    TensorBytes,
    Handles,
    /// Of WASI.
    Resources,
    Fuel,
    Timeout,
    Queue,
    Body,
}

/// All limits, in the order of their numbers.
pub(crate) const LIMITS: [Limit; 8] = [
    Limit::Memory,
    Limit::TensorBytes,
    Limit::Handles,
    Limit::Resources,
    Limit::Fuel,
    Limit::Timeout,
    Limit::Queue,
    Limit::Body,
];

impl Limit {
    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Limit::Memory => "memory",
            Limit::TensorBytes => "tensor_bytes",
            Limit::Handles => "handles",
            Limit::Resources => "resources",
            Limit::Fuel => "fuel",
            Limit::Timeout => "timeout",
            Limit::Queue => "queue",
            Limit::Body => "body",
        }
    }
}

/// What the host holds for one instance.
#[derive(Debug)]
pub struct Usage {
    bytes: Counter,
    handles: Counter,
    /// One bit for each limit that the instance ran into.
    limits: AtomicU8,
    /// Nanoseconds in calls of models.
    computing: AtomicU64,
}

#[derive(Debug)]
struct Counter {
    limit: u64,
    now: AtomicU64,
    peak: AtomicU64,
}

impl Counter {
    fn new(limit: u64) -> Counter {
        Counter {
            limit,
            now: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }
    }

    /// Adds `amount` unless that passes the limit; answers whether it was added.
    fn add(&self, amount: u64, limit: u64) -> bool {
        let add = |now: u64| now.checked_add(amount).filter(|sum| *sum <= limit);
        match self
            .now
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        {
            Ok(before) => {
                let now = before + amount;
                // Looking is cheaper than writing, and most amounts were held before.
                if now > self.peak.load(Ordering::Relaxed) {
                    self.peak.fetch_max(now, Ordering::Relaxed);
                }
                true
            }
            Err(_) => false,
        }
    }

    fn subtract(&self, amount: u64) {
        self.now.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// Bytes held for a guest.
#[derive(Debug)]
pub(crate) struct Charge {
    usage: Arc<Usage>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.usage.bytes.subtract(self.bytes);
    }
}

/// A handle held by a guest.
#[derive(Debug)]
pub(crate) struct Handle(Arc<Usage>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.handles.subtract(1);
    }
}

impl Usage {
    pub(crate) fn new(limits: &Limits) -> Arc<Usage> {
        Arc::new(Usage {
            bytes: Counter::new(limits.tensor_bytes),
            handles: Counter::new(limits.handles),
            limits: AtomicU8::new(0),
            computing: AtomicU64::new(0),
        })
    }

    /// Notes that the instance ran into a limit.
    pub(crate) fn hit(&self, limit: Limit) {
        self.limits.fetch_or(1 << limit as u8, Ordering::Relaxed);
    }

    /// Whether the instance ran into a limit.
    pub(crate) fn ran_into(&self, limit: Limit) -> bool {
        self.limits.load(Ordering::Relaxed) & (1 << limit as u8) != 0
    }

    /// Adds the time of a call of a model.
    pub(crate) fn computed(&self, time: Duration) {
        self.computing
            .fetch_add(nanoseconds(time), Ordering::Relaxed);
    }

    /// The time that the instance spent in calls of models, waiting for its turns included.
    pub fn computing(&self) -> Duration {
        Duration::from_nanos(self.computing.load(Ordering::Relaxed))
    }

    /// Bytes of tensors and models held now.
    pub fn bytes(&self) -> u64 {
        self.bytes.now.load(Ordering::Relaxed)
    }

    /// The most bytes that were held at one time.
    pub fn peak_bytes(&self) -> u64 {
        self.bytes.peak.load(Ordering::Relaxed)
    }

    /// Handles held now.
    pub fn handles(&self) -> u64 {
        self.handles.now.load(Ordering::Relaxed)
    }

    /// The most handles that were held at one time.
    pub fn peak_handles(&self) -> u64 {
        self.handles.peak.load(Ordering::Relaxed)
    }

    /// Enters `bytes` for `what`; fails with `TooLarge` before anything is allocated.
    pub(crate) fn charge(self: &Arc<Usage>, what: &str, bytes: u64) -> Result<Charge> {
        if self.bytes.add(bytes, self.bytes.limit) {
            return Ok(Charge {
                usage: self.clone(),
                bytes,
            });
        }
        Err(self.no_room(what, bytes))
    }

    /// Fails where `bytes` for `what` could not be entered now.
    pub(crate) fn check(&self, what: &str, bytes: u64) -> Result<()> {
        match self.bytes().checked_add(bytes) {
            Some(sum) if sum <= self.bytes.limit => Ok(()),
            _ => Err(self.no_room(what, bytes)),
        }
    }

    fn no_room(&self, what: &str, bytes: u64) -> Error {
        self.hit(Limit::TensorBytes);
        let (limit, held) = (self.bytes.limit, self.bytes());
        let message = format!(
            "{what} of {bytes} bytes does not fit the limit on tensors and models (max-tensor-bytes): \
             {held} of {limit} bytes are held"
        );
        Error::new(ErrorKind::TooLarge, message)
            .with_hint("raise --max-tensor-bytes, or drop tensors earlier")
    }

    /// Enters a handle; fails with `TooLarge`.
    pub(crate) fn handle(self: &Arc<Usage>) -> Result<Handle> {
        match self.handles.add(1, self.handles.limit) {
            true => Ok(Handle(self.clone())),
            false => Err(self.no_handle()),
        }
    }

    /// Enters a handle by which the guest is told of a failure: an error, or a tensor that answers what is
    /// wrong with it. As many again are left for these when all others are used.
    pub(crate) fn handle_for_failure(self: &Arc<Usage>) -> Result<Handle> {
        match self.handles.add(1, self.handles.limit.saturating_mul(2)) {
            true => Ok(Handle(self.clone())),
            false => Err(self.no_handle()),
        }
    }

    fn no_handle(&self) -> Error {
        self.hit(Limit::Handles);
        let limit = self.handles.limit;
        Error::new(
            ErrorKind::TooLarge,
            format!("the limit of {limit} handles (max-handles) is reached"),
        )
        .with_hint("raise --max-handles, or drop graphs, contexts, tensors and errors earlier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_books_close() {
        let usage = Usage::new(&Limits {
            tensor_bytes: 100,
            handles: 2,
            ..Limits::default()
        });
        let first = usage.charge("a tensor", 60).expect("fits");
        let error = usage.charge("a tensor", 41).expect_err("over the limit");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("60 of 100 bytes"), "{error}");
        assert!(
            usage.charge("a tensor", u64::MAX).is_err(),
            "an overflow is over the limit"
        );
        assert!(usage.check("an output", 40).is_ok());
        assert!(usage.check("an output", 41).is_err());
        assert!(usage.check("an output", u64::MAX).is_err());
        drop(first);
        assert_eq!((usage.bytes(), usage.peak_bytes()), (0, 60));

        let handles: Vec<Handle> = (0..2).map(|_| usage.handle().expect("fits")).collect();
        assert!(!usage.ran_into(Limit::Handles));
        assert!(usage.handle().is_err());
        assert!(usage.ran_into(Limit::Handles) && usage.ran_into(Limit::TensorBytes));
        assert!(!usage.ran_into(Limit::Memory));
        let told: Vec<Handle> = (0..2)
            .map(|_| usage.handle_for_failure().expect("fits"))
            .collect();
        assert!(usage.handle_for_failure().is_err());
        drop((handles, told));
        assert_eq!(usage.handles(), 0);
    }
}
