//! Quantiles over the last ten seconds, five minutes or hour, of one stream of durations.
//!
//! Sketches of slices of time: sixty-one of five seconds, and sixty-one of a minute that are put together from
//! them, so that recording is one addition. A slice that has ended keeps only the cells that hold something. A
//! span is covered to within one slice: up to five minutes by slices of five seconds, the newest unfinished one
//! included, and up to an hour by whole minutes. Nothing rotates by itself; every slice carries its number, and
//! whoever reads leaves out what is too old. Depends on the clock's types.

use std::collections::VecDeque;
use std::time::Duration;

use super::sketch::FineSketch;
use crate::clock::Instant;

/// The length of a slice, in seconds.
const SLICE: u64 = 5;
/// Slices in a minute.
const PER_MINUTE: u64 = 60 / SLICE;
/// Slices, and minutes, that are kept besides the one under way.
const KEPT: u64 = 60;

/// What happened in the last hour, as a distribution.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// The slice under way and its number.
    open: (u64, FineSketch),
    slices: VecDeque<Slice>,
    /// The minute under way, without the slice under way, and its number.
    minute: (u64, FineSketch),
    minutes: VecDeque<Slice>,
}

/// What is left of a slice that has ended.
#[derive(Clone, Debug)]
struct Slice {
    number: u64,
    cells: Box<[(u16, u32)]>,
}

impl Window {
    /// The longest span that can be asked for.
    pub const LONGEST: Duration = Duration::from_hours(1);

    /// Counts one duration of `nanos` nanoseconds that ended about `now`.
    pub fn record(&mut self, now: Instant, nanos: u64) {
        let number = slice_number(now);
        if number > self.open.0 {
            self.turn(number);
        }
        self.open.1.record(nanos);
    }

    /// Everything counted within `span` before `now`, to within a slice.
    #[must_use]
    pub fn over(&self, span: Duration, now: Instant) -> FineSketch {
        let mut sum = FineSketch::default();
        let last = slice_number(now);
        let fine = span.as_secs().div_ceil(SLICE);
        let (slices, minutes) = if fine <= KEPT {
            let first = last.saturating_sub(fine);
            (first..=last, None)
        } else {
            let minute = last / PER_MINUTE;
            let whole = span.as_secs().div_ceil(60).min(KEPT);
            let first = minute.saturating_sub(whole);
            // What is in a minute already is not counted again as a slice.
            let slices = self.open.0.max(first * PER_MINUTE)..=last;
            (slices, Some(first..=minute))
        };
        if let Some(minutes) = minutes {
            if minutes.contains(&self.minute.0) {
                sum.merge(&self.minute.1);
            }
            let kept = self.minutes.iter();
            kept.filter(|slice| minutes.contains(&slice.number))
                .for_each(|slice| slice.add_to(&mut sum));
        }
        if slices.contains(&self.open.0) {
            sum.merge(&self.open.1);
        }
        let kept = self.slices.iter();
        kept.filter(|slice| slices.contains(&slice.number))
            .for_each(|slice| slice.add_to(&mut sum));
        sum
    }

    /// Ends the slice under way, and its minute if that is over too; `number` begins.
    #[cold]
    fn turn(&mut self, number: u64) {
        let (ended, open) = (self.open.0, &mut self.open.1);
        let slice = Slice::of(ended, open);
        let minute = ended / PER_MINUTE;
        self.begin_minute(minute);
        slice.add_to(&mut self.minute.1);
        keep(&mut self.slices, slice, number);
        self.begin_minute(number / PER_MINUTE);
        self.open.0 = number;
        self.open.1.clear();
    }

    fn begin_minute(&mut self, number: u64) {
        let (ended, cells) = &mut self.minute;
        if number > *ended {
            keep(&mut self.minutes, Slice::of(*ended, cells), number);
            *ended = number;
            cells.clear();
        }
    }
}

impl Slice {
    fn of(number: u64, sketch: &FineSketch) -> Self {
        let cells = sketch.filled().collect();
        Self { number, cells }
    }

    fn add_to(&self, sum: &mut FineSketch) {
        for &(cell, count) in &self.cells {
            sum.add(cell, count);
        }
    }
}

/// Keeps `slice` unless it is empty, and lets go of what is too old when `now` begins.
fn keep(kept: &mut VecDeque<Slice>, slice: Slice, now: u64) {
    if !slice.cells.is_empty() {
        kept.push_back(slice);
    }
    while kept.front().is_some_and(|old| old.number + KEPT < now) {
        kept.pop_front();
    }
}

fn slice_number(now: Instant) -> u64 {
    now.since(Instant::ZERO).as_secs() / SLICE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_too_old_is_left_out_and_memory_stays_bounded() {
        let mut window = Window::default();
        for second in 0..20_000 {
            window.record(at(second), 1_000_000 * (1 + second % 100));
        }
        let count = |span| window.over(Duration::from_secs(span), at(19_999)).count();
        assert_eq!(count(10), 15);
        assert_eq!(count(60), 65);
        assert_eq!(count(300), 305);
        // 19999 s is in the twentieth second of its minute.
        assert_eq!(count(3_600), 3_600 + 20);
        assert_eq!(count(9_999), count(3_600));
        assert!(window.slices.len() <= 61 && window.minutes.len() <= 61);
        let later = |span, now| window.over(Duration::from_secs(span), at(now)).count();
        assert_eq!(later(10, 20_020), 0);
        assert!(later(3_600, 20_100) > 3_000);
        assert_eq!(later(3_600, 30_000), 0);
    }

    #[test]
    fn what_comes_late_counts_as_of_now() {
        let mut window = Window::default();
        window.record(at(100), 5);
        window.record(at(90), 5);
        assert_eq!(window.over(Duration::from_secs(5), at(100)).count(), 2);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_hundredth_of_the_exact_ones(
            steps in proptest::collection::vec((0_u64..40, 2_000_u64..100_000_000_000), 1..400),
            span in prop::sample::select(vec![10_u64, 60, 300, 3_600]),
            q in 0.0_f64..=1.0,
        ) {
            let mut window = Window::default();
            let mut all = Vec::new();
            let mut now = 0;
            for (step, nanos) in steps {
                now += step;
                window.record(at(now), nanos);
                all.push((now, nanos));
            }
            // To within a slice: whole slices of five seconds, or whole minutes.
            let unit = if span > 300 { 60 } else { SLICE };
            let first = (now / unit).saturating_sub(span / unit) * unit;
            let mut exact: Vec<u64> =
                all.iter().filter(|(when, _)| *when >= first).map(|(_, nanos)| *nanos).collect();
            exact.sort_unstable();
            let sketch = window.over(Duration::from_secs(span), at(now));
            prop_assert_eq!(sketch.count(), exact.len() as u64);
            let rank = super::super::sketch::rank(q, exact.len() as u64).unwrap();
            let exact = exact[usize::try_from(rank).unwrap() - 1] as f64;
            let estimate = sketch.quantile(q).unwrap().as_secs_f64() * 1e9;
            prop_assert!((estimate / exact - 1.0).abs() <= 0.01, "{estimate} for {exact}");
        }
    }
}
