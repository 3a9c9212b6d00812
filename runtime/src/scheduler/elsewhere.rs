//! Calls of callers that must not block: they wait as futures, and only a call that has its turn gets a thread.
//!
//! Dropping the future of a call that waits takes it out of the queue. One that runs goes on until the engine
//! lets go of it; its turn lives with the run, not with the caller.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use infer_core::{Call, Cancel, Error, ErrorKind, Result, Tensor};
use tokio::sync::{Notify, oneshot};
use tracing::Span;

use super::queue::{Waiting, Woken};
use super::{Scheduler, Start, nothing, outputs};
use crate::threads::{Threads, panicked};

/// Stack of a thread that calls an engine, in bytes.
const STACK: usize = 2 << 20;

/// How long an engine that was asked to stop may take before its caller is told that the time is up.
const GRACE: Duration = Duration::from_millis(30);

impl Scheduler {
    /// Runs one call without blocking; inputs are checked and in order. A stateful graph starts anew.
    ///
    /// # Errors
    /// Those of the engine; `Busy` where too many wait; `Timeout` when cancelled.
    pub(crate) async fn run_elsewhere(
        self: &Arc<Scheduler>,
        threads: &Threads,
        inputs: Vec<Tensor>,
        cancel: &Cancel,
    ) -> Result<Vec<Tensor>> {
        cancel.check()?;
        let mut counted = Counted {
            scheduler: self,
            since: Instant::now(),
            failure: Some(ErrorKind::Timeout),
        };
        let call = Call::new(inputs, cancel.clone());
        let result = match self.start(call) {
            Start::Now(call, session) => {
                let run =
                    move |scheduler: &Scheduler| scheduler.run_alone(call, session, &mut None);
                self.on_a_thread(threads, cancel, run).await
            }
            Start::Later(waiting) => self.wait_elsewhere(threads, waiting, cancel).await,
            Start::Refused(error) => Err(error),
        };
        counted.failure = result.as_ref().err().map(Error::kind);
        result
    }

    async fn wait_elsewhere(
        self: &Arc<Scheduler>,
        threads: &Threads,
        waiting: Arc<Waiting>,
        cancel: &Cancel,
    ) -> Result<Vec<Tensor>> {
        let since = Instant::now();
        let woken_by = waiting.clone();
        let _hook = cancel.on_cancel(move || woken_by.wake_to_stop());
        let mut queued = Queued {
            scheduler: self,
            waiting: Some(&waiting),
        };
        loop {
            self.hand_out(&mut self.state());
            match waiting.wait().await {
                Woken::Done(call) => {
                    queued.waiting = None;
                    return outputs(*call);
                }
                Woken::Failed(error) => {
                    queued.waiting = None;
                    return Err(error);
                }
                Woken::Leads(batch) => {
                    queued.waiting = None;
                    self.counters.waited(batch.calls(), since.elapsed());
                    let lead = move |scheduler: &Scheduler| scheduler.lead(batch, &mut None);
                    return self.on_a_thread(threads, cancel, lead).await;
                }
                Woken::Stopped => {
                    queued.waiting = None;
                    return Err(self.leave(&waiting));
                }
                Woken::Delayed => {}
            }
        }
    }

    /// Has a thread do what blocks. Where none can be had it is done here: a turn is never lost.
    async fn on_a_thread(
        self: &Arc<Scheduler>,
        threads: &Threads,
        cancel: &Cancel,
        run: impl FnOnce(&Scheduler) -> Result<Vec<Tensor>> + Send + 'static,
    ) -> Result<Vec<Tensor>> {
        let (sender, receiver) = oneshot::channel();
        let (scheduler, span) = (self.clone(), Span::current());
        let run = move || {
            let result = span.in_scope(|| run(&scheduler));
            // Nobody waits any more where the caller went away.
            let _ = sender.send(result);
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
            result = receiver => result.unwrap_or_else(|_| Err(panicked())),
            () = late => cancel.check().and_then(|()| Err(nothing())),
        }
    }
}

fn run_once(run: &Mutex<Option<impl FnOnce()>>) {
    let run = run.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(run) = run {
        run();
    }
}

/// Counts a call when it has ended, or its caller has gone.
struct Counted<'a> {
    scheduler: &'a Scheduler,
    since: Instant,
    failure: Option<ErrorKind>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.scheduler.counters.ended(self.failure, self.since);
    }
}

/// A call in the queue, which leaves with its caller.
struct Queued<'a> {
    scheduler: &'a Scheduler,
    waiting: Option<&'a Arc<Waiting>>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting {
            self.scheduler.leave(waiting);
        }
    }
}
