//! Causes that are one endpoint's: it is down, or it drags.

use std::borrow::Cow;

use super::facts::{self, EndpointFact, Facts};
use super::{Cause, Evidence, Harm, Subject, Verdict, noise, step};
use crate::incident::span::Span;
use crate::incident::table::Tally;

pub(super) fn verdicts(facts: &Facts<'_>, harm: &Harm) -> Vec<Verdict> {
    let ids = facts.endpoints.iter().map(|fact| fact.id);
    let ids: Vec<u64> = if facts.endpoints.is_empty() {
        facts.now.endpoints.iter().map(|(id, _)| id).collect()
    } else {
        ids.collect()
    };
    let down = ids.iter().filter_map(|id| down(facts, *id));
    let slow = slowest(facts, harm, &ids);
    down.chain(slow).collect()
}

fn fact(facts: &Facts<'_>, id: u64) -> EndpointFact {
    let found = facts.endpoints.iter().find(|fact| fact.id == id);
    found.copied().unwrap_or_default()
}

/// What the other endpoints say for one that fails.
struct Peers {
    /// Whether anybody asked them: who was not asked did not fail, but is no witness.
    asked: bool,
    /// The share that failed at them, of late or at the best of them.
    failing: f64,
}

impl Peers {
    /// Fewer attempts say nothing for anybody.
    const ENOUGH: f64 = 3.0;

    fn of(facts: &Facts<'_>, id: u64) -> Self {
        let ended = others(&facts.now, id);
        let asked = facts.endpoints.iter();
        let asked = asked.filter(|one| one.id != id && one.attempts >= Self::ENOUGH);
        // One that was ejected is not asked any more, and hardly failed in ten seconds: its worst moments tell.
        let failing = |one: &EndpointFact| one.worst.max(one.failures / one.attempts);
        let best = asked.map(failing).fold(f64::INFINITY, f64::min);
        let known = best.is_finite();
        Self {
            asked: known || ended.count >= Self::ENOUGH,
            failing: Span::share(ended.failed, ended.count).max(if known { best } else { 0.0 }),
        }
    }
}

/// What fails less often than this fails never, as far as anybody knows.
const RARELY: f64 = 0.01;

/// The exponent of the odds at which failures in a row are halfway to be believed.
const UNLIKELY_ROW: f64 = 4.0;

/// Seconds of failing, made good elsewhere, that are halfway more than a restart; and failures that were not, and that are
/// halfway enough to say so at once.
const RESTART: f64 = 4.0;
const FELT: f64 = 5.0;

/// It cannot be connected to, its checks fail, or it fails where its peers do not.
fn down(facts: &Facts<'_>, id: u64) -> Option<Verdict> {
    let fact = fact(facts, id);
    let tally = facts.now.endpoints.get(id);
    // Attempts count those that a retry made good elsewhere; the exchanges know only the last one.
    let attempts = tally.count.max(fact.attempts);
    let failures = tally.failed.max(fact.failures);
    let failing = Span::share(failures, attempts);
    let unreachable = Span::share(tally.unreachable, tally.count);
    let peers = Peers::of(facts, id);
    let apart = failing - peers.failing;
    let few = step(failures, 3.0);
    let by_failures = if peers.asked {
        (step(apart, 0.3) * few).max(step(unreachable, 0.4) * few)
    } else {
        step(unreachable, 0.4) * few
    };
    // Where nobody felt it, it may have been started anew.
    let lasts = step(fact.failing, RESTART).max(step(tally.failed, FELT));
    let by_failures = by_failures * lasts;
    let confidence = if fact.unhealthy {
        by_failures.max(0.9)
    } else if fact.ejected && peers.asked {
        // It was ejected within a second or two of failing: over ten seconds that may be little. Where its peers fail as
        // well, so many in a row happen to anybody now and then.
        let chance = -fact.failures * peers.failing.max(RARELY).log10();
        let suddenly = 0.7 * step(fact.worst - peers.failing, 0.4) * step(chance, UNLIKELY_ROW);
        let before = 0.55 * step(apart.max(0.0), 0.2);
        by_failures.max(before.max(suddenly) * lasts)
    } else {
        by_failures
    };
    let (hanging, unanswered) = hanging(facts, id);
    let confidence = confidence.max(hanging);
    (confidence > 0.0).then(|| Verdict {
        cause: Cause::EndpointDown,
        subject: Subject::Endpoint(id),
        confidence,
        since: facts
            .history
            .held(|span| span.endpoints.get(id).failed > 0.0),
        evidence: vec![
            number(
                "failures here",
                failing,
                "ratio",
                peers.asked.then_some(peers.failing),
            ),
            number("seconds of failing", fact.failing, "s", None),
            number("no connection", unreachable, "ratio", None),
            number("requests it does not answer", unanswered, "requests", None),
            number(
                "out by its checks",
                f64::from(u8::from(fact.unhealthy)),
                "bool",
                None,
            ),
            number("ejected", f64::from(u8::from(fact.ejected)), "bool", None),
        ],
    })
}

/// How sure it is that it takes requests and answers none, where its peers answer; and how many wait for it. What it holds
/// is more than what has ended there tells of (Little's law).
fn hanging(facts: &Facts<'_>, id: u64) -> (f64, f64) {
    /// A silence of so many seconds, and of so many times as long as an answer usually takes.
    const LONG: f64 = 1.0;
    const TIMES: f64 = 20.0;
    /// The part of its silence that its peers' answers take that is halfway no silence of its own.
    const AS_SLOW: f64 = 0.1;
    let waits = |one: &EndpointFact| {
        // Whose client gave up has not been answered either.
        let ended = facts.now.endpoints.get(one.id);
        (one.in_flight - facts.now.rate(ended.time - ended.abandoned_time)).max(0.0)
    };
    let own = waits(&fact(facts, id));
    let peers = facts.endpoints.iter().filter(|one| one.id != id);
    let (sum, count) = peers.fold((0.0, 0.0), |(sum, count), one| {
        (sum + waits(one), count + 1.0)
    });
    let latest = facts.history.last(3).endpoints.get(id);
    let silent = latest.count - latest.abandoned < 1.0;
    let (Some(usual), true) = (facts.usual, silent && count > 0.0) else {
        return (0.0, own);
    };
    let before = usual.endpoints.get(id);
    let apart = own - 2.0 * sum / count;
    let held = step(apart, 1.5) * step(own - usual.rate(before.time), 1.5);
    // The balancer turns from what answers nothing: then little waits there, but for long.
    let (silence, given_up) = unanswered(facts, id);
    let asked = fact(facts, id).in_flight + given_up;
    let long = step(silence, LONG + TIMES * before.mean()) * step(asked, 1.5);
    // Where its peers take long as well, it may be no slower than they are.
    let peers = others(&facts.now, id).mean();
    let alone = 1.0 - step(Span::share(peers, silence), AS_SLOW);
    // Nor is one down alone where none has answered since.
    let peers = facts.endpoints.iter().filter(|one| one.id != id);
    let theirs = peers.map(|one| unanswered(facts, one.id).0);
    let least = theirs.fold(f64::INFINITY, f64::min);
    let alone = alone * (1.0 - step(Span::share(least, silence), 0.5));
    let nothing = 1.0 - step(late(facts, usual, id), 3.0);
    (0.9 * held.max(long) * alone * nothing, own)
}

/// For how many seconds it has left what it was asked without an answer: those who wait, or those who gave up since it last
/// answered where nobody waits just now; and how many gave up.
fn unanswered(facts: &Facts<'_>, id: u64) -> (f64, f64) {
    let seconds = facts.history.seconds();
    let since = seconds
        .map(|second| second.endpoints.get(id))
        .take_while(|ended| ended.count - ended.abandoned < 1.0);
    let (time, count) = since.fold((0.0, 0.0), |(time, count), ended| {
        (time + ended.abandoned_time, count + ended.abandoned)
    });
    let silence = fact(facts, id).silence.max(Span::share(time, count));
    (silence, count)
}

/// What it answered of late, and far later than usual: what is so slow that hardly anybody waits for it is not down.
fn late(facts: &Facts<'_>, usual: &Span, id: u64) -> f64 {
    const SECONDS: usize = 20;
    const FAR: f64 = 3.0;
    let usual = usual.endpoints.get(id).mean();
    let late = facts.history.seconds().take(SECONDS).map(|second| {
        let ended = second.endpoints.get(id);
        let answers = ended.count - ended.abandoned;
        let time = ended.time - ended.abandoned_time;
        // A failure's time may be that of a timeout.
        if ended.failed > 0.0 || time <= FAR * usual * answers {
            0.0
        } else {
            answers
        }
    });
    late.sum()
}

/// The exponent of the odds at which a difference is halfway to be believed: of so many endpoints, so often looked at,
/// chance makes one stand out by half of it once in a while.
const UNLIKELY: f64 = 20.0;

/// And how many times what the endpoints stand apart by themselves.
const BEYOND: f64 = 3.0;

/// How many times more than its peers' an endpoint's requests take that is halfway certain not to have merely the longer
/// queue.
const FAR_APART: f64 = 4.0;

/// The one whose requests take far longer than its peers', if there is one.
fn slowest(facts: &Facts<'_>, harm: &Harm, ids: &[u64]) -> Option<Verdict> {
    let slow = |id: u64| {
        let (ago, span) = latest(facts, id);
        (span.endpoints.get(id), others(&span, id), ago)
    };
    let ratio = |id: &u64| {
        let (own, peers, _) = slow(*id);
        if own.count >= 2.0 && peers.count >= 5.0 && peers.mean() > 0.0 {
            own.mean() / peers.mean()
        } else {
            0.0
        }
    };
    let id = *ids.iter().max_by(|a, b| ratio(a).total_cmp(&ratio(b)))?;
    let apart = ratio(&id);
    let (own, peers, ago) = slow(id);
    let before = facts.usual.map(|usual| usual.endpoints.get(id).mean());
    let before = before.filter(|mean| *mean > 0.0);
    // One that never was known to be faster may be a slower machine.
    let grown = before.map_or(0.7, |before| step(own.mean() / before - 1.0, 0.5));
    // With more to do than usual it is slower than usual, and that is not its own doing.
    let asked = |span: &Span| span.rate(span.endpoints.get(id).sent);
    let before_asked = facts.usual.map(asked).filter(|rate| *rate > 0.0);
    let busier = before_asked.map_or(0.0, |before| (asked(&facts.now) / before - 1.0).max(0.0));
    // What it costs: its excess, spread over everybody. Little is asked of an endpoint known to be slow.
    let excess = (own.mean() - peers.mean()).max(0.0);
    let felt = step(excess, 0.008) * step(own.count, 2.0);
    // Of what everybody feels, the part that this explains.
    let part = if harm.service > 0.0 {
        Span::share(excess * own.count, facts.now.service.count) / harm.service
    } else {
        0.0
    };
    let explained = if harm.service > 0.0 {
        0.5 + 0.5 * step(part, 0.3)
    } else {
        // Nobody feels it, and of many healthy minutes one has an endpoint that looks like that, if not by as much.
        0.4 + 0.4 * step(apart - 1.0, 3.0)
    };
    // Where all are slower than before, requests queue in all of them, and never as long in one as in the other.
    let others_before = facts.usual.map_or(0.0, |usual| others(usual, id).mean());
    // Unless it is this one nearly alone that is felt (its peers have its work to do as well), or it is slower by far more
    // than their queues can differ.
    let all_slower = step(Span::share(peers.mean(), others_before) - 1.0, 0.7)
        * (1.0 - step(part, 0.6))
        * (1.0 - step(apart - 1.0, FAR_APART));
    // The balancer turns from an endpoint after one long answer, so that a few long ones are all there is of it.
    let spread = facts.usual.unwrap_or(&facts.now).service.spread();
    let chance = facts::surprise(own.count, apart, spread);
    let beyond = Span::share(apart.max(1.0).ln(), swing(facts, ids));
    let confidence = step(chance, UNLIKELY)
        * step(beyond, BEYOND)
        * step(apart - 1.0, 0.7)
        * step(lasting(facts, (id, ago), part) - 1.0, 0.5)
        * grown
        * (1.0 - 0.85 * step(busier, 0.5))
        * felt
        * explained
        * (1.0 - 0.7 * all_slower)
        // What its clients gave up on was not answered late.
        * (1.0 - hanging(facts, id).0);
    Some(Verdict {
        cause: Cause::SlowEndpoint,
        subject: Subject::Endpoint(id),
        confidence,
        since: facts.history.held(|span| {
            let own = span.endpoints.get(id);
            own.count > 0.0 && own.mean() > peers.mean() * 1.5
        }),
        evidence: vec![
            number("its part of the time", own.mean(), "s", before),
            number(
                "its peers' part of the time",
                peers.mean(),
                "s",
                facts.usual.map(facts::service),
            ),
            number(
                "its share of the requests",
                Span::share(own.count, facts.now.sent),
                "ratio",
                None,
            ),
        ],
    })
}

/// What an endpoint and its peers did in ten seconds, and how many seconds ago these ended: the last ten; of an endpoint that
/// is out, or that the balancer turns from, those in which it was last asked.
fn latest<'a>(facts: &'a Facts<'_>, id: u64) -> (usize, Cow<'a, Span>) {
    const ASKED: f64 = 5.0;
    let now = || (0, Cow::Borrowed(&facts.now));
    if facts.now.endpoints.get(id).count >= ASKED {
        return now();
    }
    // The balancer asks it again before long.
    let longest = if fact(facts, id).ejected { 50 } else { 20 };
    let mut earlier = (5..=longest)
        .step_by(5)
        .map(|ago| (ago, facts.history.between(ago + 10, ago)));
    let asked = earlier.find(|(_, span)| span.endpoints.get(id).count >= ASKED);
    asked.map_or_else(now, |(ago, span)| (ago, Cow::Owned(span)))
}

/// How many times its peers' time the endpoint took in the least of the stretches of ten seconds that ended `ago`, as far as it
/// was asked: a moment's queue in one of them is over in the next. Where most of what is felt is its `part`, the latest two
/// are enough.
fn lasting(facts: &Facts<'_>, (id, ago): (u64, usize), part: f64) -> f64 {
    /// Fewer requests in a stretch say nothing of it.
    const SOME: f64 = 3.0;
    let stretches = [(3, 0), (6, 3), (10, 6)];
    let asked = stretches.iter().filter_map(|(from, to)| {
        let span = facts.history.between(from + ago, to + ago);
        let (own, peers) = (span.endpoints.get(id), others(&span, id));
        (own.count >= SOME && peers.count > 0.0).then(|| Span::share(own.mean(), peers.mean()))
    });
    let asked = asked.take(if part > 0.5 { 2 } else { 3 });
    let least = asked.fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 1.0 }
}

/// How far the endpoints' times stand apart by themselves, as the deviation of a logarithm.
fn swing(facts: &Facts<'_>, ids: &[u64]) -> f64 {
    /// Before anything is known: as far as a busy service's endpoints swing.
    const UNKNOWN: f64 = 0.3;
    let apart = |id: u64, block: &[&Span]| {
        let (mut own, mut all) = (Tally::default(), Tally::default());
        for span in block {
            own.add(&span.endpoints.get(id));
            all.add(&span.endpoints.total());
        }
        let peers = Span::share(all.time - own.time, all.sent - own.sent);
        Span::share(own.mean(), peers)
    };
    noise::swing(facts.history, ids, UNKNOWN, apart)
}

/// All endpoints but one.
fn others(span: &Span, id: u64) -> Tally {
    let mut sum = Tally::default();
    for (other, tally) in span.endpoints.iter() {
        if other != id {
            sum.add(tally);
        }
    }
    sum
}

const fn number(
    what: &'static str,
    value: f64,
    unit: &'static str,
    baseline: Option<f64>,
) -> Evidence {
    Evidence {
        what,
        value,
        baseline,
        unit,
    }
}
