//! Holds routes, upstreams, endpoints and clients to what is promised, each second, and opens and closes incidents.
//!
//! Lives on the observer's thread. How everything stands is swapped in whole for whoever shows it. Every table is bounded:
//! who finds no room is counted and not watched. Depends on the observer's tap, the objectives' measure and the
//! diagnosis.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::incidents::{Incidents, Missed};
use super::watch::Latest;
use crate::clock::{Instant, SystemClock};
use crate::engine::registry::{Directories, Directory};
use crate::measure::slo::{Latency, Per, Report, Settings, Signal, Slo};
use crate::model::{EndpointId, Outcome, Reason, RouteId, UpstreamId};
use crate::observe::collector::Tap;
use crate::observe::exchange::Exchange;

#[cfg(test)]
mod tests;

/// Subjects that are held to objectives at once, over all of them: 160 KiB each at worst.
const MAX_SUBJECTS: usize = 128;
/// Who was not seen for so long makes room for others.
const IDLE: Duration = Duration::from_mins(10);
/// An incident of somebody who is not seen again is over after this time.
const ORPHANED: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

/// What is promised, of whose requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Its name.
    pub name: Arc<str>,
    /// Who is held to it apart from others.
    pub per: Per,
    /// What is promised.
    pub settings: Settings,
    /// The routes whose requests count.
    pub routes: Vec<RouteId>,
}

/// How one objective stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Which.
    pub objective: Arc<Objective>,
    /// Who is held to it.
    pub subjects: Vec<SubjectStanding>,
}

/// How one subject stands to an objective.
#[derive(Clone, Debug)]
pub struct SubjectStanding {
    /// Its name.
    pub name: Arc<str>,
    /// Its numbers.
    pub report: Report,
    /// What its quantile is; none of no requests.
    pub quantile: Option<Duration>,
}

/// What is promised, and how it stands; shared with whoever sets the one and shows the other.
#[derive(Debug, Default)]
pub struct Board {
    wanted: ArcSwap<Vec<Arc<Objective>>>,
    standings: ArcSwap<Vec<Standing>>,
    untracked: AtomicU64,
}

impl Board {
    /// These are the objectives from now on. Those that stay as they are go on.
    pub fn set(&self, objectives: Vec<Objective>) {
        let objectives = objectives.into_iter().map(Arc::new).collect();
        self.wanted.store(Arc::new(objectives));
    }

    /// How each stands.
    #[must_use]
    pub fn standings(&self) -> Arc<Vec<Standing>> {
        self.standings.load_full()
    }

    /// Requests of subjects there was no room for.
    #[must_use]
    pub fn untracked(&self) -> u64 {
        self.untracked.load(Ordering::Relaxed)
    }
}

/// Holds everybody to the objectives.
pub struct Objectives {
    board: Arc<Board>,
    incidents: Arc<Incidents>,
    latest: Arc<Latest>,
    directories: Arc<Directories>,
    wanted: Arc<Vec<Arc<Objective>>>,
    kept: Vec<Kept>,
    by_route: HashMap<RouteId, usize>,
    started: Instant,
    next: Instant,
}

/// One objective and who is held to it.
struct Kept {
    objective: Arc<Objective>,
    subjects: HashMap<u64, Subject>,
}

struct Subject {
    name: Arc<str>,
    slo: Slo,
    upstream: Option<UpstreamId>,
    seen: Instant,
    culprit: Culprit,
}

/// The endpoint that most of the bad requests had (Boyer and Moore 1981).
#[derive(Default)]
struct Culprit {
    endpoint: Option<EndpointId>,
    votes: u32,
}

impl Culprit {
    /// So many votes are as good as any more: it shall not take as long to learn of another.
    const MOST: u32 = 200;

    fn vote(&mut self, endpoint: EndpointId) {
        if self.votes == 0 {
            self.endpoint = Some(endpoint);
        }
        if self.endpoint == Some(endpoint) {
            self.votes = (self.votes + 1).min(Self::MOST);
        } else {
            self.votes -= 1;
        }
    }
}

impl fmt::Debug for Objectives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objectives")
            .field("board", &self.board)
            .finish_non_exhaustive()
    }
}

impl Objectives {
    /// Nobody has been seen yet.
    #[must_use]
    pub fn new(
        board: Arc<Board>,
        incidents: Arc<Incidents>,
        latest: Arc<Latest>,
        directories: Arc<Directories>,
        now: Instant,
    ) -> Self {
        let mut objectives = Self {
            board,
            incidents,
            latest,
            directories,
            wanted: Arc::default(),
            kept: Vec::new(),
            by_route: HashMap::new(),
            started: now,
            next: now.after(SECOND),
        };
        objectives.follow();
        objectives
    }

    /// Follows a reload.
    fn follow(&mut self) {
        if Arc::ptr_eq(&self.board.wanted.load(), &self.wanted) {
            return;
        }
        let wanted = self.board.wanted.load_full();
        let mut former = std::mem::take(&mut self.kept);
        self.by_route.clear();
        for (index, objective) in wanted.iter().enumerate() {
            let same = |kept: &Kept| {
                let former = &kept.objective;
                former.name == objective.name
                    && former.per == objective.per
                    && former.settings == objective.settings
            };
            let place = former.iter().position(same);
            let subjects = place.map(|place| former.swap_remove(place).subjects);
            self.kept.push(Kept {
                objective: Arc::clone(objective),
                subjects: subjects.unwrap_or_default(),
            });
            let routes = objective.routes.iter();
            self.by_route.extend(routes.map(|route| (*route, index)));
        }
        self.wanted = wanted;
    }

    fn take(&mut self, exchange: &Exchange, client: &str, now: Instant) {
        let index = exchange.route.and_then(|route| self.by_route.get(&route));
        let Some(&index) = index else { return };
        let room = self
            .kept
            .iter()
            .map(|kept| kept.subjects.len())
            .sum::<usize>()
            < MAX_SUBJECTS;
        let Some(kept) = self.kept.get_mut(index) else {
            return;
        };
        let latency = kept.objective.settings.latency;
        let (Some(failed), Some(key)) =
            (counts(exchange, latency), key(kept.objective.per, exchange))
        else {
            return;
        };
        if !room && !kept.subjects.contains_key(&key) {
            self.board.untracked.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let subject = kept.subjects.entry(key).or_insert_with(|| {
            let name = name(&kept.objective, exchange, client, &self.directories);
            let mut slo = Slo::new(kept.objective.settings);
            slo.resume(self.incidents.signals(&kept.objective.name, &name));
            Subject {
                name,
                slo,
                upstream: None,
                seen: now,
                culprit: Culprit::default(),
            }
        });
        let took = exchange.phases.total();
        subject.seen = now;
        subject.upstream = exchange.upstream.or(subject.upstream);
        if let Some(endpoint) = exchange.endpoint
            && (failed || latency.is_some_and(|latency| took >= latency.below))
        {
            subject.culprit.vote(endpoint);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        subject.slo.record(now, nanos, failed);
    }

    fn second(&mut self, now: Instant) {
        self.follow();
        let mut standings = Vec::with_capacity(self.kept.len());
        for kept in &mut self.kept {
            let mut subjects = Vec::with_capacity(kept.subjects.len());
            kept.subjects.retain(|_, subject| {
                let report = subject.slo.judge(now);
                let standing = SubjectStanding {
                    name: Arc::clone(&subject.name),
                    report,
                    quantile: subject.slo.quantile(now),
                };
                let missed = missed(&kept.objective, subject, &standing, &self.directories);
                self.incidents.follow(&missed, SystemClock.unix_micros());
                subjects.push(standing);
                report.on != [false; 3] || now.since(subject.seen) < IDLE
            });
            subjects.sort_by(|one, other| one.name.cmp(&other.name));
            standings.push(Standing {
                objective: Arc::clone(&kept.objective),
                subjects,
            });
        }
        self.close_orphans(&standings, now);
        self.incidents
            .diagnosed(&self.latest.diagnosis(), SystemClock.unix_micros());
        self.board.standings.store(Arc::new(standings));
    }

    /// Closes the incidents of those who are held to nothing any more, or have not come back since the start.
    fn close_orphans(&self, standings: &[Standing], now: Instant) {
        let settled = now.since(self.started) >= ORPHANED;
        let is_kept = |slo: &str, subject: &str| {
            let standing = standings.iter().find(|one| *one.objective.name == *slo);
            standing.is_some_and(|standing| {
                !settled || standing.subjects.iter().any(|one| *one.name == *subject)
            })
        };
        self.incidents
            .close_unless(is_kept, SystemClock.unix_micros());
    }
}

impl Tap for Objectives {
    fn batch(&mut self, exchanges: &mut dyn Iterator<Item = (&Exchange, &str)>, now: Instant) {
        // What is promised since a moment ago holds for these already.
        self.follow();
        if self.by_route.is_empty() {
            return;
        }
        for (exchange, client) in exchanges {
            self.take(exchange, client, now);
        }
    }

    fn tick(&mut self, now: Instant) {
        if now >= self.next {
            self.next = now.after(SECOND);
            self.second(now);
        }
    }
}

/// Whether an exchange failed, in the sense of what is promised; none when it says nothing about that.
fn counts(exchange: &Exchange, latency: Option<Latency>) -> Option<bool> {
    match exchange.reason {
        // Its client's own doing, or an operator's rule.
        Some(
            Reason::Quota
            | Reason::Quarantined
            | Reason::Blocked
            | Reason::BadRequest
            | Reason::NoRoute
            | Reason::BodyTooLarge
            | Reason::HeaderTooLarge,
        ) => return None,
        Some(
            Reason::FairShare
            | Reason::QueueFull
            | Reason::QueueTimeout
            | Reason::Deadline
            | Reason::BreakerOpen
            | Reason::NoHealthyEndpoint
            | Reason::Overload
            | Reason::ConnectFailed
            | Reason::UpstreamReset
            | Reason::UpstreamTimeout
            | Reason::Draining,
        )
        | None => {}
    }
    let refused = exchange.outcome == Outcome::Refused;
    // A client held to its share as noisy; and an upgraded connection, which takes as long as it likes.
    if (refused && exchange.status == 429) || exchange.status == 101 {
        return None;
    }
    match exchange.outcome {
        // Of who did not wait it is only known that it took too long already.
        Outcome::ClientGone => {
            let below = latency?.below;
            (exchange.phases.total() >= below).then_some(false)
        }
        Outcome::UpstreamBroke | Outcome::Drained => Some(true),
        Outcome::Refused => Some(exchange.reason.is_some()),
        Outcome::Answered => Some(exchange.status >= 500),
    }
}

fn key(per: Per, exchange: &Exchange) -> Option<u64> {
    let index = match per {
        Per::Route => exchange.route?.index(),
        Per::Upstream => exchange.upstream?.index(),
        Per::Endpoint => exchange.endpoint?.index(),
        Per::Client => return Some(exchange.client.hash()),
    };
    Some(index as u64)
}

fn name(
    objective: &Objective,
    exchange: &Exchange,
    client: &str,
    directories: &Directories,
) -> Arc<str> {
    let of =
        |directory: &Directory, index: Option<usize>| index.and_then(|index| directory.name(index));
    let name = match objective.per {
        Per::Route => of(&directories.routes, exchange.route.map(RouteId::index)),
        Per::Upstream => of(
            &directories.upstreams,
            exchange.upstream.map(UpstreamId::index),
        ),
        Per::Endpoint => of(
            &directories.endpoints,
            exchange.endpoint.map(EndpointId::index),
        ),
        Per::Client => Some(client.into()),
    };
    name.unwrap_or_else(|| "unknown".into())
}

fn missed(
    objective: &Arc<Objective>,
    subject: &Subject,
    standing: &SubjectStanding,
    directories: &Directories,
) -> Missed {
    let upstream = subject.upstream.map(UpstreamId::index);
    let node = subject.culprit.endpoint.map(EndpointId::index);
    Missed {
        slo: Arc::clone(&objective.name),
        per: objective.per,
        subject: Arc::clone(&subject.name),
        upstream: upstream.and_then(|index| directories.upstreams.name(index)),
        node: node.and_then(|index| directories.endpoints.name(index)),
        signals: standing.report.on,
        what: said(&objective.settings, standing),
    }
}

/// What is missed, with its numbers.
fn said(settings: &Settings, standing: &SubjectStanding) -> String {
    let report = &standing.report;
    let mut said = Vec::new();
    for (signal, on) in Signal::ALL.into_iter().zip(report.on) {
        let [five, half, hour, six] = report.burn;
        let text = match (signal, settings.latency, settings.availability) {
            _ if !on => continue,
            (Signal::Latency, Some(latency), _) => {
                let quantile = standing.quantile.unwrap_or_default();
                format!(
                    "p{} {:.0} ms over {}s, promised below {} ms",
                    (latency.quantile * 1e5).round() / 1e3,
                    quantile.as_secs_f64() * 1e3,
                    latency.over.as_secs(),
                    latency.below.as_millis(),
                )
            }
            (Signal::FastBurn, _, Some(promised)) => format!(
                "error budget of {promised} burns {hour:.1} times too fast over 1h, {five:.1} over 5m"
            ),
            (Signal::SlowBurn, _, Some(promised)) => format!(
                "error budget of {promised} burns {six:.1} times too fast over 6h, {half:.1} over 30m"
            ),
            _ => continue,
        };
        said.push(text);
    }
    said.join("; ")
}
