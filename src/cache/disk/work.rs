//! What is to be done for the disk, by whom and in which order. Bounded: what finds no room is not done.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::index::Slot;
use super::rules::Marks;
use crate::cache::object::Object;
use crate::cache::purge::Scope;

/// Responses that may wait to be written, and their bytes.
const MAX_PUTS: usize = 4_096;
const MAX_BYTES: u64 = 64 << 20;
/// Responses that may wait to be read.
const MAX_LOADS: usize = 1_024;

/// A response to be written.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) key: Arc<str>,
    pub(super) object: Arc<Object>,
    pub(super) slot: Slot,
    pub(super) number: u64,
    pub(super) epoch: u64,
    /// Whether there may be another on disk that it replaces.
    pub(super) replaced: bool,
}

/// A purge to be written.
#[derive(Debug)]
pub(super) struct Ruling {
    pub(super) scope: Scope,
    pub(super) marks: Marks,
    /// Who waits for it.
    pub(super) done: Option<oneshot::Sender<()>>,
}

/// A key whose responses are to be read into memory.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) key: Arc<str>,
    pub(super) done: oneshot::Sender<()>,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Purges come first.
    Rulings(Vec<Ruling>),
    /// The bound changed.
    Resized,
    Put(Put),
    /// There is nothing more, and never will be.
    Closing,
}

#[derive(Debug, Default)]
struct Lists {
    rulings: Vec<Ruling>,
    puts: VecDeque<Put>,
    bytes: u64,
    loads: VecDeque<Load>,
    resized: bool,
    closing: bool,
    closed: bool,
}

/// The work, and whom to wake for it.
#[derive(Debug, Default)]
pub(super) struct Work {
    lists: Mutex<Lists>,
    writer: Condvar,
    reader: Condvar,
    end: Condvar,
}

impl Work {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a response to be written, if there is room.
    ///
    /// # Errors
    /// When there is none: the response.
    pub(super) fn put(&self, put: Put) -> Result<(), Put> {
        let mut lists = self.lists();
        let weight = put.object.weight();
        if lists.closing || lists.puts.len() >= MAX_PUTS || lists.bytes + weight > MAX_BYTES {
            return Err(put);
        }
        lists.bytes += weight;
        lists.puts.push_back(put);
        drop(lists);
        self.writer.notify_one();
        Ok(())
    }

    /// Adds a purge; it is dropped when nobody writes any more.
    pub(super) fn rule(&self, ruling: Ruling) {
        let mut lists = self.lists();
        if lists.closed {
            return;
        }
        lists.rulings.push(ruling);
        drop(lists);
        self.writer.notify_one();
    }

    /// Adds a key to be read; none when there is no room.
    pub(super) fn load(&self, key: &Arc<str>) -> Option<oneshot::Receiver<()>> {
        let mut lists = self.lists();
        if lists.closing || lists.loads.len() >= MAX_LOADS {
            return None;
        }
        let (done, waits) = oneshot::channel();
        let key = Arc::clone(key);
        lists.loads.push_back(Load { key, done });
        drop(lists);
        self.reader.notify_one();
        Some(waits)
    }

    pub(super) fn resized(&self) {
        self.lists().resized = true;
        self.writer.notify_one();
    }

    /// Nothing new is taken.
    pub(super) fn close(&self) {
        self.lists().closing = true;
        self.writer.notify_all();
        self.reader.notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lists().closing
    }

    /// The writer is done.
    pub(super) fn closed(&self) {
        let mut lists = self.lists();
        lists.closed = true;
        lists.rulings.clear();
        drop(lists);
        self.end.notify_all();
    }

    /// Waits until the writer is done, at most so long.
    pub(super) fn wait_closed(&self, patience: Duration) {
        let lists = self.lists();
        let _waited = self
            .end
            .wait_timeout_while(lists, patience, |lists| !lists.closed);
    }

    /// Waits so long, or until it is closing.
    pub(super) fn pause(&self, time: Duration) {
        let lists = self.lists();
        let _waited = self
            .writer
            .wait_timeout_while(lists, time, |lists| !lists.closing);
    }

    /// What the writer does next; waits for it.
    pub(super) fn next(&self) -> Next {
        let mut lists = self.lists();
        loop {
            if !lists.rulings.is_empty() {
                return Next::Rulings(std::mem::take(&mut lists.rulings));
            }
            if std::mem::take(&mut lists.resized) {
                return Next::Resized;
            }
            if let Some(put) = lists.puts.pop_front() {
                lists.bytes = lists.bytes.saturating_sub(put.object.weight());
                return Next::Put(put);
            }
            if lists.closing {
                return Next::Closing;
            }
            lists = self
                .writer
                .wait(lists)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the reader does next; none at the end.
    pub(super) fn next_load(&self) -> Option<Load> {
        let mut lists = self.lists();
        loop {
            if lists.closing {
                lists.loads.clear();
                return None;
            }
            if let Some(load) = lists.loads.pop_front() {
                return Some(load);
            }
            lists = self
                .reader
                .wait(lists)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The purges that wait to be written.
    pub(super) fn take_rulings(&self) -> Vec<Ruling> {
        std::mem::take(&mut self.lists().rulings)
    }

    /// Drops all that waits to be written.
    pub(super) fn clear(&self) {
        let mut lists = self.lists();
        lists.rulings.clear();
        lists.puts.clear();
        lists.bytes = 0;
    }

    /// The oldest epoch among the responses that wait, as `of` has it.
    pub(super) fn oldest(&self, of: impl Fn(u64) -> u64) -> Option<u64> {
        self.lists().puts.iter().map(|put| of(put.epoch)).min()
    }
}
