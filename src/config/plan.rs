//! What the program runs on: every reference resolved, every default filled in, every unit parsed.
//!
//! A [`Plan`] is made only by [`super::Source::load`], so whoever holds one need not check it again. Depends on the
//! model and on `http`'s and `ipnet`'s value types.

mod action;
mod cache;
mod clients;
mod notify;
mod protection;
mod rate_limit;
mod shared;
mod slo;
mod telemetry;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

pub use self::action::{ACTED_ON, Action};
pub use self::cache::{Cache, CacheDisk, CacheKey};
pub use self::clients::{Clients, Identify, Jwks, Jwt, Known};
pub use self::notify::{Notify, Webhook};
pub use self::protection::{HedgeAfter, Outlier, Retry, RouteBreaker};
pub use self::rate_limit::{Per, RateLimit};
pub use self::shared::Redis;
pub use self::slo::Slo;
pub use self::telemetry::{
    AccessLog, Exporters, LogTarget, Otlp, OtlpProtocol, Spill, Splunk, Telemetry, Zipkin,
};
use crate::engine::protection::{Mode, Settings};

/// A whole configuration, resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file it came from; none for a plan made from the command line alone.
    pub source: Option<PathBuf>,
    /// Hash of the resolved plan, in hex: equal plans have equal hashes.
    pub hash: String,
    /// Process-wide settings.
    pub server: Server,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where operators connect.
    pub admin: Admin,
    /// Who sends requests.
    pub clients: Clients,
    /// The names of the classes of requests, most important first; at least one.
    pub tiers: Vec<Arc<str>>,
    /// The services behind, in the order of their names.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Rate limits, in the order of their names.
    pub rate_limits: Vec<Arc<RateLimit>>,
    /// Caches of responses, in the order of their names.
    pub caches: Vec<Arc<Cache>>,
    /// What is promised, in the order of the names.
    pub slos: Vec<Arc<Slo>>,
    /// What is done by itself about what is wrong, in the order of the causes' names.
    pub actions: Vec<Action>,
    /// The routes in the order of the file. Matching order is the router's business.
    pub routes: Vec<Arc<Route>>,
    /// The ledger of who used what.
    pub usage: Usage,
    /// Where the processes of a fleet meet.
    pub shared: Option<Redis>,
    /// What is written where.
    pub telemetry: Telemetry,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Data workers; at least one (0 in the file has become one per core).
    pub workers: usize,
    /// How long a drain waits for exchanges in flight.
    pub drain_timeout: Duration,
    /// Client connections over all listeners. Further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Whether requests are refused when the process itself runs short of something.
    pub overload: Mode,
    /// Where what outlives a restart is kept; none: nowhere.
    pub state_dir: Option<PathBuf>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bind {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A unix socket's path.
    Unix(PathBuf),
}

/// `[[listen]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique name.
    pub name: Arc<str>,
    /// Where it listens. Unique among the listeners.
    pub bind: Bind,
    /// Whether HTTP/1.1 is spoken.
    pub http1: bool,
    /// Whether HTTP/2 is spoken: by ALPN under TLS, by prior knowledge without.
    pub http2: bool,
    /// TLS, if any.
    pub tls: Option<ServerTls>,
    /// Peers whose forwarded headers, request id and trace context are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Who may purge what is cached; when nobody, `PURGE` is a method like any other.
    pub purge_from: Vec<IpNet>,
    /// Whether every connection begins with a PROXY protocol header (v1 or v2).
    pub proxy_protocol: bool,
    /// From a request's first byte to the end of its head.
    pub header_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// Bound on a request head, in bytes.
    pub max_header_bytes: usize,
    /// Bound on the number of header fields.
    pub max_headers: usize,
    /// Bound on a request body, in bytes; none: no bound.
    pub max_body_bytes: Option<u64>,
    /// Streams one HTTP/2 connection may have open.
    pub max_concurrent_streams: u32,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// At least one. The first also answers clients whose SNI names none of them.
    pub certificates: Vec<CertificateFiles>,
    /// Clients must show a certificate signed by one in this file.
    pub client_ca: Option<PathBuf>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where the admin API listens.
    pub bind: Bind,
    /// The bearer token it asks for. Always set when `bind` is neither loopback nor unix.
    pub token: Option<Secret>,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    file: Option<PathBuf>,
}

impl Secret {
    /// Wraps `value`.
    #[must_use]
    pub const fn new(value: String) -> Self {
        Self { value, file: None }
    }

    /// Wraps `value`, which was read from `file`.
    #[must_use]
    pub const fn from_file(value: String, file: PathBuf) -> Self {
        Self {
            value,
            file: Some(file),
        }
    }

    /// The value itself; for comparing and sending, never for showing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The file it was read from, if it was: a change of that file is a change of the secret.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[upstreams.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Unique name.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub endpoints: Endpoints,
    /// What is spoken to it.
    pub protocol: Protocol,
    /// TLS towards it, if any.
    pub tls: Option<ClientTls>,
    /// How an endpoint is picked.
    pub balance: Balance,
    /// Bound on making a connection, TLS included.
    pub connect_timeout: Duration,
    /// How long a pooled connection may lie idle.
    pub idle_timeout: Duration,
    /// Active health checks, if any.
    pub health: Option<Health>,
    /// How long an endpoint that came back takes to reach its full share; zero: at once.
    pub slow_start: Duration,
    /// Its breaker, its limit, and the queue in front of it.
    pub protection: Settings,
    /// When one of its endpoints is ejected.
    pub outlier: Outlier,
    /// When what failed is sent again.
    pub retry: Retry,
    /// Whether a client that wants far more than its share is held to it.
    pub noisy: Mode,
}

/// Where an upstream's endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoints {
    /// Listed in the file; at least one.
    Fixed(Vec<Endpoint>),
    /// Looked up in DNS.
    Dns(Discover),
}

/// One endpoint of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `host:port`, or `unix:/path`.
    pub address: EndpointAddress,
    /// Relative share; above zero.
    pub weight: f64,
    /// Zone, for display and (later) for choosing near ones first.
    pub zone: Option<Arc<str>>,
    /// The URL of its host's node exporter.
    pub node: Option<Arc<str>>,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// A socket address.
    Socket(SocketAddr),
    /// A host name and port, resolved by the system when a connection is made.
    Host(Arc<str>, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `discover = { dns = … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// The name to look up.
    pub name: Arc<str>,
    /// The port for A and AAAA answers; none: `name` is looked up as SRV, whose answers carry ports.
    pub port: Option<u16>,
    /// The floor under the answers' TTL, and the pause after a failed look-up.
    pub refresh: Duration,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one exchange per connection at a time.
    Http1,
    /// HTTP/2: by ALPN under TLS, by prior knowledge without.
    Http2,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// The name its certificate must be for, also sent as SNI; none: the endpoint's host.
    pub server_name: Option<Arc<str>>,
    /// Roots to trust instead of the system's, as a PEM file.
    pub ca: Option<PathBuf>,
    /// The certificate to show it.
    pub client: Option<CertificateFiles>,
}

/// How an endpoint is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Power of two choices by peak EWMA latency times in-flight.
    PeakEwma,
    /// Power of two choices by in-flight.
    LeastRequest,
    /// Each in turn, by weight.
    RoundRobin,
    /// Consistent hashing with bounded load.
    Hash(HashOn),
}

/// What a consistent hash is taken of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The client.
    Client,
    /// The request's path without its query.
    Path,
    /// A request header's value.
    Header(HeaderName),
}

/// `health = { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What a check does.
    pub probe: Probe,
    /// Time between checks of one endpoint; ±10% jitter is added.
    pub interval: Duration,
    /// Bound on one check.
    pub timeout: Duration,
    /// Successes in a row that bring an endpoint back.
    pub rise: u32,
    /// Failures in a row that take an endpoint out.
    pub fall: u32,
}

/// What a health check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET path` answers 200 to 399.
    Http {
        /// Path and query.
        path: String,
        /// The Host it asks for; none: the endpoint's address.
        host: Option<String>,
    },
    /// `grpc.health.v1.Health/Check` of this service answers `SERVING`; empty: the whole server.
    Grpc {
        /// The service's full name.
        service: String,
    },
    /// A connection can be made.
    Tcp,
}

/// `[[routes]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique name.
    pub name: Arc<str>,
    /// What it matches.
    pub matches: Match,
    /// Index into [`Plan::upstreams`].
    pub upstream: usize,
    /// Bound from the request's head to the response's: queueing, connecting, retries included.
    pub timeout: Duration,
    /// Bound on silence while a body streams, in either direction, and in an upgraded connection.
    pub idle_timeout: Duration,
    /// How important its requests are: an index into [`Plan::tiers`].
    pub tier: u8,
    /// What its requests are held to: an index into [`Plan::slos`].
    pub slo: Option<usize>,
    /// The cache that answers its requests: an index into [`Plan::caches`].
    pub cache: Option<usize>,
    /// A breaker of its own, besides its upstream's.
    pub breaker: Option<RouteBreaker>,
    /// The rate limits it is under: indices into [`Plan::rate_limits`].
    pub rate_limits: Vec<usize>,
    /// How the path changes on its way.
    pub rewrite: Option<Rewrite>,
    /// Changes to the request's headers.
    pub request_headers: HeaderEdits,
    /// Changes to the response's headers.
    pub response_headers: HeaderEdits,
}

/// What a route matches. All parts must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The host, without port, in lower case.
    pub host: HostMatch,
    /// The path.
    pub path: PathMatch,
    /// Any of these methods; empty: every method.
    pub methods: Vec<Method>,
    /// Each of these headers has this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// Every host.
    Any,
    /// Exactly this.
    Exact(Arc<str>),
    /// `*.example.com` is kept as `example.com`: any host below it, at any depth.
    Below(Arc<str>),
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Exactly this.
    Exact(Arc<str>),
    /// This, or anything below it at a `/`: `/orders` matches `/orders` and `/orders/1`, not `/ordersx`.
    Prefix(Arc<str>),
}

/// How the path changes on its way. The query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Takes this prefix off.
    StripPrefix(Arc<str>),
    /// Puts `with` in the place of the route's matched path or prefix.
    ReplacePrefix {
        /// What is taken off: the route's own path.
        prefix: Arc<str>,
        /// What stands there instead.
        with: Arc<str>,
    },
}

/// Changes to headers: first `remove`, then `set`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replaces every value of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Takes the header out.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// `[usage]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Where the ledger is.
    pub store: UsageStore,
    /// How long days are kept.
    pub keep: Duration,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            store: UsageStore::Memory,
            keep: Duration::from_secs(86_400),
        }
    }
}

/// Where the ledger is. Shown without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageStore {
    /// In memory: gone with the process.
    Memory,
    /// In this file.
    File(PathBuf),
    /// In `PostgreSQL`.
    Postgres {
        /// Where, and with which password.
        url: Secret,
        /// The same without it.
        shown: String,
    },
}

impl std::fmt::Display for UsageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres { shown, .. } => f.write_str(shown),
        }
    }
}
