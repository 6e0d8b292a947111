//! State changes: a breaker that opens, an endpoint that is ejected, a reload. Each is one JSON object, in the
//! process log, for whoever listens, and for Splunk.
//!
//! The newest are kept. A listener that cannot keep up misses the oldest it has not read, and is told how many.
//! Depends on the export.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::broadcast;

use super::access_log::rfc3339;
use super::export::Exports;
use crate::clock::SystemClock;

/// Events kept.
const MAX_RECENT: usize = 1_024;
/// Events that wait for one listener.
const MAX_WAITING: usize = 256;

/// Something that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number, from 1.
    pub id: u64,
    /// When, in microseconds since the Unix epoch.
    pub at: u64,
    /// What kind of change: `breaker`, `ejection`, `limit`, `overload`, `reload`, `drain`.
    pub kind: &'static str,
    /// What changed: `upstream orders`.
    pub subject: String,
    /// How.
    pub detail: Map<String, Value>,
}

impl Event {
    /// As one JSON object. What is said of the change stands beside what every event has.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("ts".into(), rfc3339(self.at).into());
        all.insert("id".into(), self.id.into());
        all.insert("event".into(), self.kind.into());
        all.insert("subject".into(), self.subject.as_str().into());
        for (key, value) in &self.detail {
            all.entry(key.as_str()).or_insert_with(|| value.clone());
        }
        Value::Object(all)
    }
}

/// Where changes are told.
#[derive(Debug)]
pub struct Events {
    recent: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
    exports: Exports,
}

impl Events {
    /// Nothing has changed yet.
    #[must_use]
    pub fn new(exports: Exports) -> Self {
        Self {
            recent: Mutex::default(),
            live: broadcast::channel(MAX_WAITING).0,
            exports,
        }
    }

    /// Tells everybody of a change. `detail` is an object; anything else is taken for none.
    pub fn tell(&self, kind: &'static str, subject: impl Into<String>, detail: Value) {
        let detail = match detail {
            Value::Object(detail) => detail,
            _ => Map::new(),
        };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Arc::new(Event {
            id: recent.back().map_or(1, |last| last.id + 1),
            at: SystemClock.unix_micros(),
            kind,
            subject: subject.into(),
            detail,
        });
        if recent.len() == MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // Still under the lock, so that listeners hear in order. Without any there is nobody to tell.
        let _heard = self.live.send(Arc::clone(&event));
        drop(recent);
        let line = event.to_json().to_string();
        self.exports.event(line.as_bytes());
        tracing::info!(target: "tidegate::event", event = kind, subject = %event.subject, detail = %line);
    }

    /// The newest events, the oldest of them first.
    #[must_use]
    pub fn recent(&self) -> Vec<Arc<Event>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }

    /// Those kept that are newer than `after`, and all that come from now on.
    #[must_use]
    pub fn listen(&self, after: u64) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let missed = recent.iter().filter(|event| event.id > after).cloned();
        (missed.collect(), live)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Events that go nowhere else.
    pub(crate) fn events() -> Events {
        let (exports, _thread) = Exports::start(Arc::default()).unwrap();
        Events::new(exports)
    }

    #[test]
    fn the_newest_are_kept_and_nobody_hears_one_twice() {
        let events = events();
        for _ in 0..MAX_RECENT + 5 {
            events.tell("breaker", "upstream orders", json!({ "to": "open" }));
        }
        let recent = events.recent();
        assert_eq!((recent.len(), recent[0].id), (MAX_RECENT, 6));
        let last = recent.last().unwrap().id;
        let (missed, mut live) = events.listen(last - 2);
        assert_eq!(
            missed.iter().map(|event| event.id).collect::<Vec<_>>(),
            [last - 1, last]
        );
        events.tell(
            "reload",
            "configuration",
            json!({ "ts": "mine", "taken": true }),
        );
        let heard = live.try_recv().unwrap();
        let shown = heard.to_json();
        assert_eq!((heard.id, &shown["taken"]), (last + 1, &true.into()));
        assert_ne!(shown["ts"], "mine");
        assert!(live.try_recv().is_err());
    }

    #[test]
    fn a_listener_that_lags_is_told_how_much_it_missed() {
        let events = events();
        let (_, mut live) = events.listen(0);
        for _ in 0..MAX_WAITING + 3 {
            events.tell("breaker", "upstream orders", json!({}));
        }
        assert_eq!(
            live.try_recv(),
            Err(broadcast::error::TryRecvError::Lagged(3))
        );
    }
}
