//! Where on disk the responses are, by hashes of their URL and key. A hash that two share costs a read: the record
//! has the key in whole.

use std::collections::HashMap;

/// Responses of one URL that are kept.
const MAX_OF_URL: usize = 256;

/// What tells responses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The hash of its URL.
    pub(super) url: u64,
    /// The hash of its key.
    pub(super) key: u64,
    /// The hash of how it is selected, and which part it is.
    pub(super) variant: u64,
    /// Whether it is a part.
    pub(super) part: bool,
}

/// A place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Where a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// On its way to disk, with this number.
    Queued(u64),
    /// There.
    Place(Place),
}

/// All of them, the newest of a URL last.
#[derive(Debug, Default)]
pub(super) struct Index {
    urls: HashMap<u64, Vec<(Slot, At)>>,
    records: usize,
}

impl Index {
    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.records
    }

    /// Whether there is anything of a URL.
    pub(super) fn has(&self, url: u64) -> bool {
        self.urls.contains_key(&url)
    }

    /// Puts a response in the place of those it replaces: whether there were any on disk. A whole one replaces
    /// every part as well.
    pub(super) fn put(&mut self, slot: Slot, at: At) -> bool {
        let of_url = self.urls.entry(slot.url).or_default();
        let before = of_url.len();
        let mut replaced = false;
        of_url.retain(|(other, at)| {
            let same = other.key == slot.key
                && (other.variant == slot.variant || (other.part && !slot.part));
            replaced |= same && matches!(at, At::Place(_));
            !same
        });
        if of_url.len() >= MAX_OF_URL {
            of_url.remove(0);
        }
        of_url.push((slot, at));
        self.records = self.records + of_url.len() - before;
        replaced
    }

    /// Whether the response is still on its way with this number.
    pub(super) fn is_queued(&self, slot: Slot, number: u64) -> bool {
        let of_url = self.urls.get(&slot.url);
        of_url.is_some_and(|of_url| of_url.contains(&(slot, At::Queued(number))))
    }

    /// What was on its way with this number has arrived, or never will (`None`).
    pub(super) fn arrived(&mut self, slot: Slot, number: u64, place: Option<Place>) {
        match place {
            None => self.retain(slot.url, |at| at != At::Queued(number)),
            Some(place) => {
                let of_url = self.urls.get_mut(&slot.url);
                let of_url = of_url.into_iter().flatten();
                for (other, at) in of_url {
                    if *other == slot && *at == At::Queued(number) {
                        *at = At::Place(place);
                    }
                }
            }
        }
    }

    /// Where the responses under a key are, the newest first. None of those on their way is there yet.
    pub(super) fn find(&self, url: u64, key: u64) -> Vec<Place> {
        let of_url = self.urls.get(&url).into_iter().flatten().rev();
        let places = of_url.filter_map(|(slot, at)| match at {
            At::Place(place) if slot.key == key => Some(*place),
            At::Place(_) | At::Queued(_) => None,
        });
        places.collect()
    }

    /// Drops all of a URL; whether there was anything.
    pub(super) fn remove(&mut self, url: u64) -> bool {
        let removed = self.urls.remove(&url);
        self.records -= removed.as_ref().map_or(0, Vec::len);
        removed.is_some()
    }

    /// Drops what these URLs have in a segment.
    pub(super) fn remove_segment(&mut self, segment: u64, urls: &[u64]) {
        for url in urls {
            self.retain(
                *url,
                |at| !matches!(at, At::Place(place) if place.segment == segment),
            );
        }
    }

    /// Adds what was found on disk under what was stored since.
    pub(super) fn adopt(&mut self, mut found: Self) {
        for (slot, at) in self.urls.values().flatten() {
            found.put(*slot, *at);
        }
        *self = found;
    }

    fn retain(&mut self, url: u64, mut keeps: impl FnMut(At) -> bool) {
        let Some(of_url) = self.urls.get_mut(&url) else {
            return;
        };
        let before = of_url.len();
        of_url.retain(|(_, at)| keeps(*at));
        self.records -= before - of_url.len();
        if of_url.is_empty() {
            self.urls.remove(&url);
        }
    }
}
