//! `tidegate breaker`: shows the breakers, or holds one where the operator wants it.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::query::QueryArgs;
use super::table::{Cell, Style, Table, Tone, plain, share};
use super::{USAGE, complain};
use crate::admin::api::{Breaker, BreakerChange, Breakers};

/// Which breaker, and where to hold it.
#[derive(Debug, Args)]
pub(super) struct BreakerArgs {
    /// The upstream. Without: shows every breaker.
    #[arg(requires = "position")]
    upstream: Option<String>,
    /// Where to hold it.
    #[arg(value_enum, requires = "reason")]
    position: Option<Position>,
    /// When that ends by itself, such as 30m. Not needed for auto.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Why; it stands in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    query: QueryArgs,
}

/// Where to hold a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Position {
    /// Refuse everything.
    Open,
    /// Admit everything.
    Close,
    /// Let it decide again.
    Auto,
}

impl Position {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Auto => "auto",
        }
    }
}

pub(super) fn breaker(args: BreakerArgs) -> ExitCode {
    let (Some(upstream), Some(position), Some(reason)) =
        (args.upstream, args.position, args.reason)
    else {
        return args.query.show("/api/v1/breakers", table);
    };
    if position != Position::Auto && args.ttl.is_none() {
        complain("tidegate: --ttl is needed: an order ends by itself, such as after 30m");
        return ExitCode::from(USAGE);
    }
    let change = BreakerChange {
        state: position.as_str().to_owned(),
        ttl: args.ttl,
        reason,
    };
    let name = percent_encoding::utf8_percent_encode(&upstream, percent_encoding::NON_ALPHANUMERIC);
    let path = format!("/api/v1/breakers/{name}");
    args.query
        .change(&path, &change, |done: &BreakerChange, _style| {
            let state = plain(&done.state);
            let until = done
                .ttl
                .as_deref()
                .map(|ttl| format!(" for {}", plain(ttl)));
            format!(
                "breaker of {}: {state}{}",
                plain(&upstream),
                until.unwrap_or_default()
            )
        })
}

fn table(answer: &Breakers, style: Style) -> String {
    let headings = [
        "BREAKER", "STATE", "MODE", "CALLS", "FAILED", "SLOW", "NEXT TRY",
    ];
    let mut table = Table::new(headings, 3);
    for breaker in &answer.breakers {
        table.row(row(breaker));
    }
    let mut text = table.render(style);
    for breaker in &answer.breakers {
        if let Some(why) = why(breaker) {
            text.push_str(&format!("\n{}: {why}", plain(&name(breaker))));
        }
    }
    text
}

fn name(breaker: &Breaker) -> String {
    match (&breaker.upstream, &breaker.route) {
        (Some(upstream), _) => upstream.clone(),
        (None, Some(route)) => format!("route {route}"),
        (None, None) => String::new(),
    }
}

fn row(breaker: &Breaker) -> [Cell; 7] {
    let tone = match breaker.state.as_str() {
        "closed" => Tone::Good,
        "open" => Tone::Bad,
        _ => Tone::Warning,
    };
    let next = breaker.next_try_seconds;
    [
        name(breaker).into(),
        Cell::new(&breaker.state, tone),
        breaker.mode.as_str().into(),
        breaker.requests.to_string().into(),
        share(breaker.failure_ratio).into(),
        share(breaker.slow_ratio).into(),
        next.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}s"))
            .into(),
    ]
}

/// Why it is not closed.
fn why(breaker: &Breaker) -> Option<String> {
    if let Some(order) = &breaker.order {
        let left = order.ends_in_seconds;
        let (state, reason) = (plain(&order.state), plain(&order.reason));
        return Some(format!(
            "held {state} by order for {left:.0}s more: {reason}"
        ));
    }
    let evidence = breaker.evidence.as_ref()?;
    let measure = plain(&evidence.measure);
    let (value, threshold) = (share(evidence.value), share(evidence.threshold));
    Some(format!(
        "{measure} were {value} of {} calls; {threshold} opens it",
        evidence.requests
    ))
}
