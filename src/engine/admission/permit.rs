//! The right to use an upstream, and the duty to say how it went.

use std::sync::Arc;
use std::time::Duration;

use super::stream::StreamPermit;
use super::{Gate, Request};
use crate::clock::Instant;
use crate::policy::queue::{Account, Refusal, Ticket as Place};
use crate::policy::slab::Key;

/// How an admitted request ended, as far as it tells about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The upstream answered; its time is evidence.
    Success,
    /// The upstream failed or timed out; its time is none.
    Failure,
    /// It tells nothing: the client went away, or a policy behind this one refused.
    Ignored,
}

/// A request in flight. Dropped without [`Permit::complete`], it counts as ignored.
#[derive(Debug)]
pub struct Permit {
    /// None once it has ended.
    gate: Option<Arc<Gate>>,
    client: u64,
    started: Instant,
    hold: Hold,
}

/// What a request in flight holds.
#[derive(Debug)]
pub(super) enum Hold {
    /// A slot; and if it waited for it, what its turn was charged to.
    Slot(Option<Account>),
    /// While observing: a place in the queue, and whatever became of that.
    Ghost(Key, Place),
    /// While observing: nothing, for it would have been refused.
    Nothing(Refusal),
}

impl Permit {
    pub(super) const fn new(
        gate: Arc<Gate>,
        request: &Request,
        started: Instant,
        hold: Hold,
    ) -> Self {
        Self {
            gate: Some(gate),
            client: request.client,
            started,
            hold,
        }
    }

    /// When it was admitted.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Ends it: the response is through, `upstream_time` is the part of the time since that the upstream took.
    /// Says, while observing, why it would have been refused.
    pub fn complete(
        mut self,
        now: Instant,
        completion: Completion,
        upstream_time: Duration,
    ) -> Option<Refusal> {
        self.end(Some(now), completion, upstream_time)
    }

    /// Gives the slot back and counts on as a long-lived stream: an upgrade, a server-sent feed.
    ///
    /// # Errors
    /// When there are as many streams as there may be; the slot is given back all the same.
    pub fn detach(mut self, now: Instant) -> Result<StreamPermit, Refusal> {
        let stream = match &self.gate {
            Some(gate) => Gate::open_stream(gate),
            None => Err(Refusal::overload(0, 0)),
        };
        self.end(Some(now), Completion::Ignored, Duration::ZERO);
        stream
    }

    fn end(
        &mut self,
        now: Option<Instant>,
        completion: Completion,
        upstream_time: Duration,
    ) -> Option<Refusal> {
        let gate = self.gate.take()?;
        gate.meter.count(completion, upstream_time);
        gate.meter.stop(self.started);
        match self.hold {
            Hold::Slot(account) => {
                gate.clients.leave(self.client);
                let known = completion != Completion::Ignored;
                let bill = account.filter(|_| known).map(|to| (to, upstream_time));
                gate.release(now, bill);
                None
            }
            Hold::Ghost(key, place) => gate.withdraw(key, place, now),
            Hold::Nothing(refusal) => Some(refusal),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end(None, Completion::Ignored, Duration::ZERO);
    }
}
