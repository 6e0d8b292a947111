//! The breaker's settings, as given and as the hot path reads them.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::totals::Totals;
use super::{Evidence, Measure};
use crate::policy::setting::{self, Invalid, nanos};

/// The values of `[upstreams.NAME.breaker]`, not yet checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The share of failed calls that opens. *Default* 0.5: less is the business of retries and outlier
    /// ejection, which lose fewer requests than an open breaker.
    pub failure_ratio: f64,
    /// The share of slow calls that opens. *Default* 0.5.
    pub slow_ratio: f64,
    /// From what time on a call is slow. *Default* none: what is slow only the owner knows.
    pub slow_call: Option<Duration>,
    /// Calls in the window before a ratio means anything. *Default* 20.
    pub min_requests: u32,
    /// The window. *Default* 10 s.
    pub window: Duration,
    /// The first open time. *Default* 5 s.
    pub open_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            failure_ratio: 0.5,
            slow_ratio: 0.5,
            slow_call: None,
            min_requests: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        }
    }
}

/// Settings that were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Config(Settings);

impl Config {
    /// Checks `settings`.
    ///
    /// # Errors
    /// When a ratio is outside `0 < x <= 1`, or a count or a duration is zero.
    pub fn try_new(settings: Settings) -> Result<Self, Invalid> {
        setting::ratio("breaker.failure_ratio", settings.failure_ratio)?;
        setting::ratio("breaker.slow_ratio", settings.slow_ratio)?;
        if let Some(slow_call) = settings.slow_call {
            setting::duration("breaker.slow_call", slow_call)?;
        }
        setting::count("breaker.min_requests", settings.min_requests)?;
        setting::duration("breaker.window", settings.window)?;
        setting::duration("breaker.open_for", settings.open_for)?;
        Ok(Self(settings))
    }

    /// The values that were checked.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.0
    }

    pub(super) const fn window(&self) -> Duration {
        self.0.window
    }
}

const NEVER_SLOW: u64 = u64::MAX;
const NO_EVIDENCE: u8 = 0;
const FAILURES: u8 = 1;
const SLOW_CALLS: u8 = 2;

/// The configuration and what opened the breaker, for readers without a lock. Written under the ledger's
/// lock; who reads meanwhile may see old and new values mixed, each of which was true.
#[derive(Debug)]
pub(super) struct Live {
    failure_ratio: AtomicU64,
    slow_ratio: AtomicU64,
    slow_call: AtomicU64,
    min_requests: AtomicU32,
    open_for: AtomicU64,
    measure: AtomicU8,
    ratio: AtomicU64,
    threshold: AtomicU64,
    volume: AtomicU32,
}

impl Live {
    pub(super) fn new(config: Config) -> Self {
        let live = Self {
            failure_ratio: AtomicU64::default(),
            slow_ratio: AtomicU64::default(),
            slow_call: AtomicU64::default(),
            min_requests: AtomicU32::default(),
            open_for: AtomicU64::default(),
            measure: AtomicU8::new(NO_EVIDENCE),
            ratio: AtomicU64::default(),
            threshold: AtomicU64::default(),
            volume: AtomicU32::default(),
        };
        live.set(config);
        live
    }

    pub(super) fn set(&self, Config(settings): Config) {
        set(&self.failure_ratio, settings.failure_ratio);
        set(&self.slow_ratio, settings.slow_ratio);
        let slow_call = settings.slow_call.map_or(NEVER_SLOW, nanos);
        self.slow_call.store(slow_call, Ordering::Relaxed);
        self.min_requests
            .store(settings.min_requests, Ordering::Relaxed);
        self.open_for
            .store(nanos(settings.open_for), Ordering::Relaxed);
    }

    pub(super) fn is_slow(&self, took: Duration) -> bool {
        let bound = self.slow_call.load(Ordering::Relaxed);
        bound != NEVER_SLOW && nanos(took) >= bound
    }

    pub(super) fn min_requests(&self) -> u32 {
        self.min_requests.load(Ordering::Relaxed)
    }

    pub(super) fn open_for(&self) -> Duration {
        Duration::from_nanos(self.open_for.load(Ordering::Relaxed))
    }

    /// What speaks against the upstream in `totals`, if it is enough.
    pub(super) fn judge(&self, totals: Totals) -> Option<Evidence> {
        let exceeds = |measure, ratio, threshold| {
            (ratio >= threshold).then_some(Evidence {
                measure,
                ratio,
                threshold,
                volume: totals.calls,
            })
        };
        exceeds(
            Measure::Failures,
            totals.failure_ratio(),
            get(&self.failure_ratio),
        )
        .or_else(|| {
            exceeds(
                Measure::SlowCalls,
                totals.slow_ratio(),
                get(&self.slow_ratio),
            )
        })
    }

    pub(super) fn set_evidence(&self, evidence: Option<Evidence>) {
        let Some(evidence) = evidence else {
            self.measure.store(NO_EVIDENCE, Ordering::Relaxed);
            return;
        };
        set(&self.ratio, evidence.ratio);
        set(&self.threshold, evidence.threshold);
        self.volume.store(evidence.volume, Ordering::Relaxed);
        let measure = match evidence.measure {
            Measure::Failures => FAILURES,
            Measure::SlowCalls => SLOW_CALLS,
        };
        self.measure.store(measure, Ordering::Relaxed);
    }

    pub(super) fn evidence(&self) -> Option<Evidence> {
        let measure = match self.measure.load(Ordering::Relaxed) {
            FAILURES => Measure::Failures,
            SLOW_CALLS => Measure::SlowCalls,
            _ => return None,
        };
        Some(Evidence {
            measure,
            ratio: get(&self.ratio),
            threshold: get(&self.threshold),
            volume: self.volume.load(Ordering::Relaxed),
        })
    }
}

fn set(bits: &AtomicU64, value: f64) {
    bits.store(value.to_bits(), Ordering::Relaxed);
}

fn get(bits: &AtomicU64) -> f64 {
    f64::from_bits(bits.load(Ordering::Relaxed))
}
