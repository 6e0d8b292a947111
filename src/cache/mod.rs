//! The response cache: what may be kept ([`semantics`]), where it is kept ([`Cache`]), and who fetches what is
//! missing ([`flight`]).
//!
//! May depend on the plan's types; knows no connection and no clock.

pub mod content;
pub mod disk;
pub mod fill;
pub mod flight;
pub mod key;
pub mod object;
pub mod purge;
pub mod semantics;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use quick_cache::sync::Cache as Store;
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{OptionsBuilder, Weighter};
use tokio::sync::oneshot;

use self::content::PageFile;
use self::disk::Disk;
use self::flight::{Flight, Flights};
use self::object::{Entry, Object};
use self::purge::{Purges, Scope};
use self::semantics::Millis;
use self::semantics::range::Wanted;
use crate::config::plan;
use crate::model::CacheResult;

/// Bytes that a key takes besides its text.
const KEY_OVERHEAD: u64 = 160;
/// Bytes a stored response is taken to have on average, to size the table.
const USUAL_WEIGHT: u64 = 16 << 10;
/// How long a response is remembered not to be shareable.
const UNSHAREABLE_FOR: Millis = 60_000;
/// Accounts for what clients have stored. Clients whose hashes meet share one.
const ACCOUNTS: usize = 4_096;
/// Locks that writers take, by key.
const WRITERS: usize = 64;

/// Entries by key, the least useful evicted first.
type Memory = Store<Arc<str>, Arc<Entry>, Weigh, RandomState, Unwatched>;
type Unwatched = DefaultLifecycle<Arc<str>, Arc<Entry>>;

/// A cache of responses, shared by all workers.
#[derive(Debug)]
pub struct Cache {
    name: Arc<str>,
    store: Memory,
    /// Held while an entry is replaced by what was made of it.
    writers: [Mutex<()>; WRITERS],
    flights: Flights,
    purges: Mutex<Purges>,
    accounts: Box<[Arc<AtomicU64>]>,
    results: [AtomicU64; CacheResult::ALL.len()],
    /// For bodies that are kept in pages; none where there can be no such file.
    pages: OnceLock<Option<Arc<PageFile>>>,
    /// The disk tier, asked only when there is nothing in memory.
    disk: ArcSwapOption<Disk>,
}

/// What a purge did.
#[derive(Debug)]
pub struct Purged {
    /// URLs that it was about: those in memory, and the one it names if that is on disk only.
    pub urls: usize,
    /// Tells when it is on disk as well; dropped when it will never be.
    pub on_disk: Option<oneshot::Receiver<()>>,
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<Arc<str>, Arc<Entry>> for Weigh {
    fn weight(&self, key: &Arc<str>, entry: &Arc<Entry>) -> u64 {
        key.len() as u64 + KEY_OVERHEAD + entry.weight
    }
}

/// What is stored for a request.
#[derive(Debug)]
pub enum Found {
    /// A response that answers it, or its part.
    Match(Arc<Object>),
    /// Only responses to requests with other fields; how the newest selects.
    OtherVariant(Box<str>),
    /// Only a part of the response.
    Part(Arc<Object>),
    /// It is known that there is nothing to share.
    Unshareable,
    /// Nothing.
    Nothing,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: &plan::Cache) -> Self {
        // No entry may be heavier than a shard, so there are as few as let the largest in.
        let shards = (config.memory / config.max_object.saturating_mul(2).max(1)).clamp(1, 64);
        let shards = usize::try_from(shards).unwrap_or(1).next_power_of_two();
        let items = usize::try_from(config.memory / USUAL_WEIGHT).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(items)
            .weight_capacity(config.memory)
            .build();
        let (hasher, lifecycle) = (RandomState::new(), Unwatched::default());
        let store = match options {
            Ok(options) => Store::with_options(options, Weigh, hasher, lifecycle),
            // Only a missing option is an error.
            Err(_) => Store::with(items, config.memory, Weigh, hasher, lifecycle),
        };
        Self {
            name: Arc::clone(&config.name),
            store,
            writers: std::array::from_fn(|_| Mutex::new(())),
            flights: Flights::default(),
            purges: Mutex::default(),
            accounts: (0..ACCOUNTS).map(|_| Arc::default()).collect(),
            results: [const { AtomicU64::new(0) }; CacheResult::ALL.len()],
            pages: OnceLock::new(),
            disk: ArcSwapOption::empty(),
        }
    }

    /// Its name in the plan.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Follows a new plan.
    pub fn follow(self: &Arc<Self>, config: &plan::Cache) {
        if self.store.capacity() != config.memory {
            self.store.set_capacity(config.memory);
        }
        let former = self.disk.load_full();
        match (&former, &config.disk) {
            (None, None) => return,
            (Some(former), Some(config)) if former.follow(config) => return,
            _ => {}
        }
        let new = config.disk.as_ref();
        let new = new.map(|config| Disk::start(config, Arc::downgrade(self)));
        self.disk.store(new);
        if let Some(former) = former {
            former.close();
        }
    }

    /// Has what is on disk under `key` read into memory; none when there is nothing, or too much to be read.
    /// Worth asking only when memory has nothing.
    #[must_use]
    pub fn load(&self, key: &Arc<str>) -> Option<oneshot::Receiver<()>> {
        self.disk.load().as_ref()?.load(key)
    }

    /// Takes what `disk` has under `key` into memory, unless there is something by now.
    fn promote(&self, disk: &Disk, key: &Arc<str>) {
        let has = |entry: &Entry| !entry.variants.is_empty();
        if self.store.peek(&**key).is_some_and(|entry| has(&entry)) {
            return;
        }
        let read = disk.read(key);
        if read.is_empty() {
            return;
        }
        self.update(key, |former| {
            if has(former) {
                return former.clone();
            }
            let held = disk.still(key, read);
            if held.is_empty() {
                return former.clone();
            }
            Entry::of(held, self.most())
        });
    }

    /// What is stored under `key` for `request`.
    #[must_use]
    pub fn find(&self, key: &str, request: &HeaderMap, now: Millis) -> Found {
        let Some(entry) = self.store.get(key) else {
            return Found::Nothing;
        };
        let mut part = None;
        for object in &entry.variants {
            if !object.head.matches(request) {
                continue;
            }
            let Some((start, length)) = object.part else {
                return Found::Match(Arc::clone(object));
            };
            let end = start + object.body.len();
            match semantics::range::wanted(request, length) {
                Wanted::Part(first, last) if start <= first && last <= end => {
                    return Found::Match(Arc::clone(object));
                }
                _ => part = Some(object),
            }
        }
        match (part, entry.variants.first()) {
            (Some(part), _) => Found::Part(Arc::clone(part)),
            (None, Some(newest)) => Found::OtherVariant(newest.head.vary.selection(request)),
            (None, None) if entry.unshareable_until > now => Found::Unshareable,
            (None, None) => Found::Nothing,
        }
    }

    /// Moves the body of `object`, which is stored under `key` and asked for again, to where the kernel sends it from.
    pub fn settle(&self, key: &str, object: &Arc<Object>) {
        if let Some(body) = object.body.moved(&self.pages) {
            let moved = Arc::new(object.with_body(body));
            self.update(&key.into(), |former| {
                former.replacing(object, &moved, self.most())
            });
        }
    }

    /// Counts a request.
    pub fn count(&self, result: CacheResult) {
        if let Some(count) = self.results.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The flight for what `key` and `selection` stand for, or a new one to lead.
    ///
    /// # Errors
    /// When there is one already: that.
    pub fn lead(
        self: &Arc<Self>,
        key: &Arc<str>,
        selection: &str,
    ) -> Result<fill::Lead, Arc<Flight>> {
        let epoch = self.purges().epoch();
        match self.flights.join(format!("{key}\n\n{selection}")) {
            Ok(flight) => Err(flight),
            Err(listed) => Ok(fill::Lead::new(self, key, epoch, listed)),
        }
    }

    /// A flight that nobody can join.
    #[must_use]
    pub fn lead_alone(self: &Arc<Self>, key: &Arc<str>) -> fill::Lead {
        let epoch = self.purges().epoch();
        fill::Lead::new(self, key, epoch, flight::Listed::alone())
    }

    /// Drops, or makes stale (`soft`), what `scope` covers.
    pub fn purge(&self, scope: &Scope, soft: bool, now: Millis) -> Purged {
        let (held, on_disk) = {
            let mut purges = self.purges();
            purges.note(scope.clone());
            let disk = self.disk.load();
            let disk = disk.as_ref();
            let held = disk.is_some_and(|disk| disk.has(scope));
            let durably = |disk: &Arc<Disk>| disk.purge_durably(scope.clone(), soft.then_some(now));
            (held, disk.map(durably))
        };
        // What was found good to store before is stored once its writer is done.
        for writer in &self.writers {
            drop(writer.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Purged {
            urls: self.purge_memory(scope, soft, now).max(held.into()),
            on_disk,
        }
    }

    fn purge_memory(&self, scope: &Scope, soft: bool, now: Millis) -> usize {
        let stored = self.store.iter().filter(|(key, entry)| {
            let tagged = |object: &Arc<Object>| scope.covers(key, &object.head.tags);
            scope.covers(key, &[]) || entry.variants.iter().any(tagged)
        });
        let covered: Vec<Arc<str>> = stored.map(|(key, _)| key).collect();
        let mut purged = 0;
        for key in covered {
            let _writing = self.writing(&key);
            let Some(entry) = self.store.peek(&*key) else {
                continue;
            };
            purged += 1;
            let covers = |object: &Arc<Object>| scope.covers(&key, &object.head.tags);
            let left: Vec<Arc<Object>> = entry
                .variants
                .iter()
                .filter_map(|object| match (covers(object), soft) {
                    (false, _) => Some(Arc::clone(object)),
                    (true, true) => Some(Arc::new(
                        object.with_head(Arc::new(object.head.expired(now))),
                    )),
                    (true, false) => None,
                })
                .collect();
            if left.is_empty() {
                self.store.remove(&*key);
            } else {
                self.store
                    .insert(key, Arc::new(Entry::of(left, self.most())));
            }
        }
        purged
    }

    /// Drops what is stored under `key`, and when responses of one URL stand under several keys (`split`), what
    /// is stored under the others of `url`.
    pub fn invalidate(&self, url: String, key: &str, split: bool) {
        if split {
            self.purge(&Scope::Url(url), false, 0);
            return;
        }
        {
            let mut purges = self.purges();
            purges.note(Scope::Url(url.clone()));
            if let Some(disk) = &*self.disk.load() {
                disk.purge(Scope::Url(url), None);
            }
        }
        let _writing = self.writing(key);
        self.store.remove(key);
    }

    /// Drops what is on disk of `key`: the origin says that it does not hold.
    fn forget(&self, key: &str) {
        if let Some(disk) = &*self.disk.load() {
            disk.forget_url(key);
        }
    }

    /// Changes what is stored under `key`, if there is anything.
    fn update(&self, key: &Arc<str>, change: impl FnOnce(&Entry) -> Entry) {
        let _writing = self.writing(key);
        let former = self.store.peek(&**key).unwrap_or_default();
        let entry = change(&former);
        if entry.variants.is_empty() && entry.unshareable_until == 0 {
            self.store.remove(&**key);
        } else {
            self.store.insert(Arc::clone(key), Arc::new(entry));
        }
    }

    /// Bytes that all of one URL may take: more than that fits into no shard.
    fn most(&self) -> u64 {
        self.store.shard_capacity() / 10 * 9
    }

    fn writing(&self, key: &str) -> MutexGuard<'_, ()> {
        let shard = self.store.shard_index(key);
        let [first, ..] = &self.writers;
        let writer = self.writers.get(shard % WRITERS).unwrap_or(first);
        writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn purges(&self) -> MutexGuard<'_, Purges> {
        self.purges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, client: u64) -> Option<&Arc<AtomicU64>> {
        let accounts = u64::try_from(ACCOUNTS).unwrap_or(1);
        self.accounts.get(usize::try_from(client % accounts).ok()?)
    }

    /// Whether a client with this account has its share while others need room: the store is full, and what
    /// it asked for takes more than `share` of it.
    fn has_its_share(&self, account: &AtomicU64, share: f64) -> bool {
        let (used, capacity) = (self.store.weight(), self.store.capacity());
        let own = account.load(Ordering::Relaxed);
        let full = used >= capacity / 20 * 19;
        let others = used.saturating_sub(own) >= capacity / 20;
        full && others && as_ratio(own, capacity) > share
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more than 53 bits"
)]
fn as_ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

/// The caches in use, by name: they keep what they hold when the plan changes.
#[derive(Debug, Default)]
pub struct Caches(Mutex<HashMap<Arc<str>, Arc<Cache>>>);

impl Caches {
    /// The caches of a plan, in its order. One that is in it no more is let go.
    pub fn apply(&self, plan: &[Arc<plan::Cache>]) -> Vec<Arc<Cache>> {
        let mut caches = self.lock();
        caches.retain(|name, cache| {
            let stays = plan.iter().any(|config| config.name == *name);
            if let (false, Some(disk)) = (stays, &*cache.disk.load()) {
                disk.close();
            }
            stays
        });
        let wanted = plan.iter().map(|config| {
            let cache = caches.entry(Arc::clone(&config.name));
            let cache = cache.or_insert_with(|| Arc::new(Cache::new(config)));
            cache.follow(config);
            Arc::clone(cache)
        });
        wanted.collect()
    }

    /// Ends the disk tiers: waits at most so long for each to write what was stored.
    pub fn close(&self, patience: Duration) {
        let disks: Vec<_> = self.lock().values().map(|it| it.disk.load_full()).collect();
        let disks = || disks.iter().flatten();
        disks().for_each(|disk| disk.close());
        disks().for_each(|disk| disk.wait_closed(patience));
    }

    /// Every cache, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Cache>> {
        let mut all: Vec<Arc<Cache>> = self.lock().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Cache>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
