//! `tidegate usage`: who used what, as a table, CSV, JSON, Parquet, or a page to mail around.

mod page;
mod parquet;

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::parquet::{Column, Values};
use super::client::Admin;
use super::query::fetch;
use super::table::{Cell, Style, Table, latency, plain};
use super::{USAGE, color, complain, emit, print};
use crate::admin::api::{Usage, UsageHours, UsageRow, UsageSums};

/// Clients that the page draws by the hour.
const DRAWN: usize = 8;

/// What to report, and how.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    /// Where the admin API is.
    #[arg(
        long,
        help = "Where the admin API is: http://HOST:PORT or unix:/path; TIDEGATE_TOKEN holds its token",
        value_name = "URL",
        env = "TIDEGATE_ADMIN",
        default_value = "http://127.0.0.1:9900"
    )]
    admin: Admin,
    /// From when on: RFC 3339, a date, or back from now such as -7d.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "-7d",
        allow_hyphen_values = true
    )]
    from: String,
    /// Up to when. Default: now.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// What rows are told apart by: client, route, upstream, hour, with commas between them.
    #[arg(long, value_name = "KEYS", default_value = "client")]
    by: String,
    /// Rows at most; those that cost most.
    #[arg(long, value_name = "N", default_value = "100")]
    limit: usize,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

/// A form of output.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For spreadsheets (RFC 4180).
    Csv,
    /// For programs: what the API answers, unchanged.
    Json,
    /// One page that needs nothing else, to mail around.
    Html,
    /// For programs that read columns with types (Apache Parquet).
    Parquet,
}

pub(super) fn usage(args: UsageArgs) -> ExitCode {
    if matches!(args.output, Output::Parquet) && stdout().is_terminal() {
        complain("tidegate: Parquet is nothing to look at; send it to a file: > usage.parquet");
        return ExitCode::from(USAGE);
    }
    report(&args).unwrap_or_else(|code| code)
}

fn report(args: &UsageArgs) -> Result<ExitCode, ExitCode> {
    if matches!(args.output, Output::Html) {
        return Ok(print(&html(args)?));
    }
    let (answer, bytes) = fetch::<Usage>(args.admin.clone(), &path(args, &args.by, args.limit))?;
    Ok(match args.output {
        Output::Table => print(&table(&answer, Style::new(color(&stdout())))),
        Output::Csv => print(&csv(&answer)),
        Output::Parquet => emit(&parquet::file(&columns(&answer))),
        Output::Json | Output::Html => print(&String::from_utf8_lossy(&bytes)),
    })
}

/// The page, which is by client whatever rows are asked for.
fn html(args: &UsageArgs) -> Result<String, ExitCode> {
    let clients = path(args, "client", DRAWN.max(args.limit));
    let (clients, _) = fetch::<Usage>(args.admin.clone(), &clients)?;
    let hours = format!("/api/v1/usage/hours?{}&limit={DRAWN}", range(args));
    let (hours, _) = fetch::<UsageHours>(args.admin.clone(), &hours)?;
    Ok(page::page(&clients, &hours.hours, DRAWN))
}

fn path(args: &UsageArgs, by: &str, limit: usize) -> String {
    let (range, by) = (range(args), encode(by));
    format!("/api/v1/usage?{range}&by={by}&limit={limit}")
}

fn range(args: &UsageArgs) -> String {
    let to = args.to.as_deref().map(|to| format!("&to={}", encode(to)));
    format!("from={}{}", encode(&args.from), to.unwrap_or_default())
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What tells a row apart from others.
fn keys(row: &UsageRow) -> Vec<&str> {
    let keys = [&row.hour, &row.client, &row.route, &row.upstream];
    keys.into_iter().flatten().map(String::as_str).collect()
}

fn table(answer: &Usage, style: Style) -> String {
    let headings = [
        "WHO", "REQUESTS", "4XX", "5XX", "REFUSED", "ERRORS", "RETRIES", "COST", "SHARE", "PEAK",
        "P98", "HITS", "SAVED", "BYTES",
    ];
    let mut table = Table::new(headings, 2);
    let part = |share: f64| format!("{:.1}%", share * 100.0);
    for row in &answer.rows {
        let cells: [Cell; 14] = [
            keys(row).join(" ").as_str().into(),
            row.sums.requests.to_string().into(),
            row.sums.status_4xx.to_string().into(),
            row.sums.status_5xx.to_string().into(),
            row.sums.refused.to_string().into(),
            row.sums.errors.to_string().into(),
            row.sums.retries.to_string().into(),
            latency(Some(row.sums.upstream_seconds * 1e3)).into(),
            part(row.share).into(),
            row.peak_share.map_or_else(|| "-".to_owned(), part).into(),
            latency(row.sums.p98_ms).into(),
            row.sums.cache_hits.to_string().into(),
            latency(Some(row.sums.saved_upstream_seconds * 1e3)).into(),
            (row.sums.bytes_in + row.sums.bytes_out).to_string().into(),
        ];
        table.row(cells);
    }
    let mut text = table.render(style);
    for row in &answer.rows {
        if let (Some(client), Some(declared), Some(peak)) =
            (&row.client, row.declared_rate, row.peak_rate)
        {
            let over = if peak > declared {
                ", over what it declared"
            } else {
                ""
            };
            let client = plain(client);
            text.push_str(&format!(
                "\n{client} declared {declared}/s; its busiest minute had {peak:.1}/s{over}"
            ));
        }
    }
    let (shown, all) = (answer.rows.len(), answer.row_count);
    text.push_str(&format!(
        "\n{shown} of {all} rows, {} to {}: {} requests",
        plain(&answer.from),
        plain(&answer.to),
        answer.total.requests
    ));
    text
}

/// RFC 4180: commas, CRLF, quotes around what needs them. A field that a spreadsheet would take for a formula is
/// quoted with an apostrophe.
fn csv(answer: &Usage) -> String {
    let mut lines = Vec::with_capacity(answer.rows.len() + 1);
    let counted = counts(&answer.total).map(|(name, _)| name);
    let heading = by(answer).chain(counted).chain(NUMBERS);
    lines.push(heading.collect::<Vec<_>>().join(","));
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for row in &answer.rows {
        let mut fields: Vec<String> = keys(row).into_iter().map(field).collect();
        fields.extend(counts(&row.sums).map(|(_, count)| count.to_string()));
        fields.extend(numbers(row).map(number));
        lines.push(fields.join(","));
    }
    lines.join("\r\n")
}

/// The same as columns with types.
fn columns(answer: &Usage) -> Vec<Column> {
    let rows = &answer.rows;
    let key = |name| {
        let values = match name {
            "hour" => Values::Times(rows.iter().map(hour).collect()),
            "client" => texts(rows, |row| row.client.as_ref()),
            "route" => texts(rows, |row| row.route.as_ref()),
            _ => texts(rows, |row| row.upstream.as_ref()),
        };
        Column { name, values }
    };
    let mut columns: Vec<Column> = by(answer).map(key).collect();
    for (index, (name, _)) in counts(&answer.total).into_iter().enumerate() {
        let of = |row: &UsageRow| counts(&row.sums).get(index).map_or(0, |(_, count)| *count);
        let values = Values::Counts(rows.iter().map(of).collect());
        columns.push(Column { name, values });
    }
    for (index, name) in NUMBERS.into_iter().enumerate() {
        let of = |row| numbers(row).get(index).copied().flatten();
        let values = Values::Numbers(rows.iter().map(of).collect());
        columns.push(Column { name, values });
    }
    columns
}

fn texts(rows: &[UsageRow], of: impl Fn(&UsageRow) -> Option<&String>) -> Values {
    let text = |row| of(row).cloned().unwrap_or_default();
    Values::Texts(rows.iter().map(text).collect())
}

/// When a row's hour began, in milliseconds since the Unix epoch.
fn hour(row: &UsageRow) -> i64 {
    let hour = row.hour.as_deref().and_then(|hour| hour.parse().ok());
    hour.map_or(0, jiff::Timestamp::as_millisecond)
}

/// The columns that tell rows apart, in the order of [`keys`].
fn by(answer: &Usage) -> impl Iterator<Item = &'static str> {
    let by = ["hour", "client", "route", "upstream"].into_iter();
    by.filter(|key| answer.by.iter().any(|by| by == key))
}

/// The columns of numbers that are no counts.
const NUMBERS: [&str; 7] = [
    "upstream_seconds",
    "saved_upstream_seconds",
    "share",
    "peak_share",
    "p98_ms",
    "declared_rate",
    "peak_rate",
];

/// What stands in them.
const fn numbers(row: &UsageRow) -> [Option<f64>; NUMBERS.len()] {
    [
        Some(row.sums.upstream_seconds),
        Some(row.sums.saved_upstream_seconds),
        Some(row.share),
        row.peak_share,
        row.sums.p98_ms,
        row.declared_rate,
        row.peak_rate,
    ]
}

/// The columns of counts.
fn counts(sums: &UsageSums) -> [(&'static str, u64); 14] {
    [
        ("requests", sums.requests),
        ("refused", sums.refused),
        ("errors", sums.errors),
        ("attempts", sums.attempts),
        ("retries", sums.retries),
        ("bytes_in", sums.bytes_in),
        ("bytes_out", sums.bytes_out),
        ("status_1xx", sums.status_1xx),
        ("status_2xx", sums.status_2xx),
        ("status_3xx", sums.status_3xx),
        ("status_4xx", sums.status_4xx),
        ("status_5xx", sums.status_5xx),
        ("cache_hits", sums.cache_hits),
        ("cache_bytes", sums.cache_bytes),
    ]
}

fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_where_it_has_to_be_and_is_no_formula() {
        assert_eq!(field("reports"), "reports");
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(field("=cmd()"), "'=cmd()");
    }
}
