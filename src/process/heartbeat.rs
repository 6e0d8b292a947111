//! What policies need done by the clock rather than by requests: a limit's window that ends while nothing
//! completes, endpoints that are judged each second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock::SystemClock;
use crate::engine::upstream::Upstreams;
use crate::proxy;

/// How often limits are looked at.
const BEAT: Duration = Duration::from_millis(100);
/// Beats between two judgements of the endpoints.
const BEATS_PER_JUDGEMENT: u32 = 10;

/// Attends to the policies of `upstreams` until the runtime ends.
pub(super) async fn run(upstreams: Arc<Upstreams>) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        beats.tick().await;
        count = count.wrapping_add(1);
        let now = SystemClock.now();
        for upstream in upstreams.all() {
            upstream.protection().tick(now);
            if count.is_multiple_of(BEATS_PER_JUDGEMENT) {
                proxy::judge(&upstream, now);
            }
        }
    }
}
