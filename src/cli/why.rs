//! `tidegate why`: the decisions taken about one request.

use std::process::ExitCode;

use clap::Args;

use super::query::QueryArgs;
use super::table::{Cell, Style, Table, Tone, latency, plain};
use crate::admin::api::{Why, WhyDecision};

/// Which request.
#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// Its id, as in its x-request-id.
    request_id: String,
    #[command(flatten)]
    query: QueryArgs,
}

pub(super) fn why(args: WhyArgs) -> ExitCode {
    let id =
        percent_encoding::utf8_percent_encode(&args.request_id, percent_encoding::NON_ALPHANUMERIC);
    args.query.show(&format!("/api/v1/why/{id}"), text)
}

fn text(why: &Why, style: Style) -> String {
    let mut text = summary(why);
    let headings = ["AT", "POLICY", "DECISION", "SEEN", "BOUND", "WHY"];
    let mut table = Table::new(headings, 6);
    for decision in &why.decisions {
        table.row(row(decision));
    }
    text.push_str("\n\n");
    text.push_str(&table.render(style));
    let phases = why.phases.iter().filter(|phase| phase.ms > Some(0.0));
    let phases = phases.map(|phase| format!("{} {}", plain(&phase.phase), latency(phase.ms)));
    let phases: Vec<String> = phases.collect();
    text.push_str(&format!(
        "\ntook {}: {}",
        latency(why.total_ms),
        phases.join(", ")
    ));
    text
}

fn summary(why: &Why) -> String {
    let or_none = |name: &Option<String>| plain(name.as_deref().unwrap_or("none")).into_owned();
    let place = match &why.endpoint {
        Some(endpoint) => format!("{} at {}", or_none(&why.upstream), plain(endpoint)),
        None => or_none(&why.upstream),
    };
    let mut text = format!(
        "{} {} {}, status {}\nroute {}, tier {}, upstream {place}",
        plain(&why.started_at),
        plain(&why.method),
        plain(&why.outcome),
        why.status,
        or_none(&why.route),
        or_none(&why.tier),
    );
    if let Some(reason) = &why.reason {
        text.push_str(&format!("\nreason {}", plain(reason)));
    }
    if let Some(reason) = &why.would_refuse {
        text.push_str(&format!("\nwould have been refused: {}", plain(reason)));
    }
    text
}

fn row(decision: &WhyDecision) -> [Cell; 6] {
    let tone = match decision.decision.as_str() {
        "refused" | "failed" | "not_sent_again" => Tone::Bad,
        "would_refuse" | "waited" | "sent_again" | "would_send_again" => Tone::Warning,
        _ => Tone::Plain,
    };
    let unit = decision.unit.as_deref();
    [
        latency(Some(decision.at_ms)).into(),
        match &decision.name {
            Some(name) => format!("{} {name}", decision.policy).into(),
            None => decision.policy.as_str().into(),
        },
        Cell::new(&decision.decision.replace('_', " "), tone),
        quantity(decision.value, unit).into(),
        quantity(decision.threshold, unit).into(),
        decision.reason.as_deref().unwrap_or_default().into(),
    ]
}

fn quantity(value: Option<f64>, unit: Option<&str>) -> String {
    match (value, unit) {
        (None, _) => String::new(),
        (Some(seconds), Some("seconds")) => latency(Some(seconds * 1e3)),
        (Some(share), Some("ratio")) => super::table::share(share),
        (Some(number), _) => format!("{number:.0}"),
    }
}
