//! The last minute of one subject (a route, an upstream): requests, errors, latency quantiles.
//!
//! Seven slots of ten seconds in a ring, cleared as time passes over them: what is read covers between 60
//! and 70 seconds. Nothing rotates by itself; the slot a record falls into says whether it is stale.
//! Depends on the clock's types.

use std::time::Duration;

use super::sketch::Sketch;
use crate::clock::Instant;

const SLOTS: usize = 7;
const SLOT: Duration = Duration::from_secs(10);

/// What happened lately to one subject.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    slots: [Slot; SLOTS],
}

#[derive(Clone, Debug, Default)]
struct Slot {
    number: u64,
    requests: u64,
    errors: u64,
    latency: Sketch,
}

/// What [`Recent`] says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecentSummary {
    /// The time it covers.
    pub over: Duration,
    /// Exchanges that ended in it.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Median latency; none when nothing was measured.
    pub p50: Option<Duration>,
    /// 98th percentile.
    pub p98: Option<Duration>,
    /// 99th percentile.
    pub p99: Option<Duration>,
}

impl Recent {
    /// Counts one exchange that ended about `now`; `latency` in nanoseconds, if there is one to measure.
    pub fn record(&mut self, now: Instant, error: bool, latency: Option<u64>) {
        let number = slot_number(now);
        let index = usize::try_from(number % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if slot.number != number {
            slot.number = number;
            slot.requests = 0;
            slot.errors = 0;
            slot.latency.clear();
        }
        slot.requests += 1;
        slot.errors += u64::from(error);
        if let Some(nanos) = latency {
            slot.latency.record(nanos);
        }
    }

    /// What happened in the last minute before `now`, of a process that began at `start`.
    #[must_use]
    pub fn summary(&self, start: Instant, now: Instant) -> RecentSummary {
        let last = slot_number(now);
        let first = last.saturating_sub(SLOTS as u64 - 1);
        let mut latency = Sketch::default();
        let mut summary = RecentSummary {
            over: now.since(start.max(slot_start(first))),
            ..RecentSummary::default()
        };
        for slot in &self.slots {
            if (first..=last).contains(&slot.number) {
                summary.requests += slot.requests;
                summary.errors += slot.errors;
                latency.merge(&slot.latency);
            }
        }
        summary.p50 = latency.quantile(0.5);
        summary.p98 = latency.quantile(0.98);
        summary.p99 = latency.quantile(0.99);
        summary
    }
}

fn slot_number(now: Instant) -> u64 {
    now.since(Instant::ZERO).as_secs() / SLOT.as_secs()
}

fn slot_start(number: u64) -> Instant {
    Instant::ZERO.after(Duration::from_secs(number.saturating_mul(SLOT.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_minute_is_remembered_and_no_more_than_seventy_seconds() {
        let mut recent = Recent::default();
        recent.record(at(5), true, Some(1_000_000));
        let early = recent.summary(at(0), at(65));
        assert_eq!((early.requests, early.errors), (1, 1));
        assert_eq!(early.over, Duration::from_secs(65));
        let late = recent.summary(at(0), at(75));
        assert_eq!((late.requests, late.errors, late.p50), (0, 0, None));
        assert_eq!(late.over, Duration::from_secs(65));
    }

    #[test]
    fn a_slot_is_cleared_when_its_turn_comes_again() {
        let mut recent = Recent::default();
        for second in 0..1_000 {
            recent.record(at(second), false, None);
        }
        assert_eq!(recent.summary(at(0), at(999)).requests, 70);
        assert_eq!(recent.summary(at(0), at(999)).over, Duration::from_secs(69));
    }
}
