//! One endpoint of an upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::clock::Instant;
use crate::config::plan::{self, EndpointAddress};
use crate::engine::registry::Directories;
use crate::model::EndpointId;
use crate::policy::balance::{Slot, stand_in};
use crate::policy::outlier::EndpointStats;

/// One endpoint, shared by all workers for as long as it is listed, and by its leases beyond that.
#[derive(Debug)]
pub struct EndpointState {
    id: EndpointId,
    address: EndpointAddress,
    name: Arc<str>,
    traits: ArcSwap<Traits>,
    slot: Slot,
    stats: EndpointStats,
    requests: AtomicU64,
    failures: AtomicU64,
    retired: AtomicBool,
    isolated: AtomicBool,
    message: ArcSwapOption<String>,
    host: ArcSwapOption<HostLoad>,
}

/// How the host of an endpoint is doing, by its node exporter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostLoad {
    /// The part of all processors' time that was not idle, over the last seconds.
    pub cpu: f64,
    /// The part of it in which a processor was idle because a disk was waited for.
    pub iowait: f64,
    /// The part of its memory that is in use.
    pub memory: f64,
    /// By how much that grew lately: bytes a second.
    pub memory_slope: f64,
    /// Tasks that run or wait for a processor or a disk, the mean of a minute.
    pub load: f64,
}

/// What a reload may change about an endpoint without making it another.
#[derive(Debug)]
struct Traits {
    weight: f64,
    zone: Option<Arc<str>>,
    node: Option<Arc<str>>,
}

impl EndpointState {
    pub(super) fn new(
        upstream: &str,
        address: &EndpointAddress,
        directories: &Directories,
    ) -> Self {
        let name: Arc<str> = address.to_string().into();
        let id = directories.endpoints.intern(&format!("{upstream}/{name}"));
        Self {
            id: EndpointId::new(id),
            address: address.clone(),
            name,
            traits: ArcSwap::from_pointee(Traits {
                weight: 1.0,
                zone: None,
                node: None,
            }),
            slot: Slot::default(),
            stats: EndpointStats::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            isolated: AtomicBool::new(false),
            message: ArcSwapOption::empty(),
            host: ArcSwapOption::empty(),
        }
    }

    /// Its identity, the same over reloads and over being away for a time.
    #[must_use]
    pub const fn id(&self) -> EndpointId {
        self.id
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> &EndpointAddress {
        &self.address
    }

    /// Its address as text.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its relative share.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.traits.load().weight
    }

    /// Its zone.
    #[must_use]
    pub fn zone(&self) -> Option<Arc<str>> {
        self.traits.load().zone.clone()
    }

    /// The URL of its host's node exporter.
    #[must_use]
    pub fn node(&self) -> Option<Arc<str>> {
        self.traits.load().node.clone()
    }

    /// How its host is doing; none when that is not known.
    #[must_use]
    pub fn host(&self) -> Option<HostLoad> {
        self.host.load().as_deref().copied()
    }

    /// Says how its host is doing.
    pub fn set_host(&self, host: Option<HostLoad>) {
        self.host.store(host.map(Arc::new));
    }

    /// Requests it is working on.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.slot.in_flight()
    }

    /// For how long it has answered nothing of what it was asked.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        self.slot.silence(now)
    }

    /// Its peak EWMA latency at `now`; none before the first answer.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Option<Duration> {
        self.slot.latency().value(now)
    }

    /// Whether its checks let it take requests; true without checks.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.slot.is_healthy()
    }

    /// What its last check found, in words; none before the first.
    #[must_use]
    pub fn health_message(&self) -> Option<Arc<String>> {
        self.message.load_full()
    }

    /// Requests it has been picked for.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests that were reported as failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether it is no longer listed: its idle connections are of no use.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Whether an operator has taken it out of service.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.isolated.load(Ordering::Relaxed)
    }

    /// Takes it out of service, or back: it is left alone as long as there is another.
    pub fn isolate(&self, out: bool) {
        self.isolated.store(out, Ordering::Relaxed);
    }

    /// How it does against its peers.
    #[must_use]
    pub const fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    pub(super) const fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Its place on a hash ring.
    pub(super) fn place(&self) -> SocketAddr {
        match &self.address {
            EndpointAddress::Socket(address) => *address,
            EndpointAddress::Host(..) | EndpointAddress::Unix(_) => stand_in(&self.name),
        }
    }

    pub(super) fn describe(&self, described: &plan::Endpoint) {
        if self.traits.load().node != described.node {
            // What is known is another host's, or nobody's to renew.
            self.set_host(None);
        }
        self.traits.store(Arc::new(Traits {
            weight: described.weight,
            zone: described.zone.clone(),
            node: described.node.clone(),
        }));
    }

    pub(super) fn set_message(&self, message: Option<String>) {
        self.message.store(message.map(Arc::new));
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsRef<Slot> for EndpointState {
    fn as_ref(&self) -> &Slot {
        &self.slot
    }
}
