//! Step 5: quotas. What a request takes of its route's rate limits, what clients are told of it
//! (draft-ietf-httpapi-ratelimit-headers-10), and the settlement at its end.

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::live::{LiveRoute, RouteLimit};
use super::respond::Refusal;
use super::track::Track;
use crate::clock::Instant;
use crate::config::plan::Per;
use crate::engine::circuit::Mode;
use crate::engine::rate::{Cost, Limit, Moment, Shares, Spent};
use crate::model::Outcome;
use crate::observe::why::{Policy, Verdict};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Takes what the request needs of its route's rate limits.
///
/// # Errors
/// When one that acts has not so much left.
pub(crate) fn admit(
    track: &mut Track,
    route: &LiveRoute,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if route.limits.is_empty() {
        return Ok(());
    }
    let now = moment(track, track.now());
    let limits = route.limits.iter();
    let asked = limits.map(|one| (Arc::clone(&one.limit), key(track, route, one, headers)));
    let mut against = Vec::new();
    let shares = Shares::ask(asked, now, |one| against.push(one));
    for one in against {
        let verdict = match one.mode {
            Mode::Enforce => Verdict::Refused(one.rejection.reason),
            Mode::Observe | Mode::Off => {
                track.exchange.observed = Some(one.rejection.reason);
                Verdict::WouldRefuse(one.rejection.reason)
            }
        };
        track.refused(Policy::RateLimit(one.id), verdict, &one.rejection);
    }
    let rejection = shares.rejection();
    track.set_shares(shares);
    match rejection {
        Some(rejection) => Err(Refusal::shed(rejection)),
        None => Ok(()),
    }
}

/// Whom a limit counts the request for.
fn key(track: &Track, route: &LiveRoute, limit: &RouteLimit, headers: &HeaderMap) -> u64 {
    let live = Rc::clone(track.live());
    let unix = track.exchange.started / 1_000_000;
    match &limit.per {
        Per::Client => track.exchange.client.hash(),
        Per::Route => route.key,
        Per::Tier => live.tier(track.caller().tier).map_or(0, |tier| tier.key),
        Per::Address => {
            let memo = &mut track.conn.worker.memo();
            live.clients.network(track.address(), unix, memo).hash()
        }
        Per::Header(name) => {
            let value = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
            let memo = &mut track.conn.worker.memo();
            live.clients.value(value, unix, memo).hash()
        }
    }
}

/// `now` on both clocks.
pub(super) fn moment(track: &Track, now: Instant) -> Moment {
    let since = track.exchange.phases.total();
    let unix = track.exchange.started + u64::try_from(since.as_micros()).unwrap_or(0);
    Moment {
        monotonic: now,
        unix: unix / 1_000_000,
    }
}

/// The request is over: what it cost is charged, and what it did not need is given back. What Tidegate refused
/// before anything was sent upstream cost nobody anything; what it answered so came from the cache.
pub(crate) fn settle(track: &Track, shares: &mut Shares, now: Instant) {
    if shares.is_empty() {
        return;
    }
    let (exchange, now) = (&track.exchange, moment(track, now));
    let unsent = exchange.attempts == 0;
    if unsent && exchange.outcome == Outcome::Refused {
        shares.give_back(now);
        return;
    }
    let spent = Spent {
        time: exchange.upstream_time(),
        bytes: exchange.bytes_in.saturating_add(exchange.bytes_out),
    };
    shares.settle(now, spent, unsent && exchange.outcome == Outcome::Answered);
}

/// Tells the client how it stands with the limits that act.
pub(crate) fn tell(track: &Track, headers: &mut HeaderMap) {
    let Some(policy) = track.route().and_then(|route| route.limit_policy.clone()) else {
        return;
    };
    let mut text = String::with_capacity(48);
    for share in track.shares().acting() {
        let separator = if text.is_empty() { "" } else { ", " };
        let (standing, parts) = (&share.standing, share.limit.settings().cost.parts());
        let seconds = standing.reset.as_millis().div_ceil(1_000);
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            "{separator}\"{}\";r={};t={seconds}",
            share.limit.name(),
            standing.remaining / parts,
        );
    }
    if text.is_empty() {
        // It was answered before its quota was looked at.
        return;
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(RATELIMIT, value);
        headers.insert(RATELIMIT_POLICY, policy);
    }
}

/// `RateLimit-Policy` of a route under these limits; none when none acts.
pub(crate) fn policy<'a>(limits: impl Iterator<Item = &'a Arc<Limit>>) -> Option<HeaderValue> {
    let mut text = String::new();
    for limit in limits {
        let settings = limit.settings();
        if settings.mode != Mode::Enforce {
            continue;
        }
        let separator = if text.is_empty() { "" } else { ", " };
        let unit = match settings.cost {
            Cost::Requests => "",
            Cost::Bytes => ";qu=\"content-bytes\"",
            Cost::UpstreamTime => ";qu=\"upstream-seconds\"",
        };
        let _infallible = write!(
            text,
            "{separator}\"{}\";q={};w={}{unit}",
            limit.name(),
            settings.quota.amount() / settings.cost.parts(),
            settings.quota.period().seconds(),
        );
    }
    (!text.is_empty())
        .then(|| HeaderValue::try_from(text).ok())
        .flatten()
}
