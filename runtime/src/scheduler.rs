//! One model's sessions: who may run now, on what, and together with whom.
//!
//! A call runs on its caller's own thread, which the engine may block for long; for callers that must not block see
//! `elsewhere`. Where all sessions are in use it waits its turn: within its priority guests take turns, and of one guest's
//! calls who came first goes first; whoever ends a run hands its turn to the call that is first. With batching on, whoever
//! gets a turn takes the calls that wait and fit together, its own among them, and runs them as one. The queue is bounded.

mod costs;
mod elsewhere;
mod owner;
mod queue;
mod statistics;
mod trial;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infer_core::{
    Call, Cancel, Error, ErrorKind, Graph, Result, Session, Signature, Tensor, rows, run_engine,
};

use crate::spans;
use costs::Costs;
pub(crate) use elsewhere::Elsewhere;
pub(crate) use owner::Owner;
use queue::{Arrival, Caller, Queue, Waiting, Woken};
pub(crate) use statistics::Counters;
pub use statistics::Statistics;

/// How a model's calls are scheduled.
#[derive(Clone, Debug)]
pub struct Scheduling {
    /// How calls are made one; not at all where absent.
    pub batching: Option<Batching>,
    /// How many calls may wait at one time; more are refused at once.
    pub queue: usize,
    /// Which of the calls that wait go first; those that came first where absent.
    pub priorities: Option<Priorities>,
}

impl Default for Scheduling {
    fn default() -> Scheduling {
        Scheduling {
            batching: None,
            queue: 1024,
            priorities: None,
        }
    }
}

/// The levels of a model's calls: 1 goes before 2, whatever has waited longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priorities {
    /// The last level.
    pub levels: NonZeroU32,
    /// That of calls that ask for none, or for one that there is not.
    pub default: NonZeroU32,
}

impl Priorities {
    /// Levels from 1 on, the middle one for calls that ask for none.
    pub fn new(levels: NonZeroU32) -> Priorities {
        Priorities {
            levels,
            default: levels.div_ceil(NonZeroU32::MIN.saturating_add(1)),
        }
    }
}

/// Who calls: how it is stopped, which level it asks for, and who takes turns with others by it.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) cancel: &'a Cancel,
    pub(crate) priority: Option<NonZeroU32>,
    pub(crate) owner: Owner,
}

impl<'a> From<&'a Cancel> for Asker<'a> {
    fn from(cancel: &'a Cancel) -> Asker<'a> {
        Asker {
            cancel,
            priority: None,
            owner: Owner::default(),
        }
    }
}

/// How calls of several callers are made one run of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most rows (sizes of the first dimension) of one run.
    pub max_batch: NonZeroUsize,
    /// How long a call may wait for others while a session is free.
    pub max_delay: Duration,
}

/// Runs one model's calls.
pub(crate) struct Scheduler {
    model: Arc<str>,
    engine: &'static str,
    graph: Arc<dyn Graph>,
    stateful: bool,
    batching: Option<Batching>,
    priorities: Option<Priorities>,
    state: Mutex<State>,
    counters: Arc<Counters>,
    costs: Costs,
}

struct State {
    /// How many sessions may still start to run.
    turns: usize,
    idle: Vec<Box<dyn Session>>,
    queue: Queue,
}

/// A session that one guest's context keeps, because the graph remembers.
pub(crate) type OwnSession = Option<Box<dyn Session>>;

impl Scheduler {
    /// A scheduler that runs calls one by one.
    pub(crate) fn new(model: &str, engine: &'static str, graph: Arc<dyn Graph>) -> Scheduler {
        let names = (model.into(), engine);
        Scheduler::of(names, graph, &Scheduling::default(), Arc::default())
    }

    fn of(
        (model, engine): (Arc<str>, &'static str),
        graph: Arc<dyn Graph>,
        scheduling: &Scheduling,
        counters: Arc<Counters>,
    ) -> Scheduler {
        Scheduler {
            model,
            engine,
            stateful: graph.signature().stateful,
            batching: scheduling.batching,
            priorities: scheduling.priorities,
            state: Mutex::new(State {
                turns: graph.concurrency().max(1),
                idle: Vec::new(),
                queue: Queue::new(scheduling.queue, scheduling.batching),
            }),
            counters,
            costs: Costs::default(),
            graph,
        }
    }

    /// The same graph by other rules and with other counters.
    ///
    /// # Errors
    /// `UnsupportedOperation` for batching of a model that does not allow it.
    pub(crate) fn with(
        &self,
        scheduling: &Scheduling,
        counters: Arc<Counters>,
    ) -> Result<Scheduler> {
        if scheduling.batching.is_some() {
            if !self.graph.signature().can_batch() {
                return Err(not_batchable(self.graph.signature()));
            }
            run_engine(self.engine, || trial::check(&*self.graph))?;
        }
        let (names, graph) = ((self.model.clone(), self.engine), self.graph.clone());
        Ok(Scheduler::of(names, graph, scheduling, counters))
    }

    pub(crate) fn graph(&self) -> &dyn Graph {
        &*self.graph
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let waiting = self.state().queue.len();
        self.counters.read(waiting)
    }

    /// Runs one call and blocks until it has run; inputs are checked and in order. A stateful graph runs on `own`,
    /// which is made when it is first needed; any other on a pooled session.
    ///
    /// # Errors
    /// Those of the engine; `Busy` where too many wait; `Timeout` when cancelled.
    pub(crate) fn run<'a>(
        &self,
        inputs: Vec<Tensor>,
        asker: impl Into<Asker<'a>>,
        own: &mut OwnSession,
    ) -> Result<Vec<Tensor>> {
        self.run_timed(inputs, asker.into(), own).0
    }

    /// [`Scheduler::run`], and how long it took: the clock is looked at as often as a tiny model's run can bear.
    pub(crate) fn run_timed(
        &self,
        inputs: Vec<Tensor>,
        asker: Asker<'_>,
        own: &mut OwnSession,
    ) -> (Result<Vec<Tensor>>, Duration) {
        let cancel = asker.cancel;
        if let Err(error) = cancel.check() {
            return (Err(error), Duration::ZERO);
        }
        let since = Instant::now();
        let call = Call::new(inputs, cancel.clone());
        let (result, ended) = match self.start(call, self.arrival(Caller::Sleeps, asker)) {
            Start::Now(call, session) => {
                let ran = self.run_alone((call, since), session, own);
                self.end_turn(ran.session);
                (ran.result, ran.ended)
            }
            Start::Later(waiting) => (self.wait(&waiting, cancel, own), Instant::now()),
            Start::Refused(error) => (Err(error), Instant::now()),
        };
        let (failure, took) = (result.as_ref().err().map(Error::kind), ended - since);
        self.counters.ended(failure, (took, asker.owner));
        (result, took)
    }

    /// The level of a call that asks for this one.
    fn level(&self, priority: Option<NonZeroU32>) -> u32 {
        self.priorities.map_or(0, |priorities| {
            let asked = priority.filter(|level| *level <= priorities.levels);
            asked.unwrap_or(priorities.default).get()
        })
    }

    fn arrival(&self, caller: Caller, asker: Asker<'_>) -> Arrival {
        Arrival {
            caller,
            level: self.level(asker.priority),
            owner: asker.owner,
        }
    }

    fn start(&self, call: Call, arrival: Arrival) -> Start {
        let mut state = self.state();
        let alone = self.batching.is_none_or(|batching| {
            batching.max_delay.is_zero() || rows(&call.inputs) >= batching.max_batch.get()
        });
        if alone && state.turns > 0 && state.queue.is_empty() {
            state.turns -= 1;
            let session = self.idle_session(&mut state);
            return Start::Now(call, session);
        }
        let pushed = state.queue.push(call, arrival);
        drop(state);
        match pushed {
            Ok((waiting, displaced)) => {
                if let Some(displaced) = displaced {
                    displaced.end();
                }
                Start::Later(waiting)
            }
            Err(error) => Start::Refused(error),
        }
    }

    fn idle_session(&self, state: &mut State) -> OwnSession {
        match self.stateful {
            true => None,
            false => state.idle.pop(),
        }
    }

    /// Runs a call that has a turn from now on, and leaves it to the caller to end that with the session.
    fn run_alone(
        &self,
        (call, now): (Call, Instant),
        session: OwnSession,
        own: &mut OwnSession,
    ) -> Ran<Vec<Tensor>> {
        let mut calls = [call];
        let ran = self.run_session((&mut calls, now), session, own);
        let [call] = calls;
        ran.and_then(|()| outputs(call))
    }

    /// Runs calls from now on on a session, which is given back unless the graph remembers.
    fn run_session(
        &self,
        (calls, now): (&mut [Call], Instant),
        session: OwnSession,
        own: &mut OwnSession,
    ) -> Ran<()> {
        let _span = spans::compute((&*self.model, self.engine), calls.len()).entered();
        let session = match self.stateful {
            true => own.take(),
            false => session,
        };
        let rows = match self.batching {
            Some(_) => calls.iter().map(|call| rows(&call.inputs)).sum(),
            None => calls.len(),
        };
        let first = calls.first().filter(|_| self.costs.are_asked());
        let kind = first.map(|call| Costs::kind(&call.inputs));
        let ran = run_engine(self.engine, || {
            let mut session = session.map_or_else(|| self.graph.session(), Ok)?;
            session.run(calls);
            Ok(Some(session))
        });
        let ran = match ran {
            Err(error) if calls.len() > 1 => {
                self.run_each(calls, &error);
                Ok(None)
            }
            ran => ran,
        };
        let ended = Instant::now();
        let took = ended - now;
        self.counters.ran((calls.len(), rows), took);
        let well = |call: &Call| matches!(call.result, Some(Ok(_)));
        if let Some(kind) = kind
            && calls.iter().all(well)
        {
            self.costs.ran(kind, took);
        }
        // A session that panicked is gone by now; one that only failed is as good as before.
        let (result, session) = match ran {
            Ok(session) if self.stateful => {
                *own = session;
                (Ok(()), None)
            }
            Ok(session) => (Ok(()), session),
            Err(error) => (Err(error), None),
        };
        Ran {
            result,
            session,
            ended,
        }
    }

    /// After a panic in a batch: each call by itself, so that only the one that makes the engine panic fails.
    fn run_each(&self, calls: &mut [Call], error: &Error) {
        tracing::debug!("a batch is run again call by call: {error}");
        for call in calls {
            let ran = run_engine(self.engine, || {
                self.graph.session()?.run(std::slice::from_mut(call));
                Ok(())
            });
            if let Err(error) = ran {
                call.result = Some(Err(error));
            }
        }
    }

    /// Gives a turn back, or on to the calls that are first.
    fn end_turn(&self, session: OwnSession) {
        let mut state = self.state();
        state.idle.extend(session);
        state.turns += 1;
        self.hand_out(&mut state);
    }

    /// Wakes those whose turn it is, as long as there are turns.
    fn hand_out(&self, state: &mut State) {
        while state.turns > 0 {
            let Some(turn) = state.queue.take(Instant::now()) else {
                return;
            };
            state.turns -= 1;
            turn.wake();
        }
    }

    fn wait(
        &self,
        waiting: &Arc<Waiting>,
        cancel: &Cancel,
        own: &mut OwnSession,
    ) -> Result<Vec<Tensor>> {
        let woken_by = waiting.clone();
        let hook = cancel.on_cancel(move || woken_by.wake_to_stop());
        let result = loop {
            self.hand_out(&mut self.state());
            match waiting.sleep() {
                Woken::Ended(result) => break result,
                Woken::Leads(batch) => {
                    let ran = self.lead(batch, waiting, own);
                    self.end_turn(ran.session);
                    break ran.result;
                }
                Woken::Stopped => break Err(self.leave(waiting)),
                // The time for which it waits for others is over.
                Woken::Delayed => {}
            }
        };
        drop(hook);
        result
    }

    /// Runs a batch of which this caller's call is the first.
    fn lead(
        &self,
        batch: queue::Batch,
        leader: &Waiting,
        own: &mut OwnSession,
    ) -> Ran<Vec<Tensor>> {
        let (mut calls, others) = batch.into_calls();
        let now = Instant::now();
        let waited = |since: Instant| now.saturating_duration_since(since);
        let others_waited = others.iter().map(|other| waited(other.since));
        self.counters
            .waited(waited(leader.since) + others_waited.sum::<Duration>());
        for other in &others {
            other.runs_along((&*self.model, self.engine), calls.len());
        }
        let session = self.idle_session(&mut self.state());
        let ran = self.run_session((&mut calls, now), session, own);
        let mut calls = calls.into_iter();
        let first = calls.next();
        for (call, waiting) in calls.zip(others) {
            waiting.end(match &ran.result {
                Ok(()) => call.result.unwrap_or_else(|| Err(nothing())),
                Err(error) => Err(Error::new(error.kind(), error.report())),
            });
        }
        ran.and_then(|()| first.map_or_else(|| Err(nothing()), outputs))
    }

    /// A caller stops waiting. If it was just given a turn, the others of its batch get that.
    fn leave(&self, waiting: &Arc<Waiting>) -> Error {
        let mut state = self.state();
        let mut removed = state.queue.remove(waiting);
        if let Some(batch) = removed.led.take() {
            match batch.without_first() {
                Some(rest) => rest.wake(),
                None => state.turns += 1,
            }
        }
        // It may have stood in the way of a batch that is full.
        self.hand_out(&mut state);
        drop(state);
        drop(removed);
        let message = "the deadline passed while the call waited for the model";
        Error::new(ErrorKind::Timeout, message)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a turn, which is to be ended with the session, and when.
struct Ran<T> {
    result: Result<T>,
    session: OwnSession,
    ended: Instant,
}

impl<T> Ran<T> {
    fn and_then<U>(self, next: impl FnOnce(T) -> Result<U>) -> Ran<U> {
        let Ran {
            result,
            session,
            ended,
        } = self;
        Ran {
            result: result.and_then(next),
            session,
            ended,
        }
    }
}

/// What becomes of a new call.
enum Start {
    Now(Call, OwnSession),
    Later(Arc<Waiting>),
    Refused(Error),
}

fn outputs(call: Call) -> Result<Vec<Tensor>> {
    call.result.unwrap_or_else(|| Err(nothing()))
}

fn nothing() -> Error {
    Error::new(ErrorKind::RuntimeError, "the engine gave no result")
}

fn not_batchable(signature: &Signature) -> Error {
    let all = signature.inputs.iter().chain(&signature.outputs);
    let all: Vec<String> = all
        .map(|info| format!("`{}` {info}", infer_core::clip(&info.name)))
        .collect();
    let message = format!(
        "the model cannot be batched: expected a dynamic first dimension that all inputs and outputs share and no \
         state, got {}",
        all.join(", ")
    );
    Error::new(ErrorKind::UnsupportedOperation, message)
        .with_hint("convert it with a dynamic batch, or leave batching off")
}

#[cfg(test)]
mod tests;
