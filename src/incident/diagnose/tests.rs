//! Faults in a small simulated service, second by second, with fixed seeds: which verdict comes first.

mod world;

use self::world::{Fault, World};
use super::*;
use crate::incident::history::History;
use crate::incident::span::{Event, Fate};

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
fn who_is_barred_by_a_breaker_is_not_turned_away_for_want_of_room() {
    let mut history = History::default();
    for second in 0..110_u32 {
        let open = second >= 100;
        for request in 0..if open { 200 } else { 100 } {
            history.current().record(&Event {
                client: request % 20,
                attempts: u8::from(!open),
                fate: if open { Fate::Barred } else { Fate::Answered },
                ..Event::default()
            });
        }
        history.tick(!open);
    }
    let facts = Facts::new(&history, &[], Proxy::default());
    let harm = Harm::of(&facts);
    assert!(harm.any() && !harm.crowded(), "{harm:?}");
    let found = diagnose(&facts);
    let spike = found.iter().find(|one| one.cause == Cause::LoadSpike);
    assert!(spike.is_none(), "{spike:?}");
}

#[test]
fn an_endpoint_that_was_ejected_at_once_is_down_unless_its_peers_fail_as_well() {
    // Five failures of the forty attempts of ten seconds, and nobody has felt them: they went again elsewhere.
    let mut history = History::default();
    for _ in 0..110_u32 {
        for request in 0..10 {
            history.current().record(&Event {
                client: request % 5,
                endpoint: Some(1),
                attempts: 1,
                ..Event::default()
            });
        }
        history.tick(true);
    }
    let found = |peers: [(f64, f64); 2]| {
        let [one, other] = peers;
        let endpoints = [(0, true, (1.0, 40.0)), (1, false, one), (2, false, other)];
        let endpoints = endpoints.map(|(id, ejected, (worst, attempts))| EndpointFact {
            id,
            ejected,
            worst,
            failures: worst * 5.0,
            attempts,
            ..EndpointFact::default()
        });
        let verdicts = diagnose(&Facts::new(&history, &endpoints, Proxy::default()));
        let named = verdicts.iter().map(|one| (one.cause, one.subject));
        named.collect::<Vec<_>>()
    };
    let down = [(Cause::EndpointDown, Subject::Endpoint(0))];
    assert_eq!(found([(0.0, 40.0), (0.0, 40.0)]), down);
    assert_eq!(found([(0.8, 40.0), (0.0, 40.0)]), down, "one peer is well");
    assert_eq!(found([(0.8, 40.0), (0.9, 40.0)]), []);
    assert_eq!(
        found([(0.8, 40.0), (0.0, 0.0)]),
        [],
        "nobody asks the other"
    );
    assert_eq!(found([(0.35, 40.0), (0.35, 40.0)]), [], "a third fails");
}

#[test]
fn what_answers_nothing_of_the_little_it_is_asked_is_down_if_its_peers_answer() {
    let found = |silence: f64, given_up: bool, peers_silence: f64, peers_time: f64| {
        let mut history = History::default();
        let mut answered = |seconds: u32, endpoints: &[u64], time: f64| {
            for _ in 0..seconds {
                for endpoint in endpoints.iter().cycle().take(30) {
                    history.current().record(&Event {
                        endpoint: Some(*endpoint),
                        attempts: 1,
                        phases: [0.0, 0.0, 0.0, 0.0, time, 0.0, 0.0],
                        ..Event::default()
                    });
                }
                history.tick(true);
            }
        };
        answered(BEFORE, &[0, 1, 2], 0.04);
        answered(AFTER, &[1, 2], peers_time);
        if given_up {
            for _ in 0..6 {
                history.current().record(&Event {
                    endpoint: Some(0),
                    attempts: 1,
                    abandoned: true,
                    phases: [0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0],
                    ..Event::default()
                });
            }
            history.tick(true);
        }
        let peers = (peers_silence, 3.0);
        let own = (silence, if given_up { 0.0 } else { 3.0 });
        let endpoints = [(0, own), (1, peers), (2, peers)];
        let endpoints = endpoints.map(|(id, (silence, in_flight))| EndpointFact {
            id,
            silence,
            in_flight,
            attempts: 20.0,
            ..EndpointFact::default()
        });
        let verdicts = diagnose(&Facts::new(&history, &endpoints, Proxy::default()));
        let down = verdicts
            .into_iter()
            .find(|one| one.cause == Cause::EndpointDown);
        down.map(|one| (one.subject, one.confidence > 0.7))
    };
    let down = Some((Subject::Endpoint(0), true));
    assert_eq!(found(8.0, false, 0.05, 0.05), down);
    assert_eq!(found(0.0, true, 0.05, 0.05), down, "nobody waits just now");
    assert_eq!(found(0.0, false, 0.05, 0.05), None, "nobody waited long");
    assert_eq!(found(8.0, false, 7.0, 0.05), None, "none of them answers");
    let slow = found(8.0, false, 0.05, 2.0);
    assert_eq!(slow, None, "those that answer are as slow");
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

/// A second in which clients are answered so many times, each time after so long.
fn second(history: &mut History, answers: &[(u64, u32, f64)]) {
    for (client, count, time) in answers {
        for _ in 0..*count {
            history.current().record(&Event {
                client: *client,
                attempts: 1,
                phases: [0.0, 0.0, 0.0, 0.0, *time, 0.0, 0.0],
                ..Event::default()
            });
        }
    }
    history.tick(true);
}

#[test]
fn whoever_was_served_mostly_while_everything_was_slow_is_not_what_makes_it_slow() {
    let slow_at_first = |heavy: f64| {
        let mut history = History::default();
        for _ in 0..BEFORE {
            second(&mut history, &[(1, 8, 0.04), (2, 16, 0.04), (3, 16, 0.04)]);
        }
        // Before it is held back.
        for _ in 0..3 {
            second(
                &mut history,
                &[(1, 30, 0.8 * heavy), (2, 16, 0.8), (3, 16, 0.8)],
            );
        }
        for _ in 0..7 {
            second(
                &mut history,
                &[(1, 3, 0.25 * heavy), (2, 16, 0.25), (3, 16, 0.25)],
            );
        }
        let facts = Facts::new(&history, &[], Proxy::default());
        load::one_clients(&facts)
    };
    assert!(slow_at_first(1.0) < 0.05, "{}", slow_at_first(1.0));
    assert!(slow_at_first(4.0) > 0.5, "{}", slow_at_first(4.0));
}

#[test]
fn one_clients_misses_are_no_failure_of_the_cache() {
    let found = |own_items: u32, others_hit: bool| {
        let mut history = History::default();
        let mut ask = |seconds: u32, client: u64, count: u32, hit: bool, end: bool| {
            for _ in 0..seconds {
                for _ in 0..count {
                    history.current().record(&Event {
                        client,
                        attempts: u8::from(!hit),
                        hit: Some(hit),
                        phases: [0.0, 0.0, 0.0, 0.0, 0.04, 0.0, 0.0],
                        ..Event::default()
                    });
                }
                if end {
                    history.tick(true);
                }
            }
        };
        for _ in 0..BEFORE {
            ask(1, 1, 40, true, false);
            ask(1, 2, 40, false, true);
        }
        for _ in 0..AFTER {
            ask(1, 1, 40, others_hit, false);
            ask(1, 2, 40, false, false);
            ask(1, 3, own_items, false, true);
        }
        let facts = Facts::new(&history, &[], Proxy::default());
        let verdicts = load::verdicts(&facts, &Harm::default()).into_iter();
        let cache = verdicts.filter(|verdict| verdict.cause == Cause::CacheFailure);
        cache.map(|verdict| verdict.confidence).sum::<f64>()
    };
    assert!(found(40, true) < 0.1, "{}", found(40, true));
    assert!(found(40, false) > 0.7, "{}", found(40, false));
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
