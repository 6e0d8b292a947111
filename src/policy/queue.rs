//! Whose request goes next when not all can: the fair queue in front of an upstream.
//!
//! A limit says how much an upstream carries; somebody has to say whose. In one line for all, the client that
//! sends most gets most, and the others wait behind it. Here each client waits in a queue of its own as far as
//! 128 queues go (shuffle sharding, from Kubernetes' API Priority and Fairness), the queues of a tier take turns by
//! upstream time (deficit round robin, Shreedhar and Varghese 1995), tiers go strictly in order but for a
//! floor, and a standing queue is cut short (`CoDel`, Nichols and Jacobson 2012; newest first while it stands, Facebook's
//! "Fail at Scale" 2015). When all room is taken it is the longest queue of the least important tier that gives way, so
//! nobody is sent away because somebody else filled the queue.
//!
//! Two departures, both for fairness per client rather than per queue. A client that already waits at the end
//! of one of its queues joins that one, not the shortest: otherwise an elephant has eight turns a round. And
//! what is shed for its age is shed down to one waiter, so that shedding never idles the upstream.
//!
//! What it does badly: beyond about a hundred clients that wait at once queues are shared, and with them the
//! turn, the newest-first order and the debt; the settling of a cost finds the queue, not the client. Turns
//! are counted by upstream time *dequeued*, so what passes while nobody waits is not charged to anybody.
//!
//! Every operation is O(1) amortized, or one look at each of the 128 queues (making room in a full queue, a
//! round in which everybody is in debt). Memory is constant but for the waiters, and those are bounded.
//!
//! Depends on model and the clock's [`Instant`] only.

mod config;
mod flow;
mod hand;
mod list;
mod node;
mod refusal;
#[cfg(test)]
mod tests;
mod tier;

use std::time::Duration;

pub use self::config::{Config, Fairness, InvalidConfig, MAX_LENGTH, MAX_TIERS};
use self::node::{Node, unmeetable};
pub use self::refusal::{Refusal, Unit};
use self::tier::Tier;
use super::slab::{Key, Slab};
use crate::clock::Instant;

/// The highest cost that is believed.
const MAX_COST: Duration = Duration::from_secs(600);

/// The least a queue may use in a round, however cheap the requests: 1 ms.
const MIN_QUANTUM: i64 = 1_000_000;

/// The weight of one request in the average cost, which is the quantum: one in 2^6.
const AVERAGE_SHIFT: u32 = 6;

/// What the queue needs to know about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks: a hash of the client's identity.
    pub client: u64,
    /// How important it is: 0 is the most important tier; beyond the last counts as the last.
    pub tier: u8,
    /// The client's share relative to others of its tier; zero counts as one.
    pub weight: u32,
    /// The upstream time it is expected to take.
    pub cost: Duration,
    /// When its answer is of no use any more.
    pub deadline: Option<Instant>,
}

/// A place in the queue, good until it is popped, dropped or cancelled; stale afterwards, and harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(Key);

/// What [`FairQueue::push`] did.
#[derive(Debug, PartialEq)]
pub struct Pushed<T> {
    /// The newcomer's place.
    pub ticket: Ticket,
    /// Who had to leave to make room.
    pub evicted: Option<(T, Refusal)>,
}

/// A waiter whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Popped<T> {
    /// What was pushed with it.
    pub payload: T,
    /// Where its cost is to be settled.
    pub account: Account,
    /// How long it waited.
    pub waited: Duration,
}

/// The queue a request was charged to, and with how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    tier: usize,
    flow: u32,
    weight: i64,
    /// What it was charged, in nanoseconds by weight.
    charge: i64,
}

/// What one operation depends on besides the queue's state.
#[derive(Debug)]
struct Turn {
    now: Instant,
    max_wait: Duration,
    quantum: i64,
}

/// Waiters in the order of their turns. `T` is what the owner knows a waiter by.
#[derive(Debug)]
pub struct FairQueue<T> {
    config: Config,
    tiers: Vec<Tier>,
    nodes: Slab<Node<T>>,
    /// The average cost of late, in nanoseconds; none before the first request.
    average: Option<i64>,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tiers: (0..config.tiers()).map(|_| Tier::new()).collect(),
            nodes: Slab::new(config.max_length()),
            average: None,
        }
    }

    /// Changes the settings. Who waits keeps waiting, in its old queue and tier; what is owed stays owed.
    pub fn update(&mut self, config: Config) {
        self.config = config;
        self.nodes.set_capacity(config.max_length());
        while self.tiers.len() < usize::from(config.tiers()) {
            self.tiers.push(Tier::new());
        }
    }

    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.nodes.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a waiter; `payload` comes back when its turn has come or it has to leave.
    ///
    /// # Errors
    /// When it cannot be answered before its deadline, or the queue is full and it is the least entitled to
    /// a place.
    pub fn push(
        &mut self,
        now: Instant,
        request: &Request,
        payload: T,
    ) -> Result<Pushed<T>, Refusal> {
        if let Some(refusal) = unmeetable(now, request.deadline, request.cost, Duration::ZERO) {
            return Err(refusal);
        }
        let index = usize::from(request.tier.min(self.config.tiers() - 1));
        let full = Refusal::queue_full(self.len(), self.config.max_length(), Duration::ZERO);
        let Some(tier) = self.tiers.get(index) else {
            return Err(full);
        };
        let flow = tier.choose(request.client, self.config.fairness(), &self.nodes);
        let mut evicted = None;
        if self.len() >= self.config.max_length() {
            evicted = Some(self.make_room(now, index, flow)?);
        }
        let node = Node::new(now, request, index, flow, payload);
        let cost = nanos(node.cost);
        let average = self.average.unwrap_or(cost);
        self.average = Some(average + ((cost - average) >> AVERAGE_SHIFT));
        let turn = self.turn(now);
        let key = self.nodes.insert(node).ok_or(full)?;
        if let Some(tier) = self.tiers.get_mut(index) {
            tier.join(key.index(), flow, &turn, &mut self.nodes);
        }
        Ok(Pushed {
            ticket: Ticket(key),
            evicted,
        })
    }

    /// Takes out whoever's turn it is. Clients for which `blocked` is true come last in their tier. Those found to have waited too long are handed to `dropped`.
    pub fn pop(
        &mut self,
        now: Instant,
        blocked: impl Fn(u64) -> bool,
        mut dropped: impl FnMut(T, Refusal),
    ) -> Option<Popped<T>> {
        let node = self.serve(now, &blocked, &mut dropped)?;
        Some(Popped {
            account: Account {
                tier: node.tier,
                flow: node.flow,
                weight: node.weight,
                charge: node.charge(),
            },
            waited: node.sojourn(now),
            payload: node.payload,
        })
    }

    /// Removes a waiter that went away; its payload unless it had left before.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        let tier = self.nodes.get(ticket.0)?.tier;
        let tier = self.tiers.get_mut(tier)?;
        let node = tier.leave(ticket.0.index(), &mut self.nodes)?;
        Some(node.payload)
    }

    /// When a waiter must be looked at again, for it may wait no longer; none when it has left.
    #[must_use]
    pub fn expires(&self, ticket: Ticket) -> Option<Instant> {
        let node = self.nodes.get(ticket.0)?;
        Some(node.expires(self.config.max_wait()))
    }

    /// Why a waiter may wait no longer; none while it may, and when it has left.
    #[must_use]
    pub fn overdue(&self, ticket: Ticket, now: Instant) -> Option<Refusal> {
        let node = self.nodes.get(ticket.0)?;
        node.overdue(now, self.config.max_wait())
    }

    /// Corrects what a request was charged to the upstream time it took, once its response has ended.
    pub fn settle(&mut self, account: Account, actual: Duration) {
        let actual = nanos(actual.min(MAX_COST)) / account.weight;
        let quantum = self.quantum();
        if let Some(tier) = self.tiers.get_mut(account.tier) {
            tier.settle(account.flow, actual - account.charge, quantum);
        }
    }

    /// The tiers whose floor is due, then all of them in order.
    fn serve(
        &mut self,
        now: Instant,
        blocked: &impl Fn(u64) -> bool,
        dropped: &mut impl FnMut(T, Refusal),
    ) -> Option<Node<T>> {
        let turn = self.turn(now);
        let first = self.tiers.iter().position(|tier| tier.waiting > 0)?;
        for tier in self.tiers.iter_mut().skip(first + 1) {
            if tier.waiting == 0 || tier.credit <= 0 {
                continue;
            }
            if let Some(node) = tier.serve(&turn, &mut self.nodes, blocked, dropped) {
                tier.credit -= nanos(node.cost);
                self.accrue(first, node.cost);
                return Some(node);
            }
        }
        for tier in self.tiers.iter_mut().skip(first) {
            if let Some(node) = tier.serve(&turn, &mut self.nodes, blocked, dropped) {
                self.accrue(first, node.cost);
                return Some(node);
            }
        }
        None
    }

    /// Credits those who wait behind tier `first` with their floor of the `cost` just served. The credit is
    /// bounded by that cost: a tier that could not use its turns does not save them up.
    fn accrue(&mut self, first: usize, cost: Duration) {
        let most = nanos(cost);
        let share = nanos(cost.mul_f64(self.config.floor()));
        for tier in self.tiers.iter_mut().skip(first + 1) {
            if tier.waiting > 0 {
                tier.credit = (tier.credit + share).min(most);
            }
        }
    }

    /// Evicts the least entitled waiter in favour of a newcomer, unless that is the newcomer.
    fn make_room(
        &mut self,
        now: Instant,
        newcomer: usize,
        flow: u32,
    ) -> Result<(T, Refusal), Refusal> {
        let max_length = self.config.max_length();
        let index = self.yielding_tier(newcomer);
        let joins = |tier: &Tier| tier.length(flow) == 0;
        let another = u32::from(self.tiers.get(newcomer).is_some_and(joins));
        let active = another + self.tiers.iter().map(Tier::active).sum::<u32>();
        let turn = self.turn(now);
        let waiting = self.len();
        let refuse = |length: u32, waited: Duration| {
            let share = (max_length / active.max(1)).max(1);
            if active > 1 && length > share {
                Refusal::fair_share(length, share, waited)
            } else {
                Refusal::queue_full(waiting, max_length, waited)
            }
        };
        let Some(tier) = self.tiers.get_mut(index) else {
            return Err(refuse(0, Duration::ZERO));
        };
        let (longest, length) = tier.longest();
        let own = if index == newcomer {
            tier.length(flow) + 1
        } else {
            0
        };
        if length == 0 || own >= length {
            return Err(refuse(own, Duration::ZERO));
        }
        let victim = tier.least_entitled(longest, &turn, &self.nodes);
        let victim = victim.and_then(|victim| tier.leave(victim, &mut self.nodes));
        let node = victim.ok_or_else(|| refuse(own, Duration::ZERO))?;
        let waited = node.sojourn(now);
        Ok((node.payload, refuse(length, waited)))
    }

    /// The least important tier that, with the newcomer counted in, holds more than its floor of the room;
    /// when each is within its floor, the least important of all.
    fn yielding_tier(&self, newcomer: usize) -> usize {
        let room = f64::from(self.config.max_length()) * self.config.floor();
        let holds = |index: usize, tier: &Tier| tier.waiting + u32::from(index == newcomer);
        let last = |least: f64| {
            let tiers = self.tiers.iter().enumerate().rev();
            let over = |(index, tier): &(usize, &Tier)| f64::from(holds(*index, tier)) > least;
            tiers.into_iter().find(over).map(|(index, _)| index)
        };
        last(room).or_else(|| last(0.0)).unwrap_or(newcomer)
    }

    fn turn(&self, now: Instant) -> Turn {
        Turn {
            now,
            max_wait: self.config.max_wait(),
            quantum: self.quantum(),
        }
    }

    /// What a queue may use in a round: the average cost, so that a turn is about one request.
    fn quantum(&self) -> i64 {
        self.average.unwrap_or(0).max(MIN_QUANTUM)
    }
}

/// `time` in nanoseconds; 292 years at most.
fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
