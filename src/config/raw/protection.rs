//! What keeps an upstream inside what it can carry: `[upstreams.NAME.concurrency]`, `.queue`, `.breaker`,
//! `.outlier` and `.retry`, and the tiers that the queue knows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spanned;
use crate::config::units::{Ratio, Time};

/// A class of requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub(crate) struct RawTier {
    /// Unique name.
    #[schemars(required)]
    pub(crate) name: Option<Spanned<String>>,
}

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawMode {
    /// It decides.
    #[default]
    Enforce,
    /// It decides, metrics tell what it would have done, and nothing is refused.
    Observe,
    /// It is not there.
    Off,
}

/// Backpressure: how many requests the upstream works on at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawConcurrency {
    /// Whether the limit acts.
    pub(crate) mode: RawMode,
    /// How the limit is found.
    pub(crate) algorithm: RawAlgorithm,
    /// The lowest limit. Default 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub(crate) min: Option<Spanned<i64>>,
    /// The limit before anything is known. Default 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub(crate) initial: Option<Spanned<i64>>,
    /// The highest limit; a fixed limit itself. Default 2000; of a fixed one, `initial`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub(crate) max: Option<Spanned<i64>>,
    /// Event streams, upgraded connections and other endless responses, which hold no slot. Default 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000000))]
    pub(crate) max_streams: Option<Spanned<i64>>,
}

/// How the limit is found.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawAlgorithm {
    /// It is learned from latency and throughput.
    #[default]
    Adaptive,
    /// It is `max`.
    Fixed,
}

/// Backpressure: whose requests go first when the limit is reached, and how long the others wait.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawQueue {
    /// Whether requests wait. `off`: what finds no slot is refused. `observe` puts the limit on trial too.
    pub(crate) mode: RawMode,
    /// The longest wait.
    pub(crate) max_wait: Spanned<Time>,
    /// The most requests that wait.
    #[schemars(range(min = 0, max = 1000000))]
    pub(crate) max_length: Spanned<i64>,
    /// Who is told apart.
    pub(crate) fairness: RawFairness,
    /// The share of the limit above which a client waits while another one does.
    pub(crate) max_client_share: Spanned<Ratio>,
}

/// Who is told apart.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawFairness {
    /// Clients, by turns.
    Client,
    /// Nobody.
    None,
}

impl Default for RawQueue {
    fn default() -> Self {
        Self {
            mode: RawMode::Enforce,
            max_wait: Time::millis(100).into(),
            max_length: 1_000.into(),
            fairness: RawFairness::Client,
            max_client_share: Ratio(0.25).into(),
        }
    }
}

/// Leaves an upstream alone while it fails.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawBreaker {
    /// Whether the breaker acts.
    pub(crate) mode: RawMode,
    /// The share of failed calls that opens it.
    pub(crate) failure_ratio: Spanned<Ratio>,
    /// The share of slow calls that opens it.
    pub(crate) slow_ratio: Spanned<Ratio>,
    /// From what time on a call is slow. Default: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slow_call: Option<Spanned<Time>>,
    /// Calls in the window before a ratio means anything.
    #[schemars(range(min = 1, max = 1000000))]
    pub(crate) min_requests: Spanned<i64>,
    /// The time calls are counted over.
    pub(crate) window: Spanned<Time>,
    /// How long it stays open at first; doubles with every recovery that fails.
    pub(crate) open_for: Spanned<Time>,
}

impl Default for RawBreaker {
    fn default() -> Self {
        Self {
            mode: RawMode::Enforce,
            failure_ratio: Ratio(0.5).into(),
            slow_ratio: Ratio(0.5).into(),
            slow_call: None,
            min_requests: 20.into(),
            window: Time::secs(10).into(),
            open_for: Time::secs(5).into(),
        }
    }
}

/// Ejects an endpoint that does worse than its peers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawOutlier {
    /// Whether endpoints are ejected.
    pub(crate) mode: RawMode,
    /// Failures in a row that eject at once.
    #[schemars(range(min = 1, max = 1000000))]
    pub(crate) consecutive_failures: Spanned<i64>,
    /// How many times the median endpoint's latency is slow; above 1.
    #[schemars(extend("exclusiveMinimum" = 1))]
    pub(crate) slow_factor: Spanned<f64>,
    /// The share of the endpoints that may be out at once.
    pub(crate) max_ejected: Spanned<Ratio>,
}

impl Default for RawOutlier {
    fn default() -> Self {
        Self {
            mode: RawMode::Enforce,
            consecutive_failures: 5.into(),
            slow_factor: 3.0.into(),
            max_ejected: Ratio(0.5).into(),
        }
    }
}

/// Sends again what failed, where that is safe.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawRetry {
    /// Whether failed requests are sent again.
    pub(crate) mode: RawMode,
    /// How often a request is sent at most, the first time included.
    #[schemars(range(min = 1, max = 10))]
    pub(crate) attempts: Spanned<i64>,
    /// Retries, as a share of the requests of the last ten seconds; ten a second are allowed besides.
    pub(crate) budget: Spanned<Ratio>,
    /// Bound on one attempt, from the request sent to the response head. Default: only the route's timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_try_timeout: Option<Spanned<Time>>,
    /// Sends a second copy of a request that takes longer than most. Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hedge: Option<Spanned<RawHedge>>,
}

impl Default for RawRetry {
    fn default() -> Self {
        Self {
            mode: RawMode::Enforce,
            attempts: 2.into(),
            budget: Ratio(0.1).into(),
            per_try_timeout: None,
            hedge: None,
        }
    }
}

/// Sends a second copy of a request that takes longer than most; the first answer counts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawHedge {
    /// When: a quantile of the route's latency, such as `p95`, or a duration.
    #[schemars(regex(pattern = r"^(p[0-9]+(\.[0-9]+)?|([0-9]+(d|h|m|s|ms))+)$"))]
    pub(crate) after: Spanned<String>,
    /// Second copies, as a share of the requests of the last ten seconds.
    pub(crate) budget: Spanned<Ratio>,
}

impl Default for RawHedge {
    fn default() -> Self {
        Self {
            after: "p95".to_owned().into(),
            budget: Ratio(0.02).into(),
        }
    }
}

/// Holds a client that wants far more than its fair share to that, while the upstream is saturated.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawNoisy {
    /// Whether it is held. It is named in any case.
    pub(crate) mode: RawMode,
}

impl Default for RawNoisy {
    fn default() -> Self {
        Self { mode: RawMode::Off }
    }
}
