//! The layer against the engine as the proxy drives it: one trace, the same decisions at the same instants.
//!
//! Both are stepped by one list of events, so that nothing depends on the order of timers. Clients, one of
//! which floods, deadlines, tiers and an outage of the service make every decision there is.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tower::service_fn;
use tower_layer::Layer;
use tower_service::Service;

use crate::clock::Instant;
use crate::engine::admission::Request;
use crate::engine::protection::{
    Admission, Algorithm, Decision, Outcome, Protection, Settings, Waiting,
};
use crate::engine::route::RouteState;
use crate::layer::edge::Edge;
use crate::layer::{Caller, Error, ProtectionLayer};
use crate::model::{MethodLabel, Reason, Rejection};

const SEED: u64 = 20_261_123;

/// The length of the trace.
const JOBS: usize = 8_000;

/// A request of the trace, and what the service will make of it.
#[derive(Clone, Copy, Debug)]
struct Job {
    id: usize,
    at: Instant,
    caller: Caller,
    takes: Duration,
    fails: bool,
}

/// Twenty-five seconds at twice what eight slots of 50 ms carry; nothing works from the fifth to the twelfth.
fn trace() -> Vec<Job> {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut at = Instant::ZERO;
    let outage = seconds(5)..seconds(12);
    (0..JOBS)
        .map(|id| {
            at = at.after(Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / 320.0));
            Job {
                id,
                at,
                caller: Caller {
                    client: if rng.f64() < 0.5 { 0 } else { rng.u64(1..20) },
                    tier: rng.u8(0..3),
                    weight: 1,
                    within: (rng.f64() < 0.2).then(|| Duration::from_millis(rng.u64(1..150))),
                },
                takes: Duration::from_micros(rng.u64(20_000..80_000)),
                fails: outage.contains(&at),
            }
        })
        .collect()
}

fn seconds(seconds: u64) -> Instant {
    Instant::ZERO.after(Duration::from_secs(seconds))
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Waits,
    Runs,
    Refused(Rejection),
    Ended,
}

/// One of the two that decide.
trait Side {
    fn arrive(&mut self, now: Instant, job: &Job) -> Fate;
    /// Looks after a request that waits.
    fn look(&mut self, now: Instant, job: &Job) -> Fate;
    fn finish(&mut self, now: Instant, job: &Job) -> Fate;
}

/// The engine, driven as the proxy drives it.
struct Engine {
    protection: Protection,
    route: RouteState,
    dice: Edge,
    waiting: BTreeMap<usize, Waiting>,
    running: BTreeMap<usize, (Admission, Instant)>,
}

impl Engine {
    fn new(settings: &Settings) -> Self {
        Self {
            protection: Protection::new(settings, Instant::ZERO),
            route: RouteState::new(Instant::ZERO),
            dice: Edge::with_seed(SEED),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }
}

impl Side for Engine {
    fn arrive(&mut self, now: Instant, job: &Job) -> Fate {
        let request = Request {
            client: job.caller.client,
            tier: job.caller.tier,
            weight: job.caller.weight,
            cost: self.route.cost(MethodLabel::Other),
            deadline: job.caller.within.map(|within| now.after(within)),
        };
        self.protection.tick(now);
        let decision = self.protection.admit(now, &request, &mut self.dice.dice());
        match decision {
            Decision::Admitted(admission) => {
                self.running.insert(job.id, (admission, now));
                Fate::Runs
            }
            Decision::Queued(waiting) => {
                self.waiting.insert(job.id, waiting);
                self.look(now, job)
            }
            Decision::Refused(rejection) => Fate::Refused(rejection),
        }
    }

    fn look(&mut self, now: Instant, job: &Job) -> Fate {
        let waiting = self.waiting.get_mut(&job.id).unwrap();
        let Poll::Ready(fate) = waiting.poll(now, &mut Context::from_waker(Waker::noop())) else {
            return Fate::Waits;
        };
        self.waiting.remove(&job.id);
        match fate {
            Ok(admission) => {
                self.running.insert(job.id, (admission, now));
                Fate::Runs
            }
            Err(rejection) => Fate::Refused(rejection),
        }
    }

    fn finish(&mut self, now: Instant, job: &Job) -> Fate {
        let (admission, begun) = self.running.remove(&job.id).unwrap();
        let took = now.since(begun);
        let outcome = outcome(job.fails);
        if outcome == Outcome::Answered {
            self.route.observe(MethodLabel::Other, took);
        }
        let dice = &mut self.dice.dice();
        self.protection
            .complete(admission, now, outcome, took, dice);
        Fate::Ended
    }
}

const fn outcome(failed: bool) -> Outcome {
    if failed {
        Outcome::Failed
    } else {
        Outcome::Answered
    }
}

type Answers = Rc<RefCell<BTreeMap<usize, oneshot::Sender<bool>>>>;
type Call = Pin<Box<dyn Future<Output = Result<bool, Error<Infallible>>>>>;

/// The layer around a service that answers when told to.
struct Layered {
    call: Box<dyn FnMut(Job) -> Call>,
    /// Where the answers of what has reached the service are to go.
    answers: Answers,
    calls: BTreeMap<usize, Call>,
}

impl Layered {
    fn new(settings: &Settings) -> (Self, ProtectionLayer) {
        let layer = ProtectionLayer::with_seed(settings, SEED);
        let answers = Answers::default();
        let reached = Rc::clone(&answers);
        let mut service = layer
            .clone()
            .identify(|job: &Job| job.caller)
            .classify(|result: Result<&bool, &Infallible>| outcome(result.copied().unwrap_or(true)))
            .layer(service_fn(move |job: Job| {
                let (answer, answered) = oneshot::channel();
                reached.borrow_mut().insert(job.id, answer);
                async { Ok(answered.await.unwrap()) }
            }));
        let side = Self {
            call: Box::new(move |job| Box::pin(service.call(job))),
            answers,
            calls: BTreeMap::new(),
        };
        (side, layer)
    }
}

impl Side for Layered {
    fn arrive(&mut self, now: Instant, job: &Job) -> Fate {
        let call = (self.call)(*job);
        self.calls.insert(job.id, call);
        self.look(now, job)
    }

    fn look(&mut self, _now: Instant, job: &Job) -> Fate {
        let call = self.calls.get_mut(&job.id).unwrap().as_mut();
        match call.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending if self.answers.borrow().contains_key(&job.id) => Fate::Runs,
            Poll::Pending => Fate::Waits,
            Poll::Ready(result) => {
                self.calls.remove(&job.id);
                result.map_or_else(
                    |error| Fate::Refused(*error.rejection().unwrap()),
                    |_| Fate::Ended,
                )
            }
        }
    }

    fn finish(&mut self, now: Instant, job: &Job) -> Fate {
        let answer = self.answers.borrow_mut().remove(&job.id).unwrap();
        answer.send(job.fails).unwrap();
        self.look(now, job)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Ends,
    /// Has waited as long as anybody may.
    Overdue,
}

#[tokio::test(start_paused = true)]
async fn with_a_fixed_limit_the_layer_and_the_engine_of_the_proxy_decide_alike() {
    let tally = compare(&Settings {
        algorithm: Algorithm::Fixed(8),
        ..Settings::default()
    })
    .await;
    for reason in [Reason::QueueTimeout, Reason::Deadline, Reason::BreakerOpen] {
        assert!(tally[reason.as_str()] > 100, "{tally:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_limit_to_be_found_the_layer_and_the_engine_of_the_proxy_decide_alike() {
    let tally = compare(&Settings {
        algorithm: Algorithm::default(),
        ..Settings::default()
    })
    .await;
    assert!(tally[Reason::BreakerOpen.as_str()] > 100, "{tally:?}");
}

/// Steps both through the trace; how often they decided what.
async fn compare(settings: &Settings) -> BTreeMap<&'static str, usize> {
    let jobs = trace();
    let mut engine = Engine::new(settings);
    let (mut layered, layer) = Layered::new(settings);
    let mut events: BinaryHeap<_> = jobs
        .iter()
        .map(|job| Reverse((job.at, job.id, Event::Arrives)))
        .collect();
    let mut waiting: Vec<usize> = Vec::new();
    let mut tally: BTreeMap<&'static str, usize> = BTreeMap::new();
    while let Some(Reverse((at, id, event))) = events.pop() {
        tokio::time::advance(at.since(layer.now())).await;
        assert_eq!(layer.now(), at);
        // First whom it concerns, then everybody who waits, who may have been let in.
        let concerned = std::iter::once((id, Some(event)));
        let others = waiting.clone().into_iter().map(|id| (id, None));
        for (id, event) in concerned.chain(others) {
            if event != Some(Event::Arrives) && event != Some(Event::Ends) && !waiting.contains(&id)
            {
                continue;
            }
            let job = &jobs[id];
            let [ours, theirs] =
                [&mut engine as &mut dyn Side, &mut layered].map(|side| match event {
                    Some(Event::Arrives) => side.arrive(at, job),
                    Some(Event::Ends) => side.finish(at, job),
                    Some(Event::Overdue) | None => side.look(at, job),
                });
            assert_eq!(ours, theirs, "{job:?} at {at:?}");
            waiting.retain(|other| *other != id);
            match ours {
                Fate::Waits => {
                    waiting.push(id);
                    waiting.sort_unstable();
                    if event == Some(Event::Arrives) {
                        let expires = engine.waiting[&id].expires();
                        events.push(Reverse((expires, id, Event::Overdue)));
                    }
                }
                Fate::Runs => {
                    events.push(Reverse((at.after(job.takes), id, Event::Ends)));
                    *tally.entry("admitted").or_default() += 1;
                }
                Fate::Refused(rejection) => {
                    *tally.entry(rejection.reason.as_str()).or_default() += 1;
                }
                Fate::Ended => {}
            }
        }
    }
    assert_eq!(tally.values().sum::<usize>(), JOBS);
    tally
}
