//! What a request holds of its upstream, from its admission until the upstream has sent everything: the
//! place at the endpoint, the slot below the limit, the breaker's leave. And what is to be said at its end.

use std::time::Duration;

use http::HeaderMap;

use super::admit::Leave;
use super::track::Track;
use crate::clock::Instant;
use crate::engine::admission::StreamPermit;
use crate::engine::protection::Outcome;
use crate::engine::upstream::Lease;
use crate::model::{Phase, Reason, Rejection};
use crate::observe::why::{Policy, Verdict};

/// A request's hold. Dropped without [`Hold::complete`] it says nothing about the upstream: the client went
/// away.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) lease: Lease,
    leave: Leave,
    /// Upstream time of attempts before this one.
    before: Duration,
    outcome: Outcome,
    grpc: bool,
    /// Whether it still has its slot.
    slot: bool,
    stream: Option<StreamPermit>,
}

/// The upstream's part of the time so far.
pub(crate) fn upstream_time(track: &Track) -> Duration {
    let phases = &track.exchange.phases;
    [Phase::Connect, Phase::Wait, Phase::Body]
        .into_iter()
        .map(|phase| phases.get(phase))
        .sum()
}

impl Hold {
    /// Of an answer whose head says `outcome`; `before`: the [`upstream_time`] when it was admitted.
    pub(crate) const fn new(
        lease: Lease,
        leave: Leave,
        before: Duration,
        outcome: Outcome,
        grpc: bool,
    ) -> Self {
        Self {
            lease,
            leave,
            before,
            outcome,
            grpc,
            slot: true,
            stream: None,
        }
    }

    /// Takes in the trailers, which are where gRPC says how it went.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.grpc
            && let Some(status) = grpc_status(trailers)
        {
            self.outcome = Outcome::from_grpc_status(status);
        }
    }

    /// Whether it still has its slot.
    pub(crate) const fn has_slot(&self) -> bool {
        self.slot
    }

    /// Gives the slot back and goes on as a long-lived stream.
    ///
    /// # Errors
    /// When there are as many of those as there may be.
    pub(crate) fn detach(&mut self, now: Instant) -> Result<(), Rejection> {
        self.slot = false;
        self.stream = self.leave.upstream.detach(now)?;
        Ok(())
    }

    /// The upstream has sent everything.
    pub(crate) fn complete(self, track: &mut Track) {
        let outcome = self.outcome;
        self.end(track, outcome);
    }

    /// The upstream broke off.
    pub(crate) fn fail(self, track: &mut Track) {
        self.end(track, Outcome::Failed);
    }

    fn end(self, track: &mut Track, outcome: Outcome) {
        let Self {
            lease,
            leave,
            before,
            slot,
            stream,
            ..
        } = self;
        complete(track, leave, before, outcome, slot);
        drop((lease, stream));
    }
}

/// Says how an admitted attempt ended. `costs`: whether its time is what such a request usually takes.
pub(crate) fn complete(
    track: &mut Track,
    leave: Leave,
    before: Duration,
    outcome: Outcome,
    costs: bool,
) {
    if track.exchange.in_lane {
        // What is held apart for being unlike others says nothing about the upstream: a few dear requests would make
        // the limit look too high for everybody.
        return;
    }
    let now = track.mark();
    let took = upstream_time(track).saturating_sub(before);
    let Some(route) = track.route() else {
        return;
    };
    if costs && outcome == Outcome::Answered {
        route.state.observe(track.exchange.method, took);
    }
    let protection = route.upstream.protection();
    let observed = leave.route.observed;
    let by_upstream = {
        let rng = &mut track.conn.worker.rng();
        let circuit = route.state.circuit();
        circuit.complete(leave.route, now, outcome, took, rng);
        protection.complete(leave.upstream, now, outcome, took, rng)
    };
    if let Some(rejection) = observed.or(by_upstream) {
        track.exchange.observed = Some(rejection.reason);
        let policy = match (rejection.reason, observed) {
            (_, Some(_)) => Policy::RouteBreaker,
            (Reason::BreakerOpen, None) => Policy::Breaker,
            (_, None) => Policy::Queue,
        };
        track.refused(policy, Verdict::WouldRefuse(rejection.reason), &rejection);
    }
}

/// The status a gRPC message ends with.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
