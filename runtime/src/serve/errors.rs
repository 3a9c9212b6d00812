//! The last errors of a server, for the page: a few, and short.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

/// How many are kept.
const KEPT: usize = 50;

/// The longest text of one, in bytes.
const LONGEST: usize = 400;

/// What went wrong with one request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    /// Seconds since 1970.
    at: u64,
    request: String,
    /// The guest or model.
    subject: String,
    text: String,
}

/// The last failures, the newest first.
#[derive(Default)]
pub(crate) struct LastErrors(Mutex<VecDeque<Failure>>);

impl LastErrors {
    pub(crate) fn add(&self, (request, subject): (&str, &str), text: &str) {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let failure = Failure {
            at: now.as_secs(),
            request: clipped(request),
            subject: clipped(subject),
            text: clipped(text),
        };
        let mut failures = self.failures();
        failures.truncate(KEPT - 1);
        failures.push_front(failure);
    }

    pub(crate) fn all(&self) -> Vec<Failure> {
        self.failures().iter().cloned().collect()
    }

    fn failures(&self) -> MutexGuard<'_, VecDeque<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn clipped(text: &str) -> String {
    let mut clipped = text[..text.floor_char_boundary(LONGEST)].to_owned();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_kept_the_newest_first_and_short() {
        let errors = LastErrors::default();
        for number in 0..KEPT + 3 {
            errors.add(
                ("id", "guest"),
                &format!("{number} {}", "ä".repeat(LONGEST)),
            );
        }
        let all = errors.all();
        assert_eq!(all.len(), KEPT);
        assert!(all[0].text.starts_with(&format!("{} ", KEPT + 2)));
        assert!(all[0].text.ends_with("ä…") && all[0].text.len() <= LONGEST + '…'.len_utf8());
        assert!(all[KEPT - 1].text.starts_with("3 "));
    }
}
