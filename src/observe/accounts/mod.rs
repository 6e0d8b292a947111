//! What each client takes: of every upstream the heaviest clients by name, everything else as `__other__`.
//!
//! An upstream has 2,000 counters (Filtered Space-Saving by upstream time) of about a kilobyte each, fewer when there are very
//! many upstreams, and none of the tables here grows with the number of clients. Everything is folded on the observer thread, which also ends the
//! seconds, minutes and hours; nothing here reads a clock. What is said against a client is a [`Flag`].
//! Depends on measure, model, the exchange and the engine's words.

mod account;
mod client;
mod flag;
mod report;
mod sums;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use self::account::Account;
pub use self::flag::{Evidence, Flag, Kind};
use self::flag::{Moment, count};
pub use self::report::{ClientReport, Lately, Report, Series, Standing, label};
pub use self::sums::{Class, Sums};
use super::exchange::Exchange;
use crate::clock::Instant;
use crate::config::plan::Known;
use crate::engine::upstream::Throttled;
use crate::measure::slots::Slots;
use crate::model::UpstreamId;

/// Upstreams that have an account of their own; what is beyond shares one.
const MAX_ACCOUNTS: usize = 256;
/// The first so many of them follow
const LARGE_ACCOUNTS: usize = 32;
/// this many clients,
const COUNTERS: usize = 2_000;
/// and the others this many.
const FEWER_COUNTERS: usize = 400;
/// Hours after which what was counted counts half.
const HALF_LIFE: u64 = 12;

/// A client that the configuration names.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownClient {
    /// Its name.
    pub name: Arc<str>,
    /// Its share of a saturated upstream, relative to the others.
    pub weight: f64,
    /// What it said it would send.
    pub declared: Option<Declared>,
}

/// What a client said it would send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Declared {
    /// Requests
    pub requests: f64,
    /// in so many seconds, an hour at most.
    pub seconds: u32,
}

impl From<&Known> for KnownClient {
    /// What was declared by the day or the month is not judged while it lasts.
    fn from(known: &Known) -> Self {
        let declared = known.declared_rate.as_ref().and_then(|rate| {
            let seconds = u32::try_from(rate.period().seconds()).ok()?;
            let requests = count(rate.amount());
            (seconds <= 3_600).then_some(Declared { requests, seconds })
        });
        Self {
            name: Arc::clone(&known.name),
            weight: known.weight.into(),
            declared,
        }
    }
}

/// What a known client has asked for in the last hour, by ten seconds.
type Asked = Slots<360>;

/// How an upstream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests that may be in flight.
    pub limit: u32,
    /// Requests that are.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Whether noisy clients are throttled.
    pub throttles: bool,
}

impl Sample {
    /// Whether the limit is in use, to a twentieth, and somebody waits.
    fn is_saturated(&self) -> bool {
        let in_use = u64::from(self.in_flight) * 20 >= u64::from(self.limit) * 19;
        self.limit > 0 && in_use && self.waiting > 0
    }
}

/// Who is to be held to so many slots of an upstream.
pub type Throttle = (UpstreamId, Vec<Throttled>);

/// The accounts of all upstreams.
#[derive(Debug)]
pub struct Accounts {
    /// By upstream + 1; 0: of requests that reached none.
    accounts: Vec<Option<Box<Account>>>,
    known: Vec<KnownClient>,
    /// Of each of [`Self::known`].
    asked: Vec<Asked>,
    by_name: HashMap<Arc<str>, u16>,
    opened: Instant,
    /// The second and the minute that are running.
    second: u32,
    minute: Option<u64>,
}

impl Accounts {
    /// Empty accounts.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            accounts: Vec::new(),
            known: Vec::new(),
            asked: Vec::new(),
            by_name: HashMap::new(),
            opened: now,
            second: 0,
            minute: None,
        }
    }

    /// Follows a reload: the clients that are known from now on.
    pub fn set_known(&mut self, known: Vec<KnownClient>) {
        let before = std::mem::take(&mut self.asked);
        let asked = |client: &KnownClient| {
            let before = self
                .by_name
                .get(&client.name)
                .and_then(|at| before.get(usize::from(*at)));
            before.copied().unwrap_or_default()
        };
        self.asked = known.iter().map(asked).collect();
        let names = known.iter().map(|client| Arc::clone(&client.name));
        self.by_name = names.zip(0..).collect();
        self.known = known;
        for account in self.accounts.iter_mut().flatten() {
            for (_, _, client) in account.top.iter_mut() {
                client.known = self.by_name.get(client.name.as_str()).copied();
            }
        }
    }

    /// Takes in one exchange that ended about `now`, of the client of this name.
    pub fn fold(&mut self, exchange: &Exchange, name: &str, now: Instant) {
        let second = self.second_of(now);
        let place = exchange.upstream.map_or(0, |upstream| upstream.index() + 1);
        let place = place.min(MAX_ACCOUNTS);
        if place >= self.accounts.len() {
            self.accounts.resize_with(place + 1, || None);
        }
        let Some(account) = self.accounts.get_mut(place) else {
            return;
        };
        let by_name = &self.by_name;
        let known = |name: &str| by_name.get(name).copied();
        let large = place <= LARGE_ACCOUNTS || place == MAX_ACCOUNTS;
        let counters = if large { COUNTERS } else { FEWER_COUNTERS };
        let account = account.get_or_insert_with(|| Box::new(Account::new(counters)));
        account.fold(exchange, name, second, known);
    }

    /// Goes on to `now`, with how the upstreams stand: ends the seconds, minutes and hours that are over. Who is to
    /// be throttled at which upstream from now on, where that changed. To be called every 100 ms.
    pub fn tick(
        &mut self,
        now: Instant,
        wall: u64,
        samples: &[(UpstreamId, Sample)],
    ) -> Vec<Throttle> {
        let second = self.second_of(now);
        for (upstream, sample) in samples {
            if let Some(Some(account)) = self.accounts.get_mut(upstream.index() + 1) {
                account.sample(second, sample);
            }
        }
        let mut throttles = Vec::new();
        let ended = std::mem::replace(&mut self.second, second);
        if ended < second {
            let at = Moment {
                second: ended,
                wall,
            };
            for (account, place) in self.accounts.iter_mut().zip(0_u32..) {
                let Some(account) = account else { continue };
                let changed = account.judge(at, &self.known);
                if let Some((throttled, upstream)) = changed.zip(place.checked_sub(1)) {
                    throttles.push((UpstreamId::new(upstream), throttled.to_vec()));
                }
            }
            if ended / 10 < second / 10 {
                self.judge_habits(Moment { second, wall });
            }
        }
        let minute = wall / 60_000_000;
        let ended = self.minute.replace(minute);
        if let Some(ended) = ended.filter(|ended| *ended < minute) {
            self.end_minute(ended, minute, Moment { second, wall });
        }
        throttles
    }

    fn end_minute(&mut self, ended: u64, minute: u64, at: Moment) {
        let (before, hour) = (ended / 60, minute / 60);
        for account in self.accounts.iter_mut().flatten() {
            account.minute(ended, at);
            if before < hour {
                account.age(before / HALF_LIFE < hour / HALF_LIFE);
            }
        }
    }

    fn judge_habits(&mut self, at: Moment) {
        for account in self.accounts.iter_mut().flatten() {
            account.judge_habits(at);
        }
        self.judge_declared(at);
    }

    /// Holds known clients to what they declared, over all upstreams.
    fn judge_declared(&mut self, at: Moment) {
        let ended = (at.second / 10).saturating_sub(1);
        for account in self.accounts.iter().flatten() {
            for one in account.top.iter() {
                let known = one.value.known.map(usize::from);
                if let Some(asked) = known.and_then(|known| self.asked.get_mut(known)) {
                    let requests = one.value.habits.requests(ended, 1);
                    asked.add(ended, u32::try_from(requests).unwrap_or(u32::MAX));
                }
            }
        }
        let evidence = self.known.iter().zip(&self.asked);
        let evidence: Vec<_> = evidence
            .map(|(known, asked)| over_declared(known.declared?, asked, ended))
            .collect();
        for account in self.accounts.iter_mut().flatten() {
            for (_, _, client) in account.top.iter_mut() {
                let known = client
                    .known
                    .and_then(|known| evidence.get(usize::from(known)));
                client
                    .flags
                    .set(Kind::OverDeclared, known.cloned().flatten(), at, 20);
            }
        }
    }

    fn second_of(&self, now: Instant) -> u32 {
        u32::try_from(now.since(self.opened).as_secs()).unwrap_or(u32::MAX)
    }
}

/// What speaks for more than `declared` in the ten seconds that ended last, or in the declared time if that is longer.
fn over_declared(declared: Declared, asked: &Asked, ended: u32) -> Option<Vec<Evidence>> {
    let slots = (declared.seconds / 10).max(1);
    let seconds = f64::from(slots * 10);
    let rate = declared.requests / f64::from(declared.seconds);
    let requests = count(asked.sum(ended, slots as usize));
    // A count varies by about its root.
    let allowed = rate * seconds;
    let over = requests > allowed + 2.0 * allowed.sqrt();
    let what = "requests a second, and declared";
    over.then(|| {
        vec![Evidence::new(
            what,
            requests / seconds,
            Some(rate),
            "requests",
        )]
    })
}
