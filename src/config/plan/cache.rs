//! `[cache.NAME]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// A cache of responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Unique name.
    pub name: Arc<str>,
    /// Bytes of memory for responses.
    pub memory: u64,
    /// The disk tier, if there is one.
    pub disk: Option<CacheDisk>,
    /// The largest body that is kept, in bytes; at most a quarter of `memory`.
    pub max_object: u64,
    /// Lifetime in seconds of responses that say nothing about it; 0: none.
    pub default_ttl: u32,
    /// The same for 404 and 410.
    pub not_found_ttl: u32,
    /// How long past its freshness a response may be used while the origin is not well.
    pub stale_if_unhealthy: Duration,
    /// The field that tags stand in.
    pub tag_header: HeaderName,
    /// Whether a response that sets a cookie is kept only when it is said to be for all.
    pub strict_cookies: bool,
    /// Whether `Cache-Control` of requests is obeyed.
    pub obeys_clients: bool,
    /// Fields that stand above `Cache-Control`.
    pub targeted: Vec<HeaderName>,
    /// What besides the URL tells responses apart.
    pub key: CacheKey,
    /// How long a request waits for another like it.
    pub coalesce_wait: Duration,
    /// The share of a full cache that one client's requests may take.
    pub max_client_share: f64,
}

/// A cache's disk tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDisk {
    /// Its directory.
    pub path: PathBuf,
    /// Bytes it may take; at least four times the largest body that is kept.
    pub size: u64,
}

/// What parts of a request the operator makes part of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheKey {
    /// Query parameters that are taken out of the request, and so out of the key. A `*` at the end stands for
    /// every rest.
    pub ignore_query: Vec<Arc<str>>,
    /// Request fields.
    pub headers: Vec<HeaderName>,
    /// Cookies, by name.
    pub cookies: Vec<Arc<str>>,
}
