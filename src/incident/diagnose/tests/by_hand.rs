//! Histories written by hand: what a verdict has to see, and what it must not be misled by.

use super::{AFTER, BEFORE};
use crate::incident::diagnose::*;
use crate::incident::history::History;
use crate::incident::span::{Event, Fate};

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
    let found_after = |failing: f64, peers: [(f64, f64); 2]| {
        let [one, other] = peers;
        let endpoints = [(0, true, (1.0, 40.0)), (1, false, one), (2, false, other)];
        let endpoints = endpoints.map(|(id, ejected, (worst, attempts))| EndpointFact {
            id,
            ejected,
            worst,
            failures: worst * 5.0,
            attempts,
            failing,
            ..EndpointFact::default()
        });
        let verdicts = diagnose(&Facts::new(&history, &endpoints, Proxy::default()));
        let named = verdicts.iter().map(|one| (one.cause, one.subject));
        named.collect::<Vec<_>>()
    };
    // It was let in again, and failed again.
    let found = |peers| found_after(6.0, peers);
    let down = [(Cause::EndpointDown, Subject::Endpoint(0))];
    assert_eq!(found([(0.0, 40.0), (0.0, 40.0)]), down);
    let restarted = found_after(2.0, [(0.0, 40.0), (0.0, 40.0)]);
    assert_eq!(restarted, [], "it was started anew");
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
    let slower = found(8.0, false, 0.05, 0.16);
    assert_eq!(slower, down, "those that answer take four times as long");
    let slow = found(8.0, false, 0.05, 2.0);
    assert_eq!(slow, None, "those that answer are as slow");
}

/// Seconds in which so many requests each were sent to an endpoint and took so long.
fn seconds_of(history: &mut History, seconds: u32, requests: &[(u64, u32, f64)]) {
    for _ in 0..seconds {
        for &(endpoint, count, time) in requests {
            for client in 0..count {
                history.current().record(&Event {
                    client: u64::from(client % 5),
                    endpoint: Some(endpoint),
                    attempts: 1,
                    phases: [0.0, 0.0, 0.0, 0.0, time, 0.0, 0.0],
                    ..Event::default()
                });
            }
        }
        history.tick(true);
    }
}

#[test]
fn an_endpoint_that_is_slow_and_hardly_asked_for_it_is_slow_still() {
    let mut history = History::default();
    seconds_of(&mut history, BEFORE, &[(0, 10, 0.04), (1, 10, 0.04)]);
    seconds_of(&mut history, 3, &[(0, 8, 0.8), (1, 12, 0.04)]);
    seconds_of(&mut history, 10, &[(1, 20, 0.04)]);
    seconds_of(&mut history, 1, &[(0, 1, 0.8), (1, 19, 0.04)]);
    let found = diagnose(&Facts::new(&history, &[], Proxy::default()));
    let named: Vec<_> = found.iter().map(|one| (one.cause, one.subject)).collect();
    assert_eq!(named, [(Cause::SlowEndpoint, Subject::Endpoint(0))]);
}

#[test]
fn an_endpoint_far_slower_than_its_peers_is_slow_though_they_are_slower_as_well() {
    let mut history = History::default();
    seconds_of(&mut history, BEFORE, &[(0, 10, 0.04), (1, 10, 0.04)]);
    seconds_of(&mut history, AFTER, &[(0, 1, 0.6), (1, 20, 0.08)]);
    let found = diagnose(&Facts::new(&history, &[], Proxy::default()));
    let slow = found.iter().find(|one| one.cause == Cause::SlowEndpoint);
    let slow = slow.map(|one| (one.subject, one.confidence > 0.65));
    assert_eq!(slow, Some((Subject::Endpoint(0), true)), "{found:?}");
}

#[test]
fn what_is_refused_for_want_of_room_is_no_less_of_a_miss() {
    let mut history = History::default();
    let mut second = |hits: u32, misses: u32, refused: u32| {
        let fates = [(hits, Some(true)), (misses, Some(false)), (refused, None)];
        for (count, hit) in fates {
            for client in 0..count {
                history.current().record(&Event {
                    client: u64::from(client % 5),
                    endpoint: (hit == Some(false)).then_some(0),
                    attempts: u8::from(hit == Some(false)),
                    fate: if hit.is_none() {
                        Fate::Refused
                    } else {
                        Fate::Answered
                    },
                    hit,
                    phases: [0.0, 0.0, 0.0, 0.0, 0.04, 0.0, 0.0],
                    ..Event::default()
                });
            }
        }
        history.tick(true);
    };
    (0..BEFORE).for_each(|_| second(45, 30, 0));
    (0..12).for_each(|_| second(0, 30, 45));
    let found = diagnose(&Facts::new(&history, &[], Proxy::default()));
    assert_eq!(
        found.first().map(|one| one.cause),
        Some(Cause::CacheFailure)
    );
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
