//! What Tidegate does by itself about what is wrong: the isolation that a verdict names, where the plan says so.
//!
//! Looked at each second. Nothing is done twice within its time, so that what an operator has released stays released; few
//! isolations of this kind are there at once, and never is more than half of an upstream taken out of service. Told is
//! what is done, and in the mode `observe` what would be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::isolations::Keeper;
use crate::admin::{AdminState, action_of};
use crate::clock::{Instant, SystemClock};
use crate::config;
use crate::config::plan::Action;
use crate::engine::circuit::Mode;
use crate::engine::isolation::{Order, Subject, To};
use crate::engine::upstream::Upstreams;
use crate::incident::naming::Named;

const LOOK: Duration = Duration::from_secs(1);
/// Isolations of this kind at once.
const MOST: usize = 8;
/// Who is said to have ordered them.
const BY: &str = "tidegate";

/// Acts.
pub(super) struct Automatic {
    state: AdminState,
    keeper: Arc<Keeper>,
    upstreams: Arc<Upstreams>,
    /// What was done, or told, and until when it is not again.
    done: HashMap<(&'static str, String), Instant>,
}

impl Automatic {
    pub(super) fn new(state: AdminState, keeper: Arc<Keeper>, upstreams: Arc<Upstreams>) -> Self {
        Self {
            state,
            keeper,
            upstreams,
            done: HashMap::new(),
        }
    }

    /// Looks each second, until the runtime ends.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(SystemClock.now());
        }
    }

    fn look(&mut self, now: Instant) {
        self.done.retain(|_, until| *until > now);
        let plan = self.state.plan.load_full();
        if plan.actions.is_empty() {
            return;
        }
        let diagnosis = self.state.latest.diagnosis();
        for verdict in &diagnosis.verdicts {
            let action = plan.actions.iter().find(|action| fits(action, verdict));
            let Some((action, (subject, word))) = action.zip(action_of(&plan, verdict)) else {
                continue;
            };
            let key = (action.cause, subject.to_string());
            if self.done.contains_key(&key) || !self.may(&subject) {
                continue;
            }
            self.done.insert(key, now.after(action.ttl));
            self.act(action, verdict, subject, word);
        }
    }

    /// Whether nobody holds `subject` apart already, and there is room.
    fn may(&self, subject: &Subject) -> bool {
        let all = self.state.isolations.all();
        let mine = all.iter().filter(|one| &*one.order().by == BY);
        if mine.count() >= MOST || all.iter().any(|one| one.order().subject == *subject) {
            return false;
        }
        let Subject::Endpoint(upstream, _) = subject else {
            return true;
        };
        self.upstreams.get(upstream).is_some_and(|upstream| {
            let pool = upstream.endpoints();
            let members = pool.members();
            let out = members.iter().map(|member| &member.endpoint);
            let out = out.filter(|one| one.is_isolated() || !one.is_healthy());
            (out.count() + 1) * 2 <= members.len()
        })
    }

    fn act(&self, action: &Action, verdict: &Named, subject: Subject, word: &'static str) {
        let acts = action.mode == Mode::Enforce;
        let told = json!({
            "cause": action.cause,
            "to": word,
            "confidence": verdict.confidence,
            "mode": action.mode.as_str(),
            "ttl_seconds": action.ttl.as_secs(),
        });
        let events = &self.state.events;
        events.tell("action", format!("{} {subject}", subject.kind()), told);
        let Ok(to) = To::from_word(word, config::quota) else {
            return;
        };
        if !acts {
            return;
        }
        let since = SystemClock.unix_micros() / 1_000_000;
        let sure = verdict.confidence * 100.0;
        let order = Order {
            id: Order::id(SystemClock.unix_micros()),
            subject,
            to,
            word: word.into(),
            since,
            until: since + action.ttl.as_secs().max(1),
            reason: format!("{}: {sure:.0}% sure", action.cause).into(),
            by: BY.into(),
        };
        let (id, subject) = (&order.id, &order.subject);
        tracing::info!(target: "audit", action = "isolate", %id, kind = subject.kind(), %subject, to = word, until = order.until, by = BY, reason = %order.reason, "done");
        if self.keeper.add(order).is_ok() {
            self.keeper.written(|_kept| {});
        }
    }
}

fn fits(action: &Action, verdict: &Named) -> bool {
    action.mode != Mode::Off
        && action.cause == verdict.cause.as_str()
        && verdict.confidence >= action.confidence
        && verdict.since as u64 >= action.after.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::diagnose::Cause;

    #[test]
    fn what_the_plan_may_name_is_a_cause() {
        let is_cause = |name: &&str| Cause::ALL.iter().any(|cause| cause.as_str() == *name);
        assert!(config::plan::ACTED_ON.iter().all(is_cause));
    }

    #[test]
    fn only_what_is_sure_and_has_lasted_is_acted_on() {
        let action = Action {
            cause: "noisy_client",
            mode: Mode::Observe,
            confidence: 0.8,
            after: Duration::from_secs(5),
            ttl: Duration::from_secs(60),
        };
        let verdict = |cause, confidence, since| Named {
            cause,
            upstream: Some("shop".into()),
            subject: "reports".to_owned(),
            confidence,
            since,
            evidence: Vec::new(),
            advice: String::new(),
        };
        assert!(fits(&action, &verdict(Cause::NoisyClient, 0.8, 5)));
        assert!(!fits(&action, &verdict(Cause::NoisyClient, 0.79, 5)));
        assert!(!fits(&action, &verdict(Cause::NoisyClient, 0.9, 4)));
        assert!(!fits(&action, &verdict(Cause::LoadSpike, 0.9, 9)));
        let off = Action {
            mode: Mode::Off,
            ..action
        };
        assert!(!fits(&off, &verdict(Cause::NoisyClient, 0.9, 9)));
    }
}
