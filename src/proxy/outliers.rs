//! What is done and said when an endpoint does worse than its peers, or asks to be left alone.

use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;

use crate::clock::{Instant, SystemClock};
use crate::engine::upstream::outlier::Decision;
use crate::engine::upstream::{EndpointState, UpstreamState};

/// Judges the endpoints of `upstream`, and logs what that changed.
pub fn judge(upstream: &UpstreamState, now: Instant) {
    for (endpoint, decision) in upstream.judge(now) {
        let (upstream, endpoint) = (&**upstream.name(), &**endpoint.name());
        match decision {
            Decision::Ejected { until, why, .. } => {
                let time = until.since(now);
                tracing::warn!(upstream, endpoint, ?why, ?time, "an endpoint is ejected");
            }
            // Said again as long as it is so.
            Decision::Spared { why, .. } => tracing::debug!(
                upstream,
                endpoint,
                ?why,
                "an endpoint would be ejected, but too many are out"
            ),
            Decision::Returned { .. } => {
                tracing::info!(upstream, endpoint, "an endpoint is back in service");
            }
        }
    }
}

/// Leaves `endpoint` alone for as long as its `Retry-After` says (RFC 9110 section 10.2.3).
pub(super) fn set_aside(
    upstream: &UpstreamState,
    endpoint: &EndpointState,
    asked: &HeaderValue,
    now: Instant,
) {
    let Some(time) = asked.to_str().ok().and_then(retry_after) else {
        return;
    };
    if let Some(until) = upstream.set_aside(endpoint, now, time) {
        let (upstream, endpoint) = (&**upstream.name(), &**endpoint.name());
        let time = until.since(now);
        tracing::info!(
            upstream,
            endpoint,
            ?time,
            "an endpoint asked to be left alone"
        );
    }
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let micros = i64::try_from(SystemClock.unix_micros()).ok()?;
    let now = Timestamp::from_microsecond(micros).ok()?;
    Duration::try_from(date.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_its_forms() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT"),
            None,
            "it is over"
        );
        let year = Duration::from_secs(365 * 24 * 3_600);
        assert!(retry_after("Tue, 01 Jan 2199 00:00:00 GMT").is_some_and(|time| time > year));
        assert_eq!(retry_after("soon"), None);
    }
}
