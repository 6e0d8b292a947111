//! Sums by minute, client, route and upstream.
//!
//! A delta holds what happened since the one before it and is handed over every few seconds: whatever ends the process,
//! no more than that is lost. Bounded: clients beyond the bound are `__other__`, and counted. Depends on the observer's
//! tap and the engine's directories.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use super::writer::Health;
use crate::clock::Instant;
use crate::engine::registry::{Directories, Directory};
use crate::model::{Outcome, RouteId, UpstreamId};
use crate::observe::collector::Tap;
use crate::observe::exchange::Exchange;

/// Keys of one delta.
const MAX_KEYS: usize = 200_000;
/// How often a delta is handed over.
const EVERY: Duration = Duration::from_secs(3);
/// The client that stands for those beyond the bound.
pub const OTHER: &str = "__other__";
/// Upper bounds of the latency buckets, in microseconds: doubling from half a millisecond to half a minute. One more
/// stands above them.
pub const BUCKETS: [u64; 17] = [
    500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000,
    2_048_000, 4_096_000, 8_192_000, 16_384_000, 32_768_000,
];
/// How many buckets there are.
pub const BUCKET_COUNT: usize = BUCKETS.len() + 1;

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Requests, refused ones among them.
    pub requests: u64,
    /// Those that Tidegate refused.
    pub refused: u64,
    /// Those that ended in a 5xx or broke off.
    pub errors: u64,
    /// Times that requests were sent upstream.
    pub attempts: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Time they held a place at the upstream, in microseconds.
    pub upstream_micros: u64,
    /// Counts by latency from first byte to last, see [`BUCKETS`].
    pub latency: [u64; BUCKET_COUNT],
}

impl Sums {
    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.errors += other.errors;
        self.attempts += other.attempts;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.upstream_micros += other.upstream_micros;
        for (mine, theirs) in self.latency.iter_mut().zip(&other.latency) {
            *mine += theirs;
        }
    }

    fn of(exchange: &Exchange) -> Self {
        let refused = exchange.outcome == Outcome::Refused;
        let broke = exchange.outcome == Outcome::UpstreamBroke;
        let mut sums = Self {
            requests: 1,
            refused: u64::from(refused),
            errors: u64::from(broke || (exchange.status >= 500 && !refused)),
            attempts: u64::from(exchange.attempts),
            bytes_in: exchange.bytes_in,
            bytes_out: exchange.bytes_out,
            upstream_micros: micros(exchange.upstream_time()),
            ..Self::default()
        };
        let took = micros(exchange.phases.total());
        let bucket = BUCKETS.partition_point(|bound| *bound < took);
        if let Some(count) = sums.latency.get_mut(bucket) {
            *count += 1;
        }
        sums
    }

    /// An estimate of the `q`-quantile of the latency in milliseconds, linear within its bucket; none of nothing.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total: u64 = self.latency.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = (q * total as f64).max(1.0);
        let mut below = 0.0;
        let mut lower = 0.0;
        for (index, count) in self.latency.iter().enumerate() {
            let bound = BUCKETS.get(index).or(BUCKETS.last()).copied().unwrap_or(0);
            let upper = bound as f64 / 1e3;
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = upper;
        }
        Some(lower)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What one client did on one route in one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When the minute began, in seconds since the Unix epoch.
    pub minute: u64,
    /// The client's name.
    pub client: Arc<str>,
    /// The route's name; empty when none matched.
    pub route: Arc<str>,
    /// The upstream's name; empty when there was none.
    pub upstream: Arc<str>,
    /// What was used.
    pub sums: Sums,
}

/// What happened since the last delta.
pub type Delta = Vec<Row>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    minute: u64,
    client: u64,
    route: u32,
    upstream: u32,
}

/// Folds exchanges into deltas.
#[derive(Debug)]
pub struct Folder {
    rows: HashMap<Key, Sums>,
    names: HashMap<u64, Arc<str>>,
    directories: Arc<Directories>,
    deltas: SyncSender<Delta>,
    health: Arc<Health>,
    next: Instant,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:x}", self.minute, self.client)
    }
}

impl Folder {
    /// Hands its deltas to `deltas`.
    #[must_use]
    pub fn new(
        directories: Arc<Directories>,
        deltas: SyncSender<Delta>,
        health: Arc<Health>,
        now: Instant,
    ) -> Self {
        Self {
            rows: HashMap::new(),
            names: HashMap::new(),
            directories,
            deltas,
            health,
            next: now.after(EVERY),
        }
    }

    fn fold(&mut self, exchange: &Exchange, client: &str) {
        let ended = exchange.started + micros(exchange.phases.total());
        let place = |index: Option<usize>| {
            index
                .and_then(|index| u32::try_from(index + 1).ok())
                .unwrap_or(0)
        };
        let mut key = Key {
            minute: ended / 60_000_000 * 60,
            client: exchange.client.hash(),
            route: place(exchange.route.map(RouteId::index)),
            upstream: place(exchange.upstream.map(UpstreamId::index)),
        };
        if self.rows.len() >= MAX_KEYS && !self.rows.contains_key(&key) {
            key.client = 0;
            self.health.count_folded();
            self.names.entry(0).or_insert_with(|| OTHER.into());
        } else {
            let name = self.names.entry(key.client);
            name.or_insert_with(|| client.into());
        }
        self.rows.entry(key).or_default().add(&Sums::of(exchange));
    }

    fn delta(&mut self) -> Delta {
        let rows = std::mem::take(&mut self.rows);
        let names = std::mem::take(&mut self.names);
        let nobody: Arc<str> = "".into();
        let named = |directory: &Directory, place: u32| {
            let index = usize::try_from(place)
                .ok()
                .and_then(|place| place.checked_sub(1));
            let name = index.and_then(|index| directory.name(index));
            name.unwrap_or_else(|| Arc::clone(&nobody))
        };
        rows.into_iter()
            .map(|(key, sums)| Row {
                minute: key.minute,
                client: names.get(&key.client).unwrap_or(&nobody).clone(),
                route: named(&self.directories.routes, key.route),
                upstream: named(&self.directories.upstreams, key.upstream),
                sums,
            })
            .collect()
    }

    /// Hands over what there is.
    fn hand_over(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let delta = self.delta();
        if let Err(TrySendError::Full(delta) | TrySendError::Disconnected(delta)) =
            self.deltas.try_send(delta)
        {
            // The writer takes everything into its own, bounded memory, unless one write of it hangs for minutes.
            self.health.count_dropped(delta.len());
        }
    }
}

impl Tap for Folder {
    fn batch(&mut self, exchanges: &mut dyn Iterator<Item = (&Exchange, &str)>, _now: Instant) {
        for (exchange, client) in exchanges {
            self.fold(exchange, client);
        }
    }

    fn tick(&mut self, now: Instant) {
        if now >= self.next {
            self.next = now.after(EVERY);
            self.hand_over();
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let delta = self.delta();
        // The writer ends when nobody can hand it anything any more.
        if !delta.is_empty()
            && let Err(unsent) = self.deltas.send(delta)
        {
            self.health.count_dropped(unsent.0.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::observe::tables::tests::answered;

    fn folder() -> (Folder, std::sync::mpsc::Receiver<Delta>) {
        let (deltas, taken) = sync_channel(4);
        let directories = Arc::new(Directories::default());
        for name in ["a", "b", "c"] {
            directories.routes.intern(name);
            directories.upstreams.intern(name);
        }
        let folder = Folder::new(directories, deltas, Arc::default(), Instant::ZERO);
        (folder, taken)
    }

    #[test]
    fn a_delta_sums_what_happened_since_the_one_before() {
        let (mut folder, taken) = folder();
        for _ in 0..3 {
            folder.batch(&mut [(&answered(), "reports")].into_iter(), Instant::ZERO);
        }
        folder.tick(Instant::ZERO.after(EVERY));
        folder.tick(Instant::ZERO.after(EVERY * 2));
        let delta = taken.try_recv().unwrap();
        assert!(taken.try_recv().is_err(), "nothing happened since");
        let [row] = delta.as_slice() else {
            panic!("{delta:?}")
        };
        assert_eq!(
            (&*row.client, &*row.route, &*row.upstream),
            ("reports", "b", "c")
        );
        assert_eq!(row.minute % 60, 0);
        assert_eq!((row.sums.requests, row.sums.bytes_out), (3, 3_000));
        assert_eq!(row.sums.upstream_micros, 3 * 12_000);
        folder.batch(&mut [(&answered(), "reports")].into_iter(), Instant::ZERO);
        drop(folder);
        assert_eq!(
            taken.try_recv().unwrap().len(),
            1,
            "the rest comes at the end"
        );
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let mut sums = Sums::default();
        assert_eq!(sums.quantile(0.98), None);
        sums.latency[3] = 98;
        sums.latency[9] = 2;
        let (p50, p99) = (sums.quantile(0.5).unwrap(), sums.quantile(0.99).unwrap());
        assert!(
            (2.0..=4.0).contains(&p50) && (128.0..=256.0).contains(&p99),
            "{p50} {p99}"
        );
    }
}
