//! The disk tier: what is stored in memory is written behind, and found again after a restart.
//!
//! Responses stand one behind the other in segments, which are deleted in the order they were begun (`log`); an
//! index in memory says where, and is made anew from the segments at the start (`index`, `record`). What is
//! torn or damaged fits no checksum and is a miss. Purges touch no record: they are kept as rules which every record
//! is held to when it is read (`rules`), and in a journal (`journal`), so that nothing purged comes back.
//!
//! Two threads of its own do all that waits for a disk: one writes (`keeper`), one reads. The workers only touch
//! the index and the bounded lists of what is to be done (`work`), and those only when memory had nothing.
//!
//! What a crash may undo is the newest moment: a response that was not yet written is gone, and the one it replaced
//! may be there again. A purge that was acknowledged is never undone; what an unsafe request invalidated is written
//! at once, but the request's answer does not wait for that.

mod codec;
mod index;
mod journal;
mod keeper;
mod log;
mod record;
mod rules;
#[cfg(test)]
mod tests;
mod work;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use self::index::{At, Index, Place, Slot};
use self::journal::Journal;
use self::log::Log;
use self::rules::{Judged, Marks, Rules, of_run};
use self::work::{Put, Ruling, Work};
use super::Cache;
use super::key;
use super::object::{Head, Object};
use super::purge::Scope;
use super::semantics::Millis;
use crate::config::plan::CacheDisk;

/// How the tier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It reads what is there, or waits for another process to leave the directory.
    Opening,
    /// It is in use.
    On,
    /// The directory cannot be used; it is tried again.
    Failed,
    /// It is in use no more.
    Closed,
}

impl State {
    const ALL: [Self; 4] = [Self::Opening, Self::On, Self::Failed, Self::Closed];

    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::On => "on",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

/// What happened so far.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    loaded: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    corrupt: AtomicU64,
    evicted: AtomicU64,
}

/// Names of what is counted, in the order of [`View::events`].
pub const EVENTS: [&str; 6] = [
    "loaded", "written", "dropped", "failed", "corrupt", "evicted",
];

/// The tier at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// How it is.
    pub state: State,
    /// Bytes it takes.
    pub bytes: u64,
    /// Bytes it may take.
    pub capacity: u64,
    /// Responses in it.
    pub records: usize,
    /// What happened so far, in the order of [`EVENTS`].
    pub events: [u64; EVENTS.len()],
}

/// The purges, and whether the journal has them.
#[derive(Debug, Default)]
struct Ruled {
    rules: Rules,
    /// Whether there is a journal, which each further purge is added to.
    open: bool,
    run: u64,
}

/// A disk tier.
///
/// Locks are taken in this order: the rules, the index, the work.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    size: AtomicU64,
    hasher: RandomState,
    index: Mutex<Index>,
    ruled: Mutex<Ruled>,
    work: Work,
    state: AtomicU8,
    numbers: AtomicU64,
    counts: Counts,
}

/// A response that was read: where, the newest purge when it was stored, and itself.
#[derive(Debug)]
pub(super) struct Read(Place, u64, Object);

impl Disk {
    fn new(config: &CacheDisk) -> Self {
        Self {
            path: config.path.clone(),
            size: AtomicU64::new(config.size),
            hasher: RandomState::new(),
            index: Mutex::default(),
            ruled: Mutex::default(),
            work: Work::default(),
            state: AtomicU8::new(State::Opening as u8),
            numbers: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }

    /// Starts the tier of `cache`. It is of use once it is open.
    pub(super) fn start(config: &CacheDisk, cache: Weak<Cache>) -> Arc<Self> {
        let disk = Arc::new(Self::new(config));
        let (keeper, reader) = (Arc::clone(&disk), Arc::clone(&disk));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(run).map(drop)
        };
        let started = spawn("cache-write", Box::new(move || keeper::keep(&keeper)))
            .and_then(|()| spawn("cache-read", Box::new(move || reader.read_for(&cache))));
        if let Err(error) = started {
            tracing::error!("the cache's disk tier cannot start: {error}");
            disk.close();
            disk.fails();
        }
        disk
    }

    /// Follows a new plan, if it is about the same directory.
    pub(super) fn follow(&self, config: &CacheDisk) -> bool {
        if self.size.swap(config.size, Ordering::Relaxed) != config.size {
            self.work.resized();
        }
        self.path == config.path
    }

    /// Ends it once everything is written that was stored.
    pub(super) fn close(&self) {
        self.work.close();
    }

    /// Waits for the end, at most so long.
    pub(super) fn wait_closed(&self, patience: Duration) {
        self.work.wait_closed(patience);
    }

    /// How it is.
    pub(super) fn state(&self) -> State {
        let state = self.state.load(Ordering::Acquire);
        let found = State::ALL.get(usize::from(state));
        found.copied().unwrap_or(State::Closed)
    }

    /// What it is like now.
    pub(super) fn view(&self) -> View {
        let counts = &self.counts;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        View {
            state: self.state(),
            bytes: count(&counts.bytes),
            capacity: count(&self.size),
            records: self.index().len(),
            events: [
                &counts.loaded,
                &counts.written,
                &counts.dropped,
                &counts.failed,
                &counts.corrupt,
                &counts.evicted,
            ]
            .map(count),
        }
    }

    /// Has `object` written under `key`.
    pub(super) fn put(&self, key: &Arc<str>, object: &Arc<Object>) {
        let slot = self.slot(key, &object.head, object.part);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let failed = {
            let ruled = self.ruled();
            let mut index = self.index();
            if matches!(self.state(), State::Failed | State::Closed) {
                return;
            }
            // Before it is open nobody knows what there is.
            let replaced = index.put(slot, At::Queued(number)) || !ruled.open;
            let put = Put {
                key: Arc::clone(key),
                object: Arc::clone(object),
                slot,
                number,
                epoch: ruled.rules.epoch(),
                replaced,
            };
            let failed = self.work.put(put).err();
            if failed.is_some() {
                index.arrived(slot, number, None);
            }
            failed
        };
        if let Some(put) = failed {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            if put.replaced {
                // The one before it must not come back.
                self.purge(url_scope(key), None);
            }
        }
    }

    /// Purges what `scope` covers, or makes it stale as of `soft`.
    pub(super) fn purge(&self, scope: Scope, soft: Option<Millis>) {
        self.rule(scope, soft, None);
    }

    /// The same; tells when it is on disk, and is dropped when it will never be.
    pub(super) fn purge_durably(
        &self,
        scope: Scope,
        soft: Option<Millis>,
    ) -> oneshot::Receiver<()> {
        let (done, waits) = oneshot::channel();
        self.rule(scope, soft, Some(done));
        waits
    }

    /// Whether there is anything of the URL that `scope` names.
    pub(super) fn has(&self, scope: &Scope) -> bool {
        let Scope::Url(url) = scope else { return false };
        self.index().has(self.hasher.hash_one(url.as_str()))
    }

    /// Purges all of a key's URL, if there is anything.
    pub(super) fn forget_url(&self, key: &str) {
        let url = self.hasher.hash_one(key::url_of(key));
        if self.index().has(url) {
            self.purge(url_scope(key), None);
        }
    }

    fn rule(&self, scope: Scope, soft: Option<Millis>, done: Option<oneshot::Sender<()>>) {
        let mut ruled = self.ruled();
        let mut has = true;
        if let Scope::Url(url) = &scope {
            let url = self.hasher.hash_one(url.as_str());
            let mut index = self.index();
            has = if soft.is_none() {
                index.remove(url)
            } else {
                index.has(url)
            };
        }
        if ruled.open && !has {
            // There is nothing that could come back.
            let _waits = done.map(|done| done.send(()));
            return;
        }
        let epoch = ruled.rules.note(&scope, soft);
        let failed = self.state() == State::Failed;
        if ruled.open || (done.is_some() && !failed) {
            self.work.rule(Ruling {
                scope,
                marks: Marks::of(epoch, soft),
                done,
            });
        }
    }

    /// Has what there is under `key` read into memory; none when there is nothing, or too much to be read.
    pub(super) fn load(&self, key: &Arc<str>) -> Option<oneshot::Receiver<()>> {
        if self.state() != State::On {
            return None;
        }
        let (url, of_key) = self.hashes(key);
        if self.index().find(url, of_key).is_empty() {
            return None;
        }
        let waits = self.work.load(key);
        if waits.is_none() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        waits
    }

    /// The responses under `key`, the newest first.
    pub(super) fn read(&self, key: &str) -> Vec<Read> {
        let (url, of_key) = self.hashes(key);
        let places = self.index().find(url, of_key);
        let mut read = Vec::with_capacity(places.len());
        for place in places {
            match self.read_at(place) {
                Ok(Some((found, epoch, object))) if *found == *key => {
                    read.push(Read(place, epoch, object));
                }
                // Another key of the same hash.
                Ok(Some(_)) => {}
                // Deleted meanwhile, to make room.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                damaged => {
                    let count = match damaged {
                        Ok(_) => &self.counts.corrupt,
                        Err(_) => &self.counts.failed,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    // Whatever else there is of it may be as bad.
                    self.forget_url(key);
                    return Vec::new();
                }
            }
        }
        read
    }

    fn read_at(&self, place: Place) -> io::Result<Option<(Arc<str>, u64, Object)>> {
        Ok(record::object(log::read(&self.path, place)?))
    }

    /// Those of `read` that still hold, as the purges have left them.
    pub(super) fn still(&self, key: &str, read: Vec<Read>) -> Vec<Arc<Object>> {
        let (url, of_key) = self.hashes(key);
        let ruled = self.ruled();
        let places = self.index().find(url, of_key);
        let read = read.into_iter();
        let read = read.filter(|Read(place, ..)| places.contains(place));
        let held = read.filter_map(|Read(_, epoch, object)| {
            match ruled.rules.judge(epoch, key, &object.head.tags) {
                Judged::Kept => Some(object),
                Judged::Stale(at) => Some(object.with_head(Arc::new(object.head.expired(at)))),
                Judged::Purged => None,
            }
        });
        held.map(|object| {
            self.counts.loaded.fetch_add(1, Ordering::Relaxed);
            Arc::new(object)
        })
        .collect()
    }

    /// Reads for whoever waits, until the end.
    fn read_for(&self, cache: &Weak<Cache>) {
        while let Some(load) = self.work.next_load() {
            if let Some(cache) = cache.upgrade() {
                cache.promote(self, &load.key);
            }
            // Who does not wait any more need not know.
            let _gone = load.done.send(());
        }
    }

    /// Begins a run with what was found: from now on every purge goes to the journal.
    fn begins(&self, run: u64, former: Rules, log: &Log, found: Index) -> io::Result<Journal> {
        let (rules, rulings) = {
            let mut ruled = self.ruled();
            ruled.rules.rebase(former, run);
            (ruled.open, ruled.run) = (true, run);
            self.index().adopt(found);
            (
                self.pruned(&mut ruled, log.oldest()),
                self.work.take_rulings(),
            )
        };
        let journal = Journal::begin(&self.path, run, &rules)?;
        for done in rulings.into_iter().filter_map(|ruling| ruling.done) {
            // Who does not wait any more need not know.
            let _gone = done.send(());
        }
        Ok(journal)
    }

    /// The purges that are still needed, when the oldest record is of `oldest`.
    fn prune(&self, oldest: Option<u64>) -> Rules {
        self.pruned(&mut self.ruled(), oldest)
    }

    fn pruned(&self, ruled: &mut Ruled, oldest: Option<u64>) -> Rules {
        let run = ruled.run;
        let waiting = self.work.oldest(|epoch| of_run(epoch, run));
        let oldest = oldest.into_iter().chain(waiting).min();
        let oldest = oldest.unwrap_or_else(|| ruled.rules.epoch());
        ruled.rules.prune(oldest);
        ruled.rules.clone()
    }

    /// Everything on disk is gone.
    fn forget(&self) -> Rules {
        let mut ruled = self.ruled();
        ruled.rules.forget();
        ruled.rules.clone()
    }

    /// The directory cannot be used: nothing in it counts any more.
    fn fails(&self) {
        self.enter(State::Failed);
        let mut ruled = self.ruled();
        *ruled = Ruled::default();
        ruled.rules.forget();
        *self.index() = Index::default();
        self.work.clear();
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.store(0, Ordering::Relaxed);
    }

    fn enter(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
        if state == State::Closed {
            self.work.closed();
        }
    }

    fn hashes(&self, key: &str) -> (u64, u64) {
        let url = self.hasher.hash_one(key::url_of(key));
        (url, self.hasher.hash_one(key))
    }

    fn slot(&self, key: &str, head: &Head, part: Option<(u64, u64)>) -> Slot {
        let (url, key) = self.hashes(key);
        Slot {
            url,
            key,
            variant: self.hasher.hash_one((&head.vary, &head.selection, part)),
            part: part.is_some(),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ruled(&self) -> MutexGuard<'_, Ruled> {
        self.ruled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn url_scope(key: &str) -> Scope {
    Scope::Url(key::url_of(key).to_owned())
}
