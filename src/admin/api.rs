//! The answers of the API as types: what the server writes is what the command line reads.
//!
//! Plain data in the API's words and units: milliseconds, seconds, bytes, times as RFC 3339 in UTC. Words
//! that may grow (a state, a protocol) are text, so that a client does not stumble over a newer server's.
//! Depends on nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// The number of its process.
    pub pid: u32,
    /// When it started.
    pub started_at: String,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// Data workers.
    pub workers: usize,
    /// Whether it finishes what is in flight, to end.
    pub draining: bool,
    /// What it runs on.
    pub config: Config,
    /// Open client connections over all listeners.
    pub connections: u64,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// What has been carried since the start.
    pub exchanges: Exchanges,
    /// What bounds cost since the start.
    pub dropped: Dropped,
}

/// The configuration in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The file; none when the command line was all.
    pub source: Option<String>,
    /// The hash of what was read.
    pub hash: String,
    /// When it was taken over.
    pub loaded_at: String,
    /// The last attempt to load another; none before the first.
    pub last_reload: Option<Reload>,
}

/// One attempt to load the configuration again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Whether it was taken over.
    pub ok: bool,
    /// When that was tried.
    pub at: String,
    /// What is wrong with it; none when nothing is.
    pub error: Option<String>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it is bound.
    pub address: String,
    /// Open client connections.
    pub connections: u64,
}

/// Finished exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanges {
    /// All of them.
    pub total: u64,
    /// Those that count as errors.
    pub errors: u64,
    /// All of them, by how they ended.
    pub by_outcome: BTreeMap<String, u64>,
    /// Bytes of request bodies received.
    pub bytes_in: u64,
    /// Bytes of response bodies sent.
    pub bytes_out: u64,
}

/// Records that were lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Exchanges missing from the metrics.
    pub exchanges: u64,
    /// Lines missing from the access log.
    pub access_log_lines: u64,
}

/// `GET /api/v1/upstreams`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upstreams {
    /// In the order of the plan.
    pub upstreams: Vec<Upstream>,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// What is spoken to it: `http1`, `http2`.
    pub protocol: String,
    /// How an endpoint is picked, in the configuration's words.
    pub balance: String,
    /// Exchanges in flight.
    pub in_flight: u64,
    /// Open connections to its endpoints, in use or pooled.
    pub connections: u64,
    /// What it carried.
    pub traffic: Traffic,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it is.
    pub address: String,
    /// Its zone, if the configuration names one.
    pub zone: Option<String>,
    /// Its relative share.
    pub weight: f64,
    /// Whether it takes requests.
    pub healthy: bool,
    /// The same in more words: `healthy`, `unhealthy`, `slow_start`.
    pub state: String,
    /// What its last check said.
    pub message: Option<String>,
    /// Exchanges in flight.
    pub in_flight: u64,
    /// Moving average of its latency; none before the first answer.
    pub latency_ms: Option<f64>,
    /// Open connections, in use or pooled.
    pub connections: u64,
}

/// What an upstream or a route carried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Since the start.
    pub total: Total,
    /// Lately.
    pub recent: Recent,
}

/// What was carried since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Exchanges.
    pub requests: u64,
    /// Those that count as errors.
    pub errors: u64,
    /// Bytes of request bodies received.
    pub bytes_in: u64,
    /// Bytes of response bodies sent.
    pub bytes_out: u64,
}

/// What was carried lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// The time it is about.
    pub over_seconds: u64,
    /// Exchanges.
    pub requests: u64,
    /// Those that count as errors.
    pub errors: u64,
    /// Median latency; none without exchanges.
    pub p50_ms: Option<f64>,
    /// 98th percentile.
    pub p98_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
}
