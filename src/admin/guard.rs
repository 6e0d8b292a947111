//! Who may ask: the token, and protection of a browser on the same machine.
//!
//! With a token, every request must carry it, or a [session](super::session) begun with it. Without one the API listens on loopback or a unix socket, where
//! the danger is a web page in the operator's browser: a page of another site shows in `Origin`, and a name
//! rebound to 127.0.0.1 shows in `Host`.

use std::hint::black_box;
use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AdminState;
use super::problem::Problem;
use super::session;

pub(super) async fn authorize(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    let checked = check_site(&state, uri, headers)
        .and_then(|()| check_token(&state, request.method(), headers));
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Lets in everybody but other sites' pages.
pub(super) async fn same_site(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    match check_site(&state, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check_site(state: &AdminState, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = asked_host(uri, headers)?;
    if let Some(origin) = headers.get(ORIGIN)
        && !is_same_site(origin.as_bytes(), host.as_ref())
    {
        let detail = "The request comes from a page of another site.";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if state.token.is_none()
        && let Some(host) = host
        && !is_own_name(host.host(), state.host.as_deref())
    {
        let detail =
            "Without a token this answers only to localhost, an IP address or its own name.";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(())
}

pub(super) fn check_token(
    state: &AdminState,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let Some(token) = &state.token else {
        return Ok(());
    };
    let token = token.expose().as_bytes();
    let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    if shown.is_some_and(|shown| is_bearer(shown, token)) {
        return Ok(());
    }
    if session::is_valid(headers, token) {
        if method.is_safe() || headers.contains_key(ORIGIN) {
            return Ok(());
        }
        let detail = "A change with a session's cookie needs an Origin, as browsers send it.";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let detail = "This needs the admin token as a bearer token.";
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
}

/// The authority the client asked for; none when it named none, which no browser does.
fn asked_host(uri: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, Problem> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.clone()));
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) if host.is_empty() => Ok(None),
        (Some(host), None) => Authority::try_from(host.as_bytes())
            .map(Some)
            .map_err(|error| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    format!("The Host is invalid: {error}."),
                )
            }),
        (Some(_), Some(_)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "There is more than one Host.",
        )),
    }
}

fn is_same_site(origin: &[u8], host: Option<&Authority>) -> bool {
    let origin = std::str::from_utf8(origin).ok();
    let origin = origin.and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, origin)), Some(host)) => origin.eq_ignore_ascii_case(host.as_str()),
        (None, _) | (_, None) => false,
    }
}

fn is_own_name(host: &str, configured: Option<&str>) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || configured.is_some_and(|name| name.eq_ignore_ascii_case(host))
}

fn is_bearer(shown: &[u8], token: &[u8]) -> bool {
    let Some((scheme, shown)) = shown.split_at_checked(7) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"bearer ") && is_equal(shown, token)
}

/// Takes the same time wherever the two differ; tells their lengths apart, which is no secret.
pub(super) fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a
        .iter()
        .zip(b)
        .fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_equal() {
        assert!(is_bearer(b"Bearer s3cret", b"s3cret"));
        assert!(is_bearer(b"bearer s3cret", b"s3cret"));
        for shown in [
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer S3cret",
            "Basic s3cret",
            "s3cret",
            "",
        ] {
            assert!(!is_bearer(shown.as_bytes(), b"s3cret"), "{shown}");
        }
    }

    #[test]
    fn only_addresses_localhost_and_the_own_name_are_own() {
        for host in [
            "127.0.0.1",
            "[::1]",
            "10.1.2.3",
            "localhost",
            "LOCALHOST",
            "gate.internal",
        ] {
            assert!(is_own_name(host, Some("gate.internal")), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!is_own_name(host, Some("gate.internal")), "{host}");
        }
    }

    #[test]
    fn an_origin_is_the_same_site_only_with_the_same_host_and_port() {
        let host = Authority::from_static("localhost:9900");
        assert!(is_same_site(b"http://localhost:9900", Some(&host)));
        for origin in [
            "null",
            "http://localhost",
            "http://localhost:8080",
            "https://evil.example",
            "",
        ] {
            assert!(!is_same_site(origin.as_bytes(), Some(&host)), "{origin}");
        }
        assert!(!is_same_site(b"http://localhost:9900", None));
    }
}
