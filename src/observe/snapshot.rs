//! Live values at one moment, as plain data: what the data plane holds and no exchange tells.
//!
//! Filled by the supervisor when a scrape or the admin API asks; nothing here is kept. Depends on nothing.

use std::sync::Arc;
use std::time::Duration;

/// The whole data plane at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Listeners, in the order of the plan.
    pub listeners: Vec<ListenerView>,
    /// Upstreams, in the order of the plan.
    pub upstreams: Vec<UpstreamView>,
}

impl Snapshot {
    /// Open client connections over all listeners.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.listeners.iter().map(|l| l.connections).sum()
    }
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
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
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
}

impl EndpointState {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::SlowStart => "slow_start",
        }
    }

    /// Whether it takes requests.
    #[must_use]
    pub const fn is_in_use(self) -> bool {
        !matches!(self, Self::Unhealthy)
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
}
