//! The shape of a change over time: a step, a ramp, or a drift over hours.

use super::facts::{self, Facts};
use super::{Cause, Evidence, Subject, Verdict, step};
use crate::incident::history::History;
use crate::incident::span::Span;

/// How much of the growth of the demand came within ten seconds: near 1 for a step, near 0 for a ramp.
pub(super) fn suddenness(history: &History, usual: &Span) -> f64 {
    const WIDTH: usize = 5;
    let seconds: Vec<f64> = history.seconds().map(facts::originals).collect();
    let rates: Vec<f64> = seconds
        .windows(WIDTH)
        .map(|some| some.iter().sum::<f64>() / WIDTH as f64)
        .collect();
    let growth = rates.first().copied().unwrap_or_default() - facts::originals(usual);
    if growth <= 0.0 {
        return 0.0;
    }
    let earlier = rates.iter().skip(2 * WIDTH);
    let jumps = rates
        .iter()
        .zip(earlier)
        .map(|(later, earlier)| later - earlier);
    let largest = jumps.fold(0.0, f64::max);
    let part = (largest / growth).clamp(0.0, 1.0);
    // A ramp over the two minutes that are remembered has a tenth of its growth in any ten seconds.
    step(part, 0.45)
}

/// Minutes that make a drift, at least, and at most.
const DRIFT: usize = 30;
const DRIFT_AT_MOST: usize = 6 * 60;

/// The upstream's part of the time grows, bit by bit, at equal load.
pub(super) fn leak(facts: &Facts<'_>) -> Option<Verdict> {
    let mut points: Vec<(f64, f64, f64)> = Vec::new();
    let minutes = facts.history.minutes().rev().take(DRIFT_AT_MOST);
    for (ago, minute) in minutes.enumerate() {
        if minute.service > 0.0 && minute.demand > 0.0 {
            points.push((-(ago as f64), minute.service, minute.demand));
        }
    }
    points.reverse();
    if points.len() < DRIFT {
        return None;
    }
    // A restart takes the leak back: only what came after it counts.
    let begin = after_last_drop(&points);
    let points = points.get(begin..).unwrap_or_default();
    if points.len() < DRIFT {
        return None;
    }
    let (first, last) = (points.first()?, points.last()?);
    let length = last.0 - first.0;
    let service = slope(points, |point| point.1);
    let load = slope(points, |point| point.2);
    let mean =
        |of: fn(&(f64, f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let risen = service.0 * length / mean(|point| point.1).max(1e-9);
    let grown = (load.0 * length / mean(|point| point.2).max(1e-9)).max(0.0);
    // Of all pairs, how many more rise than fall: a step in the middle has half of its pairs level.
    let steady = service.1;
    let confidence = step(risen - grown, 0.25) * step(steady, 0.5) * (1.0 - step(grown, 0.5));
    Some(Verdict {
        cause: Cause::UpstreamLeak,
        subject: Subject::Upstream,
        confidence,
        since: points.len() * 60,
        evidence: vec![
            Evidence {
                what: "the upstream's part of the time",
                value: last.1,
                baseline: Some(first.1),
                unit: "s",
            },
            Evidence {
                what: "its growth an hour",
                value: service.0 * 60.0 / mean(|point| point.1).max(1e-9),
                baseline: None,
                unit: "ratio",
            },
            Evidence {
                what: "requests",
                value: last.2,
                baseline: Some(first.2),
                unit: "requests/s",
            },
        ],
    })
}

/// Where the service last fell by a third from one minute to the next and stayed there.
fn after_last_drop(points: &[(f64, f64, f64)]) -> usize {
    let falls = |pair: &[(f64, f64, f64)]| match pair {
        [before, after, next] => after.1 < before.1 * 0.67 && next.1 < before.1 * 0.67,
        _ => false,
    };
    points
        .windows(3)
        .rposition(falls)
        .map_or(0, |before| before + 1)
}

/// Theil and Sen's slope, the median over all pairs, and Kendall's tau: how many more pairs rise than fall.
fn slope(points: &[(f64, f64, f64)], of: fn(&(f64, f64, f64)) -> f64) -> (f64, f64) {
    // Every pair of at most 72 points, so that six hours cost as much as one.
    let stride = points.len().div_ceil(72).max(1);
    let chosen: Vec<_> = points.iter().step_by(stride).collect();
    let mut slopes = Vec::new();
    let (mut rises, mut falls) = (0.0, 0.0);
    for (index, one) in chosen.iter().enumerate() {
        for other in chosen.iter().skip(index + 1) {
            let difference = of(other) - of(one);
            slopes.push(difference / (other.0 - one.0));
            // Less than a hundredth is level.
            if difference > of(one) * 0.01 {
                rises += 1.0;
            } else if difference < -of(one) * 0.01 {
                falls += 1.0;
            }
        }
    }
    let middle = slopes.len() / 2;
    if slopes.is_empty() {
        return (0.0, 0.0);
    }
    let (_, median, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
    let median = *median;
    (median, (rises - falls) / slopes.len() as f64)
}
