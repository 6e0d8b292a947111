//! Peak EWMA: a moving average of latency that jumps up at once and comes down slowly.
//!
//! From Finagle's `PeakEwma` load metric. A sample above the average replaces it; one below pulls it down
//! with weight `1 − e^(−Δt/τ)`; and with no sample at all the average fades towards zero, so that an endpoint
//! nobody asks any more is asked again. It sees a slow endpoint after one answer, where a symmetric average
//! would send it another window's worth of requests. What it does badly: one straggler in a heavy-tailed
//! service taints its endpoint for several τ, which is why the balancer compares two endpoints and never
//! looks for the best of all.
//!
//! A failure is no latency. Taken for one, at the time it would have taken to give up, a single error in a thousand
//! answers kept its endpoint without work for the better part of a minute, and its peers had that to do as well. So
//! the share that fails is averaged beside the latency, evenly, and makes an endpoint as much dearer
//! ([`PeakEwma::penalty`]): an endpoint that fails fast attracts nothing, and one that fails now and then is forgiven.
//!
//! Depends on the clock's [`Instant`] only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Instant;

/// The time in which an unconfirmed average falls to 1/e of itself. Finagle's default.
pub const DECAY: Duration = Duration::from_secs(10);

/// The weight of one answer in the share that fails, at least: some sixteen answers are what it speaks of.
const FAILING_WEIGHT: f64 = 1.0 / 16.0;

/// How many times as dear an endpoint becomes that always fails, besides.
const PENALTY: f64 = 50.0;

/// Bits that stand for "no sample yet"; the bits of a NaN, so no average has them.
const UNKNOWN: u64 = u64::MAX;

/// A peak EWMA of latencies and an even one of failures, shared by all workers.
///
/// Values and stamp are relaxed atomics without a lock. Races are tolerated and bounded: of two samples
/// that meet, one may be lost or be weighted by the other's stamp, which is off by the few microseconds
/// between them. A torn pair can only mix values that were both true within that window, and the next sample
/// repairs it.
#[derive(Debug)]
pub struct PeakEwma {
    /// The average in nanoseconds, as the bits of an `f64`; [`UNKNOWN`] before the first sample.
    nanos: AtomicU64,
    /// The share of the latest answers that were failures, as the bits of an `f64`.
    failing: AtomicU64,
    /// When either was last written, in nanoseconds since [`Instant::ZERO`].
    stamp: AtomicU64,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self {
            nanos: AtomicU64::new(UNKNOWN),
            failing: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
        }
    }
}

impl PeakEwma {
    /// Starts the average at `value` unless it has one. A new endpoint is seeded with its pool's median: at
    /// zero it would draw every request until its first answers are in.
    pub fn seed(&self, value: Duration, now: Instant) {
        let seeded = self.nanos.compare_exchange(
            UNKNOWN,
            nanos_of(value).to_bits(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if seeded.is_ok() {
            self.stamp.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// Takes in that something was answered, and in what time.
    pub fn observe(&self, sample: Duration, now: Instant) {
        let sample = nanos_of(sample);
        let keep = self.fading(now);
        let next = match self.load() {
            Some(average) if sample < average => average.mul_add(keep, sample * (1.0 - keep)),
            Some(_) | None => sample,
        };
        self.nanos.store(next.to_bits(), Ordering::Relaxed);
        if self.failing.load(Ordering::Relaxed) != 0 {
            self.mix(0.0, keep);
        }
        self.stamp.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Takes in that something failed, and how long that took. A fast failure is no sign of speed: it leaves the latency
    /// as it is.
    pub fn fail(&self, took: Duration, now: Instant) {
        if let Some(average) = self.load() {
            let next = average.max(nanos_of(took));
            self.nanos.store(next.to_bits(), Ordering::Relaxed);
        }
        self.mix(1.0, self.fading(now));
        self.stamp.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// How many times as dear as by its latency the endpoint is at `now`, for what failed there; 1 or more.
    #[must_use]
    pub fn penalty(&self, now: Instant) -> f64 {
        let failing = f64::from_bits(self.failing.load(Ordering::Relaxed));
        if failing > 0.0 {
            1.0 + PENALTY * failing * self.fading(now)
        } else {
            1.0
        }
    }

    /// Moves the share that fails towards `to`, by more the longer ago the last answer was.
    fn mix(&self, to: f64, keep: f64) {
        /// What is less is none.
        const LEAST: f64 = 1e-4;
        let failing = f64::from_bits(self.failing.load(Ordering::Relaxed));
        let next = (to - failing).mul_add(FAILING_WEIGHT.max(1.0 - keep), failing);
        let next = if next < LEAST { 0.0 } else { next };
        self.failing.store(next.to_bits(), Ordering::Relaxed);
    }

    /// The average as it stands at `now`; none before the first sample.
    #[must_use]
    pub fn value(&self, now: Instant) -> Option<Duration> {
        self.value_nanos(now)
            .map(|nanos| Duration::try_from_secs_f64(nanos / 1e9).unwrap_or(Duration::MAX))
    }

    /// [`PeakEwma::value`] as a plain number of nanoseconds, for costs.
    #[must_use]
    pub fn value_nanos(&self, now: Instant) -> Option<f64> {
        self.load().map(|average| average * self.fading(now))
    }

    fn load(&self) -> Option<f64> {
        match self.nanos.load(Ordering::Relaxed) {
            UNKNOWN => None,
            bits => Some(f64::from_bits(bits)),
        }
    }

    /// The share of the average that is left at `now`.
    fn fading(&self, now: Instant) -> f64 {
        let stamp = Instant::from_nanos(self.stamp.load(Ordering::Relaxed));
        (-now.since(stamp).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

fn nanos_of(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn millis(ewma: &PeakEwma, now: Instant) -> f64 {
        ewma.value_nanos(now).unwrap() / 1e6
    }

    #[test]
    fn it_knows_nothing_before_the_first_sample() {
        let ewma = PeakEwma::default();
        assert_eq!(ewma.value(at(5)), None);
        ewma.observe(Duration::from_millis(7), at(5));
        assert_eq!(ewma.value(at(5)), Some(Duration::from_millis(7)));
    }

    #[test]
    fn it_jumps_up_at_once_and_comes_down_with_tau() {
        let ewma = PeakEwma::default();
        ewma.observe(Duration::from_millis(10), at(0));
        ewma.observe(Duration::from_millis(500), at(0));
        assert!((millis(&ewma, at(0)) - 500.0).abs() < 1e-6);

        // A steady 10 ms from here on: the distance shrinks by 1/e every 10 s.
        for tenth in 1..=100 {
            let now = Instant::from_nanos(tenth * 100_000_000);
            ewma.observe(Duration::from_millis(10), now);
        }
        let expected = 10.0 + 490.0 / std::f64::consts::E;
        assert!((millis(&ewma, at(10)) - expected).abs() < 1.0);
    }

    #[test]
    fn without_samples_it_fades_so_that_the_endpoint_is_tried_again() {
        let ewma = PeakEwma::default();
        ewma.observe(Duration::from_secs(1), at(0));
        assert!((millis(&ewma, at(10)) - 1000.0 / std::f64::consts::E).abs() < 1e-3);
        assert!(millis(&ewma, at(200)) < 1e-3);
    }

    #[test]
    fn who_fails_becomes_dearer_and_no_slower_and_is_forgiven() {
        let ewma = PeakEwma::default();
        ewma.observe(Duration::from_millis(40), at(0));
        assert!(ewma.penalty(at(0)) <= 1.0);
        ewma.fail(Duration::from_millis(2), at(0));
        let once = ewma.penalty(at(0));
        assert!(
            (once - (1.0 + PENALTY * FAILING_WEIGHT)).abs() < 1e-9,
            "{once}"
        );
        assert!((millis(&ewma, at(0)) - 40.0).abs() < 1e-6);
        ewma.fail(Duration::from_millis(300), at(0));
        assert!(
            (millis(&ewma, at(0)) - 300.0).abs() < 1e-6,
            "a slow one is slow as well"
        );
        for _ in 0..200 {
            ewma.fail(Duration::from_millis(2), at(0));
        }
        let always = ewma.penalty(at(0));
        assert!(always > PENALTY, "{always}");
        assert!(
            ewma.penalty(at(10)) < always / 2.0,
            "nobody knows how it fares now"
        );
        for _ in 0..200 {
            ewma.observe(Duration::from_millis(40), at(0));
        }
        assert!(ewma.penalty(at(0)) <= 1.0);
    }

    #[test]
    fn a_seed_counts_only_before_the_first_sample() {
        let ewma = PeakEwma::default();
        ewma.seed(Duration::from_millis(30), at(1));
        assert_eq!(ewma.value(at(1)), Some(Duration::from_millis(30)));
        ewma.observe(Duration::from_millis(90), at(1));
        ewma.seed(Duration::from_millis(1), at(1));
        assert_eq!(ewma.value(at(1)), Some(Duration::from_millis(90)));
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let ewma = PeakEwma::default();
        ewma.observe(Duration::from_millis(20), at(10));
        assert_eq!(ewma.value(at(9)), Some(Duration::from_millis(20)));
    }
}
