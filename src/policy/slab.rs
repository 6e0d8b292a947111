//! A bounded slab: values at indices that stay put, under keys that a stale copy cannot abuse.
//!
//! Waiters are linked by index and cancelled by key, so they need an address that neither moves nor
//! allocates. Each slot counts its tenants (its generation); a key names slot and tenant, and finds nothing
//! once the tenant left. It grows on demand up to its capacity and keeps what it grew to: memory follows the
//! longest queue ever seen, not the present one. After 2^32 tenants of one slot a stale key would be believed;
//! nobody holds a key that long. The `slab` crate has neither generations nor a bound. Depends on nothing.

/// The address of one value, good until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Where the value lies, for links between values of one slab.
    pub(crate) const fn index(self) -> u32 {
        self.index
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Vacant { next: Option<u32> },
    Occupied(T),
}

/// Up to `capacity` values.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    vacant: Option<u32>,
    len: u32,
    capacity: u32,
}

impl<T> Slab<T> {
    /// An empty slab; nothing is allocated yet.
    pub(crate) const fn new(capacity: u32) -> Self {
        Self {
            slots: Vec::new(),
            vacant: None,
            len: 0,
            capacity,
        }
    }

    /// Changes the bound. Values beyond a lower one stay until they are removed.
    pub(crate) const fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// The bound.
    pub(crate) const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many values it holds.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Takes in a value; none when the slab is full.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        if self.len >= self.capacity {
            return None;
        }
        let index = match self.vacant {
            Some(index) => index,
            None => self.grow()?,
        };
        let slot = self.slots.get_mut(index as usize)?;
        let Content::Vacant { next } = slot.content else {
            return None;
        };
        self.vacant = next;
        slot.content = Content::Occupied(value);
        self.len += 1;
        let generation = slot.generation;
        Some(Key { index, generation })
    }

    /// The value under `key`, unless it was removed.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index as usize) {
            Some(Slot {
                generation,
                content: Content::Occupied(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value under `key`, unless it was removed.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize) {
            Some(Slot {
                generation,
                content: Content::Occupied(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value at `index`, whoever it is.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        match &self.slots.get(index as usize)?.content {
            Content::Occupied(value) => Some(value),
            Content::Vacant { .. } => None,
        }
    }

    /// The value at `index`, whoever it is.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match &mut self.slots.get_mut(index as usize)?.content {
            Content::Occupied(value) => Some(value),
            Content::Vacant { .. } => None,
        }
    }

    /// Removes the value under `key`; every copy of the key is stale from now on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.remove_at(key.index)
    }

    /// Removes the value at `index`, whoever it is.
    pub(crate) fn remove_at(&mut self, index: u32) -> Option<T> {
        self.at(index)?;
        let slot = self.slots.get_mut(index as usize)?;
        let vacated = Content::Vacant { next: self.vacant };
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant = Some(index);
        self.len -= 1;
        match std::mem::replace(&mut slot.content, vacated) {
            Content::Occupied(value) => Some(value),
            Content::Vacant { .. } => None,
        }
    }

    fn grow(&mut self) -> Option<u32> {
        let index = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot {
            generation: 0,
            content: Content::Vacant { next: None },
        });
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_even_in_a_slot_that_is_taken_again() {
        let mut slab = Slab::new(1);
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.insert('b'), None, "full");
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b').unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.get(second), slab.len()), (Some(&'b'), 1));
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map_and_stays_within_its_capacity(
            steps in prop::collection::vec((any::<bool>(), 0_usize..64), 1..300),
        ) {
            let mut slab = Slab::new(16);
            let mut model = HashMap::new();
            let mut keys = Vec::new();
            for (number, (insert, which)) in steps.into_iter().enumerate() {
                if insert {
                    let key = slab.insert(number);
                    prop_assert_eq!(key.is_some(), model.len() < 16);
                    if let Some(key) = key {
                        model.insert(keys.len(), number);
                        keys.push(key);
                    }
                } else if let Some(&key) = keys.get(which) {
                    prop_assert_eq!(slab.remove(key), model.remove(&which));
                }
                prop_assert_eq!(slab.len() as usize, model.len());
                prop_assert!(slab.slots.len() <= 16);
                for (which, key) in keys.iter().enumerate() {
                    prop_assert_eq!(slab.get(*key), model.get(&which));
                }
            }
        }
    }
}
