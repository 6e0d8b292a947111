//! Live values at one moment, as plain data: what the data plane holds and no exchange tells.
//!
//! Filled by the supervisor when a scrape or the admin API asks; nothing here is kept. Depends on the engine's
//! reports.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::breaker::{Report, State};
use crate::engine::upstream::HostLoad;
use crate::model::CacheResult;

/// The whole data plane at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Listeners, in the order of the plan.
    pub listeners: Vec<ListenerView>,
    /// Upstreams, in the order of the plan.
    pub upstreams: Vec<UpstreamView>,
    /// Issuers of tokens whose keys are fetched.
    pub issuers: Vec<IssuerView>,
    /// Rate limits, in the order of the plan.
    pub rate_limits: Vec<RateLimitView>,
    /// How often each worker's event loop was asked to wake at a certain time, and how late it did in all.
    pub loops: Vec<(u64, Duration)>,
    /// Caches, in the order of their names.
    pub caches: Vec<CacheView>,
    /// Routes that have a breaker of their own, in the order of the plan.
    pub route_circuits: Vec<CircuitView>,
    /// Every cause a diagnosis may find, and whether it is found now.
    pub causes: Vec<(&'static str, bool)>,
    /// Objectives, in the order of their names.
    pub slos: Vec<SloView>,
    /// Bundles of incidents that there should be and are not.
    pub bundles_lost: u64,
    /// How many subjects of each kind operators hold apart.
    pub isolations: Vec<(&'static str, usize)>,
    /// The usage ledger.
    pub usage: UsageView,
    /// Where quotas are shared: how that goes.
    pub fleet: Option<FleetView>,
}

/// How the processes of a fleet share quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetView {
    /// Whether they can be told.
    pub up: bool,
    /// How many there are, or were last.
    pub processes: u32,
    /// How often they could not be told.
    pub errors: u64,
}

/// How the usage ledger fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageView {
    /// Rows that wait to be written.
    pub pending: u64,
    /// Rows that were lost.
    pub dropped: u64,
    /// Exchanges whose client was put together with others.
    pub folded: u64,
    /// Rows that were put together with others.
    pub squeezed: u64,
    /// Rows that were in memory only until they were written.
    pub unjournaled: u64,
    /// Attempts to write that failed.
    pub errors: u64,
    /// When something was written last, in seconds since the Unix epoch; 0: never.
    pub written: u64,
}

impl Snapshot {
    /// Open client connections over all listeners.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.listeners.iter().map(|l| l.connections).sum()
    }
}

/// One objective: the worst of all who are held to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SloView {
    /// Its name.
    pub name: Arc<str>,
    /// How many times too fast the error budget burns, by window.
    pub burn: Vec<(&'static str, f64)>,
    /// The part of the error budget that is left; none where no availability is promised.
    pub budget: Option<f64>,
    /// What the quantile is; none of no requests.
    pub quantile: Option<Duration>,
    /// How many miss it, by the way they do.
    pub missing: Vec<(&'static str, usize)>,
}

/// One cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheView {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes of memory it takes.
    pub memory: u64,
    /// Of its disk tier the bytes, and what happened by name.
    pub disk: Option<(u64, Vec<(&'static str, u64)>)>,
    /// Requests by what it did about them, in the order of [`CacheResult::ALL`].
    pub results: [u64; CacheResult::ALL.len()],
}

/// One listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerView {
    /// Its name.
    pub name: Arc<str>,
    /// The address it is bound to; the real port where the plan says 0.
    pub address: String,
    /// Open client connections.
    pub connections: u64,
    /// Those among them that lie idle and hold next to no memory.
    pub parked: u64,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamView {
    /// Its name.
    pub name: Arc<str>,
    /// What is spoken to it: `http1`, `http2`.
    pub protocol: &'static str,
    /// How an endpoint is picked, in the configuration's words.
    pub balance: String,
    /// Exchanges in flight.
    pub in_flight: u64,
    /// Open connections to its endpoints, in use or pooled.
    pub connections: u64,
    /// How much of it may be used at once.
    pub limit: LimitView,
    /// Its breaker.
    pub circuit: CircuitView,
    /// What is sent to it again.
    pub retries: RetryView,
    /// Ejections of its endpoints: how many there were, and would have been.
    pub ejections: (u64, u64),
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
    /// The part of what it can carry that nobody asks for; none before it was watched.
    pub headroom: Option<f64>,
}

/// A concurrency limit and the queue in front of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitView {
    /// Whether it acts: `enforce`, `observe`, `off`.
    pub mode: &'static str,
    /// How it is found: `adaptive`, `fixed`.
    pub algorithm: &'static str,
    /// The limit in force.
    pub limit: u32,
    /// Requests that hold a slot.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub waiting: u32,
    /// Endless responses, which hold none.
    pub streams: u32,
    /// How throughput answers to more concurrency at the limit: 1 as long as slots are free, 0 when more
    /// brings nothing. None before it was measured, or when the limit is fixed.
    pub elasticity: Option<f64>,
    /// The latency below saturation; likewise.
    pub base: Option<Duration>,
    /// Completions a second, lately; likewise.
    pub throughput: Option<f64>,
    /// The mean upstream time, lately; likewise.
    pub latency: Option<Duration>,
}

/// An issuer of tokens whose keys are fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerView {
    /// Where from.
    pub url: Arc<str>,
    /// Keys that are known.
    pub keys: u64,
    /// How often they could not be fetched.
    pub failures: u64,
}

/// A rate limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitView {
    /// Its name.
    pub name: Arc<str>,
    /// Requests that passed and those that were refused, by whether the policy acted on it: `enforce`,
    /// `observe`.
    pub decisions: [(&'static str, u64, u64); 2],
    /// How often a key had to make room for another while it still counted.
    pub evictions: u64,
}

/// A breaker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CircuitView {
    /// Whose: an upstream's name or a route's.
    pub name: Arc<str>,
    /// Whether it acts: `enforce`, `observe`, `off`.
    pub mode: &'static str,
    /// How it stands.
    pub report: Option<Report>,
    /// How often it went from one state to another, where it ever did.
    pub transitions: Vec<(State, State, u64)>,
}

/// What was sent again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetryView {
    /// By what had failed: how often, and how often it would have been.
    pub counts: Vec<(&'static str, u64, u64)>,
    /// The share of the budget that is left.
    pub budget_remaining: f64,
}

/// What a balancer thinks of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointState {
    /// In use.
    #[default]
    Healthy,
    /// Taken out by its checks.
    Unhealthy,
    /// In use, and on its way to its full share.
    SlowStart,
    /// Left out because it did worse than its peers.
    Ejected,
    /// Left alone because it asked for it.
    Aside,
    /// Taken out of service by an operator.
    Isolated,
}

impl EndpointState {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::SlowStart => "slow_start",
            Self::Ejected => "ejected",
            Self::Aside => "aside",
            Self::Isolated => "isolated",
        }
    }

    /// Whether it takes requests.
    #[must_use]
    pub const fn is_in_use(self) -> bool {
        matches!(self, Self::Healthy | Self::SlowStart)
    }
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointView {
    /// Its address.
    pub address: String,
    /// Its zone, if the configuration names one.
    pub zone: Option<Arc<str>>,
    /// Its relative share.
    pub weight: f64,
    /// Whether it takes requests.
    pub state: EndpointState,
    /// What the last check said; none when there are no checks or it said nothing.
    pub message: Option<String>,
    /// Exchanges in flight.
    pub in_flight: u64,
    /// Moving average of its latency; none before the first answer.
    pub latency: Option<Duration>,
    /// Open connections, in use or pooled.
    pub connections: u64,
    /// How its host is doing; none when that is not known.
    pub host: Option<HostLoad>,
}
