//! How long things took, as a histogram of plain atomic counters.
//!
//! The classes are the same everywhere: nine for each power of ten from 10 microseconds to 100 seconds, so that a
//! quantile that is read out of them is at most a third off.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds within one power of ten, in tenths of it.
const STEPS: [u64; 9] = [10, 15, 20, 25, 30, 40, 50, 60, 80];

/// The first bound, in nanoseconds, and how many powers of ten follow.
const FIRST: u64 = 10_000;
const POWERS: usize = 7;

/// How many classes there are, the last one, which has no bound, included.
const CLASSES: usize = STEPS.len() * POWERS + 1;

/// The upper bounds of all classes but the last in nanoseconds, from the least on.
pub(crate) const BOUNDS: [u64; CLASSES - 1] = bounds();

const fn bounds() -> [u64; CLASSES - 1] {
    let mut bounds = [0; CLASSES - 1];
    let (mut place, mut power) = (0, FIRST);
    while place < bounds.len() {
        bounds[place] = STEPS[place % STEPS.len()] * power / 10;
        place += 1;
        if place % STEPS.len() == 0 {
            power *= 10;
        }
    }
    bounds
}

/// How many things took how long.
pub(crate) struct Latencies {
    classes: [AtomicU64; CLASSES],
    /// Nanoseconds of all together.
    sum: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            classes: [const { AtomicU64::new(0) }; CLASSES],
            sum: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    pub(crate) fn add(&self, time: Duration) {
        let time = nanoseconds(time);
        let class = BOUNDS.partition_point(|bound| *bound < time);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(time, Ordering::Relaxed);
    }

    /// How many things were in each class, by the order of [`BOUNDS`], and last those that were above.
    pub(crate) fn counts(&self) -> [u64; CLASSES] {
        std::array::from_fn(|class| self.classes[class].load(Ordering::Relaxed))
    }

    /// The time of all together.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.load(Ordering::Relaxed))
    }
}

/// A time for a counter; more than 584 years are so many.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_class_whose_bound_it_does_not_pass() {
        assert!(BOUNDS.is_sorted());
        assert_eq!((BOUNDS[0], BOUNDS[9]), (10_000, 100_000));
        assert_eq!(BOUNDS[BOUNDS.len() - 1], 80_000_000_000);
        let latencies = Latencies::default();
        let cases = [
            (0, 0),
            (10_000, 0),
            (10_001, 1),
            (15_000, 1),
            (1_000_000, 18),
            (80_000_000_000, CLASSES - 2),
            (80_000_000_001, CLASSES - 1),
        ];
        for (time, class) in cases {
            let before = latencies.counts()[class];
            latencies.add(Duration::from_nanos(time));
            assert_eq!(latencies.counts()[class], before + 1, "{time}");
        }
        let all: u64 = cases.iter().map(|(time, _)| time).sum();
        assert_eq!(latencies.sum(), Duration::from_nanos(all));
    }
}
