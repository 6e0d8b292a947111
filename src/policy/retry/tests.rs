use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NOW: Instant = Instant::from_nanos(100_000_000_000);

const GET: Request = Request {
    repeatable: true,
    replayable: true,
    answered: false,
    attempts: 1,
    deadline: None,
    usual: Duration::ZERO,
};

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(11)
}

fn retries(settings: Settings) -> Retries {
    Retries::new(Config::try_new(settings).unwrap(), NOW)
}

fn decide(request: Request, failure: Failure) -> Result<(), Refusal> {
    let retries = retries(Settings::default());
    retries
        .decide(&request, failure, NOW, &mut rng())
        .map(|_| ())
}

/// How many retries pass at `now`.
fn passes(retries: &Retries, now: Instant, tries: u32) -> u32 {
    let mut rng = rng();
    let mut passed = 0;
    for _ in 0..tries {
        match retries.decide(&GET, Failure::Reset, now, &mut rng) {
            Ok(_) => passed += 1,
            Err(refusal) => assert_eq!(refusal, Refusal::Budget),
        }
    }
    passed
}

#[test]
fn what_failed_on_the_way_or_upstream_is_sent_again() {
    for failure in [
        Failure::NotSent,
        Failure::Reset,
        Failure::Unavailable,
        Failure::TryTimeout,
    ] {
        assert_eq!(decide(GET, failure), Ok(()), "{failure:?}");
    }
}

#[test]
fn every_refusal_says_why() {
    for (request, failure, refusal) in [
        (GET, Failure::Final, Refusal::Final),
        (
            Request {
                answered: true,
                ..GET
            },
            Failure::Reset,
            Refusal::Answered,
        ),
        (
            Request { attempts: 2, ..GET },
            Failure::Reset,
            Refusal::Attempts,
        ),
        (
            Request {
                repeatable: false,
                ..GET
            },
            Failure::Reset,
            Refusal::NotIdempotent,
        ),
        (
            Request {
                repeatable: false,
                ..GET
            },
            Failure::TryTimeout,
            Refusal::NotIdempotent,
        ),
        (
            Request {
                replayable: false,
                ..GET
            },
            Failure::Reset,
            Refusal::BodyTooLarge,
        ),
        (
            Request {
                deadline: Some(NOW),
                ..GET
            },
            Failure::Reset,
            Refusal::Deadline,
        ),
    ] {
        assert_eq!(decide(request, failure), Err(refusal), "{request:?}");
    }
}

#[test]
fn what_the_upstream_never_saw_may_be_sent_again_whatever_it_is() {
    assert_eq!(
        decide(
            Request {
                repeatable: false,
                ..GET
            },
            Failure::NotSent
        ),
        Ok(())
    );
}

#[test]
fn an_attempt_that_cannot_finish_in_time_is_not_begun() {
    let deadline = Some(NOW.after(SECOND));
    let soon = Request {
        deadline,
        usual: SECOND / 2,
        ..GET
    };
    assert_eq!(decide(soon, Failure::Reset), Ok(()));
    let late = Request {
        usual: SECOND,
        ..soon
    };
    assert_eq!(decide(late, Failure::Reset), Err(Refusal::Deadline));
}

#[test]
fn statuses_that_another_endpoint_might_not_give_are_failures() {
    let found: Vec<_> = (100..600)
        .filter(|&s| Failure::from_status(s).is_some())
        .collect();
    assert_eq!(found, [502, 503, 504]);
}

#[test]
fn methods_are_idempotent_as_rfc_9110_has_it() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert!(is_idempotent(MethodLabel::from_token(method)), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "LOCK"] {
        assert!(!is_idempotent(MethodLabel::from_token(method)), "{method}");
    }
}

#[test]
fn the_budget_is_a_tenth_of_the_requests_and_ten_a_second() {
    let retries = retries(Settings::default());
    assert_eq!(
        passes(&retries, NOW, 1_000),
        100,
        "ten a second over ten seconds"
    );
    (0..5_000).for_each(|_| retries.deposit(NOW));
    assert_eq!(passes(&retries, NOW, 5_000), 500);
}

#[test]
fn what_was_refused_costs_nothing_and_what_was_spent_comes_back_in_time() {
    let retries = retries(Settings::default());
    (0..1_000).for_each(|_| retries.deposit(NOW));
    assert_eq!(passes(&retries, NOW, 10_000), 200);
    assert!(retries.remaining(NOW) < 1e-9);
    let later = NOW.after(TTL);
    assert!((retries.remaining(later) - 1.0).abs() < 1e-9);
    assert_eq!(
        passes(&retries, later, 1_000),
        100,
        "the requests are forgotten as well"
    );
}

#[test]
fn a_refusal_for_another_reason_spends_nothing() {
    let retries = retries(Settings::default());
    let post = Request {
        repeatable: false,
        ..GET
    };
    for _ in 0..1_000 {
        assert!(
            retries
                .decide(&post, Failure::Reset, NOW, &mut rng())
                .is_err()
        );
    }
    assert!((retries.remaining(NOW) - 1.0).abs() < 1e-9);
}

#[test]
fn workers_that_spend_at_once_never_overspend() {
    let retries = retries(Settings::default());
    let passed: u32 = std::thread::scope(|scope| {
        let spend = || {
            (0..1_000)
                .filter(|_| retries.spend(&retries.retry, NOW).is_ok())
                .count()
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
        let passed = workers.into_iter().map(|worker| worker.join().unwrap());
        passed.map(|passed| u32::try_from(passed).unwrap()).sum()
    });
    assert!(passed <= 100, "{passed}");
    assert_eq!(
        passed + passes(&retries, NOW, 1_000),
        100,
        "and lose nothing either"
    );
}

#[test]
fn an_update_changes_the_budget_and_keeps_what_was_spent() {
    let retries = retries(Settings::default());
    (0..1_000).for_each(|_| retries.deposit(NOW));
    assert_eq!(passes(&retries, NOW, 1_000), 200);
    let larger = Settings {
        budget: 0.5,
        ..Settings::default()
    };
    retries.update(Config::try_new(larger).unwrap());
    assert_eq!(passes(&retries, NOW, 1_000), 400);
}

#[test]
fn waits_are_anything_up_to_a_bound_that_doubles_to_a_second() {
    let mut rng = rng();
    for (attempts, millis) in [
        (1, 25),
        (2, 50),
        (3, 100),
        (6, 800),
        (7, 1_000),
        (u32::MAX, 1_000),
    ] {
        let waits: Vec<_> = (0..2_000).map(|_| backoff(attempts, &mut rng)).collect();
        let most = Duration::from_millis(millis);
        let (shortest, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(
            *longest <= most && *longest > most.mul_f64(0.99),
            "{attempts}: {longest:?}"
        );
        assert!(*shortest < most.mul_f64(0.01), "{attempts}: {shortest:?}");
    }
}

#[test]
fn hedging_is_off_unless_configured() {
    let late = Some(Duration::from_millis(200));
    assert_eq!(retries(Settings::default()).hedge_at(NOW, late), None);
    let hedging = retries(Settings {
        hedge: Some(0.02),
        ..Settings::default()
    });
    assert_eq!(
        hedging.hedge_at(NOW, late),
        Some(NOW.after(Duration::from_millis(200)))
    );
    assert_eq!(
        hedging.hedge_at(NOW, None),
        None,
        "nobody knows yet what is late"
    );
}

#[test]
fn hedges_have_a_budget_of_their_own_and_the_same_conditions() {
    let retries = retries(Settings {
        hedge: Some(0.02),
        ..Settings::default()
    });
    assert_eq!(
        retries.hedge(&GET, NOW),
        Err(Refusal::Budget),
        "there is no reserve"
    );
    (0..1_000).for_each(|_| retries.deposit(NOW));
    let passed = (0..1_000)
        .filter(|_| retries.hedge(&GET, NOW).is_ok())
        .count();
    assert_eq!(passed, 20);
    assert!((retries.remaining(NOW) - 1.0).abs() < 1e-9);
    let post = Request {
        repeatable: false,
        ..GET
    };
    assert_eq!(retries.hedge(&post, NOW), Err(Refusal::NotIdempotent));
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let base = Settings::default();
    assert_eq!(Config::try_new(base), Ok(Config::default()));
    for (settings, key) in [
        (
            Settings {
                attempts: 0,
                ..base
            },
            "retry.attempts",
        ),
        (
            Settings {
                budget: 1.5,
                ..base
            },
            "retry.budget",
        ),
        (
            Settings {
                hedge: Some(0.0),
                ..base
            },
            "retry.hedge.budget",
        ),
    ] {
        let error = Config::try_new(settings).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
}
