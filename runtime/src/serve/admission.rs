//! Who may run now: so many at one time, so many more wait in the order of their arrival, and whoever comes then is
//! refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use infer_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The entrance to something of which only so many may be at one time.
pub(crate) struct Admission {
    what: String,
    running: Arc<Semaphore>,
    most: usize,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// Leave to run. It is to live as long as what runs.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Admission {
    pub(crate) fn new(what: &str, most: usize, most_waiting: usize) -> Admission {
        Admission {
            what: what.to_owned(),
            running: Arc::new(Semaphore::new(most)),
            most,
            waiting: AtomicUsize::new(0),
            most_waiting,
        }
    }

    /// Waits for a permit; whoever stops waiting leaves the queue.
    ///
    /// # Errors
    /// `Busy` where as many wait as may.
    pub(crate) async fn enter(&self) -> Result<Permit> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _place = self.wait()?;
        self.running.clone().acquire_owned().await.map_err(|error| {
            Error::new(ErrorKind::RuntimeError, "the server is stopping").with_source(error)
        })
    }

    /// How many run now.
    pub(crate) fn running(&self) -> usize {
        self.most.saturating_sub(self.running.available_permits())
    }

    /// How many wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn wait(&self) -> Result<Place<'_>> {
        let add = |waiting| (waiting < self.most_waiting).then_some(waiting + 1);
        match self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        {
            Ok(_) => Ok(Place(&self.waiting)),
            Err(waiting) => {
                let message = format!(
                    "{} is busy: {} run and {waiting} wait already",
                    self.what, self.most
                );
                Err(Error::new(ErrorKind::Busy, message).with_hint("try again later"))
            }
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_run_so_many_wait_and_the_rest_is_refused() {
        let admission = Admission::new("guest `g`", 1, 1);
        let first = admission.enter().await.expect("room");
        let mut second = Box::pin(admission.enter());
        assert!(futures_poll(&mut second).await.is_none(), "it waits");
        let error = admission.enter().await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_eq!((admission.running(), admission.waiting()), (1, 1));
        drop(second);
        assert_eq!(admission.waiting(), 0, "who leaves gives the place back");
        let mut third = Box::pin(admission.enter());
        assert!(futures_poll(&mut third).await.is_none(), "it waits");
        drop(first);
        let permit = third.await.expect("its turn");
        assert_eq!(admission.running(), 1);
        drop(permit);
        assert_eq!(admission.running(), 0);
    }

    /// Polls once.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
