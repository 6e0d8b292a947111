//! Checks of `[upstreams.NAME]`.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::{Check, address};
use crate::config::plan::{
    Balance, ClientTls, Discover, Endpoint, Endpoints, HashOn, Health, Probe, Protocol, Upstream,
};
use crate::config::raw::{
    RawBalance, RawClientTls, RawDiscover, RawEndpoint, RawHealth, RawProtocol, RawUpstream,
    Spanned,
};
use address::Scheme;

/// Node exporters that may be asked how the hosts of endpoints are doing.
const MOST_NODES: usize = 256;

impl Check<'_> {
    pub(super) fn upstreams(
        &mut self,
        raw: &BTreeMap<Spanned<String>, Spanned<RawUpstream>>,
        tiers: usize,
    ) -> Vec<Upstream> {
        if raw.is_empty() && !self.was_any_lost("upstreams") {
            self.error_hint(
                0..0,
                "there is no upstream",
                "add `[upstreams.NAME]` with `endpoints = [\"host:port\"]`, or use --upstream URL",
            );
        }
        self.bound_nodes(raw);
        let upstreams = raw.iter();
        upstreams
            .filter_map(|(name, upstream)| self.upstream(name, upstream, tiers))
            .collect()
    }

    /// Each is asked every few seconds: there is a bound on how many.
    fn bound_nodes(&mut self, raw: &BTreeMap<Spanned<String>, Spanned<RawUpstream>>) {
        let endpoints = raw
            .values()
            .filter_map(|one| one.endpoints.as_ref())
            .flat_map(|all| all.iter());
        let mut known = HashSet::new();
        let nodes = endpoints.filter_map(|one| one.node.as_ref());
        let beyond = nodes
            .into_iter()
            .find(|node| known.insert(node.as_str()) && known.len() > MOST_NODES);
        if let Some(node) = beyond {
            let message = format!("there are more than {MOST_NODES} node exporters");
            let hint = "leave `node` out for hosts whose load explains least; Prometheus can scrape the rest";
            self.error_hint(node.span(), message, hint);
        }
    }

    fn upstream(
        &mut self,
        name: &Spanned<String>,
        raw: &Spanned<RawUpstream>,
        tiers: usize,
    ) -> Option<Upstream> {
        let table = raw.span();
        let name_checked = self.name(name);
        let tls = raw.tls.as_ref().map(|tls| self.client_tls(tls));
        let mut implied_tls = false;
        let endpoints = match (&raw.endpoints, &raw.discover) {
            (Some(endpoints), None) => {
                let (endpoints, implied) = self.endpoints(endpoints, tls.is_some(), &table);
                implied_tls = implied;
                Some(Endpoints::Fixed(endpoints))
            }
            (None, Some(discover)) => self.discover(discover).map(Endpoints::Dns),
            (Some(_), Some(discover)) => {
                self.error_hint(
                    discover.span(),
                    format!("upstream `{}` has both `endpoints` and `discover`", **name),
                    "keep one of them",
                );
                None
            }
            (None, None) => {
                self.no_endpoints(name, &table);
                None
            }
        };
        let protocol = match raw.protocol {
            RawProtocol::Http1 => Protocol::Http1,
            RawProtocol::Http2 => Protocol::Http2,
        };
        let balance = self.balance(&raw.balance);
        let connect_timeout = self.above_zero(&raw.connect_timeout, "connect_timeout");
        let idle_timeout = self.above_zero(&raw.idle_timeout, "idle_timeout");
        let protection = self.protection(raw, tiers);
        let outlier = self.outlier(&raw.outlier);
        let retry = self.retry(&raw.retry);
        let health = match &raw.health {
            Some(health) => Some(self.health(health, protocol)?),
            None => None,
        };
        Some(Upstream {
            name: name_checked,
            endpoints: endpoints?,
            protocol,
            tls: tls.or_else(|| implied_tls.then(no_tls_settings)),
            balance: balance?,
            connect_timeout,
            idle_timeout,
            health,
            slow_start: raw.slow_start.0,
            protection,
            outlier,
            retry,
            noisy: super::protection::mode(raw.noisy.mode),
        })
    }

    fn no_endpoints(&mut self, name: &Spanned<String>, table: &Range<usize>) {
        if self.was_dropped(table, "endpoints") || self.was_dropped(table, "discover") {
            return;
        }
        self.error_hint(
            name.span(),
            format!(
                "upstream `{}` has neither `endpoints` nor `discover`",
                **name
            ),
            "write `endpoints = [\"host:port\"]` or `discover = { dns = \"name:port\" }`",
        );
    }

    /// The endpoints, and whether any of them asks for TLS.
    fn endpoints(
        &mut self,
        raw: &Spanned<Vec<Spanned<RawEndpoint>>>,
        has_tls: bool,
        table: &Range<usize>,
    ) -> (Vec<Endpoint>, bool) {
        if raw.is_empty() && !self.was_dropped(table, "endpoints") {
            self.error_hint(
                raw.span(),
                "`endpoints` is empty",
                "write `endpoints = [\"host:port\"]`",
            );
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let mut schemes = Vec::new();
        for one in raw.iter() {
            let Some((scheme, endpoint, place)) = self.endpoint(one) else {
                continue;
            };
            if endpoints
                .iter()
                .any(|other| other.address == endpoint.address)
            {
                let message = format!("endpoint {} is listed twice", endpoint.address);
                self.error(place.clone(), message);
            }
            schemes.push((scheme, place));
            endpoints.push(endpoint);
        }
        let wants_tls = schemes.iter().any(|(scheme, _)| *scheme == Scheme::Https);
        let plain = schemes.iter().find(|(scheme, _)| *scheme == Scheme::Http);
        if let (true, Some((_, place))) = (wants_tls || has_tls, plain) {
            self.error_hint(
                place.clone(),
                "this endpoint is without TLS, its upstream is with it",
                "an upstream's endpoints are either all with TLS or all without; split it in two",
            );
        }
        (endpoints, wants_tls)
    }

    fn endpoint(&mut self, raw: &Spanned<RawEndpoint>) -> Option<(Scheme, Endpoint, Range<usize>)> {
        let hint = "write where the endpoint is, such as \"10.0.0.1:8080\"";
        let text = self.required(raw.address.as_ref(), &raw.span(), "address", hint)?;
        // A plain text has no place of its own: it is the whole entry.
        let place = if text.span().is_empty() {
            raw.span()
        } else {
            text.span()
        };
        let weight = *raw.weight;
        if !(weight > 0.0 && weight <= 1e6) {
            self.error(
                raw.weight.span(),
                format!("a weight must be above 0 and at most 1000000, not {weight}"),
            );
        }
        let (scheme, address) = self.take(place.clone(), address::endpoint(text))?;
        let endpoint = Endpoint {
            address,
            weight,
            zone: raw.zone.as_ref().map(|zone| zone.as_str().into()),
            node: raw.node.as_ref().and_then(|url| self.http_url(url)),
        };
        Some((scheme, endpoint, place))
    }

    fn discover(&mut self, raw: &Spanned<RawDiscover>) -> Option<Discover> {
        let refresh = self.above_zero(&raw.refresh, "refresh");
        let hint = "write `dns = \"name:port\"`";
        let dns = self.required(raw.dns.as_ref(), &raw.span(), "dns", hint)?;
        let (name, port) = self.take(dns.span(), address::dns(dns))?;
        Some(Discover {
            name,
            port,
            refresh,
        })
    }

    fn client_tls(&mut self, raw: &Spanned<RawClientTls>) -> ClientTls {
        if let Some(name) = &raw.server_name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            let message = format!("`{}` is not a server's name", name.escape_debug());
            self.error(name.span(), message);
        }
        let client = match (&raw.client_certificate, &raw.client_key) {
            (Some(certificate), Some(key)) => self.certificate_pair(certificate, key),
            (None, None) => None,
            (Some(one), None) => {
                if !self.was_dropped(&raw.span(), "client_key") {
                    self.error(
                        one.span(),
                        "`client_certificate` needs `client_key` with it",
                    );
                }
                None
            }
            (None, Some(one)) => {
                if !self.was_dropped(&raw.span(), "client_certificate") {
                    self.error(
                        one.span(),
                        "`client_key` needs `client_certificate` with it",
                    );
                }
                None
            }
        };
        ClientTls {
            server_name: raw.server_name.as_ref().map(|name| name.as_str().into()),
            ca: raw.ca.as_ref().and_then(|ca| self.certificate(ca)),
            client,
        }
    }

    fn balance(&mut self, raw: &Spanned<RawBalance>) -> Option<Balance> {
        let on = match &**raw {
            RawBalance::PeakEwma => return Some(Balance::PeakEwma),
            RawBalance::LeastRequest => return Some(Balance::LeastRequest),
            RawBalance::RoundRobin => return Some(Balance::RoundRobin),
            RawBalance::Hash(on) => on,
        };
        let on = match (on.as_str(), on.strip_prefix("header:")) {
            ("client", _) => HashOn::Client,
            ("path", _) => HashOn::Path,
            (_, Some(name)) => HashOn::Header(self.take(raw.span(), address::header_name(name))?),
            (other, None) => {
                self.error_hint(
                    raw.span(),
                    format!("`{}` cannot be hashed", other.escape_debug()),
                    "write `client`, `path` or `header:NAME`",
                );
                return None;
            }
        };
        Some(Balance::Hash(on))
    }

    fn health(&mut self, raw: &Spanned<RawHealth>, protocol: Protocol) -> Option<Health> {
        let interval = self.above_zero(&raw.interval, "interval");
        let timeout = self.above_zero(&raw.timeout, "timeout");
        let rise = self.whole(&raw.rise, "rise", 1..=1000_u32);
        let fall = self.whole(&raw.fall, "fall", 1..=1000_u32);
        let probe = self.probe(raw, protocol)?;
        Some(Health {
            probe,
            interval,
            timeout,
            rise,
            fall,
        })
    }

    fn probe(&mut self, raw: &Spanned<RawHealth>, protocol: Protocol) -> Option<Probe> {
        if let (Some(host), None) = (&raw.host, &raw.path) {
            self.error(host.span(), "`host` goes with `path` only");
        }
        match (&raw.path, &raw.grpc, *raw.tcp) {
            (Some(path), None, false) => {
                let checked = self.take(path.span(), address::path(path, true));
                if let Some(host) = &raw.host {
                    self.take(host.span(), address::header_value(host))?;
                }
                Some(Probe::Http {
                    path: checked?.to_owned(),
                    host: raw.host.as_ref().map(|host| host.to_string()),
                })
            }
            (None, Some(service), false) => {
                if protocol == Protocol::Http1 {
                    self.error_hint(
                        service.span(),
                        "gRPC needs HTTP/2",
                        "add `protocol = \"http2\"` to the upstream",
                    );
                }
                if !service.chars().all(|c| c.is_ascii_graphic()) {
                    self.error(service.span(), "this is not a gRPC service's name");
                }
                Some(Probe::Grpc {
                    service: service.to_string(),
                })
            }
            (None, None, true) => Some(Probe::Tcp),
            (None, None, false) => {
                let keys = ["path", "grpc", "tcp"];
                let lost = keys.iter().any(|key| self.was_dropped(&raw.span(), key));
                if !lost {
                    self.error_hint(
                        raw.span(),
                        "`health` does not say what to check",
                        "add `path = \"/healthz\"`, `grpc = \"\"` or `tcp = true`",
                    );
                }
                None
            }
            _ => {
                self.error(
                    raw.span(),
                    "`health` has more than one of `path`, `grpc` and `tcp`",
                );
                None
            }
        }
    }
}

/// TLS as `https://` alone asks for.
fn no_tls_settings() -> ClientTls {
    ClientTls {
        server_name: None,
        ca: None,
        client: None,
    }
}
