//! `GET /api/v1/host`: the machine, second by second.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Json;
use serde::Deserialize;

use super::AdminState;
use super::api::{Host, HostRow};
use super::problem::Problem;
use crate::clock::SystemClock;
use crate::observe::access_log::rfc3339;
use crate::observe::host::Sample;
use crate::observe::host::report::{Column, Interval};

/// What is shown unless told: the last minute.
const USUAL: u64 = 60;
/// Rows in an answer: a step is as long as it takes.
const MAX_ROWS: u64 = 3_600;

/// From when to when, in seconds since the Unix epoch, and how many seconds make a row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    from: Option<u64>,
    to: Option<u64>,
    step: Option<u64>,
}

pub(super) async fn host(
    State(state): State<AdminState>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Json<Host>, Problem> {
    let Query(window) =
        window.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let now = SystemClock.unix_micros() / 1_000_000;
    let to = window.to.unwrap_or(now).min(now);
    let from = window.from.unwrap_or_else(|| to.saturating_sub(USUAL));
    let least = to.saturating_sub(from).div_ceil(MAX_ROWS).max(1);
    let step = window.step.unwrap_or(1).max(least);
    let kept = std::sync::Arc::clone(&state.host_samples);
    // A file is read, a day of it at most.
    let read = tokio::task::spawn_blocking(move || kept.between(from.saturating_sub(step), to));
    let samples = read.await.unwrap_or_default();
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let kernel = format!("{} {}", text(system.sysname()), text(system.release()));
    Ok(Json(Host {
        system: [kernel, text(system.nodename()), text(system.machine())],
        cpus: std::thread::available_parallelism().map_or(1, Into::into),
        rows: rows(&samples, step),
    }))
}

/// A row for each pair of samples that are `step` seconds apart, or more where some are missing.
pub(super) fn rows(samples: &[Sample], step: u64) -> Vec<HostRow> {
    let mut rows = Vec::new();
    let mut samples = samples.iter();
    let Some(mut from) = samples.next() else {
        return rows;
    };
    for to in samples {
        // Samples come a little late, never early enough for this to matter.
        if (to.at - from.at + 500_000) / 1_000_000 >= step {
            rows.push(row(&Interval {
                from: *from,
                to: *to,
            }));
            from = to;
        }
    }
    rows
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a length of time needs no more digits"
)]
fn row(interval: &Interval) -> HostRow {
    let groups = [
        ("cpu", interval.utilisation()),
        ("memory", interval.memory()),
        ("queue", interval.queue()),
        ("pressure", interval.pressures()),
        ("network", interval.network(false)),
        ("loopback", interval.network(true)),
        ("tcp", interval.tcp()),
        ("tasks", interval.tasks()),
        ("disks", interval.disks()),
        ("process", interval.own()),
    ];
    let table = |columns: Vec<Column>| {
        let columns = columns.into_iter();
        columns
            .map(|(heading, value)| (heading.to_owned(), value))
            .collect()
    };
    HostRow {
        at: rfc3339(interval.to.at),
        seconds: (interval.to.at - interval.from.at) as f64 / 1e6,
        groups: groups
            .map(|(name, columns)| (name.to_owned(), table(columns)))
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_spans_a_step_or_the_gap_in_its_place() {
        let at = |second: u64| Sample {
            at: second * 1_000_000 + second % 3,
            ..Sample::default()
        };
        let samples: Vec<Sample> = [10, 11, 12, 13, 19, 20].into_iter().map(at).collect();
        let lengths = |step| {
            let rows = rows(&samples, step);
            rows.iter()
                .map(|row| row.seconds.round().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(1), ["1", "1", "1", "6", "1"]);
        assert_eq!(lengths(2), ["2", "7"]);
        assert!(rows(&[], 1).is_empty());
    }
}
