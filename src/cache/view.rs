//! What a cache shows of itself.

use std::sync::atomic::Ordering;

use super::Cache;
use super::object::Entry;
use crate::model::CacheResult;

/// A cache at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Bytes it holds.
    pub bytes: u64,
    /// Bytes it may hold.
    pub capacity: u64,
    /// URLs it holds responses of.
    pub urls: usize,
    /// Ways to the origin that others may join.
    pub flights: usize,
    /// Requests by result, in the order of [`CacheResult::ALL`].
    pub results: [u64; CacheResult::ALL.len()],
    /// The disk tier, if there is one.
    pub disk: Option<super::disk::View>,
}

/// A URL that stands out.
#[derive(Clone, Debug)]
pub struct Top {
    /// The URL.
    pub url: String,
    /// Bytes its responses take.
    pub bytes: u64,
    /// How often they were used.
    pub hits: u64,
    /// Seconds of the origin's time that saved.
    pub saved: f64,
}

impl View {
    /// The share of requests that were answered without waiting for the origin.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let of = |wanted: fn(CacheResult) -> bool| -> u64 {
            let counts = CacheResult::ALL.into_iter().zip(self.results);
            counts
                .filter(|(result, _)| wanted(*result))
                .map(|(_, count)| count)
                .sum()
        };
        let asked = of(|result| result != CacheResult::Bypass);
        super::as_ratio(of(CacheResult::is_hit), asked)
    }
}

impl Cache {
    /// What it is like now.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            name: self.name.to_string(),
            bytes: self.store.weight(),
            capacity: self.store.capacity(),
            urls: self.store.len(),
            flights: self.flights.len(),
            results: std::array::from_fn(|index| {
                self.results
                    .get(index)
                    .map_or(0, |count| count.load(Ordering::Relaxed))
            }),
            disk: self.disk.load().as_ref().map(|disk| disk.view()),
        }
    }

    /// The `limit` URLs that take most bytes, and those that saved most of the origin's time.
    #[must_use]
    pub fn top(&self, limit: usize) -> (Vec<Top>, Vec<Top>) {
        let mut by_bytes: Vec<Top> = self
            .store
            .iter()
            .map(|(key, entry)| Top::of(&key, &entry))
            .collect();
        let mut by_saved = by_bytes.clone();
        by_bytes.sort_unstable_by_key(|top| std::cmp::Reverse(top.bytes));
        by_bytes.truncate(limit);
        by_saved.sort_unstable_by(|a, b| b.saved.total_cmp(&a.saved));
        by_saved.truncate(limit);
        (by_bytes, by_saved)
    }
}

impl Top {
    fn of(key: &str, entry: &Entry) -> Self {
        let mut hits = 0;
        let mut saved = 0;
        for object in &entry.variants {
            let used = object.hits.load(Ordering::Relaxed);
            hits += used;
            saved += used.saturating_mul(object.head.took);
        }
        Self {
            url: super::key::url_of(key).to_owned(),
            bytes: entry.weight,
            hits,
            saved: std::time::Duration::from_millis(saved).as_secs_f64(),
        }
    }
}
