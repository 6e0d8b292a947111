//! Requests under way, as plain data. Filled by the workers when the admin API asks. Depends on the model.

use std::time::Duration;

use crate::model::{EndpointId, Phase, RouteId, UpstreamId};

/// One request under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its id.
    pub request_id: String,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: Option<String>,
    /// How long it is under way.
    pub age: Duration,
    /// The phase it is in.
    pub phase: Phase,
    /// The route it takes; none before one was found.
    pub route: Option<RouteId>,
    /// The upstream its route leads to.
    pub upstream: Option<UpstreamId>,
    /// The endpoint it was sent to last.
    pub endpoint: Option<EndpointId>,
    /// Requests sent upstream for it.
    pub attempts: u8,
}

/// The requests under way in the whole process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// The oldest of them, the oldest first.
    pub oldest: Vec<View>,
    /// How many there are.
    pub total: usize,
    /// Workers that did not answer in time, and whose requests are missing.
    pub silent_workers: usize,
}
