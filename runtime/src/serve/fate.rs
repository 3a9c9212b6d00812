//! What becomes of one request to a guest. Its handler and the task that watches its instance each know a part of that,
//! in any order; it is counted once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::guest::End;
use crate::serve::counters::{Ending, Requests};
use crate::serve::guests::ServedGuest;

/// A request that has an instance.
pub(crate) struct Fate {
    guest: Arc<ServedGuest>,
    started: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// It was answered well.
    answered: bool,
    /// Its client went away before its answer had ended.
    left: bool,
    /// The instance has ended by itself.
    exited: bool,
    counted: bool,
}

impl Fate {
    pub(crate) fn new(guest: Arc<ServedGuest>, started: Instant) -> Fate {
        Fate {
            guest,
            started,
            known: Mutex::default(),
        }
    }

    /// The handler has an answer, or knows that there is none.
    pub(crate) fn answered(&self, ending: Ending) {
        let mut known = self.known();
        match ending {
            Ending::Ok => {
                known.answered = true;
                // Else the instance may yet trap.
                if known.exited {
                    self.count(&mut known, Ending::Ok);
                }
            }
            _ => self.count(&mut known, ending),
        }
    }

    /// The client went away, and the instance is stopped.
    pub(crate) fn left(&self) {
        let mut known = self.known();
        known.left = true;
        if known.exited {
            self.count(&mut known, Ending::Cancelled);
        }
    }

    /// The instance has ended.
    pub(crate) fn ended(&self, end: &End) {
        let mut known = self.known();
        let ending = match end {
            _ if known.left => Ending::Cancelled,
            End::TimedOut(_) => Ending::Timeout,
            End::Trapped(_) => Ending::Trapped,
            End::Failed(_) => Ending::Failed,
            End::Exited(_) if known.answered => Ending::Ok,
            // The handler is about to say whether there was an answer.
            End::Exited(_) => {
                known.exited = true;
                return;
            }
        };
        self.count(&mut known, ending);
    }

    pub(crate) fn guest(&self) -> &ServedGuest {
        &self.guest
    }

    pub(crate) fn client_is_gone(&self) -> bool {
        self.known().left
    }

    fn count(&self, known: &mut Known, ending: Ending) {
        if !std::mem::replace(&mut known.counted, true) {
            self.guest.requests.ended(ending, self.started.elapsed());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for a place. One whose client leaves meanwhile is counted.
pub(crate) struct Arriving<'a> {
    requests: &'a Requests,
    since: Instant,
    waits: bool,
}

impl<'a> Arriving<'a> {
    pub(crate) fn new(requests: &'a Requests, since: Instant) -> Arriving<'a> {
        Arriving {
            requests,
            since,
            waits: true,
        }
    }

    /// It waits no longer.
    pub(crate) fn entered(mut self) {
        self.waits = false;
        self.requests.waited(self.since.elapsed());
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        if self.waits {
            let took = self.since.elapsed();
            self.requests.ended(Ending::Cancelled, took);
        }
    }
}
