//! Hands memory that nobody uses any more back to the system, also when nothing happens.
//!
//! The allocator gives back what has been free for a second, but looks only while it frees whole pages: after a burst,
//! what the burst took would stay. Freeing one large block makes it look. The block is never written to, so it costs no
//! memory itself. Depends on nothing.

use std::hint::black_box;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// How often it is made to look.
const EVERY: Duration = Duration::from_secs(1);
/// Bytes that get pages of their own.
const LARGE: usize = 1 << 20;

/// Gives back until the runtime ends.
pub(super) async fn give_back() {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
    }
}
