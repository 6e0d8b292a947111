//! Live values of the data plane, read when the admin API or a scrape asks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Instant, SystemClock};
use crate::config::plan::{Balance, HashOn, Protocol};
use crate::engine::upstream::{EndpointState, UpstreamState, Upstreams};
use crate::observe::snapshot::{
    EndpointState as Health, EndpointView, ListenerView, Snapshot, UpstreamView,
};
use crate::proxy::live::Connections;
use crate::proxy::worker::Shared;

type Listening = (Arc<str>, String, Arc<Connections>);

/// Where the values are.
#[derive(Debug)]
pub(super) struct Views {
    shared: Arc<Shared>,
    upstreams: Arc<Upstreams>,
    listeners: Mutex<Vec<Listening>>,
}

impl Views {
    pub(super) fn new(shared: Arc<Shared>, upstreams: Arc<Upstreams>) -> Self {
        Self {
            shared,
            upstreams,
            listeners: Mutex::default(),
        }
    }

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
        let plan = Arc::clone(&self.shared.live.load().plan);
        let upstreams = plan
            .upstreams
            .iter()
            .filter_map(|upstream| self.upstreams.get(&upstream.name))
            .map(|upstream| self.upstream(&upstream, now))
            .collect();
        Snapshot {
            listeners,
            upstreams,
        }
    }

    fn upstream(&self, upstream: &UpstreamState, now: Instant) -> UpstreamView {
        let config = upstream.config();
        let pool = upstream.endpoints();
        let endpoints: Vec<EndpointView> = pool
            .members()
            .iter()
            .map(|member| self.endpoint(&member.endpoint, now))
            .collect();
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
            endpoints,
        }
    }

    fn endpoint(&self, endpoint: &EndpointState, now: Instant) -> EndpointView {
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
            state: if endpoint.is_healthy() {
                Health::Healthy
            } else {
                Health::Unhealthy
            },
            message: endpoint.health_message().map(|message| message.to_string()),
            in_flight: u64::from(endpoint.in_flight()),
            latency: endpoint.latency(now),
            connections: self.shared.upstream_connections.iter().map(open).sum(),
        }
    }
}
