//! Upstreams as every worker shares them: their endpoints, what is known of each, and who is in flight.
//!
//! An [`UpstreamState`] is keyed by name and outlives reloads; an [`EndpointState`] is keyed by its address
//! within its upstream and keeps latency, health and counters for as long as it is listed. Workers read both
//! through an `ArcSwap` and atomics; the lock in here orders writers only (reload, DNS, health checks).
//!
//! Depends on the balance policy, the registry and the plan's types, hence on the `proxy` feature. It does
//! no I/O and reads no clock.

mod endpoint;
#[cfg(test)]
pub(crate) mod fixture;
mod lease;
mod resend;
#[cfg(test)]
mod tests;
mod throttle;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use self::endpoint::{EndpointState, HostLoad};
pub use self::lease::{Completion, Lease};
pub use self::resend::Resend;
pub use self::throttle::{Throttle, Throttled};
use super::circuit::{AtomicMode, Mode};
use super::protection::Protection;
use super::registry::Directories;
use crate::clock::Instant;
use crate::config::plan::{self, Balance, Endpoints, Plan};
use crate::model::{EndpointId, UpstreamId};
pub use crate::policy::balance::NoEndpoint;
use crate::policy::balance::{Member, Pick, Pool, Strategy};
pub use crate::policy::outlier;
use crate::policy::outlier::Detector;
pub use crate::policy::retry;
use crate::policy::retry::{Failure, Retries};

/// The endpoints of an upstream at one time, and how one is chosen.
pub type EndpointSet = Pool<EndpointState>;

/// Every upstream of the running plan.
#[derive(Debug, Default)]
pub struct Upstreams {
    current: ArcSwap<Vec<Arc<UpstreamState>>>,
    generation: Arc<AtomicU64>,
    applying: Mutex<()>,
}

impl Upstreams {
    /// No upstreams yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over `plan`: creates the upstreams that are new, updates the others in place, retires those
    /// that are gone. Returns the states in the order of [`Plan::upstreams`], so that a route's index finds
    /// its own.
    pub fn apply(
        &self,
        plan: &Plan,
        directories: &Directories,
        now: Instant,
    ) -> Vec<Arc<UpstreamState>> {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut former: HashMap<Arc<str>, Arc<UpstreamState>> = self
            .all()
            .into_iter()
            .map(|state| (Arc::clone(&state.name), state))
            .collect();
        let resume = |config: &Arc<plan::Upstream>| {
            let state = former.remove(&config.name).unwrap_or_else(|| {
                let id = UpstreamId::new(directories.upstreams.intern(&config.name));
                UpstreamState::new(id, config, &self.generation, now)
            });
            state.update(config, directories, now);
            state
        };
        let states: Vec<_> = plan.upstreams.iter().map(resume).collect();
        for gone in former.into_values() {
            gone.retire();
        }
        self.current.store(Arc::new(states.clone()));
        self.generation.fetch_add(1, Ordering::Release);
        states
    }

    /// Every upstream, in the order of the plan.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<UpstreamState>> {
        self.current.load().as_ref().clone()
    }

    /// The upstream of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<UpstreamState>> {
        let current = self.current.load();
        current.iter().find(|state| &*state.name == name).cloned()
    }

    /// A number that grows whenever a plan is applied or an endpoint is retired: time for a worker to drop
    /// the pooled connections of endpoints that are [retired](EndpointState::is_retired). One relaxed load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

/// One upstream, shared by all workers.
#[derive(Debug)]
pub struct UpstreamState {
    id: UpstreamId,
    name: Arc<str>,
    config: ArcSwap<plan::Upstream>,
    endpoints: ArcSwap<EndpointSet>,
    protection: Protection,
    outliers: Detector,
    ejects: AtomicMode,
    /// Ejections that were made, and that would have been.
    ejected: [AtomicU64; 2],
    throttle: Throttle,
    retries: Retries,
    resends: AtomicMode,
    resent: [[AtomicU64; Failure::COUNT]; 2],
    hedged: [AtomicU64; 2],
    frozen: AtomicBool,
    spared: AtomicBool,
    in_flight: AtomicU32,
    retired: AtomicBool,
    /// [`Upstreams::generation`], shared.
    generation: Arc<AtomicU64>,
    /// What [`Self::endpoints`] was built from. Whoever writes holds it.
    listed: Mutex<Vec<plan::Endpoint>>,
}

/// What a new list of endpoints changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Endpoints that are new.
    pub added: usize,
    /// Endpoints that are gone.
    pub removed: usize,
    /// Whether anything changed at all, a weight or a zone included.
    pub any: bool,
}

impl UpstreamState {
    /// Has caches answer with what is stale, rather than ask here, or no longer.
    pub fn spare(&self, spared: bool) {
        self.spared.store(spared, Ordering::Relaxed);
    }

    /// Whether caches answer with what is stale rather than ask here: an operator wants so.
    #[must_use]
    pub fn is_spared(&self) -> bool {
        self.spared.load(Ordering::Relaxed)
    }

    fn new(
        id: UpstreamId,
        config: &Arc<plan::Upstream>,
        generation: &Arc<AtomicU64>,
        now: Instant,
    ) -> Arc<Self> {
        let empty = Pool::new(Vec::new(), strategy(config), config.slow_start);
        Arc::new(Self {
            id,
            name: Arc::clone(&config.name),
            config: ArcSwap::new(Arc::clone(config)),
            endpoints: ArcSwap::from_pointee(empty),
            protection: Protection::new(&config.protection, now),
            outliers: Detector::new(config.outlier.config, now),
            ejects: AtomicMode::new(config.outlier.mode),
            ejected: Default::default(),
            throttle: Throttle::new(config.noisy),
            retries: Retries::new(config.retry.config, now),
            resends: AtomicMode::new(config.retry.mode),
            resent: Default::default(),
            hedged: Default::default(),
            frozen: AtomicBool::new(false),
            spared: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            generation: Arc::clone(generation),
            listed: Mutex::new(Vec::new()),
        })
    }

    /// Its identity, the same over reloads.
    #[must_use]
    pub const fn id(&self) -> UpstreamId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its part of the running plan.
    #[must_use]
    pub fn config(&self) -> Arc<plan::Upstream> {
        self.config.load_full()
    }

    /// Requests in flight over all its endpoints, retired ones included.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Its breaker, limit and queue.
    #[must_use]
    pub const fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Who is held to its share of it.
    #[must_use]
    pub const fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Its budget for sending again.
    #[must_use]
    pub const fn retries(&self) -> &Retries {
        &self.retries
    }

    fn count_ejection(&self, mode: Mode) {
        if let Some(count) = self.ejected.get(usize::from(mode == Mode::Observe)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often an endpoint was ejected, or would have been in this mode.
    #[must_use]
    pub fn ejections(&self, mode: Mode) -> u64 {
        let count = self.ejected.get(usize::from(mode == Mode::Observe));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Whether endpoints are ejected.
    #[must_use]
    pub fn outlier_mode(&self) -> Mode {
        self.ejects.get()
    }

    /// Whether the running plan no longer has it.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Its endpoints and whether their health is being ignored, as they stand now.
    #[must_use]
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.endpoints.load_full()
    }

    /// Chooses an endpoint that is not in `exclude` and counts the request in. `key` is what a hashing
    /// upstream hashes on. Endpoints that are ejected are passed over while there is another; those in doubt
    /// are asked on purpose now and then.
    ///
    /// # Errors
    /// When no endpoint is known, or each one is unhealthy or excluded.
    pub fn pick(
        self: &Arc<Self>,
        now: Instant,
        rng: &mut fastrand::Rng,
        key: Option<u64>,
        exclude: &[EndpointId],
    ) -> Result<Lease, NoEndpoint> {
        let set = self.endpoints.load();
        let tried = |endpoint: &EndpointState| exclude.contains(&endpoint.id());
        let ejects = self.ejects.get() == Mode::Enforce;
        let out = |endpoint: &EndpointState| {
            tried(endpoint) || endpoint.is_isolated() || (ejects && endpoint.stats().is_out(now))
        };
        let in_flight = self.in_flight();
        let asks = ejects && self.outliers.asks_in_doubt(set.members().len(), rng);
        let mut pick = |excluded: &dyn Fn(&EndpointState) -> bool| {
            set.pick(Pick {
                now,
                rng,
                key,
                in_flight,
                excluded,
            })
        };
        let sure = |endpoint: &EndpointState| out(endpoint) || !endpoint.stats().is_in_doubt();
        let asked = asks.then(|| pick(&sure));
        let index = match asked {
            Some(Ok(index)) => index,
            _ => pick(&out).or_else(|_none_left| pick(&tried))?,
        };
        let member = set.members().get(index).ok_or(NoEndpoint::Unknown)?;
        Ok(Lease::new(
            Arc::clone(self),
            Arc::clone(&member.endpoint),
            now,
        ))
    }

    /// Judges the endpoints by their answers. To be called each second, and when [`Lease::observe`] asks for
    /// it. What was decided, with the endpoint it concerns.
    pub fn judge(&self, now: Instant) -> Vec<(Arc<EndpointState>, outlier::Decision)> {
        let mode = self.ejects.get();
        if mode == Mode::Off {
            return Vec::new();
        }
        let set = self.endpoints.load();
        let members: Vec<_> = set
            .members()
            .iter()
            .map(|member| &member.endpoint)
            .filter(|endpoint| endpoint.is_healthy())
            .collect();
        let stats: Vec<_> = members.iter().map(|endpoint| endpoint.stats()).collect();
        let decisions = self.outliers.evaluate(now, &stats);
        let concerned = decisions.into_iter().filter_map(|decision| {
            let (outlier::Decision::Ejected { index, .. }
            | outlier::Decision::Spared { index, .. }
            | outlier::Decision::Returned { index }) = decision;
            let endpoint = members.get(index)?;
            match decision {
                outlier::Decision::Ejected { .. } => self.count_ejection(mode),
                outlier::Decision::Returned { .. } if mode == Mode::Enforce => {
                    endpoint.slot().returned(now);
                }
                outlier::Decision::Returned { .. } | outlier::Decision::Spared { .. } => {}
            }
            Some((Arc::clone(endpoint), decision))
        });
        concerned.collect()
    }

    /// Leaves `endpoint` alone for as long as it asked for. Returns until when; none when it may not.
    pub fn set_aside(
        &self,
        endpoint: &EndpointState,
        now: Instant,
        time: Duration,
    ) -> Option<Instant> {
        if self.ejects.get() == Mode::Off {
            return None;
        }
        let set = self.endpoints.load();
        let members = set.members().iter().map(|member| &member.endpoint);
        let healthy: Vec<_> = members.filter(|e| e.is_healthy()).collect();
        let index = healthy.iter().position(|e| e.id() == endpoint.id())?;
        let stats: Vec<_> = healthy.iter().map(|e| e.stats()).collect();
        self.outliers.set_aside(now, &stats, index, time)
    }

    /// Takes over a list that discovery found. The same list again changes nothing.
    pub fn set_endpoints(
        &self,
        found: Vec<plan::Endpoint>,
        directories: &Directories,
        now: Instant,
    ) -> Change {
        let mut listed = self.lock();
        if *listed == found {
            return Change::default();
        }
        *listed = found;
        self.rebuild(&listed, directories, now)
    }

    /// Takes in what the checks concluded about `endpoint`, with the reason in words, and says whether that
    /// changed its health.
    pub fn set_health(
        &self,
        endpoint: &EndpointState,
        healthy: bool,
        message: impl Into<String>,
        now: Instant,
    ) -> bool {
        let _writing = self.lock();
        endpoint.set_message(Some(message.into()));
        let changed = endpoint.slot().set_healthy(healthy, now);
        if changed {
            self.endpoints.load().refresh();
        }
        changed
    }

    fn update(&self, config: &Arc<plan::Upstream>, directories: &Directories, now: Instant) {
        let mut listed = self.lock();
        let former = self.config.swap(Arc::clone(config));
        self.protection.update(&config.protection, now);
        self.outliers.update(config.outlier.config);
        self.ejects.set(config.outlier.mode);
        self.throttle.set_mode(config.noisy);
        self.retries.update(config.retry.config);
        self.resends.set(config.retry.mode);
        if let Endpoints::Fixed(endpoints) = &config.endpoints {
            listed.clone_from(endpoints);
        }
        // Endpoints from DNS stay as last found until there is another answer, even under another name.
        if config.health.is_none() && former.health.is_some() {
            for member in self.endpoints.load().members() {
                member.endpoint.set_message(None);
                member.endpoint.slot().set_healthy(true, now);
            }
        }
        self.rebuild(&listed, directories, now);
    }

    fn rebuild(
        &self,
        listed: &[plan::Endpoint],
        directories: &Directories,
        now: Instant,
    ) -> Change {
        let config = self.config.load();
        let former = self.endpoints.load_full();
        let mut known: HashMap<_, _> = former
            .members()
            .iter()
            .map(|member| (member.endpoint.address(), &member.endpoint))
            .collect();
        let median = former.median_latency(now);
        let mut change = Change {
            any: true,
            ..Change::default()
        };
        let mut seen = HashSet::new();
        let mut members = Vec::with_capacity(listed.len());
        for described in listed.iter().filter(|e| seen.insert(&e.address)) {
            let endpoint = known.remove(&described.address).cloned();
            let endpoint = endpoint.unwrap_or_else(|| {
                change.added += 1;
                let new = EndpointState::new(&self.name, &described.address, directories);
                if let Some(median) = median {
                    new.slot().latency().seed(median, now);
                }
                Arc::new(new)
            });
            endpoint.describe(described);
            members.push(Member {
                place: endpoint.place(),
                endpoint,
                weight: described.weight,
            });
        }
        for gone in known.values() {
            change.removed += 1;
            gone.retire();
        }
        let set = Pool::new(members, strategy(&config), config.slow_start);
        self.endpoints.store(Arc::new(set));
        if change.removed > 0 {
            self.generation.fetch_add(1, Ordering::Release);
        }
        change
    }

    fn retire(&self) {
        let _writing = self.lock();
        self.retired.store(true, Ordering::Relaxed);
        for member in self.endpoints.load().members() {
            member.endpoint.retire();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<plan::Endpoint>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn counter(&self) -> &AtomicU32 {
        &self.in_flight
    }
}

const fn strategy(config: &plan::Upstream) -> Strategy {
    match &config.balance {
        Balance::PeakEwma => Strategy::PeakEwma,
        Balance::LeastRequest => Strategy::LeastRequest,
        Balance::RoundRobin => Strategy::RoundRobin,
        Balance::Hash(_) => Strategy::Hash,
    }
}
