//! What the gate counts for whoever sets its limit.
//!
//! Each number is exact; a snapshot of several is not one moment, which a difference between two snapshots
//! forgives. The exception is the number in flight and the sum of their starts: were one taken before
//! and the other after a request ended, the sum of ages would be off by the age of the process. So these
//! two share a word: the count in the lower 20 bits, above them the sum in microseconds, which wraps after 203 days
//! and needs only the ages to sum to less than half of that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Completion;
use crate::clock::Instant;
use crate::policy::concurrency::Totals;

/// The running sums behind [`Totals`], on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Meter {
    running: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    ignored: AtomicU64,
    busy: AtomicU64,
    busy_square: AtomicU64,
}

const COUNT: u32 = 20;

impl Meter {
    pub(super) fn start(&self, at: Instant) {
        self.running.fetch_add(one(at), Ordering::Relaxed);
    }

    pub(super) fn stop(&self, started: Instant) {
        self.running.fetch_sub(one(started), Ordering::Relaxed);
    }

    pub(super) fn count(&self, completion: Completion, time: Duration) {
        match completion {
            Completion::Success => {
                let micros = whole(time.as_micros());
                self.completed.fetch_add(1, Ordering::Relaxed);
                self.busy
                    .fetch_add(whole(time.as_nanos()), Ordering::Relaxed);
                self.busy_square
                    .fetch_add(micros.wrapping_mul(micros), Ordering::Relaxed);
            }
            Completion::Failure => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            Completion::Ignored => {
                self.ignored.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Requests that run, with a slot or, while observing, without.
    pub(super) fn in_flight(&self) -> u32 {
        count(self.running.load(Ordering::Relaxed))
    }

    pub(super) fn totals(&self, now: Instant, limited: u64) -> Totals {
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        let running = read(&self.running);
        let in_flight = count(running);
        Totals {
            in_flight,
            started: u64::from(in_flight)
                .wrapping_mul(now.as_nanos())
                .wrapping_sub(ages(running, now)),
            completed: read(&self.completed),
            failed: read(&self.failed),
            ignored: read(&self.ignored),
            busy: read(&self.busy),
            busy_square: read(&self.busy_square),
            limited,
        }
    }
}

/// One request that started at `at`, as it is added to the word.
const fn one(at: Instant) -> u64 {
    ((at.as_nanos() / 1_000) << COUNT).wrapping_add(1)
}

fn count(running: u64) -> u32 {
    u32::try_from(running & ((1 << COUNT) - 1)).unwrap_or(0)
}

/// The sum of the ages in nanoseconds, wrapping; below zero if some started after `now`.
const fn ages(running: u64, now: Instant) -> u64 {
    let now = (now.as_nanos() / 1_000) << COUNT;
    let in_flight = running & ((1 << COUNT) - 1);
    let micros = now
        .wrapping_mul(in_flight)
        .wrapping_sub(running - in_flight);
    // The shift back keeps the sign.
    (micros.cast_signed() >> COUNT)
        .cast_unsigned()
        .wrapping_mul(1_000)
}

fn whole(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ages_of(totals: Totals, now: Instant) -> u64 {
        (totals.in_flight as u64)
            .wrapping_mul(now.as_nanos())
            .wrapping_sub(totals.started)
    }

    proptest! {
        #[test]
        fn the_ages_in_flight_are_known_to_a_microsecond_each(
            epoch in 0_u64..u64::MAX / 2,
            ages in prop::collection::vec(0_u64..100_000_000_000, 0..50),
        ) {
            let meter = Meter::default();
            let now = Instant::from_nanos(epoch + 100_000_000_000);
            let at = |age: &u64| Instant::from_nanos(now.as_nanos() - age);
            ages.iter().for_each(|age| meter.start(at(age)));
            let known = ages_of(meter.totals(now, 0), now);
            let sum: u64 = ages.iter().sum();
            prop_assert!(known.abs_diff(sum) <= 1_000 * ages.len() as u64, "{known} {sum}");
            ages.iter().for_each(|age| meter.stop(at(age)));
            prop_assert_eq!(meter.totals(now, 0), Totals::default());
        }
    }

    #[test]
    fn a_start_after_the_snapshot_is_a_small_age_below_zero() {
        let meter = Meter::default();
        meter.start(Instant::from_nanos(5_000_000));
        let now = Instant::from_nanos(2_000_000);
        let known = ages_of(meter.totals(now, 0), now).cast_signed();
        assert_eq!(known, -3_000_000);
    }
}
