//! Who used what.

use serde::{Deserialize, Serialize};

/// `GET /api/v1/usage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// From when on.
    pub from: String,
    /// Up to when.
    pub to: String,
    /// What rows are told apart by.
    pub by: Vec<String>,
    /// Over all rows.
    pub total: UsageSums,
    /// How many rows there are; those shown are the dearest.
    pub row_count: usize,
    /// The rows, dearest first.
    pub rows: Vec<UsageRow>,
}

/// What was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageSums {
    /// Requests, refused ones among them.
    pub requests: u64,
    /// Those that Tidegate refused.
    pub refused: u64,
    /// Those that ended in a 5xx or broke off.
    pub errors: u64,
    /// Times that requests were sent upstream.
    pub attempts: u64,
    /// Attempts beyond each request's first.
    pub retries: u64,
    /// Those answered with a 1xx: upgraded.
    pub status_1xx: u64,
    /// With a 2xx.
    pub status_2xx: u64,
    /// With a 3xx.
    pub status_3xx: u64,
    /// With a 4xx, refusals for a quota among them.
    pub status_4xx: u64,
    /// With a 5xx, refusals for want of room among them.
    pub status_5xx: u64,
    /// Those answered from the cache.
    pub cache_hits: u64,
    /// Bytes of response bodies that came from the cache.
    pub cache_bytes: u64,
    /// Seconds at the upstream that the cache saved: those who did not ask it, at what those cost of late on the same
    /// route that had to.
    pub saved_upstream_seconds: f64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// The cost: seconds that they held a place at an upstream.
    pub upstream_seconds: f64,
    /// 98th percentile of the latency, right within 5%.
    pub p98_ms: Option<f64>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageRow {
    /// The client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The route; empty: none matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The upstream; empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// When the hour began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    /// What was used.
    #[serde(flatten)]
    pub sums: UsageSums,
    /// Its part of the cost of all.
    pub share: f64,
    /// Its part of the cost in the busiest twentieth of the range; null by the hour.
    pub peak_share: Option<f64>,
    /// The rate its client declared, requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_rate: Option<f64>,
    /// The rate of its client's busiest minute, requests a second; of those that declared one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rate: Option<f64>,
}

/// `GET /api/v1/usage/hours`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageHours {
    /// From when on.
    pub from: String,
    /// Up to when.
    pub to: String,
    /// The dearest clients, and everybody else as `__other__`.
    pub hours: Vec<UsageHour>,
}

/// What one client cost in one hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageHour {
    /// When the hour began.
    pub hour: String,
    /// The client.
    pub client: String,
    /// Seconds that its requests held a place at an upstream.
    pub upstream_seconds: f64,
}

/// `GET /api/v1/traffic`: who talks to whom, the chattiest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// From when on.
    pub from: String,
    /// Up to when.
    pub to: String,
    /// The pairs.
    pub pairs: Vec<TrafficPair>,
}

/// One client and one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficPair {
    /// Who calls.
    pub client: String,
    /// By which route.
    pub route: String,
    /// Whom.
    pub upstream: String,
    /// How often.
    pub calls: u64,
    /// Calls to a trace, of those that are part of one; null: none is.
    pub calls_per_trace: Option<f64>,
    /// Calls a second.
    pub calls_per_second: f64,
    /// Bytes of both bodies.
    pub bytes: u64,
    /// Seconds that they held a place at the upstream.
    pub upstream_seconds: f64,
}
