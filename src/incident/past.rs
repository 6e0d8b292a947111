//! Verdicts of the last hour: what was found and is not found any more.
//!
//! Pure: time is an argument, in seconds. Bounded: the newest are kept. Depends on the verdicts' names.

use std::collections::VecDeque;
use std::sync::Arc;

use super::naming::Named;

/// How long a verdict is remembered after it was last found.
pub const REMEMBERED: u64 = 3_600;
/// Verdicts that are remembered.
const MOST: usize = 256;
/// A verdict that is found again after so long is another.
const SAME: u64 = 60;

/// A verdict and when it was last found.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What was found, as it was when it was surest.
    pub verdict: Arc<Named>,
    /// When it was found last, in seconds since the Unix epoch.
    pub last: u64,
}

/// The verdicts of the last hour, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Past(VecDeque<Seen>);

impl Past {
    /// Takes what is found at `now`; whether anything is different after it.
    pub fn take(&mut self, verdicts: &[Named], now: u64) -> bool {
        let before = self.0.len();
        self.0
            .retain(|seen| now.saturating_sub(seen.last) <= REMEMBERED);
        let forgotten = self.0.len() != before;
        for verdict in verdicts {
            let is_same = |seen: &&mut Seen| {
                let known = &seen.verdict;
                now.saturating_sub(seen.last) <= SAME
                    && known.cause == verdict.cause
                    && known.upstream == verdict.upstream
                    && known.subject == verdict.subject
            };
            if let Some(seen) = self.0.iter_mut().find(is_same) {
                seen.last = now;
                if seen.verdict.confidence < verdict.confidence {
                    seen.verdict = Arc::new(verdict.clone());
                }
                continue;
            }
            if self.0.len() == MOST {
                self.0.pop_front();
            }
            self.0.push_back(Seen {
                verdict: Arc::new(verdict.clone()),
                last: now,
            });
        }
        forgotten || !verdicts.is_empty()
    }

    /// Those that were last found at `since` or later, the oldest first.
    pub fn since(&self, since: u64) -> impl Iterator<Item = &Seen> {
        self.0.iter().filter(move |seen| seen.last >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::diagnose::Cause;

    fn found(subject: &str, confidence: f64) -> Named {
        Named {
            cause: Cause::NoisyClient,
            upstream: Some("app".into()),
            subject: subject.to_owned(),
            confidence,
            since: 0,
            evidence: Vec::new(),
            advice: String::new(),
        }
    }

    #[test]
    fn what_was_found_is_remembered_as_it_was_surest_and_for_an_hour() {
        let mut past = Past::default();
        assert!(!past.take(&[], 0));
        for (second, sure) in [(10, 0.5), (11, 0.9), (12, 0.6)] {
            assert!(past.take(&[found("reports", sure)], second));
        }
        past.take(&[found("reports", 0.4)], 100);
        let seen: Vec<_> = past
            .since(0)
            .map(|one| (one.last, one.verdict.confidence))
            .collect();
        assert_eq!(seen, [(12, 0.9), (100, 0.4)]);
        assert_eq!(past.since(13).count(), 1);
        assert!(past.take(&[], REMEMBERED + 13));
        assert_eq!(past.since(0).count(), 1);
        let many: Vec<_> = (0..MOST + 9)
            .map(|number| found(&number.to_string(), 0.5))
            .collect();
        past.take(&many, REMEMBERED + 14);
        assert_eq!(past.since(0).count(), MOST);
    }
}
