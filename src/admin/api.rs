//! The answers of the API as types: what the server writes is what the command line reads.
//!
//! Plain data in the API's words and units: milliseconds, seconds, bytes, times as RFC 3339 in UTC. Words
//! that may grow (a state, a protocol) are text, so that a client does not stumble over a newer server's.
//! Depends on nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod cache;
mod clients;
mod diagnosis;
mod feed;
mod isolations;
mod limits;
mod requests;
mod slos;
mod usage;

pub use self::cache::{Cache, CacheDisk, CachedUrl, Caches, Purge, Purged};
pub use self::clients::{
    Client, ClientEvidence, ClientFlag, ClientOfUpstream, Clients, ClientsOfUpstream, Share, Took,
};
pub use self::diagnosis::{Diagnosis, Scale, Verdict, VerdictEvidence};
pub use self::feed::{
    Component, Histories, History, Moment, MomentOfUpstream, NowBreaker, NowEndpoints, NowLatency,
    NowProcess, NowSecond, UpstreamDetail,
};
pub use self::isolations::{Isolate, Isolated, Isolation, Isolations, Preview, Released};
pub use self::limits::{
    Breaker, BreakerChange, BreakerEvidence, BreakerOrder, BreakerTransitions, Breakers, Limit,
    Limits, RateLimit,
};
pub use self::requests::{InFlight, InFlightRequest, Why, WhyDecision, WhyPhase};
pub use self::slos::{FirstVerdict, Incident, Incidents, Slo, SloLatency, SloSubject, Slos};
pub use self::usage::{
    TrafficPair, TrafficReport, Usage, UsageHour, UsageHours, UsageRow, UsageSums,
};

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
    /// What outlives a restart.
    pub state: State,
    /// The usage ledger.
    pub usage: UsageState,
}

/// How the usage ledger fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageState {
    /// Where it is: `sqlite:PATH`, `postgres://…`, or `memory`.
    pub store: String,
    /// Its file; null: it is in none.
    pub file: Option<String>,
    /// When it was last written; null: never.
    pub written: Option<String>,
    /// Rows that wait to be written.
    pub pending: usize,
    /// Rows that were lost.
    pub dropped: u64,
    /// Why it could not be written; null when it could.
    pub error: Option<String>,
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

/// What outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The directory it is kept in; none when nothing is.
    pub directory: Option<String>,
    /// Why it could not be written the last time; none when it was, or there was nothing to keep.
    pub error: Option<String>,
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
    /// Its recent latencies, over one span after the other; none before the first exchange.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// Recent latencies over a span of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The span: 10, 60, 300, 3600.
    pub over_seconds: u64,
    /// Exchanges that ended in it.
    pub requests: u64,
    /// By phase, and in `total`; none without exchanges.
    pub phases: Vec<Quantiles>,
}

/// The quantiles of one phase, each at most 1% off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say the quantiles")]
pub struct Quantiles {
    /// Which.
    pub phase: String,
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p98_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub p99_9_ms: Option<f64>,
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
    /// How its host is doing, by the node exporter that `node` names; none when that is not known.
    pub host: Option<EndpointHost>,
}

/// How the host of an endpoint is doing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointHost {
    /// The part of all processors' time that was not idle, over the last seconds.
    pub cpu: f64,
    /// The part of it in which a disk was waited for.
    pub iowait: f64,
    /// The part of its memory that is in use.
    pub memory: f64,
    /// By how much that grew lately, in bytes a second.
    pub memory_slope: f64,
    /// Tasks that run or wait, the mean of a minute.
    pub load: f64,
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

/// `GET /api/v1/host`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The kernel, the machine's name and its kind, as `sar` begins.
    pub system: [String; 3],
    /// CPUs there are.
    pub cpus: usize,
    /// What went on, the oldest first.
    pub rows: Vec<HostRow>,
}

/// What went on in one step of time. The columns are called as in `sar`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRow {
    /// When it ended.
    pub at: String,
    /// How long it was.
    pub seconds: f64,
    /// Groups of columns: `cpu`, `memory`, `queue`, `pressure`, `network`, `loopback`, `tcp`, `tasks`, `disks`,
    /// `process`.
    #[serde(flatten)]
    pub groups: BTreeMap<String, BTreeMap<String, f64>>,
}
