//! The answers of the API as types: what the server writes is what the command line reads.
//!
//! Plain data in the API's words and units: milliseconds, seconds, bytes, times as RFC 3339 in UTC. Words
//! that may grow (a state, a protocol) are text, so that a client does not stumble over a newer server's.
//! Depends on nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod clients;
mod diagnosis;
mod feed;
mod isolations;
mod slos;
mod usage;

pub use self::clients::{
    Client, ClientEvidence, ClientFlag, ClientOfUpstream, Clients, ClientsOfUpstream, Share, Took,
};
pub use self::diagnosis::{Diagnosis, Scale, Verdict, VerdictEvidence};
pub use self::feed::{
    Component, Histories, History, Moment, MomentOfUpstream, NowBreaker, NowEndpoints, NowLatency,
    NowProcess, NowSecond, UpstreamDetail,
};
pub use self::isolations::{Isolate, Isolated, Isolation, Isolations, Preview, Released};
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

/// `GET /api/v1/limits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Of each upstream, in the order of the plan.
    pub limits: Vec<Limit>,
    /// Quotas, by name.
    pub rate_limits: Vec<RateLimit>,
}

/// A rate limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Its name.
    pub name: String,
    /// Whether it acts: `enforce`, `observe`, `off`.
    pub mode: String,
    /// Who has a quota of its own, in the configuration's words.
    pub per: String,
    /// How much in what time, in the configuration's form.
    pub quota: String,
    /// How much of it may come at once; none where the calendar counts.
    pub burst: Option<u64>,
    /// What is counted: `requests`, `upstream-time`, `bytes`.
    pub cost: String,
    /// Whether answers from the cache count.
    pub count_cache_hits: bool,
    /// How many are told apart.
    pub max_keys: usize,
    /// The routes under it.
    pub routes: Vec<String>,
    /// Requests that passed.
    pub passed: u64,
    /// Requests it refused.
    pub refused: u64,
    /// Requests it would have refused while it only observed.
    pub would_refuse: u64,
    /// How often a key had to make room for another while it still counted.
    pub evictions: u64,
}

/// One upstream's concurrency limit and the queue in front of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Whose.
    pub upstream: String,
    /// Whether it acts: `enforce`, `observe`, `off`.
    pub mode: String,
    /// How it is found: `adaptive`, `fixed`.
    pub algorithm: String,
    /// Requests that may hold a slot at once.
    pub limit: u32,
    /// Requests that hold one.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub waiting: u32,
    /// Endless responses, which hold none.
    pub streams: u32,
    /// How throughput answers to more concurrency: 1 while slots are free, 0 when more brings nothing.
    pub elasticity: Option<f64>,
    /// The latency below saturation.
    pub base_latency_ms: Option<f64>,
    /// The mean upstream time, lately.
    pub latency_ms: Option<f64>,
    /// Completions a second, lately.
    pub throughput: Option<f64>,
}

/// `GET /api/v1/breakers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breakers {
    /// The upstreams' in the order of the plan, then those of routes that have one.
    pub breakers: Vec<Breaker>,
}

/// One breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// The upstream it stands before; none when it is a route's.
    pub upstream: Option<String>,
    /// The route it stands before; none when it is an upstream's.
    pub route: Option<String>,
    /// Whether it acts: `enforce`, `observe`, `off`.
    pub mode: String,
    /// `closed`, `open`, `half_open`, `recovering`.
    pub state: String,
    /// The share of requests it admits, apart from probes.
    pub admitted: f64,
    /// Calls in its window.
    pub requests: u32,
    /// The share of them that failed.
    pub failure_ratio: f64,
    /// The share of them that were slow.
    pub slow_ratio: f64,
    /// What opened it; none while it is closed or when an operator did.
    pub evidence: Option<BreakerEvidence>,
    /// Recoveries that failed since it opened.
    pub relapses: u32,
    /// Until it admits more than now by itself.
    pub next_try_seconds: Option<f64>,
    /// The operator's order in force.
    pub order: Option<BreakerOrder>,
    /// How often it went from one state to another.
    pub transitions: Vec<BreakerTransitions>,
}

/// What opened a breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerEvidence {
    /// `failures` or `slow_calls`.
    pub measure: String,
    /// The share seen.
    pub value: f64,
    /// The share that opens it.
    pub threshold: f64,
    /// Calls that were counted.
    pub requests: u32,
}

/// An operator's order to a breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerOrder {
    /// `open` or `close`.
    pub state: String,
    /// Until it ends by itself.
    pub ends_in_seconds: f64,
    /// Why, in the operator's words.
    pub reason: String,
}

/// How often a breaker went from one state to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerTransitions {
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
    /// How often.
    pub count: u64,
}

/// `POST /api/v1/breakers/{upstream}`, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerChange {
    /// `open`: refuse everything; `close`: admit everything; `auto`: end an order.
    pub state: String,
    /// When the order ends by itself, as a duration such as `30m`. Not needed for `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Why.
    pub reason: String,
}

/// `GET /api/v1/cache`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Caches {
    /// In the order of their names.
    pub caches: Vec<Cache>,
}

/// One cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Its name.
    pub name: String,
    /// Bytes of memory it takes.
    pub bytes: u64,
    /// Bytes it may take.
    pub capacity: u64,
    /// URLs it holds responses of.
    pub urls: usize,
    /// Ways to the origin that others may join.
    pub flights: usize,
    /// The share of requests answered from what it holds, or along with another.
    pub hit_ratio: f64,
    /// Requests by what it did about them.
    pub requests: BTreeMap<String, u64>,
    /// Its disk tier, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<CacheDisk>,
    /// The URLs that take most bytes.
    pub top_by_bytes: Vec<CachedUrl>,
    /// The URLs that saved most of the origin's time.
    pub top_by_saved_seconds: Vec<CachedUrl>,
}

/// A cache's disk tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDisk {
    /// `opening`, `on`, `failed` or `closed`.
    pub state: String,
    /// Bytes of disk it takes.
    pub bytes: u64,
    /// Bytes it may take.
    pub capacity: u64,
    /// Responses it holds.
    pub responses: usize,
    /// What happened since the start: responses `loaded` into memory, `written`, `dropped` unwritten, writes and
    /// reads that `failed`, records found `corrupt`, and segments `evicted`.
    pub events: BTreeMap<String, u64>,
}

/// A URL whose responses are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedUrl {
    /// The URL.
    pub url: String,
    /// Bytes its responses take.
    pub bytes: u64,
    /// How often they were used.
    pub hits: u64,
    /// Seconds of the origin's time that saved.
    pub saved_seconds: f64,
}

/// `POST /api/v1/cache/purge`. Exactly one of `url`, `prefix` and `tag` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// The cache. Without: every cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// One URL, with all its variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Every URL that begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Every response with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Whether what is purged may still be used stale, as far as that is allowed.
    #[serde(default)]
    pub soft: bool,
    /// Why.
    pub reason: String,
}

/// What a purge did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// How many URLs had responses that were purged.
    pub purged: usize,
}

/// `GET /api/v1/inflight`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InFlight {
    /// How many requests are under way.
    pub total: usize,
    /// Workers that did not answer, and whose requests are missing.
    pub silent_workers: usize,
    /// The oldest of them, the oldest first.
    pub requests: Vec<InFlightRequest>,
}

/// A request under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InFlightRequest {
    /// Its id.
    pub request_id: String,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: Option<String>,
    /// How long it is under way.
    pub age_ms: Option<f64>,
    /// What it waits for: `decide`, `queue`, `connect`, `wait`, `body`.
    pub phase: String,
    /// The route it takes.
    pub route: Option<String>,
    /// The upstream its route leads to.
    pub upstream: Option<String>,
    /// The endpoint it was sent to last.
    pub endpoint: Option<String>,
    /// Requests sent upstream for it.
    pub attempts: u8,
}

/// `GET /api/v1/why/{request_id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// Its id.
    pub request_id: String,
    /// When its first byte came.
    pub started_at: String,
    /// Its method.
    pub method: String,
    /// The route it took.
    pub route: Option<String>,
    /// The upstream its route leads to.
    pub upstream: Option<String>,
    /// The endpoint it was sent to last.
    pub endpoint: Option<String>,
    /// Its tier.
    pub tier: Option<String>,
    /// The status the client was sent.
    pub status: u16,
    /// The status the upstream answered with.
    pub upstream_status: Option<u16>,
    /// How it ended.
    pub outcome: String,
    /// Why Tidegate answered by itself or the upstream failed.
    pub reason: Option<String>,
    /// What a policy that only observes would have refused it for.
    pub would_refuse: Option<String>,
    /// Requests sent upstream for it.
    pub attempts: u8,
    /// From its first byte to the last of its response.
    pub total_ms: Option<f64>,
    /// The phases it went through, in order.
    pub phases: Vec<WhyPhase>,
    /// The decisions taken about it, in order.
    pub decisions: Vec<WhyDecision>,
}

/// A phase of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyPhase {
    /// Which.
    pub phase: String,
    /// How long it took.
    pub ms: Option<f64>,
}

/// A decision about a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyDecision {
    /// When, after its head was whole.
    pub at_ms: f64,
    /// Who decided.
    pub policy: String,
    /// Which of several: a rate limit's name.
    pub name: Option<String>,
    /// What.
    pub decision: String,
    /// Why.
    pub reason: Option<String>,
    /// What was seen, in `unit`.
    pub value: Option<f64>,
    /// What that was held to, in `unit`.
    pub threshold: Option<f64>,
    /// `requests`, `seconds`, `ratio`; none for a status.
    pub unit: Option<String>,
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
