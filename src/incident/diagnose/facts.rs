//! What a diagnosis is made of, and the numbers that several causes ask for.

use serde::{Deserialize, Serialize};

use super::Evidence;
use crate::incident::history::History;
use crate::incident::span::Span;
use crate::incident::table::{Table, Tally};

/// What the balancer knows of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointFact {
    /// Which.
    pub id: u64,
    /// Its checks say that it is down.
    pub unhealthy: bool,
    /// It was ejected for what it did, and has hardly been asked since.
    pub ejected: bool,
    /// Attempts that failed there in the last ten seconds, those among them that a retry made good.
    pub failures: f64,
    /// Attempts there in the last ten seconds.
    pub attempts: f64,
    /// The largest share of its latest attempts that failed, over whichever of the last seconds had some failures. While
    /// it is ejected nobody asks it: then of the seconds before.
    #[serde(default)]
    pub worst: f64,
    /// Requests under way there, on average over the last ten seconds.
    #[serde(default)]
    pub in_flight: f64,
    /// For how many seconds it has answered nothing of what it was asked.
    #[serde(default)]
    pub silence: f64,
    /// For how many seconds it was seen to fail since it last worked. One that is ejected is not asked, and not seen.
    #[serde(default)]
    pub failing: f64,
}

/// How the proxy itself fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proxy {
    /// The longest that a ready event had to wait for its worker lately, seconds.
    pub lag: f64,
    /// The share of the last seconds that its workers were late to wake, 0 to 1.
    #[serde(default)]
    pub late: f64,
    /// The share of its workers' time that was spent, 0 to 1.
    pub cpu: f64,
    /// The share of the file descriptors in use, 0 to 1.
    pub descriptors: f64,
}

/// Everything that is known of one upstream at one moment.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The last ten seconds; more when little happens.
    pub now: Span,
    /// What is usual; none when that is not known yet.
    pub usual: Option<&'a Span>,
    /// The recent past.
    pub history: &'a History,
    /// Seconds of it that are now.
    seconds: usize,
    /// Its endpoints.
    pub endpoints: &'a [EndpointFact],
    /// The proxy.
    pub proxy: Proxy,
}

/// Seconds that are now, and at most.
const NOW: usize = 10;
const NOW_AT_MOST: usize = 60;
/// Requests that say something.
const ENOUGH: f64 = 30.0;

impl<'a> Facts<'a> {
    /// The facts of the upstream with this history.
    #[must_use]
    pub fn new(history: &'a History, endpoints: &'a [EndpointFact], proxy: Proxy) -> Self {
        let mut seconds = NOW;
        let mut now = history.last(seconds);
        while now.demand < ENOUGH && seconds < NOW_AT_MOST {
            seconds += NOW;
            now = history.last(seconds);
        }
        Self {
            now,
            usual: history.usual(),
            history,
            seconds,
            endpoints,
            proxy,
        }
    }

    /// The seconds that are now, one by one.
    pub(super) fn lately(&self) -> impl Iterator<Item = &Span> {
        self.history.seconds().take(self.seconds)
    }

    /// `of` now and usually.
    pub(super) fn pair(&self, of: impl Fn(&Span) -> f64) -> (f64, Option<f64>) {
        (of(&self.now), self.usual.map(of))
    }

    /// How many times the usual `of` is; 1 when nothing is usual.
    pub(super) fn ratio(&self, of: impl Fn(&Span) -> f64) -> f64 {
        match self.pair(of) {
            (now, Some(usual)) if usual > 0.0 => now / usual,
            (now, Some(_)) if now > 0.0 => f64::INFINITY,
            _ => 1.0,
        }
    }

    /// By how much `of` is above the usual; nothing when nothing is usual.
    pub(super) fn excess(&self, of: impl Fn(&Span) -> f64) -> f64 {
        match self.pair(of) {
            (now, Some(usual)) => now - usual,
            (_, None) => 0.0,
        }
    }

    pub(super) fn evidence(
        &self,
        what: &'static str,
        unit: &'static str,
        of: impl Fn(&Span) -> f64,
    ) -> Evidence {
        let (value, baseline) = self.pair(of);
        Evidence {
            what,
            value,
            baseline,
            unit,
        }
    }

    /// The key whose `of` a second grew most over the usual, with that growth and its share of all growth.
    pub(super) fn grew_most(
        &self,
        table: impl Fn(&Span) -> &Table,
        of: impl Fn(&Tally) -> f64,
    ) -> Option<(u64, f64, f64)> {
        let usual = self.usual?;
        let growth = |key: u64, tally: &Tally| {
            self.now.rate(of(tally)) - usual.rate(of(&table(usual).get(key)))
        };
        let mut all = 0.0;
        let mut most: Option<(u64, f64)> = None;
        for (key, tally) in table(&self.now).iter() {
            let grew = growth(key, tally);
            all += grew.max(0.0);
            if most.is_none_or(|(_, best)| grew > best) {
                most = Some((key, grew));
            }
        }
        let known: f64 = table(&self.now).iter().map(|(_, tally)| of(tally)).sum();
        let unknown = of(&table(&self.now).total()) - known;
        let known_usually: f64 = table(usual).iter().map(|(_, tally)| of(tally)).sum();
        let unknown_usually = of(&table(usual).total()) - known_usually;
        all += (self.now.rate(unknown) - usual.rate(unknown_usually)).max(0.0);
        let (key, grew) = most?;
        (grew > 0.0 && all > 0.0).then_some((key, grew, grew / all))
    }
}

/// How little chance it is that `count` times have a mean `ratio` times what they should have, as the exponent of the
/// odds against it. Exact in the limit for exponential times (Cramér); those that vary `spread` times as much say
/// as much less.
pub(super) fn surprise(count: f64, ratio: f64, spread: f64) -> f64 {
    if ratio <= 1.0 {
        return 0.0;
    }
    count * (ratio - 1.0 - ratio.ln()) / spread.max(1.0)
}

/// Requests a second.
pub(super) fn demand(span: &Span) -> f64 {
    span.rate(span.demand)
}

/// Requests a second, those that only repeat what failed left out.
pub(super) fn originals(span: &Span) -> f64 {
    span.rate(span.demand - span.repeats())
}

/// The mean of the upstream's part, seconds.
pub(super) fn service(span: &Span) -> f64 {
    span.service.mean()
}

/// Halfway between what is usual and what is now.
pub(super) fn midway(facts: &Facts<'_>, usual: &Span, of: impl Fn(&Span) -> f64) -> f64 {
    let usual = of(usual);
    usual + (of(&facts.now) - usual) / 2.0
}

/// The share of requests that Tidegate refused for want of room.
pub(super) fn turned_away(span: &Span) -> f64 {
    Span::share(span.refused - span.barred, span.demand)
}

/// The share of requests that Tidegate refused.
pub(super) fn refused(span: &Span) -> f64 {
    Span::share(span.refused, span.demand)
}

/// The share of what reached the upstream that it failed.
pub(super) fn failed(span: &Span) -> f64 {
    Span::share(span.failed, span.sent.max(span.failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means of `count` exponential times: how many of so many exceed what is called a surprise of `exponent`.
    fn exceeding(count: u32, exponent: f64, rng: &mut fastrand::Rng) -> f64 {
        const TRIALS: u32 = 20_000;
        let mut exceed = 0_u32;
        for _ in 0..TRIALS {
            let sum: f64 = (0..count).map(|_| -(1.0 - rng.f64()).ln()).sum();
            let ratio = sum / f64::from(count);
            exceed += u32::from(surprise(f64::from(count), ratio, 1.0) > exponent);
        }
        f64::from(exceed) / f64::from(TRIALS)
    }

    #[test]
    fn a_surprise_is_as_rare_as_it_says_however_few_are_counted() {
        let mut rng = fastrand::Rng::with_seed(7);
        for count in [2, 5, 30] {
            for exponent in [2.0_f64, 4.0, 6.0] {
                let share = exceeding(count, exponent, &mut rng);
                assert!(share <= (-exponent).exp(), "{count}, {exponent}: {share}");
            }
        }
        assert!(surprise(100.0, 2.0, 4.0) < surprise(100.0, 2.0, 1.0) / 3.9);
        assert!(surprise(100.0, 0.5, 1.0) <= 0.0);
    }
}
