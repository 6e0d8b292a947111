//! The diagnosis, in the API's words.

use crate::admin::{AdminState, api};
use crate::incident::diagnose::Cause;
use crate::incident::watch::Named;

pub(in crate::admin) fn diagnosis(state: &AdminState) -> api::Diagnosis {
    let diagnosis = state.latest.diagnosis();
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
