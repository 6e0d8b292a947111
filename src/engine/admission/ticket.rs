//! Waiting for a slot.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::permit::{Hold, Permit};
use super::{Gate, Request};
use crate::clock::Instant;
use crate::policy::queue::{Refusal, Ticket as Place};
use crate::policy::slab::Key;

/// A request that waits. It is no future, because a future has no clock: the driver polls it with the time,
/// when it was woken and when it [expires](Ticket::expires). Dropping it gives up its place, or its slot if
/// it was granted one meanwhile.
#[derive(Debug)]
pub struct Ticket {
    /// None once it is through.
    gate: Option<Arc<Gate>>,
    request: Request,
    key: Key,
    place: Place,
    expires: Instant,
}

impl Ticket {
    pub(super) const fn new(
        gate: Arc<Gate>,
        request: Request,
        (key, place): (Key, Place),
        expires: Instant,
    ) -> Self {
        Self {
            gate: Some(gate),
            request,
            key,
            place,
            expires,
        }
    }

    /// The instant at which it must be polled again even if nothing woke it: it will be refused then, for it
    /// has waited too long or can no longer be answered in time.
    #[must_use]
    pub const fn expires(&self) -> Instant {
        self.expires
    }

    /// Whether its turn has come, or it has to leave. Not to be polled again after it was ready.
    pub fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Result<Permit, Refusal>> {
        let Some(gate) = &self.gate else {
            return Poll::Pending;
        };
        let Poll::Ready(fate) = gate.poll_waiter(self.key, self.place, now, cx.waker()) else {
            return Poll::Pending;
        };
        let Some(gate) = self.gate.take() else {
            return Poll::Pending;
        };
        Poll::Ready(fate.map(|(granted, account)| {
            Permit::new(gate, &self.request, granted, Hold::Slot(Some(account)))
        }))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.withdraw(self.key, self.place, None);
        }
    }
}
