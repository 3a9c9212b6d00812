//! Threads for work that an engine may not let go of.
//!
//! The caller waits as a future. When it stops waiting, because a deadline passed, the thread is left to
//! itself until the engine returns; such threads are counted, and past a number of them no new work is
//! taken, so that hanging engines cannot eat the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use infer_core::{Error, ErrorKind, Result};

const MOST_ABANDONED: usize = 16;

/// Starts threads and counts the abandoned ones.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    abandoned: Arc<AtomicUsize>,
}

impl Threads {
    /// How many threads nobody waits for any more.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Runs `work` on a thread of its own with a stack of `stack` bytes.
    ///
    /// # Errors
    /// `RuntimeError` if no thread can be had or `work` panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &str,
        stack: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let hanging = self.abandoned();
        if hanging >= MOST_ABANDONED {
            let message =
                format!("{hanging} threads are in engine calls that could not be stopped");
            return Err(
                failed(&message).with_hint("restart the host, or give guests smaller models")
            );
        }
        let settled = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (ended, abandoned) = (settled.clone(), self.abandoned.clone());
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(stack)
            .spawn(move || {
                let done = catch_unwind(AssertUnwindSafe(work));
                // There is no receiver any more if the work was abandoned.
                let _ = sender.send(done);
                if ended.swap(true, Ordering::AcqRel) {
                    abandoned.fetch_sub(1, Ordering::Relaxed);
                }
            })
            .map_err(|error| failed("cannot start a thread").with_source(error))?;
        let _waiting = Waiting {
            settled,
            abandoned: self.abandoned.clone(),
        };
        match receiver.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(failed("the host panicked: this is a fault of infer")),
        }
    }
}

/// Counts the thread as abandoned if it is dropped before the thread ended.
struct Waiting {
    settled: Arc<AtomicBool>,
    abandoned: Arc<AtomicUsize>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            // A thread that has just sent its result takes this back at once.
            self.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
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
        let threads = Threads::default();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let work = threads.run("test", 1 << 20, move || blocked.recv());
        assert!(
            tokio::time::timeout(Duration::from_millis(20), work)
                .await
                .is_err()
        );
        assert_eq!(threads.abandoned(), 1);
        release.send(()).expect("the thread waits");
        while threads.abandoned() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..2 * MOST_ABANDONED {
            let panicking = threads.run("test", 1 << 20, || -> u8 { panic!("on purpose") });
            assert!(panicking.await.is_err());
        }
        while threads.abandoned() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(threads.run("test", 1 << 20, || 7).await.expect("runs"), 7);
    }
}
