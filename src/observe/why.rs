//! Why a request was answered as it was: the decisions taken about it, and the memory they are kept in.
//!
//! A worker notes each decision in the request's [`Trail`]; the trails of requests that were refused, failed, slow or
//! would have been refused or were not believed to be who they said, and of one in a hundred others, go to the observer with their exchanges. Its
//! memory keeps the newest of them, up to a bound, and finds one by the hash of its request id. Depends on
//! the exchange and the engine's words.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::exchange::Exchange;
use crate::clients::Doubt;
use crate::engine::retry;
use crate::model::{CacheResult, RateLimitId, Reason, Unit};

/// Decisions kept about one request; what comes after the last place replaces what is there.
const MAX_DECISIONS: usize = 8;
/// Of requests about which there is nothing to say, one in so many is kept.
pub const SAMPLE: u32 = 100;
/// Requests in a block.
const BLOCK: usize = 4_096;
/// Blocks kept: 262,144 requests, some 50 MB when all of them were refused.
const MAX_BLOCKS: usize = 64;

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the configuration")]
pub enum Policy {
    Identity,
    Overload,
    Isolation,
    RateLimit(RateLimitId),
    RouteBreaker,
    Noisy,
    Breaker,
    Concurrency,
    Queue,
    Balance,
    Upstream,
    Retry,
    Hedge,
    Cache,
}

impl Policy {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Overload => "overload",
            Self::Isolation => "isolation",
            Self::RateLimit(_) => "rate_limit",
            Self::RouteBreaker => "route_breaker",
            Self::Noisy => "noisy",
            Self::Breaker => "breaker",
            Self::Concurrency => "concurrency",
            Self::Queue => "queue",
            Self::Balance => "balance",
            Self::Upstream => "upstream",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Cache => "cache",
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It says to be sent by somebody, which is not believed.
    NotBelieved(Doubt),
    /// It may go on.
    Passed,
    /// It may go on, after the time in `value`.
    Waited,
    /// It may not.
    Refused(Reason),
    /// It might not, if the policy acted.
    WouldRefuse(Reason),
    /// It goes to an endpoint.
    Chosen,
    /// The upstream answered with the status in `value`.
    Answered,
    /// The upstream did not answer.
    Failed(Reason),
    /// It is sent again after the time in `value`.
    SentAgain,
    /// It would be sent again, if the policy acted.
    WouldSendAgain,
    /// It is not sent again.
    NotSentAgain(retry::Refusal),
    /// The cache did this about it, for this reason.
    Cached(CacheResult, &'static str),
}

impl Verdict {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotBelieved(_) => "not_believed",
            Self::Passed => "passed",
            Self::Waited => "waited",
            Self::Refused(_) => "refused",
            Self::WouldRefuse(_) => "would_refuse",
            Self::Chosen => "chosen",
            Self::Answered => "answered",
            Self::Failed(_) => "failed",
            Self::SentAgain => "sent_again",
            Self::WouldSendAgain => "would_send_again",
            Self::NotSentAgain(_) => "not_sent_again",
            Self::Cached(result, _) => result.as_str(),
        }
    }

    /// Why, where that is another word.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Refused(reason) | Self::WouldRefuse(reason) | Self::Failed(reason) => {
                Some(reason.as_str())
            }
            Self::NotSentAgain(refusal) => Some(refusal.as_str()),
            Self::NotBelieved(doubt) => Some(doubt.as_str()),
            Self::Cached(_, why) => {
                if why.is_empty() {
                    None
                } else {
                    Some(why)
                }
            }
            Self::Passed
            | Self::Waited
            | Self::Chosen
            | Self::Answered
            | Self::SentAgain
            | Self::WouldSendAgain => None,
        }
    }
}

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// When, in microseconds since the request's head was whole.
    pub at: u32,
    /// What was seen, in `unit`; not a number where nothing was.
    pub value: f32,
    /// What it was held to, in `unit`; not a number where there is no bound.
    pub threshold: f32,
    /// What both count; none for a bare number such as a status.
    pub unit: Option<Unit>,
    /// Who decided.
    pub policy: Policy,
    /// What.
    pub verdict: Verdict,
}

/// The decisions taken about one request, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail {
    decisions: [Option<Decision>; MAX_DECISIONS],
    len: u8,
}

impl Trail {
    /// Without any.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            decisions: [None; MAX_DECISIONS],
            len: 0,
        }
    }

    /// Notes another decision.
    pub fn push(&mut self, decision: Decision) {
        let place = usize::from(self.len).min(MAX_DECISIONS - 1);
        if let Some(slot) = self.decisions.get_mut(place) {
            *slot = Some(decision);
        }
        self.len = self.len.saturating_add(1);
    }

    /// Whether somebody was not believed to be who it said.
    fn has_doubt(&self) -> bool {
        let first = self.decisions.first().copied().flatten();
        first.is_some_and(|first| matches!(first.verdict, Verdict::NotBelieved(_)))
    }

    /// Those that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().flatten()
    }
}

/// A request on its way into the memory.
#[derive(Debug)]
pub(super) struct Record {
    id: u64,
    exchange: Exchange,
    decisions: Box<[Decision]>,
}

impl Record {
    /// What there is to keep of a request; none for most of those about which there is nothing to say.
    pub(super) fn of(
        exchange: &Exchange,
        remarkable: bool,
        request_id: &str,
        trail: &Trail,
        rng: &mut fastrand::Rng,
    ) -> Option<Self> {
        let told = remarkable || exchange.observed.is_some() || trail.has_doubt();
        (told || rng.u32(..SAMPLE) == 0).then(|| Self {
            id: hash(request_id),
            exchange: *exchange,
            decisions: trail.iter().copied().collect(),
        })
    }

    fn why(&self) -> Why {
        Why {
            exchange: self.exchange,
            decisions: self.decisions.clone(),
        }
    }
}

/// What is known of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// How it went.
    pub exchange: Exchange,
    /// The decisions taken about it, in order.
    pub decisions: Box<[Decision]>,
}

/// The newest requests that were refused, failed, slow, or taken as a sample.
#[derive(Debug, Default)]
pub(super) struct Memory {
    blocks: VecDeque<Vec<Record>>,
}

impl Memory {
    pub(super) fn keep(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            match self.blocks.back_mut() {
                Some(block) if block.len() < BLOCK => block.push(record),
                _ => {
                    if self.blocks.len() == MAX_BLOCKS {
                        self.blocks.pop_front();
                    }
                    let mut block = Vec::with_capacity(BLOCK);
                    block.push(record);
                    self.blocks.push_back(block);
                }
            }
        }
    }

    /// The newest request with this id.
    pub(super) fn find(&self, request_id: &str) -> Option<Why> {
        let id = hash(request_id);
        let mut found = self.newest_first().filter(|record| record.id == id);
        found.next().map(Record::why)
    }

    /// The newest requests, at most `limit`, that began after `since`.
    pub(super) fn newest(&self, since: u64, limit: usize) -> Vec<Why> {
        // They come in the order of their ends: one that took long may stand before one that is too old.
        let looked_at = self.newest_first().take(limit);
        let found = looked_at.filter(|record| record.exchange.started > since);
        found.map(Record::why).collect()
    }

    fn newest_first(&self) -> impl Iterator<Item = &Record> {
        let blocks = self.blocks.iter().rev();
        blocks.flat_map(|block| block.iter().rev())
    }

    /// When the oldest request that is kept began, in microseconds since the Unix epoch.
    pub(super) fn since(&self) -> Option<u64> {
        let oldest = self.blocks.front()?.first()?;
        Some(oldest.exchange.started)
    }
}

fn hash(request_id: &str) -> u64 {
    // Fixed keys: a trusted peer that makes two ids collide fools itself.
    let mut hasher = DefaultHasher::new();
    request_id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tables::tests::{answered, refused};

    fn decision(at: u32) -> Decision {
        Decision {
            at,
            value: 3.0,
            threshold: 2.0,
            unit: Some(Unit::Requests),
            policy: Policy::Queue,
            verdict: Verdict::Refused(Reason::QueueFull),
        }
    }

    fn record(id: &str, exchange: &Exchange) -> Record {
        let mut trail = Trail::new();
        trail.push(decision(7));
        Record::of(exchange, true, id, &trail, &mut fastrand::Rng::with_seed(1)).unwrap()
    }

    #[test]
    fn a_trail_keeps_the_first_decisions_and_the_last() {
        let mut trail = Trail::new();
        for at in 0..20 {
            trail.push(decision(at));
        }
        let kept: Vec<u32> = trail.iter().map(|decision| decision.at).collect();
        assert_eq!(kept, [0, 1, 2, 3, 4, 5, 6, 19]);
    }

    #[test]
    fn what_went_wrong_is_kept_and_a_hundredth_of_the_rest() {
        let mut rng = fastrand::Rng::with_seed(7);
        let trail = Trail::new();
        let mut kept = |exchange: &Exchange, remarkable: bool| {
            Record::of(exchange, remarkable, "a", &trail, &mut rng).is_some()
        };
        assert!((0..1_000).all(|_| kept(&refused(), true)));
        let observed = Exchange {
            observed: Some(Reason::FairShare),
            ..answered()
        };
        assert!((0..1_000).all(|_| kept(&observed, false)));
        let sampled = (0..10_000).filter(|_| kept(&answered(), false)).count();
        assert!((50..150).contains(&sampled), "{sampled}");
    }

    #[test]
    fn the_newest_of_an_id_is_found_and_the_oldest_beyond_the_bound_is_forgotten() {
        let mut memory = Memory::default();
        let at = |started| Exchange {
            started,
            ..refused()
        };
        memory.keep([
            record("a", &at(1)),
            record("a", &at(2)),
            record("b", &at(3)),
        ]);
        assert_eq!(memory.find("a").unwrap().exchange.started, 2);
        assert_eq!(*memory.find("b").unwrap().decisions, [decision(7)]);
        assert_eq!((memory.find("c"), memory.since()), (None, Some(1)));
        let newest = |since, limit| {
            let newest = memory.newest(since, limit);
            newest
                .iter()
                .map(|one| one.exchange.started)
                .collect::<Vec<_>>()
        };
        assert_eq!((newest(1, 9), newest(0, 2)), (vec![3, 2], vec![3, 2]));
        memory.keep((0..BLOCK * MAX_BLOCKS).map(|_| record("c", &at(4))));
        assert_eq!(memory.find("a"), None);
        assert_eq!(memory.since(), Some(4));
        assert!(memory.blocks.len() <= MAX_BLOCKS);
    }
}
