//! Who sends, how often, and what they do when they are not served.

use std::time::Duration;

/// One kind of client.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    /// How many of them there are.
    pub(crate) clients: u64,
    pub(crate) tier: u8,
    /// Requests a second of all of them together, from each of these times on.
    pub(crate) rate: Vec<(Duration, f64)>,
    /// How often they send again at once when they were not served.
    pub(crate) retries: u32,
    /// After this time they no longer care.
    pub(crate) patience: Duration,
    /// How many requests they keep under way, each followed by the next; none: they send at their rate, whatever
    /// the answers do.
    pub(crate) closed: Option<usize>,
}

impl Class {
    /// Clients that send `rate` requests a second together.
    pub(crate) fn new(clients: u64, rate: f64) -> Self {
        Self {
            clients,
            tier: 1,
            rate: vec![(Duration::ZERO, rate)],
            retries: 0,
            patience: Duration::from_secs(5),
            closed: None,
        }
    }

    /// One client that keeps so many requests under way.
    pub(crate) fn closed(under_way: usize) -> Self {
        Self {
            closed: Some(under_way),
            ..Self::new(1, 0.0)
        }
    }

    /// The same, sending nothing but in bursts: `factor` times the rate for a `factor`-th of each second.
    pub(crate) fn bursty(self, factor: f64, length: Duration) -> Self {
        let rate = self.rate_at(Duration::ZERO);
        let burst = Duration::from_secs_f64(1.0 / factor);
        let seconds = (0..length.as_secs()).map(Duration::from_secs);
        let parts = seconds.flat_map(|from| [(from, rate * factor), (from + burst, 0.0)]);
        Self {
            rate: parts.collect(),
            ..self
        }
    }

    pub(crate) fn tier(self, tier: u8) -> Self {
        Self { tier, ..self }
    }

    pub(crate) fn retrying(self, retries: u32, patience: Duration) -> Self {
        Self {
            retries,
            patience,
            ..self
        }
    }

    /// When, from `at` on, the rate is above zero; none when it never is again.
    pub(crate) fn active_from(&self, at: Duration) -> Option<Duration> {
        if self.rate_at(at) > 0.0 {
            return Some(at);
        }
        let mut later = self
            .rate
            .iter()
            .filter(|(from, rate)| *from > at && *rate > 0.0);
        later.next().map(|(from, _)| *from)
    }

    pub(crate) fn rate_at(&self, at: Duration) -> f64 {
        let passed = self.rate.iter().rev().find(|(from, _)| *from <= at);
        passed.map_or(0.0, |(_, rate)| *rate)
    }
}

/// What the clients of one class saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sent: u64,
    pub(crate) sent_at: Vec<Duration>,
    /// When each request was sent, whose answer came in time, and how long that took.
    pub(crate) answered: Vec<(Duration, Duration)>,
    pub(crate) refused: std::collections::BTreeMap<&'static str, u64>,
    pub(crate) failed: u64,
    /// Answers by client.
    pub(crate) by_client: std::collections::BTreeMap<u64, (u64, u64)>,
}

impl Seen {
    /// Answers a second to what was sent between two times.
    pub(crate) fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let answered = self.answered.iter();
        let between = answered.filter(|(sent, took)| (from..to).contains(&(*sent + *took)));
        between.count() as f64 / (to - from).as_secs_f64()
    }

    /// A quantile of the time that answers took, for what was sent from `from` on.
    pub(crate) fn latency(&self, quantile: f64, from: Duration) -> Duration {
        let since = self.answered.iter().filter(|(sent, _)| *sent >= from);
        let mut took: Vec<_> = since.map(|(_, took)| *took).collect();
        took.sort_unstable();
        let rank = (quantile * took.len() as f64).ceil() as usize;
        took.get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// The share of what was sent between two times that was answered.
    pub(crate) fn success_from(&self, from: Duration, to: Duration) -> f64 {
        let between = |at: &Duration| (from..to).contains(at);
        let sent = self.sent_at.iter().filter(|at| between(at)).count();
        let answered = self.answered.iter().filter(|(at, _)| between(at)).count();
        answered as f64 / sent.max(1) as f64
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}
