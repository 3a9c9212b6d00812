//! What calls of a model take, by the shapes of their inputs: whether the next of its like is short.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use infer_core::Tensor;

/// The longest that a call may take to be short, in nanoseconds: about what it costs to hand one to another thread
/// where the processors are busy.
const SHORT: u64 = 200_000;

/// The most that is believed of one run: a single one that was interrupted does not make its like long.
const LONGEST: u64 = 4 * SHORT;

/// How many kinds of calls are remembered.
const KINDS: usize = 64;

/// A call's estimate is in the lower half of its place, what tells kinds of the same place apart in the upper.
const HALF: u32 = 32;

/// Nobody can choose shapes that look like others.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Running means of what calls took.
pub(super) struct Costs {
    means: [AtomicU64; KINDS],
    /// Whether anybody asks: where all callers have threads of their own nobody does, and nothing need be learned.
    asked: AtomicBool,
}

/// Calls with inputs of the same dtypes and shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u64);

impl Default for Costs {
    fn default() -> Costs {
        Costs {
            means: [const { AtomicU64::new(0) }; KINDS],
            asked: AtomicBool::new(false),
        }
    }
}

impl Costs {
    /// Whether it is worth learning from runs.
    pub(super) fn are_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The kind of a call.
    pub(super) fn kind(inputs: &[Tensor]) -> Kind {
        let mut hasher = SEED.build_hasher();
        for input in inputs {
            (input.dtype(), input.shape()).hash(&mut hasher);
        }
        Kind(hasher.finish())
    }

    /// Whether calls of this kind are known to be short.
    pub(super) fn is_short(&self, kind: Kind) -> bool {
        if !self.are_asked() {
            self.asked.store(true, Ordering::Relaxed);
        }
        let known = self.place(kind).load(Ordering::Relaxed);
        known >> HALF == kind.0 >> HALF && known & u64::from(u32::MAX) < SHORT && known != 0
    }

    /// Learns from a run that went well: how soon one fails says nothing of the others. Of two at one time that learn in
    /// the same place one may be forgotten.
    pub(super) fn ran(&self, kind: Kind, took: Duration) {
        let took = u64::try_from(took.as_nanos()).map_or(LONGEST, |took| took.min(LONGEST));
        let place = self.place(kind);
        let known = place.load(Ordering::Relaxed);
        let mean = known & u64::from(u32::MAX);
        let mean = match known >> HALF == kind.0 >> HALF && known != 0 {
            true => (mean * 7 + took) / 8,
            false => took,
        };
        place.store((kind.0 >> HALF << HALF) | mean, Ordering::Relaxed);
    }

    fn place(&self, kind: Kind) -> &AtomicU64 {
        // Cannot be out of bounds.
        &self.means[usize::try_from(kind.0 % KINDS as u64).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infer_core::Dtype;

    fn kind(shape: &[usize]) -> Kind {
        let bytes = vec![0; shape.iter().product()];
        let tensor = Tensor::copied_from(Dtype::U8, shape.to_vec(), &bytes).expect("valid");
        Costs::kind(&[tensor])
    }

    #[test]
    fn only_calls_whose_like_was_short_are_short() {
        let costs = Costs::default();
        let (small, turned) = (kind(&[1, 8]), kind(&[8, 1]));
        assert_eq!(small, kind(&[1, 8]));
        assert_ne!(small, turned, "as many bytes, but another shape");
        assert!(!costs.is_short(small), "nothing is known");
        costs.ran(small, Duration::from_micros(20));
        assert!(costs.is_short(small));
        assert!(!costs.is_short(turned));
        costs.ran(small, Duration::from_secs(1));
        assert!(costs.is_short(small), "one may have been interrupted");
        costs.ran(small, Duration::from_secs(1));
        assert!(!costs.is_short(small));
        for _ in 0..20 {
            costs.ran(small, Duration::from_micros(20));
        }
        assert!(costs.is_short(small));
        for rows in 0..1000 {
            costs.ran(kind(&[rows, 3]), Duration::from_millis(5));
        }
        assert!(!costs.is_short(small), "its place was taken");
    }
}
