//! Leaves out an endpoint that does worse than its peers.
//!
//! Envoy's outlier detection reduced to three detectors that act on their own evidence: failures in a row,
//! which act at once; the failure ratio against the other endpoints; and latency against the median of the
//! others, three windows in a row. Active checks see an endpoint that is down; these see one that answers
//! its checks and fails or drags its requests.
//!
//! An ejection lasts 5 s, doubling to 20 s, where Envoy takes 30 s × n up to 300 s. It is the time a healed
//! endpoint is missed, and what a longer one would save is small: after a return the balancer's slow start
//! sends a tenth of a share, and for its first ten seconds an endpoint is on trial, where two failures or
//! one slow window are enough. Of ten endpoints one that stays broken costs 1% of the requests for about
//! two seconds in 22, before retries. No probes of our own: real requests judge best.
//!
//! 429 and 503 with Retry-After set the endpoint aside for that long, which is its wish and no fault.
//!
//! A balancer that avoids what is slow or fails leaves little to judge by. So evidence is weighed rather than
//! counted (see `judge`), silence after slowness is no acquittal, and an endpoint in doubt is asked on
//! purpose: [`Detector::asks_in_doubt`]. In simulation, behind peak EWMA at 500 requests a second, one of ten
//! endpoints that was ten times slower stayed in for up to 11 s without asking, and for up to 4 s with it.
//!
//! What it does badly: when several endpoints fail in the same way, their spread hides each of them (with
//! ten, from the third on), and when more than `max_ejected` are bad the rest stay in; an upstream that
//! fails as a whole is the breaker's business. A pool of fewer than three knows only failures in a row.
//!
//! Health is another matter and another signal: an endpoint out here is healthy by its checks. Whoever calls
//! [`Detector::evaluate`] passes the endpoints its checks let in, and `max_ejected` is a share of those.
//!
//! Depends on the clock's [`Instant`] and the breaker's [`Outcome`].

mod judge;
mod latency;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::judge::{Finding, Peers};
pub use self::stats::EndpointStats;
use super::breaker::Outcome;
use super::setting::{self, Invalid};
use crate::clock::Instant;

/// The first ejection.
pub const FIRST: Duration = Duration::from_secs(5);

/// How often the time of an ejection doubles: 5 s, 10 s, 20 s and no longer.
pub const DOUBLINGS: u32 = 2;

/// Each of these in service without an ejection undoes one doubling.
pub const DECAY: Duration = Duration::from_secs(30);

/// How long after an ejection less evidence is enough.
pub const TRIAL: Duration = Duration::from_secs(10);

/// Failures in a row that end a trial.
pub const TRIAL_FAILURES: u32 = 2;

/// Slow windows in a row that eject; on trial one does.
pub const SLOW_WINDOWS: u32 = 3;

/// The longest an endpoint may ask to be left alone.
pub const LONGEST_ASIDE: Duration = Duration::from_secs(60);

/// How often latencies and ratios are judged.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The values of `[upstreams.NAME.outlier]`, not yet checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Failures in a row that eject at once. *Default* 5.
    pub consecutive_failures: u32,
    /// How many times the median endpoint's p90 is slow. *Default* 3.
    pub slow_factor: f64,
    /// The share of a pool that may be out at once. *Default* 0.5.
    pub max_ejected: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            slow_factor: 3.0,
            max_ejected: 0.5,
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
    /// When the count is zero, the factor not above one, or the share outside `0 < x <= 1`.
    pub fn try_new(settings: Settings) -> Result<Self, Invalid> {
        setting::count(
            "outlier.consecutive_failures",
            settings.consecutive_failures,
        )?;
        setting::factor("outlier.slow_factor", settings.slow_factor)?;
        setting::ratio("outlier.max_ejected", settings.max_ejected)?;
        Ok(Self(settings))
    }

    /// The values that were checked.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.0
    }
}

/// Whether an endpoint takes requests, as far as its answers decide that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    InService,
    /// It did worse than its peers.
    Ejected {
        /// When it returns.
        until: Instant,
    },
    /// It asked to be left alone.
    Aside {
        /// When it returns.
        until: Instant,
    },
}

/// What spoke against an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// This many calls failed in a row.
    Consecutive {
        /// How many.
        failures: u32,
    },
    /// It failed more than the others.
    Failures {
        /// Failed calls ÷ calls over the last seconds, five at most.
        ratio: f64,
        /// The ratio it would have had to stay below.
        threshold: f64,
        /// Its calls over that time.
        calls: u32,
    },
    /// It answered slower than the others.
    Slow {
        /// Its 90th percentile over the last window.
        p90: Duration,
        /// The 90th percentile it would have had to stay below.
        threshold: Duration,
    },
}

/// What an evaluation decided about the endpoint with this index in the list it was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// It is out from now on.
    Ejected {
        /// The endpoint.
        index: usize,
        /// When it returns.
        until: Instant,
        /// What spoke against it.
        why: Why,
    },
    /// It would be out if `max_ejected` left room.
    Spared {
        /// The endpoint.
        index: usize,
        /// What spoke against it.
        why: Why,
    },
    /// It is back.
    Returned {
        /// The endpoint.
        index: usize,
    },
}

/// The outlier detection of one upstream.
#[derive(Debug)]
pub struct Detector {
    /// The configured number, for workers.
    consecutive_failures: AtomicU32,
    /// Endpoints in doubt as of the last evaluation.
    doubts: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Config,
    rolled: Instant,
}

impl Detector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            consecutive_failures: AtomicU32::new(config.0.consecutive_failures),
            doubts: AtomicU32::new(0),
            state: Mutex::new(State {
                config,
                rolled: now,
            }),
        }
    }

    /// Counts a call that began at `started`, and says whether [`Detector::evaluate`] should run at once
    /// rather than at the next second. A few relaxed atomics.
    #[must_use]
    pub fn record(
        &self,
        endpoint: &EndpointStats,
        started: Instant,
        now: Instant,
        outcome: Outcome,
    ) -> bool {
        let in_a_row = endpoint.count(started, outcome);
        // Once per round of failures, so that a pool that fails as a whole is not evaluated at each.
        in_a_row != 0 && in_a_row.is_multiple_of(self.patience(endpoint, now))
    }

    /// Whether one request should go to an endpoint [in doubt](EndpointStats::is_in_doubt) instead of where
    /// the balancer would send it: as many as make half a share of a pool of `size`. One load while there is
    /// no doubt.
    ///
    /// A balancer that goes by latency sends next to nothing to an endpoint after its first failure, so that
    /// it would take minutes to tell bad luck from a bad endpoint. Asking settles it within seconds, either
    /// way.
    #[must_use]
    pub fn asks_in_doubt(&self, size: usize, rng: &mut fastrand::Rng) -> bool {
        let doubts = self.doubts.load(Ordering::Relaxed) as usize;
        doubts != 0 && rng.usize(..size.max(1).saturating_mul(2)) < doubts
    }

    /// Judges the endpoints of the pool that their checks let in. To be called each second, and when
    /// [`Detector::record`] asks for it; ratios and latencies are judged at most once a second.
    pub fn evaluate(&self, now: Instant, endpoints: &[&EndpointStats]) -> Vec<Decision> {
        let mut state = self.lock();
        let mut decisions = returned(now, endpoints);
        let rolls = now.since(state.rolled) >= INTERVAL;
        let in_service = || {
            let is_in = move |(_, e): &(usize, &EndpointStats)| !e.is_out(now);
            endpoints.iter().copied().enumerate().filter(is_in)
        };
        let mut suspects = Vec::new();
        if rolls {
            state.rolled = now;
            in_service().for_each(|(_, endpoint)| endpoint.roll());
            suspects = outliers(now, in_service(), state.config);
            let doubts = in_service()
                .filter(|(_, endpoint)| endpoint.is_in_doubt())
                .count();
            let doubts = u32::try_from(doubts).unwrap_or(u32::MAX);
            self.doubts.store(doubts, Ordering::Relaxed);
        }
        for (index, endpoint) in in_service() {
            let failures = endpoint.in_a_row();
            let is_new = suspects.iter().all(|&(suspect, _)| suspect != index);
            if is_new && failures >= self.patience(endpoint, now) {
                suspects.push((index, Why::Consecutive { failures }));
            }
        }
        suspects.sort_by(|(_, a), (_, b)| b.weight().total_cmp(&a.weight()));
        let mut room = room(state.config, now, endpoints);
        for (index, why) in suspects {
            let Some(endpoint) = endpoints.get(index).filter(|e| !e.is_out(now)) else {
                continue;
            };
            decisions.push(if room == 0 {
                Decision::Spared { index, why }
            } else {
                room -= 1;
                let until = endpoint.eject(now);
                Decision::Ejected { index, until, why }
            });
        }
        decisions
    }

    /// Leaves the endpoint with this index alone for as long as it asked for, at most [`LONGEST_ASIDE`].
    /// Returns until when, or none when it asked for nothing or `max_ejected` leaves no room.
    pub fn set_aside(
        &self,
        now: Instant,
        endpoints: &[&EndpointStats],
        index: usize,
        time: Duration,
    ) -> Option<Instant> {
        let endpoint = endpoints.get(index).filter(|_| !time.is_zero())?;
        let state = self.lock();
        if !endpoint.is_out(now) && room(state.config, now, endpoints) == 0 {
            return None;
        }
        Some(endpoint.set_aside(now, time.min(LONGEST_ASIDE)))
    }

    /// Takes over another configuration. Who is out stays out.
    pub fn update(&self, config: Config) {
        let mut state = self.lock();
        state.config = config;
        self.consecutive_failures
            .store(config.0.consecutive_failures, Ordering::Relaxed);
    }

    /// How many failures in a row `endpoint` may have.
    fn patience(&self, endpoint: &EndpointStats, now: Instant) -> u32 {
        let usual = self.consecutive_failures.load(Ordering::Relaxed);
        if endpoint.is_on_trial(now) {
            usual.min(TRIAL_FAILURES)
        } else {
            usual
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Why {
    /// Orders suspects when there is no room for all: failing before slow, and by how much.
    fn weight(&self) -> f64 {
        match *self {
            Self::Consecutive { failures } => 3.0 + f64::from(failures),
            Self::Failures { ratio, .. } => 2.0 + ratio,
            Self::Slow { p90, threshold } => {
                let times = p90.as_secs_f64() / threshold.as_secs_f64().max(f64::MIN_POSITIVE);
                times / (1.0 + times)
            }
        }
    }
}

/// Tells of those whose time out has passed.
fn returned(now: Instant, endpoints: &[&EndpointStats]) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        if !endpoint.is_out(now) && std::mem::take(&mut endpoint.memory().is_away) {
            decisions.push(Decision::Returned { index });
        }
    }
    decisions
}

/// Those that fail more or answer slower than the others.
fn outliers<'a>(
    now: Instant,
    in_service: impl Iterator<Item = (usize, &'a EndpointStats)> + Clone,
    config: Config,
) -> Vec<(usize, Why)> {
    let mut peers = Peers::default();
    for (index, endpoint) in in_service.clone() {
        let memory = endpoint.memory();
        peers.add(index, memory.recent(), memory.latencies());
    }
    let mut found = Vec::new();
    for (index, endpoint) in in_service {
        let mut memory = endpoint.memory();
        let mut in_doubt = memory.compare(&peers, config.0.slow_factor);
        let windows = if endpoint.is_on_trial(now) {
            1
        } else {
            SLOW_WINDOWS
        };
        let mut why = memory.slow_for(windows);
        match peers.failing(index, memory.recent()) {
            Finding::Clear => {}
            Finding::Doubt => in_doubt = true,
            Finding::Failing(failing) => why = Some(failing),
        }
        endpoint.set_in_doubt(in_doubt && why.is_none());
        found.extend(why.map(|why| (index, why)));
    }
    found
}

/// How many more may go out.
fn room(config: Config, now: Instant, endpoints: &[&EndpointStats]) -> usize {
    let out = endpoints
        .iter()
        .filter(|endpoint| endpoint.is_out(now))
        .count();
    // Counted up rather than converted: both sides stay exact.
    let share = |out: usize| out as f64 / endpoints.len() as f64;
    (out + 1..=endpoints.len())
        .take_while(|&out| share(out) <= config.0.max_ejected)
        .count()
}
