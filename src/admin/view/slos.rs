//! Objectives and incidents, in the API's words.

use crate::admin::{AdminState, api};
use crate::incident::objectives::{Standing, SubjectStanding};
use crate::measure::slo::{Signal, Slo};

pub(in crate::admin) fn slos(state: &AdminState) -> api::Slos {
    let standings = state.objectives.standings();
    api::Slos {
        slos: standings.iter().map(slo).collect(),
        untracked_requests: state.objectives.untracked(),
    }
}

fn slo(standing: &Standing) -> api::Slo {
    let objective = &standing.objective;
    let settings = &objective.settings;
    api::Slo {
        name: objective.name.to_string(),
        per: objective.per.as_str().to_owned(),
        latency: settings.latency.map(|latency| api::SloLatency {
            quantile: latency.quantile,
            below_ms: latency.below.as_secs_f64() * 1e3,
            over_seconds: latency.over.as_secs(),
        }),
        availability: settings.availability,
        min_requests: settings.min_requests,
        subjects: standing.subjects.iter().map(subject).collect(),
    }
}

fn subject(subject: &SubjectStanding) -> api::SloSubject {
    let report = &subject.report;
    let burn = Slo::BURN_WINDOWS.into_iter().zip(report.burn);
    let signals = Signal::ALL.into_iter().zip(report.on);
    api::SloSubject {
        subject: subject.name.to_string(),
        requests: report.requests,
        latency_ms: subject
            .quantile
            .map(|quantile| quantile.as_secs_f64() * 1e3),
        slow_ratio: report.slow,
        burn_rates: burn
            .map(|(window, rate)| (window.to_owned(), rate))
            .collect(),
        budget_remaining: report.budget,
        missed: signals
            .filter(|(_, on)| *on)
            .map(|(signal, _)| signal.as_str().to_owned())
            .collect(),
    }
}

pub(in crate::admin) fn incidents(state: &AdminState) -> api::Incidents {
    let all = state.incidents.all();
    api::Incidents {
        incidents: all.iter().map(|one| (**one).clone()).collect(),
    }
}
