//! A request as it is sent upstream, and all that its attempts have in common.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use super::admit::Caller;
use super::conn::Interim;
use super::h1::Head;
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
    pub(super) head: Head,
    pub(super) body: RequestBody,
    pub(super) interim: Rc<Interim>,
    pub(super) upload: Option<Rc<Upload>>,
    pub(super) hash: Option<u64>,
    /// How it stands in line.
    pub(super) caller: Caller,
    /// When the client itself gives up.
    pub(super) deadline: Option<Instant>,
    pub(super) grpc: bool,
    repeats: Repeats,
    /// Whether its body, if it is short, is read before anything is asked of the upstream.
    pub(super) gathers: bool,
    /// Whether a response none of whose fields is remarkable may be passed on as it was read.
    pub(super) may_be_plain: bool,
}

/// When a request may be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    Never,
    /// Where an endpoint says that it has not processed the first, as one of HTTP/2 does.
    Unprocessed,
    /// Always: it does no more than one.
    Always,
}

impl Outbound {
    pub(crate) fn new(
        track: &mut Track,
        route: &LiveRoute,
        (head, fields): (&mut http::request::Parts, Fields),
        source: Source,
        hash: Option<u64>,
        deadline: Option<Instant>,
        interim: Rc<Interim>,
    ) -> Self {
        let repeatable = retry::is_idempotent(track.exchange.method)
            || head.headers.contains_key("idempotency-key");
        let repeats = match route.connector.protocol {
            _ if repeatable => Repeats::Always,
            Protocol::Http2 => Repeats::Unprocessed,
            Protocol::Http1 => Repeats::Never,
        };
        let (body, upload) = if source.is_empty() {
            (RequestBody::empty(), None)
        } else {
            let limit = track.conn.listener.listener.max_body_bytes;
            let (body, upload) =
                RequestBody::new(source, limit, track.now(), repeats != Repeats::Never);
            track.upload = Some(Rc::clone(&upload));
            (body, Some(upload))
        };
        let grpc = ingress::is_grpc(&head.headers);
        let may_be_plain = !track.conn.http2
            && !grpc
            && route.cache.is_none()
            && route.route.response_headers.is_empty();
        Self {
            caller: track.caller(),
            grpc,
            may_be_plain,
            head: Head {
                method: std::mem::take(&mut head.method),
                uri: std::mem::take(&mut head.uri),
                headers: std::mem::take(&mut head.headers),
                forwarding: None,
            },
            body,
            upload,
            hash,
            deadline,
            interim,
            repeats,
            // Who waits to be told to go on may yet be spared it.
            gathers: !fields.expects(),
        }
    }

    /// Whether sending it twice does no more than sending it once.
    pub(super) fn is_repeatable(&self) -> bool {
        self.repeats == Repeats::Always
    }

    /// Whether it may come to be sent twice.
    pub(super) fn is_resendable(&self) -> bool {
        self.repeats != Repeats::Never
    }
}

/// A request on its way, from its first attempt to its last.
pub(super) struct Sending {
    pub(super) worker: Rc<Worker>,
    pub(super) timer: Option<Timer>,
    pub(super) out: Box<Outbound>,
    /// When the present attempt was sent.
    pub(super) begun: Instant,
    /// Endpoints that earlier attempts failed on.
    pub(super) tried: Vec<EndpointId>,
    trace: Option<TraceContext>,
    /// Bound on an attempt, and on all of them.
    per_try: Option<Duration>,
    pub(super) timeout: Duration,
    idle: Duration,
    /// When the route's timeout is over, whatever the attempt; set once there is a second one.
    pub(super) overall: Option<Instant>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.worker.spares().give_timer(timer);
        }
        let headers = std::mem::take(&mut self.out.head.headers);
        self.worker.spares().give_headers(headers);
    }
}

impl Sending {
    pub(super) fn new(track: &Track, route: &LiveRoute, out: Box<Outbound>) -> Self {
        let worker = Rc::clone(&track.conn.worker);
        Self {
            timer: worker.spares().take_timer(),
            begun: track.mark(),
            worker,
            out,
            tried: Vec::new(),
            trace: track.trace,
            per_try: route.config.retry.per_try_timeout,
            timeout: route.route.timeout,
            idle: route.route.idle_timeout,
            overall: None,
        }
    }

    /// The body, for the first attempt.
    pub(super) fn take_body(&mut self) -> RequestBody {
        std::mem::replace(&mut self.out.body, RequestBody::empty())
    }

    /// Ready when it is time to give up. While the client uploads, only its silence counts.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let bound = self.bound();
            let (since, bound) = match self.out.upload.as_ref().map(|upload| upload.state()) {
                Some((false, progress)) => (progress, self.idle),
                Some((true, progress)) => (progress.max(self.begun), bound),
                None => (self.begun, bound),
            };
            let ends = [self.out.deadline, self.overall].into_iter().flatten();
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
        let upload = self.out.upload.as_ref();
        upload.map_or(Duration::ZERO, |upload| upload.waited(now))
    }

    /// The whole body again; none when it was not kept.
    pub(super) fn body_again(&self) -> Option<RequestBody> {
        match &self.out.upload {
            None => Some(RequestBody::empty()),
            Some(upload) => upload.kept().map(RequestBody::again),
        }
    }

    /// What a second copy of the request is sent with, while the first is still under way.
    pub(super) fn copy(&self) -> Self {
        let out = Outbound {
            head: self.out.head.clone(),
            body: RequestBody::empty(),
            interim: Rc::clone(&self.out.interim),
            upload: self.out.upload.clone(),
            ..*self.out
        };
        Self {
            timer: None,
            out: Box::new(out),
            tried: Vec::new(),
            worker: Rc::clone(&self.worker),
            ..*self
        }
    }

    /// Makes the head that of another attempt; the body for it, if there is one.
    pub(super) fn again(&mut self, attempts: u32) -> Option<RequestBody> {
        let body = self.out.is_resendable().then(|| self.body_again())??;
        let headers = &mut self.out.head.headers;
        headers.insert(ATTEMPT_COUNT, HeaderValue::from(attempts));
        if let Some(trace) = &self.trace {
            let number = u8::try_from(attempts).unwrap_or(u8::MAX);
            tracing::pass_on(headers, trace, number);
        }
        Some(body)
    }
}
