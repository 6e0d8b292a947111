//! Steps 5 and 6 of a request's way, for what the cache does not answer at once: what is sent upstream, and what the
//! cache has to do with it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Version};

use super::cached::{self, Looked, refresh};
use super::conn::Interim;
use super::forwarding::Forwarding;
use super::ingress::{self, Fields};
use super::live::LiveRoute;
use super::outbound::Outbound;
use super::path;
use super::pipeline::{NO_ROUTE, RouteRef, Way};
use super::respond::Refusal;
use super::track::Track;
use super::upload::Source;
use crate::clock::Instant;
use crate::config::plan::{Balance, HashOn, Protocol};

/// A request that the cache does not answer at once.
pub(super) struct Onward<'a> {
    pub(super) fields: Fields,
    pub(super) source: Source,
    pub(super) interim: Rc<Interim>,
    pub(super) asked: Option<&'a HeaderValue>,
    pub(super) deadline: Option<Instant>,
    pub(super) host: &'a HeaderValue,
    pub(super) target: PathAndQuery,
    pub(super) forwarding: Option<Forwarding>,
}

impl Onward<'_> {
    /// The rest of step 5, and step 6: what is sent upstream, and what the cache has to do with it.
    pub(super) fn go(
        self,
        track: &mut Track,
        reference: RouteRef,
        head: &mut http::request::Parts,
    ) -> Result<(RouteRef, Way), Refusal> {
        let Self {
            fields,
            source,
            interim,
            asked,
            deadline,
            host,
            target,
            mut forwarding,
        } = self;
        let name = host.to_str().unwrap_or_default();
        let route = reference.get().ok_or(NO_ROUTE)?;
        let http1 = route.connector.protocol == Protocol::Http1;
        let edits = &route.route.request_headers;
        if (!http1 || route.cache.is_some() || !edits.is_empty())
            && let Some(forwarding) = forwarding.take()
        {
            forwarding.put(&mut head.headers, &track.conn.peer);
        }
        let seen = route.cache.as_ref().map(|_| target.clone());
        let target = match &route.route.rewrite {
            Some(rule) => path::rewrite(&target, rule),
            None => target,
        };
        ingress::edit(&mut head.headers, edits);
        address(head, target, host, route)?;
        if let Some(protocol) = asked {
            head.headers.insert(
                http::header::CONNECTION,
                HeaderValue::from_static("upgrade"),
            );
            head.headers.insert(http::header::UPGRADE, protocol.clone());
        }
        // 6 cache
        let looked = match (&route.cache, seen) {
            (Some(cache), Some(seen)) => {
                let (of, empty) = ((name, seen), source.is_empty());
                Some(cached::look(track, route, cache, head, of, empty)?)
            }
            _ => None,
        };
        let looked = match looked {
            Some(Looked::Ready(ready)) => return Ok((reference, Way::Ready(ready))),
            looked => looked,
        };
        let hash = hash(track, route, head);
        let mut outbound = Outbound::new(
            track,
            route,
            (head, fields),
            source,
            hash,
            deadline,
            interim,
        );
        outbound.head.forwarding = forwarding;
        let outbound = Box::new(outbound);
        let way = match looked {
            None => Way::Forward(outbound),
            Some(Looked::Ask(asked)) => Way::Ask(asked, outbound),
            Some(Looked::Ready(ready)) => Way::Ready(ready),
            Some(Looked::Stale(ready, asked)) => {
                refresh::begin(track, &reference.live, reference.index, asked, outbound);
                Way::Ready(ready)
            }
        };
        Ok((reference, way))
    }
}

/// Points the request at the upstream.
fn address(
    head: &mut http::request::Parts,
    target: PathAndQuery,
    host: &HeaderValue,
    route: &LiveRoute,
) -> Result<(), Refusal> {
    let malformed = Refusal::bad_request("the request's target is malformed");
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(target);
    match route.connector.protocol {
        Protocol::Http1 => {
            head.version = Version::HTTP_11;
            if !head.headers.contains_key(http::header::HOST) {
                head.headers.insert(http::header::HOST, host.clone());
            }
        }
        Protocol::Http2 => {
            head.version = Version::HTTP_2;
            // The field may have been edited by the route; without one, what the client asked for.
            let edited = head.headers.remove(http::header::HOST);
            let name = edited.as_ref().unwrap_or(host);
            let authority = http::uri::Authority::try_from(name.as_bytes());
            uri.authority = Some(authority.map_err(|_invalid| malformed)?);
            uri.scheme = Some(if route.connector.is_tls() {
                http::uri::Scheme::HTTPS
            } else {
                http::uri::Scheme::HTTP
            });
        }
    }
    head.uri = Uri::from_parts(uri).map_err(|_invalid| malformed)?;
    Ok(())
}

/// The key of a consistent hash, for an upstream balanced by one.
fn hash(track: &Track, route: &LiveRoute, head: &http::request::Parts) -> Option<u64> {
    let config = route.upstream.config();
    let Balance::Hash(on) = &config.balance else {
        return None;
    };
    let mut hasher = DefaultHasher::new();
    match on {
        HashOn::Client => {
            track.client().hash(&mut hasher);
        }
        HashOn::Path => head.uri.path().hash(&mut hasher),
        HashOn::Header(name) => {
            head.headers
                .get(name)
                .map(HeaderValue::as_bytes)
                .hash(&mut hasher);
        }
    }
    Some(hasher.finish())
}
