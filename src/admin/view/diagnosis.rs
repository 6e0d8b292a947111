//! The diagnosis, in the API's words.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::{AdminState, api};
use crate::clock::SystemClock;
use crate::config::plan::Plan;
use crate::engine::isolation::Subject;
use crate::incident::diagnose::Cause;
use crate::incident::naming::Named;
use crate::incident::watch::Diagnosis;
use crate::observe::access_log::rfc3339;

pub(in crate::admin) fn diagnosis(state: &AdminState) -> api::Diagnosis {
    told_of(&state.latest.diagnosis(), Some(&state.plan.load()))
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
                ..verdict(&seen.verdict, None)
            });
        }
    }
    found
}

/// `diagnosis` in the API's words; with what to do where the plan is known.
pub(crate) fn told_of(diagnosis: &Diagnosis, plan: Option<&Plan>) -> api::Diagnosis {
    api::Diagnosis {
        lagging: diagnosis.lagging,
        verdicts: diagnosis
            .verdicts
            .iter()
            .map(|one| verdict(one, plan))
            .collect(),
    }
}

fn verdict(named: &Named, plan: Option<&Plan>) -> api::Verdict {
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
        action: plan.and_then(|plan| action(plan, named)),
    }
}

/// The isolation that fits, in the engine's words and the operator's; none where another thing is to be done.
pub(crate) fn action_of(plan: &Plan, named: &Named) -> Option<(Subject, &'static str)> {
    let upstream = || named.upstream.clone();
    match named.cause {
        Cause::NoisyClient => Some((Subject::Client(named.subject.as_str().into()), "lane")),
        Cause::SlowEndpoint | Cause::EndpointDown => {
            let address = named
                .subject
                .strip_prefix(&*upstream()?)?
                .strip_prefix('/')?;
            Some((Subject::Endpoint(upstream()?, address.into()), "block"))
        }
        Cause::RetryStorm => Some((Subject::Upstream(upstream()?), "no-retries")),
        Cause::SlowUpstream | Cause::UpstreamErrors => {
            let name = upstream()?;
            let index = plan.upstreams.iter().position(|one| one.name == name)?;
            let mut routes = plan.routes.iter().filter(|route| route.upstream == index);
            let cached = routes.any(|route| route.cache.is_some());
            cached.then_some((Subject::Upstream(name), "serve-stale"))
        }
        Cause::LoadSpike | Cause::SustainedOverload => {
            let [_, .., least] = plan.tiers.as_slice() else {
                return None;
            };
            Some((Subject::Tier(Arc::clone(least)), "block"))
        }
        Cause::SlowComponent
        | Cause::CacheFailure
        | Cause::SlowClients
        | Cause::UpstreamLeak
        | Cause::ProxySaturated => None,
    }
}

/// The same as what is asked of the API.
fn action(plan: &Plan, named: &Named) -> Option<api::Isolate> {
    let (subject, to) = action_of(plan, named)?;
    Some(api::Isolate {
        kind: subject.kind().to_owned(),
        subject: subject.to_string(),
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
