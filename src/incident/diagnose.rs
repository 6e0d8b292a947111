//! What is wrong, most likely first.
//!
//! Every cause of the contract is a hypothesis about one upstream (or the proxy itself): it looks at what it would change
//! and at what it would leave alone, and says how sure it is. What one cause explains does not speak for another
//! as well: a flood by one client is not also a load spike, and the endpoint that drags is not also a slow
//! upstream. Nothing is a cause while nothing is wrong: [`Harm`] is asked first. Pure; depends on its neighbours in this
//! room.
//!
//! How sure is a product of evidences, each a smooth step between what speaks against and what speaks for; the halfway
//! points are the thresholds of the literature where there are such and else the incident benchmark's.

mod endpoints;
mod facts;
mod harm;
mod load;
mod noise;
mod shape;
#[cfg(test)]
mod tests;
mod upstream;

pub use self::facts::{EndpointFact, Facts, Proxy};
pub use self::harm::Harm;

/// What is wrong. The contract's causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "the names are the contract's and say what they mean"
)]
pub enum Cause {
    NoisyClient,
    LoadSpike,
    SustainedOverload,
    SlowUpstream,
    SlowEndpoint,
    SlowComponent,
    UpstreamErrors,
    EndpointDown,
    CacheFailure,
    RetryStorm,
    SlowClients,
    UpstreamLeak,
    ProxySaturated,
}

impl Cause {
    /// Every cause, in the contract's order.
    pub const ALL: [Self; 13] = [
        Self::NoisyClient,
        Self::LoadSpike,
        Self::SustainedOverload,
        Self::SlowUpstream,
        Self::SlowEndpoint,
        Self::SlowComponent,
        Self::UpstreamErrors,
        Self::EndpointDown,
        Self::CacheFailure,
        Self::RetryStorm,
        Self::SlowClients,
        Self::UpstreamLeak,
        Self::ProxySaturated,
    ];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoisyClient => "noisy_client",
            Self::LoadSpike => "load_spike",
            Self::SustainedOverload => "sustained_overload",
            Self::SlowUpstream => "slow_upstream",
            Self::SlowEndpoint => "slow_endpoint",
            Self::SlowComponent => "slow_component",
            Self::UpstreamErrors => "upstream_errors",
            Self::EndpointDown => "endpoint_down",
            Self::CacheFailure => "cache_failure",
            Self::RetryStorm => "retry_storm",
            Self::SlowClients => "slow_clients",
            Self::UpstreamLeak => "upstream_leak",
            Self::ProxySaturated => "proxy_saturated",
        }
    }
}

/// Of whom a verdict speaks, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The upstream that was looked at.
    Upstream,
    /// One of its endpoints.
    Endpoint(u64),
    /// One of its clients.
    Client(u64),
    /// One of the components it tells of.
    Component(u64),
    /// Tidegate.
    Proxy,
}

/// One number, and what it usually is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// What it counts or measures.
    pub what: &'static str,
    /// What it is now.
    pub value: f64,
    /// What it usually is; none when that is not known.
    pub baseline: Option<f64>,
    /// `requests/s`, `s`, `ratio`.
    pub unit: &'static str,
}

/// A cause, of whom, and why it is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What is wrong.
    pub cause: Cause,
    /// Whose fault, or about whom.
    pub subject: Subject,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
    /// For how many seconds what it is about has been seen.
    pub since: usize,
    /// Its numbers.
    pub evidence: Vec<Evidence>,
}

/// Below this nobody is told.
pub const LEAST: f64 = 0.3;

/// The causes of what is wrong with one upstream, most likely first; nothing when nothing is wrong.
#[must_use]
pub fn diagnose(facts: &Facts<'_>) -> Vec<Verdict> {
    let harm = Harm::of(facts);
    let mut verdicts = Vec::new();
    verdicts.extend(endpoints::verdicts(facts, &harm));
    verdicts.extend(shape::leak(facts));
    verdicts.extend(upstream::proxy(facts));
    if harm.any() {
        verdicts.extend(load::verdicts(facts, &harm));
        verdicts.extend(upstream::verdicts(facts, &harm));
    } else {
        verdicts.extend(load::lost_cache(facts));
    }
    explain_away(&mut verdicts);
    verdicts.retain(|verdict| verdict.confidence >= LEAST);
    verdicts.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    verdicts
}

/// What a cause explains, and how much less the other is believed when it is sure.
const EXPLAINS: [(Cause, &[Cause], f64); 9] = [
    (
        Cause::NoisyClient,
        &[
            Cause::LoadSpike,
            Cause::SustainedOverload,
            Cause::SlowUpstream,
        ],
        0.6,
    ),
    (
        Cause::CacheFailure,
        &[
            Cause::LoadSpike,
            Cause::SustainedOverload,
            Cause::SlowUpstream,
        ],
        0.6,
    ),
    (
        Cause::RetryStorm,
        &[
            Cause::LoadSpike,
            Cause::SustainedOverload,
            Cause::NoisyClient,
        ],
        0.6,
    ),
    (Cause::RetryStorm, &[Cause::UpstreamErrors], 0.85),
    (
        Cause::SlowEndpoint,
        &[Cause::SlowUpstream, Cause::SustainedOverload],
        0.7,
    ),
    (
        Cause::EndpointDown,
        &[
            Cause::UpstreamErrors,
            Cause::SlowUpstream,
            Cause::SlowEndpoint,
        ],
        0.7,
    ),
    (
        Cause::SlowComponent,
        &[Cause::SlowUpstream, Cause::SustainedOverload],
        0.5,
    ),
    (
        Cause::UpstreamLeak,
        &[Cause::SlowUpstream, Cause::SustainedOverload],
        0.6,
    ),
    (
        Cause::ProxySaturated,
        &[
            Cause::LoadSpike,
            Cause::SlowClients,
            Cause::SlowUpstream,
            Cause::SlowEndpoint,
        ],
        0.6,
    ),
];

fn explain_away(verdicts: &mut [Verdict]) {
    for (cause, explained, weight) in EXPLAINS {
        let sure = verdicts.iter().filter(|verdict| verdict.cause == cause);
        let sure = sure.map(|verdict| verdict.confidence).fold(0.0, f64::max);
        for verdict in verdicts.iter_mut() {
            if explained.contains(&verdict.cause) {
                verdict.confidence *= 1.0 - weight * sure;
            }
        }
    }
}

/// A smooth step: 0 for a value of nothing, a half at `half`, towards 1 beyond.
fn step(value: f64, half: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    1.0 / (1.0 + (half / value).powi(3))
}
