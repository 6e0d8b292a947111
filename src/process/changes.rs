//! What changed since the last look, told as events.
//!
//! Looked at each second rather than told by whoever changes: nothing of it is on a request's way. A state that is left within a second, and an upstream that a reload takes away, go
//! unnoticed here; breakers remember every change themselves.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::snapshot;
use crate::clock::Instant;
use crate::engine::circuit::Circuit;
use crate::engine::protection::Algorithm;
use crate::engine::upstream::UpstreamState;
use crate::model::{EndpointId, UpstreamId};
use crate::observe::events::Events;
use crate::observe::snapshot::EndpointState as Health;

/// Which of its bounds a limit is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Min,
    Max,
}

impl Bound {
    /// Where `limit` is. It has left a bound when it is twice as far away as it need be, lest a limit that hovers
    /// there be news every second.
    const fn of(limit: u32, min: u32, max: u32, before: Option<Self>) -> Option<Self> {
        match before {
            Some(Self::Min) if limit < min.saturating_mul(2) => before,
            Some(Self::Max) if limit > max / 2 => before,
            _ if limit <= min => Some(Self::Min),
            _ if limit >= max => Some(Self::Max),
            _ => None,
        }
    }
}

/// What was seen last.
#[derive(Debug)]
pub(super) struct Changes {
    events: Arc<Events>,
    endpoints: HashMap<EndpointId, Health>,
    limits: HashMap<UpstreamId, Option<Bound>>,
}

impl Changes {
    pub(super) fn new(events: Arc<Events>) -> Self {
        Self {
            events,
            endpoints: HashMap::new(),
            limits: HashMap::new(),
        }
    }

    /// What the breaker of some upstream or route went through.
    pub(super) fn breaker(&self, kind: &str, name: &str, circuit: &Circuit, now: Instant) {
        for change in circuit.transitions(now) {
            let (from, to) = (change.from.as_str(), change.to.as_str());
            let (why, mode) = (format!("{:?}", change.why), circuit.mode().as_str());
            let detail = json!({ "from": from, "to": to, "why": why, "mode": mode });
            self.events
                .tell("breaker", format!("{kind} {name}"), detail);
        }
    }

    /// How the endpoints and the limit of `upstream` stand.
    pub(super) fn upstream(&mut self, upstream: &UpstreamState, now: Instant) {
        for member in upstream.endpoints().members() {
            let endpoint = &member.endpoint;
            let health = snapshot::health(upstream, endpoint, now);
            let before = self.endpoints.insert(endpoint.id(), health);
            // What is new is healthy until shown otherwise.
            let before = before.unwrap_or(Health::Healthy);
            if before != health {
                let detail = json!({
                    "upstream": &**upstream.name(),
                    "from": before.as_str(),
                    "to": health.as_str(),
                    "message": endpoint.health_message().map(|message| message.to_string()),
                });
                let kind = match (before, health) {
                    (Health::Unhealthy, _) | (_, Health::Unhealthy) => "health",
                    _ => "ejection",
                };
                self.events
                    .tell(kind, format!("endpoint {}", endpoint.name()), detail);
            }
        }
        self.limit(upstream);
    }

    fn limit(&mut self, upstream: &UpstreamState) {
        let Algorithm::Adaptive(config) = upstream.config().protection.algorithm else {
            return;
        };
        let limit = upstream.protection().gate().limit();
        let before = self.limits.get(&upstream.id()).copied();
        let bound = Bound::of(limit, config.min(), config.max(), before.flatten());
        self.limits.insert(upstream.id(), bound);
        if before.unwrap_or(bound) != bound {
            let at = bound.map(|bound| match bound {
                Bound::Min => "min",
                Bound::Max => "max",
            });
            let detail = json!({ "limit": limit, "at_bound": at });
            self.events
                .tell("limit", format!("upstream {}", upstream.name()), detail);
        }
    }

    /// The process itself runs short, or does no longer.
    pub(super) fn overload(&self, admitted: u32, tiers: u32, mode: &str) {
        let detail = json!({ "admitted_tiers": admitted, "tiers": tiers, "mode": mode });
        self.events.tell("overload", "process", detail);
    }
}

#[cfg(test)]
mod tests {
    use super::Bound;

    #[test]
    fn a_limit_that_hovers_at_a_bound_is_news_once() {
        let of = |before: &mut Option<Bound>, limit| {
            *before = Bound::of(limit, 4, 100, *before);
            *before
        };
        let mut at = None;
        let seen = [32, 4, 5, 4, 7, 8, 100, 99, 51, 50].map(|limit| of(&mut at, limit));
        let (min, max) = (Some(Bound::Min), Some(Bound::Max));
        let expected = [None, min, min, min, min, None, max, max, max, None];
        assert_eq!(seen, expected);
    }
}
