//! Everything about a gate that needs its lock: who waits, and what became of them.

use std::task::Waker;

use super::{Config, Mode};
use crate::clock::Instant;
use crate::policy::queue::{Account, FairQueue, Fairness, Refusal};
use crate::policy::slab::{Key, Slab};

/// Waiters that have been told their fate but have not looked yet, at most.
const UNCLAIMED: u32 = 4_096;

/// One request that did not get a slot at once.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) client: u64,
    /// While observing: its request runs already, and only its ghost waits.
    pub(super) ghost: bool,
    pub(super) fate: Fate,
}

/// What became of a waiter so far.
#[derive(Debug)]
pub(super) enum Fate {
    /// It waits, and this wakes it; nothing to wake before its first poll, and never for a ghost.
    Waiting(Option<Waker>),
    /// A slot is its own, since this instant.
    Granted(Instant, Account),
    /// It was sent away.
    Refused(Refusal),
}

/// The queue and its waiters.
#[derive(Debug)]
pub(super) struct Waiters {
    pub(super) mode: Mode,
    pub(super) max_client_share: f64,
    pub(super) queue: FairQueue<Key>,
    pub(super) slab: Slab<Waiter>,
    /// The latest instant anybody brought: the time for those who have none.
    latest: Instant,
    /// Time in which somebody waited, in nanoseconds, but for the present spell.
    limited: u64,
    limited_since: Option<Instant>,
}

impl Waiters {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            mode: config.mode,
            max_client_share: max_client_share(config),
            queue: FairQueue::new(config.queue),
            slab: Slab::new(config.queue.max_length().saturating_add(UNCLAIMED)),
            latest: Instant::ZERO,
            limited: 0,
            limited_since: None,
        }
    }

    pub(super) fn update(&mut self, config: &Config) {
        self.mode = config.mode;
        self.max_client_share = max_client_share(config);
        self.queue.update(config.queue);
        self.slab
            .set_capacity(config.queue.max_length().saturating_add(UNCLAIMED));
    }

    /// The time to act by: `now`, or for a caller without one the latest seen, but never back in time.
    pub(super) fn time(&mut self, now: Option<Instant>) -> Instant {
        self.latest = self.latest.max(now.unwrap_or_default());
        self.latest
    }

    /// Notes whether somebody waits, at the end of every change.
    pub(super) fn note(&mut self) {
        if self.queue.is_empty() {
            self.limited = self.limited_until(self.latest);
            self.limited_since = None;
        } else {
            self.limited_since.get_or_insert(self.latest);
        }
    }

    /// Time in which somebody waited until `now`, in nanoseconds.
    pub(super) fn limited_until(&self, now: Instant) -> u64 {
        let spell = self
            .limited_since
            .map_or(0, |since| now.as_nanos().saturating_sub(since.as_nanos()));
        self.limited.wrapping_add(spell)
    }

    /// Grants a slot to whom it is the turn of, and seals the fate of those found to have waited too long.
    /// The one who holds the slot now.
    pub(super) fn grant(
        &mut self,
        now: Instant,
        blocked: impl Fn(u64) -> bool,
        wakes: &mut Wakes,
    ) -> Option<&Waiter> {
        let slab = &mut self.slab;
        let popped = self.queue.pop(now, blocked, |key, refusal| {
            wakes.add(seal(slab, key, Fate::Refused(refusal)));
        })?;
        let fate = Fate::Granted(now, popped.account);
        wakes.add(seal(&mut self.slab, popped.payload, fate));
        self.slab.get(popped.payload)
    }

    /// Sends a waiter away.
    pub(super) fn refuse(&mut self, key: Key, refusal: Refusal, wakes: &mut Wakes) {
        wakes.add(seal(&mut self.slab, key, Fate::Refused(refusal)));
    }
}

/// The share at which a client is passed over; none when clients are not told apart.
fn max_client_share(config: &Config) -> f64 {
    match config.queue.fairness() {
        Fairness::Client => config.queue.max_client_share(),
        Fairness::None => f64::INFINITY,
    }
}

/// Seals a waiter's fate and hands out what wakes it.
fn seal(slab: &mut Slab<Waiter>, key: Key, fate: Fate) -> Option<Waker> {
    let waiter = slab.get_mut(key)?;
    match std::mem::replace(&mut waiter.fate, fate) {
        Fate::Waiting(waker) => waker,
        Fate::Granted(..) | Fate::Refused(_) => None,
    }
}

/// Whom to wake once the lock is released. The usual one costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakes {
    pub(super) fn add(&mut self, waker: Option<Waker>) {
        if self.first.is_none() {
            self.first = waker;
        } else {
            self.rest.extend(waker);
        }
    }

    pub(super) fn wake(self) {
        self.first
            .into_iter()
            .chain(self.rest)
            .for_each(Waker::wake);
    }
}
