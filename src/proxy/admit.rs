//! Step 7: whether a request may go to its upstream now, and the wait for its turn.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use super::live::LiveRoute;
use super::pool::Timer;
use super::rate;
use super::respond::Refusal;
use super::track::Track;
use super::worker::Worker;
use crate::clock::{Instant, SystemClock};
use crate::engine::admission::Request;
use crate::engine::circuit::{Mode, Pass};
use crate::engine::protection::{Admission, Decision, Waiting};
use crate::model::{MethodLabel, Phase, Reason, Rejection, Unit};
use crate::observe::why::{Policy, Verdict};

/// A waiter that is not let go when it should be looks again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A request's leave to go to its upstream, of all who were asked. Dropped, it says nothing about it.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    /// Of the route's own breaker.
    pub(super) route: Pass,
    /// Of the upstream's breaker and limit.
    pub(super) upstream: Admission,
}

/// How a request stands in line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// Whom it is charged to.
    pub(super) client: u64,
    /// Its place in the queue: 0 goes first.
    pub(super) tier: u8,
    /// Its share beside others of its tier.
    pub(super) weight: u32,
    /// Whether it has to take a lane, where nobody asks twice at once.
    pub(super) in_lane: bool,
}

/// Admits the request, at once or after its wait.
///
/// # Errors
/// When it is refused.
pub(crate) async fn admit(
    track: &mut Track,
    route: &LiveRoute,
    caller: Caller,
    deadline: Option<Instant>,
    timer: &mut Option<Timer>,
) -> Result<Leave, Refusal> {
    let now = track.now();
    throttle(track, route, caller.client)?;
    if let Err(rejection) = track.enter_lane(route.upstream.protection().gate().limit()) {
        return Err(refuse(track, Policy::Isolation, rejection));
    }
    let worker = std::rc::Rc::clone(&track.conn.worker);
    let passed = {
        let rng = &mut worker.rng();
        route.state.circuit().admit(now, rng)
    };
    let pass = match passed {
        Ok(pass) => pass,
        Err(rejection) => return Err(refuse(track, Policy::RouteBreaker, rejection)),
    };
    let request = request(route, caller, track.exchange.method, deadline);
    let protection = route.upstream.protection();
    let decision = {
        let rng = &mut worker.rng();
        protection.admit(now, &request, rng)
    };
    let decided = match decision {
        Decision::Admitted(admission) => {
            let gate = route.upstream.protection().gate();
            let (in_flight, limit) = (gate.in_flight().into(), gate.limit().into());
            let seen = (in_flight, limit, Some(Unit::Requests));
            track.decided(Policy::Concurrency, Verdict::Passed, seen);
            Ok(admission)
        }
        Decision::Queued(waiting) => {
            track.phase(Phase::Decide, now);
            track.enters(Phase::Queue);
            let waited = Box::pin(wait(waiting, timer)).await;
            let now = track.now();
            track.phase(Phase::Queue, now);
            track.enters(Phase::Decide);
            if waited.is_ok() {
                let most = route.config.protection.queue.max_wait().as_secs_f64();
                let time = track.exchange.phases.get(Phase::Queue).as_secs_f64();
                let seen = (time, most, Some(Unit::Seconds));
                track.decided(Policy::Queue, Verdict::Waited, seen);
            }
            waited
        }
        Decision::Refused(rejection) => Err(rejection),
    };
    match decided {
        Ok(upstream) => Ok(Leave {
            route: pass,
            upstream,
        }),
        Err(rejection) => {
            let policy = match rejection.reason {
                Reason::BreakerOpen => Policy::Breaker,
                _ => Policy::Queue,
            };
            Err(refuse(track, policy, rejection))
        }
    }
}

/// Admits a request that must not wait.
pub(crate) fn at_once(
    worker: &Worker,
    route: &LiveRoute,
    caller: Caller,
    method: MethodLabel,
    deadline: Option<Instant>,
) -> Option<Leave> {
    if caller.in_lane {
        return None;
    }
    let now = worker.now();
    let rng = &mut worker.rng();
    let pass = route.state.circuit().admit(now, rng).ok()?;
    let request = request(route, caller, method, deadline);
    match route.upstream.protection().admit(now, &request, rng) {
        Decision::Admitted(upstream) => Some(Leave {
            route: pass,
            upstream,
        }),
        Decision::Queued(_) | Decision::Refused(_) => None,
    }
}

fn request(
    route: &LiveRoute,
    caller: Caller,
    method: MethodLabel,
    deadline: Option<Instant>,
) -> Request {
    Request {
        client: caller.client,
        tier: caller.tier,
        weight: caller.weight,
        cost: route.state.cost(method),
        deadline,
    }
}

/// Refuses whom an operator keeps out or slows down, and shows others to their lane.
///
/// # Errors
/// When it is refused.
pub(crate) fn isolate(track: &mut Track, route: &LiveRoute) -> Result<(), Refusal> {
    let worker = std::rc::Rc::clone(&track.conn.worker);
    let now = || rate::moment(track, track.now());
    let name = &route.route.name;
    let tiers = &track.live().plan.tiers;
    let rank = usize::from(track.caller().tier);
    let tiers = tiers.get(..=rank).unwrap_or(tiers);
    match worker.isolations().admit(track.client(), name, tiers, now) {
        Ok(None) => Ok(()),
        Ok(Some(lane)) => {
            track.set_lane(lane);
            Ok(())
        }
        Err(rejection) => Err(refuse(track, Policy::Isolation, rejection)),
    }
}

/// Holds a client that is found to be noisy to its share.
fn throttle(track: &mut Track, route: &LiveRoute, client: u64) -> Result<(), Refusal> {
    let slots = || route.upstream.protection().gate().held(client);
    let throttle = route.upstream.throttle();
    let Some(rejection) = throttle.check(client, slots) else {
        return Ok(());
    };
    if throttle.mode() == Mode::Enforce {
        return Err(refuse(track, Policy::Noisy, rejection));
    }
    track.exchange.observed = Some(rejection.reason);
    track.refused(
        Policy::Noisy,
        Verdict::WouldRefuse(rejection.reason),
        &rejection,
    );
    Ok(())
}

fn refuse(track: &mut Track, policy: Policy, rejection: Rejection) -> Refusal {
    track.refused(policy, Verdict::Refused(rejection.reason), &rejection);
    Refusal::shed(rejection)
}

async fn wait(mut waiting: Waiting, timer: &mut Option<Timer>) -> Result<Admission, Rejection> {
    let mut until = waiting.expires();
    poll_fn(|cx| {
        loop {
            let now = SystemClock.now();
            if let Poll::Ready(fate) = waiting.poll(now, cx) {
                return Poll::Ready(fate);
            }
            until = until.max(now.after(LOOK_AGAIN));
            let timer = timer.get_or_insert_with(|| Timer::new(until));
            ready!(timer.poll_until(cx, until));
        }
    })
    .await
}
