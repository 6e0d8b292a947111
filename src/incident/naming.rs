//! Verdicts in words: whom they are about by name, and what to do.
//!
//! Pure. Depends on the diagnosis.

use std::sync::Arc;

use super::diagnose::{Cause, Evidence, Subject, Verdict};

/// A verdict with its names.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// What is wrong.
    pub cause: Cause,
    /// The upstream it was seen at; none for the proxy itself.
    pub upstream: Option<Arc<str>>,
    /// The client, endpoint, component or upstream it is about.
    pub subject: String,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
    /// For how many seconds it has been seen.
    pub since: usize,
    /// Its numbers.
    pub evidence: Vec<Evidence>,
    /// What to do about it.
    pub advice: String,
}

impl Named {
    /// `verdict` about the upstream called `at`, of whom `called` knows the names.
    pub fn of(
        verdict: Verdict,
        at: &Arc<str>,
        called: impl FnOnce(Subject) -> Option<String>,
    ) -> Self {
        let subject = match verdict.subject {
            Subject::Upstream => at.to_string(),
            Subject::Proxy => "tidegate".to_owned(),
            other => called(other).unwrap_or_else(|| "unknown".to_owned()),
        };
        Self {
            cause: verdict.cause,
            upstream: (verdict.subject != Subject::Proxy).then(|| Arc::clone(at)),
            advice: advice(verdict.cause, &subject, at),
            subject,
            confidence: verdict.confidence,
            since: verdict.since,
            evidence: verdict.evidence,
        }
    }
}

/// `text` as one word of a shell's line.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The one action that fits, ready to run where there is a command for it.
fn advice(cause: Cause, subject: &str, upstream: &str) -> String {
    match cause {
        Cause::NoisyClient => format!(
            "hold it back: tidegate isolate client {} --to lane --ttl 15m --reason noisy; for good, a rate limit, or noisy = {{ mode = \"enforce\" }} for {upstream}",
            word(subject)
        ),
        Cause::LoadSpike => format!(
            "scale {upstream} out; everybody asks for more. GET /api/v1/scale/{upstream} says how far that helps"
        ),
        Cause::SustainedOverload => format!(
            "{upstream} is too small for what is asked of it: scale it up or out, or lower the limits of its routes"
        ),
        Cause::SlowUpstream => format!(
            "look into {upstream}: each request takes longer at the same load. What was deployed, what does it wait for?"
        ),
        Cause::SlowEndpoint => format!(
            "take it out and look at its host, for its peers answer as usual: tidegate isolate endpoint {} --ttl 15m --reason slow",
            word(subject)
        ),
        Cause::SlowComponent => format!(
            "look into the {subject} of {upstream}: what it tells of it in Server-Timing explains the rise"
        ),
        Cause::UpstreamErrors => format!(
            "look into {upstream}: it answers with errors wherever it is asked. Roll back what was deployed last"
        ),
        Cause::EndpointDown => format!(
            "restart or replace it, and meanwhile: tidegate isolate endpoint {} --ttl 15m --reason down",
            word(subject)
        ),
        Cause::CacheFailure => format!(
            "the cache in front of {upstream} answers less: was it flushed, or did a key or a header change?"
        ),
        Cause::RetryStorm => format!(
            "clients ask {upstream} again for what fails: shed early and long, tidegate breaker {upstream} open --ttl 1m --reason TEXT"
        ),
        Cause::SlowClients => {
            "clients send or read slowly; nothing behind Tidegate is to blame".to_owned()
        }
        Cause::UpstreamLeak => {
            format!("restart {upstream} before it drags, and look for what grows")
        }
        Cause::ProxySaturated => "give Tidegate more cores, or more instances".to_owned(),
    }
}
