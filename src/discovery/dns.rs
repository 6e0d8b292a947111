//! Endpoints from DNS: one task per upstream that looks its name up again as the answers expire.
//!
//! A name with a port is looked up as A and AAAA; one without as SRV (RFC 2782), of which the lowest priority
//! is used, by weight, and whose targets are then looked up. The next look-up comes when the shortest TTL is
//! over, but not before the floor of the plan. An answer replaces the endpoints; a failure or an empty answer
//! keeps the last good one, because a resolver that has lost a zone is likelier than a service that has lost
//! all its endpoints at once. The system's own `/etc/hosts` and search list hold.
//!
//! Depends on engine, config and clock.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::sync::Notify;

use super::task::{Pause, Task};
use crate::clock::SystemClock;
use crate::config::plan::{Discover, Endpoint, EndpointAddress, Endpoints};
use crate::engine::registry::Directories;
use crate::engine::upstream::{UpstreamState, Upstreams};

/// The TTL of an answer that needed no look-up.
const LITERAL_TTL: Duration = Duration::from_secs(3_600);

/// The tasks that look names up, one for each upstream that wants it.
#[derive(Debug)]
pub struct Discovery {
    finder: Arc<Finder>,
    tasks: HashMap<Arc<str>, Watch>,
}

#[derive(Debug)]
struct Watch {
    upstream: Arc<UpstreamState>,
    discover: Discover,
    _task: Task,
}

impl Discovery {
    /// Looks names up as the system does. `changed` is notified whenever an upstream's endpoints change.
    ///
    /// # Errors
    /// When the system's resolver configuration cannot be read.
    pub fn new(directories: Arc<Directories>, changed: Arc<Notify>) -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio()?;
        // What is cached here would outlive the TTLs we count ourselves.
        builder.options_mut().cache_size = 0;
        Ok(Self::with_resolver(builder.build()?, directories, changed))
    }

    /// Looks names up at `server` over UDP and TCP, and nowhere else.
    ///
    /// # Errors
    /// When a resolver cannot be made.
    pub fn with_server(
        server: SocketAddr,
        directories: Arc<Directories>,
        changed: Arc<Notify>,
    ) -> Result<Self, NetError> {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = server.port();
        }
        let server = NameServerConfig::new(server.ip(), true, connections);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().cache_size = 0;
        Ok(Self::with_resolver(builder.build()?, directories, changed))
    }

    fn with_resolver(
        resolver: TokioResolver,
        directories: Arc<Directories>,
        changed: Arc<Notify>,
    ) -> Self {
        let finder = Finder {
            resolver,
            directories,
            changed,
        };
        Self {
            finder: Arc::new(finder),
            tasks: HashMap::new(),
        }
    }

    /// Starts and stops tasks so that they are those the running plan asks for. A name that stays keeps its
    /// task and its TTL. Needs a tokio runtime to start them on.
    pub fn reconcile(&mut self, upstreams: &Upstreams) {
        let mut former = std::mem::take(&mut self.tasks);
        for upstream in upstreams.all() {
            let config = upstream.config();
            let Endpoints::Dns(discover) = &config.endpoints else {
                continue;
            };
            let kept = former.remove(upstream.name()).filter(|watch| {
                watch.discover == *discover && Arc::ptr_eq(&watch.upstream, &upstream)
            });
            let watch = kept.unwrap_or_else(|| self.watch(&upstream, discover));
            self.tasks.insert(Arc::clone(upstream.name()), watch);
        }
    }

    fn watch(&self, upstream: &Arc<UpstreamState>, discover: &Discover) -> Watch {
        let finder = Arc::clone(&self.finder);
        let (state, wanted) = (Arc::clone(upstream), discover.clone());
        Watch {
            upstream: Arc::clone(upstream),
            discover: discover.clone(),
            _task: Task::start(|pause| async move { finder.follow(&state, &wanted, pause).await }),
        }
    }
}

#[derive(Debug)]
struct Finder {
    resolver: TokioResolver,
    directories: Arc<Directories>,
    changed: Arc<Notify>,
}

/// What a look-up found.
#[derive(Debug, PartialEq)]
struct Answer {
    endpoints: Vec<Endpoint>,
    ttl: Duration,
}

/// Why a look-up found nothing.
#[derive(Debug, thiserror::Error)]
enum LookUpError {
    #[error("{0}")]
    Failed(#[from] NetError),
    #[error("the answer holds no address")]
    Empty,
}

impl Finder {
    /// Looks `discover` up for as long as the task lives.
    async fn follow(&self, upstream: &UpstreamState, discover: &Discover, mut pause: Pause) {
        let mut failing = false;
        loop {
            let ttl = match self.find(discover).await {
                Ok(answer) => {
                    self.take(upstream, discover, answer.endpoints, failing);
                    failing = false;
                    answer.ttl
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(
                            upstream = %upstream.name(),
                            name = %discover.name,
                            cause = %error,
                            "name not found; keeping the endpoints last found"
                        );
                    }
                    failing = true;
                    Duration::ZERO
                }
            };
            if !pause.wait(ttl.max(discover.refresh)).await {
                return;
            }
        }
    }

    fn take(
        &self,
        upstream: &UpstreamState,
        discover: &Discover,
        endpoints: Vec<Endpoint>,
        failing: bool,
    ) {
        let total = endpoints.len();
        let change = upstream.set_endpoints(endpoints, &self.directories, SystemClock.now());
        if change.any || failing {
            tracing::info!(
                upstream = %upstream.name(),
                name = %discover.name,
                total,
                added = change.added,
                removed = change.removed,
                "endpoints found"
            );
        }
        if change.any {
            self.changed.notify_one();
        }
    }

    async fn find(&self, discover: &Discover) -> Result<Answer, LookUpError> {
        let (mut endpoints, ttl) = match discover.port {
            Some(port) => {
                let (addresses, ttl) = self.addresses(&discover.name).await?;
                let endpoint = |ip| endpoint(SocketAddr::new(ip, port), 1.0);
                (addresses.into_iter().map(endpoint).collect(), ttl)
            }
            None => self.services(&discover.name).await?,
        };
        if endpoints.is_empty() {
            return Err(LookUpError::Empty);
        }
        // Resolvers rotate their answers; the same set in another order is no change.
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        endpoints.dedup_by(|a, b| a.address == b.address);
        Ok(Answer { endpoints, ttl })
    }

    /// A and AAAA of `name`. One of them may fail or be empty: many zones answer AAAA badly.
    async fn addresses(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), LookUpError> {
        if let Ok(literal) = name.parse() {
            return Ok((vec![literal], LITERAL_TTL));
        }
        let (v4, v6) = tokio::join!(
            self.resolver.lookup(name, RecordType::A),
            self.resolver.lookup(name, RecordType::AAAA),
        );
        let mut addresses = Vec::new();
        let mut ttl = Duration::MAX;
        for lookup in [&v4, &v6].into_iter().flatten() {
            ttl = ttl.min(shortest_ttl(lookup.answers()));
            addresses.extend(lookup.answers().iter().filter_map(address));
        }
        if addresses.is_empty() {
            v4.and(v6)?;
            return Err(LookUpError::Empty);
        }
        Ok((addresses, ttl))
    }

    /// The targets of `name`'s SRV records that have the lowest priority, with their addresses. A target
    /// that cannot be found is left out as long as another is there.
    async fn services(&self, name: &str) -> Result<(Vec<Endpoint>, Duration), LookUpError> {
        let lookup = self.resolver.lookup(name, RecordType::SRV).await?;
        let mut ttl = shortest_ttl(lookup.answers());
        let mut groups: BTreeMap<u16, Vec<&SRV>> = BTreeMap::new();
        for record in lookup.answers() {
            // A target of "." says that the service is decidedly not there.
            if let RData::SRV(service) = &record.data
                && !service.target.is_root()
            {
                groups.entry(service.priority).or_default().push(service);
            }
        }
        let (_, preferred) = groups.pop_first().ok_or(LookUpError::Empty)?;
        let mut endpoints = Vec::new();
        let mut failure = None;
        for service in preferred {
            match self.addresses(&service.target.to_ascii()).await {
                Ok((addresses, of_target)) => {
                    ttl = ttl.min(of_target);
                    let weight = f64::from(service.weight.max(1));
                    let at = |ip| endpoint(SocketAddr::new(ip, service.port), weight);
                    endpoints.extend(addresses.into_iter().map(at));
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(failure) if endpoints.is_empty() => Err(failure),
            Some(_) | None => Ok((endpoints, ttl)),
        }
    }
}

fn endpoint(address: SocketAddr, weight: f64) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Socket(address),
        weight,
        zone: None,
        node: None,
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

/// The shortest TTL along the answer, aliases included.
fn shortest_ttl(records: &[Record]) -> Duration {
    let ttl = records.iter().map(|record| record.ttl).min();
    Duration::from_secs(ttl.unwrap_or_default().into())
}
