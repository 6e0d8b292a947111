//! Which traces were seen of late, to count each once.
//!
//! A trace lives for moments; of the last hundred thousand and some that each pair was part of, the hashes are kept: four to
//! a set, the one seen longest ago makes room. What came back after it had been forgotten counts again. Pure; 1 MiB, once
//! a first trace is seen.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Sets, and hashes in each.
const SETS: usize = 32_768;
const WAYS: usize = 4;

/// The traces seen of late.
#[derive(Debug, Default)]
pub(super) struct Traces {
    sets: Vec<[u64; WAYS]>,
    hasher: BuildHasherDefault<DefaultHasher>,
}

impl Traces {
    /// Whether `pair` had no part in `trace` before; never of no trace.
    pub(super) fn is_new(&mut self, trace: u64, pair: [u64; 3]) -> bool {
        if trace == 0 {
            return false;
        }
        if self.sets.is_empty() {
            self.sets = vec![[0; WAYS]; SETS];
        }
        let hash = self.hasher.hash_one((trace, pair)).max(1);
        let place = usize::try_from(hash % SETS as u64).unwrap_or(0);
        let Some(set) = self.sets.get_mut(place) else {
            return true;
        };
        let found = set.iter().position(|seen| *seen == hash);
        // To the front; whatever was before it moves back by one.
        let upto = found.unwrap_or(WAYS - 1);
        if let Some(moved) = set.get_mut(..=upto) {
            moved.rotate_right(1);
        }
        if let Some(first) = set.first_mut() {
            *first = hash;
        }
        found.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trace_is_new_once_to_each_pair() {
        let mut traces = Traces::default();
        let mut new = 0;
        for round in 0..5 {
            for trace in 1..=2_000 {
                new += u64::from(traces.is_new(trace, [1, 2, 3]));
            }
            assert_eq!(new, 2_000, "round {round}");
        }
        assert!(traces.is_new(1, [1, 2, 4]));
        assert!(!traces.is_new(0, [1, 2, 3]));
    }

    #[test]
    fn what_was_seen_long_ago_makes_room() {
        let mut traces = Traces::default();
        for trace in 1..=1_000_000 {
            assert!(traces.is_new(trace, [0; 3]));
        }
        assert_eq!(traces.sets.len(), SETS);
        assert!(!traces.is_new(1_000_000, [0; 3]));
        assert!(traces.is_new(1, [0; 3]));
    }
}
