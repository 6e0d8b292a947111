//! The upstream changes what it can carry, under constant overload.

use std::time::Duration;

use crate::for_each_seed;
use crate::load::Class;
use crate::upstream::Upstream;
use crate::world::{Run, World};

const LENGTH: Duration = Duration::from_secs(60);
const DOWN: Duration = Duration::from_secs(20);
const UP: Duration = Duration::from_secs(40);
/// Requests a second with all slots, and with half of them.
const WHOLE: f64 = 400.0;
const HALF: f64 = 200.0;

fn run(seed: u64) -> Run {
    let upstream = Upstream::new(20, Duration::from_millis(50));
    World::new(upstream, vec![Class::new(20, 1.5 * WHOLE)], seed)
        .changing(&[(DOWN, |up| up.slots = 10), (UP, |up| up.slots = 20)])
        .run(LENGTH)
}

/// The mean limit between two times.
fn limit(run: &Run, from: Duration, to: Duration) -> f64 {
    let limits = run.limits.iter();
    let between: Vec<f64> = limits
        .filter(|(at, _)| (from..to).contains(at))
        .map(|(_, limit)| *limit)
        .collect();
    between.iter().sum::<f64>() / between.len() as f64
}

#[test]
fn the_limit_follows_capacity_down_within_two_seconds_and_up_within_ten() {
    for (seed, run) in for_each_seed(run).into_iter().enumerate() {
        let second = Duration::from_secs(1);
        let goodput = |from, to| run.seen[0].goodput(from, to);
        let lower = limit(&run, DOWN + second * 2, DOWN + second * 4);
        let higher = limit(&run, UP + second * 10, UP + second * 12);
        let gain = [
            goodput(second, DOWN) / WHOLE * 19.0,
            goodput(DOWN, UP) / HALF * 20.0,
            goodput(UP, LENGTH) / WHOLE * 20.0,
        ];
        let share = gain.iter().sum::<f64>() / 59.0;
        assert!(lower <= 15.0, "seed {seed}: {lower:.1} of 10 slots");
        assert!(higher >= 18.0, "seed {seed}: {higher:.1} of 20 slots");
        assert!(share >= 0.9, "seed {seed}: goodput {share:.3}");
    }
}

#[test]
fn a_pause_of_a_second_leaves_no_trace() {
    let second = Duration::from_secs(1);
    let runs = for_each_seed(|seed| {
        let upstream = Upstream::new(20, Duration::from_millis(50));
        let clients = Class::new(20, 0.6 * WHOLE);
        let run = World::new(upstream, vec![clients], seed)
            .changing(&[
                (DOWN, |up| up.slowed = 1e6),
                (DOWN + second, |up| up.slowed = 1.0),
            ])
            .run(LENGTH);
        run.seen[0].success_from(DOWN + second * 3, LENGTH - second)
    });
    for (seed, success) in runs.into_iter().enumerate() {
        assert!(success >= 0.999, "seed {seed}: {success:.4} answered");
    }
}

#[test]
fn an_upstream_that_slows_down_bit_by_bit_is_kept_at_what_it_still_carries() {
    // As one that leaks memory does: 2% slower every second, three times slower in the end.
    let leak = |second: u64| {
        let slower: fn(&mut Upstream) = |up| up.slowed *= 1.02;
        (Duration::from_secs(second), slower)
    };
    let leaks: Vec<_> = (5..LENGTH.as_secs()).map(leak).collect();
    let runs = for_each_seed(|seed| {
        let upstream = Upstream::new(20, Duration::from_millis(50));
        let clients = Class::new(20, 1.5 * WHOLE);
        World::new(upstream, vec![clients], seed)
            .changing(&leaks)
            .run(LENGTH)
    });
    for (seed, run) in runs.iter().enumerate() {
        for second in (10..LENGTH.as_secs() - 5).step_by(5) {
            let from = Duration::from_secs(second);
            let left = WHOLE / 1.02_f64.powf(second as f64 - 5.0 + 2.5);
            let share = run.seen[0].goodput(from, from + Duration::from_secs(5)) / left;
            assert!(share >= 0.9, "seed {seed}, {from:?}: goodput {share:.3}");
        }
    }
}
