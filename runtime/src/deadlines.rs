//! What is to happen at deadlines: one thread that waits for the next one.
//!
//! A deadline is noted for each instance and nearly always taken back before it comes, so noting one is cheap: the
//! waiting thread is woken only where it would sleep too long. It starts with the first deadline and ends when
//! there has been none for a while.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infer_core::{Error, ErrorKind, Result};

/// How long the thread waits for a first deadline before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// The deadlines of one engine's instances.
#[derive(Clone, Default)]
pub(crate) struct Deadlines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    earlier: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<(Instant, u64), Act>,
    next: u64,
    /// Until when the thread sleeps; `None` where there is no thread.
    asleep_until: Option<Instant>,
}

type Act = Box<dyn FnOnce() + Send>;

/// Takes a deadline back when it is dropped.
pub(crate) struct Noted {
    deadlines: Deadlines,
    key: (Instant, u64),
}

impl Deadlines {
    /// Has `act` called at that time, on a thread that others' deadlines wait for: it must be short.
    ///
    /// # Errors
    /// `RuntimeError` if no thread can be had.
    pub(crate) fn at(&self, time: Instant, act: impl FnOnce() + Send + 'static) -> Result<Noted> {
        let mut queue = self.queue();
        let key = (time, queue.next);
        queue.next += 1;
        match queue.asleep_until {
            Some(until) if until <= time => {}
            Some(_) => self.0.earlier.notify_one(),
            None => {
                self.start()?;
                queue.asleep_until = Some(time);
            }
        }
        queue.waiting.insert(key, Box::new(act));
        drop(queue);
        Ok(Noted {
            deadlines: self.clone(),
            key,
        })
    }

    fn start(&self) -> Result<()> {
        let deadlines = self.clone();
        let started = std::thread::Builder::new()
            .name("infer-deadlines".to_owned())
            .spawn(move || deadlines.watch());
        started.map(drop).map_err(|error| {
            Error::new(ErrorKind::RuntimeError, "cannot start a thread").with_source(error)
        })
    }

    fn watch(&self) {
        let mut queue = self.queue();
        loop {
            let now = Instant::now();
            while let Some(due) = queue.waiting.first_entry().filter(|due| due.key().0 <= now) {
                let act = due.remove();
                drop(queue);
                // A panic of one must not be the end of all others' deadlines.
                let _ = catch_unwind(AssertUnwindSafe(act));
                queue = self.queue();
            }
            let next = queue.waiting.first_key_value().map(|((time, _), _)| *time);
            let until = next.unwrap_or(now + IDLE);
            queue.asleep_until = Some(until);
            let slept = self
                .0
                .earlier
                .wait_timeout(queue, until.saturating_duration_since(now));
            queue = slept.unwrap_or_else(PoisonError::into_inner).0;
            if next.is_none() && queue.waiting.is_empty() && Instant::now() >= until {
                queue.asleep_until = None;
                return;
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let act = self.deadlines.queue().waiting.remove(&self.key);
        // What it holds is dropped without the lock.
        drop(act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn deadlines_come_in_their_order_unless_taken_back() {
        let deadlines = Deadlines::default();
        let (sender, happened) = mpsc::channel();
        let now = Instant::now();
        let note = |name: u8, after: u64| {
            let sender = sender.clone();
            let time = now + Duration::from_millis(after);
            deadlines.at(time, move || sender.send(name).expect("the test waits"))
        };
        let noted: Vec<Noted> = [(3, 60), (1, 20), (2, 40)]
            .into_iter()
            .map(|(name, after)| note(name, after).expect("a thread"))
            .collect();
        drop(note(9, 30).expect("a thread"));
        let past = note(0, 0).expect("a thread");
        let order: Vec<u8> = happened.iter().take(4).collect();
        assert_eq!(order, [0, 1, 2, 3]);
        drop((noted, past, sender));
        assert_eq!(happened.iter().next(), None, "what was taken back is gone");
    }
}
