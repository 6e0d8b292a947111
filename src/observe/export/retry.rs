//! When to try again.

use std::time::Duration;

use http::StatusCode;

use super::client::{Answer, Broken};
use crate::clock::SystemClock;

const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(30);

/// What became of a request to a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was taken.
    Taken,
    /// It was not, and will not be.
    Refused(String),
    /// It may be, later.
    Later(String, Option<Duration>),
}

/// What an answer over HTTP says. Those that speak for trying again are OTLP's; a refused token may be put
/// right too.
pub(super) fn verdict(answer: &Result<Answer, Broken>) -> Verdict {
    match answer {
        Err(broken) => Verdict::Later(broken.to_string(), None),
        Ok(answer) if answer.status.is_success() => Verdict::Taken,
        Ok(answer) => {
            let what = format!("answered {}", answer.status);
            match answer.status {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN => Verdict::Later(what, answer.retry_after()),
                _ => Verdict::Refused(what),
            }
        }
    }
}

/// Growing pauses, and what is said about them: once when it begins, once when it is over.
#[derive(Debug)]
pub(super) struct Patience {
    exporter: &'static str,
    failures: u32,
}

impl Patience {
    pub(super) const fn new(exporter: &'static str) -> Self {
        let failures = 0;
        Self { exporter, failures }
    }

    /// How often it failed in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed; how long to wait.
    pub(super) fn failed(&mut self, what: &str, asked: Option<Duration>) -> Duration {
        if self.failures == 0 {
            let exporter = self.exporter;
            tracing::warn!(exporter, "cannot export for now: {what}");
        }
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        asked.unwrap_or(pause).clamp(FIRST, LAST)
    }

    /// It works.
    pub(super) fn worked(&mut self) {
        if self.failures > 0 {
            let exporter = self.exporter;
            tracing::info!(exporter, "exporting again");
        }
        self.failures = 0;
    }
}

pub(super) async fn pause(length: Duration) {
    let until = SystemClock.to_std(SystemClock.now().after(length));
    tokio::time::sleep_until(tokio::time::Instant::from_std(until)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_success() {
        let mut patience = Patience::new("test");
        let pauses: Vec<_> = (0..9)
            .map(|_| patience.failed("no", None).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [
                500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000
            ]
        );
        patience.worked();
        assert_eq!(patience.failed("no", None), FIRST);
        assert_eq!(
            patience
                .failed("no", Some(Duration::from_secs(7)))
                .as_secs(),
            7
        );
        assert_eq!(
            patience.failed("no", Some(Duration::from_secs(7_000))),
            LAST
        );
    }
}
