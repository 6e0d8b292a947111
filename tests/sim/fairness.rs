//! Whose requests pass when not all can.

use std::time::Duration;

use crate::for_each_seed;
use crate::load::{Class, Seen};
use crate::upstream::{Service, Upstream};
use crate::world::World;

const LENGTH: Duration = Duration::from_secs(60);
/// The flood has been going on for a while by then, and the limit is found.
const WARM: Duration = Duration::from_secs(5);

fn upstream() -> Upstream {
    Upstream::new(20, Duration::from_millis(50)).service(Service::Lognormal(0.5))
}

/// Jain's index of what clients got of what they asked for.
fn jain(seen: &Seen) -> f64 {
    let shares = seen.by_client.values();
    let shares: Vec<f64> = shares
        .map(|(asked, got)| *got as f64 / *asked as f64)
        .collect();
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
fn fifty_clients_within_their_share_do_not_notice_one_that_floods() {
    // Each of the fifty asks for less than a fifty-first of the capacity, the flood for twenty such shares
    // and with them for more than there is.
    let share = upstream().capacity() / 51.0;
    let runs = for_each_seed(|seed| {
        let victims = Class::new(50, 0.7 * 50.0 * share);
        let calm = World::new(upstream(), vec![victims.clone()], seed).run(LENGTH);
        let flood = Class::new(1, 20.0 * share);
        let run = World::new(upstream(), vec![victims, flood], seed).run(LENGTH);
        let [calm, seen] = [&calm.seen[0], &run.seen[0]];
        (
            seen.success_from(WARM, LENGTH - WARM),
            seen.latency(0.98, WARM),
            calm.latency(0.98, WARM),
            jain(seen),
        )
    });
    for (seed, (success, p98, unloaded, jain)) in runs.into_iter().enumerate() {
        assert!(success >= 0.999, "seed {seed}: {success:.4} answered");
        assert!(
            p98 <= unloaded * 3 / 2,
            "seed {seed}: {p98:?}, {unloaded:?}"
        );
        assert!(jain >= 0.95, "seed {seed}: Jain's index {jain:.3}");
    }
}

#[test]
fn twenty_clients_that_fill_four_fifths_pass_beside_one_that_floods() {
    // The scenario of the overload benchmark: an even share would be a twenty-first, the twenty use most of
    // theirs, and each slot takes fixed time, so that all of them are free at once or none.
    let upstream = Upstream::new(10, Duration::from_millis(50));
    let runs = for_each_seed(|seed| {
        let victims = Class::new(20, 0.8 * upstream.capacity());
        let flood = Class::new(1, 4.0 * upstream.capacity());
        let run = World::new(upstream.clone(), vec![victims, flood], seed).run(LENGTH);
        run.seen[0].success_from(WARM, LENGTH - WARM)
    });
    let mean = runs.iter().sum::<f64>() / runs.len() as f64;
    assert!(mean >= 0.999, "{mean:.4} answered");
    assert!(runs.iter().all(|success| *success >= 0.997), "{runs:?}");
}

#[test]
fn the_critical_tier_is_served_and_the_batch_tier_gets_its_floor() {
    let capacity = upstream().capacity();
    let runs = for_each_seed(|seed| {
        let tiers = [(0, 0.4), (1, 1.3), (2, 1.3)];
        let load = tiers.map(|(tier, share)| Class::new(20, share * capacity).tier(tier));
        let run = World::new(upstream(), load.to_vec(), seed).run(LENGTH);
        let batch = run.seen[2].goodput(WARM, LENGTH) / capacity;
        (run.seen[0].success_from(WARM, LENGTH - WARM), batch)
    });
    for (seed, (critical, batch)) in runs.into_iter().enumerate() {
        assert!(critical >= 0.999, "seed {seed}: {critical:.4} answered");
        assert!(batch >= 0.045, "seed {seed}: {batch:.3} of the capacity");
    }
}
