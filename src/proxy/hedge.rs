//! A second copy of a request that takes longer than most (Dean and Barroso, "The Tail at Scale"): sent to
//! another endpoint, and whichever answers first counts.
//!
//! The copy passes the breaker and the limit like any request, but never waits: when there is no slot for it,
//! more load is the last thing the upstream needs. What loses is broken off, and its slowness is reported.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Response;

use super::admit::{self, Leave};
use super::body::Upstream;
use super::forward::{self, Answer, Failed};
use super::hold::upstream_time;
use super::live::LiveRoute;
use super::outbound::Sending;
use super::pool::Timer;
use super::send;
use super::track::Track;
use super::upload::RequestBody;
use crate::config::plan::HedgeAfter;
use crate::engine::upstream::{Lease, Resend, retry};
use crate::model::{Phase, Unit};
use crate::observe::why::{Policy, Verdict};

/// After which time a second copy of the request is sent; none when there will be none.
pub(super) fn after(route: &LiveRoute, repeatable: bool) -> Option<Duration> {
    match route.config.retry.hedge_after.filter(|_| repeatable)? {
        HedgeAfter::Time(time) => Some(time),
        HedgeAfter::Quantile(_) => route.state.late(),
    }
}

/// A copy under way.
type Copy<'a> = Pin<Box<dyn Future<Output = Option<(Lease, Response<Upstream>)>> + 'a>>;

/// Makes the first attempt and, when it takes longer than `after`, a second beside it.
pub(super) async fn race(
    track: &mut Track,
    route: &LiveRoute,
    leave: Leave,
    body: RequestBody,
    sending: &mut Sending,
    after: Duration,
) -> Result<Box<Answer>, Failed> {
    let worker = Rc::clone(&sending.worker);
    let (begun, entry) = (worker.now(), track.entry());
    let method = track.exchange.method;
    let mut second = sending.copy();
    let mut first = Box::pin(forward::attempt(track, route, leave, body, sending));
    let at = begun.after(after);
    let mut timer = Timer::new(at);
    let early = poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(attempted) => Poll::Ready(Some(attempted)),
        Poll::Pending => timer.poll_until(cx, at).map(|()| None),
    });
    if let Some(attempted) = early.await {
        return attempted;
    }
    let sent = worker.now();
    let overall = begun.after(second.timeout);
    let request = retry::Request {
        repeatable: second.out.is_repeatable(),
        replayable: second.body_again().is_some(),
        answered: false,
        attempts: 1,
        deadline: Some(second.out.deadline.map_or(overall, |at| at.min(overall))),
        usual: route.state.cost(method),
    };
    let decided = route.upstream.hedge(&request, sent);
    let slow = worker.in_flight().endpoint(entry);
    let leave = matches!(decided, Resend::After(_))
        .then(|| {
            admit::at_once(
                &worker,
                route,
                second.out.caller,
                method,
                second.out.deadline,
            )
        })
        .flatten();
    let Some(leave) = leave else {
        return first.await;
    };
    let Some(again) = second.again(2) else {
        return first.await;
    };
    second.tried.extend(slow);
    let upload = second.out.upload.take();
    let copy: Copy<'_> = Box::pin(send::copy(route, again, &mut second));
    let Some(won) = whichever(first.as_mut(), copy).await else {
        return first.await;
    };
    let (lease, response) = match won {
        Ok(copied) => copied,
        Err(attempted) => {
            drop(first);
            note(track, after);
            return attempted;
        }
    };
    drop(first);
    if let Some(slow) = slow {
        route.upstream.outpaced(slow, begun, worker.now());
    }
    track.phase(Phase::Wait, sent);
    note(track, after);
    second.out.upload = upload;
    let before = upstream_time(track);
    track.set_endpoint(lease.endpoint());
    Ok(forward::answered(
        track,
        route,
        lease,
        leave,
        response,
        before,
        &mut second,
    ))
}

/// The copy's answer or the end of the first attempt, whichever comes first; none when the copy comes to
/// nothing before that. An attempt that fails leaves the copy its chance.
async fn whichever(
    mut first: Pin<&mut impl Future<Output = Result<Box<Answer>, Failed>>>,
    mut copy: Copy<'_>,
) -> Option<Result<(Lease, Response<Upstream>), Result<Box<Answer>, Failed>>> {
    let mut failed = None;
    poll_fn(|cx| {
        if failed.is_none()
            && let Poll::Ready(attempted) = first.as_mut().poll(cx)
        {
            if attempted.is_ok() {
                return Poll::Ready(Some(Err(attempted)));
            }
            failed = Some(attempted);
        }
        match copy.as_mut().poll(cx) {
            Poll::Ready(Some(copied)) => Poll::Ready(Some(Ok(copied))),
            Poll::Ready(None) => Poll::Ready(failed.take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn note(track: &mut Track, after: Duration) {
    track.count_attempt();
    track.enters(Phase::Body);
    let seen = (after.as_secs_f64(), f64::NAN, Some(Unit::Seconds));
    track.decided(Policy::Hedge, Verdict::SentAgain, seen);
}
