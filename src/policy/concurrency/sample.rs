//! What one window shows: concurrency, throughput and latency from the difference of two snapshots.

use super::fit::Point;
use crate::clock::Instant;

/// What the admission of one upstream has counted since it began. Sums only grow (and wrap); a controller
/// works on the differences between two snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests the upstream works on now.
    pub in_flight: u32,
    /// The wrapping sum of the instants, in nanoseconds, at which those in flight were admitted: `in_flight ×
    /// now − started` is the sum of their ages.
    pub started: u64,
    /// Requests that ended in success.
    pub completed: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that say nothing about the upstream.
    pub ignored: u64,
    /// Upstream time of the completed, in nanoseconds.
    pub busy: u64,
    /// The sum of the squares of that time, in square microseconds.
    pub busy_square: u64,
    /// Time during which somebody waited because the limit was full, in nanoseconds.
    pub limited: u64,
}

impl Totals {
    /// The sum of the ages of those in flight, in seconds.
    fn ages(&self, now: Instant) -> f64 {
        let ages = u64::from(self.in_flight)
            .wrapping_mul(now.as_nanos())
            .wrapping_sub(self.started);
        // A request may have started after `now` was read.
        signed(ages) / 1e9
    }
}

/// One window. Times are in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) time: f64,
    pub(super) completed: f64,
    pub(super) failed: f64,
    /// Mean number in flight.
    pub(super) concurrency: f64,
    /// Completions a second, the work that went into unfinished requests included.
    pub(super) throughput: f64,
    /// Mean upstream time.
    pub(super) latency: f64,
    /// The squared coefficient of variation of the upstream time.
    pub(super) variation: f64,
    /// The share of the window in which somebody waited.
    pub(super) limited: f64,
}

impl Sample {
    /// What happened between two snapshots. `variation` is what is known of it from windows before.
    pub(super) fn between(
        before: &Totals,
        after: &Totals,
        since: Instant,
        now: Instant,
        variation: f64,
    ) -> Self {
        let difference = |of: fn(&Totals) -> u64| count(of(after).wrapping_sub(of(before)));
        let time = now.since(since).as_secs_f64().max(1e-6);
        let completed = difference(|totals| totals.completed);
        let busy = difference(|totals| totals.busy) / 1e9;
        let latency = busy / completed.max(1.0);
        let square = difference(|totals| totals.busy_square) / 1e12 / completed.max(1.0);
        let aged = after.ages(now) - before.ages(since);
        let inside = if latency > 0.0 {
            aged / (latency * (1.0 + variation))
        } else {
            0.0
        };
        Self {
            time,
            completed,
            failed: difference(|totals| totals.failed),
            concurrency: ((aged + busy) / time).max(0.1),
            throughput: (completed + inside).max(0.5 * completed).max(0.1) / time,
            latency,
            variation: (square / (latency * latency).max(1e-12) - 1.0).clamp(0.0, 20.0),
            limited: difference(|totals| totals.limited) / 1e9 / time,
        }
    }

    pub(super) fn failure_ratio(&self) -> f64 {
        self.failed / (self.completed + self.failed).max(1.0)
    }

    pub(super) fn point(&self) -> Point {
        Point::new(self.concurrency, self.throughput)
    }

    /// The standard deviation to be expected of the throughput's logarithm.
    pub(super) fn noise(&self) -> f64 {
        ((0.02 + 0.5 * self.variation) / self.completed.max(1.0)).sqrt()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and times of one window are far below 2^53"
)]
const fn count(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ages in flight are far below 2^53 nanoseconds"
)]
const fn signed(value: u64) -> f64 {
    value.cast_signed() as f64
}
