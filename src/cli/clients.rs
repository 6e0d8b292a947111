//! `tidegate clients`: who takes most, and what is said against whom.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::query::QueryArgs;
use super::table::{Cell, Style, Table, Tone, latency, plain, share};
use crate::admin::api::{Client, ClientEvidence, ClientFlag, Clients};

/// Which clients.
#[derive(Debug, Args)]
pub(super) struct ClientsArgs {
    /// What to sort by.
    #[arg(long, value_name = "WHAT", default_value = "cost")]
    sort: Sort,
    /// How many to show at most.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u16,
    #[command(flatten)]
    query: QueryArgs,
}

/// What to sort by.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    /// Upstream time, after those that are noisy at this moment.
    Cost,
    /// Requests.
    Requests,
    /// Refused requests.
    Refused,
    /// The share of the peak, after those that borrow it.
    PeakShare,
}

pub(super) fn clients(args: ClientsArgs) -> ExitCode {
    let sort = match args.sort {
        Sort::Cost => "cost",
        Sort::Requests => "requests",
        Sort::Refused => "refused",
        Sort::PeakShare => "peak_share",
    };
    let path = format!("/api/v1/clients?sort={sort}&limit={}", args.limit);
    args.query.show(&path, text)
}

fn text(answer: &Clients, style: Style) -> String {
    let headings = [
        "CLIENT", "FLAGS", "REQUESTS", "REFUSED", "COST", "SHARE", "10S", "PEAK", "P98",
    ];
    let mut table = Table::new(headings, 2);
    for client in &answer.clients {
        table.row(row(client));
    }
    let mut text = table.render(style);
    for client in &answer.clients {
        for flag in &client.flags {
            text.push_str(&reason(client, flag));
        }
    }
    let (shown, total) = (answer.clients.len(), answer.total);
    text.push_str(&format!("\n{shown} of {total} clients followed by name"));
    text
}

fn row(client: &Client) -> [Cell; 9] {
    let mut flags: Vec<&str> = client.flags.iter().map(|one| one.flag.as_str()).collect();
    flags.sort_unstable();
    flags.dedup();
    let tone = match flags.as_slice() {
        [] => Tone::Plain,
        flags if flags.contains(&"noisy") => Tone::Bad,
        _ => Tone::Warning,
    };
    let first = client.upstreams.first();
    [
        client.client.as_str().into(),
        Cell::new(&flags.join(","), tone),
        client.requests.to_string().into(),
        client.refused.to_string().into(),
        latency(Some(client.upstream_seconds * 1e3)).into(),
        share(client.share.overall).into(),
        share(client.share.last_10s).into(),
        client
            .share
            .peak
            .map_or_else(|| "-".to_owned(), share)
            .into(),
        latency(first.and_then(|one| one.p98_ms)).into(),
    ]
}

/// Why a client is flagged, with the numbers.
fn reason(client: &Client, flag: &ClientFlag) -> String {
    let mut text = format!(
        "\n{} is {} at {} since {}",
        plain(&client.client),
        plain(&flag.flag),
        plain(flag.upstream.as_deref().unwrap_or("no upstream")),
        plain(&flag.since),
    );
    if let Some(owner) = &client.owner {
        text.push_str(&format!("; ask {}", plain(owner)));
    }
    if !flag.routes.is_empty() {
        text.push_str(&format!("; routes {}", plain(&flag.routes.join(", "))));
    }
    for evidence in &flag.evidence {
        text.push_str(&format!("\n  {}", plain(&number(evidence))));
    }
    text.push('\n');
    text
}

fn number(evidence: &ClientEvidence) -> String {
    let show = |value: f64| {
        if evidence.unit == "requests" {
            format!("{value:.0}")
        } else {
            format!("{value:.3}")
        }
    };
    let value = show(evidence.value);
    match evidence.baseline {
        Some(baseline) => format!("{}: {value}, {}", evidence.what, show(baseline)),
        None => format!("{}: {value}", evidence.what),
    }
}
