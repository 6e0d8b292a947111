//! Sums by minute, client, route and upstream.
//!
//! A delta holds what happened since the one before it and is handed over every few seconds: whatever ends the process,
//! no more than that is lost. Bounded: clients beyond the bound are `__other__`, and counted. The bound is also what a
//! delta costs to write: a million clients that come once would otherwise take the writer a tenth of a core. Depends on
//! the observer's tap and the engine's directories.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use super::sums::{Sums, micros};
use super::traces::Traces;
use super::writer::Health;
use crate::clock::Instant;
use crate::engine::registry::{Directories, Directory};
use crate::measure::topk::Hashed;
use crate::model::{CacheResult, RouteId, UpstreamId};
use crate::observe::collector::Tap;
use crate::observe::exchange::Exchange;
use crate::observe::series::Keyed;

/// Clients that one delta tells apart, and rows of it.
const MAX_CLIENTS: usize = 12_000;
const MAX_KEYS: usize = 100_000;
/// How often a delta is handed over: a kill must not take along more than ten seconds, and a client that asks twice
/// within a delta is written once.
const EVERY: Duration = Duration::from_secs(8);
/// The client that stands for those beyond the bound.
pub const OTHER: &str = "__other__";
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

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    minute: u64,
    client: u64,
    route: u32,
    upstream: u32,
}

impl Hash for Key {
    /// The client is a keyed hash already; few others go with it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let place = u64::from(self.route) << 32 | u64::from(self.upstream);
        let place = place.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let minute = self.minute.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state.write_u64(self.client ^ place.rotate_left(32) ^ minute);
    }
}

/// Folds exchanges into deltas.
#[derive(Debug)]
pub struct Folder {
    rows: HashMap<Key, Sums, Hashed>,
    names: HashMap<u64, Arc<str>, Hashed>,
    traces: Traces,
    /// By route, what those cost of late that the cache did not have, in microseconds.
    misses: HashMap<u32, u64, Keyed>,
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
            rows: HashMap::default(),
            names: HashMap::default(),
            traces: Traces::default(),
            misses: HashMap::default(),
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
        let named = self.names.contains_key(&key.client);
        let full = self.rows.len() >= MAX_KEYS && !self.rows.contains_key(&key);
        if full || (!named && self.names.len() >= MAX_CLIENTS) {
            key.client = 0;
            self.health.count_folded();
            self.names.entry(0).or_insert_with(|| OTHER.into());
        } else if !named {
            self.names.insert(key.client, client.into());
        }
        let saved = self.saved(exchange, key.route);
        let pair = [
            exchange.client.hash(),
            key.route.into(),
            key.upstream.into(),
        ];
        let is_new = self.traces.is_new(exchange.trace, pair);
        let sums = self.rows.entry(key).or_default();
        sums.count(exchange);
        sums.saved_micros = sums.saved_micros.saturating_add(saved);
        sums.traces += u64::from(is_new);
    }

    /// What the cache saved: of who did not ask the upstream, what those cost of late that had to.
    fn saved(&mut self, exchange: &Exchange, route: u32) -> u64 {
        let asked = exchange.attempts > 0;
        match exchange.cache {
            Some(CacheResult::Miss) if asked => {
                let cost = micros(exchange.upstream_time());
                let usual = self.misses.entry(route).or_insert(cost);
                *usual = *usual - *usual / 16 + cost / 16;
                0
            }
            Some(cache) if cache.is_hit() && !asked => {
                self.misses.get(&route).copied().unwrap_or(0)
            }
            _ => 0,
        }
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
        self.hand_over();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::model::ClientId;
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
    fn a_hit_saves_what_a_miss_of_its_route_costs() {
        let (mut folder, taken) = folder();
        let with = |cache, attempts| Exchange {
            cache: Some(cache),
            attempts,
            ..answered()
        };
        let exchanges = [
            with(CacheResult::Hit, 0),
            with(CacheResult::Miss, 1),
            with(CacheResult::Hit, 0),
            with(CacheResult::Collapsed, 0),
            with(CacheResult::Revalidated, 1),
            with(CacheResult::Bypass, 1),
        ];
        folder.batch(
            &mut exchanges.iter().map(|one| (one, "reports")),
            Instant::ZERO,
        );
        drop(folder);
        let delta = taken.try_recv().unwrap();
        let sums = &delta[0].sums;
        assert_eq!((sums.requests, sums.cache_hits), (6, 4));
        assert_eq!(sums.cache_bytes, 4_000);
        assert_eq!(
            sums.saved_micros,
            2 * 12_000,
            "the first came before any miss"
        );
    }

    #[test]
    fn a_trace_counts_once_for_each_pair() {
        let (mut folder, taken) = folder();
        let traced = |trace| Exchange {
            trace,
            ..answered()
        };
        let exchanges = [traced(7), traced(7), traced(8), traced(0), traced(7)];
        folder.batch(
            &mut exchanges.iter().map(|one| (one, "reports")),
            Instant::ZERO,
        );
        drop(folder);
        let delta = taken.try_recv().unwrap();
        assert_eq!((delta[0].sums.traced, delta[0].sums.traces), (4, 2));
    }

    #[test]
    fn clients_beyond_the_bound_are_put_together_until_the_next_delta() {
        let (mut folder, taken) = folder();
        let names: Vec<String> = (0..MAX_CLIENTS + 100).map(|at| format!("c{at}")).collect();
        let of = |at: usize| Exchange {
            client: ClientId::new(at as u64 + 1),
            ..answered()
        };
        for _ in 0..2 {
            let all: Vec<Exchange> = (0..names.len()).map(of).collect();
            let all = all.iter().zip(names.iter().map(String::as_str));
            folder.batch(&mut all.into_iter(), Instant::ZERO);
        }
        assert_eq!(folder.health.folded(), 200);
        folder.tick(Instant::ZERO.after(EVERY));
        let delta = taken.try_recv().unwrap();
        assert_eq!(delta.len(), MAX_CLIENTS + 1);
        let other = delta.iter().find(|row| &*row.client == OTHER).unwrap();
        assert_eq!(other.sums.requests, 200);
        let all: u64 = delta.iter().map(|row| row.sums.requests).sum();
        assert_eq!(all, 2 * names.len() as u64);
        folder.batch(&mut [(&of(names.len()), "late")].into_iter(), Instant::ZERO);
        drop(folder);
        assert_eq!(&*taken.try_recv().unwrap()[0].client, "late");
    }

    #[test]
    fn whoever_takes_nothing_holds_nobody_up_at_the_end() {
        let (deltas, taken) = sync_channel(1);
        let directories = Arc::new(Directories::default());
        let health = Arc::new(Health::default());
        let mut folder = Folder::new(directories, deltas, Arc::clone(&health), Instant::ZERO);
        folder.batch(&mut [(&answered(), "reports")].into_iter(), Instant::ZERO);
        folder.tick(Instant::ZERO.after(EVERY));
        folder.batch(&mut [(&answered(), "reports")].into_iter(), Instant::ZERO);
        drop(folder);
        assert_eq!(health.dropped(), 1);
        assert_eq!(taken.into_iter().count(), 1);
    }
}
