//! A latency histogram with fixed bounds, for export.
//!
//! The bounds are those of OpenTelemetry's `http.server.request.duration`, with finer ones below for a proxy
//! on a fast network and two above for long polls. They are whole nanoseconds, so that a value which equals
//! a bound lands in its bucket exactly, and two histograms merge without loss. What it does badly: a
//! quantile is only as fine as its bucket; for a live quantile see [`super::sketch`]. Beside them stand the finer
//! buckets of [`super::native`], for readers who ask for those.

use std::time::Duration;

use super::native::{self, Native};

/// Upper bounds of the buckets in nanoseconds, inclusive. One more bucket stands above them.
pub const BOUNDS: [u64; 19] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Buckets of a histogram: one more than there are bounds.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// For each bit length of a value: the number of bounds below every value of that length. The search for a
/// bucket starts there and takes at most two steps.
static FIRST: [u8; 65] = first_candidates();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which reports an index out of range"
)]
const fn first_candidates() -> [u8; 65] {
    let mut table = [0; 65];
    let mut bits = 1;
    while bits <= 64 {
        let smallest = 1_u64 << (bits - 1);
        let mut below = 0;
        while (below as usize) < BOUNDS.len() && BOUNDS[below as usize] < smallest {
            below += 1;
        }
        table[bits] = below;
        bits += 1;
    }
    table
}

/// The index of the bucket `nanos` belongs to.
#[must_use]
pub fn bucket(nanos: u64) -> usize {
    let bits = (u64::BITS - nanos.leading_zeros()) as usize;
    let mut index = FIRST.get(bits).copied().map_or(0, usize::from);
    while BOUNDS.get(index).is_some_and(|bound| *bound < nanos) {
        index += 1;
    }
    index
}

/// Counts of durations by bucket, and their exact sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    native: Native,
    sum: u128,
}

/// Where a duration belongs: found once, recorded in as many histograms as want it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    nanos: u64,
    bucket: usize,
    native: Option<i16>,
}

impl Place {
    /// Of a duration of `nanos` nanoseconds.
    #[must_use]
    pub fn of(nanos: u64) -> Self {
        Self {
            nanos,
            bucket: bucket(nanos),
            native: native::index(nanos),
        }
    }
}

impl Histogram {
    /// Counts one duration of `nanos` nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.record_at(Place::of(nanos));
    }

    /// Counts one duration.
    pub fn record_at(&mut self, place: Place) {
        if let Some(count) = self.buckets.get_mut(place.bucket) {
            *count += 1;
        }
        self.native.record(place.native);
        self.sum += u128::from(place.nanos);
    }

    /// Adds everything `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.native.merge(&other.native);
        self.sum += other.sum;
    }

    /// The finer buckets.
    #[must_use]
    pub const fn native(&self) -> &Native {
        &self.native
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The exact sum of all durations, in nanoseconds.
    #[must_use]
    pub const fn sum_nanos(&self) -> u128 {
        self.sum
    }

    /// Counts by bucket, not cumulated, each with its inclusive upper bound in nanoseconds; none for the
    /// bucket above all bounds.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = BOUNDS.iter().copied().map(Some).chain([None]);
        bounds.zip(self.buckets.iter().copied())
    }

    /// An estimate of the `q`-quantile, linear within its bucket; none when nothing was counted. Above the
    /// last bound the estimate is that bound.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = super::sketch::rank(q, self.count())?;
        let mut below = 0;
        let mut lower = 0;
        for (bound, count) in self.buckets() {
            let upper = bound.unwrap_or(lower);
            if rank <= below + count {
                let width = u128::from(upper - lower);
                let inside = width * u128::from(rank - below) / u128::from(count.max(1));
                return Some(Duration::from_nanos(
                    lower + u64::try_from(inside).unwrap_or(0),
                ));
            }
            below += count;
            lower = upper;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_the_bucket_below_it() {
        for (i, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!(bucket(bound), i);
            assert_eq!(bucket(bound + 1), i + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BOUNDS.len());
    }

    #[test]
    fn the_sum_does_not_overflow() {
        let histogram = of(&[u64::MAX, u64::MAX]);
        assert_eq!(histogram.sum_nanos(), 2 * u128::from(u64::MAX));
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let histogram = of(&[60_000_000; 4]);
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(62_500)));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_millis(75)));
        assert_eq!(of(&[u64::MAX]).quantile(0.5), Some(Duration::from_mins(1)));
    }

    proptest! {
        #[test]
        fn the_bucket_is_the_one_a_linear_search_finds(bits in 0_u32..64, noise: u64) {
            let nanos = noise >> bits;
            let linear = BOUNDS.iter().take_while(|bound| **bound < nanos).count();
            prop_assert_eq!(bucket(nanos), linear);
        }

        #[test]
        fn merging_equals_recording_into_one(
            a in proptest::collection::vec(0_u64..100_000_000_000, 0..50),
            b in proptest::collection::vec(0_u64..100_000_000_000, 0..50),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged.count(), (a.len() + b.len()) as u64);
            prop_assert!(merged.buckets().eq(of(&[a, b].concat()).buckets()));
        }
    }
}
