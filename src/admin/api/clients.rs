//! `GET /api/v1/clients`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The clients, and what they share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    /// What they are sorted by: `cost`, `requests`, `refused`, `peak_share`.
    pub sort: String,
    /// How many are followed by name.
    pub total: usize,
    /// The first of them.
    pub clients: Vec<Client>,
    /// What the clients of each upstream did together.
    pub upstreams: Vec<ClientsOfUpstream>,
}

/// All clients of one upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientsOfUpstream {
    /// Which; none: requests that no route took to one.
    pub upstream: Option<String>,
    /// What they did.
    pub took: Took,
    /// How evenly the last ten seconds were shared among those who wanted a part, 1 being even; none when nobody did.
    pub fairness: Option<f64>,
}

/// What clients did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Took {
    /// Requests.
    pub requests: u64,
    /// Requests by how they ended.
    pub by_class: BTreeMap<String, u64>,
    /// Bytes of request bodies received.
    pub bytes_in: u64,
    /// Bytes of response bodies sent.
    pub bytes_out: u64,
    /// Requests sent upstream beyond the first of each.
    pub retries: u64,
    /// The cost: how long its requests held a place at the upstream.
    pub upstream_seconds: f64,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Its name, or what it was identified by.
    pub client: String,
    /// What it is called in `/metrics`.
    pub label: String,
    /// Who answers for it, where the configuration says so.
    pub owner: Option<String>,
    /// Its tier, where the configuration gives it one.
    pub tier: Option<String>,
    /// The requests a second it declared.
    pub declared_rate: Option<f64>,
    /// Requests, over all upstreams.
    pub requests: u64,
    /// Requests that Tidegate refused.
    pub refused: u64,
    /// The cost: how long its requests held a place at an upstream.
    pub upstream_seconds: f64,
    /// Its share of the cost of the upstreams it uses.
    pub share: Share,
    /// What it did at each, the one it cost most first.
    pub upstreams: Vec<ClientOfUpstream>,
    /// What is said against it.
    pub flags: Vec<ClientFlag>,
}

/// Shares of the cost, between 0 and 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Since the start.
    pub overall: f64,
    /// In the busiest twentieth of the minutes of the last week; none while too little is known.
    pub peak: Option<f64>,
    /// In the last minute.
    pub last_minute: f64,
    /// In the last ten seconds.
    pub last_10s: f64,
}

/// One client at one upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientOfUpstream {
    /// Which; none: requests that no route took to one.
    pub upstream: Option<String>,
    /// What it did since it has been followed.
    pub took: Took,
    /// The cost it may have caused before, at most.
    pub untold_upstream_seconds: f64,
    /// The median time of its requests.
    pub p50_ms: Option<f64>,
    /// 98th percentile.
    pub p98_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// Its share of the upstream's cost.
    pub share: Share,
}

/// Something said against a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientFlag {
    /// `noisy`, `borrowing`, `over_declared`, `retrying`, `polling`, `ignores_retry_after`.
    pub flag: String,
    /// At which upstream.
    pub upstream: Option<String>,
    /// Since when.
    pub since: String,
    /// The numbers that say it.
    pub evidence: Vec<ClientEvidence>,
    /// The routes it takes most there.
    pub routes: Vec<String>,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientEvidence {
    /// What was measured.
    pub what: String,
    /// How much of it.
    pub value: f64,
    /// What it is held against.
    pub baseline: Option<f64>,
    /// What both count.
    pub unit: String,
}
