//! What exchanges are folded into: the exported families, and the last minute by route and upstream.
//!
//! Folding is on the bill of every request, so it is a few additions in dense tables: identities index
//! vectors, and label sets are packed into integers. Nothing here allocates once a series exists, knows a
//! name or takes a lock. Depends on measure, model and the exchange.

use std::time::Duration;

use super::components::{Components, Told};
use super::exchange::Exchange;
use super::exemplars::{Exemplar, Timed};
use super::keys::{ClientKey, RejectedKey, ServerKey};
use super::readings::Readings;
use super::series::Series;
use super::trace;
use crate::clock::Instant;
use crate::measure::histogram::{Histogram, Place};
use crate::measure::recent::{Recent, RecentSummary};
use crate::measure::sketch::FineSketch;
use crate::measure::window::Window;
use crate::model::{Outcome, Phase, RouteId, UpstreamId};

/// Bound on the series of one family.
pub const MAX_SERIES: usize = 4_096;

/// Bound on the routes, and on the upstreams, that have a summary of their own.
const MAX_SUBJECTS: usize = 4_096;

/// Bound on the upstreams whose phases have windows: one takes 110 KB, and up to some MB under load.
const MAX_WINDOWED: usize = 256;

/// The spans quantiles are told over.
pub const SPANS: [Duration; 4] = [
    Duration::from_secs(10),
    Duration::from_mins(1),
    Duration::from_mins(5),
    Window::LONGEST,
];

/// Every outcome, in the order of [`Totals::by_outcome`].
pub const OUTCOMES: [Outcome; 5] = [
    Outcome::Answered,
    Outcome::Refused,
    Outcome::ClientGone,
    Outcome::UpstreamBroke,
    Outcome::Drained,
];

/// Sums over everything since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Exchanges.
    pub exchanges: u64,
    /// Those of them that failed: 5xx, broken off by the upstream, or cut by a drain.
    pub errors: u64,
    /// Exchanges by [`OUTCOMES`].
    pub by_outcome: [u64; OUTCOMES.len()],
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
}

/// What one route or upstream did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Exchanges since the start.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// The last minute. A route's latency is its exchanges' total; an upstream's is connect, wait and body
    /// of those that reached it.
    pub recent: RecentSummary,
}

/// The recent latencies of an upstream's exchanges by phase, and in total.
type Windows = [Window; Phase::ALL.len() + 1];

/// Recent latencies by [`SPANS`]; in each by [`Phase::ALL`], the total behind them.
pub type Latencies = [[FineSketch; Phase::ALL.len() + 1]; SPANS.len()];

#[derive(Debug, Default)]
struct Subject {
    requests: u64,
    errors: u64,
    bytes_in: u64,
    bytes_out: u64,
    recent: Recent,
}

impl Subject {
    fn record(&mut self, now: Instant, exchange: &Exchange, error: bool, latency: Option<u64>) {
        self.requests += 1;
        self.errors += u64::from(error);
        self.bytes_in += exchange.bytes_in;
        self.bytes_out += exchange.bytes_out;
        self.recent.record(now, error, latency);
    }
}

/// The exported families: what a scrape copies.
#[derive(Clone, Debug)]
pub struct Families {
    /// `http_server_request_duration_seconds` by [`ServerKey`].
    pub server: Series<Timed>,
    /// `http_client_request_duration_seconds` by [`ClientKey`].
    pub client: Series<Timed>,
    /// `tidegate_phase_duration_seconds` by upstream + 1; 0: no upstream.
    pub phases: Series<[Histogram; Phase::ALL.len()]>,
    /// `tidegate_rejected_total` by [`RejectedKey`].
    pub rejected: Series<u64>,
    /// Request and response body bytes by route + 1; 0: no route.
    pub bytes: Series<(u64, u64)>,
    /// `tidegate_endpoint_phase_duration_seconds` by upstream + 1 and, in the lower 32 bits,
    /// endpoint + 1.
    pub endpoints: Series<[Histogram; Phase::ALL.len()]>,
    /// `tidegate_component_duration_seconds`.
    pub components: Components,
    /// What services report of themselves.
    pub readings: Readings,
    /// Sums over everything.
    pub totals: Totals,
}

/// Everything the observer folds exchanges into.
#[derive(Debug)]
pub struct Tables {
    families: Families,
    routes: Vec<Option<Box<Subject>>>,
    upstreams: Vec<Option<Box<Subject>>>,
    windows: Vec<Option<Box<Windows>>>,
    start: Instant,
}

impl Tables {
    /// Empty tables of a process that began at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            families: Families {
                server: Series::new(MAX_SERIES),
                client: Series::new(MAX_SERIES),
                phases: Series::new(MAX_SERIES / Phase::ALL.len()),
                rejected: Series::new(MAX_SERIES),
                bytes: Series::new(MAX_SERIES),
                endpoints: Series::new(MAX_SERIES / Phase::ALL.len()),
                components: Components::new(MAX_SERIES),
                readings: Readings::default(),
                totals: Totals::default(),
            },
            routes: Vec::new(),
            upstreams: Vec::new(),
            windows: Vec::new(),
            start,
        }
    }

    /// The exported families.
    #[must_use]
    pub const fn families(&self) -> &Families {
        &self.families
    }

    /// What `route` did, if it did anything.
    #[must_use]
    pub fn route(&self, route: RouteId, now: Instant) -> Option<Summary> {
        self.summary(self.routes.get(route.index())?.as_deref()?, now)
    }

    /// What `upstream` did, if it did anything.
    #[must_use]
    pub fn upstream(&self, upstream: UpstreamId, now: Instant) -> Option<Summary> {
        self.summary(self.upstreams.get(upstream.index())?.as_deref()?, now)
    }

    /// The recent latencies of `upstream`, if it has any.
    #[must_use]
    pub fn latencies(&self, upstream: UpstreamId, now: Instant) -> Option<Box<Latencies>> {
        let windows = self.windows.get(upstream.index())?.as_deref()?;
        let mut all = Box::<Latencies>::default();
        for (span, phases) in SPANS.into_iter().zip(all.iter_mut()) {
            for (window, sketch) in windows.iter().zip(phases) {
                *sketch = window.over(span, now);
            }
        }
        Some(all)
    }

    fn summary(&self, subject: &Subject, now: Instant) -> Option<Summary> {
        Some(Summary {
            requests: subject.requests,
            errors: subject.errors,
            bytes_in: subject.bytes_in,
            bytes_out: subject.bytes_out,
            recent: subject.recent.summary(self.start, now),
        })
    }

    /// Folds what a response said of the service that made it.
    pub fn fold_told(&mut self, told: &Told) {
        match told {
            Told::Took(took) => self.families.components.fold(took),
            Told::Metric(reading) => self.families.readings.fold(reading),
        }
    }

    /// Names the trace of an exchange that was folded: only where its series stands for itself.
    pub fn fold_trace(&mut self, record: &trace::Record) {
        let exchange = &record.exchange;
        let total = nanos(exchange.phases.total());
        let exemplar = |nanos| Exemplar {
            trace: record.context.trace,
            nanos,
            at: exchange.started.saturating_add(total / 1_000),
        };
        let families = &mut self.families;
        if let Some(server) = families.server.known(ServerKey::pack(exchange)) {
            server.name(exemplar(total));
        }
        if exchange.attempts > 0
            && let Some(client) = families.client.known(ClientKey::pack(exchange))
        {
            let parts = [Phase::Connect, Phase::Wait, Phase::Body];
            let time = parts.map(|phase| nanos(exchange.phases.get(phase)));
            client.name(exemplar(time.iter().sum()));
        }
    }

    /// Folds one exchange that ended about `now`.
    pub fn fold(&mut self, exchange: &Exchange, now: Instant) {
        let mut phases = [0; Phase::ALL.len()];
        for (slot, phase) in phases.iter_mut().zip(Phase::ALL) {
            *slot = nanos(exchange.phases.get(phase));
        }
        let total = phases.iter().sum();
        let [_, _, _, connect, wait, body, _] = phases;
        let upstream_time = (exchange.attempts > 0).then_some(connect + wait + body);
        let error = is_error(exchange);

        let families = &mut self.families;
        families.fold_counters(exchange, error);
        let server = families.server.entry(ServerKey::pack(exchange));
        server.histogram.record(total);
        if let Some(time) = upstream_time {
            let client = families.client.entry(ClientKey::pack(exchange));
            client.histogram.record(time);
        }
        families.fold_phases(exchange, phases.map(Place::of));

        let route = exchange.route.map(RouteId::index);
        if let Some(subject) =
            route.and_then(|index| subject(&mut self.routes, index, MAX_SUBJECTS))
        {
            subject.record(now, exchange, error, Some(total));
        }
        let upstream = exchange.upstream.map(UpstreamId::index);
        if let Some(subject) =
            upstream.and_then(|index| subject(&mut self.upstreams, index, MAX_SUBJECTS))
        {
            subject.record(now, exchange, error, upstream_time);
        }
        if let Some(windows) =
            upstream.and_then(|index| subject(&mut self.windows, index, MAX_WINDOWED))
        {
            for (window, time) in windows.iter_mut().zip(phases.into_iter().chain([total])) {
                window.record(now, time);
            }
        }
    }
}

impl Families {
    fn fold_phases(&mut self, exchange: &Exchange, phases: [Place; Phase::ALL.len()]) {
        let upstream = exchange.upstream.map_or(0, |id| id.index() as u64 + 1);
        let endpoint = exchange.endpoint.map(|id| id.index() as u64 + 1);
        let endpoint = endpoint.map(|id| self.endpoints.entry(upstream << 32 | id));
        for row in [self.phases.entry(upstream)].into_iter().chain(endpoint) {
            for (histogram, place) in row.iter_mut().zip(phases) {
                histogram.record_at(place);
            }
        }
    }

    fn fold_counters(&mut self, exchange: &Exchange, error: bool) {
        let totals = &mut self.totals;
        totals.exchanges += 1;
        totals.errors += u64::from(error);
        totals.bytes_in += exchange.bytes_in;
        totals.bytes_out += exchange.bytes_out;
        let outcome = match exchange.outcome {
            Outcome::Answered => 0,
            Outcome::Refused => 1,
            Outcome::ClientGone => 2,
            Outcome::UpstreamBroke => 3,
            Outcome::Drained => 4,
        };
        if let Some(count) = totals.by_outcome.get_mut(outcome) {
            *count += 1;
        }
        if exchange.outcome == Outcome::Refused {
            *self.rejected.entry(RejectedKey::pack(exchange, false)) += 1;
        }
        if exchange.observed.is_some() {
            *self.rejected.entry(RejectedKey::pack(exchange, true)) += 1;
        }
        let route = exchange.route.map_or(0, |id| id.index() as u64 + 1);
        let (bytes_in, bytes_out) = self.bytes.entry(route);
        *bytes_in += exchange.bytes_in;
        *bytes_out += exchange.bytes_out;
    }
}

const fn is_error(exchange: &Exchange) -> bool {
    exchange.status >= 500 || matches!(exchange.outcome, Outcome::UpstreamBroke | Outcome::Drained)
}

fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    // Bounded, so that the sum of a few cannot overflow.
    seconds
        .saturating_add(u64::from(duration.subsec_nanos()))
        .min(u64::MAX >> 3)
}

fn subject<T: Default>(
    subjects: &mut Vec<Option<Box<T>>>,
    index: usize,
    bound: usize,
) -> Option<&mut T> {
    if index >= subjects.len() {
        if index >= bound {
            return None;
        }
        subjects.resize_with(index + 1, || None);
    }
    Some(subjects.get_mut(index)?.get_or_insert_default())
}

#[cfg(test)]
pub(crate) mod tests;
