//! Threads for work that an engine may not let go of.
//!
//! The caller waits as a future. When it stops waiting, because a deadline passed or its client went away, the thread is
//! left to itself until the engine returns. Those that still have not after a moment are counted as abandoned, and past a
//! number of them no new work is taken, so that hanging engines cannot eat the process. A thread that is done waits a while for other work: handing
//! it over costs less than starting a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infer_core::{Error, ErrorKind, Result};

/// How many threads may be abandoned where nothing else bounds them.
const MOST_ABANDONED: usize = 16;

/// The most threads that wait for work.
const MOST_IDLE: usize = 64;

/// How long a thread that nobody waits for may take to end before it counts as abandoned: engines stop between operators,
/// and clients that go away together are no fault of the engine.
const MOMENT: Duration = Duration::from_millis(200);

/// How many times as many threads may be left for a moment as may be abandoned.
const LEFT: usize = 4;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(5);

/// The largest stack that a waiting thread keeps, in bytes: what was touched of it stays resident.
const LARGEST_KEPT: usize = 4 << 20;

/// Starts threads, keeps some for more work, and counts the abandoned ones.
#[derive(Clone)]
pub(crate) struct Threads {
    most_abandoned: usize,
    left: Arc<Mutex<Vec<Left>>>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// Work that nobody waits for any more.
struct Left {
    since: Instant,
    settled: Arc<AtomicBool>,
}

/// A thread that waits for work.
struct Idle {
    id: std::thread::ThreadId,
    stack: usize,
    jobs: Sender<Job>,
}

/// Work for a thread, which calls what it is given once it may have other work, before it says that it is done.
type Job = Box<dyn FnOnce(&dyn Fn()) + Send>;

impl Threads {
    /// Threads for so many instances at one time, if that is known. An abandoned thread keeps its place among them, so that
    /// these bound it; one guest whose instances do not end must not keep others from starting.
    pub(crate) fn new(instances: Option<u32>) -> Threads {
        let instances = instances.map_or(0, |most| usize::try_from(most).unwrap_or(usize::MAX));
        Threads {
            most_abandoned: instances.max(MOST_ABANDONED),
            left: Arc::default(),
            idle: Arc::default(),
        }
    }

    /// How many threads nobody has waited for any more for a moment.
    pub(crate) fn abandoned(&self) -> usize {
        let mut left = lock(&self.left);
        left.retain(Left::goes_on);
        left.iter()
            .filter(|left| left.since.elapsed() > MOMENT)
            .count()
    }

    /// Runs `work` on a thread that does nothing else meanwhile, with a stack of `stack` bytes. The name is that of the
    /// thread's first work.
    ///
    /// # Errors
    /// `RuntimeError` if no thread can be had or `work` panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &str,
        stack: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.check()?;
        let (working, _waiting) = self.awaited();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let job = move |free: &dyn Fn()| {
            let done = catch_unwind(AssertUnwindSafe(work));
            if done.is_ok() {
                free();
            }
            // Before it is sent, so that nobody who has the result still counts this as abandoned.
            drop(working);
            // There is no receiver any more if the work was abandoned.
            let _ = sender.send(done);
        };
        self.hand_over(name, stack, Box::new(job))?;
        match receiver.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(panicked()),
        }
    }

    /// Whether more work may be taken that could be abandoned.
    ///
    /// # Errors
    /// `RuntimeError` where too much was.
    pub(crate) fn check(&self) -> Result<()> {
        let hanging = self.abandoned();
        // What is left faster than a moment passes is bounded, too.
        let left = lock(&self.left).len();
        if hanging < self.most_abandoned && left < LEFT * self.most_abandoned {
            return Ok(());
        }
        let hanging = hanging.max(left);
        let message = format!("{hanging} threads are in engine calls that could not be stopped");
        Err(failed(&message).with_hint("restart the host, or give guests smaller models"))
    }

    /// For work of a thread that somebody waits for: it is left when the second is dropped before the first.
    pub(crate) fn awaited(&self) -> (Working, Waiting) {
        let settled = Arc::new(AtomicBool::new(false));
        let waiting = Waiting {
            settled: settled.clone(),
            left: self.left.clone(),
        };
        (Working(settled), waiting)
    }

    /// Has a thread do what nobody is told the end of.
    ///
    /// # Errors
    /// `RuntimeError` if no thread can be had.
    pub(crate) fn detach(
        &self,
        name: &str,
        stack: usize,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let job = move |free: &dyn Fn()| {
            if catch_unwind(AssertUnwindSafe(work)).is_ok() {
                free();
            }
        };
        self.hand_over(name, stack, Box::new(job))
    }

    fn hand_over(&self, name: &str, stack: usize, mut job: Job) -> Result<()> {
        while let Some(jobs) = self.take_idle(stack) {
            match jobs.send(job) {
                Ok(()) => return Ok(()),
                // Cannot be, since a thread ends only when it has taken its name off.
                Err(returned) => job = returned.0,
            }
        }
        let threads = self.clone();
        let started = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(stack)
            .spawn(move || threads.work(stack, job));
        started
            .map(drop)
            .map_err(|error| failed("cannot start a thread").with_source(error))
    }

    /// A thread's life: its first work, then what else comes.
    fn work(&self, stack: usize, mut job: Job) {
        let (jobs, received) = channel();
        loop {
            let freed = AtomicBool::new(false);
            job(&|| freed.store(self.wait_for_work(stack, &jobs), Ordering::Relaxed));
            let next = match freed.into_inner() {
                true => self.next(&received),
                false => None,
            };
            match next {
                Some(next) => job = next,
                None => return,
            }
        }
    }

    /// Puts this thread among the waiting ones, if it may be there.
    fn wait_for_work(&self, stack: usize, jobs: &Sender<Job>) -> bool {
        let mut idle = self.idle();
        let kept = stack <= LARGEST_KEPT && idle.len() < MOST_IDLE;
        if kept {
            idle.push(Idle {
                id: std::thread::current().id(),
                stack,
                jobs: jobs.clone(),
            });
        }
        kept
    }

    /// The next work of this thread, which is among the waiting ones.
    fn next(&self, received: &Receiver<Job>) -> Option<Job> {
        if let Ok(job) = received.recv_timeout(IDLE) {
            return Some(job);
        }
        let this = std::thread::current().id();
        let mut idle = self.idle();
        match idle.iter().position(|idle| idle.id == this) {
            Some(place) => {
                idle.remove(place);
                None
            }
            None => {
                drop(idle);
                // Somebody has taken it and is about to send.
                received.recv().ok()
            }
        }
    }

    /// The thread that went to wait last, whose stack is warm.
    fn take_idle(&self, stack: usize) -> Option<Sender<Job>> {
        let mut idle = self.idle();
        let place = idle.iter().rposition(|idle| idle.stack == stack)?;
        Some(idle.remove(place).jobs)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        lock(&self.idle)
    }
}

fn lock<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Left {
    fn goes_on(&self) -> bool {
        !self.settled.load(Ordering::Acquire)
    }
}

/// Work that a thread does; ends when it is dropped.
pub(crate) struct Working(Arc<AtomicBool>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The work is left if this is dropped before it ended.
pub(crate) struct Waiting {
    settled: Arc<AtomicBool>,
    left: Arc<Mutex<Vec<Left>>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.settled.load(Ordering::Acquire) {
            return;
        }
        let mut left = lock(&self.left);
        // What has ended meanwhile is not kept for whoever counts.
        left.retain(Left::goes_on);
        left.push(Left {
            since: Instant::now(),
            settled: self.settled.clone(),
        });
    }
}

/// The error for work that panicked.
pub(crate) fn panicked() -> Error {
    failed("the host panicked: this is a fault of infer")
}

fn failed(message: &str) -> Error {
    Error::new(ErrorKind::RuntimeError, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread")]
    async fn abandoned_threads_are_counted_until_they_end() {
        let threads = Threads::new(None);
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let work = threads.run("test", 1 << 20, move || blocked.recv());
        assert!(
            tokio::time::timeout(Duration::from_millis(20), work)
                .await
                .is_err()
        );
        assert_eq!(threads.abandoned(), 0, "it has a moment to end");
        while threads.abandoned() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(threads.abandoned(), 1);
        release.send(()).expect("the thread waits");
        while threads.abandoned() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..2 * MOST_ABANDONED {
            let panicking = threads.run("test", 1 << 20, || -> u8 { panic!("on purpose") });
            assert!(panicking.await.is_err());
        }
        assert_eq!(threads.run("test", 1 << 20, || 7).await.expect("runs"), 7);
    }

    #[tokio::test]
    async fn a_thread_is_used_again_but_not_by_other_stacks_nor_after_a_panic() {
        let threads = Threads::new(None);
        let on = async |stack: usize| {
            let id = threads.run("test", stack, || std::thread::current().id());
            id.await.expect("runs")
        };
        let first = on(1 << 20).await;
        for _ in 0..100 {
            assert_eq!(on(1 << 20).await, first);
        }
        assert_ne!(on(2 << 20).await, first, "another size of stack");
        assert_eq!(on(1 << 20).await, first);
        assert_eq!(threads.idle().len(), 2);
        assert_ne!(on(64 << 20).await, on(64 << 20).await, "large stacks go");
        let panicking = threads.run("test", 1 << 20, || -> u8 { panic!("on purpose") });
        assert!(panicking.await.is_err());
        assert_ne!(on(1 << 20).await, first, "the panic may have left a mess");
    }
}
