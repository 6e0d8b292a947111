//! What was used: counts that add up, and latencies that merge.
//!
//! Depends on the exchange and on measure's sketch.

use std::time::Duration;

use crate::measure::sketch::LedgerSketch;
use crate::model::Outcome;
use crate::observe::exchange::Exchange;

/// How many counts there are.
pub(super) const COUNTS: usize = 18;

/// What was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Time they held a place at the upstream, in microseconds.
    pub upstream_micros: u64,
    /// Requests, refused ones among them.
    pub requests: u64,
    /// Those that Tidegate refused.
    pub refused: u64,
    /// Those that ended in a 5xx or broke off.
    pub errors: u64,
    /// Times that requests were sent upstream.
    pub attempts: u64,
    /// Attempts beyond each request's first.
    pub retries: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Requests by the class of the status they were answered with, from 1xx on.
    pub status: [u64; 5],
    /// Those answered from the cache.
    pub cache_hits: u64,
    /// Bytes of response bodies that came from the cache.
    pub cache_bytes: u64,
    /// Time at the upstream that the cache saved, in microseconds.
    pub saved_micros: u64,
    /// Those that are part of a trace.
    pub traced: u64,
    /// The traces they are part of.
    pub traces: u64,
    /// How long they took, from first byte to last.
    pub latency: Latency,
}

impl Sums {
    /// Adds what `exchange` used, but for what only the ledger's other rows can tell: what the cache saved, and whether
    /// its trace is new.
    pub(super) fn count(&mut self, exchange: &Exchange) {
        let refused = exchange.outcome == Outcome::Refused;
        let broke = exchange.outcome == Outcome::UpstreamBroke;
        let more = |sum: &mut u64, by: u64| *sum = sum.saturating_add(by);
        more(&mut self.upstream_micros, micros(exchange.upstream_time()));
        self.requests += 1;
        self.refused += u64::from(refused);
        self.errors += u64::from(broke || (exchange.status >= 500 && !refused));
        self.attempts += u64::from(exchange.attempts);
        self.retries += u64::from(exchange.attempts.saturating_sub(1));
        more(&mut self.bytes_in, exchange.bytes_in);
        more(&mut self.bytes_out, exchange.bytes_out);
        if exchange.cache.is_some_and(|cache| cache.is_hit()) {
            self.cache_hits += 1;
            more(&mut self.cache_bytes, exchange.bytes_out);
        }
        self.traced += u64::from(exchange.trace != 0);
        self.latency.add(exchange.phases.total(), 1);
        // What no class has counts as the last one.
        let class = usize::from(exchange.status / 100).clamp(1, 5) - 1;
        if let Some(count) = self.status.get_mut(class) {
            *count += 1;
        }
    }

    /// The counts and their columns, those first that every report reads.
    pub(super) fn counts_mut(&mut self) -> [(&'static str, &mut u64); COUNTS] {
        let [one, two, three, four, five] = &mut self.status;
        [
            ("upstream_micros", &mut self.upstream_micros),
            ("requests", &mut self.requests),
            ("refused", &mut self.refused),
            ("errors", &mut self.errors),
            ("attempts", &mut self.attempts),
            ("retries", &mut self.retries),
            ("bytes_in", &mut self.bytes_in),
            ("bytes_out", &mut self.bytes_out),
            ("status_1xx", one),
            ("status_2xx", two),
            ("status_3xx", three),
            ("status_4xx", four),
            ("status_5xx", five),
            ("cache_hits", &mut self.cache_hits),
            ("cache_bytes", &mut self.cache_bytes),
            ("saved_micros", &mut self.saved_micros),
            ("traced", &mut self.traced),
            ("traces", &mut self.traces),
        ]
    }

    /// The counts, in the order of their columns.
    pub(super) fn counts(&self) -> [u64; COUNTS] {
        let mut copy = Self {
            latency: Latency::default(),
            ..*self
        };
        copy.counts_mut().map(|(_, count)| *count)
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        for ((_, mine), theirs) in self.counts_mut().into_iter().zip(other.counts()) {
            *mine = mine.saturating_add(theirs);
        }
        self.latency.merge(&other.latency);
    }
}

/// Counts of latencies by the cell of a [`LedgerSketch`], of the cells that hold any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// By cell, ascending.
    cells: Vec<(u16, u64)>,
}

impl Latency {
    /// `count` requests that took this long.
    #[must_use]
    pub fn of(took: Duration, count: u64) -> Self {
        let mut latency = Self::default();
        if count > 0 {
            latency.add(took, count);
        }
        latency
    }

    /// Adds `count` requests that took this long.
    fn add(&mut self, took: Duration, count: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let cell = u16::try_from(LedgerSketch::cell(nanos)).unwrap_or(u16::MAX);
        self.add_to(cell, count);
    }

    /// Adds everything `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (cell, count) in &other.cells {
            self.add_to(*cell, *count);
        }
    }

    fn add_to(&mut self, cell: u16, count: u64) {
        match self.cells.binary_search_by_key(&cell, |(cell, _)| *cell) {
            Ok(place) => {
                if let Some((_, mine)) = self.cells.get_mut(place) {
                    *mine = mine.saturating_add(count);
                }
            }
            Err(place) => self.cells.insert(place, (cell, count)),
        }
    }

    /// An estimate of the `q`-quantile in milliseconds, the middle of its cell; none of nothing.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total: u64 = self.cells.iter().map(|(_, count)| count).sum();
        let rank = (q * total as f64).max(1.0);
        let mut below = 0;
        let reached = |(_, count): &&(u16, u64)| {
            below += count;
            below as f64 >= rank
        };
        let (cell, _) = self.cells.iter().find(reached)?;
        Some(LedgerSketch::middle(usize::from(*cell)) as f64 / 1e6)
    }

    /// As it is stored: of each cell how far it is from the one before, and its count, seven bits to a byte.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.cells.len() * 3);
        let mut last = 0;
        for (cell, count) in &self.cells {
            push(&mut bytes, u64::from(cell - last));
            push(&mut bytes, *count);
            last = *cell;
        }
        bytes
    }

    /// What [`encode`](Self::encode) wrote; as much of it as can be understood.
    pub(super) fn decode(mut bytes: &[u8]) -> Self {
        let mut cells: Vec<(u16, u64)> = Vec::new();
        let mut last = 0_u64;
        while let Some((gap, count)) = pull(&mut bytes).zip(pull(&mut bytes)) {
            last = last.saturating_add(gap);
            let Ok(cell) = u16::try_from(last) else { break };
            if usize::from(cell) > LedgerSketch::LAST || (gap == 0 && !cells.is_empty()) {
                break;
            }
            cells.push((cell, count));
        }
        Self { cells }
    }
}

pub(super) fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

pub(super) fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::CacheResult;
    use crate::observe::tables::tests::answered;

    #[test]
    fn an_exchange_counts_by_class_and_by_what_the_cache_did() {
        let mut exchange = answered();
        exchange.attempts = 3;
        exchange.status = 404;
        let of = |exchange: &Exchange| {
            let mut sums = Sums::default();
            sums.count(exchange);
            sums
        };
        let missed = of(&exchange);
        assert_eq!((missed.retries, missed.cache_hits), (2, 0));
        assert_eq!(missed.status, [0, 0, 0, 1, 0]);
        exchange.cache = Some(CacheResult::Hit);
        exchange.status = 999;
        let hit = of(&exchange);
        assert_eq!((hit.cache_hits, hit.cache_bytes), (1, 1_000));
        assert_eq!(hit.status, [0, 0, 0, 0, 1]);
        let mut both = missed.clone();
        both.add(&hit);
        assert_eq!((both.requests, both.retries), (2, 4));
        assert_eq!(both.status, [0, 0, 0, 1, 1]);
        assert_eq!(both.latency.quantile(1.0), missed.latency.quantile(1.0));
    }

    #[test]
    fn nothing_has_no_quantile_and_noise_is_no_latency() {
        assert_eq!(Latency::default().quantile(0.98), None);
        assert_eq!(Latency::decode(&[0x80; 40]), Latency::default());
        assert_eq!(Latency::decode(&[0xff, 0x7f, 1]), Latency::default());
    }

    proptest! {
        #[test]
        fn a_quantile_is_right_within_a_twentieth(mut micros in prop::collection::vec(70_u64..60_000_000, 1..200), part in 0_usize..=128) {
            let mut latency = Latency::default();
            for one in &micros {
                latency.merge(&Latency::of(Duration::from_micros(*one), 1));
            }
            micros.sort_unstable();
            let rank = (part * micros.len()).div_ceil(128).max(1);
            let exact = micros[rank - 1] as f64 / 1e3;
            let estimate = latency.quantile(part as f64 / 128.0).unwrap();
            prop_assert!((estimate / exact - 1.0).abs() <= 0.05, "{estimate} {exact}");
        }

        #[test]
        fn what_is_stored_is_what_is_read(one in prop::collection::vec((0_u64..80_000_000_000, 1_u64..u64::MAX / 64), 0..50)) {
            let mut latency = Latency::default();
            for (nanos, count) in one {
                latency.merge(&Latency::of(Duration::from_nanos(nanos), count));
            }
            prop_assert_eq!(Latency::decode(&latency.encode()), latency);
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let latency = Latency::decode(&bytes);
            prop_assert_eq!(Latency::decode(&latency.encode()), latency);
        }
    }
}
