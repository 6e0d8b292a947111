//! A breaker together with whether it acts: an upstream's, or one route's.
//!
//! Depends on policy, model and the clock's [`Instant`].

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Instant;
use crate::model::{Reason, Rejection, Unit};
use crate::policy::breaker::{self, Breaker, State, Transition};

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is not there.
    Off,
    /// It decides, and nothing follows from it.
    Observe,
    /// It decides.
    Enforce,
}

impl Mode {
    /// The word in the configuration and in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// A [`Mode`] that a reload may change under the workers.
#[derive(Debug)]
pub(super) struct AtomicMode(AtomicU8);

impl AtomicMode {
    pub(super) const fn new(mode: Mode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    pub(super) fn set(&self, mode: Mode) {
        self.0.store(mode as u8, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Mode {
        match self.0.load(Ordering::Relaxed) {
            0 => Mode::Off,
            1 => Mode::Observe,
            _ => Mode::Enforce,
        }
    }
}

/// How an admitted request ended, as far as it tells about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Answered,
    /// It answered that it has failed. That is evidence for the breaker, and none for the limit: an error of
    /// an application comes at any load.
    Errored,
    /// It did not answer, not in time, or that it is out of service.
    Failed,
    /// Nothing can be said: the client went away, or asked for something impossible.
    Ignored,
}

impl Outcome {
    /// What an answer with this status says.
    #[must_use]
    pub const fn from_status(status: u16) -> Self {
        match status {
            502..=504 => Self::Failed,
            500..=599 => Self::Errored,
            _ => Self::Answered,
        }
    }

    /// What a gRPC status says: UNKNOWN, INTERNAL and `DATA_LOSS` are the application's, `DEADLINE_EXCEEDED`
    /// and UNAVAILABLE the service's.
    #[must_use]
    pub const fn from_grpc_status(status: u16) -> Self {
        match status {
            4 | 14 => Self::Failed,
            2 | 13 | 15 => Self::Errored,
            _ => Self::Answered,
        }
    }

    /// Whether it counts as a failure of the upstream.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Errored | Self::Failed)
    }
}

/// What a circuit said to a request that may go on.
#[derive(Debug, Default)]
#[must_use = "dropping it gives a probe's place back"]
pub struct Pass {
    permit: Option<breaker::Permit>,
    /// What it would have refused the request for, did it act.
    pub observed: Option<Rejection>,
}

/// A breaker and whether it acts, shared by all workers.
#[derive(Debug)]
pub struct Circuit {
    breaker: Breaker,
    mode: AtomicMode,
    /// From one [`State`] to another.
    transitions: [[AtomicU64; State::ALL.len()]; State::ALL.len()],
}

impl Circuit {
    /// A closed one.
    #[must_use]
    pub fn new(mode: Mode, config: breaker::Config, now: Instant) -> Self {
        Self {
            breaker: Breaker::new(config, now),
            mode: AtomicMode::new(mode),
            transitions: Default::default(),
        }
    }

    /// Takes over other settings and keeps its state.
    pub fn update(&self, mode: Mode, config: breaker::Config, now: Instant) {
        self.mode.set(mode);
        self.breaker.update(config, now);
    }

    /// Decides about a request. `rng` is drawn from only while the breaker recovers.
    ///
    /// # Errors
    /// When it must not go to the upstream now.
    pub fn admit(&self, now: Instant, rng: &mut fastrand::Rng) -> Result<Pass, Rejection> {
        let mode = self.mode.get();
        if mode == Mode::Off {
            return Ok(Pass::default());
        }
        match self.breaker.admit(now, rng) {
            Ok(permit) => Ok(Pass {
                permit: Some(permit),
                observed: None,
            }),
            Err(refused) if mode == Mode::Enforce => Err(rejection(&refused)),
            Err(refused) => Ok(Pass {
                permit: None,
                observed: Some(rejection(&refused)),
            }),
        }
    }

    /// Takes in how a request that had passed ended, `took` being the upstream's part of its time.
    pub fn complete(
        &self,
        pass: Pass,
        now: Instant,
        outcome: Outcome,
        took: Duration,
        rng: &mut fastrand::Rng,
    ) {
        let Some(permit) = pass.permit else { return };
        let judged = match outcome {
            Outcome::Answered => breaker::Outcome::Success(took),
            Outcome::Errored | Outcome::Failed => breaker::Outcome::Failure,
            Outcome::Ignored => breaker::Outcome::Ignored,
        };
        self.breaker.record(permit, now, judged, rng);
    }

    /// What changed since the last call, in order. To be called about once a second by one thread.
    pub fn transitions(&self, now: Instant) -> Vec<Transition> {
        let changes = self.breaker.transitions(now);
        for change in &changes {
            if let Some(count) = self.count(change.from, change.to) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        changes
    }

    /// How often it went from one state to another, and that was told.
    #[must_use]
    pub fn transitioned(&self, from: State, to: State) -> u64 {
        let count = self.count(from, to);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count(&self, from: State, to: State) -> Option<&AtomicU64> {
        self.transitions.get(from as usize)?.get(to as usize)
    }

    /// The breaker.
    #[must_use]
    pub const fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Whether it acts.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.get()
    }
}

fn rejection(refused: &breaker::Refused) -> Rejection {
    let (value, threshold) = refused
        .evidence
        .map_or((0.0, 0.0), |evidence| (evidence.ratio, evidence.threshold));
    Rejection {
        reason: Reason::BreakerOpen,
        value,
        threshold,
        unit: Unit::Ratio,
        retry_after: refused.retry_after,
    }
}
