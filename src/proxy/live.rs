//! The plan as the workers see it: routes compiled, upstream state attached, TLS loaded.
//!
//! Made by the control runtime, whole or not at all, and swapped in at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::connect::Connector;
use super::router::Router;
use super::tls;
pub use super::tls::TlsError;
use crate::config::plan::{Listener, Plan, Route};
use crate::engine::registry::Directories;
use crate::engine::upstream::{UpstreamState, Upstreams};
use crate::model::RouteId;

/// A plan, ready to carry requests.
#[derive(Debug)]
pub struct Live {
    /// The plan it was made of.
    pub plan: Arc<Plan>,
    /// Finds a request's route: an index into `routes`.
    pub(crate) router: Router,
    /// As in the plan, in the same order.
    pub(crate) routes: Vec<LiveRoute>,
}

/// The plan a worker's requests run under: shared among them without touching the count all workers share.
#[derive(Debug)]
pub(crate) struct View(pub(crate) Arc<Live>);

impl std::ops::Deref for View {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.0
    }
}

/// A route and what it leads to.
#[derive(Debug)]
pub(crate) struct LiveRoute {
    pub(crate) id: RouteId,
    pub(crate) route: Arc<Route>,
    pub(crate) upstream: Arc<UpstreamState>,
    pub(crate) connector: Arc<Connector>,
}

impl Live {
    /// Compiles `plan` over the upstream states that `upstreams` holds for it.
    ///
    /// # Errors
    /// When a certificate, key or CA file that the plan names cannot be used.
    pub fn build(
        plan: Arc<Plan>,
        upstreams: &Upstreams,
        directories: &Directories,
    ) -> Result<Self, TlsError> {
        let connectors = plan
            .upstreams
            .iter()
            .map(|upstream| Connector::new(upstream).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let mut routes = Vec::with_capacity(plan.routes.len());
        for route in &plan.routes {
            let upstream = plan.upstreams.get(route.upstream);
            let state = upstream.and_then(|upstream| upstreams.get(&upstream.name));
            let (Some(connector), Some(state)) = (connectors.get(route.upstream), state) else {
                continue;
            };
            routes.push(LiveRoute {
                id: RouteId::new(directories.routes.intern(&route.name)),
                route: Arc::clone(route),
                upstream: state,
                connector: Arc::clone(connector),
            });
        }
        Ok(Self {
            router: Router::new(&plan),
            plan,
            routes,
        })
    }
}

/// A listener, ready to accept.
#[derive(Debug)]
pub struct LiveListener {
    /// Its part of the plan.
    pub listener: Listener,
    /// TLS towards its clients, if any.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Open client connections. Kept over reloads.
    pub connections: Arc<Connections>,
}

/// A listener's client connections.
#[derive(Debug, Default)]
pub struct Connections {
    /// Those that are open.
    pub open: AtomicU64,
    /// Those among them that lie idle and hold next to no memory.
    pub parked: AtomicU64,
}

impl LiveListener {
    /// Loads what `listener` names.
    ///
    /// # Errors
    /// When a certificate, key or CA file cannot be used.
    pub fn build(listener: &Listener, connections: Arc<Connections>) -> Result<Self, TlsError> {
        let tls = listener
            .tls
            .as_ref()
            .map(|tls| tls::server_config(tls, listener.http1, listener.http2))
            .transpose()?;
        Ok(Self {
            listener: listener.clone(),
            tls,
            connections,
        })
    }

    /// Whether what `ip` says of others is believed.
    pub(crate) fn trusts(&self, ip: IpAddr) -> bool {
        self.listener
            .trusted_proxies
            .iter()
            .any(|net| net.contains(&ip))
    }
}
