//! Reports over the usage ledger: read on a thread for work that waits, never on the runtime.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use serde::Deserialize;

use super::problem::Problem;
use super::{AdminState, api};
use crate::clock::SystemClock;
use crate::observe::access_log::rfc3339;
use crate::usage::report::{
    self, By, Database, First, Line, Question, Report, hours as hours_of, peak_minutes, report,
};
use crate::usage::sums::Sums;

/// Rows of an answer unless told, and at most.
const ROWS: usize = 1_000;
const MOST_ROWS: usize = 200_000;
/// Pairs of an answer unless told.
const PAIRS: usize = 100;
/// Clients told apart by the hour unless told, and at most.
const DRAWN: usize = 8;
const MOST_DRAWN: usize = 100;
/// The range unless told, in seconds.
const WEEK: u64 = 7 * 86_400;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    from: Option<String>,
    to: Option<String>,
    by: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn usage(
    State(state): State<AdminState>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<api::Usage>, Problem> {
    let (question, asked) = question(&state, asked, ROWS)?;
    let by = asked.by.as_deref().unwrap_or("client");
    let by = by.split(',').filter(|word| !word.is_empty()).map(|word| {
        let detail = "by takes client, route, upstream and hour, with commas between them.";
        By::from_word(word).ok_or_else(|| bad(detail))
    });
    let question = Question {
        by: by.collect::<Result<_, _>>()?,
        ..question
    };
    let declared = declared(&state);
    let by_client = question.by == [By::Client];
    let names = declared.iter().filter(|_| by_client);
    let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
    let asked = question.clone();
    let (report, peaks) = read(&state, move |ledger| {
        let report = report(ledger, &asked)?;
        Ok((report, peak_minutes(ledger, &asked, &names)?))
    })
    .await?;
    let rows = report.lines.iter().map(|line| {
        let mut row = row(line, &report);
        let client = row.client.as_ref().filter(|_| by_client);
        let known = client.and_then(|client| declared.iter().find(|(name, _)| name == client));
        if let Some((name, rate)) = known {
            row.declared_rate = Some(*rate);
            row.peak_rate = peaks.get(name).map(|requests| *requests as f64 / 60.0);
        }
        row
    });
    Ok(Json(api::Usage {
        from: time(question.from),
        to: time(question.to),
        by: question
            .by
            .iter()
            .map(|by| by.as_str().to_owned())
            .collect(),
        total: sums(&report.total),
        row_count: report.rows,
        rows: rows.collect(),
    }))
}

pub(super) async fn hours(
    State(state): State<AdminState>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<api::UsageHours>, Problem> {
    let (question, _) = question(&state, asked, DRAWN)?;
    let question = Question {
        by: vec![By::Client],
        limit: question.limit.min(MOST_DRAWN),
        ..question
    };
    let (from, to) = (time(question.from), time(question.to));
    let hours = read(&state, move |ledger| {
        let dearest = report::first(ledger, &question)?.into_iter();
        let names: Vec<String> = dearest.filter_map(|key| key.client).collect();
        hours_of(ledger, &question, &names)
    })
    .await?;
    let hour = |(hour, client, micros): (u64, String, u64)| api::UsageHour {
        hour: time(hour),
        client,
        upstream_seconds: micros as f64 / 1e6,
    };
    Ok(Json(api::UsageHours {
        from,
        to,
        hours: hours.into_iter().map(hour).collect(),
    }))
}

pub(super) async fn traffic(
    State(state): State<AdminState>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<api::TrafficReport>, Problem> {
    let (question, _) = question(&state, asked, PAIRS)?;
    let question = Question {
        by: vec![By::Client, By::Route, By::Upstream],
        first: First::Chattiest,
        ..question
    };
    let asked = question.clone();
    let report = read(&state, move |ledger| report(ledger, &asked)).await?;
    let seconds = question.to.saturating_sub(question.from).max(1) as f64;
    let pairs = report.lines.into_iter().map(|line| api::TrafficPair {
        client: line.key.client.unwrap_or_default(),
        route: line.key.route.unwrap_or_default(),
        upstream: line.key.upstream.unwrap_or_default(),
        calls_per_trace: Some(line.sums.traced as f64 / line.sums.traces as f64)
            .filter(|_| line.sums.traces > 0),
        calls: line.sums.requests,
        calls_per_second: line.sums.requests as f64 / seconds,
        bytes: line.sums.bytes_in + line.sums.bytes_out,
        upstream_seconds: line.sums.upstream_micros as f64 / 1e6,
    });
    Ok(Json(api::TrafficReport {
        from: time(question.from),
        to: time(question.to),
        pairs: pairs.collect(),
    }))
}

fn question(
    state: &AdminState,
    asked: Result<Query<Asked>, QueryRejection>,
    usual: usize,
) -> Result<(Question, Asked), Problem> {
    let Query(asked) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let now = SystemClock.unix_micros() / 1_000_000;
    let to = asked
        .to
        .as_deref()
        .map_or(Ok(now), |text| moment(text, now))?;
    let from = asked.from.as_deref();
    let from = from.map_or_else(|| Ok(to.saturating_sub(WEEK)), |text| moment(text, now))?;
    let from = state.usage.keep.begin(from, now);
    if from >= to {
        return Err(bad("from has to be before to."));
    }
    let question = Question {
        from,
        to,
        by: Vec::new(),
        first: First::Dearest,
        limit: asked.limit.unwrap_or(usual).clamp(1, MOST_ROWS),
    };
    Ok((question, asked))
}

/// A moment: RFC 3339, a date (its midnight, UTC), seconds since the Unix epoch, or `-7d` before now.
fn moment(text: &str, now: u64) -> Result<u64, Problem> {
    let seconds = |text: &str| {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit)
    };
    let parsed = if let Some(back) = text.strip_prefix('-') {
        seconds(back).map(|back| now.saturating_sub(back))
    } else if let Ok(seconds) = text.parse::<u64>() {
        // Beyond this no calendar goes.
        Some(seconds).filter(|seconds| *seconds < 253_402_300_800)
    } else {
        let whole = if text.contains('T') {
            text.to_owned()
        } else {
            format!("{text}T00:00:00Z")
        };
        let timestamp = whole.parse::<jiff::Timestamp>().ok();
        timestamp.and_then(|timestamp| u64::try_from(timestamp.as_second()).ok())
    };
    parsed.ok_or_else(|| {
        bad("a time is RFC 3339, such as 2026-11-26T08:00:00Z, a date, seconds since the Unix epoch, or -7d.")
    })
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

pub(super) async fn read<T: Send + 'static>(
    state: &AdminState,
    ask: impl FnOnce(&mut Database) -> report::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let place = state.usage.place.clone();
    let answer = tokio::task::spawn_blocking(move || ask(&mut Database::reader(&place)?)).await;
    let unread = |why: &dyn std::fmt::Display| {
        let detail = format!("The usage ledger cannot be read: {why}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    };
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unread(&error)),
        Err(error) => Err(unread(&error)),
    }
}

/// The clients that declared a rate, and which, in requests a second.
fn declared(state: &AdminState) -> Vec<(String, f64)> {
    let plan = state.plan.load();
    let known = plan.clients.known.iter();
    let rates = known.filter_map(|known| {
        let quota = known.declared_rate.as_ref()?;
        let rate = quota.amount() as f64 / quota.period().seconds() as f64;
        Some((known.name.to_string(), rate))
    });
    rates.collect()
}

fn row(line: &Line, report: &Report) -> api::UsageRow {
    let all = report.total.upstream_micros.max(1) as f64;
    api::UsageRow {
        client: line.key.client.clone(),
        route: line.key.route.clone(),
        upstream: line.key.upstream.clone(),
        hour: line.key.hour.map(time),
        sums: sums(&line.sums),
        share: line.sums.upstream_micros as f64 / all,
        peak_share: line.peak_share,
        declared_rate: None,
        peak_rate: None,
    }
}

fn sums(sums: &Sums) -> api::UsageSums {
    let [status_1xx, status_2xx, status_3xx, status_4xx, status_5xx] = sums.status;
    api::UsageSums {
        requests: sums.requests,
        refused: sums.refused,
        errors: sums.errors,
        attempts: sums.attempts,
        retries: sums.retries,
        status_1xx,
        status_2xx,
        status_3xx,
        status_4xx,
        status_5xx,
        cache_hits: sums.cache_hits,
        cache_bytes: sums.cache_bytes,
        saved_upstream_seconds: sums.saved_micros as f64 / 1e6,
        bytes_in: sums.bytes_in,
        bytes_out: sums.bytes_out,
        upstream_seconds: sums.upstream_micros as f64 / 1e6,
        p98_ms: sums.latency.quantile(0.98),
    }
}

fn time(seconds: u64) -> String {
    rfc3339(seconds.saturating_mul(1_000_000))
}
