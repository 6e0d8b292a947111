//! One attempt: an endpoint, a connection to it, and the exchange up to the response's head.
//!
//! An endpoint that cannot be connected to is passed over for another: nothing was sent. A pooled connection
//! that turns out closed before a byte was answered is replaced by a fresh one, when nothing was sent on it or the
//! request may be repeated (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1); to another endpoint, if that one is gone.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response, StatusCode};

use super::body::Upstream;
use super::connect::ConnectError;
use super::forward::Failure;
use super::h1::{self, Fault};
use super::h2stream::{H2Body, StreamCount, TaskGuard, UpstreamStream, send_body};
use super::live::LiveRoute;
use super::outbound::Sending;
use super::outliers;
use super::pool::{H1Conn, H2Conn};
use super::respond::Refusal;
use super::track::Track;
use super::upload::RequestBody;
use crate::clock::Instant;
use crate::config::plan::Protocol;
use crate::engine::protection::Outcome;
use crate::engine::upstream::{Completion, Lease, NoEndpoint};
use crate::model::{EndpointId, Phase, Reason, Unit};
use crate::observe::why::{Policy, Verdict};

/// Endpoints tried when connections cannot be made.
const MAX_ENDPOINTS: usize = 3;

/// Why no endpoint was sent the request, and what that says about the upstream.
type NotSent = (Refusal, Outcome);

/// Sends the request with `body` to some endpoint; the response's head, or why there is none.
///
/// # Errors
/// When there is no endpoint to send it to, or none that can be connected to.
pub(super) async fn send(
    track: &mut Track,
    route: &LiveRoute,
    body: RequestBody,
    sending: &mut Sending,
) -> Result<(Lease, Result<Response<Upstream>, Failure>), NotSent> {
    match route.connector.protocol {
        Protocol::Http1 => {
            let now = sending.worker.now();
            let first = first(track, route, sending, now)?;
            // The usual case without a future of its own.
            let (lease, conn) = match pooled(track, route, sending, &first, now) {
                Some(conn) => (first, conn),
                None => Box::pin(connect_h1(track, route, sending, first)).await?,
            };
            send_h1(track, route, lease, conn, body, sending).await
        }
        Protocol::Http2 => {
            Box::pin(async {
                let now = sending.worker.now();
                let first = first(track, route, sending, now)?;
                let (lease, ready) = ready_h2(track, route, sending, first).await?;
                track.count_attempt();
                let result = match ready {
                    Ok((conn, count)) => send_h2(conn, count, body, sending).await,
                    Err(failure) => Err(failure),
                };
                Ok((lease, result))
            })
            .await
        }
    }
}

/// Picks an endpoint that is not among `failed`, nor among those tried before if there is another.
fn pick(
    track: &mut Track,
    route: &LiveRoute,
    sending: &Sending,
    failed: &[EndpointId],
    now: Instant,
) -> Result<Lease, NoEndpoint> {
    let rng = &mut sending.worker.rng();
    let mut pick =
        |exclude: &[EndpointId]| route.upstream.pick(now, rng, sending.out.hash, exclude);
    let lease = match sending.tried.as_slice() {
        [] => pick(failed)?,
        tried => {
            let both: Vec<_> = tried.iter().chain(failed).copied().collect();
            pick(&both).or_else(|_none_left| pick(failed))?
        }
    };
    track.set_endpoint(lease.endpoint());
    let in_flight = f64::from(lease.endpoint().in_flight());
    let seen = (in_flight, f64::NAN, Some(Unit::Requests));
    track.decided(Policy::Balance, Verdict::Chosen, seen);
    Ok(lease)
}

fn no_endpoint(last: Option<ConnectError>) -> NotSent {
    match last {
        Some(error) => {
            let mut refusal = Refusal::new(
                StatusCode::BAD_GATEWAY,
                Reason::ConnectFailed,
                error.detail(),
            );
            refusal.proxy_status = error.proxy_status();
            (refusal, Outcome::Failed)
        }
        None => {
            let refusal = Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Reason::NoHealthyEndpoint,
                "the upstream has no endpoint to send this to",
            );
            (refusal, Outcome::Ignored)
        }
    }
}

/// Calls `$connect` on the endpoint of `$first`, then on one after the other until a connection stands.
macro_rules! connect_any {
    ($track:ident, $route:ident, $sending:ident, $first:ident, $lease:ident => $connect:expr) => {{
        let mut failed = Vec::new();
        let mut last = None;
        let mut picked = Ok($first);
        loop {
            let worker = Rc::clone(&$sending.worker);
            let Ok(mut $lease) = picked else {
                return Err(no_endpoint(last));
            };
            let begun = worker.now();
            $track.phase(Phase::Decide, begun);
            $track.enters(Phase::Connect);
            let connected = $connect.await;
            let now = worker.now();
            $track.phase(Phase::Connect, now);
            match connected {
                Ok(conn) => {
                    $sending.begun = now;
                    break Ok(($lease, conn));
                }
                Err(error) => {
                    if $lease.observe(now, Completion::Failure(now.since(begun))) {
                        outliers::judge(&$route.upstream, now);
                    }
                    failed.push($lease.endpoint().id());
                    last = Some(error);
                    let seen = (f64::NAN, f64::NAN, None);
                    let verdict = Verdict::Failed(Reason::ConnectFailed);
                    $track.decided(Policy::Upstream, verdict, seen);
                    drop($lease);
                    picked = if failed.len() < MAX_ENDPOINTS {
                        pick($track, $route, $sending, &failed, now)
                    } else {
                        Err(NoEndpoint::NoneLeft)
                    };
                }
            }
        }
    }};
}

/// Sends a second copy of a request to an endpoint it was not sent to; none when that fails.
pub(super) async fn copy(
    route: &LiveRoute,
    body: RequestBody,
    sending: &mut Sending,
) -> Option<(Lease, Response<Upstream>)> {
    let now = sending.worker.now();
    let lease = {
        let rng = &mut sending.worker.rng();
        let picked = route
            .upstream
            .pick(now, rng, sending.out.hash, &sending.tried);
        picked.ok()?
    };
    let response = match route.connector.protocol {
        Protocol::Http1 => {
            let pooled = {
                let pools = sending.worker.pools();
                pools.take(lease.endpoint().id(), &route.connector)
            };
            let conn = match pooled {
                Some(conn) => conn,
                None => fresh_h1(route, &lease, sending).await.ok()?,
            };
            sending.begun = sending.worker.now();
            exchange_h1(conn, Begin::With(body), sending).await
        }
        Protocol::Http2 => {
            let mut conn = any_h2(route, &lease, sending).await.ok()?;
            let count = StreamCount::new(&conn.state);
            takes_stream(&mut conn, sending)
                .await
                .filter(|takes| *takes)?;
            sending.begun = sending.worker.now();
            send_h2(conn, count, body, sending).await
        }
    };
    Some((lease, response.ok()?))
}

/// The first choice.
fn first(
    track: &mut Track,
    route: &LiveRoute,
    sending: &Sending,
    now: Instant,
) -> Result<Lease, NotSent> {
    pick(track, route, sending, &[], now).map_err(|_none| no_endpoint(None))
}

/// A pooled HTTP/1 connection to the first choice.
fn pooled(
    track: &mut Track,
    route: &LiveRoute,
    sending: &mut Sending,
    first: &Lease,
    now: Instant,
) -> Option<Box<H1Conn>> {
    let worker = &sending.worker;
    let pools = worker.pools();
    let conn = pools.take(first.endpoint().id(), &route.connector)?;
    track.phase(Phase::Decide, now);
    sending.begun = now;
    Some(conn)
}

/// A fresh HTTP/1 connection to the first choice or, failing that, to another.
async fn connect_h1(
    track: &mut Track,
    route: &LiveRoute,
    sending: &mut Sending,
    first: Lease,
) -> Result<(Lease, Box<H1Conn>), NotSent> {
    connect_any!(track, route, sending, first, lease => fresh_h1(route, &lease, sending))
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
        .out
        .deadline
        .unwrap_or_else(|| now.after(sending.bound()));
    let stream = route
        .connector
        .connect(endpoint.address(), now, deadline)
        .await?;
    let pools = worker.pools();
    Ok(pools.h1(endpoint.id(), &route.connector, stream))
}

/// A shared or a fresh HTTP/2 connection to the first choice or, failing that, to another.
async fn connect_h2(
    track: &mut Track,
    route: &LiveRoute,
    sending: &mut Sending,
    first: Lease,
) -> Result<(Lease, H2Conn), NotSent> {
    connect_any!(track, route, sending, first, lease => any_h2(route, &lease, sending))
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
        .out
        .deadline
        .unwrap_or_else(|| now.after(sending.bound()));
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
    lease: Lease,
    conn: Box<H1Conn>,
    body: RequestBody,
    sending: &mut Sending,
) -> Result<(Lease, Result<Response<Upstream>, Failure>), NotSent> {
    let reused = conn.reused;
    track.count_attempt();
    let unsent = match exchange_h1(conn, Begin::With(body), sending).await {
        Err(Failure::Closed(unsent)) if reused => unsent,
        other => return Ok((lease, other)),
    };
    Box::pin(async move {
        let copied = || {
            let body = sending.out.is_resendable().then(|| sending.body_again())?;
            body.map(Begin::With)
        };
        let Some(begin) = unsent.map(Begin::Again).or_else(copied) else {
            return Ok((lease, Err(Failure::Closed(None))));
        };
        let (lease, conn) = connect_h1(track, route, sending, lease).await?;
        track.count_attempt();
        let result = exchange_h1(conn, begin, sending).await;
        Ok((lease, result))
    })
    .await
}

/// What an exchange begins with.
enum Begin {
    /// The request's head, and this body.
    With(RequestBody),
    /// What another connection could not send.
    Again(h1::Unsent),
}

/// One exchange on one HTTP/1 connection, up to the response's head.
async fn exchange_h1(
    mut conn: Box<H1Conn>,
    begin: Begin,
    sending: &mut Sending,
) -> Result<Response<Upstream>, Failure> {
    match begin {
        Begin::With(body) => conn.connection.begin(&sending.out.head, body),
        Begin::Again(unsent) => conn.connection.begin_again(unsent),
    }
    let mut headers = sending.worker.spares().take_headers();
    let may_be_plain = sending.out.may_be_plain;
    let head = poll_fn(|cx| {
        let interim = &sending.out.interim;
        if let Poll::Ready(head) =
            conn.connection
                .poll_head(cx, interim, &mut headers, may_be_plain)
        {
            return Poll::Ready(head.map_err(|fault| match fault {
                Fault::Closed(unsent) => Failure::Closed(unsent),
                Fault::Broken => Failure::Broken,
            }));
        }
        sending.poll_expired(cx).map(|()| Err(Failure::TimedOut))
    })
    .await?;
    Ok(Response::from_parts(head, Upstream::H1(conn)))
}

/// Streams beyond the last that GOAWAY names, and those refused, were not processed (RFC 9113 section 8.7). Others whose
/// connection ends after GOAWAY fail with that end.
fn failure_h2(error: &h2::Error) -> Failure {
    let refused = error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if error.is_remote() && refused {
        Failure::Unprocessed
    } else {
        Failure::Broken
    }
}

/// An HTTP/2 connection that takes another stream. One that the endpoint has begun to close does not, though what is
/// under way on it may last long (RFC 9113 section 6.8); it is left to that, and another is made.
async fn ready_h2(
    track: &mut Track,
    route: &LiveRoute,
    sending: &mut Sending,
    first: Lease,
) -> Result<(Lease, Result<(H2Conn, StreamCount), Failure>), NotSent> {
    let mut lease = first;
    for _ in 0..MAX_ENDPOINTS {
        let (connected, mut conn) = connect_h2(track, route, sending, lease).await?;
        let count = StreamCount::new(&conn.state);
        match takes_stream(&mut conn, sending).await {
            Some(true) => return Ok((connected, Ok((conn, count)))),
            Some(false) => conn.state.closed.set(true),
            None => return Ok((connected, Err(Failure::TimedOut))),
        }
        lease = connected;
    }
    Ok((lease, Err(Failure::Broken)))
}

/// Whether the connection takes another stream, once it does or never will; none when that lasts too long.
async fn takes_stream(conn: &mut H2Conn, sending: &mut Sending) -> Option<bool> {
    poll_fn(|cx| {
        if let Poll::Ready(ready) = conn.sender.poll_ready(cx) {
            return Poll::Ready(Some(ready.is_ok()));
        }
        sending.poll_expired(cx).map(|()| None)
    })
    .await
}

/// One exchange on a stream of an HTTP/2 connection, up to the response's head.
async fn send_h2(
    mut conn: H2Conn,
    count: StreamCount,
    body: RequestBody,
    sending: &mut Sending,
) -> Result<Response<Upstream>, Failure> {
    let empty = http_body::Body::is_end_stream(&body);
    let mut request = Request::new(());
    let head = &sending.out.head;
    request.method_mut().clone_from(&head.method);
    request.uri_mut().clone_from(&head.uri);
    request.headers_mut().clone_from(&head.headers);
    let sent = conn.sender.send_request(request, empty);
    let (response, stream) = sent.map_err(|_refused| Failure::Broken)?;
    let upload = (!empty).then(|| {
        let task = tokio::task::spawn_local(async move { send_body(pin!(body), stream).await });
        TaskGuard(task.abort_handle())
    });
    let mut response = pin!(response);
    let response = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(early))) = response.as_mut().get_mut().poll_informational(cx)
        {
            let interim = &sending.out.interim;
            interim.leave(early.status(), early.headers());
        }
        if let Poll::Ready(response) = response.as_mut().poll(cx) {
            return Poll::Ready(response.map_err(|error| failure_h2(&error)));
        }
        sending.poll_expired(cx).map(|()| Err(Failure::TimedOut))
    })
    .await?;
    let (head, stream) = response.into_parts();
    let announced = super::ingress::content_length(&head.headers);
    let body = H2Body::new(stream, announced);
    Ok(Response::from_parts(
        head,
        Upstream::H2(Box::new(UpstreamStream::new(body, upload, count))),
    ))
}
