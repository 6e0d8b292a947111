//! Doubly linked lists by index, so that anything leaves from anywhere at once and nothing is allocated.
//!
//! A list holds only its ends; the links lie in the linked values. A value is in at most one list at a time.

use crate::policy::slab::Slab;

/// No index: beyond the end of any store.
const NONE: u32 = u32::MAX;

/// A value's place in its list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    /// The value before.
    pub(super) fn before(&self) -> Option<u32> {
        (self.prev != NONE).then_some(self.prev)
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            prev: NONE,
            next: NONE,
        }
    }
}

/// A value that can be in a list.
pub(super) trait Linked {
    fn links(&mut self) -> &mut Links;
}

/// Where the linked values lie.
pub(super) trait Store {
    fn links_at(&mut self, index: u32) -> Option<&mut Links>;
}

impl<T: Linked> Store for [T] {
    fn links_at(&mut self, index: u32) -> Option<&mut Links> {
        self.get_mut(index as usize).map(Linked::links)
    }
}

impl<T: Linked> Store for Slab<T> {
    fn links_at(&mut self, index: u32) -> Option<&mut Links> {
        self.at_mut(index).map(Linked::links)
    }
}

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
            len: 0,
        }
    }
}

impl List {
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn last(&self) -> Option<u32> {
        (self.last != NONE).then_some(self.last)
    }

    /// Adds the value at `index`, which is in no list, at the end.
    pub(super) fn push_back<S: Store + ?Sized>(&mut self, store: &mut S, index: u32) {
        let last = self.last();
        self.insert(store, index, last);
    }

    /// Adds the value at `index`, which is in no list, behind the one at `behind`, or at the front.
    pub(super) fn insert<S: Store + ?Sized>(
        &mut self,
        store: &mut S,
        index: u32,
        behind: Option<u32>,
    ) {
        let prev = behind.unwrap_or(NONE);
        let next = match store.links_at(prev) {
            Some(links) => std::mem::replace(&mut links.next, index),
            None => std::mem::replace(&mut self.first, index),
        };
        match store.links_at(next) {
            Some(links) => links.prev = index,
            None => self.last = index,
        }
        if let Some(links) = store.links_at(index) {
            *links = Links { prev, next };
        }
        self.len += 1;
    }

    /// Takes out the value at `index`, which is in this list.
    pub(super) fn remove<S: Store + ?Sized>(&mut self, store: &mut S, index: u32) {
        let Some(links) = store.links_at(index) else {
            return;
        };
        let Links { prev, next } = std::mem::take(links);
        match store.links_at(prev) {
            Some(links) => links.next = next,
            None => self.first = next,
        }
        match store.links_at(next) {
            Some(links) => links.prev = prev,
            None => self.last = prev,
        }
        self.len -= 1;
    }
}
