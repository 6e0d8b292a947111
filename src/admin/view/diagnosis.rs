//! The diagnosis, in the API's words.

use std::time::Duration;

use crate::admin::{AdminState, api};
use crate::clock::SystemClock;
use crate::incident::diagnose::Cause;
use crate::incident::naming::Named;
use crate::incident::watch::Diagnosis;
use crate::observe::access_log::rfc3339;

pub(in crate::admin) fn diagnosis(state: &AdminState) -> api::Diagnosis {
    told_of(&state.latest.diagnosis())
}

/// The same, and after it what was found in the last seconds and is not found now, the newest first.
pub(in crate::admin) fn lately(state: &AdminState, last: Duration) -> api::Diagnosis {
    let mut found = diagnosis(state);
    let since = SystemClock.unix_micros() / 1_000_000;
    let since = since.saturating_sub(last.as_secs());
    let past = state.latest.past();
    let seen: Vec<_> = past.since(since).collect();
    for seen in seen.into_iter().rev() {
        let is_found = |one: &api::Verdict| {
            one.cause == seen.verdict.cause.as_str() && one.subject == seen.verdict.subject
        };
        if !found.verdicts.iter().any(is_found) {
            found.verdicts.push(api::Verdict {
                ended_at: Some(rfc3339(seen.last * 1_000_000)),
                ..verdict(&seen.verdict)
            });
        }
    }
    found
}

/// `diagnosis` in the API's words.
pub(crate) fn told_of(diagnosis: &Diagnosis) -> api::Diagnosis {
    api::Diagnosis {
        lagging: diagnosis.lagging,
        verdicts: diagnosis.verdicts.iter().map(verdict).collect(),
    }
}

fn verdict(named: &Named) -> api::Verdict {
    let evidence = named.evidence.iter().map(|one| api::VerdictEvidence {
        what: one.what.to_owned(),
        value: one.value,
        baseline: one.baseline,
        unit: one.unit.to_owned(),
    });
    api::Verdict {
        cause: named.cause.as_str().to_owned(),
        subject: named.subject.clone(),
        upstream: named.upstream.as_ref().map(ToString::to_string),
        confidence: named.confidence,
        since_seconds: named.since as u64,
        ended_at: None,
        evidence: evidence.collect(),
        advice: named.advice.clone(),
        action: action(named),
    }
}

/// The isolation that fits.
fn action(named: &Named) -> Option<api::Isolate> {
    let (kind, to) = match named.cause {
        Cause::NoisyClient => ("client", "lane"),
        Cause::SlowEndpoint | Cause::EndpointDown => ("endpoint", "block"),
        _ => return None,
    };
    Some(api::Isolate {
        kind: kind.to_owned(),
        subject: named.subject.clone(),
        to: Some(to.to_owned()),
        ttl: "15m".to_owned(),
        reason: format!(
            "{}: {:.0}% sure",
            named.cause.as_str(),
            named.confidence * 100.0
        ),
        preview: false,
    })
}

pub(in crate::admin) fn scale(state: &AdminState, upstream: &str) -> api::Scale {
    let scale = state.latest.scale(upstream);
    // An upstream of which nothing was seen yet is idle.
    scale.map_or(
        api::Scale {
            value: 0.0,
            headroom: 1.0,
            desired_factor: 1.0,
            scale_out_helps: false,
        },
        |scale| api::Scale {
            value: scale.utilisation,
            headroom: scale.headroom,
            desired_factor: scale.desired_factor,
            scale_out_helps: scale.scale_out_helps,
        },
    )
}
