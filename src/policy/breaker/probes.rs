//! The places of the half-open state.
//!
//! A few requests go ahead and the rest wait for their fate. A probe that is given up gives its place back,
//! by its type: a leaked place would leave the breaker half-open for ever. One that simply never answers (a
//! stream that hangs) does not block either: when all places have been taken for a while, a new round is
//! handed out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::totals::{Call, Totals};
use super::{Live, PROBES};
use crate::clock::Instant;
use crate::policy::breaker::Evidence;

/// What the probes found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    Passed,
    Failed(Evidence),
}

#[derive(Debug, Default)]
pub(super) struct Probes {
    /// No place is free before this time. Lets refusals pass by the lock.
    none_before: AtomicU64,
    round: Mutex<Round>,
}

#[derive(Debug, Default)]
struct Round {
    /// The era these places belong to.
    era: u64,
    taken: u32,
    answers: Totals,
}

impl Probes {
    /// Hands out all places afresh, to probes of `era` only.
    pub(super) fn reset(&self, era: u64) {
        *self.lock() = Round {
            era,
            ..Round::default()
        };
        self.none_before.store(0, Ordering::Relaxed);
    }

    /// Takes a place, if there is one.
    pub(super) fn take(
        self: &Arc<Self>,
        era: u64,
        now: Instant,
        patience: Duration,
    ) -> Option<Probe> {
        if now < self.none_before() {
            return None;
        }
        let mut round = self.lock();
        if round.era != era {
            return None;
        }
        if round.taken >= PROBES {
            // Another thread may have taken the last place since the load above.
            if now < self.none_before() {
                return None;
            }
            round.taken = 0;
        }
        round.taken += 1;
        if round.taken == PROBES {
            let until = now.after(patience);
            self.none_before.store(until.as_nanos(), Ordering::Relaxed);
        }
        Some(Probe {
            probes: Some(Arc::clone(self)),
            era,
        })
    }

    /// No place is free before this time, as far as is known.
    pub(super) fn none_before(&self) -> Instant {
        Instant::from_nanos(self.none_before.load(Ordering::Relaxed))
    }

    fn give_back(&self, era: u64) {
        let mut round = self.lock();
        if round.era == era {
            round.taken = round.taken.saturating_sub(1);
            self.none_before.store(0, Ordering::Relaxed);
        }
    }

    fn answer(&self, era: u64, call: Call, config: &Live) -> Option<Verdict> {
        let mut round = self.lock();
        if round.era != era {
            return None;
        }
        let answers = &mut round.answers;
        answers.calls += 1;
        answers.failures += u32::from(call == Call::Failed);
        answers.slow += u32::from(call == Call::Slow);
        // Judged as parts of a full round: once enough have failed, the others cannot change the verdict.
        let whole = Totals {
            calls: answers.calls.max(PROBES),
            ..*answers
        };
        match config.judge(whole) {
            Some(evidence) => Some(Verdict::Failed(evidence)),
            None => (answers.calls >= PROBES).then_some(Verdict::Passed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the half-open state; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Probe {
    /// None once it has answered.
    probes: Option<Arc<Probes>>,
    era: u64,
}

impl Probe {
    pub(super) const fn era(&self) -> u64 {
        self.era
    }

    /// Answers for good, and says what the round found if that decides it.
    pub(super) fn answer(mut self, call: Call, config: &Live) -> Option<Verdict> {
        self.probes.take()?.answer(self.era, call, config)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(probes) = self.probes.take() {
            probes.give_back(self.era);
        }
    }
}
