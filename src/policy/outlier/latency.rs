//! How an endpoint's latencies are spread, four buckets to the octave.
//!
//! A quantile is off by up to a quarter, which is enough to tell three times slower from equally fast, and
//! recording is one addition. From 16 µs; what is above 128 s counts as 128 s.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::policy::setting::nanos;

const BUCKETS: usize = 88;

/// The unit is 2^14 ns, 16.4 µs.
const UNIT_BITS: u32 = 14;

/// The distribution as workers write it.
#[derive(Debug)]
pub(super) struct Latencies([AtomicU32; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; BUCKETS])
    }
}

impl Latencies {
    pub(super) fn record(&self, latency: Duration) {
        if let Some(bucket) = self.0.get(bucket_of(latency)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Moves everything into `sample`.
    pub(super) fn drain_into(&self, sample: &mut Sample) {
        for (from, to) in self.0.iter().zip(&mut sample.0) {
            *to += from.swap(0, Ordering::Relaxed);
        }
    }
}

/// The distribution over a window.
#[derive(Clone, Debug)]
pub(super) struct Sample([u32; BUCKETS]);

impl Default for Sample {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Sample {
    pub(super) fn count(&self) -> u32 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (to, from) in self.0.iter_mut().zip(&other.0) {
            *to += from;
        }
    }

    /// The 90th percentile by nearest rank, as the lower edge of its bucket; zero without samples.
    pub(super) fn p90(&self) -> Duration {
        let rank = (u64::from(self.count()) * 9).div_ceil(10);
        let mut seen = 0;
        for (index, &count) in self.0.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return lower_edge(index);
            }
        }
        Duration::ZERO
    }

    /// Samples in the buckets above the one `bound` falls into.
    pub(super) fn above(&self, bound: Duration) -> u32 {
        self.0.iter().skip(bucket_of(bound) + 1).sum()
    }
}

fn bucket_of(latency: Duration) -> usize {
    let units = nanos(latency) >> UNIT_BITS;
    let index = match units.checked_ilog2() {
        None | Some(0 | 1) => units,
        Some(octave) => u64::from(octave - 1) * 4 + ((units >> (octave - 2)) & 3),
    };
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

fn lower_edge(index: usize) -> Duration {
    let index = index as u64;
    let units = if index < 4 {
        index
    } else {
        (4 + index % 4) << (index / 4 - 1)
    };
    Duration::from_nanos(units << UNIT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_begins_at_its_lower_edge() {
        for index in 0..BUCKETS {
            let edge = lower_edge(index);
            assert_eq!(bucket_of(edge), index);
            if index > 0 {
                assert_eq!(bucket_of(edge - Duration::from_nanos(1)), index - 1);
            }
        }
        assert!(lower_edge(BUCKETS - 1) > Duration::from_secs(100));
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_p90_is_right_within_a_quarter() {
        let latencies = Latencies::default();
        for millis in 1..=1_000 {
            latencies.record(Duration::from_millis(millis));
        }
        let mut sample = Sample::default();
        latencies.drain_into(&mut sample);
        let p90 = sample.p90().as_secs_f64();
        assert!(p90 <= 0.9 && p90 > 0.9 / 1.25, "{p90}");
        assert_eq!(sample.count(), 1_000);
        let above = sample.above(Duration::from_millis(500));
        assert!((400..=500).contains(&above), "{above}");
        latencies.drain_into(&mut sample);
        assert_eq!(sample.count(), 1_000, "what was taken is gone");
        assert_eq!(Sample::default().p90(), Duration::ZERO);
    }
}
