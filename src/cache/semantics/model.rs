//! How old a response is and how long it may be used (RFC 9111 section 4.2).

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::control::Control;
use super::date;

/// Milliseconds; as a time: since the Unix epoch.
pub type Millis = u64;

/// The share of a response's time since its last change that it is taken to stay as it is, as a divisor, and
/// the longest such time, in seconds.
const HEURISTIC_SHARE: i64 = 10;
const HEURISTIC_MOST: i64 = 300;

/// When a request was sent and its response's head arrived.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// The request was sent.
    pub sent: Millis,
    /// The response's head arrived.
    pub arrived: Millis,
}

/// All that a hit needs to know about a stored response's age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// When its head, or that of the last validation, arrived.
    pub arrived: Millis,
    /// How old it was then.
    pub initial_age: Millis,
    /// How long it is fresh.
    pub lifetime: Millis,
    /// How long past that it may be used while it is fetched anew.
    pub stale_while_revalidate: Millis,
    /// How long past that it may be used when the origin fails.
    pub stale_if_error: Millis,
    /// Whether it is never used without asking the origin.
    pub always_validate: bool,
    /// Whether it must not be used stale, whatever anybody allows.
    pub never_stale: bool,
}

/// Where a response's lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The origin gave it, in seconds.
    Explicit(u32),
    /// It was guessed from the last change, in seconds.
    Guessed(u32),
    /// There is none.
    Unknown,
}

impl Lifetime {
    /// The lifetime that `control` and the fields give, of a response that arrived at `arrived` seconds.
    #[must_use]
    pub fn of(control: &Control, status: StatusCode, headers: &HeaderMap, arrived: i64) -> Self {
        if let Some(seconds) = control.s_maxage.or(control.max_age) {
            return Self::Explicit(seconds);
        }
        let dated = date_of(headers, arrived);
        if headers.contains_key(EXPIRES) && !control.targeted {
            let mut lines = headers.get_all(EXPIRES).iter();
            let until = match (lines.next(), lines.next()) {
                (Some(only), None) => date::parse(only, arrived),
                _ => None,
            };
            let seconds = until.map_or(0, |until| until.saturating_sub(dated));
            return Self::Explicit(seconds_of(seconds));
        }
        let modified = headers
            .get(LAST_MODIFIED)
            .and_then(|value| date::parse(value, arrived));
        match modified {
            Some(modified) if is_guessable(status) || control.public() => {
                let unchanged = dated.saturating_sub(modified).max(0);
                let seconds = (unchanged / HEURISTIC_SHARE).min(HEURISTIC_MOST);
                Self::Guessed(seconds_of(seconds))
            }
            _ => Self::Unknown,
        }
    }
}

/// When a response says it was made, in seconds; when it arrived, if it does not say.
fn date_of(headers: &HeaderMap, arrived: i64) -> i64 {
    let date = headers.get(DATE).and_then(|at| date::parse(at, arrived));
    date.unwrap_or(arrived)
}

fn seconds_of(seconds: i64) -> u32 {
    let seconds = u32::try_from(seconds.max(0)).unwrap_or(super::control::MAX_SECONDS);
    seconds.min(super::control::MAX_SECONDS)
}

/// Whether a status may be stored without explicit freshness (RFC 9110 section 15.1). 206 may too, but is
/// stored by rules of its own.
#[must_use]
pub const fn is_guessable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

impl Model {
    /// The model of a response with these fields whose lifetime is `lifetime` seconds.
    #[must_use]
    pub fn new(control: &Control, lifetime: u32, headers: &HeaderMap, exchange: Exchange) -> Self {
        let arrived = exchange.arrived;
        let arrived_seconds = i64::try_from(arrived / 1_000).unwrap_or(i64::MAX);
        let apparent = arrived_seconds.saturating_sub(date_of(headers, arrived_seconds));
        let apparent = u64::try_from(apparent).unwrap_or(0).saturating_mul(1_000);
        let delay = arrived.saturating_sub(exchange.sent);
        let corrected = age_of(headers).saturating_mul(1_000).saturating_add(delay);
        let shared_lifetime = control.s_maxage.is_some();
        Self {
            arrived,
            initial_age: apparent.max(corrected),
            lifetime: millis(Some(lifetime)),
            stale_while_revalidate: millis(control.stale_while_revalidate),
            stale_if_error: millis(control.stale_if_error),
            always_validate: control.no_cache(),
            never_stale: control.must_revalidate()
                || control.proxy_revalidate()
                || shared_lifetime
                || control.no_cache(),
        }
    }

    /// How old it is.
    #[must_use]
    pub const fn age(&self, now: Millis) -> Millis {
        self.initial_age
            .saturating_add(now.saturating_sub(self.arrived))
    }

    /// How much longer it is fresh.
    #[must_use]
    pub const fn left(&self, now: Millis) -> Millis {
        self.lifetime.saturating_sub(self.age(now))
    }

    /// How long it has been stale; 0 while it is fresh.
    #[must_use]
    pub const fn staleness(&self, now: Millis) -> Millis {
        self.age(now).saturating_sub(self.lifetime)
    }

    /// Whether it is fresh.
    #[must_use]
    pub const fn is_fresh(&self, now: Millis) -> bool {
        self.age(now) < self.lifetime
    }

    /// What is left of its freshness in whole seconds; negative once it is stale.
    #[must_use]
    pub fn ttl(&self, now: Millis) -> i64 {
        let lifetime = i64::try_from(self.lifetime / 1_000).unwrap_or(i64::MAX);
        let age = i64::try_from(self.age(now) / 1_000).unwrap_or(i64::MAX);
        lifetime.saturating_sub(age)
    }

    /// The same, stale from now on.
    #[must_use]
    pub const fn expired(self, now: Millis) -> Self {
        let age = self.age(now);
        Self {
            lifetime: if age < self.lifetime {
                age
            } else {
                self.lifetime
            },
            ..self
        }
    }
}

fn millis(seconds: Option<u32>) -> Millis {
    u64::from(seconds.unwrap_or(0)).saturating_mul(1_000)
}

/// The age a response arrives with, in seconds: the first member of the field's first line; 0 when that is no
/// number.
fn age_of(headers: &HeaderMap) -> u64 {
    let first = headers.get(AGE).and_then(|value| value.to_str().ok());
    let first = first
        .and_then(|value| value.split(',').next())
        .unwrap_or("");
    let first = first.trim();
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    first.parse::<u32>().unwrap_or(u32::MAX).into()
}
