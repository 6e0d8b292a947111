//! What is known of one endpoint: atomics that workers write, and what the evaluation remembers.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::judge::{Counts, MIN_SAMPLES, Pace, Peers};
use super::latency::{Latencies, Sample};
use super::{DECAY, DOUBLINGS, FIRST, Standing, TRIAL, Why};
use crate::clock::Instant;
use crate::policy::breaker::Outcome;

/// Evaluations that failures are counted over.
const FAILURE_WINDOWS: usize = 5;

/// One endpoint as the outlier detection sees it. Kept for as long as the endpoint is listed.
#[derive(Debug, Default)]
pub struct EndpointStats {
    calls: AtomicU32,
    failures: AtomicU32,
    in_a_row: AtomicU32,
    latencies: Latencies,
    /// In nanoseconds; in the past when it is not ejected.
    ejected_until: AtomicU64,
    aside_until: AtomicU64,
    in_doubt: AtomicBool,
    memory: Mutex<Memory>,
}

/// What evaluations keep from one to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The last seconds, newest first.
    recent: [Counts; FAILURE_WINDOWS],
    /// Latencies that were not judged yet.
    pending: Sample,
    /// The last window that was judged.
    window: Sample,
    /// In how many windows in a row it was slow, and how.
    slow: Option<(u32, Why)>,
    /// How often the next ejection doubles.
    level: u32,
    /// Whether its return has yet to be told.
    pub(super) is_away: bool,
}

impl EndpointStats {
    /// Whether it must not be asked at `now`. Two relaxed loads.
    #[must_use]
    pub fn is_out(&self, now: Instant) -> bool {
        now < self.back_at()
    }

    /// Until when it is out, or when it came back: where its slow start begins. Zero if it never was away.
    #[must_use]
    pub fn back_at(&self) -> Instant {
        self.ejected_until().max(load(&self.aside_until))
    }

    /// Whether and why it is out at `now`. Says nothing about its health checks.
    #[must_use]
    pub fn standing(&self, now: Instant) -> Standing {
        let (ejected, aside) = (self.ejected_until(), load(&self.aside_until));
        if now < ejected {
            Standing::Ejected { until: ejected }
        } else if now < aside {
            Standing::Aside { until: aside }
        } else {
            Standing::InService
        }
    }

    /// Whether there is some evidence against it and not enough. See [`Detector::asks_in_doubt`].
    ///
    /// [`Detector::asks_in_doubt`]: super::Detector::asks_in_doubt
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }

    pub(super) fn set_in_doubt(&self, in_doubt: bool) {
        self.in_doubt.store(in_doubt, Ordering::Relaxed);
    }

    /// Counts a call that began at `started`, and returns how many have failed in a row. Calls that began
    /// before it came back say nothing about it now.
    pub(super) fn count(&self, started: Instant, outcome: Outcome) -> u32 {
        if started < self.back_at() {
            return 0;
        }
        match outcome {
            Outcome::Ignored => 0,
            Outcome::Success(latency) => {
                self.latencies.record(latency);
                // A load is cheaper than a store that every worker sees.
                if self.in_a_row.load(Ordering::Relaxed) != 0 {
                    self.in_a_row.store(0, Ordering::Relaxed);
                }
                self.calls.fetch_add(1, Ordering::Relaxed);
                0
            }
            Outcome::Failure => {
                self.calls.fetch_add(1, Ordering::Relaxed);
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.in_a_row
                    .fetch_add(1, Ordering::Relaxed)
                    .saturating_add(1)
            }
        }
    }

    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row.load(Ordering::Relaxed)
    }

    /// Whether it came back from an ejection so lately that less evidence is enough.
    pub(super) fn is_on_trial(&self, now: Instant) -> bool {
        let ejected = self.ejected_until();
        ejected != Instant::ZERO && now.since(ejected) < TRIAL
    }

    /// Moves what workers wrote since the last time into the memory.
    pub(super) fn roll(&self) {
        let memory = &mut *self.memory();
        memory.recent.rotate_right(1);
        if let Some(newest) = memory.recent.first_mut() {
            *newest = Counts {
                calls: self.calls.swap(0, Ordering::Relaxed),
                failures: self.failures.swap(0, Ordering::Relaxed),
            };
        }
        self.latencies.drain_into(&mut memory.pending);
    }

    /// Takes it out: twice as long as the last time, unless it was good for long.
    pub(super) fn eject(&self, now: Instant) -> Instant {
        let former = self.ejected_until();
        let mut memory = self.memory();
        if former != Instant::ZERO {
            let good = now.since(former).as_nanos() / DECAY.as_nanos();
            let level = (memory.level + 1).min(DOUBLINGS);
            memory.level = level.saturating_sub(u32::try_from(good).unwrap_or(u32::MAX));
        }
        let until = now.after(FIRST * 2_u32.pow(memory.level));
        self.ejected_until
            .store(until.as_nanos(), Ordering::Relaxed);
        self.forget(&mut memory);
        until
    }

    /// Leaves it alone for as long as it asked for.
    pub(super) fn set_aside(&self, now: Instant, time: Duration) -> Instant {
        let until = now.after(time).max(load(&self.aside_until));
        self.aside_until.store(until.as_nanos(), Ordering::Relaxed);
        let mut memory = self.memory();
        self.forget(&mut memory);
        until
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts over with the evidence, for when it comes back.
    fn forget(&self, memory: &mut Memory) {
        *memory = Memory {
            level: memory.level,
            is_away: true,
            ..Memory::default()
        };
        self.calls.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.in_a_row.store(0, Ordering::Relaxed);
        self.set_in_doubt(false);
        self.latencies.drain_into(&mut Sample::default());
    }

    fn ejected_until(&self) -> Instant {
        load(&self.ejected_until)
    }
}

impl Memory {
    /// Calls and failures of the last seconds, newest first.
    pub(super) const fn recent(&self) -> &[Counts] {
        &self.recent
    }

    /// The latest latencies that are enough to compare others with.
    pub(super) fn latencies(&self) -> &Sample {
        if self.pending.count() >= MIN_SAMPLES {
            &self.pending
        } else {
            &self.window
        }
    }

    /// Compares the latencies that came in lately with the others', and says whether they leave a doubt.
    pub(super) fn compare(&mut self, peers: &Peers, factor: f64) -> bool {
        match peers.pace(self.latencies(), &self.pending, factor) {
            Pace::Usual { in_doubt } => {
                self.slow = None;
                self.window = std::mem::take(&mut self.pending);
                in_doubt
            }
            Pace::Slow(why) => {
                let before = self.slow.map_or(0, |(windows, _)| windows);
                self.slow = Some((before + 1, why));
                self.window = std::mem::take(&mut self.pending);
                true
            }
            Pace::Unsure { all_slow } => {
                // The balancer avoids an endpoint that was slow, so that it has little to show afterwards.
                // Silence is no acquittal: what was found stands until an answer speaks against it.
                if let Some((windows, _)) = self.slow.as_mut().filter(|_| all_slow) {
                    *windows += 1;
                }
                self.slow.is_some() || self.pending.count() > 0
            }
        }
    }

    /// How it was slow, if it was in at least this many windows in a row.
    pub(super) fn slow_for(&self, windows: u32) -> Option<Why> {
        let enough = self.slow.filter(|&(slow, _)| slow >= windows);
        enough.map(|(_, why)| why)
    }
}

fn load(nanos: &AtomicU64) -> Instant {
    Instant::from_nanos(nanos.load(Ordering::Relaxed))
}
