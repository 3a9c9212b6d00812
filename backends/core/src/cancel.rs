//! A shared flag by which a caller asks running work to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Error, ErrorKind, Result};

/// Asks work to stop; clones share the flag.
///
/// A backend looks at it wherever the engine lets it, between the nodes of a graph, say, or has the engine
/// told by [`Cancel::on_cancel`]. Work that stops too late is abandoned by the host.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next: u64,
    waiting: Vec<(u64, Box<dyn FnOnce() + Send>)>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} hooks", self.waiting.len())
    }
}

impl Cancel {
    /// Asks for the stop, for good, and runs the hooks on this thread.
    pub fn cancel(&self) {
        // Under the lock, so that a hook which is being added either sees the flag or is found here.
        let mut hooks = self.hooks();
        self.0.cancelled.store(true, Ordering::Release);
        for (_, hook) in std::mem::take(&mut hooks.waiting) {
            hook();
        }
    }

    /// Whether the stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Fails once the stop was asked for.
    ///
    /// # Errors
    /// `Timeout`, since a deadline is what cancels.
    pub fn check(&self) -> Result<()> {
        match self.is_cancelled() {
            true => Err(Error::new(
                ErrorKind::Timeout,
                "the deadline passed before the work was done",
            )),
            false => Ok(()),
        }
    }

    /// Has `hook` called when the stop is asked for, at once if it was already, and at the latest until the
    /// [`Hook`] is dropped. It must be short, must not touch this flag, and runs on the canceller's thread.
    ///
    /// Once the `Hook` is dropped the hook neither runs nor will run, so it may use what outlives that.
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) -> Hook {
        let mut hooks = self.hooks();
        let id = hooks.next;
        hooks.next += 1;
        if self.is_cancelled() {
            hook();
        } else {
            hooks.waiting.push((id, Box::new(hook)));
        }
        drop(hooks);
        Hook {
            cancel: self.clone(),
            id,
        }
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a hook of [`Cancel::on_cancel`]; dropping it takes the hook back.
#[must_use = "the hook is taken back when this is dropped"]
#[derive(Debug)]
pub struct Hook {
    cancel: Cancel,
    id: u64,
}

impl Hook {
    /// Whether this is the flag that it waits for.
    pub fn waits_for(&self, cancel: &Cancel) -> bool {
        Arc::ptr_eq(&self.cancel.0, &cancel.0)
    }

    /// Takes the hook back; answers whether it was called.
    pub fn take_back(self) -> bool {
        let cancel = self.cancel.clone();
        drop(self);
        cancel.is_cancelled()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // Waits for a canceller that is running the hooks.
        let mut hooks = self.cancel.hooks();
        hooks.waiting.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn hooks_run_once_and_not_after_they_were_taken_back() {
        let (cancel, runs) = (Cancel::default(), Arc::new(AtomicUsize::new(0)));
        let counting = || {
            let runs = runs.clone();
            cancel.on_cancel(move || {
                runs.fetch_add(1, Ordering::Relaxed);
            })
        };
        assert!(!counting().take_back());
        let kept = counting();
        cancel.cancel();
        cancel.cancel();
        assert_eq!(runs.load(Ordering::Relaxed), 1, "only the kept one");
        let late = counting();
        assert_eq!(runs.load(Ordering::Relaxed), 2, "a late one runs at once");
        assert!(kept.waits_for(&cancel) && !kept.waits_for(&Cancel::default()));
        assert!(kept.take_back() && late.take_back());
        assert!(cancel.check().is_err());
    }
}
