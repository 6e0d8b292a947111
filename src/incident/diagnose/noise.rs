//! How far a quantity swings by itself while all is well.
//!
//! Times that are independent of one another would tell that by their number alone ([`super::facts::surprise`]); but requests
//! wait for one another inside a service, a queue outlasts many of them, and ten busy seconds are ten seconds of long times
//! without anything being wrong. So it is asked what ten seconds used to be like. The median of absolute deviations
//! (Hampel 1974) heeds no single block in which something was wrong unnoticed. Pure.

use crate::incident::history::History;
use crate::incident::span::Span;

/// Seconds of a block: as many as are looked at for what is now.
const BLOCK: usize = 10;
/// What is taken for the swing before anything is known counts as much as so many blocks: few tell little, and what they
/// seem to tell changes with each.
const WEIGHT: f64 = 4.0;
/// What the median of absolute deviations of a normal distribution is to its deviation.
const NORMAL: f64 = 1.4826;
/// Nothing is steadier than that, as far as a few blocks can tell.
const LEAST: f64 = 0.1;

/// The deviation of the logarithm of the `quantity` of each of `keys` from its own middle, over the blocks of ten seconds
/// in which all was well, drawn towards `prior` while they are few. A quantity of zero says nothing.
pub(super) fn swing(
    history: &History,
    keys: &[u64],
    prior: f64,
    quantity: impl Fn(u64, &[&Span]) -> f64,
) -> f64 {
    let blocks: Vec<_> = history.calm(BLOCK).collect();
    let mut deviations = Vec::new();
    for key in keys {
        let values = blocks.iter().map(|block| quantity(*key, block));
        let mut logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::ln).collect();
        let middle = median(&mut logs);
        deviations.extend(logs.iter().map(|log| (log - middle).abs()));
    }
    let known = blocks.len().saturating_sub(1) as f64;
    let found = median(&mut deviations) * NORMAL;
    let variance = (WEIGHT * prior.powi(2) + known * found.powi(2)) / (WEIGHT + known);
    variance.sqrt().max(LEAST)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let above = values.get(values.len() / 2).copied().unwrap_or_default();
    let below = values.get((values.len().max(1) - 1) / 2).copied();
    (above + below.unwrap_or(above)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::span::Event;

    fn history(times: impl Iterator<Item = (f64, bool)>) -> History {
        let mut history = History::default();
        for (time, well) in times {
            history.current().record(&Event {
                attempts: 1,
                phases: [0.0, 0.0, 0.0, 0.0, time, 0.0, 0.0],
                ..Event::default()
            });
            history.tick(well);
        }
        history
    }

    fn swing_of(history: &History) -> f64 {
        let mean = |_key, block: &[&Span]| {
            let sum: f64 = block.iter().map(|span| span.service.sum).sum();
            Span::share(sum, block.iter().map(|span| span.service.count).sum())
        };
        swing(history, &[0], PRIOR, mean)
    }

    const PRIOR: f64 = 0.3;

    #[test]
    fn what_swings_between_blocks_is_told_and_one_incident_is_not_heeded() {
        let nothing = swing_of(&history((0..15).map(|_| (0.01, true))));
        assert!((nothing - PRIOR).abs() < 1e-9, "{nothing}");
        let steady = swing_of(&history((0..110).map(|_| (0.01, true))));
        assert!(steady < PRIOR * 0.6, "{steady}");
        let wave = |second: u32| [0.01, 0.02, 0.04][second as usize / 10 % 3];
        let swings = swing_of(&history((0..110).map(|second| (wave(second), true))));
        let expected = NORMAL * 2_f64.ln();
        assert!((0.8..1.0).contains(&(swings / expected)), "{swings}");
        let once = (0..110).map(|second| (if second / 10 == 4 { 0.5 } else { 0.01 }, true));
        assert!((swing_of(&history(once)) - steady).abs() < 1e-9);
        let noticed = (0..110).map(|second| (if second >= 60 { 0.5 } else { 0.01 }, second < 70));
        assert!(swing_of(&history(noticed)) < PRIOR * 0.8);
    }

    #[test]
    fn it_does_not_leap_when_a_block_more_is_known() {
        // Blocks that differ by a third of themselves.
        let wave = |second: u32| [0.01, 0.013, 0.009][second as usize / 10 % 3];
        let mut before = PRIOR;
        for length in 1..120 {
            let swings = swing_of(&history((0..length).map(|second| (wave(second), true))));
            assert!(
                (swings / before).ln().abs() < 0.25,
                "{length}: {before}, {swings}"
            );
            before = swings;
        }
    }
}
