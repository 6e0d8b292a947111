//! The words every room shares: identities, outcomes, reasons, phases.
//!
//! Plain data without behaviour that could fail. Depends on nothing.

use std::fmt;
use std::time::Duration;

/// Declares a small integer identity that stays the same across reloads.
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// The identity with this index in its directory.
            #[must_use]
            pub const fn new(index: u32) -> Self {
                Self(index)
            }

            /// The index in the directory that gave this identity out.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

identity!(
    /// A route, by name. The same name keeps its identity over reloads.
    RouteId
);
identity!(
    /// An upstream, by name. The same name keeps its identity over reloads.
    UpstreamId
);
identity!(
    /// A tier, by name. The same name keeps its identity over reloads, whatever its place among the others.
    TierId
);
identity!(
    /// A rate limit, by name. The same name keeps its identity over reloads.
    RateLimitId
);
identity!(
    /// One endpoint of one upstream, by address. The same address keeps its identity over reloads.
    EndpointId
);

/// Who sends requests: a keyed hash of whatever identifies a client, so that what identifies it is nowhere kept.
/// Equal for as long as the process lives, whichever worker meets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

impl ClientId {
    /// The client with this hash.
    #[must_use]
    pub const fn new(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash.
    #[must_use]
    pub const fn hash(self) -> u64 {
        self.0
    }
}

/// Why Tidegate itself answered, or why an exchange failed. The contract's `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the names are the contract's and say what they mean"
)]
pub enum Reason {
    Quota,
    FairShare,
    QueueFull,
    QueueTimeout,
    Deadline,
    BreakerOpen,
    NoHealthyEndpoint,
    Quarantined,
    Blocked,
    Overload,
    ConnectFailed,
    UpstreamReset,
    UpstreamTimeout,
    BadRequest,
    NoRoute,
    BodyTooLarge,
    HeaderTooLarge,
    Draining,
}

impl Reason {
    /// Every reason, in the contract's order.
    pub const ALL: [Self; 18] = [
        Self::Quota,
        Self::FairShare,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Deadline,
        Self::BreakerOpen,
        Self::NoHealthyEndpoint,
        Self::Quarantined,
        Self::Blocked,
        Self::Overload,
        Self::ConnectFailed,
        Self::UpstreamReset,
        Self::UpstreamTimeout,
        Self::BadRequest,
        Self::NoRoute,
        Self::BodyTooLarge,
        Self::HeaderTooLarge,
        Self::Draining,
    ];

    /// The contract's word, as it stands in problem bodies, logs and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::FairShare => "fair_share",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Deadline => "deadline",
            Self::BreakerOpen => "breaker_open",
            Self::NoHealthyEndpoint => "no_healthy_endpoint",
            Self::Quarantined => "quarantined",
            Self::Blocked => "blocked",
            Self::Overload => "overload",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::BadRequest => "bad_request",
            Self::NoRoute => "no_route",
            Self::BodyTooLarge => "body_too_large",
            Self::HeaderTooLarge => "header_too_large",
            Self::Draining => "draining",
        }
    }

    /// The part of Tidegate that decides with this reason; the contract's `policy`.
    #[must_use]
    pub const fn policy(self) -> &'static str {
        match self {
            Self::Quota => "rate_limit",
            Self::FairShare | Self::QueueFull | Self::QueueTimeout => "queue",
            Self::Deadline => "deadline",
            Self::BreakerOpen => "breaker",
            Self::NoHealthyEndpoint => "balance",
            Self::Quarantined | Self::Blocked => "isolation",
            Self::Overload => "overload",
            Self::ConnectFailed | Self::UpstreamReset | Self::UpstreamTimeout => "upstream",
            Self::BadRequest | Self::BodyTooLarge | Self::HeaderTooLarge => "ingress",
            Self::NoRoute => "router",
            Self::Draining => "drain",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The upstream's response reached the client whole.
    Answered,
    /// Tidegate answered by itself.
    Refused,
    /// The client went away before its response was whole.
    ClientGone,
    /// The upstream broke off after its response had begun.
    UpstreamBroke,
    /// The drain timeout ended the exchange.
    Drained,
}

impl Outcome {
    /// The word in the access log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::ClientGone => "client_gone",
            Self::UpstreamBroke => "upstream_broke",
            Self::Drained => "drained",
        }
    }
}

/// What a cache did about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum CacheResult {
    /// A stored response answered it.
    Hit,
    /// A stale one did: the origin failed, or is asked meanwhile.
    Stale,
    /// A stored response answered it once the origin had said that it still holds.
    Revalidated,
    /// It was answered by what another request like it brought.
    Collapsed,
    /// The origin answered.
    Miss,
    /// The cache took no part.
    Bypass,
}

impl CacheResult {
    /// Every result.
    pub const ALL: [Self; 6] = [
        Self::Hit,
        Self::Stale,
        Self::Revalidated,
        Self::Collapsed,
        Self::Miss,
        Self::Bypass,
    ];

    /// The word in the access log and in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }

    /// Whether it was answered from what is stored.
    #[must_use]
    pub const fn is_hit(self) -> bool {
        matches!(
            self,
            Self::Hit | Self::Stale | Self::Revalidated | Self::Collapsed
        )
    }
}

/// The consecutive parts of an exchange. They do not overlap, and sum to its total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Phase {
    /// The client sends: from the first byte of its request to the end of its head, and whatever of the
    /// body kept the upstream waiting.
    Receive,
    /// Tidegate thinks: policies, routing, rewriting.
    Decide,
    /// The request waits for a permit.
    Queue,
    /// A connection to the endpoint is made; zero on a pooled one.
    Connect,
    /// From the request sent to the first byte of the response head.
    Wait,
    /// The upstream sends its body.
    Body,
    /// The client reads: time in which a body was ready and the client was not.
    Deliver,
}

impl Phase {
    /// Every phase, in the order of time.
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Decide,
        Self::Queue,
        Self::Connect,
        Self::Wait,
        Self::Body,
        Self::Deliver,
    ];

    /// The word in labels and, with `_ms`, in the access log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Decide => "decide",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Wait => "wait",
            Self::Body => "body",
            Self::Deliver => "deliver",
        }
    }
}

/// Time spent in each [`Phase`], to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases([u64; Phase::ALL.len()]);

impl Phases {
    /// Adds `time` to `phase`.
    pub fn add(&mut self, phase: Phase, time: Duration) {
        if let Some(slot) = self.0.get_mut(phase as usize) {
            *slot = slot.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Time spent in `phase`.
    #[must_use]
    pub fn get(&self, phase: Phase) -> Duration {
        Duration::from_nanos(self.0.get(phase as usize).copied().unwrap_or_default())
    }

    /// The sum of all phases: the exchange's total.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.iter().copied().fold(0, u64::saturating_add))
    }
}

/// What the numbers of a [`Rejection`] count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Seconds.
    Seconds,
    /// A share, between 0 and 1.
    Ratio,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// The unit's word in details and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Seconds => "seconds",
            Self::Ratio => "ratio",
            Self::Bytes => "bytes",
        }
    }
}

/// A policy's decision against a request, with all that explains it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rejection {
    /// Why; it names the policy as well.
    pub reason: Reason,
    /// What the policy saw, in `unit`.
    pub value: f64,
    /// What it held that to, in `unit`.
    pub threshold: f64,
    /// What both count.
    pub unit: Unit,
    /// When another try may be worth it, before rounding and jitter.
    pub retry_after: Duration,
}

/// A request method as a label: the registered ones by name, everything else as `_OTHER`
/// (OpenTelemetry's HTTP conventions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the methods")]
pub enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl MethodLabel {
    /// How many there are.
    pub const COUNT: usize = Self::Other as usize + 1;

    /// The label for the method token `method`.
    #[must_use]
    pub fn from_token(method: &str) -> Self {
        match method {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// The label's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other => "_OTHER",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_sum_to_the_total() {
        let mut phases = Phases::default();
        for (i, phase) in Phase::ALL.into_iter().enumerate() {
            phases.add(phase, Duration::from_millis(i as u64 + 1));
        }
        assert_eq!(phases.get(Phase::Deliver), Duration::from_millis(7));
        assert_eq!(phases.total(), Duration::from_millis(28));
    }

    #[test]
    fn reasons_are_distinct_words() {
        let words: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
