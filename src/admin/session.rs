//! A browser's way in: it shows the token once and carries a cookie from then on.
//!
//! The cookie says until when, under a MAC whose key is the token: nothing is kept here, a restart ends no session, and
//! another token ends all of them. Scripts cannot read it and no other site can send it; a change besides needs an
//! `Origin`, which browsers always send with one and [`guard`](super::guard) compares.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{AdminState, Peer, change, guard};
use crate::clock::SystemClock;
use crate::observe::access_log::rfc3339;

const NAME: &str = "tidegate_session";
/// How long a session lasts, in seconds: a shift.
const LASTS: u64 = 12 * 3_600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

pub(super) async fn begin(
    State(state): State<AdminState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let login: Login = change::json_body(&headers, body, "{\"token\": \"…\"}")?;
    let Some(token) = &state.token else {
        return Ok(Json(json!({ "until": null })).into_response());
    };
    let peer = change::name(peer);
    if !guard::is_equal(login.token.trim().as_bytes(), token.expose().as_bytes()) {
        tracing::warn!(target: "audit", action = "login", %peer, "refused");
        let detail = "This is not the admin token.";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
    }
    tracing::info!(target: "audit", action = "login", %peer, "done");
    let until = now() + LASTS;
    let answer = json!({ "until": rfc3339(until * 1_000_000) });
    Ok(cookie(
        &made(token.expose().as_bytes(), until),
        LASTS,
        answer,
    ))
}

pub(super) async fn end() -> Response {
    cookie("", 0, json!({ "ended": true }))
}

fn cookie(value: &str, seconds: u64, answer: Value) -> Response {
    let cookie =
        format!("{NAME}={value}; Path=/api/v1; Max-Age={seconds}; HttpOnly; SameSite=Strict");
    let mut response = Json(answer).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn made(token: &[u8], until: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token);
    let mac = hmac::sign(&key, text(until).as_bytes());
    format!("{until}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// Whether one of the cookies was made with this token and still holds.
pub(super) fn is_valid(headers: &HeaderMap, token: &[u8]) -> bool {
    let cookies = headers.get_all(COOKIE).into_iter();
    let mut values = cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().strip_prefix(NAME)?.strip_prefix('='));
    values.any(|value| holds(value, token, now()))
}

fn holds(value: &str, token: &[u8], now: u64) -> bool {
    let Some((until, mac)) = value.split_once('.') else {
        return false;
    };
    let (Ok(until), Ok(mac)) = (until.parse::<u64>(), URL_SAFE_NO_PAD.decode(mac)) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, token);
    now < until && hmac::verify(&key, text(until).as_bytes(), &mac).is_ok()
}

/// What is signed: nothing else that this token may ever sign reads so.
fn text(until: u64) -> String {
    format!("tidegate dashboard session until {until}")
}

fn now() -> u64 {
    SystemClock.unix_micros() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_holds_for_its_token_and_its_time() {
        let value = made(b"s3cret", 100);
        assert!(holds(&value, b"s3cret", 99));
        assert!(!holds(&value, b"s3cret", 100));
        assert!(!holds(&value, b"another", 99));
        let later = value.replacen("100", "101", 1);
        for forged in [later.as_str(), "100.", "100", ".", ""] {
            assert!(!holds(forged, b"s3cret", 99), "{forged}");
        }
    }
}
