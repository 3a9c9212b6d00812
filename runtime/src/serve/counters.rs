//! What a server counts of requests, in plain atomic counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The requests of one model or guest.
#[derive(Default)]
pub(crate) struct Requests {
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Nanoseconds of all requests, from their beginning to their end.
    taking: AtomicU64,
    /// Nanoseconds for which requests waited for a place.
    waiting: AtomicU64,
}

impl Requests {
    pub(crate) fn ended(&self, well: bool, took: Duration) {
        let counter = if well { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.taking.fetch_add(nanoseconds(took), Ordering::Relaxed);
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waiting.fetch_add(nanoseconds(time), Ordering::Relaxed);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
