//! What policies need done by the clock rather than by requests: a limit's window that ends while nothing
//! completes, endpoints that are judged and breakers that are listened to each second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::changes::Changes;
use super::load::{Gauges, Lags};
use crate::clock::SystemClock;
use crate::engine::overload::Load;
use crate::engine::upstream::Upstreams;

use crate::proxy;
use crate::proxy::worker::Shared;

/// How often limits are looked at.
const BEAT: Duration = Duration::from_millis(100);
/// Beats between two judgements of the endpoints, and two looks at memory and descriptors.
const BEATS_PER_SECOND: u32 = 10;

/// Attends to the policies of `upstreams` and of the process itself until the runtime ends. `lags` is told how late
/// the workers' event loops run.
pub(super) async fn run(
    upstreams: Arc<Upstreams>,
    shared: Arc<Shared>,
    gauges: Gauges,
    lags: Arc<Lags>,
    mut changes: Changes,
) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    let mut load = Load::default();
    let mut admitted = None;
    loop {
        beats.tick().await;
        count = count.wrapping_add(1);
        let now = SystemClock.now();
        let second = count.is_multiple_of(BEATS_PER_SECOND);
        for upstream in upstreams.all() {
            upstream.protection().tick(now);
            if second {
                proxy::judge(&upstream, now);
                let circuit = upstream.protection().circuit();
                changes.breaker("upstream", upstream.name(), circuit, now);
                changes.upstream(&upstream, now);
            }
        }
        if second {
            load.memory_used_ratio = gauges.memory();
            load.descriptors_used_ratio = gauges.descriptors();
            for (route, circuit) in shared.live.load().circuits() {
                changes.breaker("route", route, circuit, now);
            }
        }
        let worst = shared.pulses.iter().map(|pulse| pulse.lag(now)).max();
        load.loop_lag = worst.unwrap_or_default();
        let total = shared.pulses.iter().map(|pulse| pulse.total().1).sum();
        lags.note(load.loop_lag, total);
        let cutoff = shared.overload.judge(load, now);
        if admitted.replace(cutoff.admitted).unwrap_or(cutoff.tiers) != cutoff.admitted {
            let (admitted, tiers) = (cutoff.admitted, cutoff.tiers);
            let mode = shared.overload.mode().as_str();
            tracing::warn!(
                admitted,
                tiers,
                mode,
                ?load,
                "the proxy itself runs short: tiers admitted"
            );
            changes.overload(admitted, tiers, mode);
        }
    }
}
