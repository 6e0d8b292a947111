//! From open back to closed: open time, probes, ramp.

use super::*;

#[test]
fn the_open_time_ends_without_traffic() {
    let mut bench = Bench::standard();
    bench.trip();
    let open = bench.open_time();
    bench.wait(open - Duration::from_nanos(1));
    assert_eq!(bench.state(), State::Open);
    bench.wait(Duration::from_nanos(1));
    assert!(bench.breaker.is_half_open(bench.now));
}

#[test]
fn half_open_admits_only_its_probes() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    let permits = [(); 3].map(|()| bench.admit().unwrap());
    let refused = bench.admit().unwrap_err();
    assert_eq!(
        (refused.state, refused.retry_after),
        (State::HalfOpen, SECOND)
    );
    drop(permits);
}

#[test]
fn a_probe_given_up_or_ignored_gives_its_place_back() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    let [first, second, _third] = [(); 3].map(|()| bench.admit().unwrap());
    drop(first);
    bench.record(second, Outcome::Ignored);
    let again = [(); 2].map(|()| bench.admit().unwrap());
    assert!(bench.admit().is_err());
    drop(again);
}

#[test]
fn probes_that_never_answer_are_followed_by_others() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    let hanging = [(); 3].map(|()| bench.admit().unwrap());
    bench.wait(SECOND - MS);
    assert!(bench.admit().is_err());
    bench.wait(MS);
    bench.probes([FAST; 3]);
    assert_eq!(bench.state(), State::Recovering);
    for late in hanging {
        bench.record(late, Outcome::Failure);
    }
    assert_eq!(
        bench.state(),
        State::Recovering,
        "they speak of another time"
    );
}

#[test]
fn the_same_ratio_judges_the_probes() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    bench.probes([Outcome::Failure, FAST, FAST]);
    assert_eq!(bench.state(), State::Recovering);

    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    let [first, second, _third] = [(); 3].map(|()| bench.admit().unwrap());
    bench.record(first, Outcome::Failure);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.record(second, Outcome::Failure);
    assert_eq!(bench.state(), State::Open, "the third cannot turn it");
}

#[test]
fn traffic_returns_by_shares() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    bench.probes([FAST; 3]);
    for (done, expected) in [(0.0, 0.1), (0.5, 0.55), (0.9, 0.91)] {
        let now = bench.now.after(RAMP.mul_f64(done));
        let admitted = (0..10_000)
            .filter(|_| bench.breaker.admit(now, &mut bench.rng).is_ok())
            .count();
        let share = f64::from(u32::try_from(admitted).unwrap()) / 10_000.0;
        assert!((share - expected).abs() < 0.02, "{share} at {done}");
    }
    bench.wait(RAMP);
    assert_eq!(bench.state(), State::Closed);
    bench.calls(1_000, FAST);
}

#[test]
fn the_open_time_doubles_with_each_failed_recovery_and_starts_over_after_a_good_one() {
    let mut bench = Bench::standard();
    bench.trip();
    for (relapses, base) in [5, 10, 20, 40, 80, 120, 120].into_iter().enumerate() {
        assert_eq!(bench.breaker.report(bench.now).relapses as usize, relapses);
        let open = bench.open_time().as_secs_f64() / f64::from(base);
        assert!((0.8..=1.2).contains(&open), "{open} of {base} s");
        bench.wait_for_probes();
        bench.probes([FAST; 3]);
        bench.fail_while(State::Recovering);
    }
    bench.wait_for_probes();
    bench.probes([FAST; 3]);
    bench.wait(RAMP);
    bench.trip();
    assert!(bench.open_time() <= SECOND * 6);
    assert_eq!(bench.breaker.report(bench.now).relapses, 0);
}

#[test]
fn probes_that_fail_are_repeated_after_a_thirtieth_of_the_outage() {
    let mut bench = Bench::standard();
    bench.trip();
    let began = bench.now;
    for _ in 0..200 {
        bench.wait_for_probes();
        let outage = bench.now.since(began);
        bench.probes([Outcome::Failure; 3]);
        let expected = (outage / 30).clamp(SECOND, SECOND * 5).as_secs_f64();
        let wait = bench.open_time().as_secs_f64() / expected;
        assert!(
            (0.8..=1.2).contains(&wait),
            "{wait} of {expected} s after {outage:?}"
        );
    }
    assert!(
        bench.now.since(began) > SECOND * 300,
        "the longest waits were reached"
    );
}

#[test]
fn all_requests_pass_again_within_five_seconds_of_the_end_of_an_outage() {
    for seed in 0..20 {
        let mut bench = Bench::standard();
        bench.rng = fastrand::Rng::with_seed(seed);
        let ends = bench.now.after(SECOND * 30);
        while bench.now < ends.after(SECOND * 5) {
            bench.wait(MS);
            if let Ok(permit) = bench.admit() {
                let outcome = if bench.now < ends {
                    Outcome::Failure
                } else {
                    FAST
                };
                bench.record(permit, outcome);
            }
        }
        assert_eq!(bench.state(), State::Closed, "seed {seed}");
    }
}

#[test]
fn failing_in_the_ramp_is_no_recovery() {
    let mut bench = Bench::standard();
    bench.trip();
    bench.wait_for_probes();
    bench.probes([FAST; 3]);
    bench.wait(RAMP - MS);
    bench.fail_while(State::Recovering);
    assert!(bench.open_time() >= SECOND * 8);
    assert_eq!(bench.breaker.report(bench.now).relapses, 1);
}

#[test]
fn times_vary_by_a_fifth_either_way() {
    let mut rng = fastrand::Rng::with_seed(1);
    let times = (0..10_000).map(|_| jittered(SECOND * 5, &mut rng));
    let times: Vec<_> = times.collect();
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!((MS * 4_000..MS * 4_010).contains(least), "{least:?}");
    assert!((MS * 5_990..=MS * 6_000).contains(most), "{most:?}");
}

#[test]
fn the_open_time_is_bounded_but_never_below_what_is_configured() {
    assert_eq!(open_time(SECOND * 5, u32::MAX), MAX_OPEN);
    assert_eq!(open_time(SECOND * 600, 3), SECOND * 600);
}
