//! Incidents: what was missed, since when, and what the diagnosis first said of it.
//!
//! Kept in the words of the API, which shows them as they are, and so does the file that outlives a restart. The newest are
//! kept; of one subject and one objective at most one is open. News waits for whoever tells it on. Depends on the
//! diagnosis and the objectives' measure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::diagnose::Cause;
use super::naming::Named;
use super::watch::Diagnosis;
use crate::measure::slo::{Per, Signal};
use crate::observe::access_log::rfc3339;

/// Incidents that are kept, and news that waits.
pub const MAX_INCIDENTS: usize = 200;
/// An incident is told of when the diagnosis has a verdict, or after so long without one.
const PATIENCE_MICROS: u64 = 5_000_000;
/// For so long a first verdict is taken.
const VERDICT_MICROS: u64 = 120_000_000;

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name in paths and commands.
    pub id: String,
    /// When it was noticed.
    pub opened_at: String,
    /// When it was over; null while it is not.
    #[serde(default)]
    pub closed_at: Option<String>,
    /// The objective that was missed.
    pub slo: String,
    /// What kind of subject missed it: `route`, `upstream`, `endpoint` or `client`.
    pub per: String,
    /// Which.
    pub subject: String,
    /// In which ways it was missed: `latency`, `fast_burn`, `slow_burn`.
    pub signals: Vec<String>,
    /// That in words, with the numbers at the beginning.
    pub what: String,
    /// The upstream its requests go to; null when none was reached.
    #[serde(default)]
    pub upstream: Option<String>,
    /// The component it is about: an upstream, or a part of it; null when that is not known.
    #[serde(default)]
    pub component: Option<String>,
    /// The endpoint that is to blame, or had most of the bad requests; null when that is not known.
    #[serde(default)]
    pub node: Option<String>,
    /// What the diagnosis first said; null when it has said nothing yet.
    #[serde(default)]
    pub verdict: Option<FirstVerdict>,
    /// The bytes of its bundle; null when there is none, or none yet.
    #[serde(default)]
    pub bundle: Option<u64>,
}

/// What the diagnosis said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstVerdict {
    /// What is wrong.
    pub cause: String,
    /// Whose fault, or about whom.
    pub subject: String,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
    /// What to do about it.
    pub advice: String,
}

/// How a subject stands to an objective: on no signal, when all is well.
#[derive(Clone, Debug)]
pub struct Missed {
    /// The objective.
    pub slo: Arc<str>,
    /// What kind of subject it is.
    pub per: Per,
    /// Its name.
    pub subject: Arc<str>,
    /// The upstream its requests go to.
    pub upstream: Option<Arc<str>>,
    /// The endpoint that most of the bad requests had.
    pub node: Option<Arc<str>>,
    /// Which of [`Signal::ALL`] are on.
    pub signals: [bool; 3],
    /// What is missed, in words.
    pub what: String,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// An incident was opened, and diagnosed if it could be.
    Open(Arc<Incident>),
    /// It is over.
    Closed(Arc<Incident>),
}

/// All incidents that are kept.
#[derive(Debug, Default)]
pub struct Incidents(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The oldest first.
    all: VecDeque<Kept>,
    news: VecDeque<News>,
    missed_news: u64,
    last_id: u64,
    /// Counts changes.
    version: u64,
}

#[derive(Debug)]
struct Kept {
    incident: Arc<Incident>,
    opened: u64,
    told: bool,
    just_closed: bool,
    upstream: Option<Arc<str>>,
}

impl Kept {
    fn is_open(&self) -> bool {
        self.incident.closed_at.is_none()
    }

    fn is_of(&self, slo: &str, subject: &str) -> bool {
        self.is_open() && self.incident.slo == slo && self.incident.subject == subject
    }
}

impl Incidents {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts back what an earlier process kept, the newest first as [`Self::all`] has it. That was told of.
    pub fn restore(&self, kept: Vec<Incident>) {
        let mut inner = self.inner();
        let kept = kept.into_iter().take(MAX_INCIDENTS).rev();
        inner.all = kept
            .map(|incident| Kept {
                incident: Arc::new(incident),
                opened: 0,
                told: true,
                just_closed: false,
                upstream: None,
            })
            .collect();
    }

    /// Every incident, the newest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Incident>> {
        let inner = self.inner();
        let all = inner.all.iter().rev();
        all.map(|kept| Arc::clone(&kept.incident)).collect()
    }

    /// The incident with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Incident>> {
        let inner = self.inner();
        let found = inner.all.iter().find(|kept| kept.incident.id == id);
        found.map(|kept| Arc::clone(&kept.incident))
    }

    /// Says how many bytes the bundle of an incident has, of each incident.
    pub fn bundled(&self, size: impl Fn(&str) -> Option<u64>) {
        let mut inner = self.inner();
        let mut changed = false;
        for kept in &mut inner.all {
            let bundle = size(&kept.incident.id);
            if kept.incident.bundle != bundle {
                Arc::make_mut(&mut kept.incident).bundle = bundle;
                changed = true;
            }
        }
        inner.version += u64::from(changed);
    }

    /// Counts changes: what was written at one count is what there is while the count stays.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.inner().version
    }

    /// News since the last time this was asked, the oldest first, and how much there was no room for.
    #[must_use]
    pub fn news(&self) -> (Vec<News>, u64) {
        let mut inner = self.inner();
        let missed = std::mem::take(&mut inner.missed_news);
        (inner.news.drain(..).collect(), missed)
    }

    /// The signals that an open incident of `subject` is about.
    #[must_use]
    pub fn signals(&self, slo: &str, subject: &str) -> [bool; 3] {
        let inner = self.inner();
        let open = inner.all.iter().find(|kept| kept.is_of(slo, subject));
        Signal::ALL
            .map(|signal| open.is_some_and(|kept| has(&kept.incident.signals, signal.as_str())))
    }

    /// Opens, widens or closes the incident of a subject as it stands now.
    pub fn follow(&self, missed: &Missed, now: u64) {
        let mut inner = self.inner();
        let is_missed = missed.signals != [false; 3];
        let open = inner
            .all
            .iter_mut()
            .find(|kept| kept.is_of(&missed.slo, &missed.subject));
        let Some(kept) = open else {
            if is_missed {
                inner.open(missed, now);
            }
            return;
        };
        if !is_missed {
            kept.close(now);
            inner.settle();
        } else if kept.widen(missed) {
            inner.version += 1;
        }
    }

    /// Closes the open incidents whose objective and subject `is_kept` does not hold for.
    pub fn close_unless(&self, is_kept: impl Fn(&str, &str) -> bool, now: u64) {
        let mut inner = self.inner();
        let open = inner.all.iter_mut().filter(|kept| kept.is_open());
        let gone = open.filter(|kept| !is_kept(&kept.incident.slo, &kept.incident.subject));
        gone.for_each(|kept| kept.close(now));
        inner.settle();
    }

    /// Gives what is open and has no verdict yet the first of `diagnosis` that fits it, and tells of what has one or
    /// has waited long enough.
    pub fn diagnosed(&self, diagnosis: &Diagnosis, now: u64) {
        let mut inner = self.inner();
        let mut changed = false;
        for kept in inner.all.iter_mut().filter(|kept| kept.is_open()) {
            let age = now.saturating_sub(kept.opened);
            if kept.incident.verdict.is_none() && age <= VERDICT_MICROS {
                changed |= kept.diagnose(diagnosis);
            }
        }
        if changed {
            inner.version += 1;
        }
        inner.tell(now);
    }
}

impl Inner {
    fn open(&mut self, missed: &Missed, now: u64) {
        let words = words(missed.signals);
        // No two have the same, though they were opened in the same microsecond.
        self.last_id = now.max(self.last_id + 1);
        let incident = Incident {
            id: format!("{:x}", self.last_id),
            opened_at: rfc3339(now),
            closed_at: None,
            slo: missed.slo.to_string(),
            per: missed.per.as_str().to_owned(),
            subject: missed.subject.to_string(),
            signals: words.map(str::to_owned).collect(),
            what: missed.what.clone(),
            upstream: missed.upstream.as_ref().map(ToString::to_string),
            component: missed.upstream.as_ref().map(ToString::to_string),
            node: missed.node.as_ref().map(ToString::to_string),
            verdict: None,
            bundle: None,
        };
        if self.all.len() == MAX_INCIDENTS {
            self.all.pop_front();
        }
        self.all.push_back(Kept {
            incident: Arc::new(incident),
            opened: now,
            told: false,
            just_closed: false,
            upstream: missed.upstream.clone(),
        });
        self.version += 1;
    }

    /// Tells of those that are diagnosed or have waited long enough.
    fn tell(&mut self, now: u64) {
        let mut told = Vec::new();
        for kept in self.all.iter_mut().filter(|kept| !kept.told) {
            let waited = now.saturating_sub(kept.opened) >= PATIENCE_MICROS;
            if kept.incident.verdict.is_some() || waited {
                kept.told = true;
                told.push(News::Open(Arc::clone(&kept.incident)));
            }
        }
        told.into_iter().for_each(|news| self.add(news));
    }

    /// Tells of those that were closed since the last time.
    fn settle(&mut self) {
        let mut told = Vec::new();
        for kept in self.all.iter_mut().filter(|kept| kept.just_closed) {
            kept.just_closed = false;
            if !std::mem::replace(&mut kept.told, true) {
                told.push(News::Open(Arc::clone(&kept.incident)));
            }
            told.push(News::Closed(Arc::clone(&kept.incident)));
        }
        if !told.is_empty() {
            self.version += 1;
        }
        told.into_iter().for_each(|news| self.add(news));
    }

    fn add(&mut self, news: News) {
        if self.news.len() == MAX_INCIDENTS {
            self.news.pop_front();
            self.missed_news += 1;
        }
        self.news.push_back(news);
    }
}

impl Kept {
    fn close(&mut self, now: u64) {
        Arc::make_mut(&mut self.incident).closed_at = Some(rfc3339(now));
        self.just_closed = true;
    }

    /// Whether a way to miss it came to those that are known.
    fn widen(&mut self, missed: &Missed) -> bool {
        if self.upstream.is_none() {
            self.upstream.clone_from(&missed.upstream);
        }
        let known = &self.incident.signals;
        let new: Vec<_> = words(missed.signals)
            .filter(|word| !has(known, word))
            .map(str::to_owned)
            .collect();
        if new.is_empty() {
            return false;
        }
        let incident = Arc::make_mut(&mut self.incident);
        incident.signals.extend(new);
        incident.what.clone_from(&missed.what);
        true
    }

    /// Takes the likeliest verdict about the same upstream, or about Tidegate itself.
    fn diagnose(&mut self, diagnosis: &Diagnosis) -> bool {
        let fits = |named: &&Named| {
            named.upstream.is_none() || self.upstream.is_none() || named.upstream == self.upstream
        };
        let Some(named) = diagnosis.verdicts.iter().find(fits) else {
            return false;
        };
        let incident = Arc::make_mut(&mut self.incident);
        match named.cause {
            Cause::SlowEndpoint | Cause::EndpointDown => {
                incident.node = Some(named.subject.clone())
            }
            Cause::SlowComponent => incident.component = Some(named.subject.clone()),
            Cause::ProxySaturated => incident.component = Some("tidegate".to_owned()),
            _ => {}
        }
        incident.verdict = Some(FirstVerdict {
            cause: named.cause.as_str().to_owned(),
            subject: named.subject.clone(),
            confidence: named.confidence,
            advice: named.advice.clone(),
        });
        true
    }
}

fn words(signals: [bool; 3]) -> impl Iterator<Item = &'static str> {
    let signals = Signal::ALL.into_iter().zip(signals);
    signals.filter_map(|(signal, on)| on.then_some(signal.as_str()))
}

fn has(words: &[String], word: &str) -> bool {
    words.iter().any(|one| one == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(subject: &str, signals: [bool; 3]) -> Missed {
        Missed {
            slo: "fast".into(),
            per: Per::Route,
            subject: subject.into(),
            upstream: Some("app".into()),
            node: None,
            signals,
            what: "p98 300 ms".into(),
        }
    }

    fn diagnosis(upstream: &str) -> Diagnosis {
        Diagnosis {
            lagging: true,
            verdicts: vec![Named {
                cause: Cause::SlowEndpoint,
                upstream: Some(upstream.into()),
                subject: format!("{upstream}/10.0.0.7:80"),
                confidence: 0.9,
                since: 3,
                evidence: Vec::new(),
                advice: "look".into(),
            }],
        }
    }

    #[test]
    fn it_is_told_once_with_its_verdict_and_once_that_it_is_over() {
        let incidents = Incidents::default();
        for second in 1..=3 {
            incidents.follow(&missed("orders", [true, false, false]), second * 1_000_000);
            incidents.diagnosed(&diagnosis("other"), second * 1_000_000);
            assert_eq!(incidents.news().0, []);
        }
        incidents.diagnosed(&diagnosis("app"), 4_000_000);
        let ([News::Open(told)], 0) = (&incidents.news().0[..], 0) else {
            panic!("not told");
        };
        assert_eq!(told.verdict.as_ref().unwrap().cause, "slow_endpoint");
        assert_eq!(told.node.as_deref(), Some("app/10.0.0.7:80"));
        assert_eq!(told.component.as_deref(), Some("app"));
        incidents.follow(&missed("orders", [true, true, false]), 5_000_000);
        incidents.diagnosed(&diagnosis("app"), 20_000_000);
        assert_eq!(incidents.news().0, []);
        incidents.follow(&missed("orders", [false; 3]), 60_000_000);
        let [News::Closed(over)] = &incidents.news().0[..] else {
            panic!("not closed");
        };
        assert_eq!((&over.id, over.signals.len()), (&told.id, 2));
        assert_eq!(over.closed_at.as_deref(), Some("1970-01-01T00:01:00Z"));
        incidents.follow(&missed("orders", [true, false, false]), 70_000_000);
        assert_eq!(incidents.all().len(), 2);
    }

    #[test]
    fn without_a_verdict_it_is_told_after_a_while() {
        let incidents = Incidents::default();
        incidents.follow(&missed("orders", [true, false, false]), 1_000_000);
        incidents.diagnosed(&Diagnosis::default(), 5_900_000);
        assert_eq!(incidents.news().0, []);
        incidents.diagnosed(&Diagnosis::default(), 6_000_000);
        assert!(matches!(&incidents.news().0[..], [News::Open(one)] if one.verdict.is_none()));
    }

    #[test]
    fn the_newest_are_kept_and_known_by_distinct_ids() {
        let incidents = Incidents::default();
        for n in 0..MAX_INCIDENTS + 7 {
            incidents.follow(
                &missed(&format!("route{n}"), [true, false, false]),
                9_000_000,
            );
        }
        incidents.diagnosed(&Diagnosis::default(), 90_000_000);
        let all = incidents.all();
        assert_eq!((all.len(), &*all[0].subject), (MAX_INCIDENTS, "route206"));
        let ids: std::collections::BTreeSet<_> = all.iter().map(|one| &one.id).collect();
        assert_eq!(ids.len(), MAX_INCIDENTS);
        assert_eq!(incidents.find(&all[5].id).as_ref(), Some(&all[5]));
        let version = incidents.version();
        incidents.close_unless(|_, subject| subject != "route206", 91_000_000);
        assert_ne!(incidents.version(), version);
        let (news, missed) = incidents.news();
        assert_eq!((news.len(), missed), (MAX_INCIDENTS, 1));
    }
}
