//! What an upstream is told of the way a request came: whose it is, by which scheme and host, through whom, and under
//! which id.
//!
//! Nobody on the way looks at any of it, as a rule. So it is not put among the request's fields but written behind them
//! when they are sent, unless the plan goes by one of these fields or the request brings one.

use http::header::{HeaderMap, HeaderName, HeaderValue, VIA};

use super::conn::Peer;
use super::id::RequestId;
use super::ingress::{Fields, X_FORWARDED_FOR, X_REQUEST_ID};
use super::track::Track;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whether a field is one that a [`Forwarding`] writes.
pub(crate) fn is_forwarding(name: &HeaderName) -> bool {
    matches!(*name, VIA)
        || [
            X_FORWARDED_FOR,
            X_FORWARDED_PROTO,
            X_FORWARDED_HOST,
            X_REQUEST_ID,
        ]
        .contains(name)
}

/// What the upstream is to be told of the way that `track`'s request for `host` came; none when `headers` say it already:
/// where something looks at it on the way.
pub(crate) fn of(
    track: &Track,
    headers: &mut HeaderMap,
    fields: Fields,
    host: &HeaderValue,
) -> Option<Forwarding> {
    let forwarding = Forwarding::new(track, host);
    if !track.live().reads_forwarding && !fields.has_forwarding() {
        return Some(forwarding);
    }
    forwarding.put(headers, &track.conn.peer);
    None
}

/// What an upstream is told of the way a request came.
#[derive(Clone, Debug)]
pub(crate) struct Forwarding {
    address: HeaderValue,
    scheme: &'static str,
    host: HeaderValue,
    via: &'static str,
    id: RequestId,
}

impl Forwarding {
    fn new(track: &Track, host: &HeaderValue) -> Self {
        let conn = &track.conn;
        Self {
            address: conn.peer.text.clone(),
            scheme: conn.scheme(),
            host: host.clone(),
            via: if conn.http2 {
                "2.0 tidegate"
            } else {
                "1.1 tidegate"
            },
            id: track.request_id().clone(),
        }
    }

    /// Its fields, for headers that have none of them.
    pub(crate) fn fields(&self) -> [(&'static str, &[u8]); 5] {
        [
            ("x-forwarded-for", self.address.as_bytes()),
            ("x-forwarded-proto", self.scheme.as_bytes()),
            ("x-forwarded-host", self.host.as_bytes()),
            ("via", self.via.as_bytes()),
            ("x-request-id", self.id.as_str().as_bytes()),
        ]
    }

    /// Puts it into `headers`. What they say already is continued if their `peer` is believed, and else replaced.
    pub(crate) fn put(self, headers: &mut HeaderMap, peer: &Peer) {
        forwarded(headers, peer, self.scheme, &self.host);
        headers.append(VIA, HeaderValue::from_static(self.via));
        headers.insert(X_REQUEST_ID, self.id.value());
    }
}

fn forwarded(headers: &mut HeaderMap, peer: &Peer, scheme: &'static str, host: &HeaderValue) {
    if !peer.trusted {
        headers.insert(X_FORWARDED_FOR, peer.text.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        headers.insert(X_FORWARDED_HOST, host.clone());
        return;
    }
    let before: Vec<&str> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let chain = if before.is_empty() {
        peer.text.clone()
    } else {
        let chain = format!("{}, {}", before.join(", "), peer.as_str());
        HeaderValue::try_from(chain).unwrap_or_else(|_invalid| peer.text.clone())
    };
    headers.insert(X_FORWARDED_FOR, chain);
    headers
        .entry(X_FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static(scheme));
    headers
        .entry(X_FORWARDED_HOST)
        .or_insert_with(|| host.clone());
}
