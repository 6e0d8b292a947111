//! What is promised and how it stands, and the incidents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::incident::incidents::{FirstVerdict, Incident};

/// `GET /api/v1/slos`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slos {
    /// The objectives, in the order of their names.
    pub slos: Vec<Slo>,
    /// Requests of subjects there was no room for, since the start.
    pub untracked_requests: u64,
}

/// An objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// Its name.
    pub name: String,
    /// Who is held to it apart from others: `route`, `upstream`, `endpoint` or `client`.
    pub per: String,
    /// How fast; null: nothing is promised.
    pub latency: Option<SloLatency>,
    /// The share that does not fail; null: nothing is promised.
    pub availability: Option<f64>,
    /// Fewer requests in a window say nothing.
    pub min_requests: u64,
    /// Who is held to it, by name.
    pub subjects: Vec<SloSubject>,
}

/// A bound on a quantile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SloLatency {
    /// Which.
    pub quantile: f64,
    /// What it stays below.
    pub below_ms: f64,
    /// In which time.
    pub over_seconds: u64,
}

/// How one subject stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SloSubject {
    /// Its name.
    pub subject: String,
    /// Requests in the latency's window, or in the last five minutes where none is promised.
    pub requests: u64,
    /// What the quantile is; null of no requests.
    pub latency_ms: Option<f64>,
    /// The share of requests that were not below the bound.
    pub slow_ratio: f64,
    /// How many times too fast the error budget burns, by window: `5m`, `30m`, `1h`, `6h`.
    pub burn_rates: BTreeMap<String, f64>,
    /// The part of the last six hours' error budget that is left; below 0: overdrawn.
    pub budget_remaining: Option<f64>,
    /// The ways it is missed in: `latency`, `fast_burn`, `slow_burn`.
    pub missed: Vec<String>,
}

/// `GET /api/v1/incidents`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incidents {
    /// The newest first.
    pub incidents: Vec<Incident>,
}
