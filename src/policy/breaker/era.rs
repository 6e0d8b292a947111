//! The breaker's state as one word.
//!
//! Kind and instant share 64 bits, so that admission reads both with a single load and never sees one
//! without the other. States that only time brings about (half-open, closed again after the ramp, the end of
//! an operator's order) are not stored: they follow from the word and the time now, so they are seen without
//! traffic and need no timer. The word also tells one era from the next: an answer to a request admitted
//! under another word says nothing about this one.

use super::{RAMP, RAMP_FLOOR, State};
use crate::clock::Instant;

const KIND_BITS: u32 = 3;
const KIND: u64 = (1 << KIND_BITS) - 1;
const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const RECOVERING: u64 = 2;
const FORCED_OPEN: u64 = 3;
const FORCED_CLOSED: u64 = 4;
const FORCED_OPEN_ILL: u64 = 5;

/// What was last decided, and until or since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    /// Closed since.
    Closed(Instant),
    /// Open until, then half-open.
    Open(Instant),
    /// Admitting a growing share since; closed when the ramp is over.
    Recovering(Instant),
    /// Held open by an operator until, then closed, as it was before.
    ForcedOpen(Instant),
    /// Held open by an operator until, then half-open, since it was open before.
    ForcedOpenIll(Instant),
    /// Held closed by an operator until, then closed.
    ForcedClosed(Instant),
}

impl Era {
    /// The word; time beyond 73 years is cut off.
    pub(super) fn pack(self) -> u64 {
        let (kind, at) = match self {
            Self::Closed(at) => (CLOSED, at),
            Self::Open(at) => (OPEN, at),
            Self::Recovering(at) => (RECOVERING, at),
            Self::ForcedOpen(at) => (FORCED_OPEN, at),
            Self::ForcedClosed(at) => (FORCED_CLOSED, at),
            Self::ForcedOpenIll(at) => (FORCED_OPEN_ILL, at),
        };
        at.as_nanos().min(u64::MAX >> KIND_BITS) << KIND_BITS | kind
    }

    pub(super) const fn unpack(word: u64) -> Self {
        let at = Instant::from_nanos(word >> KIND_BITS);
        match word & KIND {
            OPEN => Self::Open(at),
            RECOVERING => Self::Recovering(at),
            FORCED_OPEN => Self::ForcedOpen(at),
            FORCED_CLOSED => Self::ForcedClosed(at),
            FORCED_OPEN_ILL => Self::ForcedOpenIll(at),
            _ => Self::Closed(at),
        }
    }

    pub(super) fn state(self, now: Instant) -> State {
        match self {
            Self::Open(until) | Self::ForcedOpen(until) | Self::ForcedOpenIll(until)
                if now < until =>
            {
                State::Open
            }
            Self::Open(_) | Self::ForcedOpenIll(_) => State::HalfOpen,
            Self::Recovering(since) if now < since.after(RAMP) => State::Recovering,
            Self::Recovering(_) | Self::Closed(_) | Self::ForcedOpen(_) | Self::ForcedClosed(_) => {
                State::Closed
            }
        }
    }

    /// When time alone changed, or will change, the state of this era.
    pub(super) fn turns_at(self) -> Option<Instant> {
        match self {
            Self::Closed(_) => None,
            Self::Open(until)
            | Self::ForcedOpen(until)
            | Self::ForcedOpenIll(until)
            | Self::ForcedClosed(until) => Some(until),
            Self::Recovering(since) => Some(since.after(RAMP)),
        }
    }

    /// Whether an operator's order is in force.
    pub(super) fn is_forced(self, now: Instant) -> bool {
        match self {
            Self::ForcedOpen(until) | Self::ForcedOpenIll(until) | Self::ForcedClosed(until) => {
                now < until
            }
            Self::Closed(_) | Self::Open(_) | Self::Recovering(_) => false,
        }
    }

    /// The share of requests admitted while recovering.
    pub(super) fn share(self, now: Instant) -> f64 {
        let Self::Recovering(since) = self else {
            return 1.0;
        };
        let done = now.since(since).as_secs_f64() / RAMP.as_secs_f64();
        RAMP_FLOOR + (1.0 - RAMP_FLOOR) * done
    }
}
