//! Whether a stored response may answer a request (RFC 9111 sections 4, 4.2.4, 4.4; RFC 5861).

use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_LOCATION, LOCATION};

use super::control::{MAX_SECONDS, RequestControl};
use super::model::{Millis, Model};

/// How a stored response that matches may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// As it is: it is fresh, or as stale as the client allows.
    AsItIs,
    /// As it is, while it is fetched anew.
    WhileRevalidated,
    /// Only once the origin was asked: it is stale.
    Stale,
    /// Only once the origin was asked: the client wants so.
    Asked,
}

/// How a response with `model` may answer a request that says `control`.
#[must_use]
pub fn reuse(model: &Model, control: &RequestControl, now: Millis) -> Reuse {
    if control.no_cache {
        return Reuse::Asked;
    }
    if model.always_validate {
        return Reuse::Stale;
    }
    let seconds = |seconds: u32| u64::from(seconds).saturating_mul(1_000);
    let too_old = control
        .max_age
        .is_some_and(|max| model.age(now) > seconds(max));
    let too_short = control
        .min_fresh
        // What is stale has nothing left, and min-fresh=0 still asks for what is fresh, whatever max-stale says.
        .is_some_and(|min| !model.is_fresh(now) || model.left(now) < seconds(min));
    if too_old || too_short {
        return Reuse::Asked;
    }
    if model.is_fresh(now) {
        return Reuse::AsItIs;
    }
    if model.never_stale {
        return Reuse::Stale;
    }
    let staleness = model.staleness(now);
    let allowed = control
        .max_stale
        .is_some_and(|max| max == MAX_SECONDS || staleness <= seconds(max));
    if allowed {
        Reuse::AsItIs
    } else if staleness < model.stale_while_revalidate {
        Reuse::WhileRevalidated
    } else {
        Reuse::Stale
    }
}

/// Whether it may be used although it is stale, since the origin failed: as long as it says itself, and as
/// the operator allows (`grace`).
#[must_use]
pub const fn may_stand_in(model: &Model, grace: Millis, now: Millis) -> bool {
    if model.never_stale {
        return false;
    }
    let allowed = if model.stale_if_error > grace {
        model.stale_if_error
    } else {
        grace
    };
    model.is_fresh(now) || model.staleness(now) < allowed
}

/// How many times what it took to fetch a response a fetch is worth beginning before its end, at most.
const EARLIEST: u64 = 16;

/// Whether a response may be worth fetching anew although it is fresh: it is so near its end that a few of the
/// `took` milliseconds that takes reach beyond it.
#[must_use]
pub const fn may_renew(model: &Model, took: Millis, now: Millis) -> bool {
    model.left(now) < took.saturating_mul(EARLIEST)
}

/// Whether this request is to fetch anew a response that is fresh: the nearer its end, the likelier, so that
/// one of many requests does so before all of them find it stale (Vattani, Chierichetti and Lowenstein,
/// "Optimal Probabilistic Cache Stampede Prevention"). `chance` is uniform between 0 and 1.
#[must_use]
pub fn renews(model: &Model, took: Millis, chance: f64, now: Millis) -> bool {
    let ahead = Duration::from_millis(took).mul_f64(-chance.max(f64::MIN_POSITIVE).ln());
    Duration::from_millis(model.left(now)) <= ahead
}

/// The targets at `host` that the successful answer to an unsafe request for `path` there makes invalid
/// besides its own.
pub fn invalidated<'a>(
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = String> + use<'a> {
    [LOCATION, CONTENT_LOCATION]
        .into_iter()
        .filter_map(move |name| headers.get(name)?.to_str().ok())
        .filter_map(move |location| same_origin(location, scheme, host, path))
}

/// The path and query that `location`, a reference relative to `path`, names at the same origin.
pub(super) fn same_origin(location: &str, scheme: &str, host: &str, path: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    let is_scheme = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    let rest = match location.split_once("://") {
        Some((given, rest)) if is_scheme(given) => {
            if !given.eq_ignore_ascii_case(scheme) {
                return None;
            }
            Some(rest)
        }
        _ => location.strip_prefix("//"),
    };
    let Some(rest) = rest else {
        return Some(match location.as_bytes().first() {
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{}{location}", path.split('?').next().unwrap_or("/")),
            None => path.to_owned(),
            Some(_) => {
                let path = path.split('?').next().unwrap_or("/");
                let directory = path
                    .rfind('/')
                    .map_or("/", |at| path.get(..=at).unwrap_or("/"));
                format!("{directory}{location}")
            }
        });
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (named, path) = rest.split_at_checked(end)?;
    let default = if scheme == "https" { ":443" } else { ":80" };
    let bare = |host: &str| {
        host.strip_suffix(default)
            .unwrap_or(host)
            .to_ascii_lowercase()
    };
    (bare(named) == bare(host)).then(|| match path.as_bytes().first() {
        None => "/".to_owned(),
        Some(b'?') => format!("/{path}"),
        Some(_) => path.to_owned(),
    })
}
