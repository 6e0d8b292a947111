//! What happened to one upstream in a stretch of time, as sums: a second, ten seconds, or the usual.
//!
//! Sums add up, so that any stretch is the sum of its seconds and the usual is a sum that fades. Depends on the
//! model and the table.

use serde::{Deserialize, Serialize};

use super::table::{Table, Tally};
use crate::model::Phase;

/// Clients, endpoints, routes and components told apart.
const MAX_CLIENTS: usize = 32;
const MAX_ENDPOINTS: usize = 64;
const MAX_COMPONENTS: usize = 16;

/// How a request ended, as a diagnosis sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It was answered.
    #[default]
    Answered,
    /// Tidegate refused it for want of room.
    Refused,
    /// Tidegate refused it since the upstream is taken for broken: its breaker is open, no endpoint is healthy.
    Barred,
    /// The upstream failed it.
    Failed,
    /// There was no connection to be had.
    Unreachable,
}

/// A request beside the last one of its client for the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// That one was refused, or failed, or its client gave up.
    pub after_failure: bool,
    /// It came sooner after it than is usual.
    pub hasty: bool,
}

/// One finished request, as a diagnosis sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// Its client.
    pub client: u64,
    /// The endpoint it was sent to last, if it was sent.
    pub endpoint: Option<u64>,
    /// Requests sent upstream for it.
    pub attempts: u8,
    /// How it ended.
    pub fate: Fate,
    /// Whether the cache had it; none when it was not asked.
    pub hit: Option<bool>,
    /// Whether its client gave up before it was answered.
    pub abandoned: bool,
    /// Seconds by phase.
    pub phases: [f64; Phase::ALL.len()],
}

impl Event {
    fn phase(&self, phase: Phase) -> f64 {
        self.phases.get(phase as usize).copied().unwrap_or_default()
    }

    /// The upstream's part of its time.
    #[must_use]
    pub fn service(&self) -> f64 {
        self.phase(Phase::Connect) + self.phase(Phase::Wait) + self.phase(Phase::Body)
    }

    /// The client's part of its time.
    #[must_use]
    pub fn delivery(&self) -> f64 {
        self.phase(Phase::Receive) + self.phase(Phase::Deliver)
    }
}

/// How full the upstream was, sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gauges {
    /// Samples.
    pub samples: f64,
    /// Requests in flight, summed over the samples.
    pub in_flight: f64,
    /// The limit, likewise.
    pub limit: f64,
    /// Requests waiting, likewise.
    pub waiting: f64,
    /// Samples in which the limit was reached and somebody waited, or somebody was turned away since the last.
    pub saturated: f64,
}

impl Gauges {
    fn add(&mut self, other: &Self, by: f64) {
        self.samples += other.samples * by;
        self.in_flight += other.in_flight * by;
        self.limit += other.limit * by;
        self.waiting += other.waiting * by;
        self.saturated += other.saturated * by;
    }
}

/// A quantity of which the mean and the spread are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// How many values.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their logarithms: one slow straggler moves the mean, but not the mean of the logarithms.
    pub logs: f64,
}

impl Moments {
    /// The shortest time told apart: what is below a tenth of a millisecond is nobody's incident.
    const FLOOR: f64 = 1e-4;
    /// Its natural logarithm.
    const FLOOR_LOG: f64 = -4.0 * std::f64::consts::LN_10;

    fn record(&mut self, seconds: f64) {
        self.count += 1.0;
        self.sum += seconds;
        // Most of what is recorded is that short, and a logarithm is dear.
        self.logs += if seconds <= Self::FLOOR {
            Self::FLOOR_LOG
        } else {
            seconds.ln()
        };
    }

    fn add(&mut self, other: &Self, by: f64) {
        self.count += other.count * by;
        self.sum += other.sum * by;
        self.logs += other.logs * by;
    }

    /// The mean; zero of none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count > 0.0 {
            self.sum / self.count
        } else {
            0.0
        }
    }

    /// How much the values vary: their squared coefficient of variation, were they lognormal, against that of an
    /// exponential's values; 1 at least.
    #[must_use]
    pub fn spread(&self) -> f64 {
        /// What this estimate says of an exponential.
        const EXPONENTIAL: f64 = 2.17;
        if self.count <= 0.0 || self.sum <= 0.0 {
            return 1.0;
        }
        let skew = 2.0 * (self.mean().ln() - self.logs / self.count);
        ((skew.exp() - 1.0) / EXPONENTIAL).max(1.0)
    }

    /// The geometric mean; zero of none.
    #[must_use]
    pub fn typical(&self) -> f64 {
        if self.count > 0.0 {
            (self.logs / self.count).exp()
        } else {
            0.0
        }
    }
}

/// Sums over a stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Its length.
    pub seconds: f64,
    /// Requests that asked for the upstream, answered or not.
    pub demand: f64,
    /// Those that Tidegate refused.
    pub refused: f64,
    /// Those among them that would have found room, in a sound upstream.
    pub barred: f64,
    /// Those that reached the upstream.
    pub sent: f64,
    /// Times they were sent.
    pub attempts: f64,
    /// Those the upstream failed.
    pub failed: f64,
    /// Those whose client had been refused or failed the same before.
    pub after_failure: f64,
    /// Hastily after a failure.
    pub hasty_after_failure: f64,
    /// Those whose client had been answered the same before.
    pub after_success: f64,
    /// Hastily after a success.
    pub hasty_after_success: f64,
    /// Those the cache was asked for, and had.
    pub lookups: f64,
    /// Those the cache had.
    pub hits: f64,
    /// The upstream's part of the time of those that reached it.
    pub service: Moments,
    /// Time in the queue of those that reached it.
    pub queue: Moments,
    /// The client's part of the time of those that were answered.
    pub delivery: Moments,
    /// Tidegate's own part of the time.
    pub decide: Moments,
    /// All of the time of those that were not refused.
    pub total: Moments,
    /// By endpoint, the upstream's part.
    pub endpoints: Table,
    /// By client: all its requests, the upstream's part of their time.
    pub clients: Table,
    /// By component of the upstream: what Server-Timing told.
    pub components: Table,
    /// How full it was.
    pub gauges: Gauges,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            demand: 0.0,
            refused: 0.0,
            barred: 0.0,
            sent: 0.0,
            attempts: 0.0,
            failed: 0.0,
            after_failure: 0.0,
            hasty_after_failure: 0.0,
            after_success: 0.0,
            hasty_after_success: 0.0,
            lookups: 0.0,
            hits: 0.0,
            service: Moments::default(),
            queue: Moments::default(),
            delivery: Moments::default(),
            decide: Moments::default(),
            total: Moments::default(),
            endpoints: Table::new(MAX_ENDPOINTS),
            clients: Table::new(MAX_CLIENTS),
            components: Table::new(MAX_COMPONENTS),
            gauges: Gauges::default(),
        }
    }
}

impl Span {
    /// Counts one request.
    pub fn record(&mut self, event: &Event) {
        self.demand += 1.0;
        let barred = event.fate == Fate::Barred;
        let refused = barred || event.fate == Fate::Refused;
        self.refused += f64::from(u8::from(refused));
        self.barred += f64::from(u8::from(barred));
        let lookups = f64::from(u8::from(event.hit.is_some()));
        let hits = f64::from(u8::from(event.hit == Some(true)));
        self.lookups += lookups;
        self.hits += hits;
        let abandoned = f64::from(u8::from(event.abandoned));
        let tally = Tally {
            count: 1.0,
            abandoned,
            abandoned_time: abandoned * event.service(),
            lookups,
            hits,
            sent: f64::from(u8::from(event.attempts > 0)),
            time: event.service(),
            failed: f64::from(u8::from(matches!(
                event.fate,
                Fate::Failed | Fate::Unreachable
            ))),
            unreachable: f64::from(u8::from(event.fate == Fate::Unreachable)),
            refused: f64::from(u8::from(event.fate == Fate::Refused)),
        };
        self.clients.add(event.client, &tally);
        self.decide.record(event.phase(Phase::Decide));
        if !refused {
            self.total.record(event.phases.iter().sum());
        }
        self.failed += tally.failed;
        if let Some(endpoint) = event.endpoint {
            self.endpoints.add(endpoint, &tally);
        }
        if event.attempts > 0 {
            self.sent += 1.0;
            self.attempts += f64::from(event.attempts);
            self.service.record(tally.time);
            self.queue.record(event.phase(Phase::Queue));
            self.delivery.record(event.delivery());
        } else if !refused {
            self.delivery.record(event.delivery());
        }
    }

    /// Counts what a request was to the last one of its client for the same.
    pub fn pace(&mut self, pace: Pace) {
        let (all, hastily) = if pace.after_failure {
            (&mut self.after_failure, &mut self.hasty_after_failure)
        } else {
            (&mut self.after_success, &mut self.hasty_after_success)
        };
        *all += 1.0;
        *hastily += f64::from(u8::from(pace.hasty));
    }

    /// Requests that only repeat one that was refused, failed or given up. Those are hasty; of the others, as many are by chance as
    /// after a success. A crowd that asks for more of everything repeats nothing. Of some failures it is not known what
    /// followed them; as much as of the others.
    #[must_use]
    pub fn repeats(&self) -> f64 {
        /// Where nearly all are hasty, nothing is told by haste.
        const MOST: f64 = 0.9;
        let chance = Self::share(self.hasty_after_success, self.after_success);
        if chance > MOST {
            return 0.0;
        }
        let hasty = Self::share(self.hasty_after_failure, self.after_failure);
        let repeated = ((hasty - chance) / (1.0 - chance)).clamp(0.0, 1.0);
        repeated * self.after_failure.max(self.unserved())
    }

    /// Requests of which nothing came: refused, failed, or given up by their clients.
    #[must_use]
    pub fn unserved(&self) -> f64 {
        self.failed + self.refused + self.endpoints.total().abandoned
    }

    /// Counts one call of a component of the upstream.
    pub fn component(&mut self, name: u64, seconds: f64) {
        let tally = Tally {
            count: 1.0,
            sent: 1.0,
            time: seconds,
            ..Tally::default()
        };
        self.components.add(name, &tally);
    }

    /// Counts one sample of how full the upstream is.
    pub fn sample(&mut self, in_flight: u32, limit: u32, waiting: u32, turned_away: bool) {
        let full = in_flight.saturating_mul(100) >= limit.saturating_mul(95);
        let gauges = Gauges {
            samples: 1.0,
            in_flight: in_flight.into(),
            limit: limit.into(),
            waiting: waiting.into(),
            saturated: f64::from(u8::from(turned_away || (full && waiting > 0))),
        };
        self.gauges.add(&gauges, 1.0);
    }

    /// Adds everything in `other`, `by` times.
    pub fn merge(&mut self, other: &Self, by: f64) {
        self.seconds += other.seconds * by;
        self.demand += other.demand * by;
        self.refused += other.refused * by;
        self.barred += other.barred * by;
        self.sent += other.sent * by;
        self.attempts += other.attempts * by;
        self.failed += other.failed * by;
        self.after_failure += other.after_failure * by;
        self.hasty_after_failure += other.hasty_after_failure * by;
        self.after_success += other.after_success * by;
        self.hasty_after_success += other.hasty_after_success * by;
        self.lookups += other.lookups * by;
        self.hits += other.hits * by;
        self.service.add(&other.service, by);
        self.queue.add(&other.queue, by);
        self.delivery.add(&other.delivery, by);
        self.decide.add(&other.decide, by);
        self.total.add(&other.total, by);
        self.gauges.add(&other.gauges, by);
        self.endpoints.merge(&other.endpoints, by);
        self.clients.merge(&other.clients, by);
        self.components.merge(&other.components, by);
    }

    /// Multiplies every sum: the past fades.
    pub fn fade(&mut self, by: f64) {
        let faded = std::mem::take(self);
        self.merge(&faded, by);
    }

    /// `count` a second; zero in no time.
    #[must_use]
    pub fn rate(&self, count: f64) -> f64 {
        if self.seconds > 0.0 {
            count / self.seconds
        } else {
            0.0
        }
    }

    /// `part` of `whole`; zero of nothing.
    #[must_use]
    pub fn share(part: f64, whole: f64) -> f64 {
        if whole > 0.0 { part / whole } else { 0.0 }
    }

    /// The share of the samples in which the upstream was full.
    #[must_use]
    pub fn saturation(&self) -> f64 {
        Self::share(self.gauges.saturated, self.gauges.samples)
    }

    /// Requests under way at once, on average.
    #[must_use]
    pub fn under_way(&self) -> f64 {
        Self::share(self.gauges.in_flight, self.gauges.samples)
    }

    /// How many more are under way than what has ended tells of: by Little's law the two are the same, unless some have been
    /// under way for long and do not end.
    #[must_use]
    pub fn stuck(&self) -> f64 {
        let told = self.rate(self.service.sum + self.delivery.sum);
        (self.under_way() - told).max(0.0)
    }

    /// The share of the limit in use.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        Self::share(self.gauges.in_flight, self.gauges.limit)
    }
}
