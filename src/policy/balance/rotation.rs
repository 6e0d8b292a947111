//! Weighted round-robin without a lock: a schedule laid out in advance and one shared counter.
//!
//! An endpoint of `n` units has its turns at `(k + ½) / n` of the cycle, which spreads them as evenly as
//! nginx's smooth weighted round-robin does, and one cycle gives each exactly its share however many workers
//! draw from it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::whole;

/// Bound on a cycle's length.
const MAX_TURNS: f64 = 4_096.0;

/// The finest difference between weights that is told apart in a short cycle.
const UNITS_PER_WEIGHT: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Rotation {
    turns: Box<[u32]>,
    next: AtomicUsize,
}

impl Rotation {
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let units = units_of(weights.collect());
        let mut turns: Vec<(f64, u32)> = Vec::new();
        for (index, units) in (0_u32..).zip(units) {
            let place = |turn: u32| (f64::from(turn) + 0.5) / f64::from(units);
            turns.extend((0..units).map(|turn| (place(turn), index)));
        }
        turns.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Self {
            turns: turns.into_iter().map(|(_, index)| index).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Turns in a cycle.
    pub(super) const fn len(&self) -> usize {
        self.turns.len()
    }

    /// The index whose turn it is.
    pub(super) fn next(&self) -> Option<usize> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = turn.checked_rem(self.turns.len())?;
        self.turns.get(turn).map(|&index| index as usize)
    }
}

/// Weights as whole turns per cycle: exact to 1/100 while that keeps the cycle short, else rounded to fit.
fn units_of(weights: Vec<f64>) -> Vec<u32> {
    let exact = |weight: &f64| whole((weight * UNITS_PER_WEIGHT).round()).max(1);
    let mut units: Vec<u32> = weights.iter().map(exact).collect();
    let divisor = units
        .iter()
        .copied()
        .fold(0, greatest_common_divisor)
        .max(1);
    for unit in &mut units {
        *unit /= divisor;
    }
    let total: f64 = units.iter().map(|&unit| f64::from(unit)).sum();
    if total > MAX_TURNS {
        let sum: f64 = weights.iter().sum();
        let fitted = |weight: &f64| whole((weight / sum * MAX_TURNS).round()).max(1);
        return weights.iter().map(fitted).collect();
    }
    units
}

const fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
