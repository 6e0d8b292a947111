//! A service level objective over sliding windows: whether too many of the latest requests were slow or failed.
//!
//! Each slice of five seconds counts its requests, those that failed and those that were slow; the sum over a span is
//! kept up by adding what comes and taking off what has become too old. So a quantile is held to its bound exactly, for
//! "p98 below 250 ms" says that at most one in fifty takes longer, and the sketches of a [`Window`] only tell what the
//! quantile is. Availability goes by burn rates over two windows each, after the SRE Workbook (Beyer et al. 2018, chapter 5):
//! the longer says that it matters, the shorter that it still goes on. What is found lasts until it has been well
//! on the good side for a while, so that nothing flaps around its bound. What it does badly: a span of six hours
//! is 4,320 slices, 100 KiB at worst. Depends on its neighbours and the clock's types.

use std::collections::VecDeque;
use std::time::Duration;

use super::sketch::rank;
use super::window::Window;
use crate::clock::Instant;

#[cfg(test)]
mod tests;

/// The length of a slice, in seconds.
const SLICE: u64 = 5;
/// What is found ends only below this share of its bound,
const CLEAR: f64 = 0.9;
/// and when it has been there for so long, or for as long as the objective's own window.
const HOLD: Duration = Duration::from_mins(1);
/// The windows of the burn rates.
const MINUTES: [u64; 4] = [5, 30, 60, 360];

/// What is promised, and of how many requests at least it is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How fast; none: nothing is promised.
    pub latency: Option<Latency>,
    /// The share of requests that do not fail, above 0 and below 1; none: nothing is promised.
    pub availability: Option<f64>,
    /// Fewer requests in a window say nothing.
    pub min_requests: u64,
}

/// A bound on a quantile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Which, above 0 and below 1.
    pub quantile: f64,
    /// What it is below.
    pub below: Duration,
    /// In which time: at most [`Latency::LONGEST`].
    pub over: Duration,
}

impl Latency {
    /// The longest window.
    pub const LONGEST: Duration = Window::LONGEST;
}

/// Whom an objective is held to apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the configuration's words")]
pub enum Per {
    Route,
    Upstream,
    Endpoint,
    Client,
}

impl Per {
    /// The configuration's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Upstream => "upstream",
            Self::Endpoint => "endpoint",
            Self::Client => "client",
        }
    }
}

/// Ways to miss an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The quantile is not below its bound.
    Latency,
    /// The error budget burns 14.4 times too fast, over an hour and over five minutes.
    FastBurn,
    /// It burns 6 times too fast, over six hours and over half an hour.
    SlowBurn,
}

impl Signal {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Latency, Self::FastBurn, Self::SlowBurn];

    /// The word in answers, events and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::FastBurn => "fast_burn",
            Self::SlowBurn => "slow_burn",
        }
    }
}

/// How an objective stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests in the window of the latency, or in the last five minutes where none is promised.
    pub requests: u64,
    /// The share of requests that were not below the bound.
    pub slow: f64,
    /// How many times too fast the error budget burns, over each of [`Slo::BURN_WINDOWS`].
    pub burn: [f64; 4],
    /// The part of the last six hours' error budget that is left, below 0 when overdrawn; none where no availability
    /// is promised.
    pub budget: Option<f64>,
    /// Which of [`Signal::ALL`] are on.
    pub on: [bool; 3],
}

/// Sums of a slice or a span.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    total: u64,
    failed: u64,
    /// Not below the bound.
    slow: u64,
    /// Not well below it.
    near: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slice {
    number: u64,
    total: u32,
    failed: u32,
    slow: u32,
    near: u32,
}

/// The newest slices, so many of them, summed.
#[derive(Clone, Debug)]
struct Span {
    slices: u64,
    /// The place of its oldest slice among all there ever were.
    first: u64,
    sums: Sums,
}

/// Whether something is found, and since when it seems to be over.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    on: bool,
    clear_since: Option<Instant>,
}

/// One objective of one subject.
#[derive(Clone, Debug)]
pub struct Slo {
    settings: Settings,
    slices: VecDeque<Slice>,
    /// How many slices were let go.
    gone: u64,
    /// The latency's, and those of [`MINUTES`].
    latency: Span,
    burns: [Span; 4],
    states: [State; 3],
    window: Option<Box<Window>>,
}

impl Slo {
    /// The windows of the burn rates, as labels have them.
    pub const BURN_WINDOWS: [&'static str; 4] = ["5m", "30m", "1h", "6h"];

    /// Nothing has been seen yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let over = settings
            .latency
            .map_or(Duration::from_mins(5), |latency| latency.over);
        Self {
            settings,
            slices: VecDeque::new(),
            gone: 0,
            latency: Span::of(over.as_secs()),
            burns: MINUTES.map(|minutes| Span::of(minutes * 60)),
            states: [State::default(); 3],
            window: settings.latency.map(|_| Box::default()),
        }
    }

    /// Takes `signals` for found, as an earlier process did.
    pub fn resume(&mut self, signals: [bool; 3]) {
        for (state, on) in self.states.iter_mut().zip(signals) {
            state.on = on;
        }
    }

    /// A request of this length has ended.
    pub fn record(&mut self, now: Instant, nanos: u64, failed: bool) {
        let number = number(now);
        if self.slices.back().is_none_or(|last| last.number < number) {
            self.slices.push_back(Slice {
                number,
                total: 0,
                failed: 0,
                slow: 0,
                near: 0,
            });
        }
        let Some(slice) = self.slices.back_mut() else {
            return;
        };
        let below = self.settings.latency.map(|latency| latency.below);
        let took = Duration::from_nanos(nanos);
        let slow = below.is_some_and(|below| took >= below);
        let near = below.is_some_and(|below| took >= below.mul_f64(CLEAR));
        let one = Slice {
            number,
            total: 1,
            failed: failed.into(),
            slow: slow.into(),
            near: near.into(),
        };
        slice.total = slice.total.saturating_add(one.total);
        slice.failed = slice.failed.saturating_add(one.failed);
        slice.slow = slice.slow.saturating_add(one.slow);
        slice.near = slice.near.saturating_add(one.near);
        for span in [&mut self.latency].into_iter().chain(&mut self.burns) {
            span.sums.add(&one);
        }
        if let Some(window) = &mut self.window {
            window.record(now, nanos);
        }
    }

    /// How it stands now. To be asked every second.
    pub fn judge(&mut self, now: Instant) -> Report {
        self.forget(number(now));
        let verdicts = [
            self.is_slow(),
            self.burns(2, 0, 14.4),
            self.burns(3, 1, 6.0),
        ];
        let window = self.settings.latency.map_or(HOLD, |latency| latency.over);
        for (state, (over, clear)) in self.states.iter_mut().zip(verdicts) {
            state.turn(over, clear, HOLD.min(window), now);
        }
        let sums = &self.latency.sums;
        Report {
            requests: sums.total,
            slow: share(sums.slow, sums.total),
            burn: [0, 1, 2, 3].map(|index| self.burn(index)),
            budget: self.settings.availability.map(|_| 1.0 - self.burn(3)),
            on: self.states.map(|state| state.on),
        }
    }

    /// What the quantile is; none of no requests, or where no latency is promised. Puts sixty sketches together.
    #[must_use]
    pub fn quantile(&self, now: Instant) -> Option<Duration> {
        let latency = self.settings.latency?;
        let sketch = self.window.as_ref()?.over(latency.over, now);
        sketch.quantile(latency.quantile)
    }

    /// Whether the quantile is not below its bound, and whether it is well below.
    fn is_slow(&self) -> (bool, bool) {
        let Some(latency) = self.settings.latency else {
            return (false, true);
        };
        let sums = &self.latency.sums;
        if sums.total < self.settings.min_requests {
            return (false, true);
        }
        // The quantile is the first of these many, from the shortest up, that is not among the fast.
        let rank = rank(latency.quantile, sums.total).unwrap_or(0);
        (
            sums.total - sums.slow < rank,
            sums.total - sums.near >= rank,
        )
    }

    /// Whether the budget burns `times` too fast over both windows, and whether it does well over one of them.
    fn burns(&self, long: usize, short: usize, times: f64) -> (bool, bool) {
        let enough = self
            .burns
            .get(long)
            .is_some_and(|span| span.sums.total >= self.settings.min_requests);
        if !enough {
            return (false, true);
        }
        let least = self.burn(long).min(self.burn(short));
        (least >= times, least < times * CLEAR)
    }

    fn burn(&self, index: usize) -> f64 {
        let (Some(promised), Some(span)) = (self.settings.availability, self.burns.get(index))
        else {
            return 0.0;
        };
        share(span.sums.failed, span.sums.total) / (1.0 - promised)
    }

    /// Takes off what is too old at the slice `now`.
    fn forget(&mut self, now: u64) {
        for span in [&mut self.latency].into_iter().chain(&mut self.burns) {
            let oldest = now.saturating_sub(span.slices);
            while let Some(slice) = at(&self.slices, span.first - self.gone)
                && slice.number < oldest
            {
                span.sums.take_off(slice);
                span.first += 1;
            }
        }
        let firsts = self.burns.iter().map(|span| span.first);
        let first = firsts.fold(self.latency.first, u64::min);
        while self.gone < first {
            self.slices.pop_front();
            self.gone += 1;
        }
    }
}

impl Span {
    const fn of(seconds: u64) -> Self {
        Self {
            slices: seconds.div_ceil(SLICE),
            first: 0,
            sums: Sums {
                total: 0,
                failed: 0,
                slow: 0,
                near: 0,
            },
        }
    }
}

impl Sums {
    fn add(&mut self, slice: &Slice) {
        self.total += u64::from(slice.total);
        self.failed += u64::from(slice.failed);
        self.slow += u64::from(slice.slow);
        self.near += u64::from(slice.near);
    }

    const fn take_off(&mut self, slice: &Slice) {
        self.total = self.total.saturating_sub(slice.total as u64);
        self.failed = self.failed.saturating_sub(slice.failed as u64);
        self.slow = self.slow.saturating_sub(slice.slow as u64);
        self.near = self.near.saturating_sub(slice.near as u64);
    }
}

impl State {
    fn turn(&mut self, over: bool, clear: bool, hold: Duration, now: Instant) {
        if !self.on {
            *self = Self {
                on: over,
                clear_since: None,
            };
        } else if clear {
            let since = *self.clear_since.get_or_insert(now);
            self.on = now.since(since) < hold;
        } else {
            self.clear_since = None;
        }
    }
}

fn at(slices: &VecDeque<Slice>, place: u64) -> Option<&Slice> {
    slices.get(usize::try_from(place).ok()?)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts are far below 2^53, and a share needs no more digits"
)]
fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        part as f64 / of as f64
    }
}

fn number(now: Instant) -> u64 {
    now.since(Instant::ZERO).as_secs() / SLICE
}
