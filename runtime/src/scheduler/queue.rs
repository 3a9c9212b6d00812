//! The calls that wait for a turn, and how their callers are woken.
//!
//! A caller sleeps on its own [`Waiting`]. It is woken to lead: to run its call and those that were taken with it;
//! or because another has run its call; or to stop.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use infer_core::{Call, Error, ErrorKind, Result, fit_together, rows};

use crate::scheduler::Batching;

/// Calls in the order of their arrival.
pub(crate) struct Queue {
    limit: usize,
    batching: Option<Batching>,
    entries: VecDeque<Entry>,
}

struct Entry {
    call: Call,
    waiting: Arc<Waiting>,
}

impl Queue {
    pub(crate) fn new(limit: usize, batching: Option<Batching>) -> Queue {
        Queue {
            limit,
            batching,
            entries: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a call.
    ///
    /// # Errors
    /// `Busy` where as many wait as may.
    pub(crate) fn push(&mut self, call: Call) -> Result<Arc<Waiting>> {
        if self.entries.len() >= self.limit {
            let message = format!("{} calls already wait for the model", self.limit);
            return Err(Error::new(ErrorKind::Busy, message).with_hint("try again later"));
        }
        let now = Instant::now();
        let waiting = Arc::new(Waiting {
            until: self
                .batching
                .map_or(now, |batching| now + batching.max_delay),
            slot: Mutex::default(),
            woken: Condvar::new(),
        });
        self.entries.push_back(Entry {
            call,
            waiting: waiting.clone(),
        });
        Ok(waiting)
    }

    /// The call that has waited longest, with those that fit to it; none while it still waits for more.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Turn> {
        let front = self.entries.front()?;
        let taken = match self.batching {
            None => vec![0],
            Some(batching) => {
                let (taken, full) = self.fitting(batching.max_batch.get());
                if !full && now < front.waiting.until {
                    return None;
                }
                taken
            }
        };
        let mut calls = Vec::with_capacity(taken.len());
        let mut callers = Vec::with_capacity(taken.len());
        // From the last on, so that the places of the others stay right.
        for place in taken.into_iter().rev() {
            let entry = self.entries.remove(place)?;
            calls.push(entry.call);
            callers.push(entry.waiting);
        }
        calls.reverse();
        let leader = callers.pop()?;
        callers.reverse();
        let batch = Batch {
            calls,
            others: callers,
        };
        Some(Turn { leader, batch })
    }

    /// The places of the calls that can be one with the first, and whether no more would fit.
    fn fitting(&self, max: usize) -> (Vec<usize>, bool) {
        let (mut taken, mut total, mut full) = (Vec::new(), 0, false);
        let first = &self.entries[0].call;
        for (place, Entry { call, .. }) in self.entries.iter().enumerate() {
            let more = rows(&call.inputs);
            if place > 0 && (more == 0 || !fit_together(&first.inputs, &call.inputs)) {
                continue;
            }
            if place > 0 && total + more > max {
                full = true;
                continue;
            }
            total += more;
            taken.push(place);
            if total == 0 || total >= max {
                // A call without rows runs alone.
                return (taken, true);
            }
        }
        (taken, full)
    }

    /// Takes a caller's call out. If the caller was just given a turn, that is handed back.
    pub(crate) fn remove(&mut self, waiting: &Arc<Waiting>) -> Option<Batch> {
        self.entries
            .retain(|entry| !Arc::ptr_eq(&entry.waiting, waiting));
        match std::mem::take(&mut waiting.slot().stage) {
            Stage::Leads(batch) => Some(batch),
            _ => None,
        }
    }
}

/// A batch and the caller that shall run it.
pub(crate) struct Turn {
    leader: Arc<Waiting>,
    batch: Batch,
}

impl Turn {
    /// Wakes the leader.
    pub(crate) fn wake(self) {
        let Turn { leader, batch } = self;
        leader.set(Stage::Leads(batch));
    }
}

/// Calls that run as one; the first is that of the leader.
pub(crate) struct Batch {
    calls: Vec<Call>,
    others: Vec<Arc<Waiting>>,
}

impl Batch {
    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The calls, and the callers of all but the first.
    pub(crate) fn into_calls(self) -> (Vec<Call>, Vec<Arc<Waiting>>) {
        (self.calls, self.others)
    }

    /// What is left without the leader, for the next to lead.
    pub(crate) fn without_first(mut self) -> Option<Turn> {
        if self.others.is_empty() {
            return None;
        }
        self.calls.remove(0);
        let leader = self.others.remove(0);
        Some(Turn {
            leader,
            batch: self,
        })
    }
}

/// Where one caller sleeps.
pub(crate) struct Waiting {
    /// Until when it waits for others to be one with it.
    until: Instant,
    slot: Mutex<Slot>,
    woken: Condvar,
}

#[derive(Default)]
struct Slot {
    stage: Stage,
    stopped: bool,
    delayed: bool,
}

#[derive(Default)]
enum Stage {
    /// It waits, or another runs its call.
    #[default]
    Waits,
    Leads(Batch),
    Ended(Box<Result<Call>>),
}

/// Why a caller was woken.
pub(crate) enum Woken {
    /// It shall run these.
    Leads(Batch),
    /// Another has run its call.
    Done(Box<Call>),
    /// Another could not.
    Failed(Error),
    /// It shall stop.
    Stopped,
    /// It has waited long enough for others; told once.
    Delayed,
}

impl Waiting {
    pub(crate) fn sleep(&self) -> Woken {
        let mut slot = self.slot();
        loop {
            match std::mem::take(&mut slot.stage) {
                Stage::Ended(ended) => {
                    return match *ended {
                        Ok(call) => Woken::Done(Box::new(call)),
                        Err(error) => Woken::Failed(error),
                    };
                }
                Stage::Leads(batch) if slot.stopped => {
                    slot.stage = Stage::Leads(batch);
                    return Woken::Stopped;
                }
                Stage::Leads(batch) => return Woken::Leads(batch),
                Stage::Waits if slot.stopped => return Woken::Stopped,
                Stage::Waits => {}
            }
            let left = self.until.saturating_duration_since(Instant::now());
            slot = if slot.delayed {
                let woken = self.woken.wait(slot);
                woken.unwrap_or_else(PoisonError::into_inner)
            } else if left.is_zero() {
                slot.delayed = true;
                return Woken::Delayed;
            } else {
                let woken = self.woken.wait_timeout(slot, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Hands a caller its call that another has run.
    pub(crate) fn end(&self, ended: Result<Call>) {
        self.set(Stage::Ended(Box::new(ended)));
    }

    /// Has the caller stop waiting.
    pub(crate) fn wake_to_stop(&self) {
        self.slot().stopped = true;
        self.woken.notify_one();
    }

    fn set(&self, stage: Stage) {
        self.slot().stage = stage;
        self.woken.notify_one();
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
