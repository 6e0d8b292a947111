//! Whom operators hold apart for a time: a client or a route in a narrow lane, slowed to a rate or kept out; an endpoint
//! out of service; a tier and those below it turned away; an upstream spared retries, or what the cache has stale.
//!
//! An isolation ends by itself, and nothing of it remains. While there is none, a request costs one relaxed load. Who
//! is held apart is kept by name, so that it survives a restart whatever names are hashed with. Depends on policy
//! and model.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::model::{Reason, Rejection, Unit};
use crate::policy::rate::{Limiter, Moment, Quota};

#[cfg(test)]
mod tests;

/// The share of an upstream's concurrency limit that a lane may hold; one slot at least.
pub const LANE_SHARE: f64 = 0.05;
/// Isolations at a time.
pub const MOST: usize = 256;
/// When another try may be worth it, for who is kept out and for who finds the lane full.
const AFTER_BLOCK: Duration = Duration::from_secs(60);
const AFTER_LANE: Duration = Duration::from_secs(1);

/// Whom an isolation concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A client, by the name it is known by.
    Client(Arc<str>),
    /// A route.
    Route(Arc<str>),
    /// An endpoint: its upstream and its address.
    Endpoint(Arc<str>, Arc<str>),
    /// A tier, and those that are less important.
    Tier(Arc<str>),
    /// An upstream.
    Upstream(Arc<str>),
}

impl Subject {
    /// The words for the kinds.
    pub const KINDS: [&'static str; 5] = ["client", "route", "endpoint", "tier", "upstream"];

    /// What it is: one of [`Self::KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Route(_) => "route",
            Self::Endpoint(..) => "endpoint",
            Self::Tier(_) => "tier",
            Self::Upstream(_) => "upstream",
        }
    }

    /// Whether it can be held apart like this.
    #[must_use]
    pub const fn takes(&self, to: &To) -> bool {
        match self {
            Self::Client(_) | Self::Route(_) => {
                matches!(to, To::Lane | To::Throttle(_) | To::Block)
            }
            Self::Endpoint(..) | Self::Tier(_) => matches!(to, To::Block),
            Self::Upstream(_) => matches!(to, To::ServeStale | To::NoRetries),
        }
    }

    /// How it is held apart where nobody says how; an upstream, as somebody has to say.
    #[must_use]
    pub const fn usually(&self) -> Option<&'static str> {
        match self {
            Self::Client(_) | Self::Route(_) => Some("lane"),
            Self::Endpoint(..) | Self::Tier(_) => Some("block"),
            Self::Upstream(_) => None,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(name) | Self::Route(name) | Self::Tier(name) | Self::Upstream(name) => {
                f.write_str(name)
            }
            Self::Endpoint(upstream, address) => write!(f, "{upstream}/{address}"),
        }
    }
}

/// How somebody is held apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum To {
    /// It may hold a small share of an upstream's limit at a time: [`LANE_SHARE`].
    Lane,
    /// It may ask for so much.
    Throttle(Quota),
    /// It is kept out.
    Block,
    /// Caches answer with what is stale, where they may, rather than ask it.
    ServeStale,
    /// Nothing is sent to it again.
    NoRetries,
}

impl To {
    /// What `word` says: `lane`, `block`, `serve-stale`, `no-retries`, or `throttle=` and a rate, which `quota` reads.
    ///
    /// # Errors
    /// When it says nothing; the text is for people.
    pub fn from_word(
        word: &str,
        quota: impl FnOnce(&str) -> Result<Quota, String>,
    ) -> Result<Self, String> {
        match (word, word.strip_prefix("throttle=")) {
            ("lane", _) => Ok(Self::Lane),
            ("block", _) => Ok(Self::Block),
            ("serve-stale", _) => Ok(Self::ServeStale),
            ("no-retries", _) => Ok(Self::NoRetries),
            (_, Some(rate)) => Ok(Self::Throttle(quota(rate)?)),
            _ => Err(format!(
                "{word:?} is not lane, block, throttle=RATE such as throttle=10/s, serve-stale or no-retries"
            )),
        }
    }
}

/// What an operator ordered.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What it is released by.
    pub id: Arc<str>,
    /// Whom it concerns.
    pub subject: Subject,
    /// How it is held apart, as [`Subject::takes`] it.
    pub to: To,
    /// The same in the operator's words: `lane`, `block`, `throttle=10/s`.
    pub word: Box<str>,
    /// When it began, Unix seconds.
    pub since: u64,
    /// When it ends, Unix seconds.
    pub until: u64,
    /// Why, in the operator's words.
    pub reason: Box<str>,
    /// Who ordered it: the peer of the admin API.
    pub by: Box<str>,
}

impl Order {
    /// An id for what is ordered at `micros` since the Unix epoch: no two come within a microsecond, nor does one last for
    /// twelve days.
    #[must_use]
    pub fn id(micros: u64) -> Arc<str> {
        format!("{:010x}", micros % (1 << 40)).into()
    }
}

/// An order at work.
#[derive(Debug)]
pub struct Isolation {
    order: Order,
    limiter: Option<Limiter>,
    in_lane: AtomicU32,
    passed: AtomicU64,
    refused: AtomicU64,
}

impl Isolation {
    fn new(order: Order) -> Arc<Self> {
        let limiter = matches!(order.to, To::Throttle(_)).then(|| Limiter::new(1));
        Arc::new(Self {
            order,
            limiter,
            in_lane: AtomicU32::new(0),
            passed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// What was ordered.
    #[must_use]
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// Requests of its subject that passed, and those it refused.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.passed), of(&self.refused))
    }

    /// Whether a request of its subject may go on; a lane is entered later.
    fn admit(&self, now: Moment) -> Result<(), Rejection> {
        let rejection = match (&self.order.to, &self.limiter) {
            (To::Block, _) => Rejection {
                reason: match self.order.subject {
                    // Its client has done nothing wrong: there is no room for it.
                    Subject::Tier(_) => Reason::Overload,
                    _ => Reason::Blocked,
                },
                value: 1.0,
                threshold: 0.0,
                unit: Unit::Requests,
                retry_after: AFTER_BLOCK,
            },
            (To::Throttle(quota), Some(limiter)) => {
                let standing = limiter.take(quota, 0, now, 1);
                if standing.passed {
                    self.passed.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Rejection {
                    reason: Reason::Quarantined,
                    value: 1.0,
                    threshold: 0.0,
                    unit: Unit::Requests,
                    retry_after: standing.retry_after.unwrap_or(AFTER_BLOCK),
                }
            }
            (To::Throttle(_), None) | (To::Lane | To::ServeStale | To::NoRetries, _) => {
                return Ok(());
            }
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(rejection)
    }

    /// Takes a place in the lane, in front of an upstream with this `limit`.
    ///
    /// # Errors
    /// When the lane is full.
    pub fn enter(self: &Arc<Self>, limit: u32) -> Result<InLane, Rejection> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a u32"
        )]
        let most = ((f64::from(limit) * LANE_SHARE) as u32).max(1);
        let entered = self
            .in_lane
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                (held < most).then_some(held + 1)
            });
        match entered {
            Ok(_) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                Ok(InLane(Arc::clone(self)))
            }
            Err(held) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Rejection {
                    reason: Reason::Quarantined,
                    value: f64::from(held) + 1.0,
                    threshold: most.into(),
                    unit: Unit::Requests,
                    retry_after: AFTER_LANE,
                })
            }
        }
    }
}

/// A place in a lane, given back when it is dropped.
#[derive(Debug)]
pub struct InLane(Arc<Isolation>);

impl Drop for InLane {
    fn drop(&mut self) {
        self.0.in_lane.fetch_sub(1, Ordering::Relaxed);
    }
}

/// There are [`MOST`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MOST} isolations already; release one first")]
pub struct Full;

/// All isolations. Changed by one thread, read by all.
#[derive(Debug, Default)]
pub struct Isolations {
    any: AtomicBool,
    set: ArcSwap<Set>,
}

#[derive(Debug, Default)]
struct Set {
    /// The oldest first.
    all: Vec<Arc<Isolation>>,
    clients: HashMap<Arc<str>, Arc<Isolation>>,
    routes: HashMap<Arc<str>, Arc<Isolation>>,
    tiers: Vec<Arc<Isolation>>,
}

impl Isolations {
    /// Holds somebody apart from now on, in place of what held the same subject before.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add(&self, order: Order) -> Result<(), Full> {
        let mut all = self.all();
        // An upstream can be spared one thing and the other.
        let replaced = |one: &Order| {
            one.subject == order.subject
                && (one.to == order.to || !matches!(order.subject, Subject::Upstream(_)))
        };
        all.retain(|one| !replaced(&one.order));
        if all.len() >= MOST {
            return Err(Full);
        }
        all.push(Isolation::new(order));
        self.store(all);
        Ok(())
    }

    /// Ends the isolation with this id, and returns it if there was one.
    pub fn release(&self, id: &str) -> Option<Arc<Isolation>> {
        let mut all = self.all();
        let at = all.iter().position(|one| &*one.order.id == id)?;
        let released = all.remove(at);
        self.store(all);
        Some(released)
    }

    /// Ends those whose time is over at `unix` seconds, and returns them.
    pub fn expire(&self, unix: u64) -> Vec<Arc<Isolation>> {
        if !self.any() {
            return Vec::new();
        }
        let (over, left): (Vec<_>, Vec<_>) = self
            .all()
            .into_iter()
            .partition(|one| one.order.until <= unix);
        if !over.is_empty() {
            self.store(left);
        }
        over
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Isolation>> {
        self.set.load().all.clone()
    }

    /// How many subjects of each of [`Subject::KINDS`] are held apart.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, usize); Subject::KINDS.len()] {
        let set = self.set.load();
        Subject::KINDS.map(|kind| {
            let of_kind = set
                .all
                .iter()
                .filter(|one| one.order.subject.kind() == kind);
            (kind, of_kind.count())
        })
    }

    fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn store(&self, all: Vec<Arc<Isolation>>) {
        let mut set = Set::default();
        for one in &all {
            match &one.order.subject {
                Subject::Client(name) => set.clients.insert(Arc::clone(name), Arc::clone(one)),
                Subject::Route(name) => set.routes.insert(Arc::clone(name), Arc::clone(one)),
                Subject::Tier(_) => {
                    set.tiers.push(Arc::clone(one));
                    None
                }
                Subject::Endpoint(..) | Subject::Upstream(_) => None,
            };
        }
        let any = !all.is_empty();
        set.all = all;
        self.set.store(Arc::new(set));
        self.any.store(any, Ordering::Relaxed);
    }

    /// Whether the endpoint of `upstream` at `address` is to be left alone.
    #[must_use]
    pub fn is_out(&self, upstream: &str, address: &str) -> bool {
        self.any()
            && self.set.load().all.iter().any(|one| {
                matches!(&one.order.subject, Subject::Endpoint(of, at) if **of == *upstream && **at == *address)
            })
    }

    /// Whether `upstream` is to be spared like this.
    #[must_use]
    pub fn spares(&self, upstream: &str, to: &To) -> bool {
        self.any()
            && self.set.load().all.iter().any(|one| {
                one.order.to == *to
                    && matches!(&one.order.subject, Subject::Upstream(name) if **name == *upstream)
            })
    }

    /// Whether a request of `client` on `route` may go on, and the lane it has to take. `tiers`: its own and those that
    /// are more important.
    ///
    /// # Errors
    /// When one of them is kept out or asks for more than it may.
    pub fn admit(
        &self,
        client: &str,
        route: &str,
        tiers: &[Arc<str>],
        now: impl FnOnce() -> Moment,
    ) -> Result<Option<Arc<Isolation>>, Rejection> {
        if !self.any() {
            return Ok(None);
        }
        let set = self.set.load();
        let cut = set
            .tiers
            .iter()
            .find(|one| matches!(&one.order.subject, Subject::Tier(name) if tiers.contains(name)));
        let held = [cut, set.clients.get(client), set.routes.get(route)];
        let mut lane = None;
        if held.iter().any(Option::is_some) {
            let now = now();
            for one in held.into_iter().flatten() {
                one.admit(now)?;
                if one.order.to == To::Lane {
                    lane = lane.or(Some(one));
                }
            }
        }
        Ok(lane.cloned())
    }
}
