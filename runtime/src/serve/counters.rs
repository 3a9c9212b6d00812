//! What a server counts of requests and connections, in plain atomic counters.
//!
//! They live as long as the server, whatever is reloaded meanwhile, and so never go backwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infer_core::{Error, ErrorKind};

use crate::latency::{Latencies, nanoseconds};
use crate::nn::usage::{LIMITS, Limit, Usage};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Ok,
    /// The client asked for something that is not there or that does not fit.
    Invalid,
    /// Refused because too many were there already.
    Refused,
    /// Its time was up.
    Timeout,
    /// Its client went away.
    Cancelled,
    /// The guest trapped.
    Trapped,
    Failed,
}

impl Ending {
    pub(crate) const ALL: [Ending; 7] = [
        Ending::Ok,
        Ending::Invalid,
        Ending::Refused,
        Ending::Timeout,
        Ending::Cancelled,
        Ending::Trapped,
        Ending::Failed,
    ];

    /// That of a request which failed with this.
    pub(crate) fn of(error: &Error) -> Ending {
        match error.kind() {
            ErrorKind::InvalidArgument
            | ErrorKind::InvalidEncoding
            | ErrorKind::NotFound
            | ErrorKind::Security
            | ErrorKind::TooLarge
            | ErrorKind::UnsupportedOperation => Ending::Invalid,
            ErrorKind::Busy => Ending::Refused,
            ErrorKind::Timeout => Ending::Timeout,
            ErrorKind::RuntimeError | ErrorKind::Unknown => Ending::Failed,
        }
    }

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ending::Ok => "ok",
            Ending::Invalid => "invalid",
            Ending::Refused => "refused",
            Ending::Timeout => "timeout",
            Ending::Cancelled => "cancelled",
            Ending::Trapped => "trapped",
            Ending::Failed => "failed",
        }
    }
}

/// The requests of one model or guest.
#[derive(Default)]
pub(crate) struct Requests {
    endings: [AtomicU64; Ending::ALL.len()],
    latencies: Latencies,
    /// Nanoseconds of all requests that ended well, and of the others, from their beginning to their end.
    succeeding: AtomicU64,
    failing: AtomicU64,
    /// Nanoseconds for which requests waited for a place.
    waiting: AtomicU64,
    /// Nanoseconds in which inputs were read out of requests that ended well, and outputs written into their responses.
    reading: AtomicU64,
    writing: AtomicU64,
}

impl Requests {
    pub(crate) fn ended(&self, ending: Ending, took: Duration) {
        self.endings[ending as usize].fetch_add(1, Ordering::Relaxed);
        self.latencies.add(took);
        match ending {
            Ending::Ok => add(&self.succeeding, took),
            _ => add(&self.failing, took),
        }
    }

    pub(crate) fn waited(&self, time: Duration) {
        add(&self.waiting, time);
    }

    /// How long a request's inputs took to be read out of it.
    pub(crate) fn read_inputs(&self, time: Duration) {
        add(&self.reading, time);
    }

    /// How long outputs took to be written into a response.
    pub(crate) fn wrote_outputs(&self, time: Duration) {
        add(&self.writing, time);
    }

    pub(crate) fn count(&self, ending: Ending) -> u64 {
        self.endings[ending as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// The time of the requests that ended well.
    pub(crate) fn succeeding(&self) -> Duration {
        time(&self.succeeding)
    }

    /// The time of the others.
    pub(crate) fn failing(&self) -> Duration {
        time(&self.failing)
    }

    /// The time for which requests waited for a place.
    pub(crate) fn waiting(&self) -> Duration {
        time(&self.waiting)
    }

    /// The time in which inputs were read.
    pub(crate) fn reading(&self) -> Duration {
        time(&self.reading)
    }

    /// The time in which outputs were written.
    pub(crate) fn writing(&self) -> Duration {
        time(&self.writing)
    }
}

/// The instances of one guest.
#[derive(Default)]
pub(crate) struct Instances {
    ended: AtomicU64,
    /// Nanoseconds from their start to their end.
    living: AtomicU64,
    /// Nanoseconds of these in calls of models, waiting for a turn included.
    computing: AtomicU64,
    limits: [AtomicU64; LIMITS.len()],
}

impl Instances {
    /// Adds one that has ended.
    pub(crate) fn ended(&self, lived: Duration, usage: &Usage) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        add(&self.living, lived);
        add(&self.computing, usage.computing());
        for limit in LIMITS {
            if usage.ran_into(limit) {
                self.hit(limit);
            }
        }
    }

    /// A request ran into a limit.
    pub(crate) fn hit(&self, limit: Limit) {
        self.limits[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// The time of all that have ended, together.
    pub(crate) fn living(&self) -> Duration {
        time(&self.living)
    }

    /// The part of that in calls of models.
    pub(crate) fn computing(&self) -> Duration {
        time(&self.computing)
    }

    /// The rest of it: in the guest itself and in its input and output.
    pub(crate) fn in_the_sandbox(&self) -> Duration {
        self.living().saturating_sub(self.computing())
    }

    pub(crate) fn hits(&self, limit: Limit) -> u64 {
        self.limits[limit as usize].load(Ordering::Relaxed)
    }
}

/// The connections of one socket.
#[derive(Default)]
pub(crate) struct Connections {
    taken: AtomicU64,
    ended: AtomicU64,
    /// Requests by the first digit of their status.
    classes: [AtomicU64; 5],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Connections {
    /// Counts a connection until what is returned is dropped.
    pub(crate) fn taken(self: &std::sync::Arc<Connections>) -> Connected {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    /// A request was answered with this status and so many bytes of bodies.
    pub(crate) fn answered(&self, status: u16, (bytes_in, bytes_out): (u64, u64)) {
        let class = usize::from(status / 100).clamp(1, self.classes.len());
        self.classes[class - 1].fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
    }

    /// How many were taken.
    pub(crate) fn count(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many there are now.
    pub(crate) fn open(&self) -> u64 {
        // Read first: what has ended was taken before.
        let ended = self.ended.load(Ordering::Acquire);
        self.count().saturating_sub(ended)
    }

    /// Requests by the class of their status: `2xx` and so on.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (String, u64)> {
        let read = |(class, count): (usize, &AtomicU64)| {
            (format!("{}xx", class + 1), count.load(Ordering::Relaxed))
        };
        self.classes.iter().enumerate().map(read)
    }

    /// Bytes of bodies that were received and sent.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.bytes_in), read(&self.bytes_out))
    }
}

/// A connection that there is.
pub(crate) struct Connected(std::sync::Arc<Connections>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

fn add(counter: &AtomicU64, time: Duration) {
    counter.fetch_add(nanoseconds(time), Ordering::Relaxed);
}

fn time(counter: &AtomicU64) -> Duration {
    Duration::from_nanos(counter.load(Ordering::Relaxed))
}
