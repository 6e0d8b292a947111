//! What the dashboard lives on: `GET /api/v1/stream`, `/api/v1/history` and `/api/v1/upstreams/{upstream}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Breaker, Diagnosis, Limit, Scale, Upstream};

/// One second of everything: the data of a `moment` event of `GET /api/v1/stream`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When the second ended, in seconds since the Unix epoch.
    pub at: u64,
    /// The process.
    pub process: NowProcess,
    /// What is wrong.
    pub diagnosis: Diagnosis,
    /// Each upstream, in the order of the plan.
    pub upstreams: Vec<MomentOfUpstream>,
    /// The newest state changes, the oldest of them first, as in `GET /api/v1/events`.
    pub events: Vec<Value>,
}

/// How the process fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NowProcess {
    /// The version that runs.
    pub version: String,
    /// The number of its process.
    pub pid: u32,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// Whether it finishes what is in flight, to end.
    pub draining: bool,
    /// Open client connections.
    pub connections: u64,
    /// Exchanges since the start.
    pub exchanges: u64,
    /// The hash of the configuration in use.
    pub config_hash: String,
}

/// One upstream at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentOfUpstream {
    /// Its name.
    pub name: String,
    /// Whether its limit acts: `enforce`, `observe`, `off`.
    pub limit_mode: String,
    /// The last whole second.
    #[serde(flatten)]
    pub second: NowSecond,
    /// The last ten.
    #[serde(flatten)]
    pub latency: NowLatency,
    /// Its breaker; none where it has none.
    pub breaker: Option<NowBreaker>,
    /// Its endpoints.
    pub endpoints: NowEndpoints,
    /// How much room it has.
    pub scale: Scale,
    /// The share of its budget for retries that is left.
    pub retry_budget: f64,
}

/// One second of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NowSecond {
    /// Requests that may hold a slot at once; 0: there is no limit.
    pub limit: u32,
    /// Requests that held one, on average.
    pub in_flight: f64,
    /// Requests that waited for one, on average.
    pub waiting: f64,
    /// Requests that ended.
    pub requests: u32,
    /// Those among them that Tidegate refused.
    pub refused: u32,
    /// Those among them that the upstream failed.
    pub failed: u32,
    /// What was not refused, by how long it took: bands of `GET /api/v1/history` and counts.
    pub heat: Vec<(u8, u16)>,
}

/// The times of what was not refused, over ten seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say the quantiles")]
pub struct NowLatency {
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p98_ms: Option<f64>,
    /// Means by phase; none of nothing.
    pub phases_ms: BTreeMap<String, f64>,
}

/// How a breaker stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NowBreaker {
    /// `enforce`, `observe`, `off`.
    pub mode: String,
    /// `closed`, `open`, `half_open`, `recovering`.
    pub state: String,
    /// The share of requests it admits, apart from probes.
    pub admitted: f64,
    /// Whether an operator holds it there.
    pub held: bool,
}

/// How many endpoints there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NowEndpoints {
    /// All.
    pub total: usize,
    /// Those that take requests.
    pub in_use: usize,
}

/// `GET /api/v1/history`: the last minutes, second by second, the oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histories {
    /// Where each band of the heat maps begins.
    pub bands_ms: Vec<f64>,
    /// Those asked for, in the order of the plan.
    pub upstreams: Vec<History>,
}

/// The past of one upstream, as columns of equal length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns are those of a moment")]
pub struct History {
    /// Whose.
    pub upstream: String,
    /// When each second ended, in seconds since the Unix epoch.
    pub at: Vec<u64>,
    pub limit: Vec<u32>,
    pub in_flight: Vec<f64>,
    pub waiting: Vec<f64>,
    pub requests: Vec<u32>,
    pub refused: Vec<u32>,
    pub failed: Vec<u32>,
    pub p50_ms: Vec<Option<f64>>,
    pub p90_ms: Vec<Option<f64>>,
    pub p98_ms: Vec<Option<f64>>,
    /// Means by phase, over ten seconds; only when one upstream was asked for, as is the heat.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases_ms: BTreeMap<String, Vec<f64>>,
    /// By second: bands and counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heat: Vec<Vec<(u8, u16)>>,
}

/// `GET /api/v1/upstreams/{upstream}`: everything about one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamDetail {
    /// As in the list.
    #[serde(flatten)]
    pub upstream: Upstream,
    /// Its concurrency limit and the queue in front of it.
    pub limit: Limit,
    /// Its breaker; none where it has none.
    pub breaker: Option<Breaker>,
    /// How much room it has.
    pub scale: Scale,
    /// What it said of its own time in `Server-Timing`, since the start.
    pub components: Vec<Component>,
    /// Requests sent to it again, by what had failed.
    pub retries: BTreeMap<String, u64>,
    /// The share of its budget for retries that is left.
    pub retry_budget: f64,
}

/// A part of an upstream's own time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say the quantiles")]
pub struct Component {
    /// What it is called there.
    pub name: String,
    /// How often it was told.
    pub count: u64,
    pub mean_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p98_ms: Option<f64>,
}
