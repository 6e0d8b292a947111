//! Requests under way, and what was decided about one.

use serde::{Deserialize, Serialize};

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
