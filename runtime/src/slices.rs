//! Slices of time on the threads of a caller's runtime.
//!
//! An instance that answers runs where it is polled, which saves handing it and all that it sends from thread to thread,
//! until it has computed for a slice; then it gets a thread of its own. Calls of models that are known to be short run so too.
//! Only so many of both may run so at one time: the runtime keeps threads for its other work, whatever guests and clients do.
//!
//! What cannot be interrupted, a host's call or a run that takes longer than its like, may keep a thread for long. Where that
//! was the one that waits for the network, no other would take its place by itself: it is made to.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// How long an instance may compute before it gets a thread of its own; it may take up to twice that.
const SLICE: Duration = Duration::from_millis(1);

/// How long the ticking goes on when nothing runs.
const IDLE: Duration = Duration::from_secs(1);

/// Stack of the thread that ticks, in bytes.
const STACK: usize = 128 << 10;

/// The places for slices of one engine's instances.
#[derive(Clone)]
pub(crate) struct Slices(Arc<Shared>);

struct Shared {
    most: usize,
    running: AtomicUsize,
    /// How many places were given back so far.
    ended: AtomicU64,
    ticking: AtomicBool,
    wasmtime: wasmtime::Engine,
    /// That of the threads that poll.
    runtime: Mutex<Option<Handle>>,
}

/// The slices of one instance.
pub(crate) struct Slice {
    since: Instant,
    /// Nanoseconds after `since` when it began to run; 0 when it does not.
    began: AtomicU64,
    over: AtomicBool,
}

/// A slice that has begun.
pub(crate) struct Begun<'a> {
    slice: &'a Slice,
    _place: Place<'a>,
}

/// A place that is given back when it is dropped.
pub(crate) struct Place<'a>(&'a Shared);

impl Slices {
    /// Places for so many at one time; their slices end at the epochs of this engine.
    pub(crate) fn new(most: usize, wasmtime: wasmtime::Engine) -> Slices {
        Slices(Arc::new(Shared {
            most,
            running: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            ticking: AtomicBool::new(false),
            wasmtime,
            runtime: Mutex::default(),
        }))
    }

    /// Begins a slice, if there is a place for it.
    pub(crate) fn begin<'a>(&'a self, slice: &'a Slice) -> Option<Begun<'a>> {
        let place = self.place()?;
        slice.began.store(slice.now(), Ordering::Relaxed);
        Some(Begun {
            slice,
            _place: place,
        })
    }

    /// A place for work that is short by itself, if there is one.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        let running = self.0.running.fetch_add(1, Ordering::SeqCst);
        let place = Place(&self.0);
        (running < self.0.most && self.is_ticking()).then_some(place)
    }

    /// Whether slices end; starts the thread that ends them.
    fn is_ticking(&self) -> bool {
        if self.0.ticking.load(Ordering::SeqCst) || self.0.ticking.swap(true, Ordering::SeqCst) {
            return true;
        }
        *self.runtime() = Handle::try_current().ok();
        let ticking = self.clone();
        let thread = std::thread::Builder::new().name("infer-ticks".to_owned());
        let started = thread.stack_size(STACK).spawn(move || ticking.tick());
        if started.is_err() {
            self.0.ticking.store(false, Ordering::SeqCst);
        }
        started.is_ok()
    }

    fn runtime(&self) -> MutexGuard<'_, Option<Handle>> {
        let runtime = self.0.runtime.lock();
        runtime.unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the epoch on while instances run.
    fn tick(&self) {
        let (mut last, mut ended) = (Instant::now(), 0);
        loop {
            std::thread::sleep(SLICE);
            if self.0.running.load(Ordering::SeqCst) > 0 {
                last = Instant::now();
                self.0.wasmtime.increment_epoch();
                let ended_before =
                    std::mem::replace(&mut ended, self.0.ended.load(Ordering::Relaxed));
                if ended == ended_before
                    && let Some(runtime) = &*self.runtime()
                {
                    // Whichever thread wakes for this looks after the network when it is done.
                    drop(runtime.spawn(async {}));
                }
            } else if last.elapsed() > IDLE {
                self.0.ticking.store(false, Ordering::SeqCst);
                // Who began in between has seen the ticking.
                let begun = self.0.running.load(Ordering::SeqCst) > 0;
                if !begun || self.0.ticking.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.slice.began.store(0, Ordering::Relaxed);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Default for Slice {
    fn default() -> Slice {
        Slice {
            since: Instant::now(),
            began: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }
}

impl Slice {
    /// At a tick: whether the instance has to go on elsewhere.
    pub(crate) fn ends(&self) -> bool {
        let began = self.began.load(Ordering::Relaxed);
        let slice = u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX);
        let over = began > 0 && self.now().saturating_sub(began) >= slice;
        if over {
            self.over.store(true, Ordering::Relaxed);
        }
        over
    }

    /// Whether it has ended in the middle of the instance's work.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        let now = u64::try_from(self.since.elapsed().as_nanos());
        now.unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_only_while_it_runs_and_places_are_counted() {
        let slices = Slices::new(1, wasmtime::Engine::default());
        let (slice, other) = (Slice::default(), Slice::default());
        std::thread::sleep(2 * SLICE);
        assert!(!slice.ends(), "it does not run");
        let begun = slices.begin(&slice).expect("a place");
        assert!(slices.begin(&other).is_none(), "there is but one place");
        assert!(slices.place().is_none(), "nor for work that is short");
        assert!(!slice.is_over());
        std::thread::sleep(2 * SLICE);
        assert!(!other.ends());
        assert!(slice.ends() && slice.is_over());
        drop(begun);
        assert!(!slice.ends(), "it does not run any more");
        assert!(slices.begin(&other).is_some());
    }
}
