//! `/api/v1/isolations`.

use serde::{Deserialize, Serialize};

/// `GET /api/v1/isolations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isolations {
    /// The oldest first.
    pub isolations: Vec<Isolation>,
}

/// Somebody who is held apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isolation {
    /// What it is released by.
    pub id: String,
    /// `client`, `route`, `endpoint`, `tier`, `upstream`.
    pub kind: String,
    /// Who: a name, or `UPSTREAM/ADDRESS`.
    pub subject: String,
    /// How: `lane`, `block`, `throttle=RATE`, `serve-stale`, `no-retries`.
    pub to: String,
    /// When it began.
    pub since: String,
    /// When it ends by itself.
    pub until: String,
    /// The same, in seconds from now.
    pub remaining_seconds: u64,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who ordered it.
    pub by: String,
    /// Requests that passed, where they are counted.
    pub passed: u64,
    /// Requests it refused.
    pub refused: u64,
}

/// `POST /api/v1/isolations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolate {
    /// `client`, `route`, `endpoint`, `tier`, `upstream`.
    pub kind: String,
    /// Who: a name, or `UPSTREAM/ADDRESS`; a tier stands for those below it as well.
    pub subject: String,
    /// How: `lane` (default), `block`, `throttle=RATE` a client or route; `block` an endpoint or tier; `serve-stale` or
    /// `no-retries` an upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// When it ends by itself, such as `30m`.
    pub ttl: String,
    /// Why.
    pub reason: String,
    /// Only tell what it would have done.
    #[serde(default)]
    pub preview: bool,
}

/// What `POST /api/v1/isolations` did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isolated {
    /// What it is released by; none after a preview.
    pub id: Option<String>,
    /// How the subject is held apart.
    pub to: String,
    /// When it ends by itself.
    pub until: String,
    /// What it would have done in the last whole minute; none where that is not known, as of an endpoint.
    pub preview: Option<Preview>,
    /// Whether it outlives the process, as with a `state_dir`.
    pub kept: bool,
}

/// What an isolation would have done in a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The minute's begin.
    pub minute: String,
    /// Requests of its subject.
    pub requests: u64,
    /// Those it would have refused.
    pub would_refuse: u64,
}

/// What `DELETE /api/v1/isolations/{id}` did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// What was released.
    pub isolation: Isolation,
}
