//! One tier: deficit round robin over its queues.
//!
//! A queue is served while its deficit is above zero, pays each turn by its cost, and gets one quantum a
//! round: Shreedhar and Varghese's algorithm with the deficit allowed to go below zero, so that no cost needs
//! to be known to fit (as in Linux's `fq_codel`). As there, a queue that was idle goes before those in rotation until
//! it has used what it earned meanwhile, which is what makes a mouse's wait short; here it earns for up to 32
//! rounds, not one, because a client within its share over a second is not within it over every round. Among those
//! fresh queues whoever came first goes first: each is within its share, so that turns would only make some wait longer,
//! and in a simulated flood that was seven refusals in a thousand instead of one. What a queue owes when
//! it falls idle it still owes when it comes back, less a quantum for each round that passed. When the whole tier
//! falls idle a round passes for everybody; not all of them, or an elephant whose queue empties now and then would
//! each time begin anew as a mouse.

use std::time::Duration;

use super::flow::{Flow, Ring};
use super::hand::{QUEUES, deal};
use super::list::List;
use super::node::Node;
use super::refusal::Refusal;
use super::{Fairness, Turn};
use crate::clock::Instant;
use crate::policy::slab::Slab;

/// The deepest debt, one minute: more is forgotten, for a queue outlives the client that ran into it.
const MAX_DEBT: i64 = 60_000_000_000;

/// The rounds for which an idle queue earns. With one, a mouse that sends two requests at once has the second one
/// wait behind the elephant; each round more lets newcomers hold up the rotation by one request each. With eight, one in
/// a thousand of the requests of clients that use 85% of an even share came to wait behind the elephant.
pub(super) const BURST: i64 = 32;

/// How long nobody may have come to wait for all debts to be forgotten.
const CALM: Duration = Duration::from_secs(10);

/// The rounds that then pass: with the least quantum, more than the deepest debt is worth.
const AMNESTY: u64 = 1 << 16;

#[derive(Debug)]
pub(super) struct Tier {
    flows: Box<[Flow]>,
    fresh: List,
    old: List,
    blocked: List,
    /// When the last waiter came.
    joined: Instant,
    /// How many quanta a queue that always waited has been given.
    round: u64,
    pub(super) waiting: u32,
    /// What the floor owes this tier, in nanoseconds of upstream time.
    pub(super) credit: i64,
}

impl Tier {
    pub(super) fn new() -> Self {
        Self {
            flows: (0..QUEUES).map(|_| Flow::default()).collect(),
            fresh: List::default(),
            old: List::default(),
            blocked: List::default(),
            joined: Instant::ZERO,
            round: AMNESTY,
            waiting: 0,
            credit: 0,
        }
    }

    /// The queue a client joins: the one that ends with its own waiter, else the shortest of its hand. So one
    /// client is in one queue and has one turn a round, not one for each card it holds.
    pub(super) fn choose<T>(&self, client: u64, fairness: Fairness, nodes: &Slab<Node<T>>) -> u32 {
        if fairness == Fairness::None {
            return 0;
        }
        let mut shortest = (u32::MAX, 0);
        for card in deal(client) {
            let Some(flow) = self.flows.get(card as usize) else {
                continue;
            };
            let last = flow.waiters.last().and_then(|index| nodes.at(index));
            if last.is_some_and(|last| last.client == client) {
                return card;
            }
            let length = flow.waiters.len();
            if length < shortest.0 {
                shortest = (length, card);
            }
        }
        shortest.1
    }

    /// Queues somebody waits in.
    pub(super) const fn active(&self) -> u32 {
        self.fresh.len() + self.old.len() + self.blocked.len()
    }

    /// How many wait in this queue.
    pub(super) fn length(&self, flow: u32) -> u32 {
        self.flows
            .get(flow as usize)
            .map_or(0, |flow| flow.waiters.len())
    }

    /// The longest queue and its length.
    pub(super) fn longest(&self) -> (u32, u32) {
        let lengths = self.flows.iter().map(|flow| flow.waiters.len());
        let longest = (0..).zip(lengths).max_by_key(|(_, length)| *length);
        longest.unwrap_or((0, 0))
    }

    /// Who should leave this queue if somebody must.
    pub(super) fn least_entitled<T>(
        &mut self,
        flow: u32,
        turn: &Turn,
        nodes: &Slab<Node<T>>,
    ) -> Option<u32> {
        let flow = self.flows.get_mut(flow as usize)?;
        flow.least_entitled(turn, nodes)
    }

    /// Adds the waiter at `index` to its queue.
    pub(super) fn join<T>(
        &mut self,
        index: u32,
        flow: u32,
        turn: &Turn,
        nodes: &mut Slab<Node<T>>,
    ) {
        if self.waiting == 0 && turn.now.since(self.joined) >= CALM {
            self.round += AMNESTY;
        }
        self.joined = turn.now;
        let round = self.round;
        let Some(queue) = self.flows.get_mut(flow as usize) else {
            return;
        };
        queue.waiters.push_back(nodes, index);
        self.waiting += 1;
        if queue.ring != Ring::Idle {
            return;
        }
        queue.oldest = turn.now;
        let passed = i64::try_from(round.saturating_sub(queue.round)).unwrap_or(i64::MAX);
        let earned = turn.quantum.saturating_mul(passed);
        queue.deficit = queue
            .deficit
            .saturating_add(earned)
            .min(BURST * turn.quantum);
        queue.round = round;
        let ring = if queue.deficit > 0 {
            Ring::Fresh
        } else {
            Ring::Old
        };
        self.enter(flow, ring);
    }

    /// Removes the waiter at `index`, whatever its place.
    pub(super) fn leave<T>(&mut self, index: u32, nodes: &mut Slab<Node<T>>) -> Option<Node<T>> {
        let flow = nodes.at(index)?.flow;
        let queue = self.flows.get_mut(flow as usize)?;
        queue.waiters.remove(nodes, index);
        let oldest = queue.waiters.first().and_then(|first| nodes.at(first));
        let oldest = oldest.map(|node| node.arrived);
        self.waiting -= 1;
        match oldest {
            None => {
                queue.rest();
                self.enter(flow, Ring::Idle);
            }
            Some(oldest) if queue.ring == Ring::Fresh && oldest != queue.oldest => {
                queue.oldest = oldest;
                self.enter(flow, Ring::Fresh);
            }
            Some(oldest) => queue.oldest = oldest,
        }
        if self.waiting == 0 {
            self.round += 1;
        }
        nodes.remove_at(index)
    }

    /// Serves whose turn it is, and sends away on the way whoever has waited too long; those that are
    /// `blocked` only when nobody else is left.
    pub(super) fn serve<T>(
        &mut self,
        turn: &Turn,
        nodes: &mut Slab<Node<T>>,
        blocked: &impl Fn(u64) -> bool,
        dropped: &mut impl FnMut(T, Refusal),
    ) -> Option<Node<T>> {
        let node = self.pop(turn, nodes, blocked, dropped);
        while let Some(flow) = self.blocked.first() {
            let home = self.flows.get(flow as usize)?.home;
            self.enter(flow, home);
        }
        node.or_else(|| self.pop(turn, nodes, &|_| false, dropped))
    }

    /// Serves whose turn it is. None when nobody is left whom `blocked` lets pass.
    ///
    /// Each visit serves, drops a waiter, gives a quantum or passes over a blocked queue, and rounds in which
    /// everybody is in debt are given at once: no more than a few visits per active queue, on average one.
    fn pop<T>(
        &mut self,
        turn: &Turn,
        nodes: &mut Slab<Node<T>>,
        blocked: &impl Fn(u64) -> bool,
        dropped: &mut impl FnMut(T, Refusal),
    ) -> Option<Node<T>> {
        let mut in_debt = 0;
        loop {
            let flow = self.fresh.first().or_else(|| self.old.first())?;
            if let Some((index, refusal)) = self.overdue(flow, turn, nodes) {
                if let Some(node) = self.leave(index, nodes) {
                    dropped(node.payload, refusal);
                }
                continue;
            }
            let queue = self.flows.get_mut(flow as usize)?;
            if queue.deficit <= 0 {
                if in_debt > self.active() {
                    self.forward(turn.quantum);
                    in_debt = 0;
                } else {
                    self.credit(flow, turn.quantum);
                    in_debt += 1;
                }
                continue;
            }
            let index = queue.next(turn, nodes)?;
            let next = nodes.at(index)?;
            if blocked(next.client) {
                queue.home = queue.ring;
                self.enter(flow, Ring::Blocked);
                continue;
            }
            queue.deficit = (queue.deficit - next.charge()).max(-MAX_DEBT);
            return self.leave(index, nodes);
        }
    }

    /// Charges what a turn took beyond what was expected, or gives back what it did not need.
    pub(super) fn settle(&mut self, flow: u32, charge: i64, quantum: i64) {
        if let Some(queue) = self.flows.get_mut(flow as usize) {
            queue.deficit = queue
                .deficit
                .saturating_sub(charge)
                .clamp(-MAX_DEBT, BURST * quantum);
        }
    }

    /// Who at the head of this queue has to go: the oldest, or the next if its own deadline is too near.
    fn overdue<T>(
        &mut self,
        flow: u32,
        turn: &Turn,
        nodes: &Slab<Node<T>>,
    ) -> Option<(u32, Refusal)> {
        let queue = self.flows.get_mut(flow as usize)?;
        let oldest = queue.outstayed(turn, nodes);
        oldest.or_else(|| {
            let next = queue.next(turn, nodes)?;
            let refusal = nodes.at(next)?.overdue(turn.now, turn.max_wait)?;
            Some((next, refusal))
        })
    }

    /// Gives a queue in debt its quantum and sends it to the end of the rotation.
    fn credit(&mut self, flow: u32, quantum: i64) {
        if let Some(queue) = self.flows.get_mut(flow as usize) {
            queue.deficit += quantum;
            queue.round = self.round.max(queue.round + 1);
            self.round = queue.round;
            self.enter(flow, Ring::Old);
        }
    }

    /// Gives every queue in debt the rounds that the least indebted one needs.
    fn forward(&mut self, quantum: i64) {
        let indebted = |flow: &&mut Flow| flow.ring != Ring::Idle && flow.deficit <= 0;
        let needed = self.flows.iter_mut().filter(indebted);
        let rounds = needed
            .map(|flow| 1 - flow.deficit / quantum)
            .min()
            .unwrap_or(0);
        self.round += u64::try_from(rounds).unwrap_or(0);
        for flow in self.flows.iter_mut().filter(indebted) {
            flow.deficit += rounds.saturating_mul(quantum);
            flow.round = self.round;
        }
    }

    /// Where a queue stands in the fresh ring: behind the last one whose oldest waiter came before its own.
    fn behind(&self, flow: u32) -> Option<u32> {
        let oldest = |flow: u32| self.flows.get(flow as usize).map(|flow| flow.oldest);
        let own = oldest(flow);
        let mut place = self.fresh.last();
        while let Some(other) = place.filter(|other| oldest(*other) > own) {
            place = self.flows.get(other as usize)?.before();
        }
        place
    }

    /// Puts a queue at the end of a ring, or in its place among the fresh.
    fn enter(&mut self, flow: u32, ring: Ring) {
        let Some(queue) = self.flows.get_mut(flow as usize) else {
            return;
        };
        let left = std::mem::replace(&mut queue.ring, ring);
        match left {
            Ring::Idle => {}
            Ring::Fresh => self.fresh.remove(&mut *self.flows, flow),
            Ring::Old => self.old.remove(&mut *self.flows, flow),
            Ring::Blocked => self.blocked.remove(&mut *self.flows, flow),
        }
        match ring {
            Ring::Idle => {}
            Ring::Fresh => {
                let behind = self.behind(flow);
                self.fresh.insert(&mut *self.flows, flow, behind);
            }
            Ring::Old => self.old.push_back(&mut *self.flows, flow),
            Ring::Blocked => self.blocked.push_back(&mut *self.flows, flow),
        }
    }
}
