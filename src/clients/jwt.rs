//! Tokens: the JSON Web Signature in its compact form (RFC 7515), its claims (RFC 7519), checked as RFC 8725
//! advises.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Doubt, Issuer};
use crate::config::plan::Jwt;

/// The longest token looked at.
const LONGEST: usize = 16 << 10;

/// The token in `value`; none when it is something else.
pub(super) fn bearer<'v>(value: &'v HeaderValue, name: &HeaderName) -> Option<&'v [u8]> {
    let value = value.as_bytes();
    if name != header::AUTHORIZATION {
        return Some(value).filter(|token| !token.is_empty());
    }
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The value of the claim, and until when it may be believed, in seconds since the Unix epoch.
pub(super) fn verify(
    token: &[u8],
    expected: &Jwt,
    issuer: &Issuer,
    unix: u64,
) -> Result<(String, u64), Doubt> {
    if token.len() > LONGEST {
        return Err(Doubt::Malformed);
    }
    let token = std::str::from_utf8(token).map_err(|_binary| Doubt::Malformed)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(Doubt::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Doubt::Malformed)?;
    let header: Header = json(header)?;
    if header.crit.is_some() {
        // An extension that must be understood, and is not.
        return Err(Doubt::Algorithm);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature);
    let signature = signature.map_err(|_garbled| Doubt::Malformed)?;
    let id = header.kid.as_deref();
    issuer.verify(&header.alg, id, signed.as_bytes(), &signature)?;
    // Nothing of it is looked at before its signature is.
    let claims: Map<String, Value> = json(payload)?;
    check(&claims, expected, unix)
}

fn check(claims: &Map<String, Value>, expected: &Jwt, unix: u64) -> Result<(String, u64), Doubt> {
    let time = |claim: &str| {
        claims
            .get(claim)
            .map(|value| seconds(value).ok_or(Doubt::Malformed))
    };
    let leeway = expected.leeway.as_secs();
    let until = time("exp").ok_or(Doubt::NoExpiry)??.saturating_add(leeway);
    if unix >= until {
        return Err(Doubt::Expired);
    }
    if let Some(from) = time("nbf")
        && unix.saturating_add(leeway) < from?
    {
        return Err(Doubt::TooEarly);
    }
    if let Some(issuer) = &expected.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(Doubt::Issuer);
    }
    if let Some(audience) = &expected.audience
        && !is_for(claims.get("aud"), audience)
    {
        return Err(Doubt::Audience);
    }
    match claims.get(&*expected.claim) {
        Some(Value::String(value)) if !value.is_empty() => Ok((value.clone(), until)),
        Some(Value::Number(value)) => Ok((value.to_string(), until)),
        _ => Err(Doubt::NoClaim),
    }
}

/// One audience, or a list of them.
fn is_for(given: Option<&Value>, audience: &str) -> bool {
    match given {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// A `NumericDate`: seconds, with a fraction or without.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and fractions of seconds do not count"
)]
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|time| *time >= 0.0)
            .map(|time| time as u64)
    })
}

fn json<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Doubt> {
    let text = URL_SAFE_NO_PAD.decode(part);
    let text = text.map_err(|_garbled| Doubt::Malformed)?;
    serde_json::from_slice(&text).map_err(|_garbled| Doubt::Malformed)
}
