//! Causes on the clients' side of the queue: more is asked for than usual, by everybody, by one, again and again, or of
//! the upstream because the cache has stopped answering.

use super::facts::{self, Facts};
use super::{Cause, Evidence, Harm, Subject, Verdict, noise, shape, step};
use crate::incident::span::Span;
use crate::incident::table::Tally;

pub(super) fn verdicts(facts: &Facts<'_>, harm: &Harm) -> Vec<Verdict> {
    let causes = [noisy, spike, sustained, storm, cache, slow_clients];
    causes
        .iter()
        .filter_map(|cause| cause(facts, harm))
        .collect()
}

/// How much of the trouble is too much work: refusals, waiting, a full limit.
fn pressure(facts: &Facts<'_>, harm: &Harm) -> f64 {
    let full = facts.now.saturation();
    let crowded = f64::from(u8::from(harm.crowded()));
    // An upstream that is never full gets slower instead.
    let slower = if harm.service > 0.0 { 0.3 } else { 0.0 };
    step(full + crowded + slower, 0.3)
}

/// Of all growth, the part that is one client's beyond its part of what there usually is: where all ask for more, or only
/// one has ever asked, nobody stands out.
fn stands_out(usual: &Span, client: u64, share: f64) -> f64 {
    let always = Span::share(usual.clients.get(client).count, usual.demand);
    (share - always).max(0.0)
}

/// One client takes most of what is asked for more.
fn noisy(facts: &Facts<'_>, harm: &Harm) -> Option<Verdict> {
    let usual = facts.usual?;
    // By requests, and by the upstream's time: a client may ask for no more, but for dearer things.
    let by_count = facts.grew_most(|span| &span.clients, |tally| tally.count);
    let by_count = by_count.map(|(client, grew, share)| {
        let grown = step(grew / facts::demand(usual).max(1e-3), 0.3);
        (
            client,
            step(stands_out(usual, client, share), 0.4) * grown * pressure(facts, harm),
            share,
        )
    });
    let by_time = dearest(facts)
        .map(|(client, sure, share)| (client, sure * (0.6 + 0.4 * pressure(facts, harm)), share));
    let (client, sure, share) = match (by_count, by_time) {
        (Some(one), Some(other)) if other.1 > one.1 => other,
        (one, other) => one.or(other)?,
    };
    let tally = |span: &Span| span.clients.get(client);
    let evidence = vec![
        facts.evidence("requests of this client", "requests/s", |span| {
            span.rate(tally(span).count)
        }),
        facts.evidence("its share of the upstream's time", "ratio", |span| {
            Span::share(tally(span).time, span.service.sum)
        }),
        alone("its share of what is asked for more", share, "ratio"),
        facts.evidence("requests refused", "ratio", facts::refused),
    ];
    Some(Verdict {
        cause: Cause::NoisyClient,
        subject: Subject::Client(client),
        confidence: sure * pressure(facts, harm),
        since: facts
            .history
            .held(|span| span.rate(tally(span).count) > usual.rate(tally(usual).count) * 1.5 + 1.0),
        evidence,
    })
}

/// The client that asks for most of the upstream's additional time, how sure it is that this is its own doing, and its
/// share of that time. What it asks for counts, and not what it gets: a fair queue gives it no more than the others. Its
/// requests have to have become dearer than the others': those wait for what it takes up, and become slower as well, but
/// less so.
fn dearest(facts: &Facts<'_>) -> Option<(u64, f64, f64)> {
    /// The exponent of the odds against chance at which it is halfway believed: a few of anybody's requests may be long.
    const UNLIKELY: f64 = 8.0;
    /// Seconds, and requests in them that say something.
    const LATEST: usize = 4;
    const SOME: f64 = 4.0;
    let usual = facts.usual?;
    let (client, grew, share) = facts.grew_most(|span| &span.clients, Tally::asked)?;
    // Of a client that is new, what the others' usually take is its usual.
    let before = match usual.clients.get(client).mean() {
        known if known > 0.0 => known,
        _ => without(usual, client),
    };
    let dearer = |seconds: usize| {
        let (own, others) = beside(facts, client, seconds);
        let others = others / without(usual, client).max(1e-6);
        (own.mean() / before.max(1e-6) / others.max(1.0), own.sent)
    };
    // What came before it was held back may take that long to end: the latest seconds have to say the same.
    let (dearer, count) = [dearer(usize::MAX), dearer(LATEST)]
        .into_iter()
        .filter(|(_, sent)| *sent >= SOME)
        .min_by(|one, other| one.0.total_cmp(&other.0))
        .unwrap_or((0.0, 0.0));
    let chance = facts::surprise(count, dearer, usual.service.spread());
    let grown = step(grew / usual.rate(usual.service.sum).max(1e-3), 0.3);
    let sure = step(stands_out(usual, client, share), 0.25)
        * grown
        * step(dearer - 1.0, 0.6)
        * step(chance, UNLIKELY);
    Some((client, sure, share))
}

/// How far the upstream's longer times are one client's dearer requests.
pub(super) fn one_clients(facts: &Facts<'_>) -> f64 {
    dearest(facts).map_or(0.0, |(_, sure, _)| sure)
}

/// What `client` had in so many of the latest seconds, and the mean service of everybody else in those of them in which it was
/// served, each counted as often as that was: a client that a fair queue holds back was served mostly before, when
/// everybody's requests may have taken longer.
fn beside(facts: &Facts<'_>, client: u64, seconds: usize) -> (Tally, f64) {
    let (mut own, mut sum, mut count) = (Tally::default(), 0.0, 0.0);
    for second in facts.lately().take(seconds) {
        let (tally, others) = (second.clients.get(client), without(second, client));
        own.add(&tally);
        if others > 0.0 {
            sum += tally.sent * others;
            count += tally.sent;
        }
    }
    let others = if count > 0.0 {
        sum / count
    } else {
        without(&facts.now, client)
    };
    (own, others)
}

/// The mean service of everybody but `client`.
fn without(span: &Span, client: u64) -> f64 {
    let one = span.clients.get(client);
    Span::share(
        span.service.sum - one.time,
        (span.service.count - one.sent).max(0.0),
    )
}

/// Most clients ask for more than usual, from one moment to the next.
fn spike(facts: &Facts<'_>, harm: &Harm) -> Option<Verdict> {
    let usual = facts.usual?;
    let growth = facts.ratio(facts::originals) - 1.0;
    let top = facts
        .grew_most(|span| &span.clients, |tally| tally.count)
        .map_or(0.0, |(client, _, share)| stands_out(usual, client, share));
    let sudden = shape::suddenness(facts.history, usual);
    let half = facts::midway(facts, usual, facts::originals);
    let confidence =
        step(growth, 0.25) * (1.0 - step(top, 0.45)) * pressure(facts, harm) * (0.4 + 0.6 * sudden);
    Some(Verdict {
        cause: Cause::LoadSpike,
        subject: Subject::Upstream,
        confidence,
        since: facts.history.held(|span| facts::originals(span) > half),
        evidence: vec![
            facts.evidence("requests", "requests/s", facts::demand),
            alone(
                "the largest client's share of the growth, beyond its usual",
                top,
                "ratio",
            ),
            facts.evidence("the upstream's part of the time", "s", facts::service),
            facts.evidence("requests refused", "ratio", facts::refused),
        ],
    })
}

/// It has been full for long, or came to be full bit by bit.
fn sustained(facts: &Facts<'_>, harm: &Harm) -> Option<Verdict> {
    let full = facts.now.saturation();
    let recent: Vec<_> = facts.history.minutes().rev().take(15).collect();
    let long = recent
        .iter()
        .filter(|minute| minute.saturation > 0.5)
        .count();
    let lasted = step(long as f64, 4.0);
    let (growth, sudden) = match facts.usual {
        Some(usual) => (
            facts.ratio(facts::originals) - 1.0,
            shape::suddenness(facts.history, usual),
        ),
        None => (0.0, 0.0),
    };
    let crept = step(growth, 0.1) * (1.0 - sudden);
    // A limit that is full because each request takes longer is not full of requests.
    let slower = step(facts.ratio(facts::service) - 1.0, 0.8 + growth.max(0.0));
    Some(Verdict {
        cause: Cause::SustainedOverload,
        subject: Subject::Upstream,
        confidence: lasted.max(crept)
            * step(full, 0.25)
            * pressure(facts, harm)
            * (1.0 - 0.8 * slower),
        since: facts
            .history
            .held(|span| span.saturation() > 0.3)
            .max(long * 60),
        evidence: vec![
            facts.evidence("time at the limit", "ratio", Span::saturation),
            facts.evidence("limit in use", "ratio", Span::utilisation),
            alone(
                "minutes at the limit, of the last fifteen",
                long as f64,
                "minutes",
            ),
            facts.evidence("requests", "requests/s", facts::demand),
        ],
    })
}

/// Clients ask again for what failed, and that is what there is more of.
fn storm(facts: &Facts<'_>, _harm: &Harm) -> Option<Verdict> {
    /// Seconds: fewer are a matter of chance.
    const BEFORE: usize = 5;
    let usual = facts.usual?;
    let repeated = |span: &Span| Span::share(span.repeats(), span.demand);
    let resent = |span: &Span| Span::share(span.attempts - span.sent, span.sent);
    let excess = facts.excess(repeated) + facts.excess(resent).max(0.0);
    let growth = facts
        .ratio(facts::demand)
        .max(facts.ratio(|span| span.rate(span.attempts)))
        - 1.0;
    let unserved = |span: &Span| Span::share(span.unserved(), span.demand);
    let trouble = |span: &Span| unserved(span) > (1.5 * unserved(usual)).max(0.02);
    let failing = facts.history.held(trouble);
    // What came first is nearer to the cause: a load of which half of what there is more had come before anything failed
    // is a load. One that rises with the day is not where a storm begins.
    let before = facts.history.between(failing + BEFORE, failing);
    let half = facts::midway(facts, usual, facts::demand);
    let came_first = before.seconds > 0.0 && facts::demand(&before) > half;
    let after = if came_first { 0.25 } else { 1.0 };
    // Of the growth, the part that is repetition.
    let more = facts.now.rate(facts.now.demand) - facts::demand(usual);
    let again = facts.now.rate(facts.now.repeats()) - usual.rate(usual.repeats());
    let part = if more > 0.0 {
        (again / more).clamp(0.0, 1.0)
    } else {
        1.0
    };
    Some(Verdict {
        cause: Cause::RetryStorm,
        subject: Subject::Upstream,
        confidence: step(excess, 0.08) * step(growth, 0.15) * after * part,
        since: failing,
        evidence: vec![
            facts.evidence("requests that repeat a failed one", "ratio", repeated),
            facts.evidence("requests", "requests/s", facts::demand),
            facts.evidence("requests but for repeats", "requests/s", facts::originals),
            facts.evidence("sent again by Tidegate", "ratio", resent),
            facts.evidence("failed by the upstream", "ratio", facts::failed),
        ],
    })
}

/// Lookups that say something.
const ENOUGH: f64 = 20.0;

/// By how much the share of hits has fallen, as far as it is not one client that asks for what was never stored.
fn fallen_for_others(facts: &Facts<'_>, usual: &Span, fallen: f64) -> f64 {
    let misses = |tally: &Tally| tally.lookups - tally.hits;
    let Some((client, _, share)) = facts.grew_most(|span| &span.clients, misses) else {
        return fallen;
    };
    let others = |span: &Span| {
        let own = span.clients.get(client);
        (span.hits - own.hits, span.lookups - own.lookups)
    };
    let ((hits, lookups), (hits_before, lookups_before)) = (others(&facts.now), others(usual));
    if lookups < ENOUGH {
        return fallen;
    }
    let for_others = Span::share(hits_before, lookups_before) - Span::share(hits, lookups);
    let alone = step(stands_out(usual, client, share), 0.4);
    fallen + (for_others - fallen) * alone
}

/// Requests that the cache had no answer to, those among them that were refused: of what it has an answer to, nothing is.
fn missed(span: &Span) -> f64 {
    /// Where next to all are refused, the few that are not say little of them.
    const LEAST: f64 = 0.05;
    let asked = span.demand - span.hits;
    let served = Span::share(asked - span.refused, asked).max(LEAST);
    (span.lookups - span.hits) / served
}

/// The cache answers less than it did, and the upstream has that to do as well.
fn cache(facts: &Facts<'_>, _harm: &Harm) -> Option<Verdict> {
    let usual = facts.usual?;
    let hits = |span: &Span| Span::share(span.hits, span.hits + missed(span));
    if facts.now.lookups < ENOUGH {
        return None;
    }
    let fallen = hits(usual) - hits(&facts.now);
    let fallen = fallen.min(fallen_for_others(facts, usual, fallen));
    let misses = |span: &Span| span.rate(missed(span));
    let more = facts.ratio(misses) - 1.0;
    let asked = facts.ratio(facts::demand) - 1.0;
    Some(Verdict {
        cause: Cause::CacheFailure,
        subject: Subject::Upstream,
        confidence: step(fallen, 0.12) * step(more, 0.2) * (1.0 - 0.7 * step(asked, 1.0)),
        since: facts.history.held(|span| hits(span) < hits(usual) - 0.1),
        evidence: vec![
            facts.evidence("cache hits", "ratio", hits),
            facts.evidence("cache misses", "requests/s", misses),
            facts.evidence("requests", "requests/s", facts::demand),
        ],
    })
}

/// The same where nobody suffers from it yet, as the upstream has room: only if the hits fall by far more than they swing by
/// themselves, and stay there.
pub(super) fn lost_cache(facts: &Facts<'_>) -> Option<Verdict> {
    /// Seconds.
    const LASTING: f64 = 4.0;
    /// Times what they swing by themselves,
    const BEYOND: f64 = 3.0;
    /// which is taken for this while it is not known.
    const SWING: f64 = 0.2;
    let usual = facts.usual?;
    let mut verdict = cache(facts, &Harm::default())?;
    let hits = |spans: &[&Span]| {
        let (hits, lookups) = spans.iter().fold((0.0, 0.0), |(hits, lookups), span| {
            (hits + span.hits, lookups + span.lookups)
        });
        Span::share(hits, lookups)
    };
    let swings = noise::swing(facts.history, &[0], SWING, |_key, block| hits(block));
    let least = 1.0 / facts.now.lookups.max(1.0);
    let fallen = (hits(&[usual]) / hits(&[&facts.now]).max(least))
        .max(1.0)
        .ln();
    verdict.confidence *= step(fallen / swings, BEYOND) * step(verdict.since as f64, LASTING);
    Some(verdict)
}

/// Clients send or read slowly.
fn slow_clients(facts: &Facts<'_>, harm: &Harm) -> Option<Verdict> {
    let usual = facts.usual?;
    let delivery = |span: &Span| span.delivery.mean();
    let all = harm.delivery + harm.service + harm.queue;
    if all <= 0.0 {
        return None;
    }
    Some(Verdict {
        cause: Cause::SlowClients,
        subject: Subject::Upstream,
        confidence: (0.5 + 0.5 * step(harm.delivery / all, 0.45))
            * step(harm.delivery, 0.01)
            * step(facts.ratio(delivery) - 1.0, 2.0),
        since: facts
            .history
            .held(|span| delivery(span) > delivery(usual) * 1.5 + 0.01),
        evidence: vec![
            facts.evidence("the clients' part of the time", "s", delivery),
            facts.evidence("the upstream's part of the time", "s", facts::service),
        ],
    })
}

const fn alone(what: &'static str, value: f64, unit: &'static str) -> Evidence {
    Evidence {
        what,
        value,
        baseline: None,
        unit,
    }
}
