//! `[rate_limits.NAME]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawMode, Spanned};
use crate::config::units::Rate;

/// How much somebody may have in a time. Routes name the limits they are under.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["quota"]))]
pub(crate) struct RawRateLimit {
    /// Whether it acts.
    pub(crate) mode: RawMode,
    /// Who has a quota of its own: each `client`, `route`, `address` (of IPv6, each /64), `tier`, or value of
    /// `header:NAME`.
    #[schemars(regex(pattern = r"^(client|route|address|tier|header:.+)$"))]
    pub(crate) per: Spanned<String>,
    /// How much in what time: any second, minute or hour, or a day or month of the UTC calendar.
    #[schemars(required)]
    pub(crate) quota: Option<Spanned<Rate>>,
    /// How much of it may come at once, where no calendar counts. Default: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) burst: Option<Spanned<i64>>,
    /// What is counted: `requests`; `upstream-time`, seconds of an upstream's concurrency; or `bytes` of bodies
    /// both ways. The latter two are known at a request's end, and what is too much then is paid off later.
    pub(crate) cost: RawCost,
    /// Who shares it: `local` to this process, or `shared` among all that meet by [shared]. They tell each other ten times a
    /// second, decide by themselves, and go by their part of it while they cannot.
    pub(crate) scope: Spanned<RawScope>,
    /// Whether answers from the cache count.
    pub(crate) count_cache_hits: bool,
    /// How many are told apart, at 16 bytes each. Whoever comes beyond takes over the place, and the debt, of
    /// whoever has used least.
    #[schemars(range(min = 1, max = 100000000))]
    pub(crate) max_keys: Spanned<i64>,
}

impl Default for RawRateLimit {
    fn default() -> Self {
        Self {
            mode: RawMode::Enforce,
            per: "client".to_owned().into(),
            quota: None,
            burst: None,
            cost: RawCost::Requests,
            scope: RawScope::Local.into(),
            count_cache_hits: false,
            max_keys: 1_000_000.into(),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawCost {
    /// Requests.
    Requests,
    /// Seconds of an upstream's concurrency.
    UpstreamTime,
    /// Bytes of bodies.
    Bytes,
}

/// Who shares a quota.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawScope {
    /// This process alone.
    Local,
    /// All replicas.
    Shared,
}
