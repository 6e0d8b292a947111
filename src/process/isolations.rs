//! Whom operators hold apart, over a restart: one file, replaced whole before an order is answered.
//!
//! Times are the wall clock's, since they have to mean the same to the next process. Upstreams and endpoints are told here, each
//! second, for discovery may bring one back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::state::State;
use crate::clock::SystemClock;
use crate::config;
use crate::engine::isolation::{Full, Isolation, Isolations, Order, Subject, To};
use crate::engine::upstream::Upstreams;
use crate::observe::events::Events;

const FILE: &str = "isolations.json";
/// How often it is looked whose time is over.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps isolations.
#[derive(Debug)]
pub(super) struct Keeper {
    isolations: Arc<Isolations>,
    upstreams: Arc<Upstreams>,
    events: Arc<Events>,
    state: Arc<State>,
    /// One writes at a time, and what is there when it does.
    writing: Mutex<()>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    isolations: Vec<KeptOrder>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptOrder {
    id: String,
    kind: String,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    to: String,
    since: u64,
    until: u64,
    reason: String,
    by: String,
}

impl Keeper {
    /// With what an earlier process kept.
    pub(super) fn restore(
        isolations: Arc<Isolations>,
        upstreams: Arc<Upstreams>,
        events: Arc<Events>,
        state: Arc<State>,
    ) -> Arc<Self> {
        let keeper = Self {
            isolations,
            upstreams,
            events,
            state,
            writing: Mutex::new(()),
        };
        if let Some(content) = keeper.state.read(FILE) {
            match serde_json::from_slice::<Kept>(&content) {
                Ok(kept) => keeper.put_back(kept),
                Err(error) => {
                    tracing::warn!(%error, "what was kept of the isolations is damaged; there are none now");
                }
            }
        }
        keeper.tick();
        Arc::new(keeper)
    }

    fn put_back(&self, kept: Kept) {
        for kept in kept.isolations {
            let id = kept.id.clone();
            let added = order(kept).map(|order| self.isolations.add(order));
            if !matches!(added, Some(Ok(()))) {
                tracing::warn!(
                    id,
                    "an isolation that was kept makes no sense, and is left out"
                );
            }
        }
    }

    /// Holds somebody apart.
    pub(super) fn add(&self, order: Order) -> Result<(), Full> {
        let told = detail(&order);
        let subject = named(&order.subject);
        self.isolations.add(order)?;
        self.tell_upstreams();
        self.events.tell("isolation", subject, told);
        Ok(())
    }

    /// Lets somebody go before the time is over.
    pub(super) fn release(&self, id: &str, reason: &str) -> Option<Arc<Isolation>> {
        let released = self.isolations.release(id)?;
        self.ended(&released, reason);
        Some(released)
    }

    /// Lets go whose time is over, each second, until the runtime ends.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.tick() {
                self.written(|_kept| {});
            }
        }
    }

    /// Writes what there is now, on a thread that may wait, and then calls `then` with whether it outlives the
    /// process.
    pub(super) fn written(self: &Arc<Self>, then: impl FnOnce(bool) + Send + 'static) {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            this.write();
            then(this.state.is_kept() && this.state.is_written());
        });
    }

    /// Lets go whose time is over, and tells upstreams how they stand; whether there is something to write.
    fn tick(&self) -> bool {
        let over = self
            .isolations
            .expire(SystemClock.unix_micros() / 1_000_000);
        for one in &over {
            self.ended(one, "its time is over");
        }
        self.tell_upstreams();
        !over.is_empty()
    }

    fn ended(&self, one: &Isolation, reason: &str) {
        self.tell_upstreams();
        let (passed, refused) = one.counts();
        let order = one.order();
        tracing::info!(target: "audit", action = "release", id = %order.id, subject = %named(&order.subject), reason, passed, refused, "done");
        let detail =
            json!({ "id": &*order.id, "ended": reason, "passed": passed, "refused": refused });
        self.events.tell("release", named(&order.subject), detail);
    }

    fn tell_upstreams(&self) {
        for upstream in self.upstreams.all() {
            let spares = |to| self.isolations.spares(upstream.name(), &to);
            upstream.spare(spares(To::ServeStale));
            upstream.freeze(spares(To::NoRetries));
            for member in upstream.endpoints().members() {
                let endpoint = &member.endpoint;
                let out = self.isolations.is_out(upstream.name(), endpoint.name());
                if out != endpoint.is_isolated() {
                    endpoint.isolate(out);
                }
            }
        }
    }

    /// Writes what there is now. Blocks.
    fn write(&self) {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.isolations.all();
        let kept = Kept {
            isolations: all.iter().map(|one| kept(one.order())).collect(),
        };
        let content = serde_json::to_vec_pretty(&kept).unwrap_or_default();
        self.state.write(FILE, &content);
    }
}

fn named(subject: &Subject) -> String {
    format!("{} {subject}", subject.kind())
}

fn detail(order: &Order) -> serde_json::Value {
    json!({
        "id": &*order.id,
        "to": &*order.word,
        "until": order.until,
        "reason": &*order.reason,
        "by": &*order.by,
    })
}

fn kept(order: &Order) -> KeptOrder {
    let (subject, address) = match &order.subject {
        Subject::Client(name)
        | Subject::Route(name)
        | Subject::Tier(name)
        | Subject::Upstream(name) => (name, None),
        Subject::Endpoint(upstream, address) => (upstream, Some(address.to_string())),
    };
    KeptOrder {
        id: order.id.to_string(),
        kind: order.subject.kind().to_owned(),
        subject: subject.to_string(),
        address,
        to: order.word.to_string(),
        since: order.since,
        until: order.until,
        reason: order.reason.to_string(),
        by: order.by.to_string(),
    }
}

fn order(kept: KeptOrder) -> Option<Order> {
    let subject = match (&*kept.kind, kept.address) {
        ("client", None) => Subject::Client(kept.subject.into()),
        ("route", None) => Subject::Route(kept.subject.into()),
        ("endpoint", Some(address)) => Subject::Endpoint(kept.subject.into(), address.into()),
        ("tier", None) => Subject::Tier(kept.subject.into()),
        ("upstream", None) => Subject::Upstream(kept.subject.into()),
        _ => return None,
    };
    let to = to(&kept.to).ok().filter(|to| subject.takes(to))?;
    Some(Order {
        id: kept.id.into(),
        subject,
        to,
        word: kept.to.into(),
        since: kept.since,
        until: kept.until,
        reason: kept.reason.into(),
        by: kept.by.into(),
    })
}

fn to(word: &str) -> Result<To, String> {
    To::from_word(word, config::quota)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_ordered() {
        for (subject, word) in [
            (Subject::Client("reports".into()), "throttle=10/s"),
            (Subject::Route("shop".into()), "lane"),
            (
                Subject::Endpoint("shop".into(), "127.0.0.1:1".into()),
                "block",
            ),
            (Subject::Tier("batch".into()), "block"),
            (Subject::Upstream("shop".into()), "serve-stale"),
        ] {
            let before = Order {
                id: "1f".into(),
                subject,
                to: to(word).unwrap(),
                word: word.into(),
                since: 1,
                until: 2,
                reason: "because".into(),
                by: "127.0.0.1:5".into(),
            };
            let text = serde_json::to_string(&kept(&before)).unwrap();
            let after = order(serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(after, before);
        }
    }
}
