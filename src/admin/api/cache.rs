//! The caches, and what is purged from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /api/v1/cache`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Caches {
    /// In the order of their names.
    pub caches: Vec<Cache>,
}

/// One cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Its name.
    pub name: String,
    /// Bytes of memory it takes.
    pub bytes: u64,
    /// Bytes it may take.
    pub capacity: u64,
    /// URLs it holds responses of.
    pub urls: usize,
    /// Ways to the origin that others may join.
    pub flights: usize,
    /// The share of requests answered from what it holds, or along with another.
    pub hit_ratio: f64,
    /// Requests by what it did about them.
    pub requests: BTreeMap<String, u64>,
    /// Its disk tier, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<CacheDisk>,
    /// The URLs that take most bytes.
    pub top_by_bytes: Vec<CachedUrl>,
    /// The URLs that saved most of the origin's time.
    pub top_by_saved_seconds: Vec<CachedUrl>,
}

/// A cache's disk tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDisk {
    /// `opening`, `on`, `failed` or `closed`.
    pub state: String,
    /// Bytes of disk it takes.
    pub bytes: u64,
    /// Bytes it may take.
    pub capacity: u64,
    /// Responses it holds.
    pub responses: usize,
    /// What happened since the start: responses `loaded` into memory, `written`, `dropped` unwritten, writes and
    /// reads that `failed`, records found `corrupt`, and segments `evicted`.
    pub events: BTreeMap<String, u64>,
}

/// A URL whose responses are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedUrl {
    /// The URL.
    pub url: String,
    /// Bytes its responses take.
    pub bytes: u64,
    /// How often they were used.
    pub hits: u64,
    /// Seconds of the origin's time that saved.
    pub saved_seconds: f64,
}

/// `POST /api/v1/cache/purge`. Exactly one of `url`, `prefix` and `tag` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// The cache. Without: every cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// One URL, with all its variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Every URL that begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Every response with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Whether what is purged may still be used stale, as far as that is allowed.
    #[serde(default)]
    pub soft: bool,
    /// Why.
    pub reason: String,
}

/// What a purge did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// How many URLs had responses that were purged.
    pub purged: usize,
}
