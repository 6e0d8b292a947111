//! `[upstreams.NAME]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    RawBalance, RawBreaker, RawConcurrency, RawEndpoint, RawNoisy, RawOutlier, RawProtocol,
    RawQueue, RawRetry, Spanned,
};
use crate::config::units::Time;

/// A service behind. Needs either `endpoints` or `discover`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawUpstream {
    /// Where the service is: addresses, or tables with address, weight, zone and node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(crate) endpoints: Option<Spanned<Vec<Spanned<RawEndpoint>>>>,
    /// Where to look the endpoints up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) discover: Option<Spanned<RawDiscover>>,
    /// What is spoken to it. `http2`: by ALPN under TLS, by prior knowledge (h2c) without.
    pub(crate) protocol: RawProtocol,
    /// TLS towards it. An empty table is enough; endpoints with `https://` imply it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<Spanned<RawClientTls>>,
    /// How an endpoint is picked.
    pub(crate) balance: Spanned<RawBalance>,
    /// Bound on making a connection, TLS included.
    pub(crate) connect_timeout: Spanned<Time>,
    /// How long a pooled connection may lie idle.
    pub(crate) idle_timeout: Spanned<Time>,
    /// Active checks of each endpoint. Without: an endpoint counts as healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<Spanned<RawHealth>>,
    /// How long an endpoint that came back takes to reach its full share. 0s: at once.
    pub(crate) slow_start: Time,
    /// Backpressure: how many requests it works on at once.
    pub(crate) concurrency: RawConcurrency,
    /// Backpressure: whose requests go first when that is reached, and how long the others wait.
    pub(crate) queue: RawQueue,
    /// Leaves it alone while it fails.
    pub(crate) breaker: RawBreaker,
    /// Ejects an endpoint that does worse than its peers.
    pub(crate) outlier: RawOutlier,
    /// Sends again what failed, where that is safe.
    pub(crate) retry: RawRetry,
    /// Holds a client that wants far more than its fair share to that, while it is saturated.
    pub(crate) noisy: RawNoisy,
}

impl Default for RawUpstream {
    fn default() -> Self {
        Self {
            endpoints: None,
            discover: None,
            protocol: RawProtocol::Http1,
            tls: None,
            balance: RawBalance::PeakEwma.into(),
            connect_timeout: Time::secs(1).into(),
            idle_timeout: Time::secs(60).into(),
            health: None,
            slow_start: Time::secs(30),
            concurrency: RawConcurrency::default(),
            queue: RawQueue::default(),
            breaker: RawBreaker::default(),
            outlier: RawOutlier::default(),
            retry: RawRetry::default(),
            noisy: RawNoisy::default(),
        }
    }
}

/// Where to look endpoints up.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["dns"]))]
pub(crate) struct RawDiscover {
    /// `name:port` for A and AAAA records, `name` alone for SRV records, which carry the ports.
    #[schemars(required)]
    pub(crate) dns: Option<Spanned<String>>,
    /// The least time between look-ups, whatever the answers' TTL; also the pause after a failed one.
    pub(crate) refresh: Spanned<Time>,
}

impl Default for RawDiscover {
    fn default() -> Self {
        Self {
            dns: None,
            refresh: Time::secs(5).into(),
        }
    }
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawClientTls {
    /// The name its certificate must be for, also sent as SNI. Default: the endpoint's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<Spanned<String>>,
    /// PEM file with the authorities to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<Spanned<String>>,
    /// PEM file with the certificate to show it. Needs `client_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_certificate: Option<Spanned<String>>,
    /// PEM file with that certificate's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_key: Option<Spanned<String>>,
}

/// Active health checks. Needs exactly one of `path`, `grpc` and `tcp`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawHealth {
    /// `GET` this path; 200 to 399 is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<Spanned<String>>,
    /// Ask `grpc.health.v1.Health` for this service. Empty: for the whole server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc: Option<Spanned<String>>,
    /// A connection that can be made is healthy.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) tcp: Spanned<bool>,
    /// The Host to ask for, with `path`. Default: the endpoint's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<Spanned<String>>,
    /// Time between two checks of one endpoint; up to 10% is added or taken off.
    pub(crate) interval: Spanned<Time>,
    /// Bound on one check.
    pub(crate) timeout: Spanned<Time>,
    /// Successes in a row that bring an endpoint back.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) rise: Spanned<i64>,
    /// Failures in a row that take an endpoint out.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) fall: Spanned<i64>,
}

impl Default for RawHealth {
    fn default() -> Self {
        Self {
            path: None,
            grpc: None,
            tcp: false.into(),
            host: None,
            interval: Time::secs(5).into(),
            timeout: Time::secs(1).into(),
            rise: 2.into(),
            fall: 3.into(),
        }
    }
}

fn is_false(value: &Spanned<bool>) -> bool {
    !**value
}
