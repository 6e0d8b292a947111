//! Sends a request to an endpoint and waits for the head of its response.
//!
//! Picks the endpoint, takes a pooled connection or makes one, and goes again on another when a pooled one
//! turns out closed before a byte was answered and the request may be repeated (RFC 9110 section 9.2.2,
//! RFC 9112 section 9.3.1).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::{BodyError, RequestBody, Source, Upload, Upstream};
use super::conn::Interim;
use super::connect::ConnectError;
use super::h2stream::{H2Body, StreamCount, TaskGuard, UpstreamStream, send_body};
use super::live::LiveRoute;
use super::pool::{H1Conn, H2Conn, Timer};
use super::respond::Refusal;
use super::track::Track;
use crate::clock::{Instant, SystemClock};
use crate::config::plan::Protocol;
use crate::engine::upstream::{Completion, Lease};
use crate::model::{EndpointId, Phase, Reason};

/// Times a request is sent at the most: once, and again for every pooled connection found closed.
const MAX_ATTEMPTS: u8 = 3;

/// What a request is sent with.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) head: http::request::Parts,
    pub(crate) source: Source,
    pub(crate) hash: Option<u64>,
    /// When the client itself gives up; the route's timeout counts from the end of the upload.
    pub(crate) deadline: Option<Instant>,
    pub(crate) interim: Option<Arc<Interim>>,
    /// Whether the client asks for an upgrade.
    pub(crate) upgrade: bool,
}

/// A response whose head has come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Upstream>,
    pub(crate) lease: Lease,
    pub(crate) timer: Option<Timer>,
    pub(crate) upload: Option<Rc<Upload>>,
    pub(crate) now: Instant,
}

/// Why an attempt failed.
enum Failure {
    /// The connection was closed before a byte was answered. The request, if it can go again.
    Stale(Option<Request<RequestBody>>),
    Refused(Refusal),
}

/// The limits of one attempt.
struct Limits {
    timeout: Duration,
    idle: Duration,
    per_try: Option<Duration>,
    deadline: Option<Instant>,
    begun: Instant,
}

impl Limits {
    /// When to give up, as things stand: while the client uploads only its silence counts.
    fn until(&self, upload: Option<&Rc<Upload>>) -> (Instant, bool) {
        let (uploading, since) = match upload.map(|upload| upload.state()) {
            Some((false, progress)) => (true, progress),
            Some((true, progress)) => (false, progress),
            None => (false, self.begun),
        };
        let answer = self.per_try.map_or(self.timeout, |per_try| per_try.min(self.timeout));
        let until = since.after(if uploading { self.idle } else { answer });
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        (until, uploading)
    }
}

/// Sends `outbound` and waits for the response's head.
pub(crate) async fn forward(
    track: &mut Track,
    route: &LiveRoute,
    outbound: Outbound,
) -> Result<Answer, Refusal> {
    let worker = Rc::clone(&track.conn.worker);
    let Outbound { head, source, hash, deadline, interim, upgrade } = outbound;
    let now = worker.now();
    let limit = track.conn.listener.listener.max_body_bytes;
    let repeatable = source.is_empty() && head.method.is_idempotent();
    let (body, upload) = if source.is_empty() {
        (RequestBody::empty(), None)
    } else {
        let (body, upload) = RequestBody::new(source, limit, now);
        (body, Some(upload))
    };
    let mut request = Request::from_parts(head, body);
    let mut failed: Vec<EndpointId> = Vec::new();
    let mut timer = worker.take_timer();
    loop {
        let now = worker.now();
        track.phase(Phase::Decide, now);
        let lease = pick(track, route, hash, now, &failed)?;
        let limits = Limits {
            timeout: route.route.timeout,
            idle: route.route.idle_timeout,
            per_try: route.upstream.config().per_try_timeout,
            deadline,
            begun: now,
        };
        let copy = (repeatable && !upgrade).then(|| request.headers().clone());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let attempt = Attempt {
            track,
            route,
            lease: &lease,
            limits: &limits,
            upload: upload.as_ref(),
            timer: &mut timer,
            interim: interim.as_ref(),
            again: track_attempts_left(&failed),
        };
        let outcome = attempt.run(request).await;
        let now = worker.now();
        let waited = upload.as_ref().map_or(Duration::ZERO, |upload| upload.waited(now));
        track.phase_beside_upload(Phase::Wait, now, waited);
        match outcome {
            Ok(response) => {
                let status = response.status();
                track.exchange.upstream_status = Some(status.as_u16());
                let latency = now.since(limits.begun);
                lease.observe(now, completion(status, latency, &limits));
                return Ok(Answer { response, lease, timer, upload, now });
            }
            Err(Failure::Stale(back)) => {
                request = match (back, copy) {
                    (Some(request), _) => request,
                    (None, Some(headers)) => rebuild(method, uri, headers),
                    (None, None) => return Err(reset(&lease, now, &limits)),
                };
                failed.push(lease.endpoint().id());
            }
            Err(Failure::Refused(refusal)) => {
                if matches!(refusal.reason, Reason::ConnectFailed | Reason::UpstreamReset | Reason::UpstreamTimeout) {
                    lease.observe(now, Completion::Failure(limits.timeout));
                }
                if let Some(upload) = &upload {
                    track.exchange.bytes_in = upload.bytes();
                }
                return Err(refusal);
            }
        }
    }
}
