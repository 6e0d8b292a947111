//! More is asked of the upstream than it can carry, by clients that do not care.

use std::time::Duration;

use crate::for_each_seed;
use crate::load::Class;
use crate::upstream::{Discipline, Service, Upstream};
use crate::world::World;

const LENGTH: Duration = Duration::from_secs(30);
/// A process without experience has had a second by then.
const WARM: Duration = Duration::from_secs(1);
/// The default of `max_wait`.
const MAX_WAIT: Duration = Duration::from_millis(100);

fn upstream() -> Upstream {
    Upstream::new(10, Duration::from_millis(50))
}

fn load(factor: f64) -> Vec<Class> {
    vec![Class::new(20, factor * upstream().capacity())]
}

#[test]
fn goodput_stays_at_capacity_and_the_accepted_are_answered_soon() {
    let calm = for_each_seed(|seed| {
        let run = World::new(upstream(), load(0.8), seed).run(LENGTH);
        run.seen[0].latency(0.99, WARM)
    });
    for factor in [2.0, 5.0, 10.0] {
        let runs = for_each_seed(|seed| {
            let run = World::new(upstream(), load(factor), seed).run(LENGTH);
            let goodput = run.seen[0].goodput(WARM, LENGTH) / upstream().capacity();
            (goodput, run.seen[0].latency(0.99, WARM))
        });
        for (seed, ((goodput, p99), calm)) in runs.into_iter().zip(&calm).enumerate() {
            assert!(
                goodput >= 0.95,
                "{factor}x, seed {seed}: goodput {goodput:.3}"
            );
            let bound = *calm * 2 + MAX_WAIT;
            assert!(
                p99 <= bound,
                "{factor}x, seed {seed}: p99 {p99:?}, bound {bound:?}"
            );
        }
    }
}

#[test]
fn goodput_stays_up_whatever_the_service_and_its_discipline() {
    // A lock that slows all down with everybody who waits takes its part of the capacity at any limit.
    for (discipline, bound) in [
        (Discipline::Slots, 0.95),
        (Discipline::Sharing, 0.95),
        (Discipline::Lock(0.05), 0.8),
    ] {
        for service in [
            Service::Exponential,
            Service::Lognormal(1.0),
            Service::Bimodal(10.0),
        ] {
            let runs = for_each_seed(|seed| {
                let varied = upstream().service(service).discipline(discipline);
                let run = World::new(varied, load(2.0), seed).run(LENGTH);
                run.seen[0].goodput(WARM, LENGTH) / upstream().capacity()
            });
            let mean = runs.iter().sum::<f64>() / runs.len() as f64;
            let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
            assert!(
                mean >= bound,
                "{discipline:?}, {service:?}: {mean:.3}, at least {least:.3}"
            );
        }
    }
}

#[test]
fn goodput_stays_up_over_a_network_that_takes_its_time() {
    // A third of what the limit sees as latency is the way there and back.
    let runs = for_each_seed(|seed| {
        let run = World::new(upstream(), load(5.0), seed)
            .network(Duration::from_millis(5), Duration::from_millis(5))
            .run(LENGTH);
        run.seen[0].goodput(WARM, LENGTH) / upstream().capacity()
    });
    for (seed, goodput) in runs.into_iter().enumerate() {
        assert!(goodput >= 0.95, "seed {seed}: goodput {goodput:.3}");
    }
}
