//! Steps 7 to 9: a request's admission, its attempt, and another attempt where that is safe.
//!
//! Each attempt is admitted like a request of its own, so that what is sent again passes the breaker, the
//! limit and the queue as everything else does; what those refuse ends the trying.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};

use super::admit::{self, Leave};
use super::body::{Passing, Upstream};
use super::h1::Unsent;
use super::hold::{self, Hold, upstream_time};
use super::live::LiveRoute;
use super::outbound::{Outbound, Sending};
use super::pool::Timer;
use super::respond::Refusal;
use super::send;
use super::track::Track;
use super::upload::{BodyError, RequestBody};
use super::{hedge, outliers};
use crate::clock::Instant;
use crate::engine::protection::Outcome;
use crate::engine::upstream::{Completion, Lease, Resend, retry};
use crate::model::{Phase, Reason, Unit};
use crate::observe::why::{Policy, Verdict};

/// A response whose head has come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) passing: Passing,
}

/// Why a request sent got no response.
pub(super) enum Failure {
    /// The connection was closed before a byte was answered; the request, if it was never written.
    Closed(Option<Unsent>),
    TimedOut,
    /// The endpoint says that it has done nothing about it.
    Unprocessed,
    Broken,
}

/// An attempt that got no response.
pub(super) struct Failed {
    refusal: Refusal,
    /// What it says about trying again.
    failure: retry::Failure,
}

/// Sends `outbound` and waits for the response's head.
///
/// # Errors
/// When it is refused, or the last attempt failed.
pub(crate) async fn forward(
    track: &mut Track,
    route: &LiveRoute,
    outbound: Box<Outbound>,
) -> Result<Box<Answer>, Refusal> {
    let mut sending = Sending::new(track, route, outbound);
    let mut body = sending.take_body();
    if sending.out.gathers && body.is_short() {
        gather(track, &mut body, &mut sending).await?;
    }
    route.upstream.retries().deposit(sending.begun);
    let (caller, deadline) = (sending.out.caller, sending.out.deadline);
    let leave = admit::admit(track, route, caller, deadline, &mut sending.timer).await?;
    let attempted = match hedge::after(route, sending.out.is_repeatable()) {
        None => attempt(track, route, leave, body, &mut sending).await,
        Some(after) => Box::pin(hedge::race(track, route, leave, body, &mut sending, after)).await,
    };
    match failure_of(&attempted, sending.out.grpc) {
        None => attempted.map_err(|failed| failed.refusal),
        Some(failure) => Box::pin(again(track, route, attempted, failure, sending)).await,
    }
}

/// Reads the whole of a short body. A client that sends slowly would else take up one of the upstream's places, and the
/// upstream would look slow for it.
async fn gather(
    track: &mut Track,
    body: &mut RequestBody,
    sending: &mut Sending,
) -> Result<(), Refusal> {
    let (mut frames, mut waits) = (Vec::new(), false);
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = body.poll_gather(cx, &mut frames) {
            return Poll::Ready(ended.map_err(|_broken| Failure::Broken));
        }
        if !std::mem::replace(&mut waits, true) {
            track.phase(Phase::Decide, sending.worker.now());
            track.enters(Phase::Receive);
        }
        let expired = sending.poll_expired(cx);
        expired.map(|()| Err(Failure::TimedOut))
    })
    .await;
    let now = sending.worker.now();
    if waits {
        track.phase(Phase::Receive, now);
        track.enters(Phase::Decide);
    }
    if let Some(upload) = &sending.out.upload {
        track.exchange.bytes_in = upload.bytes();
        upload.forgive();
    }
    ended.map_err(|failure| explain(track, &failure, sending, now).0)
}

/// What speaks for another attempt.
fn failure_of(attempted: &Result<Box<Answer>, Failed>, grpc: bool) -> Option<retry::Failure> {
    match attempted {
        Err(failed) => Some(failed.failure),
        Ok(answer) => match grpc_status(grpc, &answer.head.headers) {
            Some(14) => Some(retry::Failure::Unavailable),
            Some(_) => None,
            None => retry::Failure::from_status(answer.head.status.as_u16()),
        },
    }
}

/// The status that the headers of a response without a body carry, to a request that was gRPC.
fn grpc_status(grpc: bool, headers: &HeaderMap) -> Option<u16> {
    grpc.then(|| hold::grpc_status(headers))?
}

/// Tries again as often as that is safe and within the budget.
async fn again(
    track: &mut Track,
    route: &LiveRoute,
    mut attempted: Result<Box<Answer>, Failed>,
    mut failure: retry::Failure,
    mut sending: Sending,
) -> Result<Box<Answer>, Refusal> {
    let mut attempts = 1;
    loop {
        let now = track.now();
        let overall = *sending
            .overall
            .get_or_insert_with(|| sending.begun.after(sending.timeout));
        let request = retry::Request {
            repeatable: sending.out.is_repeatable(),
            replayable: sending.out.is_resendable() && sending.body_again().is_some(),
            answered: false,
            attempts,
            deadline: Some(sending.out.deadline.map_or(overall, |at| at.min(overall))),
            usual: route.state.cost(track.exchange.method),
        };
        let decided = {
            let rng = &mut sending.worker.rng();
            route.upstream.retry(&request, failure, now, rng)
        };
        note_retry(track, &request, decided);
        let wait = match decided {
            Resend::After(wait) => Some(wait),
            Resend::Never(_) | Resend::Off | Resend::Would(_) => None,
        };
        let Some(wait) = wait else {
            return attempted.map_err(|failed| failed.refusal);
        };
        let Some(body) = sending.again(attempts + 1) else {
            return attempted.map_err(|failed| failed.refusal);
        };
        attempts += 1;
        let refusal = let_go(track, attempted);
        pause(&mut sending.timer, now.after(wait)).await;
        let (caller, deadline) = (sending.out.caller, sending.out.deadline);
        let admitted = admit::admit(track, route, caller, deadline, &mut sending.timer).await;
        let leave = admitted.map_err(|shed| refusal.unwrap_or(shed))?;
        attempted = attempt(track, route, leave, body, &mut sending).await;
        match failure_of(&attempted, sending.out.grpc) {
            None => return attempted.map_err(|failed| failed.refusal),
            Some(another) => failure = another,
        }
    }
}

fn note_retry(track: &mut Track, request: &retry::Request, decided: Resend) {
    let attempts = f64::from(request.attempts);
    let (verdict, seen) = match decided {
        Resend::Off => return,
        Resend::After(wait) => {
            let wait = (wait.as_secs_f64(), f64::NAN, Some(Unit::Seconds));
            (Verdict::SentAgain, wait)
        }
        Resend::Would(wait) => {
            let wait = (wait.as_secs_f64(), f64::NAN, Some(Unit::Seconds));
            (Verdict::WouldSendAgain, wait)
        }
        Resend::Never(refusal) => {
            let attempts = (attempts, f64::NAN, Some(Unit::Requests));
            (Verdict::NotSentAgain(refusal), attempts)
        }
    };
    track.decided(Policy::Retry, verdict, seen);
}

/// Ends an attempt whose answer nobody will read; what it would have been refused with.
fn let_go(track: &mut Track, attempted: Result<Box<Answer>, Failed>) -> Option<Refusal> {
    match attempted {
        Ok(answer) => {
            answer.passing.hold.complete(track);
            track.exchange.upstream_status = None;
            None
        }
        Err(failed) => Some(failed.refusal),
    }
}

async fn pause(timer: &mut Option<Timer>, until: Instant) {
    let timer = timer.get_or_insert_with(|| Timer::new(until));
    poll_fn(|cx| timer.poll_until(cx, until)).await;
}

/// One attempt: an endpoint, a connection, the request, the head of its response.
pub(super) async fn attempt(
    track: &mut Track,
    route: &LiveRoute,
    leave: Leave,
    body: RequestBody,
    sending: &mut Sending,
) -> Result<Box<Answer>, Failed> {
    let before = upstream_time(track);
    match send::send(track, route, body, sending).await {
        Ok((lease, Ok(response))) => Ok(answered(
            track, route, lease, leave, response, before, sending,
        )),
        Ok((lease, Err(failure))) => {
            let (failed, outcome) = unanswered(track, route, lease, &failure, sending);
            hold::complete(track, leave, before, outcome, true);
            Err(failed)
        }
        Err((refusal, outcome)) => {
            hold::complete(track, leave, before, outcome, true);
            let failure = retry::Failure::NotSent;
            Err(Failed { refusal, failure })
        }
    }
}

/// Accounts for a response.
pub(super) fn answered(
    track: &mut Track,
    route: &LiveRoute,
    mut lease: Lease,
    leave: Leave,
    response: Response<Upstream>,
    before: Duration,
    sending: &mut Sending,
) -> Box<Answer> {
    let now = waited(track, sending);
    let (head, upstream) = response.into_parts();
    track.exchange.upstream_status = Some(head.status.as_u16());
    track.enters(Phase::Body);
    let seen = (f64::from(head.status.as_u16()), f64::NAN, None);
    track.decided(Policy::Upstream, Verdict::Answered, seen);
    let latency = now.since(sending.begun);
    let status = grpc_status(sending.out.grpc, &head.headers);
    let outcome = status.map_or_else(
        || Outcome::from_status(head.status.as_u16()),
        Outcome::from_grpc_status,
    );
    let judge = lease.observe(
        now,
        if outcome.is_failure() {
            Completion::Failure(latency)
        } else {
            Completion::Success(latency)
        },
    );
    if judge {
        outliers::judge(&route.upstream, now);
    }
    if matches!(head.status.as_u16(), 429 | 503)
        && let Some(asked) = head.headers.get(RETRY_AFTER)
    {
        outliers::set_aside(&route.upstream, lease.endpoint(), asked, now);
    }
    let passing = Passing {
        upstream,
        hold: Hold::new(lease, leave, before, outcome, sending.out.grpc),
        timer: sending.timer.take(),
        upload: sending.out.upload.clone(),
        now,
    };
    Box::new(Answer { head, passing })
}

/// Accounts for the absence of a response.
fn unanswered(
    track: &mut Track,
    route: &LiveRoute,
    mut lease: Lease,
    failure: &Failure,
    sending: &mut Sending,
) -> (Failed, Outcome) {
    let now = waited(track, sending);
    let (refusal, failure) = explain(track, failure, sending, now);
    let time = now.since(sending.begun).as_secs_f64();
    let seen = (time, sending.bound().as_secs_f64(), Some(Unit::Seconds));
    track.decided(Policy::Upstream, Verdict::Failed(refusal.reason), seen);
    let outcome = if failure == retry::Failure::Final && !is_upstreams(refusal.reason) {
        Outcome::Ignored
    } else {
        let judge = lease.observe(now, Completion::Failure(now.since(sending.begun)));
        if judge {
            outliers::judge(&route.upstream, now);
        }
        Outcome::Failed
    };
    sending.tried.push(lease.endpoint().id());
    (Failed { refusal, failure }, outcome)
}

/// Whether the upstream is to blame.
const fn is_upstreams(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UpstreamTimeout | Reason::UpstreamReset | Reason::ConnectFailed
    )
}

/// The wait for the head is over.
fn waited(track: &mut Track, sending: &Sending) -> Instant {
    let now = sending.worker.now();
    track.phase_beside_upload(Phase::Wait, now, sending.waited(now));
    if let Some(upload) = &sending.out.upload {
        track.exchange.bytes_in = upload.bytes();
    }
    now
}

fn explain(
    track: &Track,
    failure: &Failure,
    sending: &Sending,
    now: Instant,
) -> (Refusal, retry::Failure) {
    use retry::Failure::{Final, NotSent, Reset, TryTimeout};
    if let Some(violation) = track.conn.broken_upload() {
        return (Refusal::bad_request(violation.detail), Final);
    }
    match sending
        .out
        .upload
        .as_ref()
        .and_then(|upload| upload.failure())
    {
        Some(BodyError::TooLarge) => return (body_too_large(), Final),
        Some(BodyError::Broken | BodyError::Idle) => {
            let refusal = Refusal::bad_request("the request's body broke off");
            return (refusal, Final);
        }
        None => {}
    }
    match failure {
        Failure::TimedOut if sending.out.deadline.is_some_and(|deadline| now >= deadline) => {
            let refusal = Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                Reason::Deadline,
                "the client's deadline passed",
            );
            (refusal, Final)
        }
        Failure::TimedOut
            if sending
                .out
                .upload
                .as_ref()
                .is_some_and(|upload| !upload.state().0) =>
        {
            let detail = "the client stopped sending its request";
            let refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, Reason::BadRequest, detail);
            (refusal.closing(), Final)
        }
        Failure::TimedOut => {
            let refusal = Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                Reason::UpstreamTimeout,
                "the upstream did not answer in time",
            );
            let over = now >= sending.begun.after(sending.timeout);
            (refusal, if over { Final } else { TryTimeout })
        }
        Failure::Closed(_) | Failure::Broken | Failure::Unprocessed => {
            let refusal = Refusal::new(
                StatusCode::BAD_GATEWAY,
                Reason::UpstreamReset,
                "the upstream broke off before it answered",
            );
            let unprocessed = matches!(failure, Failure::Unprocessed);
            (refusal, if unprocessed { NotSent } else { Reset })
        }
    }
}

/// Whether a response is a stream of events, which ends when somebody tires of it.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
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
