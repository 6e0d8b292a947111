//! A request's hold on the endpoint it was given.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{EndpointState, UpstreamState};
use crate::clock::Instant;
use crate::policy::breaker::Outcome;

/// What a request learned about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It answered; time from the request sent to the response head.
    Success(Duration),
    /// It failed; the time that took.
    Failure(Duration),
}

/// One request in flight on one endpoint. Dropping it counts the request out, so hold it to the end of the
/// body; what the request learned is reported once with [`Lease::observe`]. A lease that is dropped without
/// says nothing about the endpoint: the client went away.
#[derive(Debug)]
#[must_use = "dropping a lease counts its request out"]
pub struct Lease {
    upstream: Arc<UpstreamState>,
    endpoint: Arc<EndpointState>,
    started: Instant,
    observed: bool,
}

impl Lease {
    pub(super) fn new(
        upstream: Arc<UpstreamState>,
        endpoint: Arc<EndpointState>,
        started: Instant,
    ) -> Self {
        upstream.counter().fetch_add(1, Ordering::Relaxed);
        endpoint.slot().enter(started);
        endpoint.count_request();
        Self {
            upstream,
            endpoint,
            started,
            observed: false,
        }
    }

    /// The endpoint.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }

    /// The endpoint's upstream.
    #[must_use]
    pub const fn upstream(&self) -> &Arc<UpstreamState> {
        &self.upstream
    }

    /// Reports what the request learned, and says whether [`UpstreamState::judge`] should run at once. The
    /// first report counts; later ones are ignored.
    #[must_use]
    pub fn observe(&mut self, now: Instant, completion: Completion) -> bool {
        if std::mem::replace(&mut self.observed, true) {
            return false;
        }
        let slot = self.endpoint.slot();
        slot.answered(now);
        let balancers = slot.latency();
        let outcome = match completion {
            Completion::Success(latency) => {
                balancers.observe(latency, now);
                Outcome::Success(latency)
            }
            Completion::Failure(took) => {
                self.endpoint.count_failure();
                balancers.fail(took, now);
                Outcome::Failure
            }
        };
        let stats = self.endpoint.stats();
        let outliers = &self.upstream.outliers;
        outliers.record(stats, self.started, now, outcome)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.slot().leave(self.observed);
        self.upstream.counter().fetch_sub(1, Ordering::Relaxed);
    }
}
