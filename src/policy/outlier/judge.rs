//! One endpoint against the others.
//!
//! Every comparison leaves the judged endpoint out. With it in, its own failures widen the spread it is
//! measured by: the farthest of n values is never more than √(n − 1) standard deviations off, so among four
//! endpoints or fewer nothing would ever exceed 1.9 σ.
//!
//! How many calls make evidence is not a fixed number. The balancer avoids an endpoint that fails or is
//! slow, so calls are scarce exactly where they matter: two failures in four calls say much when the others
//! failed none of thousands, and nothing when they fail one in three. The Chernoff bound on the binomial
//! tail asks for just that: n · KL(k/n ‖ p) is at least the logarithm of the odds against seeing k of n by
//! chance when the others' share is p.

use std::time::Duration;

use super::Why;
use super::latency::Sample;

/// Standard deviations by which a failure ratio must stand out. Envoy's.
const SIGMAS: f64 = 1.9;

/// And by how much at least: a pool that never fails has no spread, and one lost request is no reason.
const FAILURE_FLOOR: f64 = 0.1;

/// Calls from which on the ratio of another endpoint can be compared with.
const MIN_CALLS: u32 = 5;

/// Samples from which on the latencies of another endpoint can be compared with.
pub(super) const MIN_SAMPLES: u32 = 3;

/// Samples after which a doubt is settled in favour of the endpoint.
const ENOUGH: u32 = 50;

/// The share of an endpoint's samples above the bound from which its p90 is above it.
const TAIL: f64 = 0.1;

/// Odds against chance, as a logarithm: one in 22,000, or a few wrong suspicions a day for an endpoint that
/// is judged each second.
const EVIDENCE: f64 = 10.0;

/// Odds from which on it is worth asking the endpoint more: one in twenty.
const DOUBT: f64 = 3.0;

/// A p90 this close to the others' does no harm, whatever the factor.
const SLOW_FLOOR: Duration = Duration::from_millis(5);

/// Calls and how many of them failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) failures: u32,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
    }

    fn ratio(self) -> f64 {
        f64::from(self.failures) / f64::from(self.calls.max(1))
    }
}

/// What an endpoint's calls say about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finding {
    /// Nothing.
    Clear,
    /// Too little to act on and too much to overlook.
    Doubt,
    /// It fails.
    Failing(Why),
}

/// What an endpoint's latencies say about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// No slower than the others.
    Usual {
        /// But for a few answers that are worth a closer look.
        in_doubt: bool,
    },
    /// Slower than they may be.
    Slow(Why),
    /// Too few samples to tell.
    Unsure {
        /// None of them was fast.
        all_slow: bool,
    },
}

/// What the pool as a whole does, the judged endpoint included.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// The endpoints with enough calls.
    counts: Vec<(usize, Counts)>,
    /// The p90 of each endpoint with a window, sorted.
    p90s: Vec<Duration>,
    /// All windows together.
    latencies: Sample,
}

impl Peers {
    /// Takes in one endpoint: its last seconds and its last latency window.
    pub(super) fn add(&mut self, index: usize, recent: &[Counts], window: &Sample) {
        let mut counts = Counts::default();
        recent.iter().for_each(|&second| counts.add(second));
        if counts.calls >= MIN_CALLS {
            self.counts.push((index, counts));
        }
        if window.count() >= MIN_SAMPLES {
            let p90 = window.p90();
            let at = self.p90s.partition_point(|&other| other < p90);
            self.p90s.insert(at, p90);
            self.latencies.add(window);
        }
    }

    /// Whether the endpoint with this index fails more than the others, over some of its `recent` seconds,
    /// newest first.
    pub(super) fn failing(&self, index: usize, recent: &[Counts]) -> Finding {
        if recent.iter().all(|second| second.failures == 0) {
            return Finding::Clear;
        }
        let (mut count, mut sum, mut squares, mut all) = (0.0, 0.0, 0.0, Counts::default());
        for &(_, other) in self.counts.iter().filter(|&&(other, _)| other != index) {
            count += 1.0;
            sum += other.ratio();
            squares += other.ratio().powi(2);
            all.add(other);
        }
        if count < 2.0 {
            return Finding::Clear;
        }
        let mean = sum / count;
        let spread = (squares / count - mean.powi(2)).max(0.0).sqrt();
        let threshold = mean + (SIGMAS * spread).max(FAILURE_FLOOR);
        let usual = usual(all.failures, all.calls);
        let (mut own, mut finding) = (Counts::default(), Finding::Clear);
        for &second in recent {
            own.add(second);
            let (ratio, calls) = (own.ratio(), own.calls);
            let evidence = evidence(own.failures, calls, usual);
            if ratio > threshold && evidence > EVIDENCE {
                return Finding::Failing(Why::Failures {
                    ratio,
                    threshold,
                    calls,
                });
            }
            if evidence > DOUBT {
                finding = Finding::Doubt;
            }
        }
        finding
    }

    /// Whether `sample` is `factor` times slower than the median of the others; `own` is what was taken in of
    /// the same endpoint, if it was enough.
    pub(super) fn pace(&self, own: &Sample, sample: &Sample, factor: f64) -> Pace {
        let own = Some(own).filter(|own| own.count() >= MIN_SAMPLES);
        let count = sample.count();
        let Some(median) = self.median_without(own) else {
            return Pace::Usual { in_doubt: false };
        };
        let times = Duration::try_from_secs_f64(median.as_secs_f64() * factor);
        let threshold = times.unwrap_or(Duration::MAX).max(median + SLOW_FLOOR);
        let above = sample.above(threshold);
        let others = self.latencies.count() - own.map_or(0, Sample::count);
        let others_above =
            self.latencies.above(threshold) - own.map_or(0, |own| own.above(threshold));
        let evidence = evidence(above, count, usual(others_above, others));
        let is_tail = f64::from(above) > TAIL * f64::from(count);
        if is_tail && evidence > EVIDENCE {
            Pace::Slow(Why::Slow {
                p90: sample.p90(),
                threshold,
            })
        } else if count == 0 || (is_tail && count < ENOUGH) {
            Pace::Unsure {
                all_slow: above == count,
            }
        } else {
            Pace::Usual {
                in_doubt: evidence > DOUBT,
            }
        }
    }

    /// The median p90 of the others; none when there are fewer than two.
    fn median_without(&self, own: Option<&Sample>) -> Option<Duration> {
        let left_out = own.map(|own| {
            let p90 = own.p90();
            self.p90s.partition_point(|&other| other < p90)
        });
        let others = self.p90s.len() - usize::from(left_out.is_some());
        let middle = others.checked_sub(1).filter(|_| others >= 2)? / 2;
        let behind = left_out.is_some_and(|left_out| middle >= left_out);
        self.p90s.get(middle + usize::from(behind)).copied()
    }
}

/// The others' share, with half a case added so that what never happened is not impossible.
fn usual(cases: u32, of: u32) -> f64 {
    (f64::from(cases) + 0.5) / (f64::from(of) + 1.0)
}

/// The logarithm of the odds against at least `cases` in `of` by chance, each having probability `usual`.
fn evidence(cases: u32, of: u32, usual: f64) -> f64 {
    let share = f64::from(cases) / f64::from(of.max(1));
    if share <= usual {
        return 0.0;
    }
    let yes = share * (share / usual).ln();
    let no = if cases < of {
        (1.0 - share) * ((1.0 - share) / (1.0 - usual)).ln()
    } else {
        0.0
    };
    f64::from(of) * (yes + no)
}

#[cfg(test)]
mod tests {
    use super::super::latency::Latencies;
    use super::*;

    fn counts(calls: u32, failures: u32) -> Counts {
        Counts { calls, failures }
    }

    fn pool(all: &[Counts]) -> Peers {
        let mut peers = Peers::default();
        for (index, &counts) in all.iter().enumerate() {
            peers.add(index, &[counts], &Sample::default());
        }
        peers
    }

    /// Whether the last of these fails more than those before.
    fn is_last_failing(all: &[Counts]) -> bool {
        let last = all.len() - 1;
        matches!(pool(all).failing(last, &all[last..]), Finding::Failing(_))
    }

    fn is_slow(peers: &Peers, own: &Sample) -> bool {
        matches!(peers.pace(own, own, 3.0), Pace::Slow(_))
    }

    fn windows(all: &[&Sample]) -> Peers {
        let mut peers = Peers::default();
        for (index, window) in all.iter().enumerate() {
            peers.add(index, &[], window);
        }
        peers
    }

    fn sample(millis: &[u64]) -> Sample {
        let latencies = Latencies::default();
        for &millis in millis {
            latencies.record(Duration::from_millis(millis));
        }
        let mut sample = Sample::default();
        latencies.drain_into(&mut sample);
        sample
    }

    #[test]
    fn one_of_three_that_fails_stands_out_though_it_widens_the_spread() {
        assert!(is_last_failing(&[
            counts(100, 0),
            counts(100, 1),
            counts(100, 50)
        ]));
        assert!(!is_last_failing(&[
            counts(100, 50),
            counts(100, 0),
            counts(100, 1)
        ]));
    }

    #[test]
    fn two_endpoints_are_not_compared() {
        assert!(!is_last_failing(&[counts(100, 0), counts(100, 100)]));
    }

    #[test]
    fn a_pool_that_fails_alike_has_no_outlier() {
        let mut all = [
            counts(100, 48),
            counts(100, 52),
            counts(100, 50),
            counts(100, 55),
        ];
        for _ in 0..all.len() {
            all.rotate_left(1);
            assert!(!is_last_failing(&all));
        }
    }

    #[test]
    fn how_many_calls_are_evidence_depends_on_the_others() {
        let mut all = vec![counts(1_000, 0); 9];
        for (own, stands_out) in [
            (counts(1, 1), false),
            (counts(100, 2), false),
            (counts(1_000, 100), false),
            (counts(2, 2), true),
            (counts(4, 2), true),
        ] {
            all.push(own);
            assert_eq!(is_last_failing(&all), stands_out, "{own:?}");
            all.pop();
        }
        let mut all = vec![counts(10, 1); 9];
        for (own, stands_out) in [(counts(4, 2), false), (counts(20, 12), true)] {
            all.push(own);
            assert_eq!(is_last_failing(&all), stands_out, "{own:?}");
            all.pop();
        }
    }

    #[test]
    fn one_failure_among_many_calls_leaves_a_doubt_where_others_never_fail() {
        let mut all = vec![counts(500, 0); 9];
        all.push(counts(26, 1));
        assert_eq!(pool(&all).failing(9, &all[9..]), Finding::Doubt);
        let mut all = vec![counts(500, 5); 9];
        all.push(counts(26, 1));
        assert_eq!(pool(&all).failing(9, &all[9..]), Finding::Clear);
    }

    #[test]
    fn the_newest_seconds_are_evidence_by_themselves() {
        let mut peers = pool(&[counts(500, 0); 9]);
        let recent = [counts(3, 2), counts(500, 0), counts(500, 0)];
        peers.add(9, &recent, &Sample::default());
        assert!(matches!(peers.failing(9, &recent), Finding::Failing(_)));
    }

    #[test]
    fn ten_times_slower_stands_out_and_twice_does_not() {
        let usual = sample(&[8, 9, 10, 11, 12].repeat(20));
        for (own, slow) in [
            (sample(&[80, 100, 120]), true),
            (sample(&[18, 20, 24]), false),
        ] {
            let peers = windows(&[&usual, &usual, &own]);
            assert_eq!(is_slow(&peers, &own), slow);
            assert!(!is_slow(&peers, &usual));
        }
    }

    #[test]
    fn a_factor_beyond_all_measure_ejects_nobody() {
        let (usual, own) = (sample(&[10; 100]), sample(&[90_000; 100]));
        let peers = windows(&[&usual, &usual, &own]);
        let pace = peers.pace(&own, &own, f64::MAX);
        assert_eq!(pace, Pace::Usual { in_doubt: false });
    }

    #[test]
    fn microseconds_are_no_reason() {
        let usual = sample(&[1; 100]);
        let own = sample(&[5; 100]);
        let peers = windows(&[&usual, &usual, &own]);
        assert!(!is_slow(&peers, &own));
    }

    #[test]
    fn slow_calls_that_all_have_are_no_reason() {
        let mut mixed = vec![10; 92];
        mixed.extend([200; 8]);
        let usual = sample(&mixed);
        let mut unlucky = vec![10; 18];
        unlucky.extend([200; 4]);
        let own = sample(&unlucky);
        assert!(own.p90() > usual.p90() * 3);
        let peers = windows(&[&usual, &usual, &usual, &own]);
        assert!(!is_slow(&peers, &own));
    }

    #[test]
    fn evidence_is_the_chernoff_bound() {
        assert!((evidence(5, 5, 0.1) - 5.0 * 10.0_f64.ln()).abs() < 1e-9);
        assert!(
            (evidence(1, 2, 0.25) - 2.0 * (0.5 * 2.0_f64.ln() + 0.5 * (2.0 / 3.0_f64).ln())).abs()
                < 1e-9
        );
        assert!(evidence(1, 10, 0.5) < 1e-9 && evidence(0, 0, 0.5) < 1e-9);
    }
}
