//! `tidegate diagnose`: what is wrong, with its numbers, and what to do about it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::complain;
use super::query::QueryArgs;
use super::table::{Style, plain};
use crate::admin::api::{Diagnosis, Verdict, VerdictEvidence};
use crate::admin::diagnosis_of;
use crate::config;
use crate::incident::bundle;
use crate::incident::frozen::Frozen;

/// Which diagnosis.
#[derive(Debug, Args)]
pub(super) struct DiagnoseArgs {
    /// Tell as well what was found within this time and is not found now: 5m; at most 1h.
    #[arg(long, value_name = "TIME", value_parser = config::duration, conflicts_with = "bundle")]
    last: Option<Duration>,
    /// Ask nobody: diagnose again what a bundle of an incident holds.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    query: QueryArgs,
}

pub(super) fn diagnose(args: DiagnoseArgs) -> ExitCode {
    if let Some(file) = &args.bundle {
        return match again(file) {
            Ok(diagnosis) => args.query.tell(&diagnosis, text),
            Err(error) => {
                complain(&format!("tidegate: {}: {error}", file.display()));
                ExitCode::FAILURE
            }
        };
    }
    let path = match args.last {
        Some(last) => format!("/api/v1/diagnosis?last={}ms", last.as_millis()),
        None => "/api/v1/diagnosis".to_owned(),
    };
    args.query.show(&path, text)
}

/// Why a file gives no diagnosis.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Bundle(#[from] bundle::Error),
    #[error("{name} is not in it: the diagnosis gave nothing when it was made", name = bundle::FACTS)]
    NoFacts,
    #[error("{name} is of another version: {0}", name = bundle::FACTS)]
    Facts(#[from] serde_json::Error),
}

fn again(file: &Path) -> Result<Diagnosis, Error> {
    let files = bundle::unpack(&std::fs::read(file)?)?;
    let facts = files.get(bundle::FACTS).ok_or(Error::NoFacts)?;
    let frozen: Frozen = serde_json::from_slice(facts)?;
    Ok(diagnosis_of(&frozen.diagnose(), None))
}

fn text(answer: &Diagnosis, _style: Style) -> String {
    if answer.verdicts.is_empty() {
        let said = if answer.lagging {
            "clients suffer, and no cause is sure enough yet; ask again in a few seconds"
        } else {
            "nothing is wrong"
        };
        return said.to_owned();
    }
    let texts: Vec<String> = answer.verdicts.iter().map(verdict).collect();
    texts.join("\n\n")
}

fn verdict(verdict: &Verdict) -> String {
    verdict_lines(verdict, 0)
}

/// A verdict in words, each line but the first indented by `indent` more.
pub(super) fn verdict_lines(verdict: &Verdict, indent: usize) -> String {
    let at = verdict
        .upstream
        .as_deref()
        .filter(|at| *at != verdict.subject);
    let ended = verdict.ended_at.as_deref();
    let ended = ended.map_or_else(String::new, |at| format!(", until {}", plain(at)));
    let mut text = format!(
        "{} {}{}, {:.0}% sure, for {}s{ended}",
        plain(&verdict.cause),
        plain(&verdict.subject),
        at.map_or_else(String::new, |at| format!(" at {}", plain(at))),
        verdict.confidence * 100.0,
        verdict.since_seconds,
    );
    let line = |text: &str| format!("\n{:indent$}  {}", "", plain(text));
    for evidence in &verdict.evidence {
        text.push_str(&line(&number(evidence)));
    }
    text.push_str(&line(&format!("→ {}", verdict.advice)));
    if let Some(action) = &verdict.action
        && !verdict.advice.contains("tidegate isolate")
    {
        let to = action.to.as_deref().unwrap_or_default();
        text.push_str(&line(&format!(
            "→ until then: tidegate isolate {} {} --to {to} --ttl {} --reason {}",
            action.kind, action.subject, action.ttl, verdict.cause
        )));
    }
    text
}

fn number(evidence: &VerdictEvidence) -> String {
    let show = |value: f64| match evidence.unit.as_str() {
        "s" => format!("{:.1} ms", value * 1e3),
        "ratio" => format!("{:.1}%", value * 100.0),
        "bool" => (if value > 0.0 { "yes" } else { "no" }).to_owned(),
        unit => format!("{value:.1} {unit}"),
    };
    let usually = evidence
        .baseline
        .map(|usual| format!(", usually {}", show(usual)));
    format!(
        "{}: {}{}",
        evidence.what,
        show(evidence.value),
        usually.unwrap_or_default()
    )
}
