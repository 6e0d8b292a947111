//! The record of one finished request. Nothing else measures: metrics, log, and later report and alert are
//! all folded from these.
//!
//! Depends on the model.

use std::time::Duration;

use super::components::Told;
use super::trace::record::Traced;
use super::why::Trail;
use crate::model::{
    CacheResult, ClientId, EndpointId, MethodLabel, Outcome, Phase, Phases, Reason, RouteId,
    TierId, UpstreamId,
};

/// A response that still arrives after this time is a long-lived stream: it gives its slot of the upstream back.
pub const STREAM_AFTER: Duration = Duration::from_secs(10);

/// One finished request, from whatever path it ended on. Fixed in size; owns no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When its first byte arrived: microseconds since the Unix epoch.
    pub started: u64,
    /// Who sent it.
    pub client: ClientId,
    /// The route it took; none when no route matched or the request was malformed.
    pub route: Option<RouteId>,
    /// The upstream its route leads to.
    pub upstream: Option<UpstreamId>,
    /// The endpoint tried last.
    pub endpoint: Option<EndpointId>,
    /// The request method.
    pub method: MethodLabel,
    /// The status the client was sent; 499 when it went away before there was one.
    pub status: u16,
    /// The status the upstream answered with, if it did.
    pub upstream_status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why Tidegate answered by itself or the upstream failed; none when all went well.
    pub reason: Option<Reason>,
    /// What a policy that only observes would have refused it for.
    pub observed: Option<Reason>,
    /// What the cache of its route did about it; none when the route has none.
    pub cache: Option<CacheResult>,
    /// Its tier; none before it has a route.
    pub tier: Option<TierId>,
    /// Requests sent upstream; 0 when it was answered without.
    pub attempts: u8,
    /// Time by phase; sums to the total.
    pub phases: Phases,
    /// Bytes of request body received.
    pub bytes_in: u64,
    /// Bytes of response body sent.
    pub bytes_out: u64,
    /// What it asked for: a keyed hash of host, path and query. 0: nothing that could be understood.
    pub target: u64,
    /// The last 64 bits of the trace it is part of; 0: of none, or of one that nobody trusted named.
    pub trace: u64,
    /// The `ETag`, or else the `Last-Modified`, of the upstream's response, hashed; 0: it has neither.
    pub validator: u32,
    /// The `Retry-After` the client was told, in seconds; 0: none.
    pub retry_after: u32,
    /// Whether the request asked for news only: `If-None-Match` or `If-Modified-Since`.
    pub conditional: bool,
    /// Whether an operator holds its client or route in a lane.
    pub in_lane: bool,
}

impl Exchange {
    /// What it held of the upstream's concurrency, and so what it cost: connecting, waiting and receiving the body,
    /// over all its attempts. Of a stream, the time until it gave its slot back.
    #[must_use]
    pub fn upstream_time(&self) -> Duration {
        if self.attempts == 0 {
            return Duration::ZERO;
        }
        let body = self.phases.get(Phase::Body).min(STREAM_AFTER);
        let before = self.phases.get(Phase::Connect) + self.phases.get(Phase::Wait);
        before.saturating_add(body)
    }
}

/// What an [`Exchange`] does not carry, borrowed from the request while it is recorded: the rest of its
/// access-log line, and the decisions taken about it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The request id.
    pub request_id: &'a str,
    /// The trace id, 32 hex digits; empty when the request carried none.
    pub trace_id: &'a str,
    /// The client, as identified.
    pub client: &'a str,
    /// The tier's name.
    pub tier: &'a str,
    /// The method's token as the client sent it.
    pub method: &'a str,
    /// The route's name; empty when none matched.
    pub route: &'a str,
    /// The path without its query, as the client sent it.
    pub path: &'a str,
    /// The upstream's name; empty when there is none.
    pub upstream: &'a str,
    /// The endpoint's address; empty when there is none.
    pub endpoint: &'a str,
    /// The decisions taken about it.
    pub trail: &'a Trail,
    /// Its place in its trace; none when nobody is sent traces.
    pub trace: Option<Traced<'a>>,
    /// What the upstream said of its own time.
    pub told: &'a [Told],
}
