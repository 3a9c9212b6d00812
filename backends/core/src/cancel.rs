//! A shared flag by which a caller asks running work to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, ErrorKind, Result};

/// Asks work to stop; clones share the flag.
///
/// A backend looks at it wherever the engine lets it: between the nodes of a graph, say. Work that
/// looks too seldom is abandoned by the host.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the stop, for good.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
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
}
