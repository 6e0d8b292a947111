//! Who sits in everybody's busiest time, and was not always there.
//!
//! The peak is the busiest twentieth of the minutes of the trailing week by total cost. A client's share of the
//! cost inside is held against its share outside: whoever follows the curve of all has the same in both, however
//! heavy it is, and whoever runs its reports at noon has not. So the rest of the clients is the control, and a new
//! client is judged at its first peak. Both are of the same days, so that a client that has grown is not taken
//! for one that sits in the peak because the busiest day is the one it grew on. A client known for two weeks is held against its own past as well, hour of
//! the week by hour of the week: a job that was moved from the night into the peak shows there on the first day,
//! while the trailing week still remembers its nights.
//!
//! What counts as borrowing takes some share of the peak, is several times what the client takes or took
//! otherwise, and lies where the *others* are busy: a job that makes a peak of its own at four in the morning
//! borrows from nobody.
//!
//! Of the upstream every minute of the week is kept, so that a minute is judged by what came after it too: while
//! the load rises towards its first peak, each is the busiest so far. Of a client two numbers are kept for each of
//! the 168 hours of the week (in UTC): the last, and an exponential mean of those before it, so that what is new
//! is no part of what it is held against; each is half of a float, and only clients that have ever had a
//! five-hundredth of an hour have them. Its cost within an hour is taken as spread evenly, which makes a burst of some
//! minutes inside a peak look smaller than it was. A response that takes minutes counts in the minute it ended.
//! Depends on [`TopK`].

mod profile;
#[cfg(test)]
mod tests;

use self::profile::{HOURS, Profile};
use super::topk::{Found, TopK};

/// Minutes of the trailing week.
const WEEK: usize = HOURS * 60;
/// One in so many of them is the peak.
const PEAK: usize = 20;
/// Minutes before the end of which nobody is judged.
const MIN_MINUTES: u64 = 240;
/// Whoever takes one part in so many of an hour is remembered by the hour.
const NOTABLE: f32 = 500.0;
/// Clients with a history.
const MAX_CLIENTS: usize = 10_000;
/// What a client must take of the peak to be worth a word.
const MIN_SHARE: f64 = 0.01;
/// How many times its share outside of the peak its share inside is.
const MIN_SCORE: f64 = 2.0;
/// How many times its own past its load in the peak is.
const MIN_RISE: f64 = 3.0;
/// How much busier than on average the others are while it is there.
const MIN_CROWDING: f64 = 1.1;
/// Shares below this are as good as none: what they are divided by is at least this.
const FLOOR: f64 = 0.002;
/// How long a client must be known to be held against its own past,
const KNOWN: u32 = 2 * profile::WEEK;
/// and the hours that are.
const LATELY: u32 = 24;

/// The cost of an upstream by minute, and of its clients by hour.
#[derive(Debug)]
pub struct Costs {
    /// The first minute, and the one after the last.
    span: Option<(u64, u64)>,
    /// Total cost by minute of the week.
    totals: Vec<f32>,
    /// Total cost by hour of the week.
    hours: Vec<f32>,
    clients: TopK<Profile>,
}

/// A client's part in the peak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Its share of the cost inside the peak of the trailing week.
    pub inside: f64,
    /// Its share outside, on the days of the peak.
    pub outside: f64,
    /// `inside` ÷ `outside`.
    pub score: f64,
    /// The others' cost while it is in the peak ÷ their mean.
    pub crowding: f64,
    /// How many times its own past, hour of the week by hour of the week, its cost in the peaks of the last day
    /// is, beyond what it grew by at other times; none while it is known for less than two weeks.
    pub rise: Option<f64>,
    /// Whether all this makes it a borrower.
    pub borrows: bool,
}

/// The peak as it stands.
#[derive(Debug)]
pub struct Peak<'a> {
    costs: &'a Costs,
    /// The hours of the trailing week, the running one last.
    hours: Vec<Hour>,
    /// Those with a part in the peak.
    peaks: Vec<Hour>,
    /// What all cost, by day.
    days: Vec<Sums>,
    inside: f64,
    /// Of the last day.
    lately: f64,
}

/// An hour of the trailing week.
#[derive(Clone, Copy, Debug)]
struct Hour {
    number: u32,
    /// How much of it has been seen, of 1.
    seen: f64,
    /// How much of what was seen is in the peak, of 1.
    peak: f64,
    total: f64,
}

/// What clients cost inside and outside of the peak.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    inside: f64,
    outside: f64,
}

impl Sums {
    fn add(&mut self, hour: &Hour, cost: f64) {
        self.inside += cost * hour.peak;
        self.outside += cost * (1.0 - hour.peak);
    }
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            span: None,
            totals: vec![0.0; WEEK],
            hours: vec![0.0; HOURS],
            clients: TopK::new(MAX_CLIENTS),
        }
    }
}

impl Costs {
    /// Takes in the minute with this number since the Unix epoch: what everything in it cost, and what the
    /// clients named did, in upstream seconds. A minute before one that was taken in is passed over.
    pub fn minute(&mut self, minute: u64, total: f32, costs: impl IntoIterator<Item = (u64, f32)>) {
        let (first, next) = *self.span.get_or_insert((minute, minute));
        if minute < next {
            return;
        }
        // A pause of more than a week leaves nothing of what was before.
        for idle in next.max(minute.saturating_sub(WEEK as u64))..minute {
            self.enter(idle, 0.0);
        }
        self.enter(minute, total);
        self.span = Some((first, minute + 1));
        let hour = hour_of(minute);
        for (client, cost) in costs {
            let profile = match self.clients.count(client, micros(cost)) {
                Some(Found::Known(profile)) => profile,
                Some(Found::New(profile) | Found::Taken(profile)) => {
                    *profile = Profile::since(hour);
                    profile
                }
                None => continue,
            };
            if profile.hour < hour {
                let of_hour = self.hours.get(profile.hour as usize % HOURS);
                profile.advance(hour, of_hour.copied().unwrap_or(0.0) / NOTABLE);
            }
            profile.hour_cost += cost;
        }
        if minute % (24 * 60) == 24 * 60 - 1 {
            self.clients.halve();
        }
    }

    fn enter(&mut self, minute: u64, total: f32) {
        if let Some(place) = self.totals.get_mut(place(minute)) {
            *place = total;
        }
        if let Some(of_hour) = self.hours.get_mut(hour_of(minute) as usize % HOURS) {
            let begins = minute.is_multiple_of(60);
            *of_hour = total + if begins { 0.0 } else { *of_hour };
        }
    }

    /// The peak of the trailing week; none while too little is known, or when there is nothing but peak.
    #[must_use]
    pub fn peak(&self) -> Option<Peak<'_>> {
        let (first, next) = self.span?;
        let first = first.max(next.saturating_sub(WEEK as u64));
        if next - first < MIN_MINUTES {
            return None;
        }
        let total = |minute: u64| self.totals.get(place(minute)).copied().unwrap_or(0.0);
        let mut sorted: Vec<f32> = (first..next).map(total).collect();
        let busiest = sorted.len().div_ceil(PEAK);
        let at = sorted.len() - busiest;
        let (_, level, _) = sorted.select_nth_unstable_by(at, f32::total_cmp);
        let level = level.max(f32::MIN_POSITIVE);
        let mut hours: Vec<Hour> = Vec::with_capacity(HOURS + 1);
        let mut minute = first;
        while minute < next {
            let end = (minute / 60 * 60 + 60).min(next);
            let peaks = (minute..end).filter(|minute| total(*minute) >= level);
            let seen = narrow(end - minute);
            hours.push(Hour {
                number: hour_of(minute),
                seen: seen / 60.0,
                peak: narrow(peaks.count() as u64) / seen,
                total: (minute..end).map(|minute| f64::from(total(minute))).sum(),
            });
            minute = end;
        }
        let days = by_day(&hours, hours.iter().map(|hour| hour.total));
        // A day of nothing but peak says nothing about anybody.
        let judged = days.iter().filter(|day| day.outside > 0.0);
        let inside = judged.map(|day| day.inside).sum();
        let peaks = hours.iter().filter(|hour| hour.peak > 0.0);
        let peaks: Vec<Hour> = peaks.copied().collect();
        let lately = peaks.iter().filter(|hour| is_late(hour, &hours));
        let lately = lately.map(|hour| hour.total * hour.peak).sum();
        (inside > 0.0).then_some(Peak {
            costs: self,
            hours,
            peaks,
            days,
            inside,
            lately,
        })
    }
}

/// Whether an hour is among the last of `hours` that a client is held against its own past for.
fn is_late(hour: &Hour, hours: &[Hour]) -> bool {
    hours
        .last()
        .is_some_and(|last| hour.number + LATELY > last.number)
}

fn by_day(hours: &[Hour], costs: impl IntoIterator<Item = f64>) -> Vec<Sums> {
    let mut days: Vec<Sums> = Vec::with_capacity(8);
    let mut before = None;
    for (hour, cost) in hours.iter().zip(costs) {
        let day = hour.number / 24;
        if before.replace(day) != Some(day) {
            days.push(Sums::default());
        }
        if let Some(sums) = days.last_mut() {
            sums.add(hour, cost);
        }
    }
    days
}

impl Peak<'_> {
    /// A client's part; none of one that is not known.
    #[must_use]
    pub fn part(&self, client: u64) -> Option<Part> {
        Some(self.part_of(self.costs.clients.get(client)?))
    }

    /// Every client that borrows, the one that takes most beyond its due first.
    #[must_use]
    pub fn borrowers(&self) -> Vec<(u64, Part)> {
        let parts = self.costs.clients.iter();
        let parts = parts.filter(|one| self.takes_some(one.value));
        let parts = parts.map(|one| (one.key, self.part_of(one.value)));
        let mut parts: Vec<_> = parts.filter(|(_, part)| part.borrows).collect();
        let excess = |part: &Part| part.inside - part.outside;
        parts.sort_by(|(_, a), (_, b)| excess(b).total_cmp(&excess(a)));
        parts
    }

    /// Whether it takes enough of the peak to be a borrower at all.
    fn takes_some(&self, profile: &Profile) -> bool {
        let (mut inside, mut lately) = (0.0, 0.0);
        for hour in &self.peaks {
            let cost = profile.spent(hour.number) * hour.peak;
            inside += cost;
            lately += if is_late(hour, &self.hours) {
                cost
            } else {
                0.0
            };
        }
        inside >= MIN_SHARE * self.inside || (lately > 0.0 && lately >= MIN_SHARE * self.lately)
    }

    fn part_of(&self, profile: &Profile) -> Part {
        let (mut crowd, mut others, mut seen) = (0.0, 0.0, 0.0);
        let spent = self.hours.iter().map(|hour| profile.spent(hour.number));
        let spent: Vec<f64> = spent.collect();
        for (hour, cost) in self.hours.iter().zip(&spent) {
            crowd += cost * hour.peak * (hour.total - cost) / hour.seen;
            others += hour.total - cost;
            seen += hour.seen;
        }
        let (mut own_inside, mut inside, mut outside) = (0.0, 0.0, 0.0);
        let own = by_day(&self.hours, spent);
        for (own, all) in own.iter().zip(&self.days) {
            own_inside += own.inside;
            if all.outside > 0.0 {
                inside += own.inside / self.inside;
                outside += all.inside / self.inside * (own.outside / all.outside);
            }
        }
        let score = inside / outside.max(FLOOR);
        let crowding = if own_inside > 0.0 && others > 0.0 {
            crowd / own_inside / (others / seen)
        } else {
            0.0
        };
        let (lately, rise) = self.rise(profile);
        let borrowed = inside >= MIN_SHARE && score >= MIN_SCORE;
        let risen = lately >= MIN_SHARE && rise.is_some_and(|rise| rise >= MIN_RISE);
        Part {
            inside,
            outside,
            score,
            crowding,
            rise,
            borrows: (borrowed || risen) && crowding >= MIN_CROWDING,
        }
    }

    /// Its share of the peaks of the last day, and how far its cost in those is above its own past.
    fn rise(&self, profile: &Profile) -> (f64, Option<f64>) {
        let (mut all, mut own, mut usual) = (Sums::default(), Sums::default(), Sums::default());
        let last = self.hours.last().map_or(0, |hour| hour.number);
        let day = self.hours.iter();
        for hour in day.filter(|hour| is_late(hour, &self.hours)) {
            all.add(hour, hour.total);
            own.add(hour, profile.spent(hour.number));
            usual.add(hour, profile.usual(hour.number) * hour.seen);
        }
        if all.inside <= 0.0 {
            return (0.0, None);
        }
        let risen = |own: f64, usual: f64, all: f64| {
            let floor = FLOOR * all;
            (own + floor) / (usual + floor).max(f64::MIN_POSITIVE)
        };
        let elsewhere = risen(own.outside, usual.outside, all.outside);
        let rise = risen(own.inside, usual.inside, all.inside) / elsewhere.max(1.0);
        let known = last.saturating_sub(profile.since) >= KNOWN;
        (own.inside / all.inside, known.then_some(rise))
    }
}

fn hour_of(minute: u64) -> u32 {
    u32::try_from(minute / 60).unwrap_or(u32::MAX)
}

/// A minute's place in the week.
fn place(minute: u64) -> usize {
    usize::try_from(minute % WEEK as u64).unwrap_or(0)
}

fn narrow(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cost is positive, and more of it than fits is the most there is"
)]
fn micros(cost: f32) -> u64 {
    (f64::from(cost) * 1e6) as u64
}
