//! Watches every upstream: folds what the observer sees, asks each second what is wrong, and keeps the answer for whoever
//! wants to know.
//!
//! Lives on the observer's thread and takes no lock; the diagnosis is swapped in whole. A verdict is given when it is
//! found twice in a row, so that one second's chance is nobody's alarm. Depends on the rest of this room, the
//! observer's tap and the engine's live values.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::diagnose::{self, Cause, EndpointFact, Facts, Harm, Proxy, Subject, Verdict};
use super::frozen::{Frozen, FrozenUpstream};
use super::history::History;
use super::hosts;
use super::naming::Named;
use super::past::Past;
use super::repeats::{Repeats, Request};
use super::span::{Event, Fate};
use super::standing::{Seen, Standings};
use crate::clock::{Instant, SystemClock};
use crate::engine::registry::Directories;
use crate::engine::upstream::{EndpointState, UpstreamState, Upstreams};
use crate::measure::topk::Hashed;
use crate::model::{CacheResult, Outcome, Phase, Reason};
use crate::observe::collector::Tap;
use crate::observe::components::{Told, Took};
use crate::observe::exchange::Exchange;
use crate::observe::series::Keyed;

/// Upstreams that are watched.
const MAX_UPSTREAMS: usize = 256;
/// Clients, and likewise components, whose names are known at once.
const MAX_NAMES: usize = 8_192;
/// What services call their time as a whole in Server-Timing: a sum is no component.
const WHOLE: &str = "total";

/// What is wrong, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// Whether clients suffer.
    pub lagging: bool,
    /// The causes, most likely first.
    pub verdicts: Vec<Named>,
}

/// The latest diagnosis, and how much room each upstream has.
#[derive(Debug, Default)]
pub struct Latest {
    diagnosis: ArcSwap<Diagnosis>,
    scales: ArcSwap<HashMap<Arc<str>, super::scale::Scale>>,
    past: ArcSwap<Past>,
    asked: Mutex<Vec<Asked>>,
}

/// Somebody who wants to keep what a diagnosis is made of: about an upstream, and about whatever else lags.
#[derive(Debug)]
struct Asked {
    upstream: Option<Arc<str>>,
    reply: oneshot::Sender<Arc<Frozen>>,
}

/// Who may ask at a time; there is no answer for more.
const MAX_ASKED: usize = 64;

impl Latest {
    /// What is wrong now.
    #[must_use]
    pub fn diagnosis(&self) -> Arc<Diagnosis> {
        self.diagnosis.load_full()
    }

    /// What was found in the last hour.
    #[must_use]
    pub fn past(&self) -> Arc<Past> {
        self.past.load_full()
    }

    /// What the next diagnosis is made of, within a second: about `upstream`, and about whatever else lags.
    pub fn freeze(&self, upstream: Option<Arc<str>>) -> oneshot::Receiver<Arc<Frozen>> {
        let (reply, answer) = oneshot::channel();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < MAX_ASKED {
            asked.push(Asked { upstream, reply });
        }
        answer
    }

    fn asked(&self) -> Vec<Asked> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut asked)
    }

    /// How much room the upstream called `name` has, if it is watched.
    #[must_use]
    pub fn scale(&self, name: &str) -> Option<super::scale::Scale> {
        self.scales.load().get(name).copied()
    }
}

/// How the proxy itself fares, asked once a second.
pub type AskProxy = Box<dyn FnMut() -> Proxy + Send>;

/// What is called how, by a hash of its own.
type Names = HashMap<u64, Box<str>, Hashed>;

/// Watches all upstreams.
pub struct Watch {
    upstreams: Arc<Upstreams>,
    directories: Arc<Directories>,
    proxy: AskProxy,
    latest: Arc<Latest>,
    watched: HashMap<usize, Watched, Keyed>,
    names: Names,
    components: Names,
    hasher: RandomState,
    repeats: Repeats,
    past: Past,
    next: Instant,
}

#[derive(Debug, Default)]
struct Watched {
    history: History,
    /// Whether somebody was turned away since the last sample.
    turned_away: bool,
    /// What was found a second ago.
    before: Vec<(Cause, Subject)>,
    standings: Standings,
}

impl Watch {
    /// Watches `upstreams`; `latest` is where the diagnosis is left.
    #[must_use]
    pub fn new(
        upstreams: Arc<Upstreams>,
        directories: Arc<Directories>,
        proxy: AskProxy,
        latest: Arc<Latest>,
        now: Instant,
    ) -> Self {
        Self {
            upstreams,
            directories,
            proxy,
            latest,
            watched: HashMap::default(),
            names: Names::default(),
            components: Names::default(),
            hasher: RandomState::new(),
            repeats: Repeats::default(),
            past: Past::default(),
            next: now.after(SECOND),
        }
    }

    fn take(&mut self, exchange: &Exchange, client: &str) {
        let Some(upstream) = exchange.upstream else {
            return;
        };
        let Some(event) = event(exchange) else {
            return;
        };
        let took = u64::try_from(exchange.phases.total().as_micros()).unwrap_or(u64::MAX);
        let full = self.repeats.take(Request {
            client: event.client,
            target: exchange.target,
            upstream: upstream.index(),
            came: exchange.started,
            ended: exchange.started.saturating_add(took),
            failed: event.fate != Fate::Answered || event.abandoned,
        });
        if full {
            self.pace();
        }
        remember(&mut self.names, event.client, client);
        if self.watched.len() >= MAX_UPSTREAMS && !self.watched.contains_key(&upstream.index()) {
            return;
        }
        let watched = self.watched.entry(upstream.index()).or_default();
        watched.turned_away |= event.fate == Fate::Refused;
        watched.history.current().record(&event);
    }

    /// Counts what the latest requests were to those before them.
    fn pace(&mut self) {
        let watched = &mut self.watched;
        let now = SystemClock.unix_micros();
        self.repeats.settle(now, |upstream, pace| {
            if let Some(watched) = watched.get_mut(&upstream) {
                watched.history.current().pace(pace);
            }
        });
    }

    fn told_one(&mut self, told: &Took) {
        // Whatever told of its time has ended an exchange: it is watched, or there is no room for it.
        let watched = self.watched.get_mut(&told.upstream.index());
        let Some(watched) = watched.filter(|_| &*told.name != WHOLE) else {
            return;
        };
        let name = self.hasher.hash_one(&told.name);
        remember(&mut self.components, name, &told.name);
        let seconds = std::time::Duration::from_nanos(told.nanos).as_secs_f64();
        watched.history.current().component(name, seconds);
    }

    fn sample(&mut self) {
        for upstream in self.upstreams.all() {
            let gate = upstream.protection().gate();
            let Some(watched) = self.watched.get_mut(&upstream.id().index()) else {
                continue;
            };
            let turned_away = std::mem::take(&mut watched.turned_away);
            let (in_flight, limit) = (gate.in_flight(), gate.limit());
            let current = watched.history.current();
            current.sample(in_flight, limit, gate.waiting(), turned_away);
        }
    }

    fn second(&mut self, now: Instant) {
        let proxy = (self.proxy)();
        let all = self.upstreams.all();
        let known: Vec<usize> = all.iter().map(|upstream| upstream.id().index()).collect();
        self.watched.retain(|index, _| known.contains(index));
        let mut diagnosis = Diagnosis::default();
        let mut scales = HashMap::new();
        let asked = self.latest.asked();
        let mut frozen = Vec::new();
        for upstream in &all {
            let Some(watched) = self.watched.get_mut(&upstream.id().index()) else {
                continue;
            };
            let endpoints = watched.endpoints(upstream, now);
            watched.history.tick(true);
            let facts = Facts::new(&watched.history, &endpoints, proxy);
            let verdicts = diagnose::diagnose(&facts);
            let harmed = Harm::of(&facts).any();
            let scale = super::scale::Scale::of(&facts, upstream.protection().limit_report());
            scales.insert(Arc::clone(upstream.name()), scale);
            let lagging = harmed || !verdicts.is_empty();
            let found: Vec<_> = verdicts
                .iter()
                .map(|one| (one.cause, one.subject))
                .collect();
            let before = std::mem::replace(&mut watched.before, found);
            let again = |verdict: &Verdict| before.contains(&(verdict.cause, verdict.subject));
            let confirmed: Vec<_> = verdicts.into_iter().filter(again).collect();
            diagnosis.lagging |= lagging && (harmed || !confirmed.is_empty());
            let known = Known {
                clients: &self.names,
                components: &self.components,
                directories: &self.directories,
            };
            let name = upstream.name();
            let hosts = hosts::of(upstream);
            let wanted = |one: &Asked| lagging || one.upstream.as_ref() == Some(name);
            if frozen.len() < Frozen::MOST && asked.iter().any(wanted) {
                let history = &watched.history;
                let called = |subject| known.name(subject);
                frozen.push(FrozenUpstream::of(
                    name, history, &endpoints, &hosts, called,
                ));
            }
            if lagging {
                watched.history.suspect();
            }
            for verdict in confirmed {
                let subject = verdict.subject;
                let mut named = Named::of(verdict, name, |subject| known.name(subject));
                named.evidence.extend(hosts::evidence(&hosts, subject));
                diagnosis.add(named);
            }
        }
        diagnosis.sort();
        let unix = SystemClock.unix_micros() / 1_000_000;
        if self.past.take(&diagnosis.verdicts, unix) {
            self.latest.past.store(Arc::new(self.past.clone()));
        }
        self.latest.diagnosis.store(Arc::new(diagnosis));
        self.latest.scales.store(Arc::new(scales));
        let frozen = Arc::new(Frozen::new(proxy, frozen));
        for one in asked {
            // Whoever has given up meanwhile needs no answer.
            let _gone = one.reply.send(Arc::clone(&frozen));
        }
    }
}

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

impl Tap for Watch {
    fn batch(&mut self, exchanges: &mut dyn Iterator<Item = (&Exchange, &str)>, _now: Instant) {
        for (exchange, client) in exchanges {
            self.take(exchange, client);
        }
    }

    fn told(&mut self, told: &[Told]) {
        for one in told {
            if let Told::Took(took) = one {
                self.told_one(took);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.sample();
        self.pace();
        if now >= self.next {
            self.next = now.after(SECOND);
            self.second(now);
        }
    }
}

impl Watched {
    /// What is known of the endpoints: their standing, and what happened there in the last seconds.
    fn endpoints(&mut self, upstream: &UpstreamState, now: Instant) -> Vec<EndpointFact> {
        let pool = upstream.endpoints();
        let seen = pool.members().iter().map(|member| {
            let endpoint = &member.endpoint;
            Seen {
                id: id(endpoint),
                unhealthy: !endpoint.is_healthy(),
                ejected: endpoint.stats().is_out(now),
                totals: (endpoint.requests(), endpoint.failures()),
                in_flight: endpoint.in_flight(),
                silence: endpoint.silence(now).as_secs_f64(),
            }
        });
        self.standings.second(&seen.collect::<Vec<_>>())
    }
}

/// Keeps what `key` is called; whoever is forgotten for want of room is known again when it is next seen.
fn remember(names: &mut Names, key: u64, name: &str) {
    if names.len() >= MAX_NAMES && !names.contains_key(&key) {
        names.clear();
    }
    names.entry(key).or_insert_with(|| name.into());
}

pub(super) fn id(endpoint: &EndpointState) -> u64 {
    endpoint.id().index() as u64
}

/// What a diagnosis sees of an exchange; none of what says nothing about the upstream.
fn event(exchange: &Exchange) -> Option<Event> {
    if exchange.in_lane {
        // An operator knows of it, and holds it apart from what is judged here.
        return None;
    }
    let reason = exchange
        .reason
        .filter(|_| exchange.outcome == Outcome::Refused);
    let failed = exchange.outcome == Outcome::UpstreamBroke
        || exchange.upstream_status.is_some_and(|status| status >= 500);
    let fate = match reason {
        None if failed => Fate::Failed,
        None => Fate::Answered,
        Some(
            Reason::FairShare
            | Reason::QueueFull
            | Reason::QueueTimeout
            | Reason::Deadline
            | Reason::Overload,
        ) => Fate::Refused,
        Some(Reason::BreakerOpen | Reason::NoHealthyEndpoint) => Fate::Barred,
        Some(Reason::UpstreamReset | Reason::UpstreamTimeout) => Fate::Failed,
        Some(Reason::ConnectFailed) => Fate::Unreachable,
        // What an operator's rule or the request itself is the reason of says nothing.
        Some(
            Reason::Quota
            | Reason::Quarantined
            | Reason::Blocked
            | Reason::BadRequest
            | Reason::NoRoute
            | Reason::BodyTooLarge
            | Reason::HeaderTooLarge
            | Reason::Draining,
        ) => return None,
    };
    let mut event = Event {
        client: exchange.client.hash(),
        endpoint: exchange.endpoint.map(|endpoint| endpoint.index() as u64),
        attempts: exchange.attempts,
        abandoned: exchange.outcome == Outcome::ClientGone && exchange.upstream_status.is_none(),
        fate,
        hit: exchange.cache.and_then(|result| match result {
            // What saved the origin the work, and what did not.
            CacheResult::Hit | CacheResult::Stale | CacheResult::Collapsed => Some(true),
            CacheResult::Miss | CacheResult::Revalidated => Some(false),
            CacheResult::Bypass => None,
        }),
        ..Event::default()
    };
    for (seconds, phase) in event.phases.iter_mut().zip(Phase::ALL) {
        *seconds = exchange.phases.get(phase).as_secs_f64();
    }
    Some(event)
}

/// What numbers are called.
struct Known<'a> {
    clients: &'a Names,
    components: &'a Names,
    directories: &'a Directories,
}

impl Known<'_> {
    fn name(&self, subject: Subject) -> Option<String> {
        match subject {
            Subject::Client(client) => self.clients.get(&client).map(ToString::to_string),
            Subject::Component(name) => self.components.get(&name).map(ToString::to_string),
            Subject::Endpoint(endpoint) => {
                let index = usize::try_from(endpoint).ok()?;
                let name = self.directories.endpoints.name(index)?;
                Some(name.to_string())
            }
            Subject::Upstream | Subject::Proxy => None,
        }
    }
}

impl Diagnosis {
    /// The most likely cause first.
    pub(super) fn sort(&mut self) {
        let by_confidence =
            |one: &Named, other: &Named| other.confidence.total_cmp(&one.confidence);
        self.verdicts.sort_by(by_confidence);
    }

    /// Adds `named`, unless the same is known from another upstream and surer there.
    pub(super) fn add(&mut self, named: Named) {
        let same = self.verdicts.iter_mut().find(|one| {
            let everywhere = matches!(named.cause, Cause::NoisyClient | Cause::ProxySaturated);
            everywhere && one.cause == named.cause && one.subject == named.subject
        });
        match same {
            Some(one) if one.confidence < named.confidence => *one = named,
            Some(_) => {}
            None => self.verdicts.push(named),
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("watched", &self.watched.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tables::tests::{answered, refused};

    #[test]
    fn an_exchange_says_how_it_ended_and_whether_the_cache_had_it() {
        let with = |cache| {
            event(&Exchange {
                cache,
                ..answered()
            })
            .unwrap()
        };
        assert_eq!(with(None).hit, None);
        assert_eq!(with(Some(CacheResult::Bypass)).hit, None);
        assert_eq!(with(Some(CacheResult::Stale)).hit, Some(true));
        assert_eq!(with(Some(CacheResult::Miss)).hit, Some(false));
        let fate = |reason| {
            let exchange = Exchange {
                reason: Some(reason),
                ..refused()
            };
            event(&exchange).map(|event| event.fate)
        };
        assert_eq!(fate(Reason::QueueFull), Some(Fate::Refused));
        assert_eq!(fate(Reason::ConnectFailed), Some(Fate::Unreachable));
        assert_eq!(fate(Reason::UpstreamTimeout), Some(Fate::Failed));
        assert_eq!(
            fate(Reason::Quota),
            None,
            "an operator's rule is no trouble"
        );
        let failed = Exchange {
            upstream_status: Some(503),
            ..answered()
        };
        assert_eq!(event(&failed).unwrap().fate, Fate::Failed);
    }
}
