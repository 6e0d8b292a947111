//! The proxy's protection of itself, with whether it acts: who is still admitted when it runs short of time,
//! memory or descriptors.
//!
//! Depends on policy, model and the clock's [`Instant`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::circuit::{AtomicMode, Mode};
use crate::clock::Instant;
use crate::model::{Reason, Rejection, Unit};
pub use crate::policy::protect::{Cutoff, Load};
use crate::policy::protect::{Protection, Resource};

/// When another try may be worth it: what sheds looks again within seconds.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The proxy's protection of itself, shared by all workers.
#[derive(Debug)]
pub struct Overload {
    protection: Protection,
    mode: AtomicMode,
}

impl Overload {
    /// Admits all of `tiers`.
    #[must_use]
    pub fn new(mode: Mode, tiers: usize) -> Self {
        Self {
            protection: Protection::new(count(tiers)),
            mode: AtomicMode::new(mode),
        }
    }

    /// Takes over other settings.
    pub fn update(&self, mode: Mode, tiers: usize) {
        self.mode.set(mode);
        self.protection.set_tiers(count(tiers));
    }

    /// Whether a request of `tier`, zero being the most important, may go on; with what it would have been
    /// refused for, did this act. Two loads while all is well.
    ///
    /// # Errors
    /// While the tier is shed.
    pub fn admit(&self, tier: u8) -> Result<Option<Rejection>, Rejection> {
        let mode = self.mode.get();
        if mode == Mode::Off {
            return Ok(None);
        }
        let Err(shed) = self.protection.admits(u32::from(tier)) else {
            return Ok(None);
        };
        let rejection = Rejection {
            reason: Reason::Overload,
            value: shed.value,
            threshold: shed.threshold,
            unit: match shed.what {
                Resource::LoopLag => Unit::Seconds,
                Resource::Memory | Resource::Descriptors => Unit::Ratio,
            },
            retry_after: RETRY_AFTER,
        };
        if mode == Mode::Enforce {
            Err(rejection)
        } else {
            Ok(Some(rejection))
        }
    }

    /// Decides anew. To be called by one thread, about ten times a second.
    pub fn judge(&self, load: Load, now: Instant) -> Cutoff {
        self.protection.update(load, now)
    }

    /// Whether it acts.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.get()
    }
}

fn count(tiers: usize) -> u32 {
    u32::try_from(tiers).unwrap_or(u32::MAX)
}

/// How late one worker's event loop runs.
#[derive(Debug)]
pub struct Pulse {
    /// When its next beat is due, in nanoseconds.
    due: AtomicU64,
    /// By how much a beat was late at most, since that was asked for, in nanoseconds.
    late: AtomicU64,
    /// How often it beat, and how late in all, in nanoseconds.
    beats: AtomicU64,
    late_total: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            due: AtomicU64::new(NEVER),
            late: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            late_total: AtomicU64::new(0),
        }
    }
}

/// Of a worker that does not beat.
const NEVER: u64 = u64::MAX;

impl Pulse {
    /// The worker beats, and will again after `period`.
    pub fn beat(&self, now: Instant, period: Duration) {
        let late = now
            .as_nanos()
            .saturating_sub(self.due.load(Ordering::Relaxed));
        self.late.fetch_max(late, Ordering::Relaxed);
        self.late_total.fetch_add(late, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.due
            .store(now.after(period).as_nanos(), Ordering::Relaxed);
    }

    /// The worker ends.
    pub fn stop(&self) {
        self.due.store(NEVER, Ordering::Relaxed);
    }

    /// How often it beat since the start, and how late in all.
    pub fn total(&self) -> (u64, Duration) {
        let late = self.late_total.load(Ordering::Relaxed);
        let beats = self.beats.load(Ordering::Relaxed);
        (beats, Duration::from_nanos(late))
    }

    /// How late it ran at most since the last call, or runs now.
    pub fn lag(&self, now: Instant) -> Duration {
        let overdue = now
            .as_nanos()
            .saturating_sub(self.due.load(Ordering::Relaxed));
        Duration::from_nanos(overdue.max(self.late.swap(0, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Instant {
        Instant::ZERO.after(Duration::from_millis(millis))
    }

    fn starved() -> Load {
        Load {
            memory_used_ratio: 1.0,
            ..Load::default()
        }
    }

    #[test]
    fn the_least_important_tier_goes_first_and_only_when_this_acts() {
        for mode in [Mode::Enforce, Mode::Observe, Mode::Off] {
            let overload = Overload::new(mode, 3);
            assert_eq!(overload.admit(2), Ok(None));
            assert_eq!(overload.judge(starved(), at(0)).admitted, 2);
            assert_eq!(overload.admit(1), Ok(None));
            let told = overload.admit(2);
            match mode {
                Mode::Enforce => {
                    let rejection = told.unwrap_err();
                    assert_eq!(rejection.reason, Reason::Overload);
                    assert_eq!((rejection.value, rejection.unit), (1.0, Unit::Ratio));
                }
                Mode::Observe => assert_eq!(told.unwrap().map(|it| it.value), Some(1.0)),
                Mode::Off => assert_eq!(told, Ok(None)),
            }
        }
    }

    #[test]
    fn a_pulse_tells_how_late_it_was_and_how_late_it_is() {
        let pulse = Pulse::default();
        assert_eq!(pulse.lag(at(1_000)), Duration::ZERO, "it has not begun");
        pulse.beat(at(1_000), PERIOD);
        pulse.beat(at(1_130), PERIOD);
        assert_eq!(pulse.lag(at(1_140)), Duration::from_millis(30));
        assert_eq!(pulse.lag(at(1_150)), Duration::ZERO, "it was told");
        assert_eq!(pulse.lag(at(1_930)), Duration::from_millis(700));
        pulse.stop();
        assert_eq!(pulse.lag(at(9_000)), Duration::ZERO);
        assert_eq!(pulse.total(), (2, Duration::from_millis(30)));
    }
}
