//! What becomes of one request to a guest. Its handler and the task that watches its instance each know a part of that,
//! in any order; it is counted once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use infer_core::Cancel;

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
    /// It was stopped before its answer had ended because nobody waits any more, which counts as this.
    left: Option<Ending>,
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

    /// Nobody waits any more, for a reason that counts as this, and the instance is stopped.
    pub(crate) fn left(&self, why: Ending) {
        let mut known = self.known();
        known.left = Some(why);
        if known.exited {
            self.count(&mut known, why);
        }
    }

    /// The instance has ended.
    pub(crate) fn ended(&self, end: &End) {
        let mut known = self.known();
        let ending = match (known.left, end) {
            (Some(why), _) => why,
            (None, End::TimedOut(_)) => Ending::Timeout,
            (None, End::Trapped(_)) => Ending::Trapped,
            (None, End::Failed(_)) => Ending::Failed,
            (None, End::Exited(_)) if known.answered => Ending::Ok,
            // The handler is about to say whether there was an answer.
            (None, End::Exited(_)) => {
                known.exited = true;
                return;
            }
        };
        self.count(&mut known, ending);
    }

    pub(crate) fn guest(&self) -> &ServedGuest {
        &self.guest
    }

    /// Why nobody waits any more, if that is so.
    pub(crate) fn why_left(&self) -> Option<Ending> {
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

/// Why nobody waits for a request any more: its time is up where that cancels it, else its client went away.
pub(crate) fn why(deadline: Option<&Cancel>) -> Ending {
    match deadline.is_some_and(Cancel::is_cancelled) {
        true => Ending::Timeout,
        false => Ending::Cancelled,
    }
}

/// A request that waits for a place. One that nobody waits for any more meanwhile is counted.
pub(crate) struct Arriving<'a> {
    requests: &'a Requests,
    since: Instant,
    deadline: Option<&'a Cancel>,
    waits: bool,
}

impl<'a> Arriving<'a> {
    pub(crate) fn new(
        requests: &'a Requests,
        since: Instant,
        deadline: Option<&'a Cancel>,
    ) -> Arriving<'a> {
        Arriving {
            requests,
            since,
            deadline,
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
            self.requests.ended(why(self.deadline), took);
        }
    }
}
