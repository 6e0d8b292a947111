//! The last ten minutes of each upstream, second by second: what the dashboard draws before it has seen anything itself.
//!
//! Fed by the observer like everything that counts exchanges, and sampled as it samples, ten times a second. The quantiles
//! of a second are those of the ten seconds it ends, so that a quiet upstream draws a line and not a comb; refused requests
//! are counted and have no part in any latency. Bounded: 600 points of 150 bytes for each of 256 upstreams. Depends on
//! measure, the engine's live values and the observer's tap.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::collector::Tap;
use super::exchange::Exchange;
use super::series::Keyed;
use crate::clock::{Instant, SystemClock};
use crate::engine::circuit::Mode;
use crate::engine::upstream::Upstreams;
use crate::measure::sketch::FineSketch;
use crate::model::{Outcome, Phase, Reason};

/// Seconds kept.
pub const SECONDS: usize = 600;
/// Upstreams that are followed.
const MAX_UPSTREAMS: usize = 256;
/// Seconds that quantiles are told over.
const SPAN: usize = 10;
const SECOND: Duration = Duration::from_secs(1);

/// Bands of the heat map: two to a power of two, the first for everything below 2^20 ns, about a millisecond.
pub const BANDS: usize = 32;
const FIRST: u32 = 20;
/// The quantiles of a point.
pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.98];

/// One second of one upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// When it ended, in seconds since the Unix epoch.
    pub at: u64,
    /// Requests that may hold a slot at once; 0: there is no limit.
    pub limit: u32,
    /// Requests that held one, on average.
    pub in_flight: f32,
    /// Requests that waited for one, on average.
    pub waiting: f32,
    /// Requests that ended.
    pub requests: u32,
    /// Those among them that Tidegate refused.
    pub refused: u32,
    /// Those among them that the upstream failed.
    pub failed: u32,
    /// The [`QUANTILES`] of the time of what was not refused, over the ten seconds up to here; none of nothing.
    pub quantiles: [Option<Duration>; QUANTILES.len()],
    /// Seconds spent by what was not refused, by phase.
    pub phases: [f32; Phase::ALL.len()],
    /// What was not refused, by how long it took.
    pub heat: [u16; BANDS],
}

impl Point {
    /// Requests that were not refused.
    #[must_use]
    pub const fn served(&self) -> u32 {
        self.requests.saturating_sub(self.refused)
    }
}

/// Where each band of the heat map begins; the first at zero.
pub fn bands() -> impl Iterator<Item = Duration> {
    let edge = |band: usize| {
        let (octave, half) = (FIRST as usize + (band - 1) / 2, (band - 1) % 2);
        let begin = 1_u64 << octave;
        Duration::from_nanos(begin + if half == 1 { begin / 2 } else { 0 })
    };
    std::iter::once(Duration::ZERO).chain((1..BANDS).map(edge))
}

fn band(nanos: u64) -> usize {
    let bits = u64::BITS - nanos.leading_zeros();
    let Some(octave) = bits.checked_sub(FIRST + 1) else {
        return 0;
    };
    let half = usize::from(nanos >> (bits - 2) & 1 == 1);
    (1 + 2 * octave as usize + half).min(BANDS - 1)
}

/// The points of all upstreams, by name; to be shared with whoever shows them.
#[derive(Debug, Default)]
pub struct Timelines {
    upstreams: Mutex<HashMap<Arc<str>, VecDeque<Point>>>,
}

impl Timelines {
    fn upstreams(&self) -> MutexGuard<'_, HashMap<Arc<str>, VecDeque<Point>>> {
        self.upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The last `count` points of `upstream`, the oldest first.
    #[must_use]
    pub fn last(&self, upstream: &str, count: usize) -> Vec<Point> {
        let upstreams = self.upstreams();
        let points = upstreams.get(upstream);
        points.map_or_else(Vec::new, |points| {
            let skipped = points.len().saturating_sub(count);
            points.iter().skip(skipped).cloned().collect()
        })
    }
}

/// Draws the timelines.
#[derive(Debug)]
pub struct Drawer {
    upstreams: Arc<Upstreams>,
    timelines: Arc<Timelines>,
    drawn: HashMap<usize, Drawn, Keyed>,
    next: Instant,
}

/// The second under way of one upstream.
#[derive(Debug, Default)]
struct Drawn {
    point: Point,
    samples: u16,
    latencies: FineSketch,
    /// Of the seconds before.
    recent: VecDeque<Box<[(u16, u32)]>>,
}

impl Drawer {
    /// Draws `upstreams` into `timelines`.
    #[must_use]
    pub fn new(upstreams: Arc<Upstreams>, timelines: Arc<Timelines>, now: Instant) -> Self {
        Self {
            upstreams,
            timelines,
            drawn: HashMap::default(),
            next: now.after(SECOND),
        }
    }

    /// The second under way of the upstream with this index; none beyond the bound.
    fn drawn(&mut self, index: usize) -> Option<&mut Drawn> {
        if self.drawn.len() >= MAX_UPSTREAMS && !self.drawn.contains_key(&index) {
            return None;
        }
        Some(self.drawn.entry(index).or_default())
    }

    fn sample(&mut self) {
        for upstream in self.upstreams.all() {
            let protection = upstream.protection();
            let gate = protection.gate();
            let Some(drawn) = self.drawn(upstream.id().index()) else {
                continue;
            };
            if protection.limit_mode() == Mode::Off {
                drawn.sample(0, upstream.in_flight(), 0);
            } else {
                drawn.sample(gate.limit(), gate.in_flight(), gate.waiting());
            }
        }
    }

    fn second(&mut self, at: u64) {
        let all = self.upstreams.all();
        self.drawn
            .retain(|index, _| all.iter().any(|one| one.id().index() == *index));
        let mut timelines = self.timelines.upstreams();
        timelines.retain(|name, _| all.iter().any(|one| one.name() == name));
        for upstream in all {
            let Some(drawn) = self.drawn.get_mut(&upstream.id().index()) else {
                continue;
            };
            let points = timelines.entry(Arc::clone(upstream.name())).or_default();
            if points.len() == SECONDS {
                points.pop_front();
            }
            points.push_back(drawn.end(at));
        }
    }
}

impl Tap for Drawer {
    fn batch(&mut self, exchanges: &mut dyn Iterator<Item = (&Exchange, &str)>, _now: Instant) {
        for (exchange, _client) in exchanges {
            let upstream = exchange.upstream.map(crate::model::UpstreamId::index);
            if let Some(drawn) = upstream.and_then(|index| self.drawn(index)) {
                drawn.take(exchange);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.sample();
        if now >= self.next {
            // A tick comes a little late: the next second is not longer for it.
            self.next = self.next.after(SECOND).max(now);
            self.second(SystemClock.unix_micros() / 1_000_000);
        }
    }
}

impl Drawn {
    fn sample(&mut self, limit: u32, in_flight: u32, waiting: u32) {
        self.samples += 1;
        self.point.limit = limit;
        self.point.in_flight += in_flight as f32;
        self.point.waiting += waiting as f32;
    }

    fn take(&mut self, exchange: &Exchange) {
        let point = &mut self.point;
        point.requests += 1;
        let by_upstream = matches!(
            exchange.reason,
            Some(Reason::ConnectFailed | Reason::UpstreamReset | Reason::UpstreamTimeout)
        );
        if exchange.outcome == Outcome::Refused && !by_upstream {
            point.refused += 1;
            return;
        }
        let failed = exchange.status >= 500 || exchange.outcome == Outcome::UpstreamBroke;
        point.failed += u32::from(failed);
        let mut total = Duration::ZERO;
        for (sum, phase) in point.phases.iter_mut().zip(Phase::ALL) {
            let time = exchange.phases.get(phase);
            *sum += time.as_secs_f32();
            total = total.saturating_add(time);
        }
        let nanos = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.record(nanos);
        if let Some(count) = point.heat.get_mut(band(nanos)) {
            *count = count.saturating_add(1);
        }
    }

    /// Ends the second; the next begins.
    fn end(&mut self, at: u64) -> Point {
        let mut point = std::mem::take(&mut self.point);
        let samples = f32::from(std::mem::take(&mut self.samples).max(1));
        point.at = at;
        point.in_flight /= samples;
        point.waiting /= samples;
        self.recent.push_back(self.latencies.filled().collect());
        if self.recent.len() > SPAN {
            self.recent.pop_front();
        }
        let mut recent = std::mem::take(&mut self.latencies);
        for second in self.recent.iter().rev().skip(1) {
            for &(cell, count) in second {
                recent.add(cell, count);
            }
        }
        point.quantiles = QUANTILES.map(|q| recent.quantile(q));
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tables::tests::{answered, refused};

    #[test]
    fn a_second_counts_what_ended_in_it_and_its_quantiles_span_ten() {
        let mut drawn = Drawn::default();
        drawn.sample(20, 4, 0);
        drawn.sample(30, 8, 3);
        drawn.take(&answered());
        drawn.take(&refused());
        let point = drawn.end(7);
        assert_eq!((point.at, point.limit, point.requests), (7, 30, 2));
        assert_eq!((point.refused, point.served()), (1, 1));
        assert!((point.in_flight - 6.0).abs() < 1e-6 && (point.waiting - 1.5).abs() < 1e-6);
        assert!((point.phases.iter().sum::<f32>() - 0.021).abs() < 1e-6);
        let median = point.quantiles[0].unwrap().as_secs_f64();
        assert!((median / 0.021 - 1.0).abs() < 0.01);
        assert_eq!(point.heat.iter().sum::<u16>(), 1);
        for second in 8..17 {
            assert!(drawn.end(second).quantiles[0].is_some());
        }
        let later = drawn.end(17);
        assert_eq!((later.requests, later.quantiles), (0, [None; 3]));
    }

    #[test]
    fn a_failure_of_the_upstream_is_no_refusal() {
        let mut drawn = Drawn::default();
        drawn.take(&Exchange {
            status: 502,
            reason: Some(Reason::ConnectFailed),
            ..refused()
        });
        let point = drawn.end(1);
        assert_eq!((point.refused, point.failed), (0, 1));
    }

    #[test]
    fn every_duration_lies_in_the_band_that_begins_before_it() {
        let edges: Vec<Duration> = bands().collect();
        assert_eq!(edges.len(), BANDS);
        assert!(edges.is_sorted());
        for nanos in (0..50).map(|bit| 3_u64.pow(2) << bit) {
            let at = Duration::from_nanos(nanos);
            let last = edges.iter().rposition(|edge| *edge <= at).unwrap();
            assert_eq!(band(nanos), last, "{at:?}");
        }
        assert_eq!(band(u64::MAX), BANDS - 1);
    }
}
