//! Writes the ledger from a thread of its own.
//!
//! A database that is locked, away or on a full disk delays nobody: what cannot be written is kept, put together with
//! what comes after it, and tried again; beyond the bound clients are put together, and what then still finds no room is
//! dropped and counted. Before that, a second thread puts each delta into the journal, however long
//! the database lets the first one wait. Depends on the store.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::database::Result;
use super::journal::{self, Journal};
use super::rollup::{Delta, Row};
use super::store::{Keep, Place, Store};
use super::sums::Sums;
use crate::clock::{Instant, SystemClock};

/// Deltas on their way to the writer.
const MAX_DELTAS: usize = 64;
/// Rows kept while they cannot be written.
const MAX_PENDING: usize = 200_000;
/// The first pause after a failure, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How often what is too old is taken out.
const PRUNE: Duration = Duration::from_secs(600);

/// How the ledger fares.
#[derive(Debug, Default)]
pub struct Health {
    pending: AtomicUsize,
    dropped: AtomicU64,
    folded: AtomicU64,
    squeezed: AtomicU64,
    unjournaled: AtomicU64,
    errors: AtomicU64,
    written: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Health {
    /// Rows that wait to be written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Rows that were lost.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Exchanges whose client was put together with others.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.folded.load(Ordering::Relaxed)
    }

    /// Rows that were put together with others: while the database was away for long, or in a ledger in memory.
    #[must_use]
    pub fn squeezed(&self) -> u64 {
        self.squeezed.load(Ordering::Relaxed)
    }

    /// Rows that were in memory only until they were written.
    #[must_use]
    pub fn unjournaled(&self) -> u64 {
        self.unjournaled.load(Ordering::Relaxed)
    }

    /// Attempts to write that failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// When something was written last, in seconds since the Unix epoch; 0: never.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Why the last attempt failed; none if it did not.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn count_folded(&self) {
        self.folded.fetch_add(1, Ordering::Relaxed);
    }

    fn count_squeezed(&self, rows: u64) {
        self.squeezed.fetch_add(rows, Ordering::Relaxed);
    }

    fn count_unjournaled(&self, rows: usize) -> bool {
        self.unjournaled.fetch_add(rows as u64, Ordering::Relaxed) == 0
    }

    pub(super) fn count_dropped(&self, rows: usize) {
        self.dropped.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Whether the last attempt wrote something, and when.
    fn fared(&self, result: &Result<bool>, now: u64) {
        let error = match result {
            Ok(wrote) => {
                if *wrote {
                    self.written.store(now, Ordering::Relaxed);
                }
                None
            }
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                Some(error.to_string())
            }
        };
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts to write to `place`, by way of a journal in `directory`; where deltas are handed to.
    ///
    /// # Errors
    /// When the system refuses a thread. A ledger that cannot be opened is no error: it is tried again.
    pub fn start(
        place: Place,
        keep: Keep,
        health: Arc<Health>,
        directory: Option<&Path>,
    ) -> io::Result<(Self, SyncSender<Delta>)> {
        // By chance: two that began at the same moment may write to one database.
        let id = RandomState::new().hash_one(SystemClock.unix_micros()) >> 1;
        let journal = directory.map(|directory| Journal::new(directory, id));
        let left = directory.map(Path::to_owned);
        let own = journal.as_ref().map(|journal| journal.path().to_owned());
        let (sender, deltas) = sync_channel(MAX_DELTAS);
        let (numbered, to_write) = sync_channel(MAX_DELTAS);
        let written = Arc::new(AtomicU64::new(0));
        let mut ledger = Ledger {
            place,
            keep,
            health: Arc::clone(&health),
            store: None,
            id,
            sequence: 0,
            newest: 0,
            written: Arc::clone(&written),
            left,
            trying: Vec::new(),
            pending: HashMap::new(),
            pause: FIRST,
            again: Instant::ZERO,
            pruned: None,
        };
        let thread = std::thread::Builder::new()
            .name("usage".into())
            .spawn(move || {
                let everything = ledger.run(&to_write);
                if let Some(own) = own.filter(|_| everything) {
                    journal::remove(&own);
                }
            })?;
        std::thread::Builder::new()
            .name("usage-journal".into())
            .spawn(move || number(journal, &deltas, &numbered, &health, &written))?;
        Ok((Self { thread }, sender))
    }

    /// Whether everything it was handed is written or given up; true once nobody can hand it anything.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Minute, client, route and upstream.
type Key = (u64, Arc<str>, Arc<str>, Arc<str>);

struct Ledger {
    place: Place,
    keep: Keep,
    health: Arc<Health>,
    store: Option<Store>,
    /// What this process calls itself.
    id: u64,
    /// Of the last delta in `trying`, which has all before it that are not written, and of the last in `pending`.
    sequence: u64,
    newest: u64,
    /// Everything up to this number is in the database.
    written: Arc<AtomicU64>,
    /// Where dead processes left what they could not write.
    left: Option<PathBuf>,
    /// What is being written: the same, under the same number, until that is known to have worked.
    trying: Delta,
    /// What came since.
    pending: HashMap<Key, Sums>,
    pause: Duration,
    again: Instant,
    pruned: Option<Instant>,
}

/// A delta and its number.
type Numbered = (u64, Delta);

/// Numbers deltas, and puts them into the journal before they are written.
fn number(
    mut journal: Option<Journal>,
    deltas: &Receiver<Delta>,
    to_write: &SyncSender<Numbered>,
    health: &Health,
    written: &AtomicU64,
) {
    for (sequence, delta) in (1..).zip(deltas) {
        if let Some(journal) = &mut journal {
            let kept = journal.append(sequence, &delta, written.load(Ordering::Acquire));
            if let Err(error) = kept
                && health.count_unjournaled(delta.len())
            {
                let path = journal.path().display();
                tracing::warn!(%path, %error, "the usage ledger's journal cannot be written");
            }
        }
        if let Err(TrySendError::Full((_, delta)) | TrySendError::Disconnected((_, delta))) =
            to_write.try_send((sequence, delta))
        {
            // The writer takes everything into its own, bounded memory, unless one write of it hangs for minutes.
            health.count_dropped(delta.len());
        }
    }
}

impl Ledger {
    /// Whether everything was written.
    fn run(&mut self, deltas: &Receiver<Numbered>) -> bool {
        // Opened at once, so that reports work and a mistake shows before there is traffic.
        self.write();
        loop {
            match deltas.recv_timeout(FIRST) {
                Ok((sequence, delta)) => self.take(sequence, delta),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if SystemClock.now() >= self.again {
                self.write();
            }
        }
        self.write();
        let left = self.trying.len() + self.pending.len();
        if left > 0 {
            let error = self.health.error().unwrap_or_default();
            if self.left.is_some() && self.health.unjournaled() == 0 {
                tracing::warn!(rows = left, %error, "the end of the usage ledger waits in its journal for the next start");
            } else {
                self.health.count_dropped(left);
                tracing::warn!(rows = left, %error, "the end of the usage ledger could not be written");
            }
        }
        left == 0
    }

    fn take(&mut self, sequence: u64, delta: Delta) {
        self.newest = sequence;
        for row in delta {
            let key = (row.minute, row.client, row.route, row.upstream);
            if self.pending.len() >= MAX_PENDING && !self.pending.contains_key(&key) {
                let (minute, _, route, upstream) = key;
                let other = (minute, Arc::from(super::rollup::OTHER), route, upstream);
                if self.pending.len() >= MAX_PENDING * 2 && !self.pending.contains_key(&other) {
                    self.health.count_dropped(1);
                    continue;
                }
                self.health.count_squeezed(1);
                self.pending.entry(other).or_default().add(&row.sums);
                continue;
            }
            self.pending.entry(key).or_default().add(&row.sums);
        }
        let waiting = self.trying.len() + self.pending.len();
        self.health.pending.store(waiting, Ordering::Relaxed);
    }

    /// Writes what there is, if that can be done.
    fn write(&mut self) {
        let result = self.try_write();
        let now = SystemClock.now();
        if result.is_ok() {
            self.pause = FIRST;
            self.again = Instant::ZERO;
        } else {
            if self.health.error().is_none() {
                let error = result.as_ref().err();
                tracing::warn!(
                    ?error,
                    "the usage ledger cannot be written; it is tried again"
                );
            }
            // A connection that failed may be what is wrong; but a ledger in memory lives in its connection.
            if !matches!(self.place, Place::Memory(_)) {
                self.store = None;
            }
            self.again = now.after(self.pause);
            self.pause = (self.pause * 2).min(LONGEST);
        }
        self.health
            .fared(&result, SystemClock.unix_micros() / 1_000_000);
        let waiting = self.trying.len() + self.pending.len();
        self.health.pending.store(waiting, Ordering::Relaxed);
    }

    /// Whether anything was written.
    fn try_write(&mut self) -> Result<bool> {
        let mut wrote = false;
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(Store::open(&self.place, self.keep)?),
        };
        loop {
            if self.trying.is_empty() {
                if self.pending.is_empty() {
                    break;
                }
                self.sequence = self.newest;
                let pending = std::mem::take(&mut self.pending).into_iter();
                let row = |((minute, client, route, upstream), sums)| Row {
                    minute,
                    client,
                    route,
                    upstream,
                    sums,
                };
                self.trying = pending.map(row).collect();
                // In the order of the tables' keys, so that neighbours are written together.
                self.trying.sort_unstable_by(|one, other| {
                    (one.minute, &one.client).cmp(&(other.minute, &other.client))
                });
            }
            let now = SystemClock.unix_micros() / 1_000_000;
            store.write(self.id, self.sequence, now, &self.trying)?;
            self.trying.clear();
            self.written.store(self.sequence, Ordering::Release);
            wrote = true;
        }
        let now = SystemClock.now();
        if self.pruned.is_none_or(|last| now.since(last) >= PRUNE) {
            if let Some(left) = &self.left {
                let now = SystemClock.unix_micros() / 1_000_000;
                let too_old = journal::replay(left, |writer, sequence, delta| {
                    wrote = true;
                    store.write(writer, sequence, now, delta)
                })?;
                self.health.count_dropped(too_old);
            }
            store.prune(SystemClock.unix_micros() / 1_000_000)?;
            self.pruned = Some(now);
        }
        self.health.count_squeezed(store.take_squeezed());
        Ok(wrote)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::plan::Secret;

    #[test]
    fn while_a_database_hangs_what_comes_is_journaled_all_the_same() {
        // Takes the connection and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let url = format!("postgres://tidegate@127.0.0.1:{port}/ledger?sslmode=disable");
        let place = Place::Postgres(Secret::new(url));
        let keep = Keep {
            minutes: PRUNE,
            hours: PRUNE,
            days: PRUNE,
        };
        let directory = tempfile::tempdir().unwrap();
        let health = Arc::new(Health::default());
        let (writer, deltas) =
            Writer::start(place, keep, Arc::clone(&health), Some(directory.path())).unwrap();
        // It has begun to write, and waits.
        let (_connection, _) = silent.accept().unwrap();
        let row = |minute| Row {
            minute,
            client: "a".into(),
            route: "".into(),
            upstream: "".into(),
            sums: Sums::default(),
        };
        for minute in 1..=3 {
            deltas.send(vec![row(minute)]).unwrap();
        }
        let kept = || {
            let journal = std::fs::read_dir(directory.path()).unwrap().next();
            let path = journal.map(|entry| entry.unwrap().path());
            path.map_or(0, |path| journal::rows_in(&path))
        };
        while kept() < 3 {
            std::thread::yield_now();
        }
        assert!(!writer.is_finished());
        assert_eq!((health.unjournaled(), health.dropped()), (0, 0));
    }
}
