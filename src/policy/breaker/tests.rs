mod recovery;
mod transitions;

use std::sync::atomic::AtomicU32;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const FAST: Outcome = Outcome::Success(MS);

/// A breaker with its own time and chance.
struct Bench {
    breaker: Breaker,
    rng: fastrand::Rng,
    now: Instant,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::ZERO.after(SECOND * 100);
        Self {
            breaker: Breaker::new(Config::try_new(settings).unwrap(), now),
            rng: fastrand::Rng::with_seed(7),
            now,
        }
    }

    fn standard() -> Self {
        Self::new(Settings::default())
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn admit(&mut self) -> Result<Permit, Refused> {
        self.breaker.admit(self.now, &mut self.rng)
    }

    fn record(&mut self, permit: Permit, outcome: Outcome) {
        self.breaker
            .record(permit, self.now, outcome, &mut self.rng);
    }

    /// One request that is admitted and ends at once.
    fn call(&mut self, outcome: Outcome) {
        let permit = self.admit().unwrap();
        self.record(permit, outcome);
    }

    fn calls(&mut self, count: u32, outcome: Outcome) {
        for _ in 0..count {
            self.call(outcome);
        }
    }

    fn state(&self) -> State {
        self.breaker.state(self.now)
    }

    /// Fails until it opens, from closed.
    fn trip(&mut self) {
        self.calls(20, Outcome::Failure);
        assert_eq!(self.state(), State::Open);
    }

    /// Fails whatever is admitted for as long as the state stays.
    fn fail_while(&mut self, state: State) {
        while self.state() == state {
            if let Ok(permit) = self.admit() {
                self.record(permit, Outcome::Failure);
            }
        }
    }

    /// The time until probes may go.
    fn open_time(&mut self) -> Duration {
        self.admit().unwrap_err().retry_after
    }

    fn wait_for_probes(&mut self) {
        let open = self.open_time();
        self.wait(open);
        assert_eq!(self.state(), State::HalfOpen);
    }

    fn probes(&mut self, outcomes: [Outcome; 3]) {
        let permits = [(); 3].map(|()| self.admit().unwrap());
        for (permit, outcome) in permits.into_iter().zip(outcomes) {
            assert!(permit.is_probe());
            self.record(permit, outcome);
        }
    }

    fn order(&self, position: Position, time: Duration) -> Order {
        Order {
            position,
            until: self.now.after(time),
            reason: "drill".into(),
        }
    }

    fn force(&mut self, position: Position, time: Duration) {
        let order = self.order(position, time);
        self.breaker.force(order, self.now);
    }
}

#[test]
fn half_of_twenty_failed_calls_open_it_and_nineteen_do_not() {
    let mut bench = Bench::standard();
    bench.calls(19, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Outcome::Failure);
    let refused = bench.admit().unwrap_err();
    let evidence = Evidence {
        measure: Measure::Failures,
        ratio: 1.0,
        threshold: 0.5,
        volume: 20,
    };
    assert_eq!(
        (refused.state, refused.evidence),
        (State::Open, Some(evidence))
    );

    let mut bench = Bench::standard();
    bench.calls(50, FAST);
    bench.calls(49, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Outcome::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn failures_older_than_the_window_do_not_count() {
    let mut bench = Bench::standard();
    bench.calls(19, Outcome::Failure);
    bench.wait(SECOND * 10);
    bench.calls(19, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.breaker.report(bench.now).volume, 19);
}

#[test]
fn what_is_ignored_never_opens_it() {
    let mut bench = Bench::standard();
    bench.calls(10_000, Outcome::Ignored);
    let report = bench.breaker.report(bench.now);
    assert_eq!((report.state, report.volume), (State::Closed, 0));
}

#[test]
fn slow_calls_open_it_only_where_slow_is_defined() {
    let slow = Outcome::Success(SECOND * 2);
    let mut bench = Bench::standard();
    bench.calls(100, slow);
    assert_eq!(bench.state(), State::Closed);

    let slow_call = Some(SECOND * 2);
    let mut bench = Bench::new(Settings {
        slow_call,
        ..Settings::default()
    });
    bench.calls(20, Outcome::Success(SECOND * 2 - MS));
    bench.calls(20, slow);
    let refused = bench.admit().unwrap_err();
    let evidence = Evidence {
        measure: Measure::SlowCalls,
        ratio: 0.5,
        threshold: 0.5,
        volume: 40,
    };
    assert_eq!(refused.evidence, Some(evidence));
}

#[test]
fn answers_from_before_it_opened_do_not_count_afterwards() {
    let mut bench = Bench::standard();
    let late: Vec<_> = (0..100).map(|_| bench.admit().unwrap()).collect();
    bench.trip();
    bench.wait_for_probes();
    bench.probes([FAST; 3]);
    for permit in late {
        bench.record(permit, Outcome::Failure);
    }
    assert_eq!(bench.state(), State::Recovering);
    assert_eq!(bench.breaker.report(bench.now).volume, 0);
}

#[test]
fn an_order_to_open_ends_by_itself_in_what_was_before() {
    let mut bench = Bench::standard();
    bench.force(Position::Open, SECOND * 60);
    let refused = bench.admit().unwrap_err();
    assert_eq!((refused.evidence, refused.retry_after), (None, SECOND * 60));
    let order = bench.breaker.report(bench.now).order.unwrap();
    assert_eq!(&*order.reason, "drill");
    bench.wait(SECOND * 60);
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.breaker.report(bench.now).order, None);
    bench.trip();
    bench.force(Position::Open, SECOND * 60);
    bench.wait(SECOND * 30);
    bench.force(Position::Open, SECOND * 60);
    bench.wait(SECOND * 60);
    assert_eq!(bench.state(), State::HalfOpen, "it was open before");
    assert!(bench.breaker.report(bench.now).evidence.is_some());
    bench.probes([FAST; 3]);
    assert_eq!(bench.state(), State::Recovering);
}

#[test]
fn an_order_to_close_admits_everything_until_it_ends() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.force(Position::Closed, SECOND * 60);
    bench.calls(100, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);
    assert!(
        bench.breaker.report(bench.now).failure_ratio >= 1.0,
        "it is counted all the same"
    );
    bench.wait(SECOND * 60);
    assert_eq!(bench.state(), State::Closed);
    bench.trip();
}

#[test]
fn auto_ends_an_order_and_nothing_else() {
    let mut bench = Bench::standard();
    bench.force(Position::Open, SECOND * 60);
    bench.breaker.auto(bench.now);
    assert_eq!(bench.state(), State::Closed);
    bench.force(Position::Closed, SECOND * 60);
    bench.breaker.auto(bench.now);
    assert_eq!(bench.state(), State::Closed);
    bench.trip();
    bench.breaker.auto(bench.now);
    assert_eq!(bench.state(), State::Open);
    bench.force(Position::Open, SECOND * 60);
    bench.breaker.auto(bench.now);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.force(Position::Closed, SECOND);
    bench.wait(SECOND);
    bench.trip();
    bench.force(Position::Closed, Duration::ZERO);
    assert_eq!(
        bench.state(),
        State::Open,
        "an order that has ended does nothing"
    );
}

#[test]
fn an_update_keeps_the_state_and_the_window() {
    let mut bench = Bench::standard();
    bench.calls(19, Outcome::Failure);
    let stricter = Settings {
        min_requests: 30,
        ..Settings::default()
    };
    bench
        .breaker
        .update(Config::try_new(stricter).unwrap(), bench.now);
    bench.calls(10, Outcome::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Outcome::Failure);
    let open = bench.open_time();
    let longer = Settings {
        open_for: SECOND * 50,
        ..stricter
    };
    bench
        .breaker
        .update(Config::try_new(longer).unwrap(), bench.now);
    assert_eq!(bench.open_time(), open);
}

#[test]
fn the_report_tells_what_the_operator_asks() {
    let mut bench = Bench::standard();
    bench.calls(30, FAST);
    bench.calls(10, Outcome::Failure);
    let report = bench.breaker.report(bench.now);
    assert!((report.failure_ratio - 0.25).abs() < 1e-9 && report.volume == 40);
    assert_eq!(
        (report.opened, report.next_try, report.evidence),
        (None, None, None)
    );
    bench.calls(20, Outcome::Failure);
    let opened = bench.now;
    bench.wait(SECOND);
    let report = bench.breaker.report(bench.now);
    assert_eq!((report.state, report.opened), (State::Open, Some(opened)));
    assert_eq!(report.next_try, Some(bench.now.after(bench.open_time())));
    assert!(report.admitted < 0.01 && report.evidence.is_some());
}

#[test]
fn the_journal_has_no_gaps_even_when_only_time_passed() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    bench.probes([FAST; 3]);
    bench.wait(RAMP * 2);
    let transitions = bench.breaker.transitions(bench.now);
    let states: Vec<_> = transitions.iter().map(|t| (t.from, t.to)).collect();
    assert_eq!(
        states,
        [
            (State::Closed, State::Open),
            (State::Open, State::HalfOpen),
            (State::HalfOpen, State::Recovering),
            (State::Recovering, State::Closed),
        ]
    );
    assert_eq!(transitions[3].why, Why::Elapsed);
    assert_eq!(transitions[3].at, transitions[2].at.after(RAMP));
    assert!(
        bench.breaker.transitions(bench.now).is_empty(),
        "it tells everything once"
    );
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let base = Settings::default();
    assert_eq!(Config::try_new(base), Ok(Config::default()));
    for (settings, key) in [
        (
            Settings {
                failure_ratio: 1.5,
                ..base
            },
            "breaker.failure_ratio",
        ),
        (
            Settings {
                slow_ratio: 0.0,
                ..base
            },
            "breaker.slow_ratio",
        ),
        (
            Settings {
                slow_call: Some(Duration::ZERO),
                ..base
            },
            "breaker.slow_call",
        ),
        (
            Settings {
                min_requests: 0,
                ..base
            },
            "breaker.min_requests",
        ),
        (
            Settings {
                window: Duration::ZERO,
                ..base
            },
            "breaker.window",
        ),
        (
            Settings {
                open_for: Duration::ZERO,
                ..base
            },
            "breaker.open_for",
        ),
    ] {
        let error = Config::try_new(settings).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
}

#[test]
fn threads_that_race_for_probes_share_three_places() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    let (breaker, now) = (&bench.breaker, bench.now);
    let (out, most) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (out, most) = (&out, &most);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                for _ in 0..20_000 {
                    if let Ok(permit) = breaker.admit(now, &mut rng) {
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        out.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= PROBES);
    bench.probes([FAST; 3]);
    assert_eq!(bench.state(), State::Recovering, "no place was lost");
}
