//! Who sets the limit: the operator, or what is learned.

use crate::clock::Instant;
use crate::policy::concurrency::Totals;

/// How the limit is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// It is this.
    Fixed(u32),
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::Fixed(32)
    }
}

/// How the limit stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitReport {
    /// It is this.
    Fixed(u32),
}

#[derive(Debug)]
pub(super) enum Controller {
    Fixed(u32),
}

/// The end of time: nothing to check.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl Controller {
    pub(super) fn new(algorithm: Algorithm, _now: Instant) -> Self {
        match algorithm {
            Algorithm::Fixed(limit) => Self::Fixed(limit),
        }
    }

    /// Takes over another configuration and keeps what was learned; whether the limit may have changed.
    pub(super) fn update(&mut self, algorithm: Algorithm, now: Instant) -> bool {
        *self = Self::new(algorithm, now);
        true
    }

    pub(super) fn limit(&self) -> u32 {
        match self {
            Self::Fixed(limit) => *limit,
        }
    }

    pub(super) fn next_check(&self) -> Instant {
        match self {
            Self::Fixed(_) => NEVER,
        }
    }

    /// Looks at what was counted; the limit from now on, if it is to be set anew. `frozen`: what was counted
    /// teaches nothing.
    pub(super) fn observe(
        &mut self,
        _now: Instant,
        _totals: &Totals,
        _frozen: bool,
    ) -> Option<u32> {
        match self {
            Self::Fixed(_) => None,
        }
    }

    pub(super) fn report(&self) -> LimitReport {
        match self {
            Self::Fixed(limit) => LimitReport::Fixed(*limit),
        }
    }
}
