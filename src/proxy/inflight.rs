//! The requests under way on one worker: who they are and what they wait for, for whoever asks.
//!
//! A request notes each step of its way in its entry. That is a write to memory of its own worker; nothing
//! is shared until somebody asks.

use std::cell::RefCell;
use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;
use slab::Slab;

use super::id::RequestId;
use crate::clock::Instant;
use crate::model::{EndpointId, Phase, RouteId, UpstreamId};
use crate::observe::inflight::View;

/// One request under way.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) begun: Instant,
    /// The phase it is in.
    pub(crate) phase: Phase,
    pub(crate) request_id: RequestId,
    pub(crate) method: Method,
    pub(crate) target: Option<PathAndQuery>,
    pub(crate) route: Option<RouteId>,
    pub(crate) upstream: Option<UpstreamId>,
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) attempts: u8,
}

/// The requests under way on one worker.
#[derive(Debug, Default)]
pub(crate) struct InFlight(RefCell<Slab<Entry>>);

impl InFlight {
    pub(crate) fn enter(&self, entry: Entry) -> usize {
        self.0.borrow_mut().insert(entry)
    }

    pub(crate) fn note(&self, key: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.0.borrow_mut().get_mut(key) {
            change(entry);
        }
    }

    /// The endpoint that the request of this entry was sent to last.
    pub(crate) fn endpoint(&self, key: usize) -> Option<EndpointId> {
        self.0.borrow().get(key)?.endpoint
    }

    /// The phase that the request of this entry is in.
    pub(crate) fn phase(&self, key: usize) -> Option<Phase> {
        Some(self.0.borrow().get(key)?.phase)
    }

    pub(crate) fn leave(&self, key: usize) {
        let _entry = self.0.borrow_mut().try_remove(key);
    }

    /// The oldest requests, at most `limit`, the oldest first, and how many there are.
    pub(crate) fn oldest(&self, limit: usize, now: Instant) -> (Vec<View>, usize) {
        let entries = self.0.borrow();
        let mut oldest: Vec<&Entry> = entries.iter().map(|(_, entry)| entry).collect();
        oldest.sort_unstable_by_key(|entry| entry.begun);
        let views = oldest.iter().take(limit);
        (views.map(|entry| view(entry, now)).collect(), entries.len())
    }
}

fn view(entry: &Entry, now: Instant) -> View {
    let age: Duration = now.since(entry.begun);
    View {
        request_id: entry.request_id.as_str().to_owned(),
        method: entry.method.as_str().to_owned(),
        path: entry.target.as_ref().map(|target| target.path().to_owned()),
        age,
        phase: entry.phase,
        route: entry.route,
        upstream: entry.upstream,
        endpoint: entry.endpoint,
        attempts: entry.attempts,
    }
}
