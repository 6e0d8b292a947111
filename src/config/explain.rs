//! The resolved plan, written out again: every default filled in, every secret hidden.
//!
//! The plan becomes a `Raw` in which every value is given, so what is printed is what could be written: the
//! TOML form loads again to an equal plan (but for its secrets). Depends on `raw` and `plan`.

mod action;
mod cache;
mod clients;
mod notify;
mod protection;
mod rate_limit;
mod slo;
mod telemetry;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use super::plan::{
    Balance, Bind, CertificateFiles, ClientTls, EndpointAddress, Endpoints, HashOn, HeaderEdits,
    Health, HostMatch, Listener, Match, PathMatch, Plan, Probe, Protocol, Rewrite, Route,
    RouteBreaker, ServerTls, Upstream, Usage,
};
use super::raw::{
    Raw, RawAdmin, RawBalance, RawCertificate, RawClientTls, RawDiscover, RawEdits, RawEndpoint,
    RawHealth, RawListen, RawMatch, RawProtocol, RawRewrite, RawRoute, RawRouteHeaders, RawSecret,
    RawServer, RawServerTls, RawShared, RawTier, RawUpstream, RawUsage, Spanned,
};
use super::units::{Size, Time};

/// What stands in the place of a secret.
const REDACTED: &str = "<redacted>";

/// The plan as TOML.
#[must_use]
pub fn to_toml(plan: &Plan) -> String {
    // Every key is a text and every value a TOML one, so this cannot fail; an empty text would show it.
    toml::to_string(&raw(plan)).unwrap_or_default()
}

/// The plan as JSON, with the same keys and values as the TOML form.
#[must_use]
pub fn to_json(plan: &Plan) -> serde_json::Value {
    serde_json::to_value(raw(plan)).unwrap_or_default()
}

/// A hash of everything in the plan but its secrets and where it came from, in hex.
pub(crate) fn hash(plan: &Plan) -> String {
    // `DefaultHasher::new` has fixed keys.
    let mut hasher = DefaultHasher::new();
    to_toml(plan).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn raw(plan: &Plan) -> Raw {
    let upstream_names: Vec<&str> = plan.upstreams.iter().map(|one| &*one.name).collect();
    let name_of = |index: usize| upstream_names.get(index).copied().unwrap_or_default();
    Raw {
        version: Some(1.into()),
        server: RawServer {
            workers: whole(plan.server.workers),
            drain_timeout: Time(plan.server.drain_timeout),
            max_connections: whole(plan.server.max_connections),
            overload: protection::mode(plan.server.overload),
            state_dir: plan.server.state_dir.as_deref().map(path),
        },
        listen: plan
            .listeners
            .iter()
            .map(|one| listen(one).into())
            .collect(),
        admin: RawAdmin {
            address: bind(&plan.admin.bind).into(),
            token: plan
                .admin
                .token
                .as_ref()
                .map(|_| RawSecret::Literal(REDACTED.to_owned()).into()),
        },
        clients: clients::clients(&plan.clients, &plan.tiers),
        tiers: plan
            .tiers
            .iter()
            .map(|name| {
                let name = Some(name.to_string().into());
                RawTier { name }.into()
            })
            .collect(),
        upstreams: plan
            .upstreams
            .iter()
            .map(|one| (one.name.to_string().into(), upstream(one).into()))
            .collect(),
        rate_limits: plan
            .rate_limits
            .iter()
            .map(|one| {
                (
                    one.name.to_string().into(),
                    rate_limit::rate_limit(one).into(),
                )
            })
            .collect(),
        cache: plan
            .caches
            .iter()
            .map(|one| (one.name.to_string().into(), cache::cache(one).into()))
            .collect(),
        slos: plan
            .slos
            .iter()
            .map(|one| (one.name.to_string().into(), slo::slo(one).into()))
            .collect(),
        routes: plan
            .routes
            .iter()
            .map(|one| {
                let mut raw = route(one, name_of(one.upstream), plan);
                let cache = one.cache.and_then(|index| plan.caches.get(index));
                raw.cache = cache.map(|cache| cache.name.to_string().into());
                raw.into()
            })
            .collect(),
        actions: plan
            .actions
            .iter()
            .map(|one| (one.cause.to_owned().into(), action::action(one).into()))
            .collect(),
        notify: plan
            .telemetry
            .exporters
            .notify
            .iter()
            .map(|one| notify::notify(one).into())
            .collect(),
        usage: Some(usage(&plan.usage)),
        shared: plan.shared.as_ref().map(|redis| {
            let redis = RawSecret::Literal(redis.to_string());
            let redis = Some(redis.into());
            RawShared { redis }.into()
        }),
        telemetry: telemetry::telemetry(&plan.telemetry),
    }
}

fn listen(listener: &Listener) -> RawListen {
    let mut protocols = Vec::new();
    if listener.http1 {
        protocols.push(RawProtocol::Http1);
    }
    if listener.http2 {
        protocols.push(RawProtocol::Http2);
    }
    let networks = |networks: &[IpNet]| -> Vec<Spanned<String>> {
        networks.iter().map(|one| one.to_string().into()).collect()
    };
    RawListen {
        name: Some(listener.name.to_string().into()),
        address: bind(&listener.bind).into(),
        protocols: protocols.into(),
        tls: listener.tls.as_ref().map(|tls| server_tls(tls).into()),
        trusted_proxies: networks(&listener.trusted_proxies),
        purge_from: networks(&listener.purge_from),
        proxy_protocol: listener.proxy_protocol,
        header_timeout: Time(listener.header_timeout).into(),
        idle_timeout: Time(listener.idle_timeout).into(),
        max_header_bytes: Size(u64::try_from(listener.max_header_bytes).unwrap_or(u64::MAX)).into(),
        max_headers: whole(listener.max_headers),
        max_body_bytes: Size(listener.max_body_bytes.unwrap_or(0)),
        max_concurrent_streams: i64::from(listener.max_concurrent_streams).into(),
    }
}

fn server_tls(tls: &ServerTls) -> RawServerTls {
    let pair = |files: &CertificateFiles| RawCertificate {
        certificate: Some(path(&files.certificate)),
        key: Some(path(&files.key)),
    };
    let (first, further) = match tls.certificates.split_first() {
        Some((first, further)) => (pair(first), further),
        None => (RawCertificate::default(), [].as_slice()),
    };
    RawServerTls {
        certificate: first.certificate,
        key: first.key,
        client_ca: tls.client_ca.as_deref().map(path),
        certificates: further.iter().map(|files| pair(files).into()).collect(),
    }
}

fn upstream(upstream: &Upstream) -> RawUpstream {
    let (endpoints, discover) = match &upstream.endpoints {
        Endpoints::Fixed(fixed) => {
            let entries = fixed.iter().map(|one| {
                RawEndpoint {
                    address: Some(one.address.to_string().into()),
                    weight: one.weight.into(),
                    zone: one.zone.as_ref().map(|zone| zone.to_string().into()),
                    node: one.node.as_ref().map(|url| url.to_string().into()),
                }
                .into()
            });
            (Some(entries.collect::<Vec<_>>().into()), None)
        }
        Endpoints::Dns(dns) => {
            let name = match dns.port {
                Some(port) => format!("{}:{port}", dns.name),
                None => dns.name.to_string(),
            };
            let discover = RawDiscover {
                dns: Some(name.into()),
                refresh: Time(dns.refresh).into(),
            };
            (None, Some(discover.into()))
        }
    };
    RawUpstream {
        endpoints,
        discover,
        protocol: match upstream.protocol {
            Protocol::Http1 => RawProtocol::Http1,
            Protocol::Http2 => RawProtocol::Http2,
        },
        tls: upstream.tls.as_ref().map(|tls| client_tls(tls).into()),
        balance: balance(&upstream.balance).into(),
        connect_timeout: Time(upstream.connect_timeout).into(),
        idle_timeout: Time(upstream.idle_timeout).into(),
        health: upstream.health.as_ref().map(|one| health(one).into()),
        slow_start: Time(upstream.slow_start),
        concurrency: protection::concurrency(&upstream.protection),
        queue: protection::queue(&upstream.protection),
        breaker: protection::breaker(&RouteBreaker {
            mode: upstream.protection.breaker,
            config: upstream.protection.breaker_config,
        }),
        outlier: protection::outlier(&upstream.outlier),
        retry: protection::retry(&upstream.retry),
        noisy: protection::noisy(upstream.noisy),
    }
}

fn client_tls(tls: &ClientTls) -> RawClientTls {
    let client = tls.client.as_ref();
    RawClientTls {
        server_name: tls.server_name.as_ref().map(|name| name.to_string().into()),
        ca: tls.ca.as_deref().map(path),
        client_certificate: client.map(|files| path(&files.certificate)),
        client_key: client.map(|files| path(&files.key)),
    }
}

fn balance(balance: &Balance) -> RawBalance {
    match balance {
        Balance::PeakEwma => RawBalance::PeakEwma,
        Balance::LeastRequest => RawBalance::LeastRequest,
        Balance::RoundRobin => RawBalance::RoundRobin,
        Balance::Hash(HashOn::Client) => RawBalance::Hash("client".to_owned()),
        Balance::Hash(HashOn::Path) => RawBalance::Hash("path".to_owned()),
        Balance::Hash(HashOn::Header(name)) => RawBalance::Hash(format!("header:{name}")),
    }
}

fn health(health: &Health) -> RawHealth {
    let mut raw = RawHealth {
        interval: Time(health.interval).into(),
        timeout: Time(health.timeout).into(),
        rise: i64::from(health.rise).into(),
        fall: i64::from(health.fall).into(),
        ..RawHealth::default()
    };
    match &health.probe {
        Probe::Http { path, host } => {
            raw.path = Some(path.clone().into());
            raw.host = host.clone().map(Spanned::from);
        }
        Probe::Grpc { service } => raw.grpc = Some(service.clone().into()),
        Probe::Tcp => raw.tcp = true.into(),
    }
    raw
}

fn route(route: &Route, upstream: &str, plan: &Plan) -> RawRoute {
    let tier = plan.tiers.get(usize::from(route.tier));
    let limits = route.rate_limits.iter();
    let limits = limits.filter_map(|index| plan.rate_limits.get(*index));
    RawRoute {
        name: Some(route.name.to_string().into()),
        matches: matches(&route.matches).into(),
        upstream: Some(upstream.to_owned().into()),
        timeout: Time(route.timeout).into(),
        idle_timeout: Time(route.idle_timeout).into(),
        tier: tier.map(|name| name.to_string().into()),
        cache: None,
        slo: route
            .slo
            .and_then(|index| plan.slos.get(index))
            .map(|slo| slo.name.to_string().into()),
        breaker: route.breaker.as_ref().map(protection::breaker),
        rate_limits: limits.map(|one| one.name.to_string().into()).collect(),
        rewrite: route.rewrite.as_ref().map(|one| rewrite(one).into()),
        headers: RawRouteHeaders {
            request: edits(&route.request_headers),
            response: edits(&route.response_headers),
        },
    }
}

fn matches(matches: &Match) -> RawMatch {
    let (path, path_prefix) = match &matches.path {
        PathMatch::Exact(path) => (Some(path.to_string().into()), None),
        PathMatch::Prefix(prefix) => (None, Some(prefix.to_string().into())),
    };
    let methods = matches.methods.iter();
    RawMatch {
        host: match &matches.host {
            HostMatch::Any => None,
            HostMatch::Exact(host) => Some(host.to_string().into()),
            HostMatch::Below(host) => Some(format!("*.{host}").into()),
        },
        path,
        path_prefix,
        methods: methods.map(|method| method.to_string().into()).collect(),
        headers: headers(&matches.headers),
    }
}

fn rewrite(rewrite: &Rewrite) -> RawRewrite {
    match rewrite {
        Rewrite::StripPrefix(prefix) => RawRewrite {
            strip_prefix: Some(prefix.to_string().into()),
            replace_prefix: None,
        },
        Rewrite::ReplacePrefix { with, .. } => RawRewrite {
            strip_prefix: None,
            replace_prefix: Some(with.to_string().into()),
        },
    }
}

fn edits(edits: &HeaderEdits) -> RawEdits {
    RawEdits {
        set: headers(&edits.set),
        remove: edits
            .remove
            .iter()
            .map(|name| name.to_string().into())
            .collect(),
    }
}

fn headers(headers: &[(HeaderName, HeaderValue)]) -> BTreeMap<Spanned<String>, Spanned<String>> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.to_string().into(), text(value).into()))
        .collect()
}

fn usage(usage: &Usage) -> RawUsage {
    RawUsage {
        store: RawSecret::Literal(usage.store.to_string()).into(),
        keep: Time(usage.keep).into(),
    }
}

fn bind(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(path) => EndpointAddress::Unix(path.clone()).to_string(),
    }
}

fn path(path: &Path) -> Spanned<String> {
    path.display().to_string().into()
}

fn whole(number: usize) -> Spanned<i64> {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}
