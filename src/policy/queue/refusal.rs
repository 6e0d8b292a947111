//! Why a request did not get its turn: the reason, the value seen and the threshold it was held to.

use std::time::Duration;

use crate::model::Reason;

/// What [`Refusal::value`] and [`Refusal::threshold`] count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// The unit's word in details and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Seconds => "seconds",
        }
    }
}

/// A decision against a request, with all that explains it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// The contract's reason; it names the policy as well.
    pub reason: Reason,
    /// What was seen, in `unit`.
    pub value: f64,
    /// What it was held to, in `unit`.
    pub threshold: f64,
    /// What both count.
    pub unit: Unit,
    /// How long the request had waited.
    pub waited: Duration,
    /// When another try may be worth it, before rounding and jitter.
    pub retry_after: Duration,
}

impl Refusal {
    /// The queue held `waiting` requests and may hold `max_length`.
    pub(super) fn queue_full(waiting: u32, max_length: u32, waited: Duration) -> Self {
        Self::of_requests(Reason::QueueFull, waiting, max_length, waited)
    }

    /// The queue was full, and `waiting` of it were the client's own where `share` is everybody's.
    pub(super) fn fair_share(waiting: u32, share: u32, waited: Duration) -> Self {
        Self::of_requests(Reason::FairShare, waiting, share, waited)
    }

    /// Waited `waited`, and was allowed `allowed`.
    pub(super) const fn queue_timeout(waited: Duration, allowed: Duration) -> Self {
        Self {
            reason: Reason::QueueTimeout,
            value: waited.as_secs_f64(),
            threshold: allowed.as_secs_f64(),
            unit: Unit::Seconds,
            waited,
            retry_after: Duration::from_secs(1),
        }
    }

    /// `left` until the deadline is less than the `cost` the upstream is expected to take.
    pub(super) const fn deadline(left: Duration, cost: Duration, waited: Duration) -> Self {
        Self {
            reason: Reason::Deadline,
            value: left.as_secs_f64(),
            threshold: cost.as_secs_f64(),
            unit: Unit::Seconds,
            waited,
            retry_after: Duration::ZERO,
        }
    }

    /// A bound of `bound` on requests that `open` of them have reached.
    pub(crate) fn overload(open: u32, bound: u32) -> Self {
        Self::of_requests(Reason::Overload, open, bound, Duration::ZERO)
    }

    /// No room to remember another waiter.
    pub(crate) fn no_room(waiting: u32, room: u32) -> Self {
        Self::queue_full(waiting, room, Duration::ZERO)
    }

    fn of_requests(reason: Reason, value: u32, threshold: u32, waited: Duration) -> Self {
        Self {
            reason,
            value: f64::from(value),
            threshold: f64::from(threshold),
            unit: Unit::Requests,
            waited,
            retry_after: Duration::from_secs(1),
        }
    }
}
