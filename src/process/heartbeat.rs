//! What policies need done by the clock rather than by requests: a limit's window that ends while nothing
//! completes, endpoints that are judged and breakers that are listened to each second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock::{Instant, SystemClock};
use crate::engine::circuit::Circuit;
use crate::engine::upstream::Upstreams;
use crate::proxy;
use crate::proxy::worker::Shared;

/// How often limits are looked at.
const BEAT: Duration = Duration::from_millis(100);
/// Beats between two judgements of the endpoints.
const BEATS_PER_JUDGEMENT: u32 = 10;

/// Attends to the policies of `upstreams` until the runtime ends.
pub(super) async fn run(upstreams: Arc<Upstreams>, shared: Arc<Shared>) {
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
                let circuit = upstream.protection().circuit();
                tell("upstream", upstream.name(), circuit, now);
            }
        }
        if count.is_multiple_of(BEATS_PER_JUDGEMENT) {
            for (route, circuit) in shared.live.load().circuits() {
                tell("route", route, circuit, now);
            }
        }
    }
}

/// Logs what the breaker of some upstream or route went through since the last time.
fn tell(kind: &str, name: &str, circuit: &Circuit, now: Instant) {
    for change in circuit.transitions(now) {
        let (from, to) = (change.from.as_str(), change.to.as_str());
        let (why, mode) = (change.why, circuit.mode().as_str());
        tracing::warn!(kind, name, mode, from, to, ?why, "a breaker changed");
    }
}
