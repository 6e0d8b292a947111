//! The plan as the workers see it: routes compiled, upstream state attached, TLS loaded.
//!
//! Made by the control runtime, whole or not at all, and swapped in at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::HeaderValue;

use super::cached::RouteCache;
use super::connect::Connector;
use super::forwarding;
use super::rate;
use super::router::Router;
use super::tls;
pub use super::tls::TlsError;
use crate::cache::Cache;
use crate::clients::Registry;
use crate::config::plan::{Balance, HashOn, Identify, Listener, Per, Plan, Route, Upstream};
use crate::engine::circuit::{Circuit, Mode};
use crate::engine::rate::Limit;
use crate::engine::registry::Directories;
use crate::engine::route::RouteState;
use crate::engine::upstream::UpstreamState;
use crate::model::{RouteId, TierId};

/// A plan, ready to carry requests.
#[derive(Debug)]
pub struct Live {
    /// The plan it was made of.
    pub plan: Arc<Plan>,
    /// Finds a request's route: an index into `routes`.
    pub(crate) router: Router,
    /// As in the plan, in the same order.
    pub(crate) routes: Vec<LiveRoute>,
    /// Who sends requests.
    pub clients: Arc<Registry>,
    /// The plan's rate limits, in the same order.
    pub limits: Vec<Arc<Limit>>,
    /// The plan's tiers, in the same order.
    tiers: Vec<LiveTier>,
    /// Whether something in the plan, a route's own edits apart, looks at what upstreams are told of a request's way.
    pub(crate) reads_forwarding: bool,
}

/// A tier.
#[derive(Debug)]
pub(crate) struct LiveTier {
    pub(crate) id: TierId,
    pub(crate) name: Arc<str>,
    /// What rate limits count it as.
    pub(crate) key: u64,
}

/// A rate limit that a route is under.
#[derive(Debug)]
pub(crate) struct RouteLimit {
    pub(crate) limit: Arc<Limit>,
    pub(crate) per: Per,
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
    /// What is learned about it.
    pub(crate) state: Arc<RouteState>,
    /// Its place in the queue, of a client without one of its own: 0 goes first.
    pub(crate) tier: u8,
    /// The rate limits it is under, but those that are off.
    pub(crate) limits: Box<[RouteLimit]>,
    /// What clients are told of them.
    pub(crate) limit_policy: Option<HeaderValue>,
    /// What rate limits count it as.
    pub(crate) key: u64,
    pub(crate) upstream: Arc<UpstreamState>,
    /// The upstream's part of the same plan.
    pub(crate) config: Arc<Upstream>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) cache: Option<RouteCache>,
}

/// How the upstreams of a plan are connected to: all of a plan that can fail to become a [`Live`]. Loaded
/// before anything that runs is touched, so that a plan which fails has changed nothing.
#[derive(Debug)]
pub struct Connectors(Vec<Arc<Connector>>);

impl Connectors {
    /// Loads what the upstreams of `plan` name, in its order.
    ///
    /// # Errors
    /// When a certificate, key or CA file that the plan names cannot be used.
    pub fn load(plan: &Plan) -> Result<Self, TlsError> {
        let upstreams = plan.upstreams.iter();
        let connectors = upstreams.map(|upstream| Connector::new(upstream).map(Arc::new));
        connectors.collect::<Result<_, _>>().map(Self)
    }
}

/// What is known of a plan's routes and upstreams, each in the plan's order.
#[derive(Debug)]
pub struct States {
    /// Of its upstreams.
    pub upstreams: Vec<Arc<UpstreamState>>,
    /// Of its routes.
    pub routes: Vec<Arc<RouteState>>,
    /// Its rate limits.
    pub limits: Vec<Arc<Limit>>,
    /// Its caches.
    pub caches: Vec<Arc<Cache>>,
}

impl Live {
    /// The routes' names and breakers.
    pub fn circuits(&self) -> impl Iterator<Item = (&Arc<str>, &Circuit)> {
        let routes = self.routes.iter();
        routes.map(|route| (&route.route.name, route.state.circuit()))
    }

    /// Compiles `plan`, whose `connectors` these are, over the states that its upstreams and routes have.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        connectors: &Connectors,
        states: &States,
        clients: Arc<Registry>,
        directories: &Directories,
    ) -> Self {
        let mut routes = Vec::with_capacity(plan.routes.len());
        for (route, state) in plan.routes.iter().zip(&states.routes) {
            let connector = connectors.0.get(route.upstream);
            let upstream = states.upstreams.get(route.upstream);
            let config = plan.upstreams.get(route.upstream);
            let (Some(connector), Some(upstream), Some(config)) = (connector, upstream, config)
            else {
                continue;
            };
            let limits = route.rate_limits.iter().filter_map(|index| {
                let limit = states.limits.get(*index)?;
                let per = plan.rate_limits.get(*index)?.per.clone();
                let limit = Arc::clone(limit);
                (limit.settings().mode != Mode::Off).then_some(RouteLimit { limit, per })
            });
            let limits: Box<[_]> = limits.collect();
            routes.push(LiveRoute {
                limit_policy: rate::policy(limits.iter().map(|one| &one.limit)),
                limits,
                key: clients.hasher().id(b"route", route.name.as_bytes()).hash(),
                id: RouteId::new(directories.routes.intern(&route.name)),
                route: Arc::clone(route),
                state: Arc::clone(state),
                tier: route.tier,
                upstream: Arc::clone(upstream),
                config: Arc::clone(config),
                connector: Arc::clone(connector),
                cache: route.cache.and_then(|index| {
                    Some(RouteCache {
                        cache: Arc::clone(states.caches.get(index)?),
                        config: Arc::clone(plan.caches.get(index)?),
                    })
                }),
            });
        }
        let tiers = plan.tiers.iter();
        let tiers = tiers.map(|name| LiveTier {
            id: TierId::new(directories.tiers.intern(name)),
            name: Arc::clone(name),
            key: clients.hasher().id(b"tier", name.as_bytes()).hash(),
        });
        Self {
            reads_forwarding: reads_forwarding(&plan),
            router: Router::new(&plan),
            tiers: tiers.collect(),
            limits: states.limits.clone(),
            plan,
            routes,
            clients,
        }
    }

    /// The tier at this place.
    pub(crate) fn tier(&self, place: u8) -> Option<&LiveTier> {
        self.tiers.get(usize::from(place))
    }
}

/// Whether clients, routes, limits or balancing go by a field that says how a request came.
fn reads_forwarding(plan: &Plan) -> bool {
    let identify = plan.clients.identify.iter().filter_map(|way| match way {
        Identify::Header(name) => Some(name),
        Identify::Jwt(jwt) => Some(&jwt.header),
        Identify::TlsSan | Identify::Address { .. } => None,
    });
    let routes = plan.routes.iter();
    let routes = routes.flat_map(|route| route.matches.headers.iter().map(|(name, _)| name));
    let limits = plan
        .rate_limits
        .iter()
        .filter_map(|limit| match &limit.per {
            Per::Header(name) => Some(name),
            Per::Client | Per::Route | Per::Address | Per::Tier => None,
        });
    let balance = plan
        .upstreams
        .iter()
        .filter_map(|upstream| match &upstream.balance {
            Balance::Hash(HashOn::Header(name)) => Some(name),
            _ => None,
        });
    let mut names = identify.chain(routes).chain(limits).chain(balance);
    names.any(forwarding::is_forwarding)
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
