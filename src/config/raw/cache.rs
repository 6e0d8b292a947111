//! `[cache.NAME]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spanned;
use crate::config::units::{Ratio, Size, Time};

/// A cache of responses that routes may share (RFC 9111).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawCache {
    /// Memory for responses: 1MiB and more.
    pub(crate) memory: Spanned<Size>,
    /// A second tier that outlives the process. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<RawCacheDisk>,
    /// The largest body that is kept; at most a quarter of `memory`. Default 32MiB, or a quarter of `memory` or of
    /// the disk's `size` where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_object: Option<Spanned<Size>>,
    /// How long a response is fresh that says nothing about it and sets no cookie. 0: as HTTP guesses it from
    /// the last change, at most five minutes.
    pub(crate) default_ttl: Spanned<Time>,
    /// The same for 404 and 410.
    pub(crate) not_found_ttl: Spanned<Time>,
    /// How long past its freshness a response may be served while the breaker is open, the queue is full or
    /// the origin fails. 0: only what the response itself allows.
    pub(crate) stale_if_unhealthy: Time,
    /// The field of a response that its tags stand in, between commas.
    pub(crate) tag_header: Spanned<String>,
    /// Whose word it takes to keep a response that sets a cookie.
    pub(crate) cookies: RawCacheCookies,
    /// Whether `Cache-Control` of requests is obeyed: a crowd that reloads asks the origin each time.
    pub(crate) client_control: RawClientControl,
    /// Fields that stand above `Cache-Control` in responses (RFC 9213); the first that is there counts.
    pub(crate) targeted: Vec<Spanned<String>>,
    /// What besides the URL tells responses apart.
    pub(crate) key: RawCacheKey,
    /// How long a request waits for the answer to another like it before it goes to the origin itself.
    pub(crate) coalesce_wait: Time,
    /// The share of a full cache that one client's requests may take while others need room.
    pub(crate) max_client_share: Ratio,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            memory: Size(256 << 20).into(),
            disk: None,
            max_object: None,
            default_ttl: Time::secs(0).into(),
            not_found_ttl: Time::secs(0).into(),
            stale_if_unhealthy: Time::secs(3_600),
            tag_header: "cache-tag".to_owned().into(),
            cookies: RawCacheCookies::Origin,
            client_control: RawClientControl::Obey,
            targeted: ["tidegate-cache-control", "cdn-cache-control"]
                .map(|name| name.to_owned().into())
                .into(),
            key: RawCacheKey::default(),
            coalesce_wait: Time::secs(5),
            max_client_share: Ratio(0.5),
        }
    }
}

/// Where a cache keeps responses on disk.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCacheDisk {
    /// A directory for this cache alone. It is made if it is not there.
    pub(crate) path: Spanned<String>,
    /// Bytes of disk for responses: 16MiB and more, and at least four times `max_object`. Default 10GiB.
    #[serde(default = "disk_size")]
    pub(crate) size: Spanned<Size>,
}

fn disk_size() -> Spanned<Size> {
    Size(10 << 30).into()
}

/// Whose word it takes to keep a response that sets a cookie.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawCacheCookies {
    /// The origin gave it a time to live.
    Origin,
    /// The origin also said `public` or `s-maxage`.
    Strict,
}

/// What is made of `Cache-Control` in requests.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawClientControl {
    /// It is obeyed.
    Obey,
    /// It is ignored, `no-store` and `only-if-cached` excepted.
    Ignore,
}

/// What besides the URL tells responses apart.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawCacheKey {
    /// Query parameters that are taken out, of the request as well; `*` at the end stands for every rest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ignore_query: Vec<Spanned<String>>,
    /// Request fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fields: Vec<Spanned<String>>,
    /// Cookies, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cookie_names: Vec<Spanned<String>>,
}
