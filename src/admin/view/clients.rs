//! Clients, in the API's words: the accounts of all upstreams put together by client.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::milliseconds;
use super::requests::name;
use crate::admin::{AdminState, api};
use crate::config::plan::Plan;
use crate::model::{ClientId, RouteId, UpstreamId};
use crate::observe::access_log::rfc3339;
use crate::observe::accounts::{
    Class, ClientReport, Flag, Kind, Lately, Report, Standing, Sums, label,
};

/// What clients are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::admin) enum Sort {
    /// By upstream time, after those that are noisy at this moment.
    #[default]
    Cost,
    Requests,
    Refused,
    /// By the share of the peak, after those that borrow it.
    PeakShare,
}

impl Sort {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Requests => "requests",
            Self::Refused => "refused",
            Self::PeakShare => "peak_share",
        }
    }

    fn order(self, one: &api::Client, other: &api::Client) -> Ordering {
        let flagged = |client: &api::Client, kind: Kind| {
            let mut flags = client.flags.iter();
            Reverse(flags.any(|flag| flag.flag == kind.as_str()))
        };
        let first = |kind| flagged(one, kind).cmp(&flagged(other, kind));
        let cost = other.upstream_seconds.total_cmp(&one.upstream_seconds);
        let order = match self {
            Self::Cost => first(Kind::Noisy).then(cost),
            Self::Requests => other.requests.cmp(&one.requests),
            Self::Refused => other.refused.cmp(&one.refused),
            Self::PeakShare => {
                let share = |client: &api::Client| client.share.peak.unwrap_or(0.0);
                let share = share(other).total_cmp(&share(one));
                first(Kind::Borrowing).then(share)
            }
        };
        order.then(cost).then_with(|| one.label.cmp(&other.label))
    }
}

pub(in crate::admin) fn clients(state: &AdminState, sort: Sort, limit: usize) -> api::Clients {
    let reports = state.metrics.clients();
    let mut clients = Vec::<Gathered>::new();
    let mut places = HashMap::<ClientId, usize>::new();
    for report in &reports {
        for client in &report.clients {
            let place = *places.entry(client.id).or_insert(clients.len());
            if place == clients.len() {
                clients.push(Gathered::default());
            }
            if let Some(gathered) = clients.get_mut(place) {
                gathered.add(state, report, client);
            }
        }
    }
    let plan = state.plan.load();
    let clients = clients.into_iter();
    let mut clients: Vec<_> = clients.map(|one| one.finish(&plan)).collect();
    clients.sort_by(|one, other| sort.order(one, other));
    let total = clients.len();
    clients.truncate(limit);
    api::Clients {
        sort: sort.as_str().to_owned(),
        total,
        clients,
        upstreams: reports.iter().map(|one| upstream(state, one)).collect(),
    }
}

fn upstream(state: &AdminState, report: &Report) -> api::ClientsOfUpstream {
    api::ClientsOfUpstream {
        upstream: name_of(state, report.of),
        took: took(&report.total),
        fairness: report.fairness,
    }
}

/// A client and what it has a share of.
#[derive(Default)]
struct Gathered {
    name: String,
    label: String,
    sums: Sums,
    lately: Lately,
    /// Of the upstreams it uses.
    total: Sums,
    total_lately: Lately,
    peak: Option<f64>,
    upstreams: Vec<api::ClientOfUpstream>,
    flags: Vec<api::ClientFlag>,
}

impl Gathered {
    fn add(&mut self, state: &AdminState, report: &Report, client: &ClientReport) {
        self.name.clone_from(&client.name);
        self.label = label(client.id, &client.name);
        self.sums += &client.sums;
        self.total += &report.total;
        add(&mut self.lately, client.lately);
        add(&mut self.total_lately, report.lately);
        let peak = client.peak.map(|part| part.inside);
        self.peak = [self.peak, peak].into_iter().flatten().reduce(f64::max);
        let [p50, p98, p99] = client.latency.map(milliseconds);
        let upstream = name_of(state, report.of);
        let flags = client.flags.iter();
        let flags = flags.map(|one| flag(state, one, upstream.clone(), &client.routes));
        self.flags.extend(flags);
        self.upstreams.push(api::ClientOfUpstream {
            upstream,
            took: took(&client.sums),
            untold_upstream_seconds: client.untold.as_secs_f64(),
            p50_ms: p50,
            p98_ms: p98,
            p99_ms: p99,
            share: share(
                (&client.sums, client.lately),
                (&report.total, report.lately),
                peak,
            ),
        });
    }

    fn finish(mut self, plan: &Plan) -> api::Client {
        let mut known = plan.clients.known.iter();
        let known = known.find(|known| *known.name == self.name);
        let tier = known.and_then(|known| plan.tiers.get(usize::from(known.tier?)));
        let declared = known.and_then(|known| known.declared_rate.as_ref());
        let cost = |one: &api::ClientOfUpstream| one.took.upstream_seconds;
        self.upstreams
            .sort_by(|one, other| cost(other).total_cmp(&cost(one)));
        api::Client {
            client: self.name,
            label: self.label,
            owner: known.and_then(|known| Some(known.owner.as_deref()?.to_owned())),
            tier: tier.map(|tier| tier.as_ref().to_owned()),
            declared_rate: declared
                .map(|quota| number(quota.amount()) / number(quota.period().seconds())),
            requests: self.sums.requests(),
            refused: self.sums.refused(),
            upstream_seconds: cost_of(&self.sums),
            share: share(
                (&self.sums, self.lately),
                (&self.total, self.total_lately),
                self.peak,
            ),
            upstreams: self.upstreams,
            flags: self.flags,
        }
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn add(sum: &mut Lately, more: Lately) {
    sum.ten_seconds += more.ten_seconds;
    sum.minute += more.minute;
}

fn share(own: (&Sums, Lately), all: (&Sums, Lately), peak: Option<f64>) -> api::Share {
    let of = |own: f64, all: f64| if all > 0.0 { own / all } else { 0.0 };
    api::Share {
        overall: of(cost_of(own.0), cost_of(all.0)),
        peak,
        last_minute: of(own.1.minute, all.1.minute),
        last_10s: of(own.1.ten_seconds, all.1.ten_seconds),
    }
}

fn took(sums: &Sums) -> api::Took {
    let classes = Class::ALL.iter().zip(sums.by_class);
    api::Took {
        requests: sums.requests(),
        by_class: classes
            .map(|(class, count)| (class.as_str().to_owned(), count))
            .collect(),
        bytes_in: sums.bytes_in,
        bytes_out: sums.bytes_out,
        retries: sums.retries,
        upstream_seconds: cost_of(sums),
    }
}

fn cost_of(sums: &Sums) -> f64 {
    Duration::from_nanos(sums.upstream_nanos).as_secs_f64()
}

fn flag(
    state: &AdminState,
    flag: &Flag,
    upstream: Option<String>,
    routes: &[RouteId],
) -> api::ClientFlag {
    let routes = routes.iter().map(|route| RouteId::index(*route));
    let evidence = flag.evidence.iter();
    api::ClientFlag {
        flag: flag.kind.as_str().to_owned(),
        upstream,
        since: rfc3339(flag.since),
        evidence: evidence
            .map(|one| api::ClientEvidence {
                what: one.what.to_owned(),
                value: one.value,
                baseline: one.baseline,
                unit: one.unit.to_owned(),
            })
            .collect(),
        routes: routes
            .filter_map(|route| name(&state.directories.routes, Some(route)))
            .collect(),
    }
}

fn name_of(state: &AdminState, of: Standing) -> Option<String> {
    match of {
        Standing::NoUpstream => None,
        Standing::Upstream(id) => name(&state.directories.upstreams, Some(UpstreamId::index(id))),
        Standing::Others => Some("__other__".to_owned()),
    }
}
