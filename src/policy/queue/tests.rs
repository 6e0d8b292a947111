//! The queue in simulated time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::Reason;

mod properties;

const MS: Duration = Duration::from_millis(1);

const fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// A request of `client` for 10 ms in the first tier.
const fn from(client: u64) -> Request {
    Request {
        client,
        tier: 0,
        weight: 1,
        cost: Duration::from_millis(10),
        deadline: None,
    }
}

const fn in_tier(client: u64, tier: u8) -> Request {
    Request {
        tier,
        ..from(client)
    }
}

fn config(max_wait: Duration, max_length: u32) -> Config {
    Config::try_new(max_wait, max_length, Fairness::Client, 0.25).unwrap()
}

/// A queue in which nobody waits too long.
fn patient(max_length: u32) -> FairQueue<u64> {
    FairQueue::new(config(Duration::from_secs(3_600), max_length))
}

fn push(queue: &mut FairQueue<u64>, now: Instant, request: Request) -> Ticket {
    let pushed = queue.push(now, &request, request.client).unwrap();
    assert_eq!(pushed.evicted, None);
    pushed.ticket
}

/// Pops one, and nobody may be dropped.
fn pop(queue: &mut FairQueue<u64>, now: Instant) -> Option<u64> {
    let popped = queue.pop(now, |_| false, |client, why| panic!("{client}: {why:?}"));
    popped.map(|popped| popped.payload)
}

/// Pops one, and says who was dropped.
fn pop_dropping(queue: &mut FairQueue<u64>, now: Instant) -> (Option<u64>, Vec<(u64, Reason)>) {
    let mut dropped = Vec::new();
    let popped = queue.pop(
        now,
        |_| false,
        |client, why| dropped.push((client, why.reason)),
    );
    (popped.map(|popped| popped.payload), dropped)
}

fn tally(served: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u32> {
    served.into_iter().fold(BTreeMap::new(), |mut sum, client| {
        *sum.entry(client).or_default() += 1;
        sum
    })
}

/// Has `client` use up at once what a newcomer may, and leaves the waiter `last` in its queue.
fn in_rotation(queue: &mut FairQueue<u64>, client: u64, last: u64) {
    let burst = u64::try_from(tier::BURST).unwrap();
    for name in 0..burst {
        queue.push(at(0), &from(client), name).unwrap();
    }
    queue.push(at(0), &from(client), last).unwrap();
    for name in 0..burst {
        assert_eq!(pop(queue, at(0)), Some(name));
    }
}

#[test]
fn clients_take_turns_however_much_one_of_them_sends() {
    let mut queue = patient(1_000);
    for client in 1..=5 {
        in_rotation(&mut queue, client, client);
    }
    for _ in 0..100 {
        push(&mut queue, at(0), from(1));
    }
    for client in 2..=5 {
        for _ in 0..10 {
            push(&mut queue, at(0), from(client));
        }
    }
    let served = tally((0..50).filter_map(|_| pop(&mut queue, at(0))));
    for client in 1..=5 {
        assert!((9..=11).contains(&served[&client]), "{served:?}");
    }
}

#[test]
fn a_newcomer_goes_before_those_in_rotation_for_a_burst() {
    let mut queue = patient(1_000);
    for client in 1..=20 {
        in_rotation(&mut queue, client, client);
        for _ in 0..20 {
            push(&mut queue, at(0), from(client));
        }
    }
    for _ in 0..200 {
        assert!(pop(&mut queue, at(0)).is_some());
    }
    for _ in 0..40 {
        push(&mut queue, at(1), from(99));
    }
    // Ten rounds have passed, and it was there for none of them: it has what a newcomer has.
    let next: Vec<_> = (0..53).filter_map(|_| pop(&mut queue, at(1))).collect();
    assert_eq!(next[..32], [99; 32], "a burst");
    assert_eq!(tally(next)[&99], 33, "then as one of twenty-one");
}

#[test]
fn those_within_their_share_go_in_the_order_of_their_coming() {
    let mut queue = patient(1_000);
    in_rotation(&mut queue, 1, 100);
    for (millis, client) in [(1, 2), (2, 3), (3, 2), (4, 4), (5, 3), (6, 2)] {
        queue.push(at(millis), &from(client), millis).unwrap();
    }
    let order: Vec<_> = (0..7).filter_map(|_| pop(&mut queue, at(7))).collect();
    assert_eq!(order, [1, 2, 3, 4, 5, 6, 100]);
}

#[test]
fn turns_are_paid_by_cost_not_by_number() {
    let mut queue = patient(1_000);
    for _ in 0..400 {
        push(&mut queue, at(0), from(1));
    }
    for _ in 0..100 {
        let costly = Request {
            cost: 40 * MS,
            ..from(2)
        };
        push(&mut queue, at(0), costly);
    }
    let served = tally((0..100).filter_map(|_| pop(&mut queue, at(0))));
    assert!((76..=84).contains(&served[&1]), "{served:?}");
}

#[test]
fn weights_multiply_the_turns() {
    let mut queue = patient(1_000);
    for _ in 0..300 {
        push(&mut queue, at(0), from(1));
        let heavy = Request {
            weight: 3,
            ..from(2)
        };
        push(&mut queue, at(0), heavy);
    }
    let served = tally((0..200).filter_map(|_| pop(&mut queue, at(0))));
    assert!((145..=155).contains(&served[&2]), "{served:?}");
}

#[test]
fn what_a_turn_really_took_is_settled_afterwards() {
    let mut queue = patient(1_000);
    for _ in 0..300 {
        push(&mut queue, at(0), from(1));
        push(&mut queue, at(0), from(2));
    }
    let mut served = Vec::new();
    for _ in 0..120 {
        let popped = queue.pop(at(0), |_| false, |_, _| {}).unwrap();
        let client = popped.payload;
        // Client 2's requests take three times what was expected.
        let actual = if client == 2 { 30 * MS } else { 10 * MS };
        queue.settle(popped.account, actual);
        served.push(client);
    }
    let served = tally(served);
    assert!((27..=33).contains(&served[&2]), "{served:?}");
}

#[test]
fn a_debt_so_deep_that_it_needs_many_rounds_delays_only_while_others_wait() {
    let mut queue = patient(1_000);
    push(&mut queue, at(0), from(1));
    push(&mut queue, at(0), from(1));
    push(&mut queue, at(0), from(2));
    let first = queue.pop(at(0), |_| false, |_, _| {}).unwrap();
    queue.settle(first.account, Duration::from_secs(50));
    assert_eq!(first.payload, 1);
    assert_eq!(pop(&mut queue, at(0)), Some(2));
    assert_eq!(pop(&mut queue, at(0)), Some(1), "alone, it goes at once");
    push(&mut queue, at(10_000), from(1));
    push(&mut queue, at(10_000), from(2));
    assert_eq!(pop(&mut queue, at(10_000)), Some(1), "all is forgotten");
}

#[test]
fn tiers_go_in_order_but_for_the_floor() {
    let mut queue = patient(10_000);
    for client in 0..30 {
        for _ in 0..100 {
            push(&mut queue, at(0), in_tier(client, (client % 3) as u8));
        }
    }
    let served = (0..800).filter_map(|_| pop(&mut queue, at(0)));
    let mut tiers = [0; 3];
    for client in served {
        tiers[(client % 3) as usize] += 1;
    }
    assert!((718..=722).contains(&tiers[0]), "{tiers:?}");
    assert!((39..=41).contains(&tiers[1]), "{tiers:?}");
    assert!((39..=41).contains(&tiers[2]), "{tiers:?}");
}

#[test]
fn a_tier_beyond_the_last_counts_as_the_last() {
    let mut queue = patient(10);
    push(&mut queue, at(0), in_tier(1, 200));
    push(&mut queue, at(0), in_tier(2, 1));
    assert_eq!(pop(&mut queue, at(0)), Some(2));
    assert_eq!(pop(&mut queue, at(0)), Some(1));
}

#[test]
fn without_fairness_a_tier_is_one_line() {
    let none = Config::try_new(MS * 100, 100, Fairness::None, 1.0).unwrap();
    let mut queue = FairQueue::new(none);
    let sent = [1, 1, 1, 2, 1, 3, 2];
    for client in sent {
        push(&mut queue, at(0), from(client));
    }
    let served: Vec<_> = (0..7).filter_map(|_| pop(&mut queue, at(0))).collect();
    assert_eq!(served, sent);
}

#[test]
fn a_blocked_client_is_passed_over_until_nobody_else_waits() {
    let mut queue = patient(100);
    for _ in 0..3 {
        push(&mut queue, at(0), from(1));
    }
    push(&mut queue, at(0), from(2));
    push(&mut queue, at(0), in_tier(3, 2));
    let blocked = |client| client == 1;
    let mut next = || queue.pop(at(0), blocked, |_, _| {}).map(|p| p.payload);
    let served: Vec<_> = std::iter::from_fn(&mut next).collect();
    assert_eq!(served, [2, 3, 1, 1, 1]);
}

#[test]
fn nobody_waits_longer_than_max_wait() {
    let mut queue = FairQueue::new(config(100 * MS, 10));
    let ticket = push(&mut queue, at(0), from(1));
    push(&mut queue, at(60), from(2));
    assert_eq!(queue.expires(ticket), Some(at(100)));
    assert_eq!(queue.overdue(ticket, at(99)), None);
    let refusal = queue.overdue(ticket, at(100)).unwrap();
    assert_eq!(refusal.reason, Reason::QueueTimeout);
    assert_eq!((refusal.value, refusal.threshold), (0.1, 0.1));
    let (served, dropped) = pop_dropping(&mut queue, at(100));
    assert_eq!(served, Some(2));
    assert_eq!(dropped, [(1, Reason::QueueTimeout)]);
}

#[test]
fn work_that_cannot_finish_in_time_is_never_started() {
    let mut queue = patient(10);
    let until = |millis| Request {
        deadline: Some(at(millis)),
        ..from(1)
    };
    let refusal = queue.push(at(0), &until(9), 1).unwrap_err();
    assert_eq!(refusal.reason, Reason::Deadline);
    assert_eq!((refusal.value, refusal.threshold), (0.009, 0.01));
    let ticket = push(&mut queue, at(0), until(30));
    push(&mut queue, at(0), from(2));
    let expires = queue.expires(ticket).unwrap();
    assert_eq!(expires, at(20).after(Duration::from_nanos(1)));
    assert_eq!(queue.overdue(ticket, at(20)), None);
    assert!(queue.overdue(ticket, expires).is_some());
    let (served, dropped) = pop_dropping(&mut queue, at(21));
    assert_eq!(served, Some(2));
    assert_eq!(dropped, [(1, Reason::Deadline)]);
    let passed = queue.push(
        at(5),
        &Request {
            cost: Duration::ZERO,
            ..until(5)
        },
        1,
    );
    assert_eq!(passed.unwrap_err().reason, Reason::Deadline);
}

#[test]
fn a_standing_queue_is_served_newest_first_and_shed_from_the_oldest() {
    let mut queue = FairQueue::new(config(Duration::from_secs(10), 100));
    let mut names = 0..;
    let mut send = |queue: &mut FairQueue<u64>, now| {
        let name = names.next().unwrap();
        queue.push(at(now), &from(7), name).unwrap();
    };
    in_rotation(&mut queue, 7, 99);
    for millis in 0..20 {
        send(&mut queue, millis);
    }
    assert_eq!(pop(&mut queue, at(20)), Some(99), "a burst goes in order");
    assert_eq!(pop(&mut queue, at(2_560)), Some(0), "not yet an interval");
    for millis in 3_990..3_995 {
        send(&mut queue, millis);
    }
    assert_eq!(pop(&mut queue, at(4_000)), Some(24), "newest first");
    let (served, dropped) = pop_dropping(&mut queue, at(5_100));
    assert_eq!(served, Some(20), "it stands no longer");
    let shed: Vec<_> = (1..20).map(|name| (name, Reason::QueueTimeout)).collect();
    assert_eq!(dropped, shed, "oldest first, down to twice the patience");
}

#[test]
fn a_short_queue_may_stand_for_ever() {
    let mut queue = FairQueue::new(config(Duration::from_millis(100), 100));
    in_rotation(&mut queue, 7, 0);
    for name in 1..2_000 {
        queue.push(at(name), &from(7), name).unwrap();
        if name > 20 {
            assert_eq!(pop(&mut queue, at(name)), Some(name - 21));
        }
    }
}

#[test]
fn shedding_leaves_one_waiter_to_serve() {
    let mut queue = FairQueue::new(config(Duration::from_secs(10), 100));
    in_rotation(&mut queue, 7, 99);
    for name in 0..20 {
        queue.push(at(0), &from(7), name).unwrap();
    }
    assert_eq!(pop(&mut queue, at(90)), Some(99));
    let (served, dropped) = pop_dropping(&mut queue, at(6_000));
    assert_eq!((served, dropped.len()), (Some(19), 19));
}

#[test]
fn an_elephant_that_fills_the_queue_makes_room_for_a_mouse() {
    let mut queue = patient(100);
    let mut evicted = 0;
    for _ in 0..100 {
        push(&mut queue, at(0), from(1));
    }
    for mouse in 2..=51 {
        let pushed = queue.push(at(1), &from(mouse), mouse).unwrap();
        let (client, why) = pushed.evicted.unwrap();
        assert_eq!((client, why.reason), (1, Reason::FairShare));
        evicted += 1;
        let own = queue.push(at(1), &from(1), 1).unwrap_err();
        assert_eq!(own.reason, Reason::FairShare);
    }
    assert_eq!((evicted, queue.len()), (50, 100));
}

#[test]
fn a_full_queue_of_one_client_is_full() {
    let mut queue = patient(3);
    for _ in 0..3 {
        push(&mut queue, at(0), from(1));
    }
    let refusal = queue.push(at(0), &from(1), 1).unwrap_err();
    assert_eq!(refusal.reason, Reason::QueueFull);
    assert_eq!((refusal.value, refusal.threshold), (3.0, 3.0));
    let closed = patient(0).push(at(0), &from(1), 1).unwrap_err();
    assert_eq!(closed.reason, Reason::QueueFull);
}

#[test]
fn the_least_important_tier_gives_way_down_to_its_floor() {
    let mut queue = patient(100);
    for client in 0..20 {
        for _ in 0..5 {
            push(&mut queue, at(0), in_tier(client, 2));
        }
    }
    for client in 100..195 {
        let pushed = queue.push(at(0), &from(client), client).unwrap();
        assert!(pushed.evicted.is_some_and(|(client, _)| client < 20));
    }
    let refusal = queue.push(at(0), &from(200), 200).unwrap_err();
    assert_eq!(refusal.reason, Reason::QueueFull, "5 of 100 are the floor");
    let refusal = queue.push(at(0), &in_tier(201, 2), 201).unwrap_err();
    assert_eq!(refusal.reason, Reason::QueueFull);
    assert_eq!(queue.len(), 100);
}

#[test]
fn a_cancelled_waiter_frees_its_place_at_once_and_its_ticket_is_stale() {
    let mut queue = patient(1);
    let first = push(&mut queue, at(0), from(1));
    assert_eq!(queue.cancel(first), Some(1));
    let second = push(&mut queue, at(0), from(2));
    assert_eq!(queue.cancel(first), None);
    assert_eq!(
        (queue.expires(first), queue.overdue(first, at(9))),
        (None, None)
    );
    assert_eq!(pop(&mut queue, at(0)), Some(2));
    assert_eq!(queue.cancel(second), None);
}

#[test]
fn new_settings_keep_who_waits() {
    let mut queue = patient(10);
    for tier in 0..3 {
        push(&mut queue, at(0), in_tier(u64::from(tier), tier));
    }
    let narrow = Config::try_new(MS, 2, Fairness::None, 1.0).unwrap();
    queue.update(narrow.with_tiers(1, 0.0).unwrap());
    assert_eq!(queue.len(), 3);
    let served: Vec<_> = (0..3).filter_map(|_| pop(&mut queue, at(0))).collect();
    assert_eq!(served, [0, 1, 2]);
    queue.update(config(MS, 10).with_tiers(5, 0.01).unwrap());
    push(&mut queue, at(0), in_tier(4, 4));
    assert_eq!(pop(&mut queue, at(0)), Some(4));
}
