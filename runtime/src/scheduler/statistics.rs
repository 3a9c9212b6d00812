//! What a model's scheduler counts, in plain atomic counters that anything may read out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use infer_core::{Error, ErrorKind, Result};

use crate::latency::{Latencies, nanoseconds};
use crate::scheduler::owner::Owner;

/// Batch sizes are counted up to 1, 2, 4 and so on to this power of 2, and above.
const SIZES: usize = 8;

/// What the calls of a model are counted by. A model that takes another's place may go on with its counters.
#[derive(Default)]
pub(crate) struct Counters {
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Of the failed ones those that were refused because too many waited, and those that were stopped.
    refused: AtomicU64,
    stopped: AtomicU64,
    /// Those of guests that did not fit, and those of clients, which are counted as requests too.
    unfit: AtomicU64,
    unfit_of_clients: AtomicU64,
    /// Nanoseconds of the calls that were answered, from their beginning to their end.
    answering: AtomicU64,
    latencies: Latencies,
    inferences: AtomicU64,
    computing: AtomicU64,
    queueing: AtomicU64,
    /// Runs by the number of their calls.
    sizes: [AtomicU64; SIZES + 1],
    /// What batches had beyond one call, and the time of the engine that these had besides: most runs are of one.
    more: AtomicU64,
    executing_more: AtomicU64,
}

/// A call that is counted when it has ended, or its caller has gone.
pub(crate) struct Counting<'a> {
    counters: &'a Counters,
    since: Instant,
    owner: Owner,
    failure: Option<ErrorKind>,
}

impl Counting<'_> {
    /// How it ended.
    pub(crate) fn ends<T>(&mut self, result: &Result<T>) {
        self.failure = result.as_ref().err().map(Error::kind);
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let took = self.since.elapsed();
        self.counters.ended(self.failure, (took, self.owner));
    }
}

/// What a model has done since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Calls that were answered.
    pub succeeded: u64,
    /// Calls that failed, those that were refused or stopped among them.
    pub failed: u64,
    /// Calls that were refused because as many waited as may.
    pub refused: u64,
    /// Calls that were stopped: at a deadline, or because nobody waited for them any more.
    pub stopped: u64,
    /// Calls of guests whose inputs the model could not take.
    pub unfit: u64,
    /// The same of a server's clients.
    pub unfit_of_clients: u64,
    /// The time of the calls that were answered, from their beginning to their end, together.
    pub answering: Duration,
    /// Runs of the engine; a batch is one.
    pub runs: u64,
    /// Calls that these runs had, together.
    pub run: u64,
    /// Rows that these had where batching is on, else calls.
    pub inferences: u64,
    /// The time in the engine, of all runs together.
    pub computing: Duration,
    /// The same as the calls had it: the time of a batch counts for each of its calls.
    pub executing: Duration,
    /// The time for which calls waited for their turn, together.
    pub queueing: Duration,
    /// Calls that wait now.
    pub waiting: usize,
    /// How many runs had how many calls: each the most of its class (1, 2, 4 and so on, no limit for the last) and
    /// the number of runs.
    pub batch_sizes: Vec<(Option<usize>, u64)>,
}

impl Counters {
    /// A call of this owner's has ended that took so long.
    pub(crate) fn ended(&self, failure: Option<ErrorKind>, (took, owner): (Duration, Owner)) {
        let one = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        self.latencies.add(took);
        let Some(kind) = failure else {
            one(&self.succeeded);
            self.answering
                .fetch_add(nanoseconds(took), Ordering::Relaxed);
            return;
        };
        one(&self.failed);
        match kind {
            ErrorKind::Busy => one(&self.refused),
            ErrorKind::Timeout => one(&self.stopped),
            ErrorKind::RuntimeError | ErrorKind::Unknown => 0,
            _ if owner == Owner::default() => one(&self.unfit_of_clients),
            _ => one(&self.unfit),
        };
    }

    /// How long calls took.
    pub(crate) fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// The engine ran so many calls, of so many rows together, as one.
    pub(crate) fn ran(&self, (calls, rows): (usize, usize), time: Duration) {
        let time = nanoseconds(time);
        let add = |counter: &AtomicU64, value| counter.fetch_add(value, Ordering::Relaxed);
        add(&self.inferences, rows as u64);
        add(&self.computing, time);
        if calls > 1 {
            let more = calls as u64 - 1;
            add(&self.more, more);
            add(&self.executing_more, time.saturating_mul(more));
        }
        let class = calls.max(1).next_power_of_two().trailing_zeros() as usize;
        self.sizes[class.min(SIZES)].fetch_add(1, Ordering::Relaxed);
    }

    /// Calls waited so long for their turn, together.
    pub(crate) fn waited(&self, time: Duration) {
        self.queueing
            .fetch_add(nanoseconds(time), Ordering::Relaxed);
    }

    /// Counts a call of this owner's when what is returned is dropped: its caller may go away.
    pub(crate) fn counting(&self, since: Instant, owner: Owner) -> Counting<'_> {
        Counting {
            counters: self,
            since,
            owner,
            failure: Some(ErrorKind::Timeout),
        }
    }

    pub(crate) fn read(&self, waiting: usize) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let class = |(power, runs)| ((power < SIZES).then_some(1usize << power), read(runs));
        let batch_sizes: Vec<_> = self.sizes.iter().enumerate().map(class).collect();
        let runs = batch_sizes.iter().map(|(_, runs)| runs).sum();
        let computing = read(&self.computing);
        Statistics {
            succeeded: read(&self.succeeded),
            failed: read(&self.failed),
            refused: read(&self.refused),
            stopped: read(&self.stopped),
            unfit: read(&self.unfit),
            unfit_of_clients: read(&self.unfit_of_clients),
            answering: Duration::from_nanos(read(&self.answering)),
            runs,
            run: runs + read(&self.more),
            inferences: read(&self.inferences),
            computing: Duration::from_nanos(computing),
            executing: Duration::from_nanos(computing.saturating_add(read(&self.executing_more))),
            queueing: Duration::from_nanos(read(&self.queueing)),
            waiting,
            batch_sizes,
        }
    }
}
