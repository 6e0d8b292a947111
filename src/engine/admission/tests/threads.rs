//! The gate from many threads: nothing leaks, nobody is forgotten, whatever the interleaving.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, Thread};

use super::*;
use crate::clock::ManualClock;

const THREADS: u64 = 4;
const ROUNDS: u64 = 5_000;

/// Wakes a parked thread.
struct Unpark(Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}

/// Waits, parked, for the fate of a ticket; only a wake-up can end it before the simulated time does, and that
/// stands still. A lost one hangs the test.
fn block_on(ticket: &mut Ticket, clock: &ManualClock) -> Result<Permit, Refusal> {
    let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&unpark));
    loop {
        if let Poll::Ready(fate) = ticket.poll(clock.now(), &mut Context::from_waker(&waker)) {
            return fate;
        }
        while !unpark.1.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

/// Tracks how many hold a permit, independently of the gate.
#[derive(Default)]
struct Inside {
    now: AtomicU64,
    most: AtomicU64,
}

impl Inside {
    fn enter(&self) {
        let inside = self.now.fetch_add(1, Ordering::AcqRel) + 1;
        self.most.fetch_max(inside, Ordering::AcqRel);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::AcqRel);
    }
}

fn run_threads(body: impl Fn(u64, &mut fastrand::Rng) + Sync) {
    thread::scope(|scope| {
        for number in 0..THREADS {
            let body = &body;
            scope.spawn(move || body(number, &mut fastrand::Rng::with_seed(number)));
        }
    });
}

fn assert_idle(gate: &Gate, now: Instant) -> Totals {
    assert_eq!(in_flight_and_waiting(gate), (0, 0));
    let counts = gate.word.counts();
    assert_eq!((counts.in_flight, counts.waiting), (0, 0));
    let totals = gate.totals(now);
    assert_eq!((totals.in_flight, totals.started), (0, 0));
    assert!((0..100).all(|client| gate.clients.held(client) == 0));
    let waiters = gate.lock();
    assert_eq!((waiters.slab.len(), waiters.queue.len()), (0, 0));
    totals
}

#[test]
fn the_limit_is_never_exceeded_and_everybody_gets_a_turn() {
    for limit in [1, 2, 3] {
        let gate = gate(limit);
        let clock = ManualClock::default();
        let inside = Inside::default();
        run_threads(|number, rng| {
            for _ in 0..ROUNDS {
                let client = number + 10 * rng.u64(0..5);
                let permit = match gate.admit(clock.now(), &from(client)) {
                    Admitted::Permit(permit) => permit,
                    Admitted::Queued(mut ticket) => block_on(&mut ticket, &clock).unwrap(),
                    Admitted::Refused(refusal) => panic!("{refusal:?}"),
                };
                inside.enter();
                if rng.u8(..) < 64 {
                    thread::yield_now();
                }
                inside.leave();
                succeed(permit, clock.now(), MS);
            }
        });
        assert!(inside.most.load(Ordering::Acquire) <= u64::from(limit));
        let totals = assert_idle(&gate, clock.now());
        assert_eq!(totals.completed, THREADS * ROUNDS);
    }
}

#[test]
fn vanishing_waiters_moving_limits_and_evictions_leave_nothing_behind() {
    let gate = Arc::new(Gate::new(&config(Mode::Enforce, 2, 3, 0.5)));
    let clock = ManualClock::default();
    let ended = AtomicU64::new(0);
    run_threads(|_, rng| {
        let mut held = Vec::new();
        for _ in 0..ROUNDS {
            clock.advance(Duration::from_micros(rng.u64(0..3_000)));
            match gate.admit(clock.now(), &from(rng.u64(0..20))) {
                Admitted::Permit(permit) => held.push(permit),
                Admitted::Queued(mut ticket) => {
                    if rng.bool() {
                        let noop = &mut Context::from_waker(Waker::noop());
                        if let Poll::Ready(Ok(permit)) = ticket.poll(clock.now(), noop) {
                            held.push(permit);
                        }
                    }
                }
                Admitted::Refused(_) => {}
            }
            if rng.u8(..) < 8 {
                gate.set_limit(rng.u32(0..6), clock.now());
            }
            while held.len() > rng.usize(0..3) {
                let permit = held.swap_remove(rng.usize(0..held.len()));
                ended.fetch_add(1, Ordering::Relaxed);
                if rng.bool() {
                    succeed(permit, clock.now(), MS);
                }
            }
        }
        ended.fetch_add(held.len() as u64, Ordering::Relaxed);
    });
    let totals = assert_idle(&gate, clock.now());
    assert_eq!(totals.completed + totals.ignored, ended.into_inner());
}

#[test]
fn waiters_survive_moving_limits_and_neighbours_that_vanish() {
    let gate = gate(1);
    let clock = ManualClock::default();
    let done = AtomicU64::new(0);
    run_threads(|number, rng| {
        if number == 0 {
            while done.load(Ordering::Acquire) < THREADS - 1 {
                gate.set_limit(rng.u32(1..4), clock.now());
                drop(gate.admit(clock.now(), &from(99)));
                thread::yield_now();
            }
            return;
        }
        for _ in 0..ROUNDS {
            match gate.admit(clock.now(), &from(number)) {
                Admitted::Permit(permit) => succeed(permit, clock.now(), MS),
                Admitted::Queued(mut ticket) => {
                    succeed(block_on(&mut ticket, &clock).unwrap(), clock.now(), MS);
                }
                Admitted::Refused(refusal) => panic!("{refusal:?}"),
            }
        }
        done.fetch_add(1, Ordering::AcqRel);
    });
    let totals = assert_idle(&gate, clock.now());
    assert_eq!(totals.completed, (THREADS - 1) * ROUNDS);
}

#[test]
fn ghosts_leave_nothing_behind() {
    let gate = Arc::new(Gate::new(&config(Mode::Observe, 2, 3, 0.5)));
    let clock = ManualClock::default();
    run_threads(|_, rng| {
        let mut held = Vec::new();
        for _ in 0..ROUNDS {
            clock.advance(Duration::from_micros(rng.u64(0..3_000)));
            held.push(admitted(&gate, clock.now(), rng.u64(0..20)));
            while held.len() > rng.usize(0..4) {
                let permit = held.swap_remove(rng.usize(0..held.len()));
                permit.complete(clock.now(), Completion::Success, MS);
            }
        }
    });
    let totals = assert_idle(&gate, clock.now());
    assert_eq!(totals.completed + totals.ignored, THREADS * ROUNDS);
}
