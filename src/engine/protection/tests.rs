//! The order of the policies, and what each leaves to the others.

use std::task::Waker;

use super::*;
use crate::model::Reason;
use crate::policy::breaker::{Order, Position};

fn request(client: u64) -> Request {
    Request {
        client,
        tier: 0,
        weight: 1,
        cost: Duration::from_millis(10),
        deadline: None,
    }
}

fn at(millis: u64) -> Instant {
    Instant::ZERO.after(Duration::from_millis(millis))
}

fn limited_to(limit: u32, mode: Mode) -> (Protection, fastrand::Rng) {
    let settings = Settings {
        limit: mode,
        breaker: mode,
        algorithm: Algorithm::Fixed(limit),
        ..Settings::default()
    };
    (
        Protection::new(&settings, at(0)),
        fastrand::Rng::with_seed(7),
    )
}

fn admitted(decision: Decision) -> Admission {
    match decision {
        Decision::Admitted(admission) => admission,
        other => panic!("not admitted: {other:?}"),
    }
}

#[test]
fn who_finds_the_limit_full_waits_until_somebody_leaves() {
    let (protection, mut rng) = limited_to(1, Mode::Enforce);
    let first = admitted(protection.admit(at(0), &request(1), &mut rng));
    let Decision::Queued(mut second) = protection.admit(at(1), &request(2), &mut rng) else {
        panic!("the second should wait");
    };
    let mut cx = Context::from_waker(Waker::noop());
    assert!(second.poll(at(2), &mut cx).is_pending());

    let ten = Duration::from_millis(10);
    protection.complete(first, at(10), Outcome::Answered, ten, &mut rng);

    let Poll::Ready(Ok(_second)) = second.poll(at(10), &mut cx) else {
        panic!("the second should be admitted");
    };
    assert_eq!(protection.gate().in_flight(), 1);
}

#[test]
fn an_open_breaker_refuses_before_anybody_waits_and_says_how_long() {
    let (protection, mut rng) = limited_to(1, Mode::Enforce);
    for millis in 0..20 {
        let admission = admitted(protection.admit(at(millis), &request(1), &mut rng));
        let took = Duration::from_millis(1);
        protection.complete(admission, at(millis), Outcome::Failed, took, &mut rng);
    }
    let Decision::Refused(rejection) = protection.admit(at(30), &request(1), &mut rng) else {
        panic!("the breaker should be open");
    };
    assert_eq!(rejection.reason, Reason::BreakerOpen);
    assert_eq!((rejection.value, rejection.threshold), (1.0, 0.5));
    assert!(rejection.retry_after > Duration::from_secs(3));
    assert_eq!(protection.gate().in_flight(), 0);
}

#[test]
fn what_observes_lets_everybody_through_and_tells_at_the_end() {
    let (protection, mut rng) = limited_to(1, Mode::Observe);
    let order = Order {
        position: Position::Open,
        until: at(1_000),
        reason: "a drill".into(),
    };
    protection.circuit().breaker().force(order, at(0));
    let admission = admitted(protection.admit(at(1), &request(1), &mut rng));
    let took = Duration::from_millis(1);
    let told = protection.complete(admission, at(2), Outcome::Answered, took, &mut rng);
    assert_eq!(told.map(|it| it.reason), Some(Reason::BreakerOpen));
}

#[test]
fn what_is_off_is_not_there() {
    let (protection, mut rng) = limited_to(1, Mode::Off);
    let all: Vec<_> = (0..9)
        .map(|client| admitted(protection.admit(at(0), &request(client), &mut rng)))
        .collect();
    assert_eq!(protection.gate().in_flight(), 0);
    drop(all);
}

#[test]
fn a_stream_gives_its_slot_to_the_next() {
    let (protection, mut rng) = limited_to(1, Mode::Enforce);
    let mut stream = admitted(protection.admit(at(0), &request(1), &mut rng));
    let held = stream.detach(at(5)).expect("there is room for a stream");
    assert_eq!(protection.gate().streams(), 1);
    let next = admitted(protection.admit(at(6), &request(2), &mut rng));
    drop((held, next));
    assert_eq!(protection.gate().streams(), 0);
}

#[test]
fn without_a_queue_what_finds_no_slot_is_refused_at_once() {
    let settings = Settings {
        algorithm: Algorithm::Fixed(1),
        queue_mode: Mode::Off,
        ..Settings::default()
    };
    let protection = Protection::new(&settings, at(0));
    let mut rng = fastrand::Rng::with_seed(7);
    let _first = admitted(protection.admit(at(0), &request(1), &mut rng));
    let Decision::Refused(rejection) = protection.admit(at(0), &request(2), &mut rng) else {
        panic!("nobody should wait");
    };
    assert_eq!(rejection.reason, Reason::QueueFull);
}

#[test]
fn a_queue_on_trial_puts_the_limit_on_trial() {
    let settings = Settings {
        algorithm: Algorithm::Fixed(1),
        queue_mode: Mode::Observe,
        ..Settings::default()
    };
    let protection = Protection::new(&settings, at(0));
    let mut rng = fastrand::Rng::with_seed(7);
    let _first = admitted(protection.admit(at(0), &request(1), &mut rng));
    let _second = admitted(protection.admit(at(0), &request(2), &mut rng));
    assert_eq!(protection.limit_mode(), Mode::Observe);
}
