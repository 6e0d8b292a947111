//! Quotas that the processes of a fleet share.
//!
//! Each process decides by what it knows, and tells the others again and again what was used with it; see
//! [`Limit::report`] and [`Limit::learn`]. Between two reports it lets pass no more of a key's quota than its part
//! of what is left as far as it knows, and one unit at least. So a fleet lets less than a burst more pass than one
//! process would, and that only where it has not heard yet; it is paid off like any debt. While the others cannot be
//! told, each goes by its part of the quota.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::{Limit, Limiter, Moment, Quota, Standing};
use crate::policy::rate::Pending;

/// How often the processes tell each other what was used.
pub const EVERY: Duration = Duration::from_millis(100);

/// Keys that a process can use between two reports before they are counted for one another.
const MOST_PENDING: usize = 65_536;

/// What a process knows of its fleet.
#[derive(Debug)]
pub struct Fleet {
    processes: AtomicU32,
    away: AtomicBool,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            processes: AtomicU32::new(1),
            away: AtomicBool::new(false),
        }
    }
}

impl Fleet {
    /// How many processes share the quotas, as far as is known; this one at least.
    #[must_use]
    pub fn processes(&self) -> u32 {
        self.processes.load(Ordering::Relaxed).max(1)
    }

    /// So many processes share the quotas.
    pub fn set_processes(&self, count: u32) {
        self.processes.store(count, Ordering::Relaxed);
    }

    /// Whether the others cannot be told.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Whether the others cannot be told from now on.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }
}

/// What a process tells of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who.
    pub key: u64,
    /// What was used since the last report, in the measure of [`Limit::used`]; below zero, given back.
    pub change: i64,
    /// All that this process knows of, the change included.
    pub used: u64,
    units: i64,
}

/// A quota's part in the fleet.
#[derive(Debug)]
pub(super) struct Shared {
    pending: Pending,
    fleet: Arc<Fleet>,
}

impl Shared {
    pub(super) fn new(fleet: &Arc<Fleet>, max_keys: usize) -> Arc<Self> {
        Arc::new(Self {
            pending: Pending::new(max_keys.min(MOST_PENDING)),
            fleet: Arc::clone(fleet),
        })
    }

    /// What this process goes by. A calendar's count stays known, and its part is that of what is left.
    pub(super) fn quota(&self, whole: &Quota) -> Quota {
        if self.fleet.is_away() && !whole.is_calendar() {
            whole.part(self.fleet.processes())
        } else {
            *whole
        }
    }

    /// Takes one unit of `key`'s quota.
    pub(super) fn take(&self, limiter: &Limiter, whole: &Quota, key: u64, now: Moment) -> Standing {
        let quota = self.quota(whole);
        let standing = limiter.take(&quota, key, now, 1);
        if !standing.passed || !self.reports(whole) {
            return standing;
        }
        let pending = u64::try_from(self.pending.get(key)).unwrap_or(0);
        let left = standing.remaining.saturating_add(1 + pending);
        let part = left / u64::from(self.fleet.processes());
        if pending > 0 && pending + 1 > part {
            limiter.refund(&quota, key, now, 1);
            return Standing {
                passed: false,
                remaining: 0,
                retry_after: Some(EVERY),
                ..standing
            };
        }
        self.pending.add(key, 1);
        standing
    }

    /// What was used of `key` has changed by so many units.
    pub(super) fn add(&self, whole: &Quota, key: u64, units: i64) {
        if self.reports(whole) {
            self.pending.add(key, units);
        }
    }

    /// Whether what is used now is told, be it later: what a sliding quota has used comes back by itself.
    fn reports(&self, whole: &Quota) -> bool {
        whole.is_calendar() || !self.fleet.is_away()
    }
}

impl Limit {
    /// Whether the processes of a fleet share it.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What was used since it was last asked for, by key. Whoever asks has to tell it, or [take it
    /// back](Self::unreported).
    #[must_use]
    pub fn report(&self, now: Moment) -> Vec<Report> {
        let Some(shared) = &self.shared else {
            return Vec::new();
        };
        let (limiter, quota) = (&self.state.limiter, &self.settings.quota);
        let reports = shared.pending.drain().map(|(key, units)| {
            let price = Limiter::price(quota, units.unsigned_abs());
            let price = i64::try_from(price).unwrap_or(i64::MAX);
            Report {
                key,
                change: if units < 0 { -price } else { price },
                used: limiter.used_by(quota, key, now),
                units,
            }
        });
        reports.collect()
    }

    /// What all processes have used of `key`, in the measure of [`Limit::used`], when the last report had been told.
    pub fn learn(&self, key: u64, now: Moment, used: u64) {
        if let Some(shared) = &self.shared {
            let (limiter, quota) = (&self.state.limiter, &self.settings.quota);
            limiter.learn(quota, key, now, used, || shared.pending.get(key));
        }
    }

    /// These could not be told. A calendar's count is told later; what a sliding quota has used comes back by itself.
    pub fn unreported(&self, reports: &[Report]) {
        if let Some(shared) = &self.shared
            && self.settings.quota.is_calendar()
        {
            for report in reports {
                shared.pending.add(report.key, report.units);
            }
        }
    }
}

#[cfg(test)]
mod tests;
