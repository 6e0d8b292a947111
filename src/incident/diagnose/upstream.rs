//! Causes behind the queue: the upstream as a whole is slow, one component of it is, it answers with errors; and the
//! proxy itself.

use super::facts::{self, Facts};
use super::{Cause, Evidence, Harm, Subject, Verdict, load, step};
use crate::incident::span::Span;

pub(super) fn verdicts(facts: &Facts<'_>, harm: &Harm) -> Vec<Verdict> {
    let causes = [slow, component, errors];
    causes
        .iter()
        .filter_map(|cause| cause(facts, harm))
        .collect()
}

/// Every request takes longer, at a load as usual.
fn slow(facts: &Facts<'_>, harm: &Harm) -> Option<Verdict> {
    let usual = facts.usual?;
    if harm.service <= 0.0 && harm.stuck <= 0.0 {
        return None;
    }
    let mut slower = facts.ratio(facts::service) - 1.0;
    if harm.stuck > 0.0 {
        slower = slower.max(facts.ratio(by_little) - 1.0);
    }
    let growth = (facts.ratio(facts::originals) - 1.0).max(0.0);
    // More requests at once make each of them slower, about in proportion: only what is beyond that speaks.
    let beyond = (1.0 + slower) / (1.0 + growth) - 1.0;
    // What misses the cache takes longer than what hits it, but that is not the upstream's doing.
    let of_all = if harm.stuck > 0.0 {
        1.0
    } else {
        Span::share(harm.service, harm.service + harm.delivery)
    };
    let confidence = step(beyond, 0.35)
        * (1.0 - 0.85 * step(growth, 0.5))
        * (1.0 - 0.8 * load::one_clients(facts))
        * step(of_all, 0.3);
    Some(Verdict {
        cause: Cause::SlowUpstream,
        subject: Subject::Upstream,
        confidence,
        since: facts
            .history
            .held(|span| facts::service(span) > facts::service(usual) * 1.4),
        evidence: vec![
            facts.evidence("the upstream's part of the time", "s", facts::service),
            facts.evidence("requests", "requests/s", facts::demand),
            facts.evidence("requests that do not end", "requests", Span::stuck),
            facts.evidence("limit in use", "ratio", Span::utilisation),
        ],
    })
}

/// How long a request takes by Little's law, also where next to nothing ends: those under way over those that end.
fn by_little(span: &Span) -> f64 {
    span.under_way() * span.seconds / span.service.count.max(1.0)
}

/// The part of what the dearest component explains that one within it explains as well.
const INNERMOST: f64 = 0.8;

/// Something the upstream waits for takes longer, and that explains it.
fn component(facts: &Facts<'_>, harm: &Harm) -> Option<Verdict> {
    let usual = facts.usual?;
    if harm.service <= 0.0 || facts.now.service.count <= 0.0 {
        return None;
    }
    let longer = |name: u64| {
        let (now, before) = (facts.now.components.get(name), usual.components.get(name));
        (now.mean() - before.mean()) * now.count / facts.now.service.count
    };
    let names = || facts.now.components.iter().map(|(name, _)| name);
    let most = names().map(longer).fold(0.0, f64::max);
    // Components stand within one another: of those that explain about as much, the shortest is the innermost.
    let about_as_much = |name: u64| longer(name) >= most * INNERMOST;
    let own = |name: &u64| facts.now.components.get(*name).mean();
    let name = names()
        .filter(|name| about_as_much(*name))
        .min_by(|a, b| own(a).total_cmp(&own(b)))?;
    let mean = |span: &Span| span.components.get(name).mean();
    // Where everything takes longer, what is waited for is not to blame for the rest: the other components, where
    // they are told, else whatever is not told. What is not told holds the wait for a slot as well, and a slow component
    // fills the slots.
    let known = |name: &u64| usual.components.get(*name).time > 0.0;
    let others: Vec<u64> = names()
        .filter(|name| !about_as_much(*name))
        .filter(known)
        .collect();
    let rest = |span: &Span| {
        let known = span.components.get(name).time;
        Span::share(span.service.sum - known, span.service.count).max(1e-4)
    };
    let sum = |span: &Span| {
        let means = others.iter().map(|name| span.components.get(*name).mean());
        means.sum::<f64>()
    };
    let alike = if others.is_empty() {
        facts.ratio(rest)
    } else {
        facts.ratio(sum)
    };
    let alike = step(alike - 1.0, 0.5);
    let explained = longer(name) / harm.service;
    let of_told = if others.is_empty() {
        0.0
    } else {
        let told: f64 = others.iter().map(|name| longer(*name).max(0.0)).sum();
        Span::share(longer(name), longer(name) + told) * step(explained, 0.15)
    };
    Some(Verdict {
        cause: Cause::SlowComponent,
        subject: Subject::Component(name),
        confidence: step(explained.max(of_told), 0.4)
            * step(facts.ratio(mean) - 1.0, 0.3)
            * (1.0 - 0.9 * alike)
            * (1.0 - 0.8 * load::one_clients(facts)),
        since: facts.history.held(|span| mean(span) > mean(usual) * 1.4),
        evidence: vec![
            facts.evidence("its part of a request's time", "s", mean),
            facts.evidence("the upstream's part of the time", "s", facts::service),
            Evidence {
                what: "of the rise, explained by it",
                value: explained.min(1.0),
                baseline: None,
                unit: "ratio",
            },
        ],
    })
}

/// It answers with errors, wherever it is asked.
fn errors(facts: &Facts<'_>, harm: &Harm) -> Option<Verdict> {
    if harm.failed <= 0.0 {
        return None;
    }
    let unreachable = |span: &Span| {
        let total = span.endpoints.total();
        Span::share(total.unreachable, total.failed)
    };
    // How evenly: the least failing of the endpoints that were asked often enough, against all.
    let asked = facts
        .now
        .endpoints
        .iter()
        .filter(|(_, tally)| tally.count >= 5.0);
    // One that was ejected for it is not asked any more: over ten seconds it has failed little.
    let worst = |id| {
        facts
            .endpoints
            .iter()
            .find(|one| one.id == id)
            .map_or(0.0, |one| one.worst)
    };
    let least = asked.map(|(id, tally)| Span::share(tally.failed, tally.count).max(worst(id)));
    let least = least.fold(f64::INFINITY, f64::min);
    let overall = facts::failed(&facts.now);
    let even = if least.is_finite() {
        (least / overall.max(1e-9)).clamp(0.0, 1.0)
    } else {
        1.0
    };
    let since = facts
        .history
        .held(|span| span.failed > 0.02 * span.sent.max(1.0));
    Some(Verdict {
        cause: Cause::UpstreamErrors,
        subject: Subject::Upstream,
        confidence: step(harm.failed, 0.03)
            * (0.25 + 0.75 * even)
            * (1.0 - 0.8 * step(unreachable(&facts.now), 0.5)),
        since,
        evidence: vec![
            facts.evidence("failed by the upstream", "ratio", facts::failed),
            facts.evidence("of those, without a connection", "ratio", unreachable),
            facts.evidence("requests", "requests/s", facts::demand),
        ],
    })
}

/// Tidegate itself is short of time or descriptors.
pub(super) fn proxy(facts: &Facts<'_>) -> Option<Verdict> {
    let proxy = facts.proxy;
    let decide = |span: &Span| span.decide.mean();
    let slower = step(facts.excess(decide), 0.004);
    let short = step(proxy.lag, 0.02)
        .max(step(proxy.descriptors, 0.9) * 0.6)
        .max(slower);
    // A worker that is kept from running, by others or by a bound on its processor time, has none to spend.
    let kept = step(proxy.late, 0.08);
    let confidence = kept.max(short * (0.25 + 0.75 * step(proxy.cpu.max(slower), 0.8)));
    (confidence > 0.0).then(|| Verdict {
        cause: Cause::ProxySaturated,
        subject: Subject::Proxy,
        confidence,
        since: facts.history.held(|span| {
            facts
                .usual
                .is_some_and(|usual| decide(span) > decide(usual) * 2.0 + 0.002)
        }),
        evidence: vec![
            number("events wait for their worker", proxy.lag, "s"),
            number("of the time, workers were late", proxy.late, "ratio"),
            number("workers' time in use", proxy.cpu, "ratio"),
            number("descriptors in use", proxy.descriptors, "ratio"),
            facts.evidence("Tidegate's own part of the time", "s", decide),
        ],
    })
}

const fn number(what: &'static str, value: f64, unit: &'static str) -> Evidence {
    Evidence {
        what,
        value,
        baseline: None,
        unit,
    }
}
