//! A request as it is sent upstream, and all that its attempts have in common.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};

use super::admit::Caller;
use super::conn::Interim;
use super::ingress::{self, Fields};
use super::live::LiveRoute;
use super::pool::Timer;
use super::tracing;
use super::track::Track;
use super::upload::{RequestBody, Source, Upload};
use super::worker::Worker;
use crate::clock::{Instant, SystemClock};
use crate::config::plan::Protocol;
use crate::engine::upstream::retry;
use crate::model::EndpointId;
use crate::observe::trace::Context as TraceContext;

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// What a request is sent with.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(super) request: Request<RequestBody>,
    pub(super) interim: Arc<Interim>,
    upload: Option<Rc<Upload>>,
    hash: Option<u64>,
    /// How it stands in line.
    caller: Caller,
    /// When the client itself gives up.
    deadline: Option<Instant>,
    grpc: bool,
    /// Whether sending it twice does no more than sending it once.
    repeatable: bool,
    /// Whether its body, if it is short, is read before anything is asked of the upstream.
    pub(super) gathers: bool,
}

impl Outbound {
    pub(crate) fn new(
        track: &mut Track,
        route: &LiveRoute,
        (head, fields): (http::request::Parts, Fields),
        source: Source,
        hash: Option<u64>,
        deadline: Option<Instant>,
        interim: Arc<Interim>,
    ) -> Self {
        let repeatable = retry::is_idempotent(track.exchange.method)
            || head.headers.contains_key("idempotency-key");
        let (body, upload) = if source.is_empty() {
            (RequestBody::empty(), None)
        } else {
            let limit = track.conn.listener.listener.max_body_bytes;
            // An HTTP/2 endpoint may say that it has not processed what may not be repeated otherwise.
            let keeps = repeatable || route.connector.protocol == Protocol::Http2;
            let (body, upload) = RequestBody::new(source, limit, track.now(), keeps);
            track.upload = Some(Rc::clone(&upload));
            (body, Some(upload))
        };
        Self {
            caller: track.caller(),
            grpc: ingress::is_grpc(&head.headers),
            request: Request::from_parts(head, body),
            upload,
            hash,
            deadline,
            interim,
            repeatable,
            // Who waits to be told to go on may yet be spared it.
            gathers: !fields.expects(),
        }
    }
}

/// A request on its way, from its first attempt to its last.
pub(super) struct Sending {
    pub(super) worker: Rc<Worker>,
    pub(super) timer: Option<Timer>,
    pub(super) upload: Option<Rc<Upload>>,
    pub(super) deadline: Option<Instant>,
    pub(super) hash: Option<u64>,
    /// When the present attempt was sent.
    pub(super) begun: Instant,
    /// Endpoints that earlier attempts failed on.
    pub(super) tried: Vec<EndpointId>,
    /// What the request is made of again; none when it never may be.
    pub(super) spare: Option<Head>,
    pub(super) caller: Caller,
    pub(super) grpc: bool,
    pub(super) repeatable: bool,
    trace: Option<TraceContext>,
    interim: Arc<Interim>,
    /// Bound on an attempt, and on all of them.
    per_try: Option<Duration>,
    pub(super) timeout: Duration,
    idle: Duration,
    /// When the route's timeout is over, whatever the attempt; set once there is a second one.
    pub(super) overall: Option<Instant>,
}

/// A request's method, target and headers.
#[derive(Clone)]
pub(super) struct Head(Method, Uri, HeaderMap);

impl Head {
    fn copy(request: &Request<RequestBody>) -> Self {
        Self(
            request.method().clone(),
            request.uri().clone(),
            request.headers().clone(),
        )
    }

    /// The same request, with `body`.
    pub(super) fn rebuild(&self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.0.clone();
        *request.uri_mut() = self.1.clone();
        *request.headers_mut() = self.2.clone();
        request
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.worker.give_timer(timer);
        }
    }
}

impl Sending {
    pub(super) fn new(track: &Track, route: &LiveRoute, outbound: &Outbound) -> Self {
        let worker = Rc::clone(&track.conn.worker);
        Self {
            timer: worker.take_timer(),
            begun: worker.now(),
            worker,
            upload: outbound.upload.clone(),
            deadline: outbound.deadline,
            hash: outbound.hash,
            tried: Vec::new(),
            spare: (outbound.repeatable || route.connector.protocol == Protocol::Http2)
                .then(|| Head::copy(&outbound.request)),
            caller: outbound.caller,
            grpc: outbound.grpc,
            repeatable: outbound.repeatable,
            trace: track.trace,
            interim: Arc::clone(&outbound.interim),
            per_try: route.config.retry.per_try_timeout,
            timeout: route.route.timeout,
            idle: route.route.idle_timeout,
            overall: None,
        }
    }

    /// Ready when it is time to give up. While the client uploads, only its silence counts.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let bound = self.bound();
            let (since, bound) = match self.upload.as_ref().map(|upload| upload.state()) {
                Some((false, progress)) => (progress, self.idle),
                Some((true, progress)) => (progress.max(self.begun), bound),
                None => (self.begun, bound),
            };
            let ends = [self.deadline, self.overall].into_iter().flatten();
            let until = ends.fold(since.after(bound), Instant::min);
            let timer = self.timer.get_or_insert_with(|| Timer::new(until));
            std::task::ready!(timer.poll_until(cx, until));
            if SystemClock.now() >= until {
                return Poll::Ready(());
            }
        }
    }

    /// Bound on one attempt.
    pub(super) fn bound(&self) -> Duration {
        self.per_try
            .map_or(self.timeout, |per_try| per_try.min(self.timeout))
    }

    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.upload
            .as_ref()
            .map_or(Duration::ZERO, |upload| upload.waited(now))
    }

    /// The whole body again; none when it was not kept.
    pub(super) fn body_again(&self) -> Option<RequestBody> {
        match &self.upload {
            None => Some(RequestBody::empty()),
            Some(upload) => upload.kept().map(RequestBody::again),
        }
    }

    /// What a second copy of the request is sent with, while the first is still under way.
    pub(super) fn copy(&self) -> Self {
        Self {
            timer: None,
            upload: self.upload.clone(),
            tried: Vec::new(),
            spare: self.spare.clone(),
            interim: Arc::clone(&self.interim),
            worker: Rc::clone(&self.worker),
            ..*self
        }
    }

    /// The request again.
    pub(super) fn again(&self, attempts: u32) -> Option<Box<Outbound>> {
        let mut request = self.spare.as_ref()?.rebuild(self.body_again()?);
        request
            .headers_mut()
            .insert(ATTEMPT_COUNT, HeaderValue::from(attempts));
        if let Some(trace) = &self.trace {
            let number = u8::try_from(attempts).unwrap_or(u8::MAX);
            tracing::pass_on(request.headers_mut(), trace, number);
        }
        Some(Box::new(Outbound {
            request,
            interim: Arc::clone(&self.interim),
            upload: self.upload.clone(),
            hash: self.hash,
            caller: self.caller,
            deadline: self.deadline,
            grpc: self.grpc,
            repeatable: self.repeatable,
            gathers: false,
        }))
    }
}
