//! One waiter in its queue.

use std::time::Duration;

use super::list::{Linked, Links};
use super::refusal::Refusal;
use super::{MAX_COST, Request, nanos};
use crate::clock::Instant;

/// A sojourn below this is no standing queue, however short the service (`CoDel`'s target).
const MIN_TARGET: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Node<T> {
    links: Links,
    pub(super) client: u64,
    pub(super) tier: usize,
    pub(super) flow: u32,
    /// Expected upstream time, bounded.
    pub(super) cost: Duration,
    /// At least one.
    pub(super) weight: i64,
    pub(super) arrived: Instant,
    deadline: Option<Instant>,
    pub(super) payload: T,
}

impl<T> Node<T> {
    pub(super) fn new(now: Instant, request: &Request, tier: usize, flow: u32, payload: T) -> Self {
        let cost = request.cost.min(MAX_COST);
        Self {
            links: Links::default(),
            client: request.client,
            tier,
            flow,
            cost,
            weight: i64::from(request.weight.max(1)),
            arrived: now,
            deadline: request.deadline,
            payload,
        }
    }

    /// What its turn takes from its queue, in nanoseconds by weight; above zero, or it would never end.
    pub(super) fn charge(&self) -> i64 {
        (nanos(self.cost) / self.weight).max(1)
    }

    pub(super) const fn sojourn(&self, now: Instant) -> Duration {
        now.since(self.arrived)
    }

    /// The sojourn `CoDel` wants to see: a fifth of the service, at least 5 ms.
    pub(super) fn target(&self) -> Duration {
        (self.cost / 5).max(MIN_TARGET)
    }

    /// The sojourn up to which a queue that stands is nobody's trouble: a quarter of what one may wait. Clients
    /// that send as soon as they are answered keep a short queue standing for ever, and serving the newest
    /// first would refuse the others of them for nothing.
    pub(super) fn patience(&self, max_wait: Duration) -> Duration {
        self.target().max(max_wait / 4)
    }

    /// The instant from which its sojourn is beyond that.
    pub(super) fn late_from(&self, max_wait: Duration) -> Instant {
        self.arrived.after(self.patience(max_wait))
    }

    /// The instant from which [`Node::overdue`] speaks.
    pub(super) fn expires(&self, max_wait: Duration) -> Instant {
        let patience = self.arrived.after(max_wait);
        let Some(deadline) = self.deadline else {
            return patience;
        };
        let latest = deadline
            .as_nanos()
            .saturating_sub(u64::try_from(nanos(self.cost)).unwrap_or(0));
        // One nanosecond later it cannot be met.
        patience.min(Instant::from_nanos(latest.saturating_add(1)))
    }

    /// Why it may wait no longer.
    pub(super) fn overdue(&self, now: Instant, max_wait: Duration) -> Option<Refusal> {
        let waited = self.sojourn(now);
        if waited >= max_wait {
            return Some(Refusal::queue_timeout(waited, max_wait));
        }
        unmeetable(now, self.deadline, self.cost, waited)
    }
}

impl<T> Linked for Node<T> {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// The refusal of work that cannot finish: less time left than it is expected to take.
pub(super) fn unmeetable(
    now: Instant,
    deadline: Option<Instant>,
    cost: Duration,
    waited: Duration,
) -> Option<Refusal> {
    let deadline = deadline?;
    let left = deadline.since(now);
    (left < cost || deadline <= now).then(|| Refusal::deadline(left, cost, waited))
}
