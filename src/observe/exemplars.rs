//! A histogram that names, for each of its buckets, a trace that fell into it.
//!
//! Kept is the newest of a bucket, so the slow buckets, where one looks, keep theirs while the fast ones change all the
//! time. Only traces that are sent on are named: whoever follows one finds it. Bounded by the number of
//! buckets. Depends on measure.

use crate::measure::histogram::{self, Histogram};

/// One measurement and its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace.
    pub trace: u128,
    /// What was measured, in nanoseconds.
    pub nanos: u64,
    /// When it ended: microseconds since the Unix epoch.
    pub at: u64,
}

/// A histogram and the traces that stand for its buckets.
#[derive(Clone, Debug, Default)]
pub struct Timed {
    /// What was measured.
    pub histogram: Histogram,
    /// Empty until there is a first trace; then as many as there are buckets.
    exemplars: Vec<Option<Exemplar>>,
}

impl Timed {
    /// Names the trace of a measurement that the histogram has.
    pub fn name(&mut self, exemplar: Exemplar) {
        if self.exemplars.is_empty() {
            self.exemplars.resize(histogram::BUCKETS, None);
        }
        if let Some(slot) = self.exemplars.get_mut(histogram::bucket(exemplar.nanos)) {
            *slot = Some(exemplar);
        }
    }

    /// By bucket; empty when there are none.
    #[must_use]
    pub fn exemplars(&self) -> &[Option<Exemplar>] {
        &self.exemplars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_trace_of_a_bucket_stands_for_it_and_others_stay() {
        let mut timed = Timed::default();
        assert_eq!(timed.exemplars(), []);
        let of = |trace, nanos| Exemplar {
            trace,
            nanos,
            at: 1,
        };
        for exemplar in [of(1, u64::MAX), of(2, 1), of(3, 500_000), of(4, 500_001)] {
            timed.name(exemplar);
        }
        let named: Vec<_> = timed
            .exemplars()
            .iter()
            .flatten()
            .map(|e| e.trace)
            .collect();
        assert_eq!(named, [3, 4, 1]);
        assert_eq!(timed.exemplars().len(), histogram::BUCKETS);
    }
}
