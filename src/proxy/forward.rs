//! Sends a request to an endpoint and waits for the head of its response.
//!
//! An endpoint that cannot be connected to is passed over for another: nothing was sent. A pooled connection
//! that turns out closed before a byte was answered is replaced by a fresh one, when the request may be
//! repeated (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use super::body::{BodyError, RequestBody, Source, Upload, Upstream};
use super::conn::Interim;
use super::connect::ConnectError;
use super::h2stream::{H2Body, StreamCount, TaskGuard, UpstreamStream, send_body};
use super::live::LiveRoute;
use super::pool::{H1Conn, H2Conn, Timer};
use super::respond::Refusal;
use super::track::Track;
use super::worker::Worker;
use crate::clock::{Instant, SystemClock};
use crate::config::plan::Protocol;
use crate::engine::upstream::{Completion, Lease, NoEndpoint};
use crate::model::{EndpointId, Phase, Reason};

/// Endpoints tried when connections cannot be made.
const MAX_ENDPOINTS: usize = 3;

/// What a request is sent with.
#[derive(Debug)]
pub(crate) struct Outbound {
    request: Request<RequestBody>,
    upload: Option<Rc<Upload>>,
    hash: Option<u64>,
    /// When the client itself gives up.
    deadline: Option<Instant>,
    interim: Arc<Interim>,
}

impl Outbound {
    pub(crate) fn new(
        track: &Track,
        head: http::request::Parts,
        source: Source,
        hash: Option<u64>,
        deadline: Option<Instant>,
        interim: Arc<Interim>,
    ) -> Self {
        let (body, upload) = if source.is_empty() {
            (RequestBody::empty(), None)
        } else {
            let limit = track.conn.listener.listener.max_body_bytes;
            let (body, upload) = RequestBody::new(source, limit, track.now());
            (body, Some(upload))
        };
        Self {
            request: Request::from_parts(head, body),
            upload,
            hash,
            deadline,
            interim,
        }
    }

    /// Whether sending it twice does no more than sending it once.
    fn is_repeatable(&self) -> bool {
        self.upload.is_none() && self.request.method().is_idempotent()
    }
}

/// A response whose head has come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) upstream: Upstream,
    pub(crate) lease: Lease,
    pub(crate) timer: Option<Timer>,
    pub(crate) upload: Option<Rc<Upload>>,
    pub(crate) now: Instant,
}

/// Why a request sent got no response.
enum Failure {
    /// The connection was closed before a byte was answered; the request, if it was never written.
    Closed(Option<Box<Request<RequestBody>>>),
    TimedOut,
    Broken,
}

/// One request under way upstream.
struct Sending {
    worker: Rc<Worker>,
    timer: Option<Timer>,
    upload: Option<Rc<Upload>>,
    deadline: Option<Instant>,
    timeout: Duration,
    idle: Duration,
    begun: Instant,
}

impl Sending {
    /// Ready when it is time to give up. While the client uploads, only its silence counts.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (since, bound) = match self.upload.as_ref().map(|upload| upload.state()) {
                Some((false, progress)) => (progress, self.idle),
                Some((true, progress)) => (progress.max(self.begun), self.timeout),
                None => (self.begun, self.timeout),
            };
            let until = since.after(bound);
            let until = self.deadline.map_or(until, |deadline| deadline.min(until));
            let timer = self.timer.get_or_insert_with(|| Timer::new(until));
            std::task::ready!(timer.poll_until(cx, until));
            if SystemClock.now() >= until {
                return Poll::Ready(());
            }
        }
    }

    fn waited(&self, now: Instant) -> Duration {
        self.upload
            .as_ref()
            .map_or(Duration::ZERO, |upload| upload.waited(now))
    }
}

/// Sends `outbound` and waits for the response's head.
pub(crate) async fn forward(
    track: &mut Track,
    route: &LiveRoute,
    outbound: Box<Outbound>,
) -> Result<Answer, Refusal> {
    let worker = Rc::clone(&track.conn.worker);
    let now = worker.now();
    let hash = outbound.hash;
    let timeout = route.route.timeout;
    let per_try = route.upstream.config().per_try_timeout;
    let mut sending = Sending {
        timer: worker.take_timer(),
        worker,
        upload: outbound.upload.clone(),
        deadline: outbound.deadline,
        timeout: per_try.map_or(timeout, |per_try| per_try.min(timeout)),
        idle: route.route.idle_timeout,
        begun: now,
    };
    let (lease, result) = match route.connector.protocol {
        Protocol::Http1 => {
            // The usual case without a future of its own.
            let (lease, conn) = match pooled(track, route, hash, &mut sending) {
                Some(pooled) => pooled,
                None => Box::pin(connect_h1(track, route, hash, &mut sending)).await?,
            };
            let result = send_h1(track, route, &lease, conn, outbound, &mut sending).await;
            (lease, result)
        }
        Protocol::Http2 => {
            Box::pin(async {
                let (lease, conn) = connect_h2(track, route, hash, &mut sending).await?;
                count_attempt(track);
                let result = send_h2(conn, outbound, &mut sending).await;
                Ok((lease, result))
            })
            .await?
        }
    };
    settle(track, route, lease, result, sending)
}

fn count_attempt(track: &mut Track) {
    track.exchange.attempts = track.exchange.attempts.saturating_add(1);
}

/// Accounts for how an attempt ended.
fn settle(
    track: &mut Track,
    route: &LiveRoute,
    mut lease: Lease,
    result: Result<Response<Upstream>, Failure>,
    sending: Sending,
) -> Result<Answer, Refusal> {
    let now = sending.worker.now();
    track.phase_beside_upload(Phase::Wait, now, sending.waited(now));
    if let Some(upload) = &sending.upload {
        track.exchange.bytes_in = upload.bytes();
    }
    match result {
        Ok(response) => {
            let (head, upstream) = response.into_parts();
            track.exchange.upstream_status = Some(head.status.as_u16());
            let latency = now.since(sending.begun);
            lease.observe(
                now,
                if head.status.is_server_error() {
                    Completion::Failure(latency.max(route.route.timeout))
                } else {
                    Completion::Success(latency)
                },
            );
            let Sending { timer, upload, .. } = sending;
            Ok(Answer {
                head,
                upstream,
                lease,
                timer,
                upload,
                now,
            })
        }
        Err(failure) => {
            let refusal = explain(track, &failure, &sending, now);
            if refusal.status.is_server_error() {
                lease.observe(now, Completion::Failure(route.route.timeout));
            }
            Err(refusal)
        }
    }
}

fn explain(track: &Track, failure: &Failure, sending: &Sending, now: Instant) -> Refusal {
    if let Some(violation) = track.conn.broken_upload() {
        return Refusal::bad_request(violation.detail);
    }
    match sending.upload.as_ref().and_then(|upload| upload.failure()) {
        Some(BodyError::TooLarge) => return body_too_large(),
        Some(BodyError::Broken | BodyError::Idle) => {
            return Refusal::bad_request("the request's body broke off");
        }
        None => {}
    }
    match failure {
        Failure::TimedOut if sending.deadline.is_some_and(|deadline| now >= deadline) => {
            Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                Reason::Deadline,
                "the client's deadline passed",
            )
        }
        Failure::TimedOut
            if sending
                .upload
                .as_ref()
                .is_some_and(|upload| !upload.state().0) =>
        {
            let detail = "the client stopped sending its request";
            Refusal::new(StatusCode::REQUEST_TIMEOUT, Reason::BadRequest, detail).closing()
        }
        Failure::TimedOut => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            Reason::UpstreamTimeout,
            "the upstream did not answer in time",
        ),
        Failure::Closed(_) | Failure::Broken => Refusal::new(
            StatusCode::BAD_GATEWAY,
            Reason::UpstreamReset,
            "the upstream broke off before it answered",
        ),
    }
}

/// The refusal of a body over its bound.
pub(crate) const fn body_too_large() -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Reason::BodyTooLarge,
        "the request's body is larger than this listener permits",
    )
    .closing()
}

/// Picks an endpoint that is not among `failed`.
fn pick(
    track: &mut Track,
    route: &LiveRoute,
    hash: Option<u64>,
    worker: &Worker,
    failed: &[EndpointId],
) -> Result<Lease, NoEndpoint> {
    let lease = route
        .upstream
        .pick(worker.now(), &mut worker.rng(), hash, failed)?;
    track.set_endpoint(lease.endpoint());
    Ok(lease)
}

fn no_endpoint(last: Option<ConnectError>) -> Refusal {
    match last {
        Some(error) => {
            let mut refusal = Refusal::new(
                StatusCode::BAD_GATEWAY,
                Reason::ConnectFailed,
                error.detail(),
            );
            refusal.proxy_status = error.proxy_status();
            refusal
        }
        None => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Reason::NoHealthyEndpoint,
            "the upstream has no endpoint to send this to",
        ),
    }
}

/// Calls `$connect` on one endpoint after the other until a connection stands.
macro_rules! connect_any {
    ($track:ident, $route:ident, $hash:ident, $sending:ident, $lease:ident => $connect:expr) => {{
        let mut failed = Vec::new();
        let mut last = None;
        loop {
            let worker = Rc::clone(&$sending.worker);
            let picked = if failed.len() < MAX_ENDPOINTS {
                pick($track, $route, $hash, &worker, &failed)
            } else {
                Err(NoEndpoint::NoneLeft)
            };
            let Ok(mut $lease) = picked else {
                return Err(no_endpoint(last));
            };
            $track.phase(Phase::Decide, worker.now());
            let connected = $connect.await;
            let now = worker.now();
            $track.phase(Phase::Connect, now);
            match connected {
                Ok(conn) => {
                    $sending.begun = now;
                    break Ok(($lease, conn));
                }
                Err(error) => {
                    $lease.observe(now, Completion::Failure($route.route.timeout));
                    failed.push($lease.endpoint().id());
                    last = Some(error);
                }
            }
        }
    }};
}

/// A pooled HTTP/1 connection to the first choice.
fn pooled(
    track: &mut Track,
    route: &LiveRoute,
    hash: Option<u64>,
    sending: &mut Sending,
) -> Option<(Lease, Box<H1Conn>)> {
    let worker = &sending.worker;
    let lease = pick(track, route, hash, worker, &[]).ok()?;
    let conn = worker
        .pools()
        .take(lease.endpoint().id(), &route.connector)?;
    let now = worker.now();
    track.phase(Phase::Decide, now);
    sending.begun = now;
    Some((lease, conn))
}

/// A fresh HTTP/1 connection to some endpoint.
async fn connect_h1(
    track: &mut Track,
    route: &LiveRoute,
    hash: Option<u64>,
    sending: &mut Sending,
) -> Result<(Lease, Box<H1Conn>), Refusal> {
    connect_any!(track, route, hash, sending, lease => fresh_h1(route, &lease, sending))
}

async fn fresh_h1(
    route: &LiveRoute,
    lease: &Lease,
    sending: &Sending,
) -> Result<Box<H1Conn>, ConnectError> {
    let worker = &sending.worker;
    let endpoint = lease.endpoint();
    let now = worker.now();
    let deadline = sending
        .deadline
        .unwrap_or_else(|| now.after(sending.timeout));
    let stream = route
        .connector
        .connect(endpoint.address(), now, deadline)
        .await?;
    let made = worker
        .pools()
        .h1(endpoint.id(), &route.connector, stream)
        .await;
    made.map_err(|_closed| ConnectError::Refused)
}

/// A shared or a fresh HTTP/2 connection to some endpoint.
async fn connect_h2(
    track: &mut Track,
    route: &LiveRoute,
    hash: Option<u64>,
    sending: &mut Sending,
) -> Result<(Lease, H2Conn), Refusal> {
    connect_any!(track, route, hash, sending, lease => any_h2(route, &lease, sending))
}

async fn any_h2(
    route: &LiveRoute,
    lease: &Lease,
    sending: &Sending,
) -> Result<H2Conn, ConnectError> {
    let worker = &sending.worker;
    let endpoint = lease.endpoint();
    if let Some(conn) = worker.pools().shared(endpoint.id(), &route.connector) {
        return Ok(conn);
    }
    let now = worker.now();
    let deadline = sending
        .deadline
        .unwrap_or_else(|| now.after(sending.timeout));
    let stream = route
        .connector
        .connect(endpoint.address(), now, deadline)
        .await?;
    let made = worker
        .pools()
        .h2(endpoint.id(), &route.connector, stream)
        .await;
    made.map_err(|_refused| ConnectError::Tls)
}

/// Sends the request on `conn`; goes again on a fresh connection when a pooled one was closed.
async fn send_h1(
    track: &mut Track,
    route: &LiveRoute,
    lease: &Lease,
    conn: Box<H1Conn>,
    outbound: Box<Outbound>,
    sending: &mut Sending,
) -> Result<Response<Upstream>, Failure> {
    let reused = conn.reused;
    let repeatable = outbound.is_repeatable();
    let Outbound {
        mut request,
        interim,
        ..
    } = *outbound;
    let copy = (repeatable && reused).then(|| copy_head(&request));
    count_attempt(track);
    attach_interim(&mut request, &interim);
    let unsent = match exchange_h1(conn, request, sending).await {
        Err(Failure::Closed(unsent)) if reused => unsent,
        other => return other,
    };
    Box::pin(async move {
        let copied = || {
            copy.map(|head| {
                let mut request = rebuild(head);
                attach_interim(&mut request, &interim);
                request
            })
        };
        let Some(request) = unsent.map(|request| *request).or_else(copied) else {
            return Err(Failure::Closed(None));
        };
        let fresh = fresh_h1(route, lease, sending).await;
        let conn = fresh.map_err(|_unconnected| Failure::Closed(None))?;
        count_attempt(track);
        exchange_h1(conn, request, sending).await
    })
    .await
}

fn attach_interim(request: &mut Request<RequestBody>, interim: &Arc<Interim>) {
    let interim = Arc::clone(interim);
    hyper::ext::on_informational(request, move |response| {
        interim.leave(response.status(), response.headers());
    });
}

type Head = (Method, Uri, HeaderMap);

fn copy_head(request: &Request<RequestBody>) -> Head {
    (
        request.method().clone(),
        request.uri().clone(),
        request.headers().clone(),
    )
}

fn rebuild((method, uri, headers): Head) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// One exchange on one HTTP/1 connection, up to the response's head.
async fn exchange_h1(
    mut conn: Box<H1Conn>,
    request: Request<RequestBody>,
    sending: &mut Sending,
) -> Result<Response<Upstream>, Failure> {
    let mut pending = pin!(conn.sender.try_send_request(request));
    // Only driving the connection resolves the response, so it need not know whom to wake.
    let mut resolve = || {
        let mut asleep = Context::from_waker(Waker::noop());
        match pending.as_mut().poll(&mut asleep) {
            Poll::Ready(response) => Some(response.map_err(failure)),
            Poll::Pending => None,
        }
    };
    let resolved = poll_fn(|cx| {
        conn.drive(cx);
        match resolve() {
            None if conn.is_finished() => Poll::Ready(None),
            None => sending
                .poll_expired(cx)
                .map(|()| Some(Err(Failure::TimedOut))),
            resolved => Poll::Ready(resolved),
        }
    })
    .await;
    let Some(response) = resolved else {
        // A request that was never taken up comes back when its connection goes.
        drop(conn);
        let failed = resolve().and_then(Result::err);
        return Err(failed.unwrap_or(Failure::Closed(None)));
    };
    let (head, incoming): (_, Incoming) = response?.into_parts();
    Ok(Response::from_parts(head, Upstream::H1(conn, incoming)))
}

fn failure(mut error: hyper::client::conn::TrySendError<Request<RequestBody>>) -> Failure {
    let unsent = error.take_message();
    let error = error.into_error();
    if unsent.is_some() || error.is_incomplete_message() || error.is_canceled() || error.is_closed()
    {
        return Failure::Closed(unsent.map(Box::new));
    }
    // A reset connection is an I/O error to hyper; nothing was answered on it either.
    let reset = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|io| {
            matches!(
                io.kind(),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
            )
        });
    if reset {
        Failure::Closed(None)
    } else {
        Failure::Broken
    }
}

/// One exchange on a stream of an HTTP/2 connection, up to the response's head.
async fn send_h2(
    mut conn: H2Conn,
    outbound: Box<Outbound>,
    sending: &mut Sending,
) -> Result<Response<Upstream>, Failure> {
    let Outbound {
        request, interim, ..
    } = *outbound;
    let count = StreamCount::new(&conn.state);
    poll_fn(|cx| {
        if let Poll::Ready(ready) = conn.sender.poll_ready(cx) {
            return Poll::Ready(ready.map_err(|_gone| Failure::Broken));
        }
        sending.poll_expired(cx).map(|()| Err(Failure::TimedOut))
    })
    .await?;
    let (head, body) = request.into_parts();
    let empty = http_body::Body::is_end_stream(&body);
    let sent = conn
        .sender
        .send_request(Request::from_parts(head, ()), empty);
    let (response, stream) = sent.map_err(|_refused| Failure::Broken)?;
    let upload = (!empty).then(|| {
        let task = tokio::task::spawn_local(async move { send_body(pin!(body), stream).await });
        TaskGuard(task.abort_handle())
    });
    let mut response = pin!(response);
    let response = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(early))) = response.as_mut().get_mut().poll_informational(cx)
        {
            interim.leave(early.status(), early.headers());
        }
        if let Poll::Ready(response) = response.as_mut().poll(cx) {
            return Poll::Ready(response.map_err(|_reset| Failure::Broken));
        }
        sending.poll_expired(cx).map(|()| Err(Failure::TimedOut))
    })
    .await?;
    let (head, stream) = response.into_parts();
    let announced = super::ingress::content_length(&head.headers);
    let body = H2Body::new(stream, announced);
    Ok(Response::from_parts(
        head,
        Upstream::H2(UpstreamStream::new(body, upload, count)),
    ))
}
