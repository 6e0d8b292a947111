//! The rate limit as its users meet it. Time is paused.

use std::convert::Infallible;
use std::time::Duration;

use tower::{ServiceExt, service_fn};
use tower_layer::Layer;

use crate::engine::circuit::Mode;
use crate::engine::rate::{Period, Quota};
use crate::layer::edge::Edge;
use crate::layer::{Caller, Error, RateLimitLayer};
use crate::model::Reason;

async fn wait(millis: u64) {
    let edge = Edge::with_seed(0);
    edge.timer(edge.now().after(Duration::from_millis(millis)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn each_caller_has_a_quota_of_its_own_whichever_service_it_asks() {
    let layer = RateLimitLayer::new(Quota::try_new(10, Period::Second, 2).unwrap()).identify(
        |who: &u32| Caller {
            client: (*who).into(),
            ..Caller::default()
        },
    );
    let service = || layer.layer(service_fn(async |who: u32| Ok::<_, Infallible>(who)));
    for who in [1, 1, 2, 2] {
        assert_eq!(service().oneshot(who).await.unwrap(), who);
    }
    let Err(Error::Rejected(rejection)) = service().oneshot(1).await else {
        panic!("a third at once is one too many")
    };
    assert_eq!(rejection.reason, Reason::Quota);
    assert_eq!((rejection.value, rejection.threshold), (3.0, 2.0));
    assert_eq!(rejection.retry_after, Duration::from_millis(100));
    wait(99).await;
    assert!(service().oneshot(1).await.is_err());
    wait(1).await;
    assert!(service().oneshot(1).await.is_ok());
    assert_eq!(layer.limit().decisions(Mode::Enforce), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn constant_demand_gets_the_quota_and_a_day_ends() {
    let quota = Quota::try_new(100, Period::Second, 10).unwrap();
    let service =
        RateLimitLayer::with_keys(quota, 4).layer(service_fn(async |()| Ok::<_, Infallible>(())));
    let mut passed = 0;
    for _ in 0..4_000 {
        passed += usize::from(service.clone().oneshot(()).await.is_ok());
        wait(2).await;
    }
    // Eight seconds, and the burst before them.
    assert!((800..=811).contains(&passed), "{passed}");
    let day = RateLimitLayer::new(Quota::try_new(1, Period::Day, 1).unwrap());
    let service = day.layer(service_fn(async |()| Ok::<_, Infallible>(())));
    assert!(service.clone().oneshot(()).await.is_ok());
    wait(86_400_000).await;
    assert!(service.oneshot(()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_the_service_says_is_passed_on() {
    let layer = RateLimitLayer::new(Quota::try_new(10, Period::Second, 2).unwrap());
    let service = layer.layer(service_fn(async |()| Err::<(), _>("broken")));
    assert_eq!(service.oneshot(()).await, Err(Error::Inner("broken")));
}
