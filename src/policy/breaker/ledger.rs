//! What the breaker remembers beside its state: how it came there, and what it has to tell.

use std::collections::VecDeque;
use std::sync::Arc;

use super::era::Era;
use super::{Evidence, State};
use crate::clock::Instant;

/// Transitions kept for a reader that is late; beyond that the oldest is lost.
const JOURNAL: usize = 64;

/// Where an operator holds the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Refuse everything.
    Open,
    /// Admit everything.
    Closed,
}

/// An operator's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where to hold it.
    pub position: Position,
    /// When the order ends by itself.
    pub until: Instant,
    /// Why, in the operator's words.
    pub reason: Arc<str>,
}

/// What brought a transition about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// A ratio over the window.
    Tripped(Evidence),
    /// The probes.
    ProbesFailed(Evidence),
    /// The probes.
    ProbesPassed,
    /// The open time, the ramp or an operator's order came to its end.
    Elapsed,
    /// An operator forced it, or ended an order.
    Operator,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// When.
    pub at: Instant,
    /// The state before.
    pub from: State,
    /// The state after; the same as before only when an operator's order comes or goes.
    pub to: State,
    /// What brought it about.
    pub why: Why,
}

#[derive(Debug)]
pub(super) struct Ledger {
    /// When the closed state was left last.
    pub(super) opened: Option<Instant>,
    /// Recoveries that failed since then.
    pub(super) relapses: u32,
    /// The last order, in force or not.
    pub(super) order: Option<Order>,
    /// The state as the journal tells it, which lags behind what time alone brings about.
    told: State,
    journal: VecDeque<Transition>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            opened: None,
            relapses: 0,
            order: None,
            told: State::Closed,
            journal: VecDeque::new(),
        }
    }
}

impl Ledger {
    /// Notes that `from` gives way to `to`.
    pub(super) fn turn(&mut self, from: Era, to: Era, why: Why, now: Instant) {
        self.catch_up(from, now);
        if self.told == State::Closed {
            self.opened = Some(now);
            self.relapses = 0;
        }
        self.tell(to.state(now), why, now);
    }

    /// Notes what time alone made of `era`.
    pub(super) fn catch_up(&mut self, era: Era, now: Instant) {
        let state = era.state(now);
        if state != self.told {
            self.tell(state, Why::Elapsed, era.turns_at().unwrap_or(now));
        }
    }

    pub(super) fn take_journal(&mut self) -> Vec<Transition> {
        self.journal.drain(..).collect()
    }

    fn tell(&mut self, to: State, why: Why, at: Instant) {
        if self.journal.len() == JOURNAL {
            self.journal.pop_front();
        }
        let from = self.told;
        self.journal.push_back(Transition { at, from, to, why });
        self.told = to;
    }
}
