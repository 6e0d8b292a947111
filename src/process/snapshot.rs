//! Live values of the data plane, read when the admin API or a scrape asks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::Caches;
use crate::cache::disk::EVENTS;
use crate::clock::{Instant, SystemClock};
use crate::config::plan::{Balance, HashOn, Protocol};
use crate::engine::breaker::State;
use crate::engine::circuit::{Circuit, Mode};
use crate::engine::overload::Pulse;
use crate::engine::protection::{LimitReport, Protection};
use crate::engine::rate::{Fleet, Limit};
use crate::engine::retry::Failure;
use crate::engine::upstream::outlier::Standing;
use crate::engine::upstream::{EndpointState, UpstreamState, Upstreams};
use crate::fleet::Health as Meeting;
use crate::incident::bundles::Bundles;
use crate::incident::diagnose::Cause;
use crate::incident::objectives::Board;
use crate::incident::watch::Latest;
use crate::observe::snapshot::{
    CacheView, CircuitView, EndpointState as Health, EndpointView, FleetView, IssuerView,
    LimitView, ListenerView, RateLimitView, RetryView, Snapshot, UpstreamView, UsageView,
};
use crate::proxy::live::Connections;
use crate::proxy::worker::Shared;
use crate::usage::writer::Health as LedgerHealth;

type Listening = (Arc<str>, String, Arc<Connections>);

/// Where the values are.
#[derive(Debug)]
pub(super) struct Views {
    pub(super) shared: Arc<Shared>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) latest: Arc<Latest>,
    pub(super) objectives: Arc<Board>,
    pub(super) bundles: Arc<Bundles>,
    pub(super) caches: Arc<Caches>,
    pub(super) usage: Arc<LedgerHealth>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) meeting: Arc<Meeting>,
    pub(super) listeners: Mutex<Vec<Listening>>,
}

impl Views {
    pub(super) fn set_listeners(&self, listeners: Vec<Listening>) {
        *self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = listeners;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let now = SystemClock.now();
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let listeners = listeners
            .iter()
            .map(|(name, address, connections)| ListenerView {
                name: Arc::clone(name),
                address: address.clone(),
                connections: connections.open.load(Ordering::Relaxed),
                parked: connections.parked.load(Ordering::Relaxed),
            })
            .collect();
        let live = self.shared.live.load();
        let plan = Arc::clone(&live.plan);
        let routes = live.circuits();
        let routes = routes.filter(|(_, circuit)| circuit.mode() != Mode::Off);
        let route_circuits = routes.map(|(name, one)| circuit(name, one, now)).collect();
        let upstreams = plan
            .upstreams
            .iter()
            .filter_map(|upstream| self.upstreams.get(&upstream.name))
            .map(|upstream| self.upstream(&upstream, now))
            .collect();
        let limits = live.limits.iter();
        let rate_limits = limits.map(|limit| rate_limit(limit)).collect();
        let issuers = live.clients.issuers();
        let issuers = issuers.map(|(url, _, issuer)| IssuerView {
            url: Arc::clone(url),
            keys: u64::try_from(issuer.count()).unwrap_or(u64::MAX),
            failures: issuer.failures(),
        });
        let caches = self.caches.all();
        let caches = caches.iter().map(|cache| {
            let view = cache.view();
            CacheView {
                name: Arc::clone(cache.name()),
                memory: view.bytes,
                disk: view
                    .disk
                    .map(|disk| (disk.bytes, EVENTS.into_iter().zip(disk.events).collect())),
                results: view.results,
            }
        });
        Snapshot {
            caches: caches.collect(),
            issuers: issuers.collect(),
            rate_limits,
            listeners,
            upstreams,
            loops: self.shared.pulses.iter().map(Pulse::total).collect(),
            route_circuits,
            causes: self.causes(),
            slos: self
                .objectives
                .standings()
                .iter()
                .map(super::incidents::view)
                .collect(),
            bundles_lost: self.bundles.lost(),
            isolations: self.shared.isolations.counts().to_vec(),
            usage: UsageView {
                pending: self.usage.pending() as u64,
                dropped: self.usage.dropped(),
                folded: self.usage.folded(),
                squeezed: self.usage.squeezed(),
                unjournaled: self.usage.unjournaled(),
                errors: self.usage.errors(),
                written: self.usage.written(),
            },
            fleet: self.meeting.meets().then(|| FleetView {
                up: !self.fleet.is_away(),
                processes: self.fleet.processes(),
                errors: self.meeting.errors(),
            }),
        }
    }

    fn causes(&self) -> Vec<(&'static str, bool)> {
        let diagnosis = self.latest.diagnosis();
        let found = |cause| diagnosis.verdicts.iter().any(|one| one.cause == cause);
        let causes = Cause::ALL.into_iter();
        causes.map(|cause| (cause.as_str(), found(cause))).collect()
    }

    fn upstream(&self, upstream: &UpstreamState, now: Instant) -> UpstreamView {
        let config = upstream.config();
        let pool = upstream.endpoints();
        let endpoints: Vec<EndpointView> = pool
            .members()
            .iter()
            .map(|member| self.endpoint(upstream, &member.endpoint, now))
            .collect();
        let protection = upstream.protection();
        UpstreamView {
            name: Arc::clone(upstream.name()),
            protocol: match config.protocol {
                Protocol::Http1 => "http1",
                Protocol::Http2 => "http2",
            },
            balance: match &config.balance {
                Balance::PeakEwma => "peak-ewma".to_owned(),
                Balance::LeastRequest => "least-request".to_owned(),
                Balance::RoundRobin => "round-robin".to_owned(),
                Balance::Hash(HashOn::Client) => "hash client".to_owned(),
                Balance::Hash(HashOn::Path) => "hash path".to_owned(),
                Balance::Hash(HashOn::Header(name)) => format!("hash header:{name}"),
            },
            in_flight: u64::from(upstream.in_flight()),
            connections: endpoints.iter().map(|endpoint| endpoint.connections).sum(),
            limit: limit(protection),
            circuit: circuit(upstream.name(), protection.circuit(), now),
            retries: retries(upstream, now),
            ejections: (
                upstream.ejections(Mode::Enforce),
                upstream.ejections(Mode::Observe),
            ),
            endpoints,
            headroom: self
                .latest
                .scale(upstream.name())
                .map(|scale| scale.headroom),
        }
    }

    fn endpoint(
        &self,
        upstream: &UpstreamState,
        endpoint: &EndpointState,
        now: Instant,
    ) -> EndpointView {
        let index = endpoint.id().index();
        let open = |worker: &arc_swap::ArcSwap<Vec<(usize, usize)>>| {
            let counts = worker.load();
            counts
                .iter()
                .find(|(at, _)| *at == index)
                .map_or(0, |(_, open)| *open as u64)
        };
        EndpointView {
            address: endpoint.address().to_string(),
            zone: endpoint.zone(),
            weight: endpoint.weight(),
            state: health(upstream, endpoint, now),
            message: endpoint.health_message().map(|message| message.to_string()),
            in_flight: u64::from(endpoint.in_flight()),
            latency: endpoint.latency(now),
            connections: self.shared.upstream_connections.iter().map(open).sum(),
            host: endpoint.host(),
        }
    }
}

pub(super) fn health(upstream: &UpstreamState, endpoint: &EndpointState, now: Instant) -> Health {
    if endpoint.is_isolated() {
        return Health::Isolated;
    }
    if !endpoint.is_healthy() {
        return Health::Unhealthy;
    }
    if upstream.outlier_mode() != Mode::Enforce {
        return Health::Healthy;
    }
    match endpoint.stats().standing(now) {
        Standing::InService => Health::Healthy,
        Standing::Ejected { .. } => Health::Ejected,
        Standing::Aside { .. } => Health::Aside,
    }
}

fn rate_limit(limit: &Limit) -> RateLimitView {
    let decisions = [Mode::Enforce, Mode::Observe].map(|mode| {
        let (passed, refused) = limit.decisions(mode);
        (mode.as_str(), passed, refused)
    });
    RateLimitView {
        name: Arc::clone(limit.name()),
        decisions,
        evictions: limit.evictions(),
    }
}

fn limit(protection: &Protection) -> LimitView {
    let gate = protection.gate();
    let view = LimitView {
        mode: protection.limit_mode().as_str(),
        algorithm: "fixed",
        limit: gate.limit(),
        in_flight: gate.in_flight(),
        waiting: gate.waiting(),
        streams: gate.streams(),
        ..LimitView::default()
    };
    match protection.limit_report() {
        LimitReport::Fixed(_) => view,
        LimitReport::Adaptive(report) => LimitView {
            algorithm: "adaptive",
            elasticity: report.elasticity,
            base: report.base,
            throughput: report.throughput,
            latency: report.latency,
            ..view
        },
    }
}

fn circuit(name: &Arc<str>, circuit: &Circuit, now: Instant) -> CircuitView {
    let mut transitions = Vec::new();
    for from in State::ALL {
        for to in State::ALL {
            let count = circuit.transitioned(from, to);
            if count > 0 {
                transitions.push((from, to, count));
            }
        }
    }
    CircuitView {
        name: Arc::clone(name),
        mode: circuit.mode().as_str(),
        report: Some(circuit.breaker().report(now)),
        transitions,
    }
}

fn retries(upstream: &UpstreamState, now: Instant) -> RetryView {
    let count = |failure: Failure| {
        let sent = upstream.resent(failure, Mode::Enforce);
        let observed = upstream.resent(failure, Mode::Observe);
        (failure.as_str(), sent, observed)
    };
    let mut counts: Vec<_> = Failure::RETRIED.map(count).into();
    let (sent, observed) = (
        upstream.hedged(Mode::Enforce),
        upstream.hedged(Mode::Observe),
    );
    counts.push(("hedge", sent, observed));
    RetryView {
        counts,
        budget_remaining: upstream.retries().remaining(now),
    }
}
