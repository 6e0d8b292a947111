//! `tidegate diagnose`: what is wrong, with its numbers, and what to do about it.

use std::process::ExitCode;

use super::query::QueryArgs;
use super::table::{Style, plain};
use crate::admin::api::{Diagnosis, Verdict, VerdictEvidence};

pub(super) fn diagnose(query: QueryArgs) -> ExitCode {
    query.show("/api/v1/diagnosis", text)
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
    let mut text = format!(
        "{} {}{}, {:.0}% sure, for {}s",
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
