//! `[slos.NAME]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spanned;
use crate::config::units::{Ratio, Time};

/// What is promised of the requests of the routes that name it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawSlo {
    /// How fast they are answered. Without: nothing is promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Spanned<RawLatency>>,
    /// The share that does not fail: no 5xx, and no response broken off. Without: nothing is promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) availability: Option<Spanned<Ratio>>,
    /// Who is held to it apart from others: each `route`, `upstream`, `endpoint` or `client`.
    pub(crate) per: RawPer,
    /// Fewer requests in a window say nothing.
    #[schemars(range(min = 1, max = 1000000))]
    pub(crate) min_requests: Spanned<i64>,
}

impl Default for RawSlo {
    fn default() -> Self {
        Self {
            latency: None,
            availability: None,
            per: RawPer::Route,
            min_requests: 200.into(),
        }
    }
}

/// A bound on a quantile of the total time, from a request's first byte to its response's last.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["below"]))]
pub(crate) struct RawLatency {
    /// Which quantile.
    pub(crate) quantile: Spanned<Ratio>,
    /// What it stays below.
    #[schemars(required)]
    pub(crate) below: Option<Spanned<Time>>,
    /// In which time: a sliding window of 5s to 1h.
    pub(crate) over: Spanned<Time>,
}

impl Default for RawLatency {
    fn default() -> Self {
        Self {
            quantile: Ratio(0.98).into(),
            below: None,
            over: Time::secs(300).into(),
        }
    }
}

/// Who is held to an objective apart from others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawPer {
    /// Each route.
    Route,
    /// Each upstream.
    Upstream,
    /// Each endpoint.
    Endpoint,
    /// Each client.
    Client,
}
