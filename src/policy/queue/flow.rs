//! One queue of a tier: its waiters, its account with the round robin, and `CoDel`'s view of it.

use super::Turn;
use super::list::{Linked, Links, List};
use super::node::Node;
use super::refusal::Refusal;
use crate::clock::Instant;
use crate::policy::slab::Slab;

/// For how many targets the sojourn may stay above its target before that is a standing queue. `CoDel` has an interval
/// of 100 ms to a target of 5 ms; for a slower service both grow, or a client's burst of three would be one.
const INTERVAL_IN_TARGETS: u32 = 20;

/// Which of its tier's rings a queue is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// None: nobody waits in it.
    Idle,
    /// Those that came lately and have not used up what they had earned, by the time of their oldest waiter.
    Fresh,
    /// Those served in rotation.
    Old,
    /// Those passed over for the present turn.
    Blocked,
}

#[derive(Debug)]
pub(super) struct Flow {
    links: Links,
    pub(super) ring: Ring,
    /// Where it goes back to after it was passed over.
    pub(super) home: Ring,
    pub(super) waiters: List,
    /// When its oldest waiter came.
    pub(super) oldest: Instant,
    /// Upstream time it may still use in this round, in nanoseconds by weight; what it used too much, below zero.
    pub(super) deficit: i64,
    /// The tier's round its deficit stands for.
    pub(super) round: u64,
    /// Since when the oldest waiter has been above its target without a break.
    late_since: Option<Instant>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            links: Links::default(),
            ring: Ring::Idle,
            home: Ring::Old,
            waiters: List::default(),
            oldest: Instant::ZERO,
            deficit: 0,
            round: 0,
            late_since: None,
        }
    }
}

impl Flow {
    /// Looks at its oldest waiter; true once there has been a standing queue for an interval.
    pub(super) fn is_overloaded<T>(&mut self, turn: &Turn, nodes: &Slab<Node<T>>) -> bool {
        // Who is within its share is not the one whose requests stand in line.
        if self.ring == Ring::Fresh {
            self.late_since = None;
            return false;
        }
        let oldest = self.waiters.first().and_then(|index| nodes.at(index));
        let late = |oldest: &&Node<T>| oldest.sojourn(turn.now) > oldest.patience(turn.max_wait);
        let Some(oldest) = oldest.filter(late) else {
            self.late_since = None;
            return false;
        };
        let from = || oldest.late_from(turn.max_wait);
        let since = *self.late_since.get_or_insert_with(from);
        turn.now.since(since) >= oldest.target() * INTERVAL_IN_TARGETS
    }

    /// Whoever is served next: the oldest, or while overloaded the newest.
    pub(super) fn next<T>(&mut self, turn: &Turn, nodes: &Slab<Node<T>>) -> Option<u32> {
        if self.is_overloaded(turn, nodes) {
            self.waiters.last()
        } else {
            self.waiters.first()
        }
    }

    /// Whoever is served last, and so loses least by being sent away.
    pub(super) fn least_entitled<T>(&mut self, turn: &Turn, nodes: &Slab<Node<T>>) -> Option<u32> {
        if self.is_overloaded(turn, nodes) {
            self.waiters.first()
        } else {
            self.waiters.last()
        }
    }

    /// The oldest waiter and its refusal, if it has waited too long: past `max_wait` or its deadline, or, while
    /// overloaded, twice the patience with it (Facebook's rule). The last one is left in peace, so that shedding never
    /// idles the upstream.
    pub(super) fn outstayed<T>(
        &mut self,
        turn: &Turn,
        nodes: &Slab<Node<T>>,
    ) -> Option<(u32, Refusal)> {
        let index = self.waiters.first()?;
        let oldest = nodes.at(index)?;
        if let Some(refusal) = oldest.overdue(turn.now, turn.max_wait) {
            return Some((index, refusal));
        }
        let (sojourn, allowed) = (oldest.sojourn(turn.now), oldest.patience(turn.max_wait) * 2);
        let shed = sojourn > allowed && self.waiters.len() > 1 && self.is_overloaded(turn, nodes);
        shed.then(|| (index, Refusal::queue_timeout(sojourn, allowed)))
    }

    /// The queue before it in its ring.
    pub(super) fn before(&self) -> Option<u32> {
        self.links.before()
    }

    /// Nobody waits any more: there is no standing queue.
    pub(super) const fn rest(&mut self) {
        self.late_since = None;
    }
}

impl Linked for Flow {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}
