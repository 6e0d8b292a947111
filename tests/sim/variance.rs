//! Service times that vary, at a load the upstream carries easily: nobody may be refused for it.

use std::time::Duration;

use crate::for_each_seed;
use crate::load::Class;
use crate::upstream::{Discipline, Service, Upstream};
use crate::world::World;

const LENGTH: Duration = Duration::from_secs(20);

/// Requests refused and sent over all seeds.
fn refused(slots: usize, service: Service, discipline: Discipline, load: f64) -> (u64, u64) {
    let runs = for_each_seed(|seed| {
        let upstream = Upstream::new(slots, Duration::from_millis(50))
            .service(service)
            .discipline(discipline);
        let clients = vec![Class::new(50, load * upstream.capacity())];
        let seen = World::new(upstream, clients, seed)
            .run(LENGTH)
            .seen
            .remove(0);
        (seen.refusals(), seen.sent)
    });
    let sum = |of: fn(&(u64, u64)) -> u64| runs.iter().map(of).sum();
    (sum(|run| run.0), sum(|run| run.1))
}

#[test]
fn nobody_is_refused_below_seventy_percent_however_service_times_vary() {
    for discipline in [Discipline::Slots, Discipline::Sharing] {
        for service in [
            Service::Fixed,
            Service::Exponential,
            Service::Lognormal(1.0),
            Service::Bimodal(5.0),
            Service::Bimodal(10.0),
        ] {
            for load in [0.5, 0.69] {
                let (refused, sent) = refused(10, service, discipline, load);
                assert_eq!(
                    refused, 0,
                    "{service:?}, {discipline:?}, load {load}: {refused} of {sent}"
                );
            }
        }
    }
}

#[test]
fn a_client_that_waits_for_its_answers_is_not_refused() {
    // Sixty-four connections, each with the next request at once: the upstream has always more to do than it
    // can, and nobody waits longer for that than a moment.
    let upstream = Upstream::new(8, Duration::from_millis(2));
    let runs = for_each_seed(|seed| {
        let run = World::new(upstream.clone(), vec![Class::closed(64)], seed).run(LENGTH);
        (run.seen[0].refusals(), run.seen[0].answered.len())
    });
    for (seed, (refused, answered)) in runs.into_iter().enumerate() {
        assert_eq!(refused, 0, "seed {seed}: of {answered}");
        let share = answered as f64 / LENGTH.as_secs_f64() / upstream.capacity();
        assert!(share >= 0.95, "seed {seed}: {share:.3} of the capacity");
    }
}

#[test]
fn bursts_that_the_upstream_carries_in_a_moment_are_not_refused() {
    let upstream = Upstream::new(20, Duration::from_millis(10)).service(Service::Lognormal(0.5));
    let runs = for_each_seed(|seed| {
        let clients = Class::new(20, 0.3 * upstream.capacity()).bursty(3.0, LENGTH);
        let run = World::new(upstream.clone(), vec![clients], seed).run(LENGTH);
        run.seen[0].refusals() as f64 / run.seen[0].sent as f64
    });
    for (seed, refused) in runs.into_iter().enumerate() {
        assert!(refused <= 0.001, "seed {seed}: {refused:.4} refused");
    }
}
