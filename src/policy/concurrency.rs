//! How much an upstream carries: the knee of its throughput, found by elasticity.
//!
//! Latency alone cannot tell a busy upstream from a varied one; throughput against concurrency can. With
//! x(N) the throughput at N requests in flight, the elasticity `e = d ln x / d ln N` is near one while slots are
//! free, near zero once they are not, and below zero where more work hurts. The limit is steered to where it is
//! [`TARGET`]: just past the knee. For that it is dithered by ±[`DITHER`] from window to window, which refuses
//! nobody, because who does not get in waits; and a line is fitted through the windows near the present one.
//!
//! - *Window*: opens one round trip after a change, closes with enough completions. N is time-weighted; the
//!   work still inside is added to x by the ages of what is in flight, which takes out most of the noise.
//! - *Start*: doubles while the limit is what holds traffic back and throughput follows, then comes down
//!   while throughput stays.
//! - *Plateau*: while the line is surely flat the limit comes down by a tenth a window, not by the slope's
//!   3%, because a limit above the knee is a queue in the upstream, where nobody can be fair. But not below
//!   what throughput and base latency say the upstream needs, or it would idle every other window.
//! - *Fast upstreams*: the limit does not come below `SLACK` of throughput. A queue that short in the upstream
//!   harms nobody, and a tighter limit would measure this proxy's own event loop and take its batches apart.
//! - *Not limited*: nothing is learned about the limit, so it stays; the latency then is the base.
//! - *Change*: throughput far off the line at this N is another upstream: the line is forgotten, the limit
//!   follows the ratio.
//! - *Failures* beyond what is usual for this upstream bring the limit down. What is usual is learned, so
//!   that errors that have nothing to do with load do not bring it to the ground.
//!
//! Windows in which most requests fail or nothing completes teach nothing: a plateau of timeouts is no
//! baseline (concurrency-limits#137). What it does badly: it needs some thirty completions a window, so a
//! slow upstream is learned slowly; and of contention that falls in steps it may settle on the wrong one.
//!
//! Depends on the clock's [`Instant`].

mod fit;
mod sample;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::fit::{Fit, Point};
use self::sample::Sample;
pub use self::sample::Totals;
use super::setting::{self, Invalid};
use crate::clock::Instant;

/// The elasticity steered for. Zero would be the far end of the plateau.
pub const TARGET: f64 = 0.12;

/// How far the limit in force is moved up and down from the limit, as a share of it.
pub const DITHER: f64 = 0.10;

/// The limit is not brought below so many times what the upstream needs at its base latency (Little's law), so
/// that it has enough to do when the limit in force is at its lower.
const KNEE: f64 = 1.05;

/// Seconds of the upstream's throughput that are always let in.
const SLACK: f64 = 0.001;

/// How far at least, in slots, so that rounding leaves a difference.
const MIN_DITHER: f64 = 0.7;

/// Completions a window needs when service times do not vary.
const COMPLETIONS: f64 = 32.0;

/// A window takes at least this long.
const MIN_WINDOW: Duration = Duration::from_millis(100);

/// After this time a window closes with [`FEW`] completions.
const LONG_WINDOW: Duration = Duration::from_secs(2);

/// By this factor the limit grows while it holds bursts back that the upstream would carry.
const ROOM: f64 = 1.05;

/// The steps in which the limit comes down at the start.
const DESCENT: f64 = 0.7;

/// The fewest completions anything is learned from.
const FEW: f64 = 8.0;

/// The limit is looked at no more often than this.
const MIN_CHECK: Duration = Duration::from_millis(5);

/// Failures beyond the usual ratio by this much bring the limit down.
const FAILURES: f64 = 0.1;

/// The values of `[upstreams.NAME.concurrency]`, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    min: u32,
    initial: u32,
    max: u32,
}

impl Default for Config {
    /// Four keep an upstream measurable; 32 is what a small pool of workers carries; 2,000 is beyond what one
    /// upstream of a single proxy usually does.
    fn default() -> Self {
        Self {
            min: 4,
            initial: 32,
            max: 2_000,
        }
    }
}

impl Config {
    /// Checks and keeps the bounds of the limit and where it begins, in requests.
    ///
    /// # Errors
    /// When one is zero. `initial` is moved between the others; `max` below `min` counts as `min`.
    pub fn try_new(min: u32, initial: u32, max: u32) -> Result<Self, Invalid> {
        setting::count("concurrency.min", min)?;
        setting::count("concurrency.initial", initial)?;
        setting::count("concurrency.max", max)?;
        let max = max.max(min);
        Ok(Self {
            min,
            initial: initial.clamp(min, max),
            max,
        })
    }

    /// The lowest limit.
    #[must_use]
    pub const fn min(&self) -> u32 {
        self.min
    }

    /// The limit before anything is known.
    #[must_use]
    pub const fn initial(&self) -> u32 {
        self.initial
    }

    /// The highest limit.
    #[must_use]
    pub const fn max(&self) -> u32 {
        self.max
    }

    /// `limit` within the bounds, but not below `least` where they allow that.
    fn clamp(&self, limit: f64, least: f64) -> f64 {
        let max = f64::from(self.max);
        limit.clamp(f64::from(self.min).max(least).min(max), max)
    }
}

/// How the limit stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The limit, before it is dithered.
    pub limit: f64,
    /// The elasticity at the limit; none before it was measured.
    pub elasticity: Option<f64>,
    /// The latency below saturation; none before it was measured.
    pub base: Option<Duration>,
    /// Completions a second over the last window; none before the first.
    pub throughput: Option<f64>,
    /// Mean upstream time over the last window; none before the first.
    pub latency: Option<Duration>,
    /// The share of the last window in which somebody waited.
    pub limited: f64,
    /// Whether it still doubles to find the order of magnitude.
    pub starting: bool,
}

/// The limit of one upstream. Whoever closes a window runs it; it takes no lock and is not shared.
#[derive(Debug)]
pub struct Adaptive {
    config: Config,
    limit: f64,
    /// Which way the limit is dithered now.
    high: bool,
    window: Window,
    fit: Fit,
    start: Option<Start>,
    /// Seconds.
    base: Option<f64>,
    /// The squared coefficient of variation of the upstream's time, smoothed.
    variation: f64,
    /// The usual ratio of failures.
    failures: f64,
    /// Whether the last window was far below the line, or above it.
    suspected: Option<bool>,
    /// Windows in a row with an elasticity far above the target.
    steep: u32,
    elasticity: Option<f64>,
    last: Option<Sample>,
    next_check: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Window {
    /// The last change works its way through until then.
    Settling(Instant),
    Open {
        since: Instant,
        totals: Totals,
    },
}

/// The search for the order of magnitude: up by doubling, and where throughput does not follow down again until
/// it does.
#[derive(Clone, Copy, Debug, Default)]
struct Start {
    /// Whether a window went by since the limit began to hold traffic back: until then requests only fill up
    /// the upstream, which looks like throughput.
    primed: bool,
    direction: Direction,
    last: Option<Point>,
    /// How often the present step was repeated because it was unsure.
    unsure: u32,
}

/// Where the search goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Direction {
    /// One step down, to see whether throughput follows: a limit that is too high costs more than one that
    /// is too low for a moment.
    #[default]
    Probe,
    Up,
    Down,
}

impl Adaptive {
    /// A limit of which nothing was learned.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            limit: f64::from(config.initial),
            high: true,
            window: Window::Settling(now),
            fit: Fit::default(),
            start: Some(Start::default()),
            base: None,
            variation: 0.0,
            failures: 0.0,
            suspected: None,
            steep: 0,
            elasticity: None,
            last: None,
            next_check: now,
        }
    }

    /// Takes over another configuration. What was learned stays, within the new bounds.
    pub fn update(&mut self, config: Config) {
        self.config = config;
        self.limit = self.clamp(self.limit);
    }

    /// The limit in force now, in requests.
    #[must_use]
    pub fn effective(&self) -> u32 {
        let dither = (self.limit * DITHER).max(MIN_DITHER);
        let low = (self.limit - dither).ceil();
        let limit = match (self.start, self.high) {
            (Some(_), _) => self.limit.round(),
            // Rounding must not make them one: without a difference nothing is learned.
            (None, true) => (self.limit + dither).round().max(low + 1.0),
            (None, false) => low,
        };
        whole(limit).max(1)
    }

    /// When [`Adaptive::observe`] has something to do at the earliest.
    #[must_use]
    pub const fn next_check(&self) -> Instant {
        self.next_check
    }

    /// How it stands.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            limit: self.limit,
            elasticity: self.elasticity,
            base: self.base.map(seconds),
            throughput: self.last.map(|last| last.throughput),
            latency: self.last.map(|last| seconds(last.latency)),
            limited: self.last.map_or(0.0, |last| last.limited),
            starting: self.start.is_some(),
        }
    }

    /// Looks at what was counted, and returns the limit in force from now on. `frozen`: what was counted since
    /// the last time teaches nothing, for another policy holds traffic back.
    pub fn observe(&mut self, now: Instant, totals: &Totals, frozen: bool) -> u32 {
        match self.window {
            _ if frozen => {
                // Who comes back is not who went: the curve of before says nothing, nor does the limit.
                self.forget();
                self.start = Some(Start::default());
                self.window = Window::Settling(now.after(MIN_WINDOW));
                self.next_check = now.after(MIN_WINDOW);
            }
            Window::Settling(until) if now < until => self.next_check = until,
            Window::Settling(_) => {
                self.window = Window::Open {
                    since: now,
                    totals: *totals,
                };
                self.next_check = now.after(MIN_WINDOW);
            }
            Window::Open {
                since,
                totals: begun,
            } => {
                let sample = Sample::between(&begun, totals, since, now, self.variation);
                match self.wanting(&sample) {
                    Some(wait) => self.next_check = now.after(wait),
                    None => self.close(now, &sample),
                }
            }
        }
        self.effective()
    }

    /// How long until the window may have what it needs; none when it has.
    fn wanting(&self, sample: &Sample) -> Option<Duration> {
        let varied = (1.0 + self.variation).min(6.0);
        let ended = sample.completed + sample.failed;
        let shortest = sample
            .latency
            .mul_add(varied, 0.0)
            .max(MIN_WINDOW.as_secs_f64());
        let needed = COMPLETIONS * varied;
        let long = sample.time >= LONG_WINDOW.as_secs_f64() && ended >= FEW;
        if long || (sample.time >= shortest && ended >= needed) {
            return None;
        }
        let rest = (shortest - sample.time).max(sample.time * (needed - ended) / ended.max(1.0));
        Some(seconds(rest).clamp(MIN_CHECK, MIN_WINDOW))
    }

    /// Learns from a whole window, and begins the next.
    fn close(&mut self, now: Instant, sample: &Sample) {
        self.high = !self.high;
        if sample.completed >= FEW {
            self.variation += 0.3 * (sample.variation - self.variation);
        }
        let failing = sample.failure_ratio() - self.failures;
        self.failures += 0.3 * failing;
        if failing > FAILURES {
            self.forget();
            self.scale((1.0 - failing).max(0.7));
        } else if sample.completed >= FEW && sample.failure_ratio() < 0.5 {
            self.last = Some(*sample);
            self.learn(sample);
        }
        let settled = now.after(seconds(sample.latency).min(LONG_WINDOW));
        self.window = Window::Settling(settled);
        self.next_check = settled;
    }

    fn learn(&mut self, sample: &Sample) {
        let changed = self.start.is_none() && self.follow_change(sample);
        if sample.limited >= 0.8 {
            match self.start {
                Some(start) => self.find_magnitude(start, sample),
                None if changed => {}
                None => self.step(sample),
            }
        } else {
            self.rest(sample);
        }
        if let Some(base) = self.base.filter(|_| sample.limited >= 0.8) {
            self.limit = self.limit.min(3.0 * sample.throughput * base);
        }
        self.limit = self.clamp(self.limit);
    }

    /// Doubles while throughput follows; comes down while throughput stays.
    fn find_magnitude(&mut self, start: Start, sample: &Sample) {
        if !start.primed {
            self.start = Some(Start {
                primed: true,
                ..start
            });
            return;
        }
        let point = sample.point();
        self.fit.age();
        self.fit.add(point);
        let Some(last) = start.last else {
            self.learn_base(Self::rise(0.0), sample.latency);
            let lower = self.limit * DESCENT;
            return if lower > self.clamp(0.0) {
                self.search(Direction::Probe, point, lower);
            } else {
                self.search(Direction::Up, point, self.limit * 2.0);
            };
        };
        let (elasticity, error) = last.elasticity_to(&point, sample.noise());
        self.elasticity = Some(elasticity);
        self.learn_base(Self::rise(elasticity), sample.latency);
        if (elasticity - 0.5).abs() < error && start.unsure < 2 {
            self.start = Some(Start {
                unsure: start.unsure + 1,
                ..start
            });
            return;
        }
        match (start.direction, elasticity >= 0.5) {
            (Direction::Probe, true) => self.search(Direction::Up, last, last.concurrency() * 2.0),
            (Direction::Up, true) if self.limit < f64::from(self.config.max) => {
                self.search(Direction::Up, point, self.limit * 2.0);
            }
            (Direction::Up, false) => {
                self.search(Direction::Down, last, last.concurrency() * DESCENT);
            }
            (Direction::Probe | Direction::Down, false) if self.limit > self.clamp(0.0) => {
                self.search(Direction::Down, point, self.limit * DESCENT);
            }
            // Back to the last limit at which more did not help, or on at the bound.
            (Direction::Down, true) => {
                self.start = None;
                self.limit = last.concurrency();
            }
            _ => self.start = None,
        }
    }

    fn search(&mut self, direction: Direction, last: Point, limit: f64) {
        self.limit = limit;
        self.start = Some(Start {
            primed: true,
            direction,
            last: Some(last),
            unsure: 0,
        });
    }

    /// Whether the upstream is another than it was; follows it if so.
    fn follow_change(&mut self, sample: &Sample) -> bool {
        let point = sample.point();
        let Some((expected, deviation)) = self.fit.predict(&point) else {
            return false;
        };
        let suspected = std::mem::take(&mut self.suspected);
        let off = point.throughput() - expected;
        let sure = off.abs() > 3.5 * deviation.max(sample.noise());
        let ratio = off.exp();
        if !sure || (0.75..=1.33).contains(&ratio) || (ratio > 1.0 && sample.limited < 0.8) {
            return false;
        }
        // Less throughput because there was less to do is no change.
        if ratio < 1.0 && sample.limited < 0.5 {
            return false;
        }
        // One window may be chance.
        if suspected != Some(ratio < 1.0) {
            self.suspected = Some(ratio < 1.0);
            return true;
        }
        self.forget();
        self.scale(ratio.clamp(0.5, 1.25));
        true
    }

    /// Steers towards the target.
    fn step(&mut self, sample: &Sample) {
        self.fit.age();
        self.fit.add(sample.point());
        let Some(line) = self.fit.line(&sample.point()) else {
            return;
        };
        let trust = 1.0 / (1.0 + (line.error / 0.4).powi(2));
        let elasticity = TARGET + (line.slope - TARGET) * trust;
        self.elasticity = Some(elasticity);
        self.learn_base(Self::rise(elasticity), sample.latency);
        self.steep = if elasticity > TARGET + 0.35 {
            self.steep + 1
        } else {
            0
        };
        let gain = 0.25 * f64::from(1 + self.steep.saturating_sub(1).min(3));
        let mut step = (gain * (elasticity - TARGET)).clamp(-0.2, 0.5);
        if line.slope + 1.5 * line.error < 0.3 {
            step = step.min(-0.1);
        }
        if elasticity < 0.4
            && let Some(base) = self.base
        {
            let allowed = base * (1.1 + sample.noise());
            if sample.latency > allowed {
                step -= (0.5 * (1.0 - allowed / sample.latency)).min(0.25);
            }
        }
        let calm = self.base.filter(|base| sample.latency < 1.25 * base);
        let least = calm.map_or(0.0, |base| KNEE * sample.throughput * base);
        let step = step.max((least / self.limit - 1.0).min(0.0));
        self.scale(1.0 + step.max(-0.25));
    }

    /// Learns the base while the limit holds nobody back, and makes room for bursts if the upstream carries
    /// them; if they only wait there instead of here, takes it back.
    fn rest(&mut self, sample: &Sample) {
        self.steep = 0;
        if sample.limited < 0.02 {
            self.learn_base(0.02, sample.latency);
        } else {
            let base = self.base.unwrap_or(sample.latency);
            let noise = 2.0 * (sample.variation / sample.completed).sqrt();
            if sample.latency < base * (1.1 + noise) {
                self.scale(ROOM);
            } else if sample.latency > base * (1.2 + noise) {
                self.scale(1.0 / ROOM);
            }
        }
        if self.start.is_some() {
            self.start = Some(Start::default());
        }
    }

    /// Downwards quickly, for a latency seen is a latency possible; upwards by this share, which is small where
    /// the latency may be a queue's.
    fn learn_base(&mut self, upwards: f64, latency: f64) {
        let Some(base) = &mut self.base else {
            self.base = Some(latency);
            return;
        };
        let share = if latency < *base { 0.1 } else { upwards };
        *base += share * (latency - *base);
    }

    /// How fast the base may rise at this elasticity.
    fn rise(elasticity: f64) -> f64 {
        if elasticity > 0.5 { 0.1 } else { 0.005 }
    }

    fn forget(&mut self) {
        self.fit = Fit::default();
        self.start = None;
        self.steep = 0;
    }

    fn scale(&mut self, factor: f64) {
        self.limit = self.clamp(self.limit * factor);
    }

    fn clamp(&self, limit: f64) -> f64 {
        let throughput = self.last.map_or(0.0, |last| last.throughput);
        self.config.clamp(limit, SLACK * throughput)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

/// A number of requests, saturating.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, which is what is wanted here"
)]
const fn whole(value: f64) -> u32 {
    value as u32
}
