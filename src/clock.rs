//! Time as a value.
//!
//! Policies and measurements never read a clock: they are handed an [`Instant`]. The data plane reads a
//! [`SystemClock`] once per phase and passes that reading down; tests move a [`ManualClock`] by hand, so
//! thousands of seconds pass in a millisecond. This module depends on nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in monotonic time: nanoseconds since the process first read its clock.
///
/// A plain number, so that it fits an atomic and a simulation can start at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start of time.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after [`Instant::ZERO`].
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since [`Instant::ZERO`].
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved forward by `duration`, saturating at the end of time (584 years).
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The monotonic time now.
    #[must_use]
    pub fn now(self) -> Instant {
        let nanos = monotonic_epoch().elapsed_nanos();
        Instant(nanos)
    }

    /// The wall-clock time now, in microseconds since the Unix epoch; zero before 1970.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    pub fn unix_micros(self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// The tokio and standard-library form of `at`, for timers.
    #[must_use]
    pub fn to_std(self, at: Instant) -> std::time::Instant {
        let epoch = monotonic_epoch().0;
        epoch
            .checked_add(Duration::from_nanos(at.0))
            .unwrap_or(epoch)
    }
}

struct Epoch(std::time::Instant);

impl Epoch {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    fn elapsed_nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the monotonic clock"
)]
fn monotonic_epoch() -> &'static Epoch {
    static EPOCH: OnceLock<Epoch> = OnceLock::new();
    EPOCH.get_or_init(|| Epoch(std::time::Instant::now()))
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// The simulated time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    /// Moves time forward by `by` and returns the new time.
    pub fn advance(&self, by: Duration) -> Instant {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        Instant(
            self.0
                .fetch_add(nanos, Ordering::Relaxed)
                .saturating_add(nanos),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards_and_saturates() {
        let early = Instant::from_nanos(5);
        let late = early.after(Duration::from_nanos(7));
        assert_eq!(late.since(early), Duration::from_nanos(7));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.after(Duration::MAX).as_nanos(), u64::MAX);
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = ManualClock::default();
        assert_eq!(clock.now(), Instant::ZERO);
        let at = clock.advance(Duration::from_secs(3_600));
        assert_eq!(at, clock.now());
        assert_eq!(at.since(Instant::ZERO), Duration::from_secs(3_600));
    }
}
