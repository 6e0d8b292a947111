//! Whether a response may be stored (RFC 9111 section 3), and for how long by whose word.

use http::header::{AUTHORIZATION, CONTENT_LOCATION, ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};

use super::control::{Control, RequestControl};
use super::model::{Exchange, Lifetime, Model, is_guessable};
use super::vary::Vary;

/// What the operator adds to the origin's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Lifetime in seconds of what comes without any and could be guessed; 0: none.
    pub default_ttl: u32,
    /// The same for 404 and 410.
    pub not_found_ttl: u32,
    /// Whether a response that sets a cookie is stored only when it says `public` or `s-maxage`.
    pub strict_cookies: bool,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The method's answers are not stored.
    Method,
    /// Request or response says `no-store`.
    NoStore,
    /// It is for one user only.
    Private,
    /// The request carried credentials, and the response does not say that it is for all.
    Authorization,
    /// It sets a cookie, and the origin did not say how long it may be kept.
    Cookie,
    /// It varies by what no request can repeat.
    Vary,
    /// Its status is not one of a whole final response, or not understood where it must be.
    Status,
    /// Nothing says how long it may be kept, and it cannot be validated.
    NoLifetime,
}

impl Refused {
    /// Whether the next response for the same URL is likely to be refused as well.
    #[must_use]
    pub const fn lasts(self) -> bool {
        match self {
            Self::NoStore | Self::Private | Self::Cookie | Self::Vary | Self::NoLifetime => true,
            Self::Method | Self::Authorization | Self::Status => false,
        }
    }
}

/// A request and the head of its response.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's fields.
    pub request: &'a HeaderMap,
    /// The response's status.
    pub status: StatusCode,
    /// The response's fields.
    pub headers: &'a HeaderMap,
    /// When they were exchanged.
    pub exchange: Exchange,
    /// Whether the response names the request's own URL as its `Content-Location`.
    pub names_itself: bool,
}

/// Whether a response may be stored for requests by GET.
///
/// # Errors
/// When it may not, and why.
pub fn storable(
    answer: &Answer<'_>,
    control: &Control,
    policy: Policy,
) -> Result<(Model, Vary), Refused> {
    let Answer {
        status, headers, ..
    } = *answer;
    let arrived = i64::try_from(answer.exchange.arrived / 1_000).unwrap_or(i64::MAX);
    let lifetime = Lifetime::of(control, status, headers, arrived);
    let explicit = matches!(lifetime, Lifetime::Explicit(_));
    match *answer.method {
        Method::GET => {}
        Method::POST if explicit && answer.names_itself && status.is_success() => {}
        _ => return Err(Refused::Method),
    }
    if status.is_informational() || matches!(status.as_u16(), 101 | 206 | 304) {
        return Err(Refused::Status);
    }
    let understood = is_understood(status);
    if control.must_understand() && !understood {
        return Err(Refused::Status);
    }
    let excused = control.must_understand() && understood;
    if (control.no_store() && !excused) || RequestControl::of(answer.request).no_store {
        return Err(Refused::NoStore);
    }
    if control.private() {
        return Err(Refused::Private);
    }
    let for_all = control.public() || control.s_maxage.is_some();
    if answer.request.contains_key(AUTHORIZATION) && !for_all && !control.must_revalidate() {
        return Err(Refused::Authorization);
    }
    let cookie = headers.contains_key(SET_COOKIE);
    if cookie && (!explicit || (policy.strict_cookies && !for_all)) {
        return Err(Refused::Cookie);
    }
    let vary = Vary::of(headers).ok_or(Refused::Vary)?;
    let validated = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    let seconds = match lifetime {
        Lifetime::Explicit(seconds) => seconds,
        _ if control.no_cache() => 0,
        Lifetime::Guessed(seconds) => seconds.max(policy.lifetime(status)),
        Lifetime::Unknown => policy.lifetime(status),
    };
    let guessable = is_guessable(status) || control.public();
    // What is stale at once is worth keeping only if it can be validated, or used stale.
    let usable_stale = control.stale_while_revalidate.is_some() || control.stale_if_error.is_some();
    if !(explicit || guessable) || (seconds == 0 && !validated && !usable_stale) {
        return Err(Refused::NoLifetime);
    }
    let model = Model::new(control, seconds, headers, answer.exchange);
    Ok((model, vary))
}

impl Policy {
    fn lifetime(self, status: StatusCode) -> u32 {
        match status.as_u16() {
            404 | 410 => self.not_found_ttl,
            200 | 203 | 204 | 300 | 301 | 308 => self.default_ttl,
            // An attacker's header or method can cause the others.
            _ => 0,
        }
    }
}

/// Whether the caching of a status is known to this cache (RFC 9111 section 5.2.2.3): every final status that
/// RFC 9110 defines, but for those that are stored by no rule here.
const fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205
            | 300..=303
            | 305
            | 307..=308
            | 400..=417
            | 421
            | 422
            | 426
            | 500..=505
    )
}

/// Whether `headers` name `path` of `host` as their `Content-Location`.
#[must_use]
pub fn names_itself(headers: &HeaderMap, scheme: &str, host: &str, path: &str) -> bool {
    let Some(location) = headers.get(CONTENT_LOCATION) else {
        return false;
    };
    location
        .to_str()
        .ok()
        .and_then(|location| super::reuse::same_origin(location, scheme, host, path))
        .is_some_and(|named| named == path)
}
