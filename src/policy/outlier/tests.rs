use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A pool with its own time.
struct Bench {
    detector: Detector,
    endpoints: Vec<EndpointStats>,
    now: Instant,
}

impl Bench {
    fn new(size: usize) -> Self {
        let now = Instant::ZERO.after(SECOND * 100);
        Self {
            detector: Detector::new(Config::default(), now),
            endpoints: (0..size).map(|_| EndpointStats::default()).collect(),
            now,
        }
    }

    fn record(&self, index: usize, outcome: Outcome) -> bool {
        let endpoint = &self.endpoints[index];
        self.detector.record(endpoint, self.now, self.now, outcome)
    }

    fn evaluate(&self) -> Vec<Decision> {
        let endpoints: Vec<_> = self.endpoints.iter().collect();
        self.detector.evaluate(self.now, &endpoints)
    }

    fn set_aside(&self, index: usize, time: Duration) -> Option<Instant> {
        let endpoints: Vec<_> = self.endpoints.iter().collect();
        self.detector.set_aside(self.now, &endpoints, index, time)
    }

    /// One second in which each endpoint answers ten times, those listed as told.
    fn second(&mut self, odd: &[(usize, Outcome)]) -> Vec<Decision> {
        for index in 0..self.endpoints.len() {
            let told = odd.iter().find(|(odd, _)| *odd == index);
            let outcome = told.map_or_else(|| Outcome::Success(MS * 10), |&(_, outcome)| outcome);
            for call in 0..10 {
                // What fails does so every other time, so that no row of failures decides.
                let outcome = match outcome {
                    Outcome::Failure if call % 2 == 0 => Outcome::Success(MS * 10),
                    other @ (Outcome::Failure | Outcome::Success(_) | Outcome::Ignored) => other,
                };
                assert!(!self.record(index, outcome));
            }
        }
        self.now = self.now.after(SECOND);
        self.evaluate()
    }

    fn fail(&self, index: usize, times: u32) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for _ in 0..times {
            if self.record(index, Outcome::Failure) {
                decisions.extend(self.evaluate());
            }
        }
        decisions
    }

    fn is_out(&self, index: usize) -> bool {
        self.endpoints[index].is_out(self.now)
    }

    fn out(&self) -> usize {
        (0..self.endpoints.len())
            .filter(|&i| self.is_out(i))
            .count()
    }
}

#[test]
fn five_failures_in_a_row_eject_at_once() {
    let bench = Bench::new(2);
    assert!(bench.fail(0, 4).is_empty());
    assert!(!bench.record(0, Outcome::Success(MS)));
    assert!(bench.fail(0, 4).is_empty(), "an answer breaks the row");
    let until = bench.now.after(SECOND * 5);
    let why = Why::Consecutive { failures: 5 };
    assert_eq!(
        bench.fail(0, 1),
        [Decision::Ejected {
            index: 0,
            until,
            why
        }]
    );
    assert_eq!(
        bench.endpoints[0].standing(bench.now),
        Standing::Ejected { until }
    );
}

#[test]
fn what_is_ignored_neither_fails_nor_mends() {
    let bench = Bench::new(2);
    bench.fail(0, 4);
    assert!(!bench.record(0, Outcome::Ignored));
    assert_eq!(bench.fail(0, 1).len(), 1);
}

#[test]
fn one_of_three_that_fails_every_other_time_is_ejected() {
    let mut bench = Bench::new(3);
    let decisions = bench.second(&[(1, Outcome::Failure)]);
    assert!(
        matches!(
            decisions[..],
            [Decision::Ejected {
                index: 1,
                why: Why::Failures { calls: 10, .. },
                ..
            }]
        ),
        "{decisions:?}"
    );
}

#[test]
fn a_slow_endpoint_is_ejected_after_three_windows() {
    let mut bench = Bench::new(10);
    let slow = [(4, Outcome::Success(MS * 100))];
    assert!(bench.second(&slow).is_empty());
    assert!(bench.second(&slow).is_empty());
    let decisions = bench.second(&slow);
    assert!(
        matches!(
            decisions[..],
            [Decision::Ejected {
                index: 4,
                why: Why::Slow { .. },
                ..
            }]
        ),
        "{decisions:?}"
    );
}

#[test]
fn a_window_in_between_that_is_not_slow_starts_the_count_over() {
    let mut bench = Bench::new(10);
    let slow = [(4, Outcome::Success(MS * 100))];
    for odd in [&slow[..], &slow, &[], &slow, &slow] {
        assert!(bench.second(odd).is_empty());
    }
    assert_eq!(bench.second(&slow).len(), 1);
}

/// A second in which the last endpoint answers these times only, and the others as usual.
fn starved(bench: &mut Bench, latencies: &[Duration]) -> Vec<Decision> {
    let last = bench.endpoints.len() - 1;
    for _ in 0..10 {
        for index in 0..last {
            bench.record(index, Outcome::Success(MS * 10));
        }
    }
    for &latency in latencies {
        bench.record(last, Outcome::Success(latency));
    }
    bench.now = bench.now.after(SECOND);
    bench.evaluate()
}

#[test]
fn samples_gather_until_they_are_evidence() {
    let mut bench = Bench::new(10);
    // One slow answer may be chance. Two make the first window, and each further one confirms it.
    for _ in 0..3 {
        assert!(starved(&mut bench, &[MS * 200]).is_empty());
    }
    assert_eq!(starved(&mut bench, &[MS * 200]).len(), 1);
}

#[test]
fn an_endpoint_that_was_slow_and_is_avoided_is_not_acquitted_by_silence() {
    let mut bench = Bench::new(10);
    assert!(starved(&mut bench, &[MS * 200; 3]).is_empty());
    assert!(starved(&mut bench, &[]).is_empty());
    assert_eq!(starved(&mut bench, &[]).len(), 1);

    let mut bench = Bench::new(10);
    assert!(starved(&mut bench, &[MS * 200; 3]).is_empty());
    for _ in 0..10 {
        let one = if bench.now == Instant::ZERO.after(SECOND * 101) {
            &[MS * 10][..]
        } else {
            &[]
        };
        assert!(
            starved(&mut bench, one).is_empty(),
            "one good answer stops the count"
        );
    }
}

#[test]
fn an_endpoint_in_doubt_is_asked_until_it_is_clear() {
    let mut bench = Bench::new(10);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut asked = |bench: &Bench| {
        let asks = (0..10_000).filter(|_| bench.detector.asks_in_doubt(10, &mut rng));
        asks.count()
    };
    assert_eq!(asked(&bench), 0);
    starved(&mut bench, &[MS * 200]);
    assert!(bench.endpoints[9].is_in_doubt() && !bench.endpoints[0].is_in_doubt());
    let half_a_share = asked(&bench);
    assert!((400..600).contains(&half_a_share), "{half_a_share}");
    starved(&mut bench, &[MS * 10; 20]);
    assert_eq!(asked(&bench), 0);
}

#[test]
fn evaluating_more_often_judges_no_faster() {
    let mut bench = Bench::new(3);
    for _ in 0..20 {
        for index in 0..3 {
            let latency = if index == 2 { MS * 200 } else { MS * 10 };
            bench.record(index, Outcome::Success(latency));
        }
        bench.now = bench.now.after(MS * 10);
        assert!(bench.evaluate().is_empty());
    }
}

#[test]
fn no_more_than_max_ejected_go_out_and_the_worst_go_first() {
    let mut bench = Bench::new(4);
    for index in 0..4 {
        for _ in 0..5 + index {
            bench.record(index, Outcome::Failure);
        }
    }
    bench.now = bench.now.after(MS);
    let decisions = bench.evaluate();
    let ejected: Vec<_> = (0..4).filter(|&i| bench.is_out(i)).collect();
    assert_eq!(ejected, [2, 3]);
    let spared = decisions
        .iter()
        .filter(|d| matches!(d, Decision::Spared { .. }))
        .count();
    assert_eq!(spared, 2);
    assert!(
        bench.set_aside(0, SECOND).is_none(),
        "nor may it be set aside"
    );
}

#[test]
fn the_only_endpoint_is_never_ejected() {
    let bench = Bench::new(1);
    let why = Why::Consecutive { failures: 5 };
    assert_eq!(bench.fail(0, 5), [Decision::Spared { index: 0, why }]);
    assert_eq!(bench.out(), 0);
}

#[test]
fn ejections_double_to_twenty_seconds_and_forget_after_good_time() {
    let mut bench = Bench::new(3);
    for seconds in [5, 10, 20, 20] {
        let fail = bench.fail(0, 5);
        let until = bench.now.after(SECOND * seconds);
        assert!(
            matches!(fail[..], [Decision::Ejected { until: u, .. }] if u == until),
            "{fail:?}"
        );
        bench.now = until;
        assert_eq!(bench.evaluate(), [Decision::Returned { index: 0 }]);
    }
    for (good, seconds) in [(45, 10), (300, 5)] {
        bench.now = bench.now.after(SECOND * good);
        bench.fail(0, 5);
        let until = bench.endpoints[0].back_at();
        assert_eq!(until.since(bench.now), SECOND * seconds, "after {good} s");
        bench.now = until;
    }
}

#[test]
fn a_trial_ends_at_the_second_failure_or_the_first_slow_window() {
    let mut bench = Bench::new(3);
    bench.fail(0, 5);
    bench.now = bench.now.after(SECOND * 5);
    assert_eq!(bench.fail(0, 2).len(), 2, "it returned, and is out again");
    assert!(bench.is_out(0));
    bench.now = bench.now.after(SECOND * 10);
    let slow = bench.second(&[(0, Outcome::Success(MS * 500))]);
    assert!(slow.iter().any(|d| matches!(
        d,
        Decision::Ejected {
            why: Why::Slow { .. },
            ..
        }
    )));
    bench.now = bench.now.after(SECOND * 20 + TRIAL);
    bench.fail(0, 4);
    assert!(!bench.is_out(0), "the trial is over");
}

#[test]
fn calls_from_before_its_return_say_nothing_about_it() {
    let mut bench = Bench::new(3);
    let started = bench.now;
    bench.fail(0, 5);
    bench.now = bench.now.after(SECOND * 6);
    for _ in 0..100 {
        let endpoint = &bench.endpoints[0];
        assert!(
            !bench
                .detector
                .record(endpoint, started, bench.now, Outcome::Failure)
        );
    }
    assert_eq!(bench.evaluate(), [Decision::Returned { index: 0 }]);
}

#[test]
fn an_endpoint_is_left_alone_as_long_as_it_asks_but_a_minute_at_most() {
    let mut bench = Bench::new(4);
    assert_eq!(bench.set_aside(0, Duration::ZERO), None);
    let until = bench.now.after(SECOND * 7);
    assert_eq!(bench.set_aside(0, SECOND * 7), Some(until));
    assert_eq!(
        bench.endpoints[0].standing(bench.now),
        Standing::Aside { until }
    );
    assert_eq!(
        bench.set_aside(0, SECOND * 3),
        Some(until),
        "a shorter wish takes nothing back"
    );
    assert_eq!(
        bench.set_aside(1, SECOND * 600),
        Some(bench.now.after(SECOND * 60))
    );
    assert_eq!(bench.set_aside(2, SECOND), None, "half of the pool is out");
    assert!(matches!(
        bench.fail(3, 5)[..],
        [Decision::Spared { index: 3, .. }]
    ));
    bench.now = until;
    assert_eq!(bench.endpoints[0].standing(bench.now), Standing::InService);
    assert!(
        bench
            .fail(0, 4)
            .iter()
            .all(|d| matches!(d, Decision::Returned { .. }))
    );
    assert!(
        !bench.is_out(0),
        "a wish is no ejection, so there is no trial"
    );
}

#[test]
fn an_update_keeps_who_is_out() {
    let bench = Bench::new(4);
    bench.fail(0, 5);
    let stricter = Settings {
        consecutive_failures: 2,
        ..Settings::default()
    };
    bench.detector.update(Config::try_new(stricter).unwrap());
    assert!(bench.is_out(0));
    bench.fail(1, 2);
    assert!(bench.is_out(1));
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let base = Settings::default();
    assert_eq!(Config::try_new(base), Ok(Config::default()));
    for (settings, key) in [
        (
            Settings {
                consecutive_failures: 0,
                ..base
            },
            "outlier.consecutive_failures",
        ),
        (
            Settings {
                slow_factor: 1.0,
                ..base
            },
            "outlier.slow_factor",
        ),
        (
            Settings {
                max_ejected: 1.1,
                ..base
            },
            "outlier.max_ejected",
        ),
    ] {
        let error = Config::try_new(settings).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
}
