//! The layers as their users meet them. Time is paused: it moves when everybody waits for it.

mod parity;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::http::{Request, Response};
use tower::service_fn;
use tower_layer::Layer;
use tower_service::Service;

use super::edge::Edge;
use super::*;
use crate::engine::protection::Algorithm;
use crate::engine::{breaker, queue, retry};
use crate::model::{Reason, Rejection};

/// A service that takes as long as the request says.
fn patient() -> impl Service<Duration, Response = (), Error = Infallible, Future: Send> + Clone {
    service_fn(|takes: Duration| async move {
        let edge = Edge::with_seed(0);
        edge.timer(edge.now().after(takes)).await;
        Ok(())
    })
}

/// A service that fails with what the request says, and counts what it has seen.
fn counting<T>(
    seen: &Arc<AtomicU32>,
) -> impl Service<
    Result<T, io::ErrorKind>,
    Response = T,
    Error = io::Error,
    Future = std::future::Ready<io::Result<T>>,
> + Clone
+ Send
+ use<T> {
    let seen = Arc::clone(seen);
    service_fn(move |answer: Result<T, io::ErrorKind>| {
        seen.fetch_add(1, Ordering::Relaxed);
        std::future::ready(answer.map_err(io::Error::from))
    })
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn limit_of_one() -> ConcurrencyLimitLayer {
    ConcurrencyLimitLayer::new(Algorithm::Fixed(1), queue::Config::default())
}

#[tokio::test(start_paused = true)]
async fn who_finds_the_limit_full_has_its_turn_when_the_one_before_is_done() {
    let layer = limit_of_one();
    let edge = Edge::with_seed(0);
    let (mut one, mut other) = (layer.layer(patient()), layer.layer(patient()));
    let first = tokio::spawn(one.call(millis(60)));
    let second = tokio::spawn(other.call(millis(60)));
    assert_eq!(layer.protection().gate().waiting(), 1);
    assert!(first.await.unwrap().is_ok());
    assert!(second.await.unwrap().is_ok());
    assert_eq!(edge.now().as_nanos(), 120_000_000);
    assert_eq!(layer.protection().gate().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_refused_without_anybody_waking_it() {
    let layer = limit_of_one();
    let edge = Edge::with_seed(0);
    let mut service = layer.layer(patient());
    let first = tokio::spawn(service.call(millis(10_000)));
    let error = service.call(millis(1)).await.unwrap_err();
    assert_eq!(
        error.rejection().map(|it| it.reason),
        Some(Reason::QueueTimeout)
    );
    let waited = edge.now().as_nanos();
    assert!((100_000_000..=102_000_000).contains(&waited), "{waited} ns");
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_would_come_too_late_is_not_waited_for() {
    let layer = limit_of_one().identify(|_: &Duration| Caller {
        within: Some(millis(20)),
        ..Caller::default()
    });
    let mut service = layer.layer(patient());
    let first = tokio::spawn(service.call(millis(10_000)));
    let error = service.call(millis(1)).await.unwrap_err();
    assert_eq!(
        error.rejection().map(|it| it.reason),
        Some(Reason::Deadline)
    );
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_its_slot_or_its_place_back() {
    let layer = limit_of_one();
    let mut service = layer.layer(patient());
    let running = service.call(millis(50));
    let waiting = service.call(millis(50));
    assert_eq!(layer.protection().gate().waiting(), 1);
    drop(waiting);
    assert_eq!(layer.protection().gate().waiting(), 0);
    drop(running);
    assert_eq!(layer.protection().gate().in_flight(), 0);
    assert!(service.call(millis(50)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_answers_for_a_service_that_fails() {
    let layer = CircuitBreakerLayer::default();
    let seen = Arc::default();
    let mut service = layer.layer(counting::<()>(&seen));
    for _ in 0..20 {
        let error = service.call(Err(io::ErrorKind::BrokenPipe)).await;
        assert!(matches!(error, Err(Error::Inner(_))));
    }
    let error = service.call(Ok(())).await.unwrap_err();
    assert_eq!(
        error.rejection().map(|it| it.reason),
        Some(Reason::BreakerOpen)
    );
    assert_eq!(seen.load(Ordering::Relaxed), 20);
    assert_eq!(layer.breaker().state(layer.now()), breaker::State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_inside_refused_is_no_failure_to_the_breaker_outside() {
    let breaker = CircuitBreakerLayer::default();
    let limit = limit_of_one();
    let mut service = breaker.layer(limit.layer(patient()));
    let first = tokio::spawn(service.call(millis(60_000)));
    for _ in 0..100 {
        let error = service.call(millis(1)).await.unwrap_err().flatten();
        assert!(matches!(error, Error::Rejected(_)), "{error}");
    }
    assert_eq!(breaker.breaker().report(breaker.now()).volume, 0);
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_sent_again_after_a_jittered_wait() {
    let config = retry::Config::try_new(retry::Settings {
        attempts: 3,
        ..retry::Settings::default()
    });
    let again = |it: &Result<(), io::ErrorKind>| Some(*it);
    let layer = RetryLayer::with_seed(config.unwrap(), again, 7);
    let seen = Arc::default();
    let edge = Edge::with_seed(0);
    let mut service = layer.layer(counting(&seen));
    assert!(service.call(Err(io::ErrorKind::TimedOut)).await.is_err());
    assert_eq!(seen.load(Ordering::Relaxed), 3);
    let waited = edge.now().as_nanos();
    assert!((1..75_000_000).contains(&waited), "{waited} ns");

    assert!(service.call(Ok(())).await.is_ok());
    assert_eq!(seen.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_the_budget() {
    let again = |it: &Result<(), io::ErrorKind>| Some(*it);
    let layer = RetryLayer::with_seed(retry::Config::default(), again, 7);
    let seen = Arc::default();
    let mut service = layer.layer(counting(&seen));
    // All at once: the calls do not wait for each other.
    let calls: Vec<_> = (0..2_000)
        .map(|_| tokio::spawn(service.call(Err(io::ErrorKind::TimedOut))))
        .collect();
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
    // A tenth of them, and ten a second for ten seconds.
    assert_eq!(seen.load(Ordering::Relaxed), 2_000 + 200 + 100);
    assert!(layer.remaining() < 0.01, "{}", layer.remaining());
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_repeated_or_was_refused_is_sent_once() {
    let seen = Arc::default();
    let layer = RetryLayer::new(retry::Config::default(), |_: &Result<(), _>| None);
    let mut service = layer.layer(counting::<()>(&seen));
    assert!(service.call(Err(io::ErrorKind::TimedOut)).await.is_err());
    assert_eq!(seen.load(Ordering::Relaxed), 1);

    let refused = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&refused);
    let layer = RetryLayer::new(retry::Config::default(), |(): &()| Some(()));
    let mut service = layer.layer(service_fn(move |()| {
        counts.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Err::<(), _>(Error::<Infallible>::Rejected(rejection())))
    }));
    assert!(service.call(()).await.is_err());
    assert_eq!(refused.load(Ordering::Relaxed), 1);
}

#[test]
fn http_is_judged_by_status_and_repeated_by_method() {
    let judged = |status| {
        let response = Response::builder().status(status).body(()).unwrap();
        HttpStatus.classify(Ok::<_, &Infallible>(&response))
    };
    assert_eq!(judged(404), Outcome::Answered);
    assert_eq!(judged(500), Outcome::Errored);
    assert_eq!(judged(503), Outcome::Failed);
    let error = Error::<Infallible>::Rejected(rejection());
    let judged = HttpStatus.classify(Err::<&Response<()>, _>(&error));
    assert_eq!(judged, Outcome::Ignored);

    let get = Request::get("/").body("a").unwrap();
    assert_eq!(Idempotent.copy(&get).map(|it| *it.body()), Some("a"));
    let post = Request::post("/");
    assert!(Idempotent.copy(&post.body(()).unwrap()).is_none());
    let post = Request::post("/").header("idempotency-key", "1");
    assert!(Idempotent.copy(&post.body(()).unwrap()).is_some());
}

#[test]
fn a_refusal_says_why() {
    let error = Error::<io::Error>::Rejected(rejection());
    assert_eq!(
        error.to_string(),
        "refused (breaker_open): saw 0.750 ratio, allowed 0.500 ratio"
    );
}

fn rejection() -> Rejection {
    Rejection {
        reason: Reason::BreakerOpen,
        value: 0.75,
        threshold: 0.5,
        unit: crate::model::Unit::Ratio,
        retry_after: millis(1),
    }
}
