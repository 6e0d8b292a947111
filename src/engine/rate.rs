//! Rate limits at work: each policy's quota, whom it counts, and what a request takes from several at once.
//!
//! What was used is keyed by the policy's name and survives a reload, also one that changes the quota. It is
//! forgotten only when the policy comes to count something else.
//!
//! Depends on policy and model.

mod shared;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::shared::Shared;
pub use self::shared::{EVERY, Fleet, Report};
use super::circuit::Mode;
use crate::model::{RateLimitId, Reason, Rejection, Unit};
use crate::policy::rate::Limiter;
pub use crate::policy::rate::{Invalid, Moment, Period, Quota, Standing};

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Requests, as they come.
    Requests,
    /// Seconds of an upstream's concurrency, when they are known.
    UpstreamTime,
    /// Bytes of bodies both ways, when they are known.
    Bytes,
}

impl Cost {
    /// The parts that one of a quota's units is counted in.
    #[must_use]
    pub const fn parts(self) -> u64 {
        match self {
            Self::Requests | Self::Bytes => 1,
            Self::UpstreamTime => 10_000,
        }
    }

    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::UpstreamTime => "upstream-time",
            Self::Bytes => "bytes",
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Requests => Unit::Requests,
            Self::UpstreamTime => Unit::Seconds,
            Self::Bytes => Unit::Bytes,
        }
    }
}

/// What a request turned out to cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Time it held of its upstream's concurrency.
    pub time: Duration,
    /// Bytes of bodies, both ways.
    pub bytes: u64,
}

/// A policy's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether it acts.
    pub mode: Mode,
    /// How much, counted in the [`parts`](Cost::parts) of its cost.
    pub quota: Quota,
    /// What is counted.
    pub cost: Cost,
    /// Whether answers from the cache count.
    pub count_cache_hits: bool,
    /// Keys that are told apart.
    pub max_keys: usize,
    /// Whether the processes of a fleet share it.
    pub shared: bool,
}

/// What a plan says of a policy.
#[derive(Debug)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// Its identity.
    pub id: RateLimitId,
    /// Whom it tells apart, in the configuration's words.
    pub per: String,
    /// The rest.
    pub settings: Settings,
}

/// A policy at work under one plan.
#[derive(Debug)]
pub struct Limit {
    name: Arc<str>,
    id: RateLimitId,
    settings: Settings,
    /// What its keys and counts mean; whatever was counted otherwise is of no use to it.
    shape: String,
    state: Arc<State>,
    counts: Arc<Counts>,
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct State {
    limiter: Limiter,
    max_keys: usize,
}

/// How often a policy decided what. Striped, so that clients of different workers seldom meet.
#[derive(Debug, Default)]
struct Counts {
    stripes: [Stripe; 8],
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe {
    passed: [AtomicU64; 2],
    refused: [AtomicU64; 2],
    settled: AtomicU64,
}

const fn place(mode: Mode) -> usize {
    match mode {
        Mode::Enforce => 0,
        Mode::Observe | Mode::Off => 1,
    }
}

impl Counts {
    fn stripe(&self, key: u64) -> Option<&Stripe> {
        let mut stripes = self.stripes.iter();
        stripes.nth(usize::try_from(key % 8).unwrap_or(0))
    }

    fn sum(&self, of: impl Fn(&Stripe) -> u64) -> u64 {
        self.stripes.iter().map(of).sum()
    }
}

impl Limit {
    /// A policy of which nothing was used.
    fn new(described: Described<'_>, former: Option<&Arc<Self>>, fleet: &Arc<Fleet>) -> Arc<Self> {
        let Described {
            name,
            id,
            per,
            settings,
        } = described;
        let kind = match settings.quota.period() {
            Period::Second | Period::Minute | Period::Hour => "time",
            Period::Day => "day",
            Period::Month => "month",
        };
        let shape = format!("{per} {} {kind}", settings.cost.as_str());
        let same = former.filter(|former| former.shape == shape);
        let max_keys = settings.max_keys;
        let pending = same.and_then(|same| same.shared.clone());
        let shared = settings
            .shared
            .then(|| pending.unwrap_or_else(|| Shared::new(fleet, max_keys)));
        let state = same.filter(|same| same.state.max_keys == max_keys);
        let state = state.map_or_else(
            || {
                let limiter = Limiter::new(max_keys);
                Arc::new(State { limiter, max_keys })
            },
            |same| Arc::clone(&same.state),
        );
        Arc::new(Self {
            name: Arc::clone(name),
            id,
            counts: former.map_or_else(Arc::default, |former| Arc::clone(&former.counts)),
            settings,
            shape,
            state,
            shared,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is used of it, and what its keys stand for. Nobody else's is comparable.
    #[must_use]
    pub fn shape(&self) -> &str {
        &self.shape
    }

    /// How often it let something pass and refused something in `mode`; in mode observe, would have refused.
    #[must_use]
    pub fn decisions(&self, mode: Mode) -> (u64, u64) {
        let at = place(mode);
        let of = |counters: &[AtomicU64; 2]| {
            counters
                .get(at)
                .map_or(0, |count| count.load(Ordering::Relaxed))
        };
        let passed = self.counts.sum(|stripe| of(&stripe.passed));
        (passed, self.counts.sum(|stripe| of(&stripe.refused)))
    }

    /// How often a key had to make room for another while it still counted.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.state.limiter.evictions()
    }

    /// Whether what was used of it is worth keeping over a restart: what comes back within ten seconds is not.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let quota = &self.settings.quota;
        self.settings.mode != Mode::Off
            && (quota.is_calendar() || quota.refill() >= Duration::from_secs(10))
    }

    /// Grows whenever something is used or given back.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.counts.sum(|stripe| {
            let [acting, observing] = &stripe.passed;
            [acting, observing, &stripe.settled]
                .map(|count| count.load(Ordering::Relaxed))
                .iter()
                .sum()
        })
    }

    /// What each key has used that counts at `now`; see [`Limiter::used`].
    pub fn used(&self, now: Moment) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.state.limiter.used(&self.settings.quota, now)
    }

    /// Puts back what [`Limit::used`] gave, and still counts at `now`.
    pub fn restore(&self, key: u64, now: Moment, used: u64) {
        self.state
            .limiter
            .restore(&self.settings.quota, key, now, used);
    }

    /// Asks for one request of `key`: takes it, where requests are counted.
    fn ask(&self, key: u64, now: Moment) -> Standing {
        let (limiter, quota) = (&self.state.limiter, &self.settings.quota);
        let standing = match (self.settings.cost, &self.shared) {
            (Cost::Requests, None) => limiter.take(quota, key, now, 1),
            (Cost::Requests, Some(shared)) => shared.take(limiter, quota, key, now),
            (Cost::UpstreamTime | Cost::Bytes, _) => self.peek(key, now),
        };
        if let Some(stripe) = self.counts.stripe(key) {
            let counters = if standing.passed {
                &stripe.passed
            } else {
                &stripe.refused
            };
            if let Some(count) = counters.get(place(self.settings.mode)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        standing
    }

    fn give_back(&self, key: u64, now: Moment) {
        if self.settings.cost == Cost::Requests {
            let (limiter, quota) = (&self.state.limiter, &self.settings.quota);
            limiter.refund(quota, key, now, 1);
            self.settled(key, -1);
        }
    }

    /// How `key` stands.
    fn peek(&self, key: u64, now: Moment) -> Standing {
        let quota = &self.settings.quota;
        let shared = self.shared.as_ref();
        let quota = shared.map_or(*quota, |shared| shared.quota(quota));
        self.state.limiter.peek(&quota, key, now)
    }

    fn charge(&self, key: u64, now: Moment, spent: Spent) {
        let parts = match self.settings.cost {
            Cost::Requests => return,
            Cost::Bytes => spent.bytes,
            // Tenths of a millisecond, the nearest whole one.
            Cost::UpstreamTime => {
                u64::try_from((spent.time.as_micros() + 50) / 100).unwrap_or(u64::MAX)
            }
        };
        let (limiter, quota) = (&self.state.limiter, &self.settings.quota);
        limiter.charge(quota, key, now, parts);
        self.settled(key, i64::try_from(parts).unwrap_or(i64::MAX));
    }

    /// What was used of `key` has changed by so many units.
    fn settled(&self, key: u64, units: i64) {
        if let Some(shared) = &self.shared {
            shared.add(&self.settings.quota, key, units);
        }
        if let Some(stripe) = self.counts.stripe(key) {
            stripe.settled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the policy has against a request that found `standing`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "evidence for people: quotas are below 2^53"
    )]
    fn rejection(&self, standing: &Standing) -> Rejection {
        let quota = &self.settings.quota;
        let room = if quota.is_calendar() {
            quota.amount()
        } else {
            quota.burst()
        };
        let parts = self.settings.cost.parts() as f64;
        Rejection {
            reason: Reason::Quota,
            value: (room.saturating_sub(standing.remaining) + 1) as f64 / parts,
            threshold: room as f64 / parts,
            unit: self.settings.cost.unit(),
            retry_after: standing.retry_after.unwrap_or(Duration::MAX),
        }
    }
}

/// What a request has of one policy.
#[derive(Clone, Debug)]
pub struct Share {
    /// The policy.
    pub limit: Arc<Limit>,
    /// Whom it counts the request for.
    pub key: u64,
    /// How that key stands since.
    pub standing: Standing,
    /// Whether something was taken that may have to be given back or settled.
    open: bool,
}

/// What a policy has against a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Against {
    /// The policy.
    pub id: RateLimitId,
    /// Whether it acts on it.
    pub mode: Mode,
    /// What it saw.
    pub rejection: Rejection,
}

/// How a request stands with every policy of its route.
#[derive(Debug, Default)]
pub struct Shares {
    shares: Vec<Share>,
    refused: bool,
}

impl Shares {
    /// Asks every policy for a request, each for its key. When one that acts refuses it, what the others took
    /// is given back. Says whatever any has against it, in their order.
    pub fn ask(
        limits: impl Iterator<Item = (Arc<Limit>, u64)>,
        now: Moment,
        mut against: impl FnMut(Against),
    ) -> Self {
        let mut refused = false;
        let mut shares: Vec<Share> = limits
            .map(|(limit, key)| {
                let standing = limit.ask(key, now);
                if !standing.passed {
                    let mode = limit.settings.mode;
                    refused |= mode == Mode::Enforce;
                    against(Against {
                        id: limit.id,
                        mode,
                        rejection: limit.rejection(&standing),
                    });
                }
                Share {
                    open: standing.passed || limit.settings.cost != Cost::Requests,
                    limit,
                    key,
                    standing,
                }
            })
            .collect();
        if refused {
            for share in &mut shares {
                if std::mem::take(&mut share.open) && share.limit.settings.cost == Cost::Requests {
                    share.limit.give_back(share.key, now);
                    let after = share.limit.peek(share.key, now);
                    share.standing.remaining = after.remaining;
                    share.standing.reset = after.reset;
                }
            }
        }
        Self { shares, refused }
    }

    /// What the policy that keeps the request waiting longest has against it; none when it was not refused.
    #[must_use]
    pub fn rejection(&self) -> Option<Rejection> {
        let refusing = self
            .violated()
            .map(|share| share.limit.rejection(&share.standing));
        refusing.max_by_key(|rejection| rejection.retry_after)
    }

    /// The policies that refused the request.
    pub fn violated(&self) -> impl Iterator<Item = &Share> {
        let acting = self.acting();
        acting.filter(|share| self.refused && !share.standing.passed)
    }

    /// The policies that act.
    pub fn acting(&self) -> impl Iterator<Item = &Share> {
        let shares = self.shares.iter();
        shares.filter(|share| share.limit.settings.mode == Mode::Enforce)
    }

    /// The request is over, and no policy had refused it. Whatever was answered without its upstream, by the
    /// cache, counts only where cache hits do.
    pub fn settle(&mut self, now: Moment, spent: Spent, from_cache: bool) {
        for share in &mut self.shares {
            if std::mem::take(&mut share.open) {
                if from_cache && !share.limit.settings.count_cache_hits {
                    share.limit.give_back(share.key, now);
                } else {
                    share.limit.charge(share.key, now, spent);
                }
            }
        }
    }

    /// The request was refused elsewhere and cost nobody anything.
    pub fn give_back(&mut self, now: Moment) {
        for share in &mut self.shares {
            if std::mem::take(&mut share.open) {
                share.limit.give_back(share.key, now);
            }
        }
    }

    /// Whether there is nothing to settle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }
}

/// The policies of the running plan.
#[derive(Debug, Default)]
pub struct Limits {
    known: Mutex<HashMap<Arc<str>, Arc<Limit>>>,
    fleet: Arc<Fleet>,
}

impl Limits {
    /// The fleet that shares some of them.
    #[must_use]
    pub const fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// The policies that are described so, in this order, with what was used of those that were there before.
    pub fn apply<'a>(
        &self,
        described: impl Iterator<Item = Described<'a>>,
        now: Moment,
    ) -> Vec<Arc<Limit>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let limits: Vec<Arc<Limit>> = described
            .map(|one| {
                let former = known.get(one.name);
                let limit = Limit::new(one, former, &self.fleet);
                if let Some(former) = former.filter(|former| former.shape == limit.shape)
                    && !Arc::ptr_eq(&former.state, &limit.state)
                {
                    // Another number of keys: a table of another size.
                    for (key, used) in former.used(now) {
                        limit.restore(key, now, used);
                    }
                }
                limit
            })
            .collect();
        *known = limits
            .iter()
            .map(|limit| (Arc::clone(&limit.name), Arc::clone(limit)))
            .collect();
        limits
    }
}

#[cfg(test)]
mod tests;
