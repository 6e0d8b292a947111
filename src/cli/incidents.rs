//! `tidegate incidents`: what was missed, and what was first said of it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::query::{AdminArgs, QueryArgs};
use super::table::{Style, Table, plain};
use super::{USAGE, complain, print};
use crate::admin::api::{Incident, Incidents};

/// Which incidents to show.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct IncidentsArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them, the newest first.
    #[command(after_help = "Example:\n  tidegate incidents list")]
    List(QueryArgs),
    /// Show one with all that is known of it.
    #[command(after_help = "Example:\n  tidegate incidents show 6442c0f1e2a00")]
    Show(ShowArgs),
    /// Write what was kept of one to a file: a .tar.zst, which tidegate diagnose --bundle reads.
    #[command(after_help = "Example:\n  tidegate incidents export 6442c0f1e2a00 incident.tar.zst")]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// The incident's id.
    id: String,
    /// Where to: a file that is not there yet.
    file: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The incident's id.
    id: String,
    #[command(flatten)]
    query: QueryArgs,
}

pub(super) fn incidents(args: IncidentsArgs) -> ExitCode {
    match args.what {
        None => args.query.show("/api/v1/incidents", table),
        Some(What::List(query)) => query.show("/api/v1/incidents", table),
        Some(What::Show(show)) => {
            let id = utf8_percent_encode(&show.id, NON_ALPHANUMERIC);
            show.query.show(&format!("/api/v1/incidents/{id}"), one)
        }
        Some(What::Export(export)) => export.run(),
    }
}

impl ExportArgs {
    fn run(self) -> ExitCode {
        let Ok(client) = self.admin.client() else {
            complain("tidegate: TIDEGATE_TOKEN holds what no header can");
            return ExitCode::from(USAGE);
        };
        let id = utf8_percent_encode(&self.id, NON_ALPHANUMERIC);
        let bundle = match client.bytes(&format!("/api/v1/incidents/{id}/bundle")) {
            Ok(bundle) => bundle,
            Err(error) => {
                complain(&format!("tidegate: {}", plain(&error.to_string())));
                return ExitCode::FAILURE;
            }
        };
        let mut options = OpenOptions::new();
        // It tells of clients and paths: nobody else's business.
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.file);
        match file.and_then(|mut file| file.write_all(&bundle)) {
            Ok(()) => print(&format!("{}: {} bytes", self.file.display(), bundle.len())),
            Err(error) => {
                complain(&format!("tidegate: {}: {error}", self.file.display()));
                ExitCode::FAILURE
            }
        }
    }
}

fn table(answer: &Incidents, style: Style) -> String {
    if answer.incidents.is_empty() {
        return "there were no incidents".to_owned();
    }
    let mut table = Table::new(["ID", "OPENED", "STATE", "SLO", "SUBJECT", "CAUSE"], 6);
    for incident in &answer.incidents {
        let cause = incident
            .verdict
            .as_ref()
            .map(|verdict| verdict.cause.as_str());
        table.row([
            incident.id.as_str().into(),
            incident.opened_at.get(..19).unwrap_or_default().into(),
            state(incident).into(),
            incident.slo.as_str().into(),
            incident.subject.as_str().into(),
            cause.unwrap_or("unknown").into(),
        ]);
    }
    table.render(style)
}

const fn state(incident: &Incident) -> &'static str {
    if incident.closed_at.is_some() {
        "closed"
    } else {
        "open"
    }
}

fn one(incident: &Incident, _style: Style) -> String {
    let known = |text: &Option<String>| plain(text.as_deref().unwrap_or("unknown")).into_owned();
    let closed = incident.closed_at.as_deref();
    let mut text = format!(
        "incident {}: {} {} missed {} ({})\n  {}\n  opened {}, {}\n  component {}, node {}",
        plain(&incident.id),
        plain(&incident.per),
        plain(&incident.subject),
        plain(&incident.slo),
        plain(&incident.signals.join(", ")),
        plain(&incident.what),
        plain(&incident.opened_at),
        closed.map_or_else(
            || "still open".to_owned(),
            |at| format!("closed {}", plain(at))
        ),
        known(&incident.component),
        known(&incident.node),
    );
    if let Some(bytes) = incident.bundle {
        let id = plain(&incident.id);
        text.push_str(&format!(
            "\n  bundle of {} KiB: tidegate incidents export {id} incident-{id}.tar.zst",
            bytes.div_ceil(1024)
        ));
    }
    if let Some(verdict) = &incident.verdict {
        text.push_str(&format!(
            "\n  {} {}, {:.0}% sure\n  → {}",
            plain(&verdict.cause),
            plain(&verdict.subject),
            verdict.confidence * 100.0,
            plain(&verdict.advice)
        ));
    }
    text
}
