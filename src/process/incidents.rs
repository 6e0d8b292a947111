//! Incidents, told on and kept over a restart: one file, replaced whole whenever something changed.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use super::state::State;
use crate::clock::SystemClock;
use crate::config::plan::Plan;
use crate::engine::registry::Directories;
use crate::incident::incidents::{Incident, Incidents, News};
use crate::incident::objectives::{Board, Objective, Objectives, Standing};
use crate::incident::watch::Latest;
use crate::measure::slo::{Signal, Slo};
use crate::model::RouteId;
use crate::observe::events::Events;
use crate::observe::snapshot::SloView;

const FILE: &str = "incidents.json";
/// How often it is looked for news.
const LOOK: Duration = Duration::from_millis(200);

/// The file: the newest first.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    incidents: Vec<Incident>,
}

/// What is promised, and what was missed.
#[derive(Debug, Default)]
pub(super) struct Promises {
    pub(super) objectives: Arc<Board>,
    pub(super) incidents: Arc<Incidents>,
}

impl Promises {
    /// What holds everybody to it.
    pub(super) fn tap(&self, latest: &Arc<Latest>, directories: &Arc<Directories>) -> Objectives {
        let (board, incidents) = (Arc::clone(&self.objectives), Arc::clone(&self.incidents));
        let (latest, directories) = (Arc::clone(latest), Arc::clone(directories));
        Objectives::new(board, incidents, latest, directories, SystemClock.now())
    }

    /// Puts back what an earlier process kept, and tells on and keeps what happens from now on.
    pub(super) fn begin(
        &self,
        plan: &Plan,
        directories: &Directories,
        events: &Arc<Events>,
        state: &Arc<State>,
    ) {
        restore(&self.incidents, state);
        self.follow(plan, directories);
        let incidents = Arc::clone(&self.incidents);
        tokio::spawn(keep(incidents, Arc::clone(events), Arc::clone(state)));
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

/// Tells on what happens, and writes it down, until the runtime ends.
async fn keep(incidents: Arc<Incidents>, events: Arc<Events>, state: Arc<State>) {
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
            let (kind, incident) = match news {
                News::Open(incident) => ("incident_open", incident),
                News::Closed(incident) => ("incident_closed", incident),
            };
            let subject = format!("{} {}", incident.per, incident.subject);
            let detail = serde_json::to_value(&**incident).unwrap_or_default();
            events.tell(kind, subject, without_subject(detail));
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
