//! What a plan is turned into: the parts of a process before it runs, and what they are told of a plan.

use std::hash::RandomState;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;

use super::quotas;
use crate::cache::Caches;
use crate::clock::SystemClock;
use crate::config::plan::{self, HedgeAfter, Plan};
use crate::discovery::health::Tls;
use crate::engine::overload::{Overload, Pulse};
use crate::engine::rate::{self, Limits};
use crate::engine::registry::Directories;
use crate::engine::route::{Described, Routes};
use crate::engine::upstream::{EndpointState, Upstreams};
use crate::incident::watch::{AskProxy, Latest, Watch};
use crate::model::RateLimitId;
use crate::observe::accounts::KnownClient;
use crate::observe::collector::{Collector, Tap};
use crate::observe::host::Host;
use crate::observe::timeline::{Drawer, Timelines};
use crate::proxy::live::{Live, States};
use crate::proxy::worker::Shared;

/// What the workers of `plan` share.
pub(super) fn shared(plan: &Plan, live: Live) -> Shared {
    let workers = plan.server.workers;
    Shared {
        live: ArcSwap::from_pointee(live),
        generation: AtomicU64::new(0),
        draining: AtomicBool::new(false),
        max_connections: plan.server.max_connections.div_ceil(workers),
        hasher: RandomState::new(),
        overload: Overload::new(plan.server.overload, plan.tiers.len()),
        isolations: Arc::default(),
        pulses: (0..workers).map(|_| Pulse::default()).collect(),
        upstream_connections: (0..workers).map(|_| ArcSwap::default()).collect(),
    }
}

/// The states that `plan` goes on with: those that are there, as far as it still has them.
pub(super) fn states(
    plan: &Arc<Plan>,
    directories: &Directories,
    upstreams: &Upstreams,
    routes: &Routes,
    limits: &Limits,
    caches: &Caches,
) -> States {
    let now = SystemClock.now();
    States {
        upstreams: upstreams.apply(plan, directories, now),
        routes: routes.apply(described(plan), now),
        limits: limits.apply(rate_limits(plan, directories), quotas::now()),
        caches: caches.apply(&plan.caches),
    }
}

/// What observes, as `plan` says; `watch` sees it all.
pub(super) fn collector(
    plan: &Plan,
    upstreams: &Arc<Upstreams>,
    directories: &Arc<Directories>,
    taps: Vec<Box<dyn Tap>>,
) -> io::Result<Collector> {
    let collector = Collector::start(
        &plan.telemetry,
        Arc::clone(upstreams),
        Arc::clone(directories),
        taps,
    )?;
    collector.metrics().set_known_clients(known(plan));
    Ok(collector)
}

/// What looks for what is wrong, and leaves it in `latest`.
pub(super) fn watch(
    upstreams: &Arc<Upstreams>,
    directories: &Arc<Directories>,
    proxy: AskProxy,
    latest: &Arc<Latest>,
) -> Watch {
    let (upstreams, directories) = (Arc::clone(upstreams), Arc::clone(directories));
    Watch::new(
        upstreams,
        directories,
        proxy,
        Arc::clone(latest),
        SystemClock.now(),
    )
}

/// What draws the last minutes of `upstreams` into `timelines`.
pub(super) fn drawer(upstreams: &Arc<Upstreams>, timelines: &Arc<Timelines>) -> Drawer {
    let (upstreams, timelines) = (Arc::clone(upstreams), Arc::clone(timelines));
    Drawer::new(upstreams, timelines, SystemClock.now())
}

/// How a health check of `endpoint` is secured; none: it is not.
pub(super) fn check_tls(upstream: &plan::Upstream, endpoint: &EndpointState) -> Option<Tls> {
    let (config, server_name) = crate::proxy::endpoint_tls(upstream, endpoint)?;
    Some(Tls {
        config,
        server_name,
    })
}

/// The machine, sampled from now on.
pub(super) fn host(plan: &Plan) -> io::Result<Arc<Host>> {
    let host = Arc::new(Host::open(plan.server.state_dir.as_deref()));
    host.start()?;
    Ok(host)
}

/// What `plan` says of its routes.
fn described(plan: &Plan) -> impl Iterator<Item = Described<'_>> {
    plan.routes.iter().map(|route| {
        let upstream = plan.upstreams.get(route.upstream);
        let hedge = upstream.and_then(|upstream| upstream.retry.hedge_after);
        Described {
            name: &route.name,
            breaker: route.breaker.as_ref().map(|one| (one.mode, one.config)),
            late: match hedge {
                Some(HedgeAfter::Quantile(quantile)) => Some(quantile),
                Some(HedgeAfter::Time(_)) | None => None,
            },
        }
    })
}

/// The clients that `plan` knows by name.
pub(super) fn known(plan: &Plan) -> Vec<KnownClient> {
    plan.clients.known.iter().map(KnownClient::from).collect()
}

/// What `plan` says of its rate limits.
fn rate_limits<'a>(
    plan: &'a Plan,
    directories: &'a Directories,
) -> impl Iterator<Item = rate::Described<'a>> {
    plan.rate_limits.iter().map(|limit| rate::Described {
        name: &limit.name,
        id: RateLimitId::new(directories.rate_limits.intern(&limit.name)),
        per: limit.per.to_string(),
        settings: limit.settings.clone(),
    })
}
