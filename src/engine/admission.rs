//! Admission to one upstream: a limit on the requests in flight, and the fair queue in front of it, shared by
//! all workers.
//!
//! While nobody waits and slots are free, a request takes one by a compare-and-swap and gives it back by another.
//! Only when the limit is full does anybody take the lock, and then who waits costs a place in the queue, a
//! slot in a slab and a waker: no task, no timer of ours (the driver keeps one), no allocation. A slot that is given back
//! while somebody waits is handed to whose turn it is and stays counted, so no newcomer can snatch it.
//!
//! # Why no wake-up is lost and no slot leaks
//!
//! The slots in use, the limit and the number of waiters are one atomic word (`word`), and every decision is
//! a compare-and-swap on the whole of it:
//! - a newcomer takes a slot only by a swap from "nobody waits, a slot is free", and becomes a waiter only
//!   by a swap from the contrary;
//! - who leaves gives its slot back without the lock only by a swap from "nobody waits".
//!
//! The swaps on one location are totally ordered. So of a newcomer that becomes a waiter and a holder that
//! leaves, either the leaver is first, and the newcomer's swap fails and finds the free slot; or the newcomer is,
//! and the leaver's fails and it goes for the lock. The newcomer holds the lock from before its swap until
//! it stands in the queue, so the leaver finds it there. While somebody waits, slots and waiters
//! change under the lock only; hence, outside of it, the number of waiters is the queue's length, and that somebody waits
//! implies that no slot is free. The order of the word alone carries this; acquire and release are there
//! because one expects of a semaphore that who takes a slot sees what was done before it was given back. What
//! the lock guards needs no argument. Counters for statistics and for clients' shares are relaxed: a
//! stale one shifts a turn, never the limit.
//!
//! # Shares
//!
//! While somebody waits nobody enters past the queue, and the queue passes over clients that hold their
//! `max_client_share` of the limit until there is nobody else. One client alone may hold everything.
//!
//! # Observing
//!
//! With [`Mode::Observe`] everybody is let through at once, and those who would have waited leave a *ghost* in the
//! queue. It gets its turn, and then its request counts as one with a slot; or it is sent away; and
//! [`Permit::complete`] tells. So the decisions are those of the same queue in the same order; what differs is that a
//! request runs while its ghost waits, and that an overloaded upstream is not relieved. With mode `off` there
//! is no gate.
//!
//! What it does badly: the order among waiters is one lock for all workers, held for the time of one turn
//! (well under a microsecond, a few when everybody in the queue has waited too long). A drop without a time, of a
//! permit or a ticket, acts at the latest time anybody brought, so who is then granted a slot may
//! seem to have waited a little less than it did.
//!
//! Depends on policy, model and the clock's [`Instant`].

mod clients;
mod config;
mod meter;
mod permit;
mod stream;
#[cfg(test)]
mod tests;
mod ticket;
mod waiters;
mod word;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use self::clients::Clients;
pub use self::config::{Config, InvalidConfig, Mode};
use self::meter::Meter;
use self::permit::Hold;
pub use self::permit::{Completion, Permit};
pub use self::stream::StreamPermit;
pub use self::ticket::Ticket;
use self::waiters::{Fate, Waiter, Waiters, Wakes};
pub use self::word::MAX_LIMIT;
use self::word::Word;
use crate::clock::Instant;
use crate::policy::concurrency::Totals;
use crate::policy::queue::{Account, Ticket as Place};
pub use crate::policy::queue::{Refusal, Request, Unit};
use crate::policy::slab::Key;

/// What [`Gate::admit`] decided.
#[derive(Debug)]
pub enum Admitted {
    /// Go ahead.
    Permit(Permit),
    /// Wait.
    Queued(Ticket),
    /// Go away.
    Refused(Refusal),
}

/// The admission to one upstream.
#[derive(Debug)]
pub struct Gate {
    word: Word,
    meter: Meter,
    clients: Clients,
    streams: AtomicU32,
    max_streams: AtomicU32,
    waiters: Mutex<Waiters>,
}

impl Gate {
    /// A gate nobody has passed yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            word: Word::new(config.limit),
            meter: Meter::default(),
            clients: Clients::new(),
            streams: AtomicU32::new(0),
            max_streams: AtomicU32::new(config.max_streams),
            waiters: Mutex::new(Waiters::new(config)),
        }
    }

    /// Changes the settings but for the limit, which [`Gate::set_limit`] has moved on since. Who is in flight or
    /// waits is not touched.
    pub fn update(&self, config: &Config) {
        self.max_streams
            .store(config.max_streams, Ordering::Relaxed);
        self.lock().update(config);
    }

    /// Decides about a request. A free slot is given whatever the expected cost, because an idle upstream
    /// is the way to learn that it has become faster; only a deadline that has passed is refused there.
    pub fn admit(self: &Arc<Self>, now: Instant, request: &Request) -> Admitted {
        let late = request.deadline.is_some_and(|deadline| deadline <= now);
        if !late && self.word.try_enter() {
            return self.enter(now, request);
        }
        let mut waiters = self.lock();
        let now = waiters.time(Some(now));
        if late {
            self.word.wait();
        } else if self.word.enter_or_wait() {
            drop(waiters);
            return self.enter(now, request);
        }
        let mut wakes = Wakes::default();
        let ghost = waiters.mode == Mode::Observe;
        let queued = self.enqueue(&mut waiters, now, request, ghost, &mut wakes);
        let expires = queued
            .ok()
            .and_then(|(_, place)| waiters.queue.expires(place));
        waiters.note();
        drop(waiters);
        wakes.wake();
        let gate = Arc::clone(self);
        match queued {
            Ok(place) if !ghost => {
                let expires = expires.unwrap_or(now);
                Admitted::Queued(Ticket::new(gate, *request, place, expires))
            }
            Ok((key, place)) => self.run(now, request, Hold::Ghost(key, place)),
            Err(refusal) if !ghost => Admitted::Refused(refusal),
            Err(refusal) => self.run(now, request, Hold::Nothing(refusal)),
        }
    }

    /// Opens a long-lived stream that holds no slot.
    ///
    /// # Errors
    /// When there are as many as there may be. The bound protects this process, so it holds in either mode.
    pub fn open_stream(self: &Arc<Self>) -> Result<StreamPermit, Refusal> {
        let bound = self.max_streams.load(Ordering::Relaxed);
        let another = |open| (open < bound).then_some(open + 1);
        self.streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, another)
            .map(|_| StreamPermit::new(Arc::clone(self)))
            .map_err(|open| Refusal::overload(open, bound))
    }

    /// Sets the limit; zero counts as one. A higher one admits waiters at once; a lower one sends nobody
    /// away that is inside, and admits nobody until enough have left.
    pub fn set_limit(&self, limit: u32, now: Instant) {
        let mut wakes = Wakes::default();
        let mut waiters = self.lock();
        let now = waiters.time(Some(now));
        self.word.set_limit(limit.max(1));
        while !waiters.queue.is_empty() && self.word.try_reserve() {
            self.hand_on(&mut waiters, now, &mut wakes);
        }
        waiters.note();
        drop(waiters);
        wakes.wake();
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.word.counts().limit
    }

    /// Requests in flight; while observing there may be more than the limit.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.meter.in_flight()
    }

    /// Slots this client holds; may be too high, never too low.
    #[must_use]
    pub fn held(&self, client: u64) -> u32 {
        self.clients.held(client)
    }

    /// Requests that wait; while observing, those that would.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.word.counts().waiting
    }

    /// Long-lived streams that are open.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    /// What was counted since the gate was made.
    #[must_use]
    pub fn totals(&self, now: Instant) -> Totals {
        let limited = self.lock().limited_until(now);
        self.meter.totals(now, limited)
    }

    fn enter(self: &Arc<Self>, now: Instant, request: &Request) -> Admitted {
        self.clients.enter(request.client);
        self.run(now, request, Hold::Slot(None))
    }

    fn run(self: &Arc<Self>, now: Instant, request: &Request, hold: Hold) -> Admitted {
        self.meter.start(now);
        Admitted::Permit(Permit::new(Arc::clone(self), request, now, hold))
    }

    /// Puts a request that the word counts as waiting into the queue, or counts it out again.
    fn enqueue(
        &self,
        waiters: &mut Waiters,
        now: Instant,
        request: &Request,
        ghost: bool,
        wakes: &mut Wakes,
    ) -> Result<(Key, Place), Refusal> {
        let waiter = Waiter {
            client: request.client,
            ghost,
            fate: Fate::Waiting(None),
        };
        let Some(key) = waiters.slab.insert(waiter) else {
            self.word.unwait(1);
            return Err(Refusal::no_room(
                waiters.slab.len(),
                waiters.slab.capacity(),
            ));
        };
        match waiters.queue.push(now, request, key) {
            Ok(pushed) => {
                if let Some((evicted, refusal)) = pushed.evicted {
                    self.word.unwait(1);
                    waiters.refuse(evicted, refusal, wakes);
                }
                Ok((key, pushed.ticket))
            }
            Err(refusal) => {
                self.word.unwait(1);
                waiters.slab.remove(key);
                Err(refusal)
            }
        }
    }

    /// Looks after a waiter: its fate, or the place where to leave a waker.
    fn poll_waiter(
        &self,
        key: Key,
        place: Place,
        now: Instant,
        waker: &Waker,
    ) -> Poll<Result<(Instant, Account), Refusal>> {
        let mut waiters = self.lock();
        let now = waiters.time(Some(now));
        let overdue = waiters.queue.overdue(place, now);
        let Some(waiter) = waiters.slab.get_mut(key) else {
            return Poll::Pending;
        };
        let fate = match &mut waiter.fate {
            Fate::Granted(at, account) => Ok((*at, *account)),
            Fate::Refused(refusal) => Err(*refusal),
            Fate::Waiting(left) => match overdue {
                Some(refusal) => {
                    waiters.queue.cancel(place);
                    self.word.unwait(1);
                    Err(refusal)
                }
                None => {
                    let stale = left.replace(waker.clone());
                    drop(waiters);
                    drop(stale);
                    return Poll::Pending;
                }
            },
        };
        let gone = waiters.slab.remove(key);
        waiters.note();
        drop(waiters);
        // A waker may own its task, and that task this gate's tickets: never drop one under the lock.
        drop(gone);
        Poll::Ready(fate)
    }

    /// Removes a waiter that went away or, of a ghost, whose request has ended; says why it was or would now
    /// be refused.
    fn withdraw(&self, key: Key, place: Place, now: Option<Instant>) -> Option<Refusal> {
        let mut wakes = Wakes::default();
        let mut waiters = self.lock();
        let now = waiters.time(now);
        let overdue = waiters.queue.overdue(place, now);
        let waiter = waiters.slab.remove(key)?;
        let refusal = match &waiter.fate {
            Fate::Waiting(_) => {
                waiters.queue.cancel(place);
                self.word.unwait(1);
                overdue
            }
            Fate::Granted(at, _) => {
                if !waiter.ghost {
                    self.meter.stop(*at);
                }
                self.clients.leave(waiter.client);
                self.hand_on(&mut waiters, now, &mut wakes);
                None
            }
            Fate::Refused(refusal) => Some(*refusal),
        };
        waiters.note();
        drop(waiters);
        drop(waiter);
        wakes.wake();
        refusal
    }

    /// Gives a slot back, or on to whom it is the turn of; `bill` is what a turn really took.
    fn release(&self, now: Option<Instant>, bill: Option<(Account, Duration)>) {
        if self.word.try_leave() {
            return;
        }
        let mut wakes = Wakes::default();
        let mut waiters = self.lock();
        let now = waiters.time(now);
        if let Some((account, actual)) = bill {
            waiters.queue.settle(account, actual);
        }
        self.hand_on(&mut waiters, now, &mut wakes);
        waiters.note();
        drop(waiters);
        wakes.wake();
    }

    /// Hands a slot that is counted to whom it is the turn of; gives it back when nobody is left, or the
    /// limit has fallen below the slots in use.
    fn hand_on(&self, waiters: &mut Waiters, now: Instant, wakes: &mut Wakes) {
        let counts = self.word.counts();
        if counts.in_flight > counts.limit {
            self.word.leave();
            return;
        }
        let share = (waiters.max_client_share * f64::from(counts.limit)).max(1.0);
        let blocked = |client| f64::from(self.clients.held(client) + 1) > share;
        let before = waiters.queue.len();
        match waiters.grant(now, blocked, wakes) {
            Some(holder) => {
                self.clients.enter(holder.client);
                if !holder.ghost {
                    self.meter.start(now);
                }
            }
            None => self.word.leave(),
        }
        self.word.unwait(before - waiters.queue.len());
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
