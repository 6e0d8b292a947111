//! What a worker found out lately, so that it need not find it out again.
//!
//! A table of fixed size, in which what comes later replaces what was there. It holds no key and no token: it
//! finds them by 128 bits of two hashes keyed at random, so that nobody can make two that look alike.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use super::{Doubt, Identity};

/// Entries, a power of two.
const SLOTS: usize = 4_096;

/// What was found out about the address that a connection comes from.
#[derive(Debug, Default)]
pub struct KnownPeer(RefCell<Option<Known>>);

#[derive(Debug)]
struct Known {
    mark: Arc<()>,
    generation: u64,
    identity: Rc<Identity>,
}

impl KnownPeer {
    /// What was found out under the registry with this mark, in this state, or what `find` says.
    pub(super) fn recall(
        &self,
        mark: &Arc<()>,
        generation: u64,
        find: impl FnOnce() -> Result<Rc<Identity>, Doubt>,
    ) -> Result<Rc<Identity>, Doubt> {
        let mut known = self.0.borrow_mut();
        if let Some(known) = &*known
            && Arc::ptr_eq(&known.mark, mark)
            && known.generation == generation
        {
            return Ok(Rc::clone(&known.identity));
        }
        let identity = find()?;
        *known = Some(Known {
            mark: Arc::clone(mark),
            generation,
            identity: Rc::clone(&identity),
        });
        Ok(identity)
    }
}

/// A worker's memory of clients.
#[derive(Debug)]
pub struct Memo {
    hashers: [RandomState; 2],
    slots: Vec<Option<Entry>>,
    /// What it is about.
    mark: Arc<()>,
    generation: u64,
}

#[derive(Debug)]
struct Entry {
    hashes: [u64; 2],
    /// In seconds since the Unix epoch.
    until: u64,
    found: Result<Rc<Identity>, Doubt>,
}

impl Default for Memo {
    fn default() -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            slots: (0..SLOTS).map(|_| None).collect(),
            mark: Arc::default(),
            generation: 0,
        }
    }
}

impl Memo {
    /// Forgets everything unless it is about the registry with this mark, in this state.
    pub(super) fn turn_to(&mut self, mark: &Arc<()>, generation: u64) {
        if !Arc::ptr_eq(&self.mark, mark) || self.generation != generation {
            self.slots.iter_mut().for_each(|slot| *slot = None);
            self.mark = Arc::clone(mark);
            self.generation = generation;
        }
    }

    /// What was found out about `value` in this `way`, or what `find` says, which also says until when.
    pub(super) fn recall(
        &mut self,
        way: (usize, bool),
        value: &[u8],
        unix: u64,
        find: impl FnOnce() -> (Result<Identity, Doubt>, u64),
    ) -> Result<Rc<Identity>, Doubt> {
        let (index, flag) = way;
        let hashes = self.hashers.each_ref().map(|hasher| {
            // Few writes: each costs more than the bytes it brings. What comes last has a fixed length.
            let mut hasher = hasher.build_hasher();
            hasher.write(value);
            hasher.write_usize(index.wrapping_mul(2).wrapping_add(usize::from(flag)));
            hasher.finish()
        });
        let place = usize::try_from(hashes[0]).unwrap_or(0) & (SLOTS - 1);
        let slot = self.slots.get_mut(place);
        if let Some(Some(entry)) = &slot
            && entry.hashes == hashes
            && unix < entry.until
        {
            return entry.found.clone();
        }
        let (found, until) = find();
        let found = found.map(Rc::new);
        if let Some(slot) = slot {
            *slot = Some(Entry {
                hashes,
                until,
                found: found.clone(),
            });
        }
        found
    }
}
