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
