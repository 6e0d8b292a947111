//! What a diagnosis was made of, kept: the same diagnosis can be made of it again, elsewhere and later.
//!
//! Pure. Depends on its neighbours in this room.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnose::{self, EndpointFact, Facts, Harm, Proxy, Subject};
use super::history::History;
use super::hosts::{self, Host};
use super::naming::Named;
use super::span::Span;
use super::table::Table;
use super::watch::Diagnosis;

/// What one diagnosis was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    proxy: Proxy,
    upstreams: Vec<FrozenUpstream>,
}

/// What is known of one upstream, and what its numbers are called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrozenUpstream {
    name: String,
    history: History,
    endpoints: Vec<EndpointFact>,
    #[serde(default)]
    hosts: Vec<Host>,
    clients: BTreeMap<u64, String>,
    components: BTreeMap<u64, String>,
    addresses: BTreeMap<u64, String>,
}

impl Frozen {
    /// Upstreams in it: some 200 KB each, as it is written.
    pub const MOST: usize = 8;

    pub(super) const fn new(proxy: Proxy, upstreams: Vec<FrozenUpstream>) -> Self {
        Self { proxy, upstreams }
    }

    /// What the client with this hash is called, if it is in here.
    #[must_use]
    pub fn client(&self, hash: u64) -> Option<&str> {
        let mut upstreams = self.upstreams.iter();
        upstreams.find_map(|upstream| upstream.clients.get(&hash).map(String::as_str))
    }

    /// What is wrong, by these facts. A verdict needs no second that confirms it: there is only one.
    #[must_use]
    pub fn diagnose(&self) -> Diagnosis {
        let mut diagnosis = Diagnosis::default();
        for upstream in &self.upstreams {
            let facts = Facts::new(&upstream.history, &upstream.endpoints, self.proxy);
            let verdicts = diagnose::diagnose(&facts);
            diagnosis.lagging |= !verdicts.is_empty() || Harm::of(&facts).any();
            let at: Arc<str> = upstream.name.as_str().into();
            for verdict in verdicts {
                let hosts = hosts::evidence(&upstream.hosts, verdict.subject);
                let mut named = Named::of(verdict, &at, |subject| upstream.called(subject));
                named.evidence.extend(hosts);
                diagnosis.add(named);
            }
        }
        diagnosis.sort();
        diagnosis
    }
}

impl FrozenUpstream {
    pub(super) fn of(
        name: &str,
        history: &History,
        endpoints: &[EndpointFact],
        hosts: &[Host],
        called: impl Fn(Subject) -> Option<String>,
    ) -> Self {
        let names = |table: fn(&Span) -> &Table, subject: fn(u64) -> Subject| {
            let keys = history.spans().flat_map(|span| table(span).iter());
            keys.filter_map(|(key, _)| Some((key, called(subject(key))?)))
                .collect()
        };
        let addresses = endpoints.iter();
        let addresses =
            addresses.filter_map(|one| Some((one.id, called(Subject::Endpoint(one.id))?)));
        Self {
            name: name.to_owned(),
            history: history.clone(),
            endpoints: endpoints.to_vec(),
            hosts: hosts.to_vec(),
            clients: names(|span| &span.clients, Subject::Client),
            components: names(|span| &span.components, Subject::Component),
            addresses: addresses.collect(),
        }
    }

    fn called(&self, subject: Subject) -> Option<String> {
        let (names, key) = match subject {
            Subject::Client(key) => (&self.clients, key),
            Subject::Component(key) => (&self.components, key),
            Subject::Endpoint(key) => (&self.addresses, key),
            Subject::Upstream | Subject::Proxy => return None,
        };
        names.get(&key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::diagnose::Cause;
    use crate::incident::span::{Event, Fate};

    /// Two minutes of an upstream, the last ten seconds of which one endpoint of two fails.
    fn failing() -> History {
        let mut history = History::default();
        for second in 0..120_u32 {
            for request in 0..40_u32 {
                let endpoint = u64::from(request % 2);
                let fails = second >= 110 && endpoint == 1;
                history.current().record(&Event {
                    client: u64::MAX - u64::from(request % 5),
                    endpoint: Some(endpoint),
                    attempts: 1,
                    fate: if fails { Fate::Failed } else { Fate::Answered },
                    phases: [1e-3; 7],
                    ..Event::default()
                });
            }
            history.tick(second < 110);
        }
        history
    }

    #[test]
    fn what_is_read_back_gives_the_same_diagnosis() {
        let endpoints = [0, 1].map(|id| EndpointFact {
            id,
            unhealthy: false,
            ejected: false,
            failures: id as f64 * 200.0,
            attempts: 200.0,
            worst: id as f64,
            in_flight: 1.0,
            silence: 0.0,
            failing: 0.0,
        });
        let hosts = [0, 1].map(|id| (id, [0.25 + id as f64 / 2.0, 0.0, 0.5, 0.0]));
        let called = |subject| match subject {
            Subject::Endpoint(id) => Some(format!("app/10.0.0.{id}:80")),
            Subject::Client(key) => Some(format!("client {}", u64::MAX - key)),
            _ => None,
        };
        let upstream = FrozenUpstream::of("app", &failing(), &endpoints, &hosts, called);
        assert_eq!(upstream.clients.len(), 5);
        let frozen = Frozen::new(Proxy::default(), vec![upstream]);
        let diagnosis = frozen.diagnose();
        let first = diagnosis.verdicts.first().unwrap();
        assert_eq!(
            (first.cause, &*first.subject),
            (Cause::EndpointDown, "app/10.0.0.1:80")
        );
        let host = first
            .evidence
            .iter()
            .find(|one| one.what.contains("processors"));
        let host = host.map(|one| (one.value, one.baseline));
        assert_eq!(host, Some((0.75, Some(0.25))));
        let text = serde_json::to_string(&frozen).unwrap();
        let read: Frozen = serde_json::from_str(&text).unwrap();
        assert_eq!(read.diagnose(), diagnosis);
    }
}
