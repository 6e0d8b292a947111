//! The thread that writes: it opens the directory, finds again what is there, and then writes what is stored and
//! purged. Nobody waits for it but who wants to know that a purge is on disk.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::index::{At, Index};
use super::journal::{self, Former, Journal};
use super::log::{self, Log};
use super::work::{Next, Put, Ruling};
use super::{Disk, State, record};

/// How long until the directory is tried again: while another process holds it, and after it failed.
const HELD: Duration = Duration::from_millis(100);
const FAILED: Duration = Duration::from_secs(10);
/// Records there may be, so that the index is bounded.
const MAX_RECORDS: usize = 1 << 20;

/// Keeps `disk` until it is closed.
pub(super) fn keep(disk: &Disk) {
    let mut anew = false;
    let mut told = false;
    while !disk.work.is_closing() {
        match Keeper::open(disk, anew).and_then(|keeper| keeper.map(Keeper::serve).transpose()) {
            Ok(Some(())) => break,
            Ok(None) => disk.work.pause(HELD),
            Err(error) => {
                disk.fails();
                if !std::mem::replace(&mut told, true) {
                    let path = disk.path.display();
                    tracing::error!(
                        "the cache's disk tier {path} cannot be used, and is tried again: {error}"
                    );
                }
                // What is stored meanwhile is not there.
                anew = true;
                disk.work.pause(FAILED);
            }
        }
    }
    disk.enter(State::Closed);
}

#[derive(Debug)]
struct Keeper<'a> {
    disk: &'a Disk,
    log: Log,
    journal: Journal,
    run: u64,
    /// Whether the last write failed.
    fails: bool,
    /// Locked, so that no other process writes here.
    _lock: File,
}

impl<'a> Keeper<'a> {
    /// Opens the directory, with nothing in it if `anew`; none while another process has it.
    fn open(disk: &'a Disk, anew: bool) -> io::Result<Option<Self>> {
        let directory = &*disk.path;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let (run, former) = match (journal::read(directory)?, anew) {
            (Former::Run(run, rules), false) => (run, rules),
            (former, _) => {
                if matches!(former, Former::Damaged) {
                    disk.counts.corrupt.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        "the purge journal in {} is damaged: the disk tier begins anew",
                        directory.display()
                    );
                }
                log::wipe(directory)?;
                let run = match former {
                    Former::Run(run, _) => run,
                    Former::Damaged | Former::Missing => 0,
                };
                (run, super::rules::Rules::default())
            }
        };
        let mut index = Index::default();
        let mut dropped = 0_u64;
        let log = Log::open(
            directory,
            |stored, place| {
                let slot = disk.slot(&stored.key, &stored.head, stored.part);
                index.put(slot, At::Place(place));
                slot.url
            },
            |_| dropped += 1,
        )?;
        disk.counts.corrupt.fetch_add(dropped, Ordering::Relaxed);
        let run = run + 1;
        let journal = disk.begins(run, former, &log, index)?;
        let mut keeper = Self {
            disk,
            log,
            journal,
            run,
            fails: false,
            _lock: lock,
        };
        keeper.trim(0);
        keeper.tell();
        disk.enter(State::On);
        Ok(Some(keeper))
    }

    /// Writes what is to be written, until the end.
    ///
    /// # Errors
    /// When a purge cannot be written, nor what it purges be deleted.
    fn serve(mut self) -> io::Result<()> {
        loop {
            match self.disk.work.next() {
                Next::Rulings(rulings) => self.rule(rulings)?,
                Next::Put(put) => self.put(put),
                Next::Resized => self.trim(0),
                Next::Closing => return Ok(()),
            }
            self.tell();
        }
    }

    /// Says how much there is.
    fn tell(&self) {
        let bytes = &self.disk.counts.bytes;
        bytes.store(self.log.total(), Ordering::Relaxed);
    }

    fn rule(&mut self, rulings: Vec<Ruling>) -> io::Result<()> {
        let durable = rulings.iter().any(|ruling| ruling.done.is_some());
        let purges = rulings.iter().map(|ruling| (&ruling.scope, ruling.marks));
        let mut written = self.journal.add(purges, durable);
        if written.is_ok() && self.journal.is_long() {
            written = self.shorten();
        }
        if let Err(error) = written {
            // Without anything on disk there is nothing that could come back.
            let path = self.disk.path.display();
            tracing::error!(
                "purges cannot be written to {path}: the disk tier begins anew: {error}"
            );
            self.empty()?;
        }
        for done in rulings.into_iter().filter_map(|ruling| ruling.done) {
            // Who does not wait any more need not know.
            let _gone = done.send(());
        }
        Ok(())
    }

    fn shorten(&mut self) -> io::Result<()> {
        let directory = self.journal.directory();
        // What was deleted must not come back without what it was purged by.
        File::open(directory)?.sync_all()?;
        let rules = self.disk.prune(self.log.oldest());
        self.journal = Journal::begin(directory, self.run, &rules)?;
        Ok(())
    }

    /// Deletes everything.
    fn empty(&mut self) -> io::Result<()> {
        let directory = self.disk.path.clone();
        while let Some((id, urls)) = self.log.evict()? {
            self.disk.index().remove_segment(id, &urls);
        }
        log::wipe(&directory)?;
        let rules = self.disk.forget();
        self.journal = Journal::begin(&directory, self.run, &rules)?;
        Ok(())
    }

    fn put(&mut self, put: Put) {
        let Put { slot, number, .. } = put;
        let counts = &self.disk.counts;
        if !self.disk.index().is_queued(slot, number) {
            // Purged or replaced meanwhile.
            return;
        }
        let place = match self.append(&put) {
            Ok(Some(place)) => {
                counts.written.fetch_add(1, Ordering::Relaxed);
                self.fails = false;
                Some(place)
            }
            Ok(None) => {
                counts.dropped.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(error) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.fails, true) {
                    let path = self.disk.path.display();
                    tracing::error!("a response cannot be written to {path}: {error}");
                }
                None
            }
        };
        self.disk.index().arrived(slot, number, place);
        if place.is_none() && put.replaced {
            // The one before it must not come back.
            self.disk.forget_url(&put.key);
        }
    }

    /// Writes a response; none when it is too large.
    fn append(&mut self, put: &Put) -> io::Result<Option<super::index::Place>> {
        let epoch = super::rules::of_run(put.epoch, self.run);
        let body = put.object.body.read()?;
        let Some(head) = record::encode(&put.key, &put.object, &body, epoch) else {
            return Ok(None);
        };
        let parts = (&*head, &*body);
        let length = (parts.0.len() + parts.1.len()) as u64;
        let size = self.disk.size.load(Ordering::Relaxed);
        if length > size / 4 {
            return Ok(None);
        }
        self.trim(length);
        let of = (put.slot.url, epoch);
        match self.log.append(parts, of, size) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                // Others fill the disk: make do with less.
                self.evict();
                self.log.append(parts, of, size).map(Some)
            }
            written => written.map(Some),
        }
    }

    /// Makes room for so many more bytes.
    fn trim(&mut self, more: u64) {
        let size = self.disk.size.load(Ordering::Relaxed);
        while self.log.total().saturating_add(more) > size || self.disk.index().len() > MAX_RECORDS
        {
            if !self.evict() {
                break;
            }
        }
    }

    /// Deletes the oldest segment, if there is one.
    fn evict(&mut self) -> bool {
        match self.log.evict() {
            Ok(None) => false,
            Ok(Some((id, urls))) => {
                self.disk.index().remove_segment(id, &urls);
                self.disk.counts.evicted.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(_) => {
                self.disk.counts.failed.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}
