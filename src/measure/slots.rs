//! Sums of the last so many slots of time.
//!
//! A ring that nothing rotates: whoever adds or reads says which slot it is now, and what has become too old
//! reads as zero. What comes a little late is added where it belongs. Depends on nothing.

/// Sums of `N` slots.
#[derive(Clone, Copy, Debug)]
pub struct Slots<const N: usize> {
    sums: [u32; N],
    /// The newest slot anything was added to.
    last: u32,
}

impl<const N: usize> Default for Slots<N> {
    fn default() -> Self {
        Self {
            sums: [0; N],
            last: 0,
        }
    }
}

impl<const N: usize> Slots<N> {
    /// Adds `value` to `slot`.
    pub fn add(&mut self, slot: u32, value: u32) {
        let ahead = slot.saturating_sub(self.last) as usize;
        if ahead >= N {
            self.sums.fill(0);
        } else {
            for passed in self.last + 1..=slot {
                self.set(passed, 0);
            }
        }
        self.last = self.last.max(slot);
        if (self.last - slot) as usize >= N {
            return;
        }
        self.set(slot, self.of(slot).saturating_add(value));
    }

    /// The sum of the `count` slots up to `now`, that one included.
    #[must_use]
    pub fn sum(&self, now: u32, count: usize) -> u64 {
        let before = |slot: u32, slots: usize| {
            let slots = u32::try_from(slots).unwrap_or(u32::MAX);
            slot.saturating_sub(slots.saturating_sub(1))
        };
        let from = before(now, count).max(before(self.last, N));
        let slots = from..=now.min(self.last);
        slots.map(|slot| u64::from(self.of(slot))).sum()
    }

    fn of(&self, slot: u32) -> u32 {
        self.sums.get(slot as usize % N).copied().unwrap_or(0)
    }

    fn set(&mut self, slot: u32, value: u32) {
        if let Some(sum) = self.sums.get_mut(slot as usize % N) {
            *sum = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_late_is_added_where_it_belongs_unless_that_has_passed() {
        let mut slots = Slots::<3>::default();
        slots.add(5, 1);
        slots.add(7, 10);
        slots.add(6, 100);
        slots.add(4, 1_000);
        assert_eq!(slots.sum(7, 3), 111);
        assert_eq!(slots.sum(8, 3), 110);
        assert_eq!(slots.sum(7, 1), 10);
        assert_eq!(slots.sum(10, 3), 0);
    }

    proptest! {
        #[test]
        fn sums_are_those_of_a_list(
            adds in proptest::collection::vec((0_u32..4, 0_u32..10), 1..40),
            count in 1_usize..8,
        ) {
            let mut slots = Slots::<6>::default();
            let mut list = Vec::new();
            let mut now = 0;
            for (step, value) in adds {
                now += step;
                slots.add(now, value);
                list.push((now, value));
            }
            let first = now.saturating_sub(u32::try_from(count.min(6)).unwrap() - 1);
            let exact = list.iter().filter(|(slot, _)| *slot >= first);
            let exact: u64 = exact.map(|(_, value)| u64::from(*value)).sum();
            prop_assert_eq!(slots.sum(now, count), exact);
        }
    }
}
