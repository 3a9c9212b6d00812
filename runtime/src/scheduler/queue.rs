//! The calls that wait for a turn, and how their callers are woken.
//!
//! A caller sleeps on its own [`Waiting`]. It is woken to lead: to run its call and those that were taken with it;
//! or because another has run its call; or to stop.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use infer_core::{Call, Error, ErrorKind, Result, Tensor, fit_together, rows};

use tracing::Span;

use crate::scheduler::{Batching, Owner};
use crate::{spans, threads};

/// Calls in the order of their levels, within a level of their rounds, and within a round of their arrival. In each round an
/// owner has one call, so that whoever has many waits no less for others than they for it.
pub(crate) struct Queue {
    limit: usize,
    batching: Option<Batching>,
    entries: VecDeque<Entry>,
    /// The round of the last call that was taken, of each level at which calls wait.
    rounds: BTreeMap<u32, u64>,
    /// How many calls wait, of each owner that has some.
    owners: HashMap<Owner, usize>,
}

/// A call that comes.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) caller: Caller,
    pub(crate) level: u32,
    pub(crate) owner: Owner,
}

struct Entry {
    call: Call,
    waiting: Arc<Waiting>,
    level: u32,
    round: u64,
    owner: Owner,
}

impl Entry {
    fn place(&self) -> (u32, u64) {
        (self.level, self.round)
    }
}

/// A call that had to leave for that of an owner with fewer.
pub(crate) struct Displaced(Entry);

impl Displaced {
    /// Tells its caller.
    pub(crate) fn end(self) {
        let message = "too many calls wait for the model, and others have fewer of them";
        let error = Error::new(ErrorKind::Busy, message).with_hint("try again later");
        self.0.waiting.end(Err(error));
    }
}

impl Queue {
    pub(crate) fn new(limit: usize, batching: Option<Batching>) -> Queue {
        Queue {
            limit,
            batching,
            entries: VecDeque::new(),
            rounds: BTreeMap::new(),
            owners: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a call, behind those of lower levels and of as low a round. Where as many wait as may, it takes the place of one
    /// whose owner has more.
    ///
    /// # Errors
    /// `Busy` where there is none.
    pub(crate) fn push(
        &mut self,
        call: Call,
        arrival: Arrival,
    ) -> Result<(Arc<Waiting>, Option<Displaced>)> {
        let Arrival {
            caller: kind,
            level,
            owner,
        } = arrival;
        let displaced = match self.entries.len() < self.limit {
            true => None,
            false => Some(self.displace(level, owner).ok_or_else(|| {
                let message = format!("{} calls already wait for the model", self.limit);
                Error::new(ErrorKind::Busy, message).with_hint("try again later")
            })?),
        };
        let delay = self
            .batching
            .map_or(Duration::ZERO, |batching| batching.max_delay);
        let waiting = Arc::new(Waiting {
            kind,
            since: Instant::now(),
            caller: Span::current(),
            now: Mutex::new(spans::queue()),
            until: Instant::now().checked_add(delay),
            slot: Mutex::default(),
            woken: Condvar::new(),
        });
        let own = self.entries.iter().rev();
        let own = own.filter(|entry| (entry.level, entry.owner) == (level, owner));
        let last = *self.rounds.entry(level).or_default();
        let entry = Entry {
            call,
            waiting: waiting.clone(),
            level,
            round: 1 + own.map(|entry| entry.round).next().unwrap_or(0).max(last),
            owner,
        };
        *self.owners.entry(owner).or_default() += 1;
        let before = self
            .entries
            .iter()
            .rposition(|before| before.place() <= entry.place());
        self.entries
            .insert(before.map_or(0, |place| place + 1), entry);
        Ok((waiting, displaced))
    }

    /// Takes out a call of this level or a later one for an owner's: the last of whoever has most of all that would still have
    /// as many as that owner.
    fn displace(&mut self, level: u32, owner: Owner) -> Option<Displaced> {
        let own = self.owners.get(&owner).map_or(0, |own| *own);
        let count = |owner: &Owner| self.owners.get(owner).map_or(0, |count| *count);
        if self.owners.values().all(|count| *count <= own + 1) {
            return None;
        }
        let places = 0..self.entries.len();
        let (_, place) = places
            .rev()
            .map(|place| (place, &self.entries[place]))
            .take_while(|(_, entry)| entry.level >= level)
            .map(|(place, entry)| (count(&entry.owner), place))
            .max_by_key(|(count, place)| (*count, *place))
            .filter(|(count, _)| *count > own + 1)?;
        self.take_out(place).map(Displaced)
    }

    fn take_out(&mut self, place: usize) -> Option<Entry> {
        let entry = self.entries.remove(place)?;
        if let Some(count) = self.owners.get_mut(&entry.owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&entry.owner);
            }
        }
        let waits = |other: &Entry| other.level == entry.level;
        if !self.entries.iter().any(waits) {
            self.rounds.remove(&entry.level);
        }
        Some(entry)
    }

    /// The call that is first, with those that fit to it; none while it still waits for more.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Turn> {
        let front = self.entries.front()?;
        let taken = match self.batching {
            None => vec![0],
            Some(batching) => {
                let (taken, full) = self.fitting(batching.max_batch.get());
                if !full && front.waiting.until.is_none_or(|until| now < until) {
                    return None;
                }
                taken
            }
        };
        self.rounds.insert(front.level, front.round);
        let mut calls = Vec::with_capacity(taken.len());
        let mut callers = Vec::with_capacity(taken.len());
        // From the last on, so that the places of the others stay right.
        for place in taken.into_iter().rev() {
            let entry = self.take_out(place)?;
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

    /// Takes a caller and its call out, for good.
    pub(crate) fn remove(&mut self, waiting: &Arc<Waiting>) -> Removed {
        let is_its = |entry: &Entry| Arc::ptr_eq(&entry.waiting, waiting);
        let place = self.entries.iter().position(is_its);
        let entry = place.and_then(|place| self.take_out(place));
        let mut slot = waiting.slot();
        slot.left = true;
        Removed {
            _call: entry.map(|entry| entry.call),
            _awaited: slot.awaited.take(),
            led: match std::mem::take(&mut slot.stage) {
                Stage::Leads(batch) => Some(batch),
                _ => None,
            },
        }
    }
}

/// What is taken along by a caller that leaves.
pub(crate) struct Removed {
    /// Its call, which may be large: to be dropped without a lock.
    _call: Option<Call>,
    /// The thread that runs it, which is left to itself.
    _awaited: Option<threads::Waiting>,
    /// The batch that it was to run, whose turn is to be handed back.
    pub(crate) led: Option<Batch>,
}

/// What becomes of a caller meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// It sleeps on a thread, where its call can run.
    Sleeps,
    /// It has no thread: any may run its call.
    Floats,
    /// It has no thread, and a session that no other has.
    FloatsWithSession,
}

/// A batch and the caller that shall run it.
pub(crate) struct Turn {
    pub(crate) leader: Arc<Waiting>,
    pub(crate) batch: Batch,
}

impl Turn {
    /// Wakes the leader.
    pub(crate) fn wake(self) {
        let Turn { leader, batch } = self;
        leader.enters(Span::none());
        leader.set(Stage::Leads(batch));
    }

    /// Whether any thread may run it.
    pub(crate) fn is_anyones(&self) -> bool {
        self.leader.kind == Caller::Floats
    }
}

/// Calls that run as one; the first is that of the leader.
pub(crate) struct Batch {
    calls: Vec<Call>,
    others: Vec<Arc<Waiting>>,
}

impl Batch {
    /// The calls, and the callers of all but the first.
    pub(crate) fn into_calls(self) -> (Vec<Call>, Vec<Arc<Waiting>>) {
        (self.calls, self.others)
    }

    /// What is left without the leader, for the next to lead that has not left itself.
    pub(crate) fn without_first(mut self) -> Option<Turn> {
        while !self.others.is_empty() {
            self.calls.remove(0);
            let leader = self.others.remove(0);
            if !leader.slot().left {
                let batch = self;
                return Some(Turn { leader, batch });
            }
        }
        None
    }
}

/// Where one caller sleeps.
pub(crate) struct Waiting {
    kind: Caller,
    pub(crate) since: Instant,
    /// The span of whoever calls, and that of what is being done for it now.
    caller: Span,
    now: Mutex<Span>,
    /// Until when it waits for others to be one with it; for ever where time does not go so far.
    until: Option<Instant>,
    slot: Mutex<Slot>,
    woken: Condvar,
}

#[derive(Default)]
struct Slot {
    stage: Stage,
    stopped: bool,
    delayed: bool,
    /// Nobody sleeps here any more.
    left: bool,
    /// The thread of another that runs its call.
    awaited: Option<threads::Waiting>,
    /// Of a caller that has no thread that sleeps.
    waker: Option<Waker>,
}

impl Slot {
    /// Why its caller is woken, if it is.
    fn woken(&mut self) -> Option<Woken> {
        match std::mem::take(&mut self.stage) {
            Stage::Ended(result) => Some(Woken::Ended(result)),
            Stage::Leads(batch) if self.stopped => {
                self.stage = Stage::Leads(batch);
                Some(Woken::Stopped)
            }
            Stage::Leads(batch) => Some(Woken::Leads(batch)),
            Stage::Waits => self.stopped.then_some(Woken::Stopped),
        }
    }
}

#[derive(Default)]
enum Stage {
    /// It waits, or another runs its call.
    #[default]
    Waits,
    Leads(Batch),
    Ended(Result<Vec<Tensor>>),
}

/// Why a caller was woken.
pub(crate) enum Woken {
    /// It shall run these.
    Leads(Batch),
    /// Another has run its call, or could not.
    Ended(Result<Vec<Tensor>>),
    /// It shall stop.
    Stopped,
    /// It has waited long enough for others; told once.
    Delayed,
}

impl Waiting {
    pub(crate) fn sleep(&self) -> Woken {
        let mut slot = self.slot();
        loop {
            if let Some(woken) = slot.woken() {
                return woken;
            }
            slot = match self.until.filter(|_| !slot.delayed) {
                None => {
                    let woken = self.woken.wait(slot);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        slot.delayed = true;
                        return Woken::Delayed;
                    }
                    let woken = self.woken.wait_timeout(slot, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// An engine begins to run its call, in a batch that another leads.
    pub(crate) fn runs_along(&self, names: (&str, &str), calls: usize) {
        self.enters(spans::compute_for(&self.caller, names, calls));
    }

    /// Does for it what another thread takes over, within its span.
    pub(crate) fn on_behalf<T>(&self, work: impl FnOnce() -> T) -> T {
        self.enters(Span::none());
        self.caller.in_scope(work)
    }

    /// The thread of another is about to run its call; nobody waits for that where it has left.
    pub(crate) fn waits_for(&self, awaited: threads::Waiting) {
        let mut slot = self.slot();
        if !slot.left {
            slot.awaited = Some(awaited);
        }
    }

    /// What is done for it from now on; what was done before has ended.
    fn enters(&self, span: Span) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = span;
    }

    /// [`Waiting::sleep`] without a thread that sleeps.
    pub(crate) async fn wait(&self) -> Woken {
        let woken = poll_fn(|context| {
            let mut slot = self.slot();
            match slot.woken() {
                Some(woken) => Poll::Ready(woken),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        });
        match self.until.filter(|_| !self.slot().delayed) {
            None => woken.await,
            Some(until) => tokio::select! {
                biased;
                woken = woken => woken,
                () = tokio::time::sleep_until(until.into()) => {
                    self.slot().delayed = true;
                    Woken::Delayed
                }
            },
        }
    }

    /// Hands a caller the outputs of its call that another has run.
    pub(crate) fn end(&self, result: Result<Vec<Tensor>>) {
        self.enters(Span::none());
        self.set(Stage::Ended(result));
    }

    /// Has the caller stop waiting.
    pub(crate) fn wake_to_stop(&self) {
        self.change(|slot| slot.stopped = true);
    }

    fn set(&self, stage: Stage) {
        self.change(|slot| slot.stage = stage);
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) {
        let mut slot = self.slot();
        change(&mut slot);
        let waker = slot.waker.take();
        drop(slot);
        match waker {
            Some(waker) => waker.wake(),
            None => self.woken.notify_one(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infer_core::{Cancel, Dtype, Tensor};
    use std::num::NonZeroUsize;

    fn call() -> Call {
        let row = Tensor::copied_from(Dtype::U8, vec![1, 2], &[1, 2]).expect("valid");
        Call::new(vec![row], Cancel::default())
    }

    fn arrival(level: u32, owner: Owner) -> Arrival {
        Arrival {
            caller: Caller::Sleeps,
            level,
            owner,
        }
    }

    /// Adds a call for which there is room.
    fn push(queue: &mut Queue, level: u32, owner: Owner) -> Arc<Waiting> {
        let pushed = queue.push(call(), arrival(level, owner));
        let (waiting, displaced) = pushed.expect("room");
        assert!(displaced.is_none());
        waiting
    }

    /// The callers of the turns to come, by their places in a list.
    fn turns<'a>(
        queue: &'a mut Queue,
        callers: &'a [Arc<Waiting>],
    ) -> impl Iterator<Item = usize> + 'a {
        let of = |turn: Turn| {
            let is_its = |caller: &Arc<Waiting>| Arc::ptr_eq(caller, &turn.leader);
            callers.iter().position(is_its).expect("a known caller")
        };
        std::iter::from_fn(move || queue.take(Instant::now()).map(of))
    }

    #[test]
    fn a_turn_is_never_handed_to_a_caller_that_has_left() {
        let batching = Batching {
            max_batch: NonZeroUsize::new(8).expect("not 0"),
            max_delay: Duration::ZERO,
        };
        for left in [1, 2] {
            let mut queue = Queue::new(8, Some(batching));
            let callers: Vec<_> = (0..3)
                .map(|_| push(&mut queue, 0, Owner::default()))
                .collect();
            let turn = queue.take(Instant::now()).expect("three calls");
            turn.wake();
            assert!(
                queue.remove(&callers[left]).led.is_none(),
                "it does not lead"
            );
            let led = queue.remove(&callers[0]).led.expect("the first leads");
            let next = led.without_first().expect("one has not left");
            assert!(Arc::ptr_eq(&next.leader, &callers[3 - left]));
            let (calls, others) = next.batch.into_calls();
            assert_eq!(calls.len(), others.len() + 1);
        }
    }

    #[test]
    fn lower_levels_go_first_and_within_one_who_came_first() {
        let mut queue = Queue::new(8, None);
        let callers = [2, 3, 1, 2, 1].map(|level| push(&mut queue, level, Owner::default()));
        assert!(turns(&mut queue, &callers).eq([2, 4, 0, 3, 1]));
        assert!(queue.is_empty());
    }

    #[test]
    fn owners_take_turns_within_a_level() {
        let mut queue = Queue::new(20, None);
        let [greedy, modest, third] = [(); 3].map(|()| Owner::new());
        let mut callers: Vec<_> = [greedy, greedy, greedy, greedy, modest, third, modest]
            .map(|owner| push(&mut queue, 1, owner))
            .into();
        // Of a level to itself, which goes before.
        callers.push(push(&mut queue, 0, greedy));
        let first: Vec<_> = turns(&mut queue, &callers).take(3).collect();
        assert_eq!(first, [7, 0, 4]);
        // Who had a turn and asks again waits for those who had none since, and so does who comes anew.
        callers.push(push(&mut queue, 1, modest));
        callers.push(push(&mut queue, 1, Owner::new()));
        let rest: Vec<_> = turns(&mut queue, &callers).collect();
        assert_eq!(rest, [5, 1, 6, 9, 2, 8, 3]);
        assert!(queue.rounds.is_empty() && queue.owners.is_empty());
    }

    #[test]
    fn a_full_queue_has_room_for_who_has_fewer() {
        let mut queue = Queue::new(3, None);
        let [greedy, modest] = [(); 2].map(|()| Owner::new());
        let mut callers: Vec<_> = (0..3).map(|_| push(&mut queue, 1, greedy)).collect();
        let refused = |queue: &mut Queue, level, owner| {
            let pushed = queue.push(call(), arrival(level, owner));
            pushed.err().map(|error| error.kind())
        };
        assert_eq!(refused(&mut queue, 1, greedy), Some(ErrorKind::Busy));
        // Those of a level before its own keep their places.
        assert_eq!(refused(&mut queue, 2, modest), Some(ErrorKind::Busy));
        let pushed = queue.push(call(), arrival(1, modest));
        let (waiting, displaced) = pushed.expect("a place");
        displaced.expect("the last of the greedy one's").end();
        match callers[2].sleep() {
            Woken::Ended(Err(error)) => assert_eq!(error.kind(), ErrorKind::Busy),
            _ => panic!("it waits no more"),
        }
        callers.push(waiting);
        // It would have as many.
        assert_eq!(refused(&mut queue, 1, modest), Some(ErrorKind::Busy));
        // Who has most of all may have it at an earlier level, and another one more than the newcomer.
        let mut levels = Queue::new(5, None);
        for owner in [greedy; 3] {
            push(&mut levels, 1, owner);
        }
        let others: Vec<_> = (0..2).map(|_| push(&mut levels, 2, modest)).collect();
        let pushed = levels.push(call(), arrival(2, Owner::new()));
        let (_, displaced) = pushed.expect("a place");
        displaced.expect("the last of the other's").end();
        assert!(matches!(others[1].sleep(), Woken::Ended(Err(_))));
        assert!(turns(&mut queue, &callers).eq([0, 3, 1]));
    }

    #[test]
    fn a_delay_without_end_is_no_fault() {
        let batching = Batching {
            max_batch: NonZeroUsize::new(2).expect("not 0"),
            max_delay: Duration::MAX,
        };
        let mut queue = Queue::new(8, Some(batching));
        push(&mut queue, 0, Owner::default());
        assert!(queue.take(Instant::now()).is_none(), "it waits for another");
        push(&mut queue, 0, Owner::default());
        assert_eq!(
            queue.take(Instant::now()).expect("full").batch.calls.len(),
            2
        );
    }
}
