//! One request under way: what its [`Exchange`] will say.
//!
//! A [`Track`] is made when a request head is whole and is written when it is dropped, on whatever path
//! that happens: answered, refused, reset by the client, broken by the upstream, or drained. So every
//! request ends in exactly one exchange.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Uri};

use super::admit::Caller;
use super::conn::Conn;
use super::id::RequestId;
use super::inflight::Entry;
use super::live::{LiveRoute, View};
use super::rate;
use super::upload::Upload;
use crate::clients::Identity;
use crate::clock::Instant;
use crate::engine::isolation::{InLane, Isolation};
use crate::engine::rate::Shares;
use crate::engine::upstream::EndpointState;
use crate::model::{ClientId, MethodLabel, Outcome, Phase, Phases, Rejection, Unit};
use crate::observe::components::Told;
use crate::observe::exchange::{Exchange, Line};
use crate::observe::trace::record::Traced;
use crate::observe::trace::{Attempts, Context};
use crate::observe::why::{Decision, Policy, Trail, Verdict};

/// Status recorded when the client went away before it was sent one (nginx's convention).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The entry of what has none.
const NO_ENTRY: usize = usize::MAX;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) conn: Rc<Conn>,
    pub(crate) exchange: Exchange,
    /// When its head was whole.
    began: Instant,
    /// The end of the last phase.
    mark: Instant,
    request_id: RequestId,
    /// Its entry among the requests under way.
    entry: usize,
    /// Whether it is no client's: it is not recorded.
    silent: bool,
    trail: Trail,
    /// What the upstream said of its own time.
    pub(crate) told: Vec<Told>,
    pub(crate) trace_id: Option<[u8; 32]>,
    /// Its place in its trace; none when nobody is sent traces.
    pub(crate) trace: Option<Context>,
    attempts: Attempts,
    /// From its first byte to the end of its head.
    head: Duration,
    /// How far its body is.
    pub(crate) upload: Option<Rc<Upload>>,
    /// The client's address, when a trusted peer named another than its own.
    pub(crate) forwarded: Option<IpAddr>,
    /// Who sent it, once that was looked at.
    identity: Option<Rc<Identity>>,
    /// Its place in the queue: 0 goes first.
    tier: u8,
    /// What it has of its route's rate limits.
    shares: Shares,
    /// The lane it has to take, once that is known, and its place there.
    lane: Option<Arc<Isolation>>,
    in_lane: Option<InLane>,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    live: Rc<View>,
    route: Option<usize>,
    endpoint: Option<Arc<EndpointState>>,
}

impl Track {
    /// Begins a request whose first byte came at `begun` and whose head was whole at `now`.
    pub(crate) fn begin(conn: &Rc<Conn>, begun: Instant, now: Instant) -> Box<Self> {
        let mut phases = Phases::default();
        phases.add(Phase::Receive, now.since(begun));
        let worker = &conn.worker;
        let (started, request_id) = worker.request_id(begun, now);
        let entry = worker.in_flight().enter(Entry {
            begun,
            phase: Phase::Decide,
            request_id: request_id.clone(),
            method: Method::GET,
            target: None,
            route: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
        });
        Box::new(Self {
            conn: Rc::clone(conn),
            exchange: Exchange {
                started,
                client: ClientId::default(),
                route: None,
                upstream: None,
                endpoint: None,
                method: MethodLabel::Other,
                status: CLIENT_CLOSED_REQUEST,
                upstream_status: None,
                outcome: Outcome::ClientGone,
                reason: None,
                observed: None,
                cache: None,
                tier: None,
                attempts: 0,
                phases,
                bytes_in: 0,
                bytes_out: 0,
                target: 0,
                trace: 0,
                validator: 0,
                retry_after: 0,
                conditional: false,
                in_lane: false,
            },
            began: now,
            mark: now,
            request_id,
            entry,
            silent: false,
            trail: Trail::new(),
            told: Vec::new(),
            trace_id: None,
            trace: None,
            attempts: Attempts::default(),
            head: now.since(begun),
            upload: None,
            forwarded: None,
            identity: None,
            tier: 0,
            shares: Shares::default(),
            lane: None,
            in_lane: None,
            method: Method::GET,
            uri: Uri::default(),
            live: worker.live(),
            route: None,
            endpoint: None,
        })
    }

    /// A request of Tidegate's own for what this one asks for, under way as far as this one is. What it costs the
    /// upstream counts; it is nobody's exchange.
    pub(crate) fn silent(&self) -> Box<Self> {
        Box::new(Self {
            conn: Rc::clone(&self.conn),
            exchange: self.exchange,
            began: self.began,
            mark: self.mark,
            request_id: self.request_id.clone(),
            entry: NO_ENTRY,
            silent: true,
            shares: Shares::default(),
            lane: None,
            in_lane: None,
            trail: Trail::new(),
            trace_id: self.trace_id,
            // What it sends upstream is part of the trace that the request brought; it has no spans of its own.
            trace: None,
            attempts: Attempts::default(),
            told: Vec::new(),
            head: self.head,
            upload: None,
            forwarded: self.forwarded,
            identity: self.identity.clone(),
            tier: self.tier,
            method: self.method.clone(),
            uri: Uri::default(),
            live: Rc::clone(&self.live),
            route: self.route,
            endpoint: self.endpoint.clone(),
        })
    }

    /// Whether it is no client's.
    pub(crate) const fn is_silent(&self) -> bool {
        self.silent
    }

    /// What it asks for.
    pub(crate) fn asks(&mut self, method: &Method, uri: Uri) {
        self.method = method.clone();
        self.note(|entry| {
            entry.method = method.clone();
            entry.target = uri.path_and_query().cloned();
        });
        self.uri = uri;
        self.exchange.method = MethodLabel::from_token(method.as_str());
    }

    /// It may last long: its target gets memory of its own, so that it does not keep the buffer it was read into.
    pub(crate) fn lasts(&mut self) {
        if let Ok(uri) = Uri::try_from(self.uri.to_string()) {
            self.note(|entry| entry.target = uri.path_and_query().cloned());
            self.uri = uri;
        }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Instant {
        self.conn.worker.now()
    }

    /// The end of the last phase, which within one step of its way is as good as the time now.
    pub(crate) const fn mark(&self) -> Instant {
        self.mark
    }

    /// The request id: a UUID, or whatever a trusted peer gave.
    pub(crate) const fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Uses the request id a trusted peer gave.
    pub(crate) fn set_request_id(&mut self, given: RequestId) {
        self.note(|entry| entry.request_id = given.clone());
        self.request_id = given;
    }

    /// The plan this request runs under, from its beginning to its end.
    pub(crate) fn live(&self) -> &Rc<View> {
        &self.live
    }

    /// Where it comes from: its peer, or whom a trusted peer names; none over a unix socket.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.forwarded.or_else(|| self.conn.peer.ip())
    }

    /// It was sent by `identity`.
    pub(crate) fn set_identity(&mut self, identity: Rc<Identity>) {
        self.exchange.client = identity.id;
        self.identity = Some(identity);
    }

    /// The name of whoever sent it.
    pub(crate) fn client(&self) -> &str {
        let name = self.identity.as_ref().map(|identity| &*identity.name);
        name.unwrap_or_else(|| self.conn.peer.as_str())
    }

    /// It has to take this lane.
    pub(crate) fn set_lane(&mut self, lane: Arc<Isolation>) {
        self.lane = Some(lane);
        self.exchange.in_lane = true;
    }

    /// Takes its place in the lane it has to take, if any, in front of an upstream with this `limit`. It keeps it
    /// to its end.
    pub(crate) fn enter_lane(&mut self, limit: u32) -> Result<(), Rejection> {
        if let Some(lane) = &self.lane
            && self.in_lane.is_none()
        {
            self.in_lane = Some(lane.enter(limit)?);
        }
        Ok(())
    }

    /// It has taken this of its route's rate limits.
    pub(crate) fn set_shares(&mut self, shares: Shares) {
        self.shares = shares;
    }

    /// What it has of its route's rate limits.
    pub(crate) const fn shares(&self) -> &Shares {
        &self.shares
    }

    /// How it stands in line.
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            client: self.exchange.client.hash(),
            tier: self.tier,
            weight: self.identity.as_ref().map_or(1, |identity| identity.weight),
            in_lane: self.lane.is_some(),
        }
    }

    /// The route it takes is `live.routes[index]`.
    pub(crate) fn set_route(&mut self, index: usize, route: &LiveRoute) {
        self.route = Some(index);
        self.exchange.route = Some(route.id);
        let own = self.identity.as_ref().and_then(|identity| identity.tier);
        self.tier = own.unwrap_or(route.tier);
        self.exchange.tier = self.live.tier(self.tier).map(|tier| tier.id);
        self.exchange.upstream = Some(route.upstream.id());
        self.note(|entry| {
            entry.route = Some(route.id);
            entry.upstream = Some(route.upstream.id());
        });
    }

    /// Its entry among the requests under way.
    pub(crate) const fn entry(&self) -> usize {
        self.entry
    }

    fn note(&self, change: impl FnOnce(&mut Entry)) {
        self.conn.worker.in_flight().note(self.entry, change);
    }

    /// It is in `phase` now.
    pub(crate) fn enters(&self, phase: Phase) {
        self.note(|entry| entry.phase = phase);
    }

    /// Another request is sent upstream for it.
    pub(crate) fn count_attempt(&mut self) {
        let attempts = self.exchange.attempts.saturating_add(1);
        self.exchange.attempts = attempts;
        self.attempts.sent(self.at(), self.exchange.endpoint);
        self.note(|entry| {
            entry.attempts = attempts;
            entry.phase = Phase::Wait;
        });
    }

    /// Microseconds since its head was whole, by the clock as it was read a moment ago: often enough to tell when.
    fn at(&self) -> u32 {
        micros(self.mark.since(self.began))
    }

    /// Notes a decision about it, with what was seen and what that was held to; not a number for neither.
    pub(crate) fn decided(
        &mut self,
        policy: Policy,
        verdict: Verdict,
        (value, threshold, unit): (f64, f64, Option<Unit>),
    ) {
        let at = self.at();
        match (policy, verdict) {
            (Policy::Upstream, Verdict::Answered) => {
                let status = self.exchange.upstream_status.unwrap_or(0);
                self.attempts.ended(at, status, None);
            }
            (Policy::Upstream, Verdict::Failed(reason)) => self.attempts.ended(at, 0, Some(reason)),
            (Policy::Hedge, Verdict::SentAgain) => self.attempts.copied(at),
            _ => {}
        }
        self.trail.push(Decision {
            at,
            value: narrowed(value),
            threshold: narrowed(threshold),
            unit,
            policy,
            verdict,
        });
    }

    /// Notes a refusal, or what would have been one.
    pub(crate) fn refused(&mut self, policy: Policy, verdict: Verdict, rejection: &Rejection) {
        let seen = (rejection.value, rejection.threshold, Some(rejection.unit));
        self.decided(policy, verdict, seen);
    }

    /// The route it takes, once one was found.
    pub(crate) fn route(&self) -> Option<&LiveRoute> {
        self.route.and_then(|index| self.live.routes.get(index))
    }

    /// The endpoint it is sent to.
    pub(crate) fn set_endpoint(&mut self, endpoint: &Arc<EndpointState>) {
        self.exchange.endpoint = Some(endpoint.id());
        self.attempts.at(endpoint.id());
        self.note(|entry| {
            entry.endpoint = Some(endpoint.id());
            entry.phase = Phase::Connect;
        });
        self.endpoint = Some(Arc::clone(endpoint));
    }

    /// The time from the last mark to `now` belongs to `phase`.
    pub(crate) fn phase(&mut self, phase: Phase, now: Instant) {
        self.exchange.phases.add(phase, now.since(self.mark));
        self.mark = now;
    }

    /// Of the time from the last mark to `now`, `receiving` belongs to the client, the rest to `phase`.
    pub(crate) fn phase_beside_upload(&mut self, phase: Phase, now: Instant, receiving: Duration) {
        let span = now.since(self.mark);
        let receiving = receiving.min(span);
        self.exchange.phases.add(Phase::Receive, receiving);
        self.exchange
            .phases
            .add(phase, span.saturating_sub(receiving));
        self.mark = now;
    }

    /// Its client went away: the time since the last mark is that of what it waited for.
    fn gave_up(&mut self, now: Instant) {
        let phase = self.conn.worker.in_flight().phase(self.entry);
        match phase {
            Some(phase @ (Phase::Queue | Phase::Connect | Phase::Wait)) => {
                let upload = self.upload.as_ref();
                let receiving = upload.map_or(Duration::ZERO, |upload| upload.waited(now));
                self.phase_beside_upload(phase, now, receiving);
            }
            Some(Phase::Receive) => self.phase(Phase::Receive, now),
            _ => self.phase(Phase::Deliver, now),
        }
    }

    /// The response left whole.
    pub(crate) fn delivered(&mut self, now: Instant) {
        self.phase(Phase::Deliver, now);
        if self.exchange.outcome == Outcome::ClientGone {
            self.exchange.outcome = Outcome::Answered;
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        if self.silent {
            return;
        }
        if self.exchange.outcome == Outcome::ClientGone {
            if self.conn.worker.is_cutting() {
                self.exchange.outcome = Outcome::Drained;
            }
            self.gave_up(self.conn.worker.now());
        }
        let mut shares = std::mem::take(&mut self.shares);
        rate::settle(self, &mut shares, self.mark);
        let route = self.route();
        let tier = route.and_then(|_| self.live.tier(self.tier));
        let path = self.uri.path();
        let line = Line {
            request_id: self.request_id.as_str(),
            trace_id: self
                .trace_id
                .as_ref()
                .and_then(|id| std::str::from_utf8(id).ok())
                .unwrap_or_default(),
            client: self.client(),
            tier: tier.map_or("", |tier| &tier.name),
            method: self.method.as_str(),
            route: route.map_or("", |route| &route.route.name),
            path,
            upstream: route.map_or("", |route| route.upstream.name()),
            endpoint: self
                .endpoint
                .as_ref()
                .map_or("", |endpoint| endpoint.name()),
            trail: &self.trail,
            trace: self.trace.as_ref().map(|context| Traced {
                context,
                attempts: &self.attempts,
                head: micros(self.head),
            }),
            told: &self.told,
        };
        self.conn.worker.record(self.exchange, &line);
        self.conn.worker.in_flight().leave(self.entry);
        self.conn.recorded(self.mark);
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "seven digits are more than anybody reads of a measured value"
)]
const fn narrowed(value: f64) -> f32 {
    value as f32
}
