//! How many slots each client holds, for any number of clients in constant memory.
//!
//! A count-min sketch (Cormode and Muthukrishnan 2005) of atomics with two rows: a client's count is the
//! lesser of its two cells and is never too low. It is too high when both cells are shared with clients that
//! hold slots: for one heavy client a chance of 1 in 2048², at 2,000 slots of a client each about 0.4. So
//! a light client is seldom taken for a heavy one, and then it waits a little longer; nobody is refused for it. Two rows
//! and not more, because each costs two atomic writes a request. Depends on nothing.

use std::sync::atomic::{AtomicU32, Ordering};

const CELLS: usize = 2048;

/// Slots held, by client.
#[derive(Debug)]
pub(super) struct Clients {
    first: Box<[AtomicU32]>,
    second: Box<[AtomicU32]>,
}

impl Clients {
    pub(super) fn new() -> Self {
        let row = || (0..CELLS).map(|_| AtomicU32::new(0)).collect();
        Self {
            first: row(),
            second: row(),
        }
    }

    pub(super) fn enter(&self, client: u64) {
        for cell in self.cells(client) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn leave(&self, client: u64) {
        for cell in self.cells(client) {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Slots this client holds; may be too high, never too low.
    pub(super) fn held(&self, client: u64) -> u32 {
        let counts = self.cells(client).map(|cell| cell.load(Ordering::Relaxed));
        counts.min().unwrap_or(0)
    }

    fn cells(&self, client: u64) -> impl Iterator<Item = &AtomicU32> {
        // Fibonacci hashing: the upper bits of the product are well mixed, even of hashes in sequence.
        let mixed = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let cell = |shift: u32| usize::try_from(mixed >> shift).unwrap_or(0) % CELLS;
        let first = self.first.get(cell(53));
        first.into_iter().chain(self.second.get(cell(42)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_never_too_low_and_returns_to_zero() {
        let clients = Clients::new();
        for client in 0..500 {
            for _ in 0..=client % 3 {
                clients.enter(client);
            }
        }
        let exact = (0..500).filter(|&client| clients.held(client) == (client % 3) as u32 + 1);
        assert!(exact.count() > 450);
        assert!((0..500).all(|client| clients.held(client) > (client % 3) as u32));
        for client in 0..500 {
            for _ in 0..=client % 3 {
                clients.leave(client);
            }
        }
        assert!((0..500).all(|client| clients.held(client) == 0));
    }
}
