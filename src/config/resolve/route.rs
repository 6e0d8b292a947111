//! Checks of `[[routes]]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::{Check, address, report_duplicates};
use crate::config::diagnostic::suggest;
use crate::config::plan::{HeaderEdits, HostMatch, Match, PathMatch, Rewrite, Route};
use crate::config::raw::{Raw, RawEdits, RawMatch, RawRewrite, RawRoute, Spanned};

/// Headers that frame messages or belong to one connection: Tidegate's own business.
const OWN_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

impl Check<'_> {
    pub(super) fn routes(&mut self, raw: &Raw, tiers: &[Arc<str>]) -> Vec<Route> {
        if raw.routes.is_empty() {
            return self.default_route(raw, tiers).into_iter().collect();
        }
        let names = raw.routes.iter().filter_map(|route| route.name.as_ref());
        report_duplicates(
            self,
            "a route",
            names.map(|name| (name.as_str(), name.span())),
        );
        let mut routes: Vec<Route> = Vec::new();
        for one in &raw.routes {
            let Some(route) = self.route(one, raw, tiers) else {
                continue;
            };
            match routes.iter().find(|other| other.matches == route.matches) {
                Some(other) => {
                    let place = one.name.as_ref().map_or_else(|| one.span(), Spanned::span);
                    let message = format!(
                        "route `{}` matches the same requests as `{}` and would never be reached",
                        route.name, other.name
                    );
                    self.error(place, message);
                }
                None => routes.push(route),
            }
        }
        routes
    }

    /// Everything to the only upstream.
    fn default_route(&mut self, raw: &Raw, tiers: &[Arc<str>]) -> Option<Route> {
        let mut names = raw.upstreams.keys();
        match (names.next(), names.next()) {
            (Some(upstream), None) => {
                let route = RawRoute {
                    name: Some("default".to_owned().into()),
                    upstream: Some(upstream.clone()),
                    ..RawRoute::default()
                };
                self.route(&route.into(), raw, tiers)
            }
            (Some(_), Some(_)) if !self.was_any_lost("routes") => {
                self.error_hint(
                    0..0,
                    "there are several upstreams and no route",
                    "add `[[routes]]` with `name`, `match` and `upstream`",
                );
                None
            }
            _ => None,
        }
    }

    fn route(&mut self, raw: &Spanned<RawRoute>, whole: &Raw, tiers: &[Arc<str>]) -> Option<Route> {
        let table = raw.span();
        let hint = "a route needs `name` and `upstream`";
        let name = self.required(raw.name.as_ref(), &table, "name", hint);
        let name = name.map(|name| self.name(name));
        let upstream = self.required(raw.upstream.as_ref(), &table, "upstream", hint);
        let upstream = upstream.and_then(|upstream| self.reference(upstream, whole));
        let matches = self.matches(&raw.matches);
        let timeout = self.above_zero(&raw.timeout, "timeout");
        let idle_timeout = self.above_zero(&raw.idle_timeout, "idle_timeout");
        let tier = self.tier(raw.tier.as_ref(), tiers);
        let cache = self.cache_of(raw, whole);
        let slo = self.slo_of(raw, whole);
        let breaker = raw.breaker.as_ref().map(|breaker| self.breaker(breaker));
        let rate_limits = self.limits_of(&raw.rate_limits, whole);
        let rewrite = match (&raw.rewrite, &matches) {
            (Some(rewrite), Some(matches)) => Some(self.rewrite(rewrite, matches)?),
            _ => None,
        };
        let request_headers = self.edits(&raw.headers.request);
        let response_headers = self.edits(&raw.headers.response);
        Some(Route {
            name: name?,
            matches: matches?,
            upstream: upstream?,
            timeout,
            idle_timeout,
            tier,
            slo,
            cache,
            breaker,
            rate_limits,
            rewrite,
            request_headers,
            response_headers,
        })
    }

    /// The position of the upstream that is named.
    fn reference(&mut self, name: &Spanned<String>, whole: &Raw) -> Option<usize> {
        let found = whole.upstreams.keys().position(|known| **known == **name);
        if found.is_none() && !self.was_lost(&["upstreams", name]) {
            let known: Vec<&str> = whole.upstreams.keys().map(|key| key.as_str()).collect();
            self.error_hint(
                name.span(),
                format!("there is no upstream `{}`", name.escape_debug()),
                suggest(name, &known).hint,
            );
        }
        found
    }

    fn matches(&mut self, raw: &Spanned<RawMatch>) -> Option<Match> {
        let host = match &raw.host {
            Some(host) => self.take(host.span(), address::host_match(host)),
            None => Some(HostMatch::Any),
        };
        let path = match (&raw.path, &raw.path_prefix) {
            (None, None) => Some(PathMatch::Prefix("/".into())),
            (Some(path), None) => self
                .take(path.span(), address::path(path, false))
                .map(|path| PathMatch::Exact(path.into())),
            (None, Some(prefix)) => self
                .take(prefix.span(), address::path(prefix, false))
                .map(|prefix| PathMatch::Prefix(without_final_slash(prefix).into())),
            (Some(_), Some(prefix)) => {
                self.error_hint(
                    prefix.span(),
                    "the match has both `path` and `path_prefix`",
                    "keep one of them",
                );
                None
            }
        };
        let methods = raw.methods.iter();
        let methods = methods
            .filter_map(|method| self.take(method.span(), address::method(method)))
            .collect();
        Some(Match {
            methods,
            headers: self.header_values(&raw.headers),
            host: host?,
            path: path?,
        })
    }

    fn header_values(
        &mut self,
        raw: &BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (name, value) in raw {
            let checked = self.take(name.span(), address::header_name(name));
            let value = self.take(value.span(), address::header_value(value));
            let (Some(checked), Some(value)) = (checked, value) else {
                continue;
            };
            if headers.iter().any(|(other, _)| *other == checked) {
                self.error(name.span(), format!("header `{checked}` stands here twice"));
            }
            headers.push((checked, value));
        }
        headers
    }

    fn rewrite(&mut self, raw: &Spanned<RawRewrite>, matches: &Match) -> Option<Rewrite> {
        match (&raw.strip_prefix, &raw.replace_prefix) {
            (Some(prefix), None) => {
                let checked = self.take(prefix.span(), address::path(prefix, false))?;
                Some(Rewrite::StripPrefix(without_final_slash(checked).into()))
            }
            (None, Some(with)) => {
                let checked = self.take(with.span(), address::path(with, false))?;
                let (PathMatch::Exact(prefix) | PathMatch::Prefix(prefix)) = &matches.path;
                Some(Rewrite::ReplacePrefix {
                    prefix: prefix.clone(),
                    with: checked.into(),
                })
            }
            (None, None) => {
                let keys = ["strip_prefix", "replace_prefix"];
                let lost = keys.iter().any(|key| self.was_dropped(&raw.span(), key));
                if !lost {
                    self.error_hint(
                        raw.span(),
                        "`rewrite` does not say what to do",
                        "add `strip_prefix` or `replace_prefix`",
                    );
                }
                None
            }
            (Some(_), Some(_)) => {
                self.error_hint(
                    raw.span(),
                    "`rewrite` has both `strip_prefix` and `replace_prefix`",
                    "`replace_prefix` alone already takes the matched prefix off",
                );
                None
            }
        }
    }

    fn edits(&mut self, raw: &RawEdits) -> HeaderEdits {
        for name in raw.set.keys().chain(&raw.remove) {
            if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                let message = format!("`{}` cannot be changed: it frames the message", **name);
                self.error(name.span(), message);
            }
        }
        let remove = raw.remove.iter();
        HeaderEdits {
            remove: remove
                .filter_map(|name| self.take(name.span(), address::header_name(name)))
                .collect(),
            set: self.header_values(&raw.set),
        }
    }
}

/// `/orders/` as a prefix means what `/orders` does.
fn without_final_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(path) => path,
    }
}
