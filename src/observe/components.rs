//! What services say of their own time: `Server-Timing` (W3C), folded by upstream and component.
//!
//! A service adds a metric with one header field. What a field may say is unlimited at the edge and bounded
//! here: so many metrics a response are read, so many names are known, and whatever comes beyond that is one
//! component, `__other__`, so that the time told is never lost. Depends on measure and the model.

use std::sync::Arc;

use super::readings::Reading;
use super::series::Series;
use super::vocabulary::{Vocabulary, is_token, members, parameter};
use crate::measure::histogram::Histogram;
use crate::model::UpstreamId;

/// Metrics read of one response.
pub const MAX_READ: usize = 16;
/// Names known, over all upstreams.
const MAX_NAMES: usize = 256;
/// The index that stands for all names beyond that.
const OTHER: u32 = u32::MAX;

/// One upstream's word on one component of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Took {
    /// Who says so.
    pub upstream: UpstreamId,
    /// The component: `db`, `cache`.
    pub name: Box<str>,
    /// Its time.
    pub nanos: u64,
}

/// What a response says of the service that made it.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A part of its time.
    Took(Took),
    /// A metric of its own.
    Metric(Reading),
}

/// The names and durations of one `Server-Timing` field. Metrics without a duration, or with one that makes no
/// sense, are left out.
pub fn read(field: &str) -> impl Iterator<Item = (&str, u64)> {
    members(field, b',').take(MAX_READ).filter_map(|metric| {
        let mut parts = members(metric, b';');
        let name = parts.next().filter(|name| is_token(name))?;
        let milliseconds: f64 = parameter(parts, "dur")?.parse().ok()?;
        Some((name, nanos(milliseconds)?))
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded to a day, and not below zero"
)]
fn nanos(milliseconds: f64) -> Option<u64> {
    (0.0..86_400_000.0)
        .contains(&milliseconds)
        .then_some((milliseconds * 1e6) as u64)
}

/// Everything told so far.
#[derive(Clone, Debug)]
pub struct Components {
    names: Vocabulary,
    series: Series<Histogram>,
}

impl Components {
    /// None yet, of at most `bound` series.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            names: Vocabulary::new(MAX_NAMES),
            series: Series::new(bound),
        }
    }

    /// Takes in what an upstream says.
    pub fn fold(&mut self, took: &Took) {
        let name = self.names.number(&took.name).unwrap_or(OTHER);
        let key = (took.upstream.index() as u64) << 32 | u64::from(name);
        self.series.entry(key).record(took.nanos);
    }

    /// The histograms with their upstream's index and the component's name; none for the names beyond the bound.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Option<&Arc<str>>, &Histogram)> {
        self.series.iter().map(|(key, histogram)| {
            let name = u32::try_from(key & u64::from(OTHER)).unwrap_or(OTHER);
            let upstream = usize::try_from(key >> 32).unwrap_or(usize::MAX);
            (upstream, self.names.name(name), histogram)
        })
    }

    /// What is folded into one because there are too many series, and how often.
    #[must_use]
    pub fn other(&self) -> Option<(&Histogram, u64)> {
        self.series.other()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_are_written() {
        let read = |field| read(field).collect::<Vec<_>>();
        assert_eq!(
            read("db;dur=53, cache;desc=\"a, b;dur=9\";dur=2.5,app ; DUR = \"1\""),
            [("db", 53_000_000), ("cache", 2_500_000), ("app", 1_000_000)]
        );
        for nothing in [
            "",
            "miss",
            "db;dur=",
            "db;dur=-1",
            "db;dur=NaN",
            "db;dur=1e99",
            "a b;dur=1",
            ";dur=1",
        ] {
            assert_eq!(read(nothing), [], "{nothing:?}");
        }
        assert_eq!(read(&"a;dur=1,".repeat(100)).len(), MAX_READ);
    }

    #[test]
    fn names_beyond_the_bound_share_one_series_and_no_time_is_lost() {
        let mut components = Components::new(1_000);
        for name in 0..2 * MAX_NAMES {
            components.fold(&Took {
                upstream: UpstreamId::new(1),
                name: format!("c{name}").into(),
                nanos: 10,
            });
        }
        assert_eq!(components.iter().count(), MAX_NAMES + 1);
        let (upstream, name, other) = components.iter().last().unwrap();
        assert_eq!((upstream, name, other.count()), (1, None, MAX_NAMES as u64));
        let all: u128 = components.iter().map(|(_, _, one)| one.sum_nanos()).sum();
        assert_eq!(all, 20 * MAX_NAMES as u128);
    }
}
