//! Whether a failed request may be sent again.
//!
//! Only when that is safe: nothing of an answer went back, the body is still at hand, and either the method
//! is idempotent (RFC 9110 section 9.2.2), the client gave an Idempotency-Key, or the upstream never saw the
//! request. And only within a budget: Finagle's and linkerd's, 10% of the requests of the last ten seconds
//! and ten a second besides. A fixed number of tries multiplies the load just when an upstream has none to
//! spare; a budget bounds what retries add, whatever fails. Waits are full jitter (Brooker, "Exponential
//! Backoff and Jitter"), so that what failed together does not come back together.
//!
//! A hedge is a second copy of a request that takes longer than most (Dean and Barroso, "The Tail at
//! Scale"), under the same conditions and a budget of its own.
//!
//! What we refused ourselves is never sent again: it was refused to keep load away. What it does badly: a
//! budget per upstream knows no clients, so one client's failing requests may use it up for all.
//!
//! Depends on the model's method, the clock's [`Instant`] and the shared window.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::setting::{self, Invalid};
use super::window::Window;
use crate::clock::Instant;
use crate::model::MethodLabel;

/// The first wait is between zero and this.
pub const BACKOFF: Duration = Duration::from_millis(25);

/// No wait is longer than this.
pub const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// How long requests and retries are remembered.
pub const TTL: Duration = Duration::from_secs(10);

/// Retries a second that are allowed whatever the number of requests, so that a quiet upstream has some.
pub const MIN_PER_SECOND: u32 = 10;

/// The values of `[upstreams.NAME.retry]`, not yet checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How often a request is sent at most, the first time included. *Default* 2: a second endpoint helps
    /// against one bad endpoint, a third seldom finds what two did not.
    pub attempts: u32,
    /// Retries ÷ requests. *Default* 0.1.
    pub budget: f64,
    /// Hedges ÷ requests; none turns hedging off. *Default* none.
    pub hedge: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts: 2,
            budget: 0.1,
            hedge: None,
        }
    }
}

/// Settings that were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Config(Settings);

impl Config {
    /// Checks `settings`.
    ///
    /// # Errors
    /// When there are no attempts, or a budget is outside `0 < x <= 1`.
    pub fn try_new(settings: Settings) -> Result<Self, Invalid> {
        setting::count("retry.attempts", settings.attempts)?;
        setting::ratio("retry.budget", settings.budget)?;
        if let Some(hedge) = settings.hedge {
            setting::ratio("retry.hedge.budget", hedge)?;
        }
        Ok(Self(settings))
    }

    /// The values that were checked.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.0
    }
}

/// How the last attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The upstream never saw it: no connection, or a stream refused unprocessed.
    NotSent,
    /// The connection broke before an answer began.
    Reset,
    /// The upstream answered 502, 503 or 504.
    Unavailable,
    /// The time for one attempt ran out.
    TryTimeout,
    /// We refused it ourselves, or it failed in a way that another attempt would not mend.
    Final,
}

impl Failure {
    /// Those that something is sent again for.
    pub const RETRIED: [Self; 4] = [
        Self::NotSent,
        Self::Reset,
        Self::Unavailable,
        Self::TryTimeout,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::Final as usize + 1;

    /// The word in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Reset => "reset",
            Self::Unavailable => "unavailable",
            Self::TryTimeout => "try_timeout",
            Self::Final => "final",
        }
    }

    /// What an answer with this status is, if it is a failure that another endpoint might not have.
    #[must_use]
    pub const fn from_status(status: u16) -> Option<Self> {
        match status {
            502..=504 => Some(Self::Unavailable),
            _ => None,
        }
    }
}

/// Whether a method may be repeated without changing what it does (RFC 9110 section 9.2.2).
#[must_use]
pub const fn is_idempotent(method: MethodLabel) -> bool {
    match method {
        MethodLabel::Get
        | MethodLabel::Head
        | MethodLabel::Options
        | MethodLabel::Trace
        | MethodLabel::Put
        | MethodLabel::Delete => true,
        MethodLabel::Post | MethodLabel::Connect | MethodLabel::Patch | MethodLabel::Other => false,
    }
}

/// A request as far as sending it again is concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Whether repeating it is harmless: [`is_idempotent`], or it has an Idempotency-Key.
    pub repeatable: bool,
    /// Whether its whole body is still at hand, or none of it was sent.
    pub replayable: bool,
    /// Whether any part of an answer went back to the client.
    pub answered: bool,
    /// How often it was sent so far.
    pub attempts: u32,
    /// When it must be finished.
    pub deadline: Option<Instant>,
    /// What the upstream usually takes; zero if unknown.
    pub usual: Duration,
}

/// Why a request is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The failure is one that another attempt would not mend.
    Final,
    /// Part of an answer went back already.
    Answered,
    /// It was sent as often as allowed.
    Attempts,
    /// Repeating it might do it twice.
    NotIdempotent,
    /// Its body was too large to keep.
    BodyTooLarge,
    /// It could not be finished in time.
    Deadline,
    /// Too many were sent again lately.
    Budget,
    /// An operator forbids it for now.
    Frozen,
}

impl Refusal {
    /// The word in labels and decisions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Answered => "answered",
            Self::Attempts => "attempts",
            Self::NotIdempotent => "not_idempotent",
            Self::BodyTooLarge => "body_too_large",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::Frozen => "frozen",
        }
    }
}

/// The retries of one upstream, shared by all workers.
#[derive(Debug)]
pub struct Retries {
    attempts: AtomicU32,
    retry: Budget,
    hedge: Budget,
    /// Requests, for both budgets.
    requests: Window<1>,
}

impl Retries {
    /// With a full budget.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        let retries = Self {
            attempts: AtomicU32::default(),
            retry: Budget::new(MIN_PER_SECOND * whole_seconds(TTL), now),
            hedge: Budget::new(0, now),
            requests: Window::new(TTL, now),
        };
        retries.update(config);
        retries
    }

    /// Takes over another configuration. What was spent stays spent.
    pub fn update(&self, Config(settings): Config) {
        self.attempts.store(settings.attempts, Ordering::Relaxed);
        self.retry.set_ratio(settings.budget);
        self.hedge.set_ratio(settings.hedge.unwrap_or(0.0));
    }

    /// Counts a request as it is sent for the first time. One addition.
    pub fn deposit(&self, now: Instant) {
        self.requests.add([1], now);
    }

    /// Whether `request` may be sent again after it failed like this, and how long to wait first. Spends from
    /// the budget when it may.
    ///
    /// # Errors
    /// When it must not, with the first reason found.
    pub fn decide(
        &self,
        request: &Request,
        failure: Failure,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Result<Duration, Refusal> {
        let repeatable = match failure {
            Failure::NotSent => true,
            Failure::Reset | Failure::Unavailable | Failure::TryTimeout => request.repeatable,
            Failure::Final => return Err(Refusal::Final),
        };
        let wait = backoff(request.attempts, rng);
        self.is_safe(request, repeatable, now.after(wait))?;
        self.spend(&self.retry, now)?;
        Ok(wait)
    }

    /// When to send a second copy of a request sent at `sent`, `late` being the latency that few exceed. None
    /// when hedging is off or nothing is known about latencies.
    #[must_use]
    pub fn hedge_at(&self, sent: Instant, late: Option<Duration>) -> Option<Instant> {
        late.filter(|_| self.hedge.is_on())
            .map(|late| sent.after(late))
    }

    /// Whether a second copy of `request`, still unanswered, may be sent now. Spends from the budget when it
    /// may.
    ///
    /// # Errors
    /// When it must not, with the first reason found.
    pub fn hedge(&self, request: &Request, now: Instant) -> Result<(), Refusal> {
        self.is_safe(request, request.repeatable, now)?;
        self.spend(&self.hedge, now)
    }

    /// The share of the retry budget that is left.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> f64 {
        let allowed = self.retry.allowed(self.requests(now));
        (1.0 - f64::from(self.retry.spent(now)) / allowed).max(0.0)
    }

    fn is_safe(&self, request: &Request, repeatable: bool, starts: Instant) -> Result<(), Refusal> {
        let ends = starts.after(request.usual);
        if request.answered {
            Err(Refusal::Answered)
        } else if request.attempts >= self.attempts.load(Ordering::Relaxed) {
            Err(Refusal::Attempts)
        } else if !repeatable {
            Err(Refusal::NotIdempotent)
        } else if !request.replayable {
            Err(Refusal::BodyTooLarge)
        } else if request.deadline.is_some_and(|deadline| ends >= deadline) {
            Err(Refusal::Deadline)
        } else {
            Ok(())
        }
    }

    fn spend(&self, budget: &Budget, now: Instant) -> Result<(), Refusal> {
        if budget.spend(self.requests(now), now) {
            Ok(())
        } else {
            Err(Refusal::Budget)
        }
    }

    fn requests(&self, now: Instant) -> u32 {
        let [requests] = self.requests.totals(now);
        requests
    }
}

/// What may be added to the requests of the last [`TTL`].
#[derive(Debug)]
struct Budget {
    /// The bits of an `f64`; zero turns it off.
    ratio: AtomicU64,
    /// Allowed whatever the number of requests.
    reserve: u32,
    /// Spent, and given back.
    ledger: Window<2>,
}

impl Budget {
    fn new(reserve: u32, now: Instant) -> Self {
        Self {
            ratio: AtomicU64::default(),
            reserve,
            ledger: Window::new(TTL, now),
        }
    }

    fn set_ratio(&self, ratio: f64) {
        self.ratio.store(ratio.to_bits(), Ordering::Relaxed);
    }

    fn ratio(&self) -> f64 {
        f64::from_bits(self.ratio.load(Ordering::Relaxed))
    }

    fn is_on(&self) -> bool {
        self.ratio() > 0.0
    }

    fn allowed(&self, requests: u32) -> f64 {
        self.ratio() * f64::from(requests) + f64::from(self.reserve)
    }

    fn spent(&self, now: Instant) -> u32 {
        let [spent, given_back] = self.ledger.totals(now);
        spent.saturating_sub(given_back)
    }

    /// Spends first and looks afterwards, so that workers that spend at once never overspend together.
    fn spend(&self, requests: u32, now: Instant) -> bool {
        self.ledger.add([1, 0], now);
        let fits = f64::from(self.spent(now)) <= self.allowed(requests);
        if !fits {
            self.ledger.add([0, 1], now);
        }
        fits
    }
}

/// Full jitter: anything up to 25 ms doubled with each attempt before.
fn backoff(attempts: u32, rng: &mut fastrand::Rng) -> Duration {
    let doublings = attempts.saturating_sub(1);
    let most = BACKOFF
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(MAX_BACKOFF);
    most.mul_f64(rng.f64())
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
