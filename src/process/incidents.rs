//! Incidents, told on and kept over a restart: one file, replaced whole whenever something changed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::bundles::{self, Captures};
use super::state::State;
use crate::admin::AdminState;
use crate::clock::SystemClock;
use crate::config::plan::Plan;
use crate::engine::registry::Directories;
use crate::incident::bundles::Bundles;
use crate::incident::incidents::{Incident, Incidents, News};
use crate::incident::objectives::{Board, Objective, Objectives, Standing};
use crate::incident::watch::Latest;
use crate::measure::slo::{Signal, Slo};
use crate::model::RouteId;
use crate::observe::access_log::rfc3339;
use crate::observe::events::Events;
use crate::observe::export::{Exports, Notice, host};
use crate::observe::snapshot::SloView;

const FILE: &str = "incidents.json";
/// The directory of the bundles, below the state's.
const BUNDLES: &str = "bundles";
/// How often it is looked for news.
const LOOK: Duration = Duration::from_millis(200);

/// The file: the newest first.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    incidents: Vec<Incident>,
}

/// What is promised, and what was missed.
#[derive(Debug)]
pub(super) struct Promises {
    pub(super) objectives: Arc<Board>,
    pub(super) incidents: Arc<Incidents>,
    pub(super) bundles: Arc<Bundles>,
    opened: Option<mpsc::Receiver<Arc<Incident>>>,
}

impl Promises {
    /// Nothing was missed yet; bundles are kept below `directory`, or in memory.
    pub(super) fn new(directory: Option<&Path>) -> Self {
        Self {
            objectives: Arc::default(),
            incidents: Arc::default(),
            bundles: Arc::new(Bundles::new(directory.map(|at| at.join(BUNDLES)))),
            opened: None,
        }
    }

    /// Captures what is told of from now on.
    pub(super) fn capture(&mut self, state: &AdminState) {
        let Some(opened) = self.opened.take() else {
            return;
        };
        let captures = Captures::new(state.clone());
        tokio::spawn(Arc::clone(&captures).record());
        tokio::spawn(captures.follow(opened));
    }

    /// What holds everybody to it.
    pub(super) fn tap(&self, latest: &Arc<Latest>, directories: &Arc<Directories>) -> Objectives {
        let (board, incidents) = (Arc::clone(&self.objectives), Arc::clone(&self.incidents));
        let (latest, directories) = (Arc::clone(latest), Arc::clone(directories));
        Objectives::new(board, incidents, latest, directories, SystemClock.now())
    }

    /// Puts back what an earlier process kept, and tells on and keeps what happens from now on.
    pub(super) fn begin(
        &mut self,
        plan: &Plan,
        directories: &Directories,
        events: &Arc<Events>,
        exports: &Exports,
        state: &Arc<State>,
    ) {
        restore(&self.incidents, state);
        self.incidents.bundled(|id| self.bundles.size(id));
        let (captures, opened) = mpsc::channel(bundles::WAITING);
        self.opened = Some(opened);
        self.follow(plan, directories);
        let incidents = Arc::clone(&self.incidents);
        let (events, state) = (Arc::clone(events), Arc::clone(state));
        let tell = Tell {
            events,
            exports: exports.clone(),
            captures,
            bundles: Arc::clone(&self.bundles),
        };
        tokio::spawn(keep(incidents, tell, state));
    }

    /// What `plan` promises is what counts from now on.
    pub(super) fn follow(&self, plan: &Plan, directories: &Directories) {
        self.objectives.set(objectives(plan, directories));
    }
}

fn objectives(plan: &Plan, directories: &Directories) -> Vec<Objective> {
    let slos = plan.slos.iter().enumerate();
    slos.map(|(index, slo)| {
        let routes = plan.routes.iter().filter(|route| route.slo == Some(index));
        Objective {
            name: Arc::clone(&slo.name),
            per: slo.per,
            settings: slo.settings,
            routes: routes
                .map(|route| RouteId::new(directories.routes.intern(&route.name)))
                .collect(),
        }
    })
    .collect()
}

fn restore(incidents: &Incidents, state: &State) {
    let Some(content) = state.read(FILE) else {
        return;
    };
    match serde_json::from_slice::<Kept>(&content) {
        Ok(kept) => incidents.restore(kept.incidents),
        Err(error) => {
            tracing::warn!(%error, "what was kept of the incidents is damaged; there are none now");
        }
    }
}

/// Who is told of incidents.
struct Tell {
    events: Arc<Events>,
    exports: Exports,
    captures: mpsc::Sender<Arc<Incident>>,
    bundles: Arc<Bundles>,
}

impl Tell {
    fn of(&self, news: &News) {
        let (kind, incident) = match news {
            News::Open(incident) => ("incident_open", incident),
            News::Closed(incident) => ("incident_closed", incident),
        };
        let subject = format!("{} {}", incident.per, incident.subject);
        let detail = serde_json::to_value(&**incident).unwrap_or_default();
        self.events.tell(kind, subject, without_subject(detail));
        self.exports.notice(notice(news));
        if matches!(news, News::Open(_)) && self.captures.try_send(Arc::clone(incident)).is_err() {
            self.bundles.lose();
        }
    }
}

/// Tells on what happens, and writes it down, until the runtime ends.
async fn keep(incidents: Arc<Incidents>, tell: Tell, state: Arc<State>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = incidents.version();
    loop {
        ticks.tick().await;
        let (news, missed) = incidents.news();
        if missed > 0 {
            tracing::warn!(missed, "there was more news of incidents than can be told");
        }
        for news in &news {
            tell.of(news);
        }
        let version = incidents.version();
        if version != written {
            written = version;
            let (incidents, state) = (Arc::clone(&incidents), Arc::clone(&state));
            let writing = tokio::task::spawn_blocking(move || write(&incidents, &state));
            // One after the other; a panic in there is a defect that the log has.
            let _written = writing.await;
        }
    }
}

/// What those who want to know are told.
fn notice(news: &News) -> Notice {
    let (kind, incident, at) = match news {
        News::Open(incident) => ("open", incident, Some(&incident.opened_at)),
        News::Closed(incident) => ("closed", incident, incident.closed_at.as_ref()),
    };
    let now = || rfc3339(SystemClock.unix_micros());
    let body = json!({
        "type": format!("incident.{kind}"),
        "timestamp": at.cloned().unwrap_or_else(now),
        "text": text(news),
        "instance": host(),
        "incident": &**incident,
    });
    Notice {
        id: format!("{}.{kind}", incident.id),
        body: body.to_string().into(),
    }
}

/// The same in a sentence: what is missed, where, and the first verdict.
fn text(news: &News) -> String {
    let (incident, state) = match news {
        News::Open(incident) => (incident, "misses"),
        News::Closed(incident) => (incident, "meets again"),
    };
    let subject = format!("{} {}", incident.per, incident.subject);
    let mut text = format!("{subject} {state} {}", incident.slo);
    if let News::Closed(_) = news {
        return text;
    }
    let unknown = || "unknown".to_owned();
    let component = incident.component.clone().unwrap_or_else(unknown);
    let node = incident.node.clone().unwrap_or_else(unknown);
    text.push_str(&format!(
        ": {}. Component {component}, node {node}. ",
        incident.what
    ));
    match &incident.verdict {
        Some(verdict) => text.push_str(&format!(
            "{} {} ({:.0}% sure): {}",
            verdict.cause,
            verdict.subject,
            verdict.confidence * 100.0,
            verdict.advice
        )),
        None => text.push_str("No cause is known yet: tidegate diagnose"),
    }
    text
}

/// The event has a subject of its own.
fn without_subject(mut detail: serde_json::Value) -> serde_json::Value {
    if let Some(detail) = detail.as_object_mut() {
        detail.remove("subject");
    }
    detail
}

fn write(incidents: &Incidents, state: &State) {
    let all = incidents.all();
    let kept = Kept {
        incidents: all.iter().map(|one| (**one).clone()).collect(),
    };
    let content = serde_json::to_vec_pretty(&kept).unwrap_or_default();
    state.write(FILE, &content);
}

/// The worst of all who are held to an objective.
pub(super) fn view(standing: &Standing) -> SloView {
    let reports = || standing.subjects.iter().map(|one| &one.report);
    let burn = |index: usize| {
        let rates = reports().filter_map(move |report| report.burn.get(index));
        rates.copied().fold(0.0, f64::max)
    };
    let missing = |index: usize| {
        let on = reports().filter(|report| report.on.get(index) == Some(&true));
        on.count()
    };
    let signals = Signal::ALL.into_iter().enumerate();
    let promised = standing.objective.settings.availability;
    SloView {
        name: Arc::clone(&standing.objective.name),
        burn: Slo::BURN_WINDOWS
            .into_iter()
            .enumerate()
            .filter(|_| promised.is_some())
            .map(|(index, window)| (window, burn(index)))
            .collect(),
        budget: promised.map(|_| {
            let left = reports().filter_map(|report| report.budget);
            left.fold(1.0, f64::min)
        }),
        quantile: standing
            .subjects
            .iter()
            .filter_map(|one| one.quantile)
            .max(),
        missing: signals
            .map(|(index, signal)| (signal.as_str(), missing(index)))
            .collect(),
    }
}
