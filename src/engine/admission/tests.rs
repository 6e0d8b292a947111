//! The gate by hand, in simulation, and from many threads.

use std::sync::atomic::AtomicUsize;
use std::task::{Context, Wake};

use super::*;
use crate::model::Reason;
use crate::policy::queue::{self, Fairness};

mod simulation;
mod threads;

const MS: Duration = Duration::from_millis(1);

const fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

const fn from(client: u64) -> Request {
    Request {
        client,
        tier: 0,
        weight: 1,
        cost: Duration::from_millis(50),
        deadline: None,
    }
}

fn config(mode: Mode, limit: u32, max_length: u32, share: f64) -> Config {
    let queue = queue::Config::try_new(100 * MS, max_length, Fairness::Client, share).unwrap();
    Config::try_new(mode, limit, 2, queue).unwrap()
}

fn gate(limit: u32) -> Arc<Gate> {
    Arc::new(Gate::new(&config(Mode::Enforce, limit, 100, 1.0)))
}

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn admitted(gate: &Arc<Gate>, now: Instant, client: u64) -> Permit {
    match gate.admit(now, &from(client)) {
        Admitted::Permit(permit) => permit,
        other => panic!("{other:?}"),
    }
}

/// A ticket that was polled once, and what rings when it is to be polled again.
fn queued(gate: &Arc<Gate>, now: Instant, client: u64) -> (Ticket, Arc<Bell>) {
    let Admitted::Queued(mut ticket) = gate.admit(now, &from(client)) else {
        panic!("not queued");
    };
    let bell = Arc::new(Bell::default());
    assert!(poll(&mut ticket, now, &bell).is_pending());
    (ticket, bell)
}

fn refused(gate: &Arc<Gate>, now: Instant, request: &Request) -> Refusal {
    match gate.admit(now, request) {
        Admitted::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn poll(ticket: &mut Ticket, now: Instant, bell: &Arc<Bell>) -> Poll<Result<Permit, Refusal>> {
    let waker = Waker::from(Arc::clone(bell));
    ticket.poll(now, &mut Context::from_waker(&waker))
}

fn ready(ticket: &mut Ticket, now: Instant) -> Result<Permit, Refusal> {
    match poll(ticket, now, &Arc::new(Bell::default())) {
        Poll::Ready(fate) => fate,
        Poll::Pending => panic!("pending"),
    }
}

fn succeed(permit: Permit, now: Instant, time: Duration) {
    assert_eq!(permit.complete(now, Completion::Success, time), None);
}

fn in_flight_and_waiting(gate: &Gate) -> (u32, u32) {
    (gate.in_flight(), gate.waiting())
}

#[test]
fn a_limit_of_nothing_is_refused() {
    let queue = queue::Config::default();
    for limit in [0, MAX_LIMIT + 1] {
        let config = Config::try_new(Mode::Enforce, limit, 1, queue);
        assert_eq!(config, Err(InvalidConfig::Limit));
    }
    let gate = gate(3);
    gate.set_limit(0, at(0));
    assert_eq!(gate.limit(), 1);
    drop(admitted(&gate, at(0), 1));
}

#[test]
fn a_slot_goes_from_hand_to_hand_without_being_free_between() {
    let gate = gate(1);
    let first = admitted(&gate, at(0), 1);
    let (mut second, bell) = queued(&gate, at(1), 2);
    assert_eq!((in_flight_and_waiting(&gate), bell.rung()), ((1, 1), 0));
    succeed(first, at(50), 50 * MS);
    assert_eq!((in_flight_and_waiting(&gate), bell.rung()), ((1, 0), 1));
    let (third, _) = queued(&gate, at(50), 3);
    let permit = ready(&mut second, at(51)).unwrap();
    assert_eq!(permit.started(), at(50));
    drop(third);
    drop(permit);
    assert_eq!(in_flight_and_waiting(&gate), (0, 0));
}

#[test]
fn a_grant_that_nobody_fetches_is_handed_on() {
    let gate = gate(1);
    let first = admitted(&gate, at(0), 1);
    let (second, _) = queued(&gate, at(1), 2);
    let (mut third, bell) = queued(&gate, at(2), 3);
    drop(first);
    assert_eq!(bell.rung(), 0);
    drop(second);
    assert_eq!(bell.rung(), 1);
    drop(ready(&mut third, at(3)).unwrap());
    assert_eq!(in_flight_and_waiting(&gate), (0, 0));
    assert_eq!(gate.totals(at(4)).started, 0);
}

#[test]
fn a_ticket_expires_when_it_says_so() {
    let gate = gate(1);
    let _first = admitted(&gate, at(0), 1);
    let (mut second, bell) = queued(&gate, at(10), 2);
    assert_eq!(second.expires(), at(110));
    assert!(poll(&mut second, at(109), &bell).is_pending());
    let refusal = ready(&mut second, at(110)).unwrap_err();
    assert_eq!(refusal.reason, Reason::QueueTimeout);
    assert_eq!(refusal.waited, 100 * MS);
    assert_eq!(gate.waiting(), 0);
    assert!(
        poll(&mut second, at(111), &bell).is_pending(),
        "it is through"
    );
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once_where_it_would_have_to_wait() {
    let gate = gate(1);
    let until = |millis| Request {
        deadline: Some(at(millis)),
        ..from(2)
    };
    let Admitted::Permit(early) = gate.admit(at(0), &until(10)) else {
        panic!("an idle upstream is worth a try");
    };
    assert_eq!(refused(&gate, at(0), &until(49)).reason, Reason::Deadline);
    drop(early);
    assert_eq!(refused(&gate, at(10), &until(10)).reason, Reason::Deadline);
    assert_eq!(in_flight_and_waiting(&gate), (0, 0));
    let _first = admitted(&gate, at(20), 1);
    let Admitted::Queued(ticket) = gate.admit(at(20), &until(100)) else {
        panic!("it may wait");
    };
    assert!(ticket.expires() > at(50) && ticket.expires() < at(51));
}

#[test]
fn a_full_queue_tells_whom_it_evicts() {
    let gate = Arc::new(Gate::new(&config(Mode::Enforce, 1, 3, 1.0)));
    let _first = admitted(&gate, at(0), 1);
    let (_oldest, _) = queued(&gate, at(0), 1);
    let (_older, _) = queued(&gate, at(0), 1);
    let (mut newest, bell) = queued(&gate, at(0), 1);
    let (_mouse, _) = queued(&gate, at(1), 2);
    assert_eq!(bell.rung(), 1);
    let refusal = ready(&mut newest, at(1)).unwrap_err();
    assert_eq!(refusal.reason, Reason::FairShare);
    assert_eq!((refusal.value, refusal.threshold), (3.0, 1.0));
    assert_eq!(gate.waiting(), 3);
}

#[test]
fn a_higher_limit_admits_waiters_at_once_and_a_lower_one_sends_nobody_away() {
    let gate = gate(1);
    let mut inside = vec![admitted(&gate, at(0), 1)];
    let mut tickets: Vec<_> = (2..6).map(|client| queued(&gate, at(0), client)).collect();
    gate.set_limit(4, at(10));
    assert_eq!(in_flight_and_waiting(&gate), (4, 1));
    let rung = tickets.iter().filter(|(_, bell)| bell.rung() == 1).count();
    assert_eq!(rung, 3);
    for (ticket, _) in tickets.iter_mut().take(3) {
        inside.push(ready(ticket, at(10)).unwrap());
    }
    gate.set_limit(2, at(20));
    for left in [3, 2] {
        drop(inside.pop());
        assert_eq!(in_flight_and_waiting(&gate), (left, 1));
    }
    drop(inside.pop());
    assert_eq!(in_flight_and_waiting(&gate), (2, 0));
    drop((inside, tickets));
    assert_eq!(in_flight_and_waiting(&gate), (0, 0));
}

#[test]
fn no_client_holds_more_than_its_share_while_another_waits() {
    let gate = Arc::new(Gate::new(&config(Mode::Enforce, 8, 100, 0.25)));
    let mut held: Vec<_> = (0..8).map(|_| admitted(&gate, at(0), 1)).collect();
    let (mut own, _) = queued(&gate, at(0), 1);
    let mut others: Vec<_> = (2..8).map(|client| queued(&gate, at(1), client)).collect();
    for (other, bell) in &mut others {
        drop(held.pop());
        assert_eq!(bell.rung(), 1, "though the first client waits longer");
        held.insert(0, ready(other, at(2)).unwrap());
    }
    assert!(poll(&mut own, at(2), &Arc::default()).is_pending());
    let (mut last, _) = queued(&gate, at(3), 9);
    drop(held.pop());
    assert!(
        ready(&mut own, at(3)).is_ok(),
        "it holds one, and came first"
    );
    assert!(ready(&mut last, at(3)).is_ok());
}

#[test]
fn a_client_alone_may_hold_everything() {
    let gate = Arc::new(Gate::new(&config(Mode::Enforce, 8, 100, 0.25)));
    let mut held: Vec<_> = (0..8).map(|_| admitted(&gate, at(0), 1)).collect();
    for _ in 0..8 {
        let (mut next, _) = queued(&gate, at(1), 1);
        drop(held.pop());
        held.insert(0, ready(&mut next, at(1)).unwrap());
    }
    assert_eq!(gate.in_flight(), 8);
}

#[test]
fn streams_hold_no_slot_but_have_a_bound() {
    let gate = gate(1);
    let one = admitted(&gate, at(0), 1).detach(at(1)).unwrap();
    let _two = gate.open_stream().unwrap();
    let refusal = admitted(&gate, at(2), 1).detach(at(3)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Overload);
    assert_eq!((refusal.value, refusal.threshold), (2.0, 2.0));
    assert_eq!((gate.streams(), gate.in_flight()), (2, 0));
    drop(one);
    assert!(gate.open_stream().is_ok());
    assert_eq!(gate.totals(at(4)).ignored, 2);
}

#[test]
fn the_totals_count_what_happened() {
    let gate = gate(2);
    let one = admitted(&gate, at(10), 1);
    let two = admitted(&gate, at(30), 2);
    let (mut three, _) = queued(&gate, at(40), 3);
    let before = gate.totals(at(50));
    assert_eq!((before.in_flight, before.started), (2, 40_000_000));
    assert_eq!(before.limited, 10_000_000, "the present spell counts");
    succeed(one, at(60), 50 * MS);
    let three = ready(&mut three, at(60)).unwrap();
    three.complete(at(70), Completion::Failure, 10 * MS);
    drop(two);
    let expected = Totals {
        in_flight: 0,
        started: 0,
        completed: 1,
        failed: 1,
        ignored: 1,
        busy: 50_000_000,
        busy_square: 2_500_000_000,
        limited: 20_000_000,
    };
    assert_eq!(gate.totals(at(100)), expected);
}

#[test]
fn observing_delays_nobody_and_tells_what_would_have_been() {
    let gate = Arc::new(Gate::new(&config(Mode::Observe, 1, 2, 1.0)));
    let first = admitted(&gate, at(0), 1);
    let granted = admitted(&gate, at(1), 2);
    let waits = admitted(&gate, at(2), 3);
    let full = admitted(&gate, at(3), 3);
    assert_eq!(in_flight_and_waiting(&gate), (4, 2));
    let refusal = full.complete(at(4), Completion::Success, MS).unwrap();
    assert_eq!(refusal.reason, Reason::FairShare);
    succeed(first, at(50), 50 * MS);
    assert_eq!(in_flight_and_waiting(&gate), (2, 1));
    let expired = waits.complete(at(150), Completion::Success, MS).unwrap();
    assert_eq!(expired.reason, Reason::QueueTimeout);
    let behind = admitted(&gate, at(151), 4);
    succeed(granted, at(160), MS);
    assert_eq!(
        in_flight_and_waiting(&gate),
        (1, 0),
        "the ghost had its turn"
    );
    succeed(behind, at(170), MS);
    assert_eq!(in_flight_and_waiting(&gate), (0, 0));
    let late = Request {
        deadline: Some(at(180)),
        ..from(1)
    };
    let Admitted::Permit(late) = gate.admit(at(180), &late) else {
        panic!("observing refuses nobody");
    };
    let refusal = late.complete(at(190), Completion::Success, MS).unwrap();
    assert_eq!(refusal.reason, Reason::Deadline);
    assert_eq!(gate.totals(at(200)).completed, 6);
}

#[test]
fn new_settings_take_effect_on_the_next_request() {
    let gate = gate(1);
    let _first = admitted(&gate, at(0), 1);
    let (mut waiting, bell) = queued(&gate, at(0), 2);
    gate.update(&config(Mode::Observe, 7, 100, 1.0));
    assert_eq!(gate.limit(), 1, "the limit is what was learned");
    let through = admitted(&gate, at(1), 3);
    gate.update(&config(Mode::Enforce, 7, 100, 1.0));
    assert!(poll(&mut waiting, at(2), &bell).is_pending());
    succeed(through, at(3), MS);
    assert_eq!(in_flight_and_waiting(&gate), (1, 1));
}
