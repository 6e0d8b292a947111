//! Which route a request takes.
//!
//! Most specific first: an exact host, then the longest wildcard, then any host; within a host an exact path,
//! then the longest prefix; within a path the route with most predicates, then the order of the file. The
//! order is that of the Kubernetes Gateway API. A host whose routes all decline leaves the request to the
//! less specific hosts.
//!
//! A look-up costs a few hash look-ups (one per label of the host, one per distinct prefix length) however
//! many routes there are, and allocates only for a host that is not in lower case. Depends on the plan.

use std::borrow::Cow;
use std::collections::HashMap;

use http::{HeaderMap, Method};

use crate::config::plan::{HostMatch, Match, PathMatch, Plan};

/// Finds the route for a request.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, Paths>,
    /// By the part after `*.`.
    below: HashMap<Box<str>, Paths>,
    any: Paths,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Vec<Candidate>>,
    /// By the prefix without its trailing slash, so that `/` is empty.
    prefix: HashMap<Box<str>, Vec<Candidate>>,
    /// The lengths of the prefixes, longest first.
    lengths: Vec<usize>,
}

/// One route, and what is left to check once host and path agree.
#[derive(Debug)]
struct Candidate {
    route: usize,
    matches: Match,
}

impl Router {
    /// Sorts the routes of `plan` by host and path.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut router = Self::default();
        for (index, route) in plan.routes.iter().enumerate() {
            router.insert(index, &route.matches);
        }
        let paths = router.exact.values_mut().chain(router.below.values_mut());
        for paths in paths.chain([&mut router.any]) {
            paths.sort();
        }
        router
    }

    /// The index in [`Plan::routes`] of the most specific route that matches. `host` is the request's
    /// authority or Host, with or without a port; `path` is normalised and has no query.
    #[must_use]
    pub fn find(
        &self,
        host: &str,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<usize> {
        let host = lower_case(without_port(host));
        let find = |paths: &Paths| paths.find(path, method, headers);
        let exact = self.exact.get(&*host).and_then(find);
        let below = || {
            let mut domains = domains_above(&host).filter_map(|domain| self.below.get(domain));
            domains.find_map(find)
        };
        exact
            .or_else(|| (!self.below.is_empty()).then(below).flatten())
            .or_else(|| find(&self.any))
    }

    fn insert(&mut self, route: usize, matches: &Match) {
        let paths = match &matches.host {
            HostMatch::Any => &mut self.any,
            HostMatch::Exact(host) => self.exact.entry(key_of(host)).or_default(),
            HostMatch::Below(domain) => self.below.entry(key_of(domain)).or_default(),
        };
        let candidates = match &matches.path {
            PathMatch::Exact(path) => paths.exact.entry((&**path).into()).or_default(),
            PathMatch::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                paths.prefix.entry(prefix.into()).or_default()
            }
        };
        candidates.push(Candidate {
            route,
            matches: matches.clone(),
        });
    }
}

impl Paths {
    fn sort(&mut self) {
        for candidates in self.exact.values_mut().chain(self.prefix.values_mut()) {
            // Stable: equals stay in the order of the file.
            candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.predicates()));
        }
        self.lengths = self.prefix.keys().map(|prefix| prefix.len()).collect();
        self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        self.lengths.dedup();
    }

    fn find(&self, path: &str, method: &Method, headers: &HeaderMap) -> Option<usize> {
        let first = |candidates: &Vec<Candidate>| {
            let mut candidates = candidates.iter();
            let found = candidates.find(|candidate| candidate.accepts(method, headers));
            found.map(|candidate| candidate.route)
        };
        let exact = self.exact.get(path).and_then(first);
        exact.or_else(|| {
            let prefixes = self.lengths.iter().filter_map(|&len| prefix_of(path, len));
            let mut routes = prefixes.filter_map(|prefix| self.prefix.get(prefix).and_then(first));
            routes.next()
        })
    }
}

impl Candidate {
    fn predicates(&self) -> usize {
        usize::from(!self.matches.methods.is_empty()) + self.matches.headers.len()
    }

    fn accepts(&self, method: &Method, headers: &HeaderMap) -> bool {
        let Match {
            methods,
            headers: wanted,
            ..
        } = &self.matches;
        (methods.is_empty() || methods.contains(method))
            && wanted.iter().all(|(name, value)| {
                let mut values = headers.get_all(name).iter();
                values.any(|held| held == value)
            })
    }
}

/// The first `len` bytes of `path` when they end at a `/` or with the path. Nothing at all is a prefix of
/// every path, of the `*` of OPTIONS too.
fn prefix_of(path: &str, len: usize) -> Option<&str> {
    let (prefix, rest) = path.split_at_checked(len)?;
    (len == 0 || rest.is_empty() || rest.starts_with('/')).then_some(prefix)
}

/// `host` without port and trailing dot; an IPv6 literal keeps its brackets.
fn without_port(host: &str) -> &str {
    let end = if host.starts_with('[') {
        host.find(']').map(|end| end + 1)
    } else {
        host.bytes().position(|byte| byte == b':')
    };
    let name = end.and_then(|end| host.get(..end)).unwrap_or(host);
    name.strip_suffix('.').unwrap_or(name)
}

/// `host` in lower case; as it is when it already is.
fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// A host of the plan as the tables keep it.
fn key_of(host: &str) -> Box<str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.to_ascii_lowercase().into()
}

/// The domains `host` is below, longest first: `b.c` and `c` for `a.b.c`. An address is below none.
fn domains_above(host: &str) -> impl Iterator<Item = &str> {
    let host = if host.starts_with('[') { "" } else { host };
    std::iter::successors(parent(host), |domain| parent(domain))
}

fn parent(domain: &str) -> Option<&str> {
    domain.split_once('.').map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests;
