//! `[[routes]]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawBreaker, Spanned};
use crate::config::units::Time;

/// Which requests go where.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "upstream"]))]
pub(crate) struct RawRoute {
    /// Unique name.
    #[schemars(required)]
    pub(crate) name: Option<Spanned<String>>,
    /// What a request must look like. Without: every request.
    #[serde(rename = "match")]
    pub(crate) matches: Spanned<RawMatch>,
    /// Name of the upstream the requests go to.
    #[schemars(required)]
    pub(crate) upstream: Option<Spanned<String>>,
    /// Bound from the request's head to the response's: queueing, connecting and retries included.
    pub(crate) timeout: Spanned<Time>,
    /// Bound on silence while a body streams, in either direction, and in an upgraded connection.
    pub(crate) idle_timeout: Spanned<Time>,
    /// How important its requests are. Default: the middle one of the tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tier: Option<Spanned<String>>,
    /// Name of the cache that answers its requests where it may. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<Spanned<String>>,
    /// Name of the objective its requests are held to. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slo: Option<Spanned<String>>,
    /// A breaker for this route alone, besides its upstream's. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) breaker: Option<RawBreaker>,
    /// Names of the rate limits its requests are under; the tightest decides. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rate_limits: Vec<Spanned<String>>,
    /// How the path changes on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rewrite: Option<Spanned<RawRewrite>>,
    /// Changes to headers on their way.
    pub(crate) headers: RawRouteHeaders,
}

impl Default for RawRoute {
    fn default() -> Self {
        Self {
            name: None,
            matches: Spanned::default(),
            upstream: None,
            timeout: Time::secs(15).into(),
            idle_timeout: Time::secs(300).into(),
            tier: None,
            cache: None,
            slo: None,
            breaker: None,
            rate_limits: Vec::new(),
            rewrite: None,
            headers: RawRouteHeaders::default(),
        }
    }
}

/// What a request must look like. All parts must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawMatch {
    /// `api.example.com`, or `*.example.com` for every host below it. Without: every host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<Spanned<String>>,
    /// Exactly this path. Excludes `path_prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<Spanned<String>>,
    /// This path and everything below it: `/orders` matches `/orders/1`, not `/ordersx`. Default: `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_prefix: Option<Spanned<String>>,
    /// Any of these methods. Empty: every method.
    pub(crate) methods: Vec<Spanned<String>>,
    /// Each of these headers has exactly this value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// How the path changes on its way; the query stays. Needs exactly one of its keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawRewrite {
    /// Takes this prefix off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strip_prefix: Option<Spanned<String>>,
    /// Puts this in the place of the route's `path` or `path_prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replace_prefix: Option<Spanned<String>>,
}

/// Changes to headers on their way.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawRouteHeaders {
    /// On the way to the upstream.
    pub(crate) request: RawEdits,
    /// On the way back to the client.
    pub(crate) response: RawEdits,
}

/// Changes to headers: `remove` comes first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawEdits {
    /// Headers to set, in the place of every value they had.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) set: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Headers to take out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remove: Vec<Spanned<String>>,
}
