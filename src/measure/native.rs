//! The buckets of a Prometheus native histogram.
//!
//! Schema 3: eight buckets for every doubling of a value, each 9% wide, those of all series the same, so that any
//! two merge without loss. Kept are the buckets between the smallest and the largest value seen, and no others: of
//! what is told in nanoseconds there are 512 at most. Source: Prometheus, "Native Histograms", Schemas. Depends
//! on nothing.

use std::f64::consts::SQRT_2;

/// The schema: the base of its buckets is 2^(2^-3).
pub const SCHEMA: i32 = 3;

/// Buckets for each doubling of a value.
const PER_DOUBLING: i16 = 1 << SCHEMA;

/// The bounds between one and two: 2^(i/8).
const BOUNDS: [f64; PER_DOUBLING as usize] = [
    1.0,
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];

/// The bucket of a duration of `nanos`: i holds what is above base^(i-1) seconds, up to base^i. None for zero, which
/// has a bucket of its own.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "the format's numbers are f64")]
pub fn index(nanos: u64) -> Option<i16> {
    if nanos == 0 {
        return None;
    }
    const MANTISSA: u32 = f64::MANTISSA_DIGITS - 1;
    let bits = (nanos as f64 / 1e9).to_bits();
    // Above zero and far from the smallest number there is, so the exponent is what it says.
    let exponent = (bits >> MANTISSA) as i16 - 1_023;
    let one = 1.0_f64.to_bits();
    let fraction = f64::from_bits(bits & ((1 << MANTISSA) - 1) | one);
    let below = BOUNDS.iter().map(|bound| i16::from(*bound < fraction));
    Some(exponent * PER_DOUBLING + below.sum::<i16>())
}

/// Counts of durations by [`index`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Native {
    zero: u64,
    first: i16,
    counts: Vec<u64>,
}

impl Native {
    /// Counts one duration in the bucket that [`index`] says.
    pub fn record(&mut self, index: Option<i16>) {
        self.add(index, 1);
    }

    fn add(&mut self, index: Option<i16>, count: u64) {
        let Some(index) = index else {
            self.zero += count;
            return;
        };
        let known = usize::try_from(index - self.first).ok();
        if let Some(slot) = known.and_then(|at| self.counts.get_mut(at)) {
            *slot += count;
        } else {
            self.reach(index);
            let at = usize::try_from(index - self.first).unwrap_or(0);
            if let Some(slot) = self.counts.get_mut(at) {
                *slot += count;
            }
        }
    }

    /// Makes room for the bucket `index`.
    #[cold]
    fn reach(&mut self, index: i16) {
        if self.counts.is_empty() {
            self.first = index;
        }
        let before = usize::try_from(self.first - index).unwrap_or(0);
        self.counts.splice(..0, std::iter::repeat_n(0, before));
        self.first = self.first.min(index);
        let needed = usize::try_from(index - self.first).map_or(0, |at| at + 1);
        if self.counts.len() < needed {
            self.counts.resize(needed, 0);
        }
    }

    /// Adds everything `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.zero += other.zero;
        for (index, count) in other.buckets() {
            self.add(Some(index), count);
        }
    }

    /// How many durations were zero.
    #[must_use]
    pub const fn zero(&self) -> u64 {
        self.zero
    }

    /// The buckets that hold any, by [`index`], ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (i16, u64)> + '_ {
        let buckets = (self.first..).zip(self.counts.iter().copied());
        buckets.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn upper(index: i16) -> f64 {
        (f64::from(index) / f64::from(PER_DOUBLING)).exp2()
    }

    #[test]
    fn a_power_of_two_is_the_upper_bound_of_its_bucket() {
        assert_eq!(index(1_000_000_000), Some(0));
        assert_eq!(index(1_000_000_001), Some(1));
        assert_eq!(index(500_000_000), Some(-8));
        assert_eq!(index(2_000_000_000), Some(8));
        assert_eq!(index(0), None);
        assert_eq!(index(1), Some(-239));
        assert!(index(u64::MAX).is_some());
    }

    #[test]
    fn room_is_made_on_both_sides() {
        let mut native = Native::default();
        for index in [5, -3, 9, 5] {
            native.record(Some(index));
        }
        native.record(None);
        let buckets: Vec<_> = native.buckets().collect();
        assert_eq!(buckets, [(-3, 1), (5, 2), (9, 1)]);
        assert_eq!(native.zero(), 1);
    }

    proptest! {
        #[test]
        #[expect(clippy::cast_precision_loss, reason = "as in what is tested")]
        fn a_value_lies_within_its_bucket(bits in 0_u32..64, noise: u64) {
            let nanos = (noise >> bits).max(1);
            let seconds = nanos as f64 / 1e9;
            let index = index(nanos).unwrap();
            let rounding = 1.0 + 1e-15;
            prop_assert!(seconds <= upper(index) * rounding);
            prop_assert!(seconds > upper(index - 1) / rounding);
        }

        #[test]
        fn merging_equals_recording_into_one(
            a in proptest::collection::vec(-240_i16..200, 0..50),
            b in proptest::collection::vec(-240_i16..200, 0..50),
        ) {
            let of = |values: &[i16]| {
                let mut native = Native::default();
                values.iter().for_each(|index| native.record(Some(*index)));
                native
            };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let both = of(&[a, b].concat());
            prop_assert!(merged.buckets().eq(both.buckets()));
        }
    }
}
