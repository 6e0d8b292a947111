//! Rate limits: how much of something a key may have in a time.
//!
//! A quota per second, minute or hour is a GCRA (generic cell rate algorithm, ITU-T I.371): a key's whole
//! state is one instant, the theoretical arrival time of what would come next if it kept exactly to its rate.
//! A quota per day or month counts within the UTC calendar. Either is one word, in a [`Limiter`] of bounded size
//! that takes no lock for a key it knows. Costs need not be requests, and need not be known beforehand: what is
//! [`charged`](Limiter::charge) later may put a key into debt, which it has to pay off before it passes again.

mod calendar;
#[cfg(all(test, loom))]
mod interleavings;
mod pending;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::calendar::Moment;
pub use self::pending::Pending;
use self::table::Table;

/// What a quota is measured over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// Any second.
    Second,
    /// Any minute.
    Minute,
    /// Any hour.
    Hour,
    /// Each day, UTC.
    Day,
    /// Each month, UTC.
    Month,
}

impl Period {
    /// The length of a period that is not the calendar's.
    const fn sliding(self) -> Option<Duration> {
        match self {
            Self::Second => Some(Duration::from_secs(1)),
            Self::Minute => Some(Duration::from_secs(60)),
            Self::Hour => Some(Duration::from_secs(3_600)),
            Self::Day | Self::Month => None,
        }
    }

    /// Its length in seconds, for display; of a month, 30 days.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Month => 30 * 86_400,
        }
    }
}

/// How much a key may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    amount: u64,
    period: Period,
    burst: u64,
    /// Nanoseconds that one unit takes at this rate.
    interval: f64,
}

/// A quota that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a quota and its burst must be from 1 to 2^43, and the burst refill within a hundred years"
)]
pub struct Invalid;

/// More than any quota means, and little enough that counting cannot overflow.
const MOST: u64 = 1 << 43;
/// A hundred years, in nanoseconds.
const LONGEST: u64 = 100 * 366 * 86_400 * 1_000_000_000;

impl Quota {
    /// `amount` units in each `period`, of which `burst` may come at once. A calendar's quota has no burst.
    ///
    /// # Errors
    /// When either is zero, or beyond counting.
    #[expect(clippy::cast_precision_loss, reason = "checked to be below 2^53")]
    pub fn try_new(amount: u64, period: Period, burst: u64) -> Result<Self, Invalid> {
        if !(1..=MOST).contains(&amount) || !(1..=MOST).contains(&burst) {
            return Err(Invalid);
        }
        let nanos = period.sliding().unwrap_or_default().as_nanos() as f64;
        let quota = Self {
            amount,
            period,
            burst,
            interval: nanos / amount as f64,
        };
        if quota.time(burst) > LONGEST {
            return Err(Invalid);
        }
        Ok(quota)
    }

    /// Units in a period.
    #[must_use]
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// What it is measured over.
    #[must_use]
    pub const fn period(&self) -> Period {
        self.period
    }

    /// Units that may come at once.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// One of `parts` equal parts of a sliding quota; of a burst too small for all of them, one unit.
    #[must_use]
    pub fn part(&self, parts: u32) -> Self {
        let parts = parts.max(1);
        Self {
            amount: (self.amount / u64::from(parts)).max(1),
            burst: (self.burst / u64::from(parts)).max(1),
            interval: self.interval * f64::from(parts),
            ..*self
        }
    }

    /// Whether it counts within the calendar's days or months.
    #[must_use]
    pub const fn is_calendar(&self) -> bool {
        self.period.sliding().is_none()
    }

    /// The time in which a sliding quota's whole burst comes back.
    #[must_use]
    pub fn refill(&self) -> Duration {
        Duration::from_nanos(self.time(self.burst))
    }

    /// The number of the calendar's period that `now` is in; of a sliding quota, 0.
    #[must_use]
    pub const fn period_at(&self, now: Moment) -> u64 {
        match self.period {
            Period::Second | Period::Minute | Period::Hour => 0,
            Period::Day => now.day().0,
            Period::Month => now.month().0,
        }
    }

    /// The time that `units` take at this rate, in nanoseconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a float cast saturates; no cost comes near 2^53"
    )]
    fn time(&self, units: u64) -> u64 {
        (self.interval * units as f64).round() as u64
    }

    /// The units that `nanos` are worth, whole ones.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a float cast saturates; half a nanosecond more makes up for rounding in `time`"
    )]
    fn units(&self, nanos: u64) -> u64 {
        ((nanos as f64 + 0.5) / self.interval) as u64
    }
}

/// How a key stands with its quota after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it passed.
    pub passed: bool,
    /// Units it may still have now.
    pub remaining: u64,
    /// Time until it has its whole burst, or a new period, again.
    pub reset: Duration,
    /// Time until what was asked for would pass; zero if it did. None if it never will.
    pub retry_after: Option<Duration>,
}

/// One quota, and what each key has used of it.
#[derive(Debug)]
pub struct Limiter {
    table: Table,
}

impl Limiter {
    /// Nobody has used anything. Room for at least `keys` keys at a time.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self {
            table: Table::new(keys),
        }
    }

    /// How often a key had to make room for another while it still counted.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.table.evictions()
    }

    /// Takes `cost` units of `key`'s quota, or nothing when it has not so many.
    pub fn take(&self, quota: &Quota, key: u64, now: Moment, cost: u64) -> Standing {
        let clock = Clock::new(quota, now);
        let mut standing = None;
        self.table.update(key, |word| {
            let used = clock.used(word);
            let after = used.saturating_add(clock.price(cost));
            let passed = after <= clock.room;
            standing = Some(clock.standing(if passed { after } else { used }, passed, cost));
            passed.then(|| clock.word(after))
        });
        standing.unwrap_or_else(|| clock.standing(0, true, cost))
    }

    /// How `key` stands, were it to ask for one unit now. Takes nothing.
    pub fn peek(&self, quota: &Quota, key: u64, now: Moment) -> Standing {
        let clock = Clock::new(quota, now);
        let used = self.table.get(key).map_or(0, |word| clock.used(word));
        let passed = used.saturating_add(clock.price(1)) <= clock.room;
        clock.standing(used, passed, 1)
    }

    /// Adds what something that has already happened cost, into debt if need be.
    pub fn charge(&self, quota: &Quota, key: u64, now: Moment, cost: u64) {
        let clock = Clock::new(quota, now);
        self.table.update(key, |word| {
            let after = clock.used(word).saturating_add(clock.price(cost));
            Some(clock.word(after))
        });
    }

    /// Gives back what was taken for something that did not happen.
    pub fn refund(&self, quota: &Quota, key: u64, now: Moment, cost: u64) {
        let clock = Clock::new(quota, now);
        self.table.update(key, |word| {
            let after = clock.used(word).saturating_sub(clock.price(cost));
            Some(clock.word(after))
        });
    }

    /// What each key has used that counts at `now`, as a length of time in nanoseconds for a sliding quota and
    /// in units for a calendar's: to be kept over a restart.
    pub fn used<'a>(
        &'a self,
        quota: &'a Quota,
        now: Moment,
    ) -> impl Iterator<Item = (u64, u64)> + 'a {
        let clock = Clock::new(quota, now);
        self.table
            .iter()
            .map(move |(key, word)| (key, clock.used(word)))
            .filter(|(_, used)| *used > 0)
    }

    /// What `key` has used, in the measure of [`Limiter::used`].
    #[must_use]
    pub fn used_by(&self, quota: &Quota, key: u64, now: Moment) -> u64 {
        let clock = Clock::new(quota, now);
        self.table.get(key).map_or(0, |word| clock.used(word))
    }

    /// `key` has used `used` (in the measure of [`Limiter::used`]), as everybody knows who shares the quota, and what
    /// is `pending` besides, in units.
    pub fn learn(
        &self,
        quota: &Quota,
        key: u64,
        now: Moment,
        used: u64,
        pending: impl Fn() -> i64,
    ) {
        let clock = Clock::new(quota, now);
        self.table.update(key, |_| {
            let pending = pending();
            let price = clock.price(pending.unsigned_abs());
            let used = if pending < 0 {
                used.saturating_sub(price)
            } else {
                used.saturating_add(price)
            };
            Some(clock.word(used))
        });
    }

    /// What `units` are in the measure of [`Limiter::used`].
    #[must_use]
    pub fn price(quota: &Quota, units: u64) -> u64 {
        if quota.is_calendar() {
            units
        } else {
            quota.time(units)
        }
    }

    /// Puts back what [`Limiter::used`] gave, `used` being what of it still counts at `now`. Never lowers what
    /// a key has used meanwhile.
    pub fn restore(&self, quota: &Quota, key: u64, now: Moment, used: u64) {
        let clock = Clock::new(quota, now);
        self.table.update(key, |word| {
            (clock.used(word) < used).then(|| clock.word(used))
        });
    }
}

/// Reads and writes a key's word at one moment. What a key has used is nanoseconds ahead of now for a sliding
/// quota, and units for a calendar's.
struct Clock<'a> {
    quota: &'a Quota,
    now: Moment,
    /// The period that now is in, and the time to its end; none for a sliding quota.
    calendar: Option<(u64, Duration)>,
    /// What may be used at most.
    room: u64,
}

/// Of a calendar's word, the bits that count; the others say in which period.
const COUNT_BITS: u32 = 44;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

impl<'a> Clock<'a> {
    fn new(quota: &'a Quota, now: Moment) -> Self {
        let calendar = match quota.period {
            Period::Second | Period::Minute | Period::Hour => None,
            Period::Day => Some(now.day()),
            Period::Month => Some(now.month()),
        };
        let room = match calendar {
            None => quota.time(quota.burst),
            Some(_) => quota.amount,
        };
        Self {
            quota,
            now,
            calendar,
            room,
        }
    }

    fn price(&self, cost: u64) -> u64 {
        Limiter::price(self.quota, cost)
    }

    fn used(&self, word: u64) -> u64 {
        match self.calendar {
            None => word.saturating_sub(self.now.monotonic.as_nanos()),
            Some((period, _)) if word >> COUNT_BITS == period => word & COUNT,
            Some(_) => 0,
        }
    }

    fn word(&self, used: u64) -> u64 {
        match self.calendar {
            None => self.now.monotonic.as_nanos().saturating_add(used),
            Some((period, _)) => (period << COUNT_BITS) | used.min(COUNT),
        }
    }

    fn standing(&self, used: u64, passed: bool, cost: u64) -> Standing {
        let left = self.room.saturating_sub(used);
        let price = self.price(cost);
        let (remaining, reset, wait) = match self.calendar {
            None => {
                let over = used.saturating_add(price).saturating_sub(self.room);
                let (reset, wait) = (Duration::from_nanos(used), Duration::from_nanos(over));
                (self.quota.units(left), reset, wait)
            }
            Some((_, end)) => (left, end, end),
        };
        let possible = (price <= self.room).then_some(wait);
        Standing {
            passed,
            remaining,
            reset,
            retry_after: if passed {
                Some(Duration::ZERO)
            } else {
                possible
            },
        }
    }
}
