//! Calls of callers that must not block: they wait as futures, and only a call that has its turn gets a thread. That
//! thread goes on with the calls that wait, so that no processor idles while a turn is handed over. A call whose like
//! is known to be short runs where it is polled: handing it over would take longer.
//!
//! Dropping the future of a call that waits takes it out of the queue. One that runs goes on until the engine
//! lets go of it; its turn lives with the run, not with the caller.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use infer_core::{Call, Cancel, Result, Tensor};
use tokio::sync::{Notify, oneshot};
use tracing::Span;

use super::costs::Costs;
use super::queue::{Caller, Turn, Waiting, Woken};
use super::{Asker, OwnSession, Ran, Scheduler, Start, nothing};
use crate::slices::Slices;
use crate::threads::{Threads, panicked};

/// Stack of a thread that calls an engine, in bytes.
const STACK: usize = 2 << 20;

/// How long an engine that was asked to stop may take before its caller is told that the time is up.
const GRACE: Duration = Duration::from_millis(30);

/// Where calls run whose callers wait as futures.
#[derive(Clone, Copy)]
pub(crate) struct Elsewhere<'a> {
    pub(crate) threads: &'a Threads,
    /// The places on the threads that poll; absent for a caller that has one already, or a thread of its own.
    pub(crate) places: Option<&'a Slices>,
}

impl Scheduler {
    /// Runs one call without blocking for long; inputs are checked and in order. A stateful graph runs on `own`, as in
    /// [`Scheduler::run`]; it is lost with a future that is dropped while its call runs.
    ///
    /// # Errors
    /// Those of the engine; `Busy` where too many wait; `Timeout` when cancelled.
    pub(crate) async fn run_elsewhere(
        self: &Arc<Scheduler>,
        elsewhere: Elsewhere<'_>,
        (inputs, asker): (Vec<Tensor>, Asker<'_>),
        own: &mut OwnSession,
    ) -> Result<Vec<Tensor>> {
        let cancel = asker.cancel;
        cancel.check()?;
        let mut counting = self.counters.counting(Instant::now(), asker.owner);
        let short = self.costs.is_short(Costs::kind(&inputs));
        let call = Call::new(inputs, cancel.clone());
        let caller = match self.stateful {
            true => Caller::FloatsWithSession,
            false => Caller::Floats,
        };
        let result = match self.start(call, self.arrival(caller, asker)) {
            Start::Now(call, session) => {
                let run = move |scheduler: &Scheduler, own: &mut OwnSession| {
                    scheduler.run_alone((call, Instant::now()), session, own)
                };
                self.here_or_elsewhere((elsewhere, cancel), short, run, own)
                    .await
            }
            Start::Later(waiting) => {
                let waiting = Queued {
                    scheduler: self,
                    waiting: Some(waiting),
                };
                self.wait_elsewhere((elsewhere, cancel), (waiting, short), own)
                    .await
            }
            Start::Refused(error) => Err(error),
        };
        counting.ends(&result);
        result
    }

    async fn wait_elsewhere(
        self: &Arc<Scheduler>,
        (elsewhere, cancel): (Elsewhere<'_>, &Cancel),
        (mut queued, short): (Queued<'_>, bool),
        own: &mut OwnSession,
    ) -> Result<Vec<Tensor>> {
        let Some(waiting) = queued.waiting.clone() else {
            return Err(nothing());
        };
        let woken_by = waiting.clone();
        let _hook = cancel.on_cancel(move || woken_by.wake_to_stop());
        loop {
            self.hand_out(&mut self.state());
            let woken = waiting.wait().await;
            if !matches!(woken, Woken::Delayed) {
                queued.waiting = None;
            }
            match woken {
                Woken::Ended(result) => return result,
                Woken::Leads(batch) => {
                    let lead = move |scheduler: &Scheduler, own: &mut OwnSession| {
                        scheduler.lead(batch, &waiting, own)
                    };
                    return self
                        .here_or_elsewhere((elsewhere, cancel), short, lead, own)
                        .await;
                }
                Woken::Stopped => return Err(self.leave(&waiting)),
                Woken::Delayed => {}
            }
        }
    }

    /// Does what has a turn: at once where it is short and there is a place, which is kept meanwhile.
    async fn here_or_elsewhere(
        self: &Arc<Scheduler>,
        (elsewhere, cancel): (Elsewhere<'_>, &Cancel),
        short: bool,
        run: impl FnOnce(&Scheduler, &mut OwnSession) -> Ran<Vec<Tensor>> + Send + 'static,
        own: &mut OwnSession,
    ) -> Result<Vec<Tensor>> {
        let Elsewhere { threads, places } = elsewhere;
        if short {
            let place = places.map(Slices::place);
            if !matches!(place, Some(None)) {
                let ran = run(self, own);
                self.end_turn(ran.session);
                return ran.result;
            }
        }
        self.on_a_thread((threads, cancel), run, own).await
    }

    /// Has a thread do what blocks. Where none can be had it is done here: a turn is never lost.
    async fn on_a_thread(
        self: &Arc<Scheduler>,
        (threads, cancel): (&Threads, &Cancel),
        run: impl FnOnce(&Scheduler, &mut OwnSession) -> Ran<Vec<Tensor>> + Send + 'static,
        own: &mut OwnSession,
    ) -> Result<Vec<Tensor>> {
        let (sender, receiver) = oneshot::channel();
        let (scheduler, span) = (self.clone(), Span::current());
        let mut lent = own.take();
        let (working, _waiting) = threads.awaited();
        let own_threads = threads.clone();
        let run = move || {
            let ran = span.in_scope(|| run(&scheduler, &mut lent));
            drop(working);
            // Nobody waits any more where the caller went away.
            let _ = sender.send((ran.result, lent));
            scheduler.go_on(&own_threads, ran.session);
        };
        let here = Arc::new(Mutex::new(Some(run)));
        let there = here.clone();
        let handed_over = threads.detach("infer-engine", STACK, move || run_once(&there));
        if handed_over.is_err() {
            run_once(&here);
        }
        let stopped = Arc::new(Notify::new());
        let notify = stopped.clone();
        let _hook = cancel.on_cancel(move || notify.notify_one());
        let late = async {
            stopped.notified().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            ran = receiver => {
                let (result, lent) = ran.map_err(|_| panicked())?;
                *own = lent;
                result
            }
            () = late => cancel.check().and_then(|()| Err(nothing())),
        }
    }

    /// Ends a turn and runs the calls that wait, as long as they can run on any thread.
    fn go_on(&self, threads: &Threads, mut session: OwnSession) {
        while let Some(Turn { leader, batch }) = self.next_turn(session) {
            let (working, awaited) = threads.awaited();
            leader.waits_for(awaited);
            let ran = leader.on_behalf(|| self.lead(batch, &leader, &mut None));
            drop(working);
            leader.end(ran.result);
            session = ran.session;
        }
    }

    /// Ends a turn; the next one, if any thread may have it.
    fn next_turn(&self, session: OwnSession) -> Option<Turn> {
        let mut state = self.state();
        state.idle.extend(session);
        state.turns += 1;
        while state.turns > 0 {
            let turn = state.queue.take(Instant::now())?;
            state.turns -= 1;
            if turn.is_anyones() {
                self.hand_out(&mut state);
                return Some(turn);
            }
            turn.wake();
        }
        None
    }
}

fn run_once(run: &Mutex<Option<impl FnOnce()>>) {
    let run = run.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(run) = run {
        run();
    }
}

/// A call in the queue, which leaves with its caller.
struct Queued<'a> {
    scheduler: &'a Scheduler,
    waiting: Option<Arc<Waiting>>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            self.scheduler.leave(waiting);
        }
    }
}
