//! The upstream is away for thirty seconds, and every client that is not served tries three times more at
//! once.

use std::time::Duration;

use tidegate::engine::protection::{Algorithm, Mode, Settings};

use crate::for_each_seed;
use crate::load::Class;
use crate::upstream::Upstream;
use crate::world::{Run, World};

const DOWN: Duration = Duration::from_secs(20);
const UP: Duration = Duration::from_secs(50);
/// When an upstream that starts slowly is at its full speed.
const WARM: Duration = Duration::from_secs(54);
const LENGTH: Duration = Duration::from_secs(80);
const PATIENCE: Duration = Duration::from_secs(1);

fn run(settings: &Settings, seed: u64) -> Run {
    let upstream = Upstream::new(20, Duration::from_millis(50));
    let clients = Class::new(20, 0.8 * upstream.capacity()).retrying(3, PATIENCE);
    World::with(settings, upstream, vec![clients], seed)
        .changing(&[(DOWN, |up| up.slowed = 1e6), (UP, |up| up.slowed = 1.0)])
        .run(LENGTH)
}

/// Goodput from five seconds after the upstream is back, as a share of what is asked for.
fn recovered(run: &Run) -> f64 {
    let from = UP + Duration::from_secs(5);
    run.seen[0].goodput(from, LENGTH - PATIENCE) / (0.8 * 400.0)
}

#[test]
fn traffic_is_back_within_five_seconds_of_the_upstream_and_never_without_protection() {
    let unprotected = Settings {
        limit: Mode::Off,
        breaker: Mode::Off,
        algorithm: Algorithm::Fixed(1),
        ..Settings::default()
    };
    let runs = for_each_seed(|seed| {
        [
            recovered(&run(&Settings::default(), seed)),
            recovered(&run(&unprotected, seed)),
        ]
    });
    for (seed, [with, without]) in runs.into_iter().enumerate() {
        assert!(with >= 0.95, "seed {seed}: {with:.3} of what is asked for");
        assert!(
            without < 0.5,
            "seed {seed}: {without:.3} without protection"
        );
    }
}

#[test]
fn an_upstream_that_comes_back_cold_is_not_knocked_over_again() {
    let runs = for_each_seed(|seed| {
        let upstream = Upstream::new(20, Duration::from_millis(50));
        let clients = Class::new(20, 0.8 * upstream.capacity()).retrying(3, PATIENCE);
        let run = World::new(upstream, vec![clients], seed)
            .changing(&[
                (DOWN, |up| up.slowed = 1e6),
                (UP, |up| up.slowed = 4.0),
                (UP + Duration::from_secs(2), |up| up.slowed = 2.0),
                (WARM, |up| up.slowed = 1.0),
            ])
            .run(LENGTH);
        let from = WARM + Duration::from_secs(5);
        run.seen[0].goodput(from, LENGTH - PATIENCE) / (0.8 * 400.0)
    });
    for (seed, share) in runs.into_iter().enumerate() {
        assert!(
            share >= 0.95,
            "seed {seed}: {share:.3} of what is asked for"
        );
    }
}
