//! `tidegate isolate` and `tidegate release`: holds somebody apart for a time, or lets them go.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::query::QueryArgs;
use super::table::{Cell, Style, Table, Tone, age, plain};
use super::{USAGE, complain};
use crate::admin::api::{Isolate, Isolated, Isolation, Isolations, Released};

/// Whom, how and for how long.
#[derive(Debug, Args)]
pub(super) struct IsolateArgs {
    /// What it is. Without: shows who is held apart.
    #[arg(value_enum, requires = "subject")]
    kind: Option<Kind>,
    /// Its name; of an endpoint UPSTREAM/ADDRESS.
    #[arg(requires = "ttl", requires = "reason")]
    subject: Option<String>,
    /// How: a client or route to lane (a twentieth of an upstream's limit; default), block, or throttle=RATE such as
    /// throttle=10/s; an endpoint or tier to block; an upstream to serve-stale or no-retries.
    #[arg(long, value_name = "HOW")]
    to: Option<String>,
    /// When that ends by itself, such as 30m.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Why; it stands in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only say what it would have done in the last whole minute.
    #[arg(long)]
    preview: bool,
    #[command(flatten)]
    query: QueryArgs,
}

/// What can be held apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A client.
    Client,
    /// A route.
    Route,
    /// An endpoint of an upstream.
    Endpoint,
    /// A tier, and those that are less important.
    Tier,
    /// An upstream.
    Upstream,
}

/// Which isolation to end.
#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// Its id, as `tidegate isolate` shows it.
    id: String,
    /// Why; it stands in the audit log.
    #[arg(long, value_name = "TEXT", default_value = "released by hand")]
    reason: String,
    #[command(flatten)]
    query: QueryArgs,
}

pub(super) fn isolate(args: IsolateArgs) -> ExitCode {
    let Some((kind, subject)) = args.kind.zip(args.subject) else {
        return args.query.show("/api/v1/isolations", table);
    };
    let Some((ttl, reason)) = args.ttl.zip(args.reason) else {
        complain(
            "tidegate: --ttl and --reason are needed: an isolation ends by itself, and says why it is there",
        );
        return ExitCode::from(USAGE);
    };
    let asked = Isolate {
        kind: match kind {
            Kind::Client => "client",
            Kind::Route => "route",
            Kind::Endpoint => "endpoint",
            Kind::Tier => "tier",
            Kind::Upstream => "upstream",
        }
        .to_owned(),
        subject,
        to: args.to,
        ttl,
        reason,
        preview: args.preview,
    };
    args.query
        .change("/api/v1/isolations", &asked, |done: &Isolated, _style| {
            said(&asked, done)
        })
}

fn said(asked: &Isolate, done: &Isolated) -> String {
    let (subject, to, until) = (plain(&asked.subject), plain(&done.to), plain(&done.until));
    let mut text = match &done.id {
        Some(id) => format!(
            "{} {subject}: {to} until {until}\nlet go: tidegate release {}",
            asked.kind,
            plain(id)
        ),
        None => format!("{} {subject} would be in {to} until {until}", asked.kind),
    };
    if let Some(preview) = &done.preview {
        text.push_str(&format!(
            "\nin the minute from {} it would have refused {} of {} requests",
            plain(&preview.minute),
            preview.would_refuse,
            preview.requests
        ));
    }
    if done.id.is_some() && !done.kept {
        text.push_str(
            "\nit does not outlive the process: server.state_dir is not set, or cannot be written",
        );
    }
    text
}

pub(super) fn release(args: ReleaseArgs) -> ExitCode {
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let path = format!(
        "/api/v1/isolations/{}?reason={}",
        encode(&args.id),
        encode(&args.reason)
    );
    args.query.delete(&path, |done: &Released, _style| {
        let isolation = &done.isolation;
        format!(
            "{} {} is let go; {} of its requests were refused",
            plain(&isolation.kind),
            plain(&isolation.subject),
            isolation.refused
        )
    })
}

fn table(answer: &Isolations, style: Style) -> String {
    if answer.isolations.is_empty() {
        return "nobody is held apart".to_owned();
    }
    let headings = ["SUBJECT", "KIND", "TO", "LEFT", "PASSED", "REFUSED", "ID"];
    let mut table = Table::new(headings, 3);
    for isolation in &answer.isolations {
        table.row(row(isolation));
    }
    let mut text = table.render(style);
    for isolation in &answer.isolations {
        let (subject, by) = (plain(&isolation.subject), plain(&isolation.by));
        text.push_str(&format!("\n{subject}: {} ({by})", plain(&isolation.reason)));
    }
    text
}

fn row(isolation: &Isolation) -> [Cell; 7] {
    [
        isolation.subject.as_str().into(),
        isolation.kind.as_str().into(),
        Cell::new(&isolation.to, Tone::Warning),
        age(isolation.remaining_seconds).into(),
        isolation.passed.to_string().into(),
        isolation.refused.to_string().into(),
        isolation.id.as_str().into(),
    ]
}
