//! Balancing in simulated time, with fixed seeds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

struct Endpoint(Slot);

impl AsRef<Slot> for Endpoint {
    fn as_ref(&self) -> &Slot {
        &self.0
    }
}

const MILLI: u64 = 1_000_000;
const AT_ONCE: Duration = Duration::ZERO;

const fn at_millis(millis: u64) -> Instant {
    Instant::from_nanos(millis * MILLI)
}

fn member(index: usize, weight: f64) -> Member<Endpoint> {
    Member {
        endpoint: Arc::new(Endpoint(Slot::default())),
        weight,
        place: stand_in(&format!("endpoint-{index}")),
    }
}

fn pool(weights: &[f64], strategy: Strategy) -> Pool<Endpoint> {
    let members = weights.iter().enumerate().map(|(i, &w)| member(i, w));
    Pool::new(members.collect(), strategy, Duration::from_secs(30))
}

fn slot(pool: &Pool<Endpoint>, index: usize) -> &Slot {
    &pool.members()[index].endpoint.0
}

fn pick(pool: &Pool<Endpoint>, rng: &mut fastrand::Rng, now: Instant) -> usize {
    pick_key(pool, rng, now, None, &[]).unwrap()
}

fn pick_key(
    pool: &Pool<Endpoint>,
    rng: &mut fastrand::Rng,
    now: Instant,
    key: Option<u64>,
    exclude: &[usize],
) -> Result<usize, NoEndpoint> {
    let in_flight = pool.members().iter().map(|m| m.slot().in_flight()).sum();
    pool.pick(Pick {
        now,
        rng,
        key,
        in_flight,
        excluded: |endpoint: &Endpoint| {
            let same = |&index: &usize| std::ptr::eq(slot(pool, index), &raw const endpoint.0);
            exclude.iter().any(same)
        },
    })
}

/// Picks `count` times at one instant with nothing in flight.
fn idle_picks(pool: &Pool<Endpoint>, count: u32, now: Instant) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut picks = vec![0; pool.members().len()];
    for _ in 0..count {
        picks[pick(pool, &mut rng, now)] += 1;
    }
    picks
}

/// None of as many endpoints as any test has fails.
const SOUND: [f64; 4] = [0.0; 4];

/// Sends one request a millisecond for `millis`; each stays in flight for its endpoint's latency and then
/// fails there with the chance that `failing` gives. Returns the requests each endpoint got.
fn simulate(pool: &Pool<Endpoint>, millis: u64, latency: &[u64], failing: &[f64]) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(42);
    let mut picks = vec![0; latency.len()];
    let mut running = BinaryHeap::new();
    for now in 0..millis {
        while let Some(&Reverse((end, index))) = running.peek() {
            if end > now {
                break;
            }
            running.pop();
            slot(pool, index).answered(at_millis(now));
            slot(pool, index).leave(true);
            let took = Duration::from_millis(latency[index]);
            if rng.f64() < failing[index] {
                slot(pool, index).latency().fail(took, at_millis(now));
            } else {
                slot(pool, index).latency().observe(took, at_millis(now));
            }
        }
        let index = pick(pool, &mut rng, at_millis(now));
        picks[index] += 1;
        slot(pool, index).enter(at_millis(now));
        running.push(Reverse((now + latency[index], index)));
    }
    picks
}

fn share(picks: &[u32], index: usize) -> f64 {
    f64::from(picks[index]) / f64::from(picks.iter().sum::<u32>())
}

#[test]
fn an_endpoint_that_answers_nothing_attracts_nothing() {
    const PATIENCE: u64 = 5_000;
    let pool = pool(&[1.0; 3], Strategy::PeakEwma);
    simulate(&pool, 1_000, &[10; 3], &SOUND);
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut running, mut picks) = (BinaryHeap::new(), vec![0; 3]);
    for now in 1_000..31_000 {
        while let Some(&Reverse((end, index))) = running.peek()
            && end <= now
        {
            running.pop();
            let took = Duration::from_millis(10);
            if index == 0 {
                // Whoever asked gave up, and says nothing of the endpoint.
                slot(&pool, index).leave(false);
                continue;
            }
            slot(&pool, index).answered(at_millis(now));
            slot(&pool, index).latency().observe(took, at_millis(now));
            slot(&pool, index).leave(true);
        }
        let index = pick(&pool, &mut rng, at_millis(now));
        picks[index] += 1;
        slot(&pool, index).enter(at_millis(now));
        let takes = if index == 0 { PATIENCE } else { 10 };
        running.push(Reverse((now + takes, index)));
    }
    // One pick in a hundred looks whether it is back.
    assert!(share(&picks, 0) < 0.01, "{picks:?}");
    slot(&pool, 0).answered(at_millis(31_000));
    assert!(slot(&pool, 0).silence(at_millis(31_001)) < Duration::from_millis(2));
}

#[test]
fn what_is_answered_and_goes_on_is_no_silence() {
    let slot = Slot::default();
    assert_eq!(slot.silence(at_millis(9)), Duration::ZERO);
    slot.enter(at_millis(10));
    assert_eq!(slot.silence(at_millis(15)), Duration::from_millis(5));
    slot.enter(at_millis(16));
    slot.answered(at_millis(20));
    assert_eq!(slot.silence(at_millis(21)), Duration::from_millis(1));
    slot.answered(at_millis(22));
    assert_eq!(slot.silence(at_millis(99)), Duration::ZERO);
    slot.leave(true);
    slot.leave(true);
    assert_eq!(slot.in_flight(), 0);
    // A client that gives up, with another still waiting, and then that one too.
    slot.enter(at_millis(100));
    slot.enter(at_millis(101));
    slot.leave(false);
    assert_eq!(slot.silence(at_millis(110)), Duration::from_millis(10));
    slot.leave(false);
    assert_eq!(slot.silence(at_millis(999)), Duration::ZERO);
}

#[test]
fn peak_ewma_avoids_an_endpoint_ten_times_slower_but_keeps_looking_at_it() {
    let pool = pool(&[1.0; 4], Strategy::PeakEwma);
    let latency = [10, 10, 100, 10];
    let picks = simulate(&pool, 60_000, &latency, &SOUND);
    assert!(share(&picks, 2) < 0.03, "{picks:?}");
    assert!(picks[2] > 60, "one pick in a hundred is blind: {picks:?}");
    for fast in [0, 1, 3] {
        assert!((share(&picks, fast) - 0.33).abs() < 0.05, "{picks:?}");
    }
}

#[test]
fn two_endpoints_are_always_both_looked_at() {
    let pool = pool(&[1.0; 2], Strategy::PeakEwma);
    let latency = [10, 100];
    let picks = simulate(&pool, 20_000, &latency, &SOUND);
    assert!(share(&picks, 1) < 0.1, "{picks:?}");
}

#[test]
fn an_endpoint_that_fails_fast_does_not_attract_load() {
    let pool = pool(&[1.0; 4], Strategy::PeakEwma);
    // It answers within a millisecond, always with an error.
    let picks = simulate(&pool, 60_000, &[10, 1, 10, 10], &[0.0, 1.0, 0.0, 0.0]);
    assert!(share(&picks, 1) < 0.03, "{picks:?}");
}

#[test]
fn one_error_in_a_thousand_moves_next_to_nothing() {
    let pool = pool(&[1.0; 4], Strategy::PeakEwma);
    let picks = simulate(&pool, 60_000, &[10; 4], &[0.001; 4]);
    for index in 0..4 {
        assert!((share(&picks, index) - 0.25).abs() < 0.02, "{picks:?}");
    }
}

#[test]
fn least_request_sends_less_to_who_takes_longer() {
    let pool = pool(&[1.0; 3], Strategy::LeastRequest);
    let latency = [10, 10, 100];
    let picks = simulate(&pool, 60_000, &latency, &SOUND);
    assert!(share(&picks, 2) < 0.15, "{picks:?}");
}

#[test]
fn weights_are_honoured_by_every_strategy_in_an_idle_pool() {
    for strategy in [
        Strategy::PeakEwma,
        Strategy::LeastRequest,
        Strategy::RoundRobin,
    ] {
        let pool = pool(&[1.0, 3.0], strategy);
        let picks = idle_picks(&pool, 40_000, Instant::ZERO);
        assert!(
            (share(&picks, 0) - 0.25).abs() < 0.01,
            "{strategy:?} {picks:?}"
        );
    }
}

#[test]
fn weights_are_honoured_under_load() {
    for strategy in [Strategy::PeakEwma, Strategy::LeastRequest] {
        let pool = pool(&[1.0, 2.0, 3.0], strategy);
        let picks = simulate(&pool, 60_000, &[60; 3], &SOUND);
        for (index, expected) in [1.0 / 6.0, 1.0 / 3.0, 0.5].into_iter().enumerate() {
            let off = (share(&picks, index) - expected).abs();
            assert!(off < 0.03, "{strategy:?} {picks:?}");
        }
    }
}

#[test]
fn round_robin_is_exact_over_a_cycle_and_spreads_the_turns() {
    let pool = pool(&[1.0, 2.0, 3.0], Strategy::RoundRobin);
    let mut rng = fastrand::Rng::with_seed(1);
    let turns: Vec<_> = (0..12)
        .map(|_| pick(&pool, &mut rng, Instant::ZERO))
        .collect();
    assert_eq!(turns[..6], [2, 1, 0, 2, 1, 2]);
    assert_eq!(turns[..6], turns[6..]);
    assert_eq!(
        idle_picks(&pool, 6_000, Instant::ZERO),
        [1_000, 2_000, 3_000]
    );
}

#[test]
fn round_robin_is_exact_for_workers_that_share_it() {
    let pool = pool(&[1.0, 2.0, 3.0], Strategy::RoundRobin);
    let totals = Mutex::new(vec![0; 3]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let picks = idle_picks(&pool, 2_000, Instant::ZERO);
                let mut totals = totals.lock().unwrap();
                for (total, picks) in totals.iter_mut().zip(picks) {
                    *total += picks;
                }
            });
        }
    });
    assert_eq!(*totals.lock().unwrap(), [1_000, 2_000, 3_000]);
}

#[test]
fn round_robin_takes_fractions_and_extremes() {
    let halves = pool(&[0.5, 1.0], Strategy::RoundRobin);
    assert_eq!(idle_picks(&halves, 300, Instant::ZERO), [100, 200]);
    let extremes = pool(&[1.0, 65_535.0, 65_535.0], Strategy::RoundRobin);
    let picks = idle_picks(&extremes, 40_970, Instant::ZERO);
    assert_eq!(picks, [10, 20_480, 20_480]);
}

#[test]
fn the_turns_of_who_is_out_go_to_all_others_alike() {
    let pool = pool(&[1.0; 4], Strategy::RoundRobin);
    slot(&pool, 1).set_healthy(false, Instant::ZERO);
    pool.refresh();
    assert_eq!(idle_picks(&pool, 300, Instant::ZERO), [100, 0, 100, 100]);
}

#[test]
fn a_key_stays_with_its_endpoint_and_keys_follow_the_weights() {
    let pool = pool(&[1.0, 2.0, 3.0], Strategy::Hash);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut picks = vec![0; 3];
    for _ in 0..30_000 {
        let key = Some(rng.u64(..));
        let index = pick_key(&pool, &mut rng, Instant::ZERO, key, &[]).unwrap();
        let again = pick_key(&pool, &mut rng, Instant::ZERO, key, &[]).unwrap();
        assert_eq!(index, again);
        picks[index] += 1;
    }
    for (index, expected) in [1.0 / 6.0, 1.0 / 3.0, 0.5].into_iter().enumerate() {
        assert!((share(&picks, index) - expected).abs() < 0.05, "{picks:?}");
    }
}

#[test]
fn one_endpoint_more_takes_its_share_of_the_keys_and_moves_no_others() {
    let before = pool(&[1.0; 10], Strategy::Hash);
    let after = pool(&[1.0; 11], Strategy::Hash);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut moved = 0;
    for _ in 0..20_000 {
        let key = Some(rng.u64(..));
        let old = pick_key(&before, &mut rng, Instant::ZERO, key, &[]).unwrap();
        let new = pick_key(&after, &mut rng, Instant::ZERO, key, &[]).unwrap();
        if old != new {
            assert_eq!(new, 10, "keys move to the new endpoint only");
            moved += 1;
        }
    }
    assert!(f64::from(moved) / 20_000.0 < 1.0 / 11.0 + 0.03, "{moved}");
}

#[test]
fn one_hot_key_spills_over_at_its_bound() {
    let pool = pool(&[1.0; 8], Strategy::Hash);
    let mut rng = fastrand::Rng::with_seed(9);
    for total in 0..800_u32 {
        let index = pick_key(&pool, &mut rng, Instant::ZERO, Some(17), &[]).unwrap();
        slot(&pool, index).enter(Instant::ZERO);
        let bound = (LOAD_FACTOR * f64::from(total + 1) / 8.0).ceil();
        let held = f64::from(slot(&pool, index).in_flight());
        assert!(held <= bound, "{held} of {} on {index}", total + 1);
    }
}

#[test]
fn without_a_key_hashing_balances_by_load() {
    let pool = pool(&[1.0; 4], Strategy::Hash);
    let picks = idle_picks(&pool, 8_000, Instant::ZERO);
    assert!(
        picks.iter().all(|&n| (1_700..2_300).contains(&n)),
        "{picks:?}"
    );
}

#[test]
fn excluded_and_unhealthy_endpoints_are_not_picked() {
    for strategy in [
        Strategy::PeakEwma,
        Strategy::LeastRequest,
        Strategy::RoundRobin,
        Strategy::Hash,
    ] {
        let pool = pool(&[1.0; 4], strategy);
        slot(&pool, 0).set_healthy(false, Instant::ZERO);
        pool.refresh();
        let mut rng = fastrand::Rng::with_seed(2);
        for key in 0..500 {
            let index = pick_key(&pool, &mut rng, Instant::ZERO, Some(key), &[1]).unwrap();
            assert!([2, 3].contains(&index), "{strategy:?} picked {index}");
        }
        let none = pick_key(&pool, &mut rng, Instant::ZERO, Some(1), &[1, 2, 3]);
        assert_eq!(none, Err(NoEndpoint::NoneLeft), "{strategy:?}");
    }
}

#[test]
fn an_empty_pool_knows_no_endpoint() {
    for strategy in [Strategy::PeakEwma, Strategy::RoundRobin, Strategy::Hash] {
        let pool = pool(&[], strategy);
        let mut rng = fastrand::Rng::with_seed(2);
        let none = pick_key(&pool, &mut rng, Instant::ZERO, Some(1), &[]);
        assert_eq!(none, Err(NoEndpoint::Unknown));
        assert!(!pool.is_panicking());
    }
}

#[test]
fn health_is_ignored_once_more_than_half_are_out() {
    let pool = pool(&[1.0; 4], Strategy::RoundRobin);
    for out in [0, 1] {
        slot(&pool, out).set_healthy(false, Instant::ZERO);
        pool.refresh();
    }
    assert!(!pool.is_panicking(), "half is not more than half");
    assert_eq!(idle_picks(&pool, 400, Instant::ZERO), [0, 0, 200, 200]);

    slot(&pool, 2).set_healthy(false, Instant::ZERO);
    pool.refresh();
    assert!(pool.is_panicking());
    assert_eq!(idle_picks(&pool, 400, Instant::ZERO), [100; 4]);

    slot(&pool, 2).set_healthy(true, Instant::ZERO);
    pool.refresh();
    assert!(!pool.is_panicking());
}

#[test]
fn an_endpoint_that_came_back_takes_its_share_step_by_step() {
    for strategy in [
        Strategy::PeakEwma,
        Strategy::LeastRequest,
        Strategy::RoundRobin,
    ] {
        let pool = pool(&[1.0; 4], strategy);
        slot(&pool, 0).set_healthy(false, at_millis(1));
        slot(&pool, 0).set_healthy(true, at_millis(1_000));
        pool.refresh();
        let mut last = 0.0;
        for (second, ramp) in [(1, 0.1), (16, 0.55), (31, 1.0)] {
            let picks = idle_picks(&pool, 40_000, at_millis(second * 1_000));
            let expected = ramp / (3.0 + ramp);
            let share = share(&picks, 0);
            assert!(
                (share - expected).abs() < 0.02,
                "{strategy:?} {second} s: {share}"
            );
            assert!(share > last);
            last = share;
        }
    }
}

#[test]
fn slow_start_is_linear_and_optional() {
    let slot = Slot::default();
    let ramp = Duration::from_secs(10);
    assert!((slot.ramp(ramp, at_millis(0)) - 1.0).abs() < 1e-9);
    slot.set_healthy(false, at_millis(0));
    assert!(slot.set_healthy(true, at_millis(0)));
    assert!((slot.ramp(ramp, at_millis(0)) - 0.1).abs() < 1e-6);
    assert!((slot.ramp(ramp, at_millis(5_000)) - 0.55).abs() < 1e-6);
    assert!((slot.ramp(ramp, at_millis(10_000)) - 1.0).abs() < 1e-6);
    assert!((slot.ramp(AT_ONCE, at_millis(0)) - 1.0).abs() < 1e-9);
}

#[test]
fn a_new_endpoint_starts_at_the_median_of_its_pool() {
    let pool = pool(&[1.0; 4], Strategy::PeakEwma);
    assert_eq!(pool.median_latency(Instant::ZERO), None);
    for (index, millis) in [(0, 10), (1, 30), (3, 900)] {
        let sample = Duration::from_millis(millis);
        slot(&pool, index).latency().observe(sample, Instant::ZERO);
    }
    let median = pool.median_latency(Instant::ZERO);
    assert_eq!(median, Some(Duration::from_millis(30)));
}
