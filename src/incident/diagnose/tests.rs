//! Faults in a small simulated service, second by second, with fixed seeds: which verdict comes first.

mod by_hand;
mod world;

use self::world::{Fault, World};
use super::*;

const SEEDS: u64 = 3;
/// Seconds of health before the fault.
const BEFORE: u32 = 100;
/// Seconds into the fault at which the verdict is asked for.
const AFTER: u32 = 13;

fn verdicts(fault: Fault, load: f64, seed: u64, after: u32) -> Vec<Verdict> {
    let mut world = World::new(load, seed);
    world.run(BEFORE, Fault::None);
    world.run(after, fault);
    world.verdicts()
}

/// Each single fault at three strengths and three loads.
fn faults() -> Vec<(Cause, Fault, Subject, u32)> {
    let mut all = Vec::new();
    for strength in [1.0, 2.0, 3.0] {
        let upstream = Subject::Upstream;
        all.extend([
            (
                Cause::NoisyClient,
                Fault::Flood(2.0 * strength),
                Subject::Client(3),
                AFTER,
            ),
            (
                Cause::NoisyClient,
                Fault::Dear(8.0 * strength),
                Subject::Client(3),
                AFTER,
            ),
            (
                Cause::NoisyClient,
                Fault::Heavy(5.0 + 4.0 * strength),
                Subject::Client(3),
                AFTER,
            ),
            (
                Cause::LoadSpike,
                Fault::Spike(1.0 + 3.0 * strength),
                upstream,
                AFTER,
            ),
            (
                Cause::SlowUpstream,
                Fault::Slow(1.0 + strength),
                upstream,
                AFTER,
            ),
            (
                Cause::SlowEndpoint,
                Fault::SlowEndpoint(2.0 + 2.0 * strength),
                Subject::Endpoint(1),
                AFTER,
            ),
            (
                Cause::SlowComponent,
                Fault::Component(1.5 + 2.0 * strength),
                Subject::Component(7),
                AFTER,
            ),
            (
                Cause::UpstreamErrors,
                Fault::Errors(0.1 * strength),
                upstream,
                AFTER,
            ),
            (
                Cause::EndpointDown,
                Fault::Down,
                Subject::Endpoint(1),
                AFTER,
            ),
            (
                Cause::CacheFailure,
                Fault::Flush(0.4 - 0.13 * strength),
                upstream,
                AFTER,
            ),
            (
                Cause::RetryStorm,
                Fault::Storm(1.0 + strength),
                upstream,
                AFTER,
            ),
            (
                Cause::SlowClients,
                Fault::SlowReaders(0.05 * strength),
                upstream,
                AFTER,
            ),
            (
                Cause::ProxySaturated,
                Fault::Proxy(0.05 * strength),
                Subject::Proxy,
                AFTER,
            ),
            (
                Cause::ProxySaturated,
                Fault::Kept(0.1 * strength),
                Subject::Proxy,
                AFTER,
            ),
            (
                Cause::SustainedOverload,
                Fault::Ramp(0.010 + 0.004 * strength),
                upstream,
                400,
            ),
        ]);
    }
    all
}

#[test]
fn a_single_fault_is_named_first() {
    let mut wrong = Vec::new();
    let mut runs = 0;
    for (cause, fault, subject, after) in faults() {
        for load in [0.3, 0.5, 0.7] {
            for seed in 0..SEEDS {
                runs += 1;
                let found = verdicts(fault, load, seed, after);
                let first = found
                    .first()
                    .map(|verdict| (verdict.cause, verdict.subject));
                if first != Some((cause, subject)) {
                    let brief: Vec<_> = found
                        .iter()
                        .map(|verdict| {
                            (verdict.cause.as_str(), verdict.subject, verdict.confidence)
                        })
                        .collect();
                    wrong.push(format!("{fault:?} at {load}, seed {seed}: {brief:?}"));
                }
            }
        }
    }
    let share = wrong.len() as f64 / f64::from(runs);
    assert!(share <= 0.05, "{share:.3} of {runs}\n{}", wrong.join("\n"));
}

#[test]
fn what_is_not_answered_at_all_is_named_before_anything_ends() {
    for load in [0.2, 0.5, 0.7] {
        for seed in 0..SEEDS {
            for (fault, cause, subject) in [
                (Fault::Hang, Cause::SlowUpstream, Subject::Upstream),
                (
                    Fault::HangEndpoint,
                    Cause::EndpointDown,
                    Subject::Endpoint(1),
                ),
            ] {
                let found = verdicts(fault, load, seed, 8);
                let first = found.first().map(|one| (one.cause, one.subject));
                assert_eq!(
                    first,
                    Some((cause, subject)),
                    "{fault:?} at {load}: {found:#?}"
                );
            }
        }
    }
}

#[test]
fn an_endpoint_that_was_slow_before_nobody_waited_for_it_any_more_is_not_down() {
    for load in [0.2, 0.4] {
        for seed in 0..SEEDS {
            let mut world = World::new(load, seed);
            world.run(BEFORE, Fault::None);
            world.run(8, Fault::SlowEndpoint(8.0));
            world.run(4, Fault::HangEndpoint);
            let found = world.verdicts();
            let first = found.first().map(|one| (one.cause, one.subject));
            assert_eq!(
                first,
                Some((Cause::SlowEndpoint, Subject::Endpoint(1))),
                "{load}, seed {seed}: {found:#?}"
            );
        }
    }
}

#[test]
fn a_storm_in_the_busy_hours_is_no_load_spike() {
    for seed in 0..SEEDS {
        let mut world = World::new(0.25, seed);
        world.run(BEFORE, Fault::None);
        for step in 0..6_u32 {
            world.run(10, Fault::Spike(1.0 + 0.1 * f64::from(step)));
        }
        world.run_both(AFTER, Fault::Spike(1.6), Fault::Storm(4.0));
        let found = world.verdicts();
        let first = found.first().map(|verdict| verdict.cause);
        assert_eq!(first, Some(Cause::RetryStorm), "{found:#?}");
    }
}

#[test]
fn nothing_is_wrong_with_what_is_healthy() {
    let mut wrong = Vec::new();
    for seed in 0..SEEDS {
        for load in [0.2, 0.5, 0.75] {
            let mut world = World::new(load, seed);
            for minute in 0..40_u32 {
                // A curve over the hour, a harmless burst now and then, and a deploy.
                let curve = 1.0 + 0.25 * (f64::from(minute) / 40.0 * std::f64::consts::TAU).sin();
                let burst = if minute % 13 == 7 && load < 0.6 {
                    1.3
                } else {
                    1.0
                };
                for _ in 0..6 {
                    world.run(10, Fault::Spike(curve * burst));
                    let found = world.verdicts();
                    if !found.is_empty() {
                        wrong.push(format!(
                            "load {load}, seed {seed}, minute {minute}: {found:?}"
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_leak_shows_over_hours() {
    for seed in 0..SEEDS {
        let mut world = World::new(0.3, seed);
        world.run(BEFORE, Fault::None);
        for minute in 0..120_u32 {
            world.run(60, Fault::Slow(1.0 + f64::from(minute) / 120.0));
        }
        let found = world.verdicts();
        let first = found.first().map(|verdict| verdict.cause);
        assert_eq!(first, Some(Cause::UpstreamLeak), "{found:?}");
    }
}

#[test]
fn of_two_faults_both_are_among_the_first_two() {
    let pairs = [
        (
            Fault::Slow(3.0),
            Fault::SlowReaders(0.1),
            [Cause::SlowUpstream, Cause::SlowClients],
        ),
        (
            Fault::Flood(4.0),
            Fault::Errors(0.2),
            [Cause::NoisyClient, Cause::UpstreamErrors],
        ),
        (
            Fault::Flush(0.1),
            Fault::SlowEndpoint(6.0),
            [Cause::CacheFailure, Cause::SlowEndpoint],
        ),
        (
            Fault::Spike(4.0),
            Fault::Down,
            [Cause::LoadSpike, Cause::EndpointDown],
        ),
    ];
    let mut wrong = Vec::new();
    for (one, other, causes) in pairs {
        for seed in 0..SEEDS {
            let mut world = World::new(0.5, seed);
            world.run(BEFORE, Fault::None);
            world.run_both(AFTER, one, other);
            let found = world.verdicts();
            let first: Vec<_> = found.iter().take(2).map(|verdict| verdict.cause).collect();
            if !causes.iter().all(|cause| first.contains(cause)) {
                let brief: Vec<_> = found
                    .iter()
                    .map(|v| (v.cause.as_str(), v.confidence))
                    .collect();
                wrong.push(format!("{one:?} and {other:?}, seed {seed}: {brief:?}"));
            }
        }
    }
    assert!(wrong.len() <= 1, "{}", wrong.join("\n"));
}

#[test]
fn every_cause_has_its_word() {
    let words: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|c| c.as_str()).collect();
    assert_eq!(words.len(), Cause::ALL.len());
}
