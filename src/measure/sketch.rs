//! A log-linear sketch of latencies, for live quantiles.
//!
//! Every power of two of nanoseconds from 2^10 (1 µs) to 2^37 (137 s) is cut into eight equal cells, so a
//! quantile is at most 6.25% off (half of a cell's width) and recording is a shift and an add. It is the scheme of
//! Prometheus's native histograms with schema 3, made linear inside a power of two to save the logarithm.
//! Where thousands of them are kept there is a [`SmallSketch`]: four cells from 2^16 (65 µs) to 2^36 (69 s),
//! 12.5% off at most, in 328 bytes.
//! The usage ledger keeps its own count by the cell of a [`LedgerSketch`]: sixteen, 3.2% off at most.
//! For objectives there is a [`FineSketch`]: sixty-four cells, 0.8% off at most, in 6.9 KB.
//! What it does badly: it knows nothing finer than its first cell. Depends on nothing.

use std::time::Duration;

/// Eight cells to a power of two, 872 bytes.
pub type Sketch = Cells<3, 10, 37, 218>;

/// Sixty-four cells to a power of two, 6,920 bytes.
pub type FineSketch = Cells<6, 10, 37, 1_730>;

/// Sixteen cells to a power of two from 2^16 (65 µs) to 2^36 (69 s).
pub type LedgerSketch = Cells<4, 16, 36, 322>;

/// Four cells to a power of two, 328 bytes.
pub type SmallSketch = Cells<2, 16, 36, 82>;

/// Counts of durations by cell: 2^`SUB_BITS` to each power of two above 2^`MIN_BITS` and up to 2^`MAX_BITS`, one
/// for what is below and one for what is above; `CELLS` in all.
#[derive(Clone, Debug)]
pub struct Cells<const SUB_BITS: u32, const MIN_BITS: u32, const MAX_BITS: u32, const CELLS: usize>
{
    cells: [u32; CELLS],
}

impl<const SUB_BITS: u32, const MIN_BITS: u32, const MAX_BITS: u32, const CELLS: usize> Default
    for Cells<SUB_BITS, MIN_BITS, MAX_BITS, CELLS>
{
    fn default() -> Self {
        const { assert!(CELLS == (((MAX_BITS - MIN_BITS) << SUB_BITS) + 2) as usize) }
        Self { cells: [0; CELLS] }
    }
}

impl<const SUB_BITS: u32, const MIN_BITS: u32, const MAX_BITS: u32, const CELLS: usize>
    Cells<SUB_BITS, MIN_BITS, MAX_BITS, CELLS>
{
    /// The last cell.
    pub const LAST: usize = CELLS - 1;

    /// Counts one duration of `nanos` nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        if let Some(cell) = self.cells.get_mut(Self::cell(nanos)) {
            *cell = cell.saturating_add(1);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.cells.fill(0);
    }

    /// Forgets half of everything, so that what is newer counts for more.
    pub fn halve(&mut self) {
        for cell in &mut self.cells {
            *cell /= 2;
        }
    }

    /// The cells that hold something, and how much.
    pub fn filled(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        let cells = (0..).zip(&self.cells);
        cells.filter_map(|(cell, count)| (*count > 0).then_some((cell, *count)))
    }

    /// Adds `count` durations of a [filled](Self::filled) cell.
    pub fn add(&mut self, cell: u16, count: u32) {
        if let Some(mine) = self.cells.get_mut(usize::from(cell)) {
            *mine = mine.saturating_add(count);
        }
    }

    /// Adds everything `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cells.iter().map(|count| u64::from(*count)).sum()
    }

    /// An estimate of the `q`-quantile: the middle of its cell; none when nothing was counted.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = rank(q, self.count())?;
        let mut below = 0;
        for (index, count) in self.cells.iter().enumerate() {
            below += u64::from(*count);
            if rank <= below {
                return Some(Duration::from_nanos(Self::middle(index)));
            }
        }
        None
    }

    /// The cell that `nanos` nanoseconds belong to.
    #[must_use]
    pub fn cell(nanos: u64) -> usize {
        let bits = u64::BITS - nanos.leading_zeros();
        if bits <= MIN_BITS {
            return 0;
        }
        if bits > MAX_BITS {
            return CELLS - 1;
        }
        let octave = bits - MIN_BITS - 1;
        let within = (nanos >> (bits - 1 - SUB_BITS)) & ((1 << SUB_BITS) - 1);
        1 + ((octave << SUB_BITS) as usize) + usize::try_from(within).unwrap_or(0)
    }

    /// The middle of a cell, in nanoseconds.
    #[must_use]
    pub fn middle(index: usize) -> u64 {
        let Some(above) = index.checked_sub(1) else {
            return 1 << (MIN_BITS - 1);
        };
        let shift = MIN_BITS as usize + (above >> SUB_BITS);
        let within = (above & ((1 << SUB_BITS) - 1)) as u64;
        let width = 1_u64 << (shift - SUB_BITS as usize);
        (1 << shift) + within * width + width / 2
    }
}

/// The rank, from 1, of the `q`-quantile of `count` values; none of no values.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the product lies within 0 and count; a rank beyond 2^53 may be off by its last digits"
)]
pub(super) fn rank(q: f64, count: u64) -> Option<u64> {
    let rank = (q.clamp(0.0, 1.0) * count as f64).ceil() as u64;
    (count > 0).then(|| rank.clamp(1, count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_sketch_has_no_quantile() {
        assert_eq!(Sketch::default().quantile(0.98), None);
    }

    #[test]
    fn the_extremes_are_counted_at_the_ends() {
        let mut sketch = Sketch::default();
        sketch.record(0);
        sketch.record(u64::MAX);
        assert_eq!(sketch.count(), 2);
        assert_eq!(sketch.quantile(0.0), Some(Duration::from_nanos(512)));
        assert!(sketch.quantile(1.0) > Some(Duration::from_secs(137)));
    }

    #[test]
    fn quantiles_follow_the_ranks() {
        let mut sketch = Sketch::default();
        for ms in 1..=100 {
            sketch.record(ms * 1_000_000);
        }
        for (q, exact) in [(0.5, 0.050), (0.98, 0.098), (0.99, 0.099)] {
            let estimate = sketch.quantile(q).unwrap().as_secs_f64();
            assert!((estimate / exact - 1.0).abs() < 0.07, "{q}: {estimate}");
        }
    }

    #[test]
    fn half_of_everything_has_the_same_quantiles() {
        let mut sketch = SmallSketch::default();
        for ms in 1..=1_000 {
            sketch.record(ms * 1_000_000);
        }
        let median = sketch.quantile(0.5).unwrap();
        assert!(
            (median.as_secs_f64() / 0.5 - 1.0).abs() < 0.13,
            "{median:?}"
        );
        sketch.halve();
        assert_eq!(sketch.quantile(0.5), Some(median));
        assert!(sketch.count() <= 500);
    }

    proptest! {
        #[test]
        fn a_small_sketch_knows_one_value_within_an_eighth(nanos in 65_536_u64..68_000_000_000) {
            let mut sketch = SmallSketch::default();
            sketch.record(nanos);
            let estimate = sketch.quantile(0.5).unwrap().as_secs_f64() * 1e9;
            prop_assert!((estimate / nanos as f64 - 1.0).abs() <= 0.1251);
        }

        #[test]
        fn one_value_is_known_within_a_sixteenth(nanos in 1_024_u64..137_000_000_000) {
            let mut sketch = Sketch::default();
            sketch.record(nanos);
            let estimate = sketch.quantile(0.5).unwrap().as_secs_f64() * 1e9;
            prop_assert!((estimate / nanos as f64 - 1.0).abs() <= 0.0626);
        }
    }
}
