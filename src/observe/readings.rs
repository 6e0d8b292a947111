//! Counters and gauges that services report of themselves, `x-tidegate-metric: jobs;v=2, depth;v=7;t=gauge`, by route
//! and client.
//!
//! A team adds a metric with one header field of a response, or of its trailers, without an agent and without a library. As
//! with [`super::components`], what is said is unlimited at the edge and bounded here: so many names, so many of them on
//! so many routes, so many clients of each. The client beyond that, and at last the metric, is `__other__`: sums stay
//! exact. Depends on the model.

use std::collections::HashMap;

use super::series::Series;
use super::vocabulary::{Vocabulary, is_token, members, parameter};
use crate::model::RouteId;

/// Names known.
const MAX_NAMES: usize = 256;
/// Names on routes, each a counter or a gauge.
const MAX_ROWS: usize = 1_024;
/// Clients of one of those.
const MAX_CLIENTS: usize = 200;
/// Clients of all of them.
const MAX_VALUES: usize = 8_192;
/// The number that stands for all names beyond the bound.
const OTHER: u32 = (1 << 24) - 1;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is reported is added.
    Counter,
    /// What is reported last stands.
    Gauge,
}

/// One word of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The route of the request it stands in the response to.
    pub route: Option<RouteId>,
    /// Who sent that, as metrics call it.
    pub client: Box<str>,
    /// The metric.
    pub name: Box<str>,
    /// How it moves.
    pub kind: Kind,
    /// By how much, or whither. A counter's is not below zero.
    pub value: f64,
}

/// The metrics of one field. Those that make no sense are left out: a counter that falls, a gauge without a value.
pub fn read(field: &str) -> impl Iterator<Item = (&str, Kind, f64)> {
    members(field, b',').filter_map(|metric| {
        let mut parts = members(metric, b';');
        let name = parts.next().filter(|name| is_token(name))?;
        let parts: Vec<&str> = parts.collect();
        let of = |name| parameter(parts.iter().copied(), name);
        let kind = match of("t") {
            None | Some("counter") => Kind::Counter,
            Some("gauge") => Kind::Gauge,
            Some(_) => return None,
        };
        let value: f64 = match (of("v"), kind) {
            (Some(value), _) => value.parse().ok()?,
            // A name alone counts itself.
            (None, Kind::Counter) => 1.0,
            (None, Kind::Gauge) => return None,
        };
        let sensible = value.is_finite() && (kind == Kind::Gauge || value >= 0.0);
        sensible.then_some((name, kind, value))
    })
}

/// A metric on a route.
#[derive(Clone, Debug, Default)]
struct Row {
    clients: HashMap<Box<str>, f64>,
    other: Option<f64>,
}

/// Everything reported so far.
#[derive(Clone, Debug)]
pub struct Readings {
    names: Vocabulary,
    rows: Series<Row>,
    values: usize,
}

impl Default for Readings {
    fn default() -> Self {
        Self {
            names: Vocabulary::new(MAX_NAMES),
            rows: Series::new(MAX_ROWS),
            values: 0,
        }
    }
}

/// One series. `None` in a label: what is beyond a bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Value<'r> {
    /// The metric.
    pub name: Option<&'r str>,
    /// The route's index plus one; 0: no route.
    pub route: Option<u64>,
    /// Who sent the requests.
    pub client: Option<&'r str>,
    /// The sum, or the last.
    pub value: f64,
}

impl Readings {
    /// Takes one in.
    pub fn fold(&mut self, reading: &Reading) {
        let name = self.names.number(&reading.name).unwrap_or(OTHER);
        let route = reading.route.map_or(0, |id| id.index() as u64 + 1);
        let kind = reading.kind as u64;
        let row = self.rows.entry(kind << 63 | route << 24 | u64::from(name));
        let room = row.clients.len() < MAX_CLIENTS && self.values < MAX_VALUES;
        if room && !row.clients.contains_key(&reading.client) {
            self.values += 1;
            row.clients.insert(reading.client.clone(), 0.0);
        }
        let value = match row.clients.get_mut(&reading.client) {
            Some(value) => value,
            None => row.other.get_or_insert_default(),
        };
        match reading.kind {
            Kind::Counter => *value += reading.value,
            Kind::Gauge => *value = reading.value,
        }
    }

    /// The series of one kind. What is beyond all bounds has no kind, and stands among the counters.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = Value<'_>> {
        let rows = self
            .rows
            .iter()
            .filter(move |(key, _)| key >> 63 == kind as u64);
        let rows = rows.map(|(key, row)| {
            let name = u32::try_from(key & u64::from(OTHER)).unwrap_or(OTHER);
            let name = self.names.name(name).map(|name| &**name);
            (name, Some(key << 1 >> 25), row)
        });
        let other = self.rows.other().filter(|_| kind == Kind::Counter);
        let other = other.map(|(row, _)| (None, None, row));
        rows.chain(other).flat_map(|(name, route, row)| {
            let clients = row.clients.iter();
            let clients = clients.map(|(client, value)| (Some(&**client), *value));
            let all = clients.chain(row.other.map(|value| (None, value)));
            all.map(move |(client, value)| Value {
                name,
                route,
                client,
                value,
            })
        })
    }

    /// How many were put together because there are too many metrics on too many routes.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.rows.other().map_or(0, |(_, folded)| folded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(name: &str, client: &str, kind: Kind, value: f64) -> Reading {
        Reading {
            route: Some(RouteId::new(4)),
            client: client.into(),
            name: name.into(),
            kind,
            value,
        }
    }

    #[test]
    fn fields_are_read_as_they_are_written() {
        let read = |field| read(field).collect::<Vec<_>>();
        assert_eq!(
            read("jobs;v=1.5, depth;V=\"-7\"; t=gauge,alone, a;v=0;t=counter"),
            [
                ("jobs", Kind::Counter, 1.5),
                ("depth", Kind::Gauge, -7.0),
                ("alone", Kind::Counter, 1.0),
                ("a", Kind::Counter, 0.0)
            ]
        );
        for nothing in [
            "",
            "jobs;v=",
            "jobs;v=-1",
            "jobs;v=NaN",
            "jobs;v=inf",
            "a b;v=1",
            ";v=1",
            "depth;t=gauge",
            "jobs;v=1;t=summary",
        ] {
            assert_eq!(read(nothing), [], "{nothing:?}");
        }
    }

    #[test]
    fn a_counter_adds_up_and_a_gauge_stands() {
        let mut readings = Readings::default();
        for value in [2.0, 3.5] {
            readings.fold(&reading("jobs", "reports", Kind::Counter, value));
            readings.fold(&reading("jobs", "reports", Kind::Gauge, value));
        }
        for (kind, value) in [(Kind::Counter, 5.5), (Kind::Gauge, 3.5)] {
            let all: Vec<_> = readings.of(kind).collect();
            let expected = Value {
                name: Some("jobs"),
                route: Some(5),
                client: Some("reports"),
                value,
            };
            assert_eq!(all, [expected], "{kind:?}");
        }
    }

    #[test]
    fn beyond_the_bounds_nothing_is_lost() {
        let mut readings = Readings::default();
        let mut sum = 0.0;
        for name in 0..2 * MAX_NAMES {
            for client in 0..MAX_CLIENTS + 20 {
                let (name, client) = (format!("m{name}"), format!("c{client}"));
                readings.fold(&reading(&name, &client, Kind::Counter, 1.0));
                sum += 1.0;
            }
        }
        let told: f64 = readings.of(Kind::Counter).map(|one| one.value).sum();
        assert!((told - sum).abs() < f64::EPSILON);
        let series = readings.of(Kind::Counter).count();
        assert!(series <= MAX_VALUES + MAX_NAMES + 1, "{series}");
        assert!(readings.of(Kind::Counter).any(|one| one.name.is_none()));

        for route in 0..2_048 {
            let mut one = reading("jobs", "c", Kind::Counter, 1.0);
            one.route = Some(RouteId::new(route));
            readings.fold(&one);
        }
        assert!(readings.folded() > 0);
        let other = readings.of(Kind::Counter).find(|one| one.route.is_none());
        assert!(other.is_some_and(|one| one.value > 0.0));
    }
}
