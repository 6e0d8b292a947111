//! The file as it is written: one struct per table, one field per key, nothing checked but shape and units.
//!
//! The doc comments are the schema's descriptions, the `Default` impls the file's defaults. Every value that
//! is checked later knows its place ([`Spanned`]). Untagged and flattened types would lose places, so the
//! alternatives (`"text"` or a table) have visitors of their own in [`either`]. Depends on [`super::units`].

mod action;
mod cache;
mod clients;
mod either;
mod listen;
mod notify;
mod protection;
mod rate_limit;
mod route;
mod shared;
mod slo;
mod spanned;
mod telemetry;
mod upstream;
mod usage;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use action::RawAction;
pub(crate) use cache::{RawCache, RawCacheCookies, RawCacheDisk, RawCacheKey, RawClientControl};
pub(crate) use clients::{RawClients, RawIdentify, RawJwt, RawKnown, RawPrefixes};
pub(crate) use either::{RawBalance, RawEndpoint, RawSecret};
pub(crate) use listen::{RawCertificate, RawListen, RawProtocol, RawServerTls};
pub(crate) use notify::RawNotify;
pub(crate) use protection::{
    RawAlgorithm, RawBreaker, RawConcurrency, RawFairness, RawHedge, RawMode, RawNoisy, RawOutlier,
    RawQueue, RawRetry, RawTier,
};
pub(crate) use rate_limit::{RawCost, RawRateLimit, RawScope};
pub(crate) use route::{RawEdits, RawMatch, RawRewrite, RawRoute, RawRouteHeaders};
pub(crate) use shared::RawShared;
pub(crate) use slo::{RawLatency, RawPer, RawSlo};
pub(crate) use spanned::Spanned;
pub(crate) use telemetry::{
    RawAccessLog, RawLogFormat, RawOtlp, RawOtlpProtocol, RawSpill, RawSplunk, RawTelemetry,
    RawZipkin,
};
pub(crate) use upstream::{RawClientTls, RawDiscover, RawHealth, RawUpstream};
pub(crate) use usage::RawUsage;

use super::units::Time;

/// Configuration of Tidegate.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tidegate configuration", extend("required" = ["version"]))]
pub(crate) struct Raw {
    /// Version of this format. Required; 1 is the only one there is.
    #[schemars(required, extend("const" = 1))]
    pub(crate) version: Option<Spanned<i64>>,
    /// Process-wide settings.
    pub(crate) server: RawServer,
    /// Where clients connect. Without any: one listener named `default` at 127.0.0.1:8080.
    pub(crate) listen: Vec<Spanned<RawListen>>,
    /// Where operators connect.
    pub(crate) admin: RawAdmin,
    /// Who sends requests.
    pub(crate) clients: RawClients,
    /// Classes of requests, most important first. Without any: critical, standard and batch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tiers: Vec<Spanned<RawTier>>,
    /// The services behind, by name. At least one.
    pub(crate) upstreams: BTreeMap<Spanned<String>, Spanned<RawUpstream>>,
    /// How much somebody may have in a time, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) rate_limits: BTreeMap<Spanned<String>, Spanned<RawRateLimit>>,
    /// Caches of responses, by name. A route uses the one it names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) cache: BTreeMap<Spanned<String>, Spanned<RawCache>>,
    /// What is promised, by name. A route is held to the one it names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) slos: BTreeMap<Spanned<String>, Spanned<RawSlo>>,
    /// Which requests go where; the most specific match wins. Without any, a sole upstream gets everything.
    pub(crate) routes: Vec<Spanned<RawRoute>>,
    /// What Tidegate does by itself about what is wrong, by cause. Without: nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) actions: BTreeMap<Spanned<String>, Spanned<RawAction>>,
    /// Who is told when an incident opens and when it is over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notify: Vec<Spanned<RawNotify>>,
    /// The ledger of who used what. Without: in memory, for a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<RawUsage>,
    /// Where the processes of a fleet meet. Without: each is for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shared: Option<Spanned<RawShared>>,
    /// What is written where.
    pub(crate) telemetry: RawTelemetry,
}

/// Process-wide settings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawServer {
    /// Threads that carry traffic. 0: one per core. A change needs a restart.
    #[schemars(range(min = 0, max = 1024))]
    pub(crate) workers: Spanned<i64>,
    /// How long a drain waits for exchanges in flight before it ends them.
    pub(crate) drain_timeout: Time,
    /// Client connections over all listeners; further ones wait in the kernel's backlog.
    /// 0: 90% of half the limit on open files, at least 1024. A change needs a restart.
    #[schemars(range(min = 0))]
    pub(crate) max_connections: Spanned<i64>,
    /// Whether requests are refused, the least important tier first, when Tidegate itself runs short of time,
    /// memory or descriptors.
    pub(crate) overload: RawMode,
    /// Directory for what outlives a restart; made when there is something to keep. Default: the service
    /// manager's `$STATE_DIRECTORY`, else `tidegate-state` beside the file; none without a file. A change needs a
    /// restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state_dir: Option<Spanned<String>>,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            workers: 0.into(),
            drain_timeout: Time::secs(30),
            max_connections: 0.into(),
            overload: RawMode::Enforce,
            state_dir: None,
        }
    }
}

/// The admin API and dashboard. A change needs a restart.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawAdmin {
    /// Address and port, or `unix:/path`. Anything but loopback and unix needs a token.
    pub(crate) address: Spanned<String>,
    /// The bearer token it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Spanned<RawSecret>>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:9900".to_owned().into(),
            token: None,
        }
    }
}
