//! Limits and breakers, and what can be ordered of them.

use serde::{Deserialize, Serialize};

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
    /// Who shares it: `local` to this process, or `shared` with the fleet.
    pub scope: String,
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
