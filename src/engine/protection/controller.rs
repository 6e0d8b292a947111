//! Who sets the limit: the operator, or what is learned.

use crate::clock::Instant;
use crate::policy::concurrency::{self, Adaptive, Totals};

/// How the limit is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    /// It is learned.
    Adaptive(concurrency::Config),
    /// It is this.
    Fixed(u32),
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::Adaptive(concurrency::Config::default())
    }
}

/// How the limit stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitReport {
    /// It is learned, and stands so.
    Adaptive(concurrency::Report),
    /// It is this.
    Fixed(u32),
}

#[derive(Debug)]
pub(super) enum Controller {
    Adaptive(Box<Adaptive>),
    Fixed(u32),
}

/// The end of time: nothing to check.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl Controller {
    pub(super) fn new(algorithm: Algorithm, now: Instant) -> Self {
        match algorithm {
            Algorithm::Adaptive(config) => Self::Adaptive(Box::new(Adaptive::new(config, now))),
            Algorithm::Fixed(limit) => Self::Fixed(limit),
        }
    }

    /// Takes over another configuration and keeps what was learned.
    pub(super) fn update(&mut self, algorithm: Algorithm, now: Instant) {
        match (&mut *self, algorithm) {
            (Self::Adaptive(adaptive), Algorithm::Adaptive(config)) => adaptive.update(config),
            _ => *self = Self::new(algorithm, now),
        }
    }

    pub(super) fn limit(&self) -> u32 {
        match self {
            Self::Adaptive(adaptive) => adaptive.effective(),
            Self::Fixed(limit) => *limit,
        }
    }

    pub(super) const fn next_check(&self) -> Instant {
        match self {
            Self::Adaptive(adaptive) => adaptive.next_check(),
            Self::Fixed(_) => NEVER,
        }
    }

    /// Looks at what was counted; the limit from now on. `frozen`: what was counted teaches nothing.
    pub(super) fn observe(&mut self, now: Instant, totals: &Totals, frozen: bool) -> u32 {
        match self {
            Self::Adaptive(adaptive) => adaptive.observe(now, totals, frozen),
            Self::Fixed(limit) => *limit,
        }
    }

    pub(super) fn report(&self) -> LimitReport {
        match self {
            Self::Adaptive(adaptive) => LimitReport::Adaptive(adaptive.report()),
            Self::Fixed(limit) => LimitReport::Fixed(*limit),
        }
    }
}
