//! Who takes turns with others.

use std::sync::atomic::{AtomicU64, Ordering};

/// Whose calls of a model are one in the taking of turns: those of all instances of a guest. The default is that of
/// everybody else, the clients of a server together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Owner(u64);

impl Owner {
    /// One more than there were.
    pub(crate) fn new() -> Owner {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Owner(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
