//! `tidegate inflight`: the requests under way, the oldest first.

use std::process::ExitCode;

use clap::Args;

use super::query::QueryArgs;
use super::table::{Cell, Style, Table, Tone, latency};
use crate::admin::api::{InFlight, InFlightRequest};

/// How many requests.
#[derive(Debug, Args)]
pub(super) struct InFlightArgs {
    /// How many to show at most.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u16,
    #[command(flatten)]
    query: QueryArgs,
}

pub(super) fn inflight(args: InFlightArgs) -> ExitCode {
    let path = format!("/api/v1/inflight?limit={}", args.limit);
    args.query.show(&path, text)
}

fn text(answer: &InFlight, style: Style) -> String {
    let headings = ["REQUEST", "AGE", "PHASE", "UPSTREAM", "ENDPOINT", "TRY"];
    let mut table = Table::new(headings, 5);
    for request in &answer.requests {
        table.row(row(request));
    }
    let mut text = table.render(style);
    let (shown, total) = (answer.requests.len(), answer.total);
    text.push_str(&format!("\n{shown} of {total} under way"));
    if answer.silent_workers > 0 {
        let silent = super::table::counted(answer.silent_workers as u64, "worker");
        text.push_str(&format!("; {silent} did not answer"));
    }
    text
}

fn row(request: &InFlightRequest) -> [Cell; 6] {
    let path = request.path.as_deref().unwrap_or_default();
    let tone = match request.age_ms {
        Some(age) if age >= 10_000.0 => Tone::Bad,
        Some(age) if age >= 1_000.0 => Tone::Warning,
        _ => Tone::Plain,
    };
    [
        format!("{} {path}", request.method).into(),
        Cell::new(&latency(request.age_ms), tone),
        request.phase.as_str().into(),
        request.upstream.as_deref().unwrap_or("-").into(),
        request.endpoint.as_deref().unwrap_or("-").into(),
        request.attempts.to_string().into(),
    ]
}
