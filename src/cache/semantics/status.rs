//! `Cache-Status` (RFC 9211): what the cache did about a request.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The route's cache does not take part in this request.
    Bypass,
    /// The method is not one that is answered from a cache.
    Method,
    /// Nothing is stored for the URL.
    UriMiss,
    /// What is stored was selected by other request fields.
    VaryMiss,
    /// The client wants the origin asked.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part is stored.
    Partial,
}

impl Forward {
    /// The parameter's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// One cache's account of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Whether it was answered without the origin.
    pub hit: bool,
    /// Why it went on.
    pub forward: Option<Forward>,
    /// The status the origin answered with.
    pub forward_status: Option<u16>,
    /// Seconds of freshness left.
    pub ttl: Option<i64>,
    /// Whether the origin's answer was stored.
    pub stored: bool,
    /// Whether it was joined with another request's way to the origin.
    pub collapsed: bool,
    /// What else there is to say; a token.
    pub detail: Option<&'static str>,
}

impl CacheStatus {
    /// Writes it behind what caches nearer to the origin have written.
    pub fn append(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.text()) {
            headers.append(CACHE_STATUS, value);
        }
    }

    /// The field's value.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(64);
        text.push_str("tidegate");
        if self.hit {
            text.push_str("; hit");
        }
        if let Some(forward) = self.forward {
            text.push_str("; fwd=");
            text.push_str(forward.as_str());
        }
        // Writing to a String cannot fail.
        if let Some(status) = self.forward_status {
            let _infallible = write!(text, "; fwd-status={status}");
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(ttl) = self.ttl {
            let _infallible = write!(text, "; ttl={ttl}");
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        text
    }
}
