//! What becomes of a request that failed, or takes long: whether it is sent again, and what is counted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{UpstreamState, retry};
use crate::clock::Instant;
use crate::engine::circuit::Mode;
use crate::model::EndpointId;
use crate::policy::breaker::Outcome;
use crate::policy::retry::Failure;

/// What becomes of a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// It is sent again after this time.
    After(Duration),
    /// It would be, if the policy acted.
    Would(Duration),
    /// It is not, for this reason.
    Never(retry::Refusal),
    /// It is not: nothing is sent again.
    Off,
}

impl UpstreamState {
    /// Whether `request`, which failed like this, is sent again.
    pub fn retry(
        &self,
        request: &retry::Request,
        failure: Failure,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Resend {
        let mode = self.resends.get();
        if mode == Mode::Off {
            return Resend::Off;
        }
        if self.is_frozen() {
            return Resend::Never(retry::Refusal::Frozen);
        }
        let wait = match self.retries.decide(request, failure, now, rng) {
            Ok(wait) => wait,
            Err(refusal) => return Resend::Never(refusal),
        };
        let observed = mode == Mode::Observe;
        let counts = self.resent.get(usize::from(observed));
        if let Some(count) = counts.and_then(|counts| counts.get(failure as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if observed {
            Resend::Would(wait)
        } else {
            Resend::After(wait)
        }
    }

    /// Whether a second copy of `request`, which is still unanswered, is sent beside it.
    pub fn hedge(&self, request: &retry::Request, now: Instant) -> Resend {
        let mode = self.resends.get();
        if mode == Mode::Off {
            return Resend::Off;
        }
        if self.is_frozen() {
            return Resend::Never(retry::Refusal::Frozen);
        }
        if let Err(refusal) = self.retries.hedge(request, now) {
            return Resend::Never(refusal);
        }
        let observed = mode == Mode::Observe;
        if let Some(count) = self.hedged.get(usize::from(observed)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if observed {
            Resend::Would(Duration::ZERO)
        } else {
            Resend::After(Duration::ZERO)
        }
    }

    /// Forbids, or no longer forbids, to send anything again.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Whether an operator forbids to send anything again.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    /// How often a second copy was sent, or would have been in this mode.
    #[must_use]
    pub fn hedged(&self, mode: Mode) -> u64 {
        let count = self.hedged.get(usize::from(mode == Mode::Observe));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Takes in that a request sent to `endpoint` at `started` was given up, because a copy of it was answered
    /// first. That it took at least so long is what is known of the endpoint.
    pub fn outpaced(&self, endpoint: EndpointId, started: Instant, now: Instant) {
        let set = self.endpoints.load();
        let members = set.members().iter().map(|member| &member.endpoint);
        let Some(endpoint) = members.into_iter().find(|one| one.id() == endpoint) else {
            return;
        };
        let latency = now.since(started);
        endpoint.slot().latency().observe(latency, now);
        let outcome = Outcome::Success(latency);
        // The next second judges by it.
        let _soon = self
            .outliers
            .record(endpoint.stats(), started, now, outcome);
    }

    /// How often something was sent again after failing like this, or would have been in this mode.
    #[must_use]
    pub fn resent(&self, failure: Failure, mode: Mode) -> u64 {
        let counts = self.resent.get(usize::from(mode == Mode::Observe));
        let count = counts.and_then(|counts| counts.get(failure as usize));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
