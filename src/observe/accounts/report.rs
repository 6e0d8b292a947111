//! What the accounts say when they are asked. Depends on its neighbours.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::account::{Account, SHOWN, seconds};
use super::client::{Client, Load};
use super::flag::Flag;
use super::sums::Sums;
use super::{Accounts, MAX_ACCOUNTS};
use crate::measure::peak::{Part, Peak};
use crate::measure::share;
use crate::model::{ClientId, RouteId, UpstreamId};

/// Which account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Of requests that reached no upstream.
    NoUpstream,
    /// Of one upstream.
    Upstream(UpstreamId),
    /// Of all upstreams beyond the bound.
    Others,
}

/// One account.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose.
    pub of: Standing,
    /// What all its clients did.
    pub total: Sums,
    /// The upstream time of the last ten seconds and the last minute.
    pub lately: Lately,
    /// How evenly the last ten seconds were shared by those who wanted more than there was; Jain's index. None when
    /// nobody wanted anything.
    pub fairness: Option<f64>,
    /// Its heaviest clients and all that something is said against.
    pub clients: Vec<ClientReport>,
}

/// Upstream time, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lately {
    /// Of the last ten seconds.
    pub ten_seconds: f64,
    /// Of the last minute.
    pub minute: f64,
}

/// One client of one upstream.
#[derive(Clone, Debug)]
pub struct ClientReport {
    /// Who.
    pub id: ClientId,
    /// What it is called.
    pub name: String,
    /// What it did since it has been followed.
    pub sums: Sums,
    /// The upstream time it may have taken before, at most.
    pub untold: Duration,
    /// The median of its requests' time, the 98th and the 99th percentile.
    pub latency: [Option<Duration>; 3],
    /// Its upstream time of late.
    pub lately: Lately,
    /// Its part in the peak.
    pub peak: Option<Part>,
    /// What is said against it.
    pub flags: Vec<Flag>,
    /// The routes it takes most.
    pub routes: Vec<RouteId>,
}

/// The series of one upstream's clients.
#[derive(Clone, Debug)]
pub struct Series {
    /// Whose.
    pub of: Standing,
    /// By label: what is counted under it, and the share of the peak.
    pub clients: BTreeMap<String, (Sums, Option<f64>)>,
    /// What is counted under none of them, and its share of the peak.
    pub other: (Sums, Option<f64>),
}

/// What a client is called in metrics, which never hold an address.
#[must_use]
pub fn label(id: ClientId, name: &str) -> String {
    let address = name.split_once('/').map_or(name, |(address, _)| address);
    if name.is_empty() || name == "unknown" || address.parse::<IpAddr>().is_ok() {
        return format!("addr:{:012x}", id.hash() >> 16);
    }
    name.to_owned()
}

impl Accounts {
    /// Every account.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let accounts = self.each();
        accounts
            .map(|(of, account)| self.report(of, account))
            .collect()
    }

    /// The series of every account.
    #[must_use]
    pub fn series(&self) -> Vec<Series> {
        self.each()
            .map(|(of, account)| series(of, account))
            .collect()
    }

    fn each(&self) -> impl Iterator<Item = (Standing, &Account)> {
        let places = self.accounts.iter().zip(0_u32..);
        places.filter_map(|(account, place)| {
            let of = match place.checked_sub(1) {
                None => Standing::NoUpstream,
                Some(_) if place as usize == MAX_ACCOUNTS => Standing::Others,
                Some(upstream) => Standing::Upstream(UpstreamId::new(upstream)),
            };
            Some((of, account.as_deref()?))
        })
    }

    fn report(&self, of: Standing, account: &Account) -> Report {
        let peak = account.costs.peak();
        let mut heaviest: Vec<_> = account.top.iter().collect();
        heaviest.sort_unstable_by_key(|one| std::cmp::Reverse(one.count));
        let (first, rest) = heaviest.split_at(heaviest.len().min(SHOWN));
        let flagged = rest.iter().filter(|one| !one.value.flags.all().is_empty());
        let clients = first.iter().chain(flagged);
        let clients = clients.map(|one| {
            let mut report = self.client(one.key, one.value, peak.as_ref());
            report.untold = Duration::from_micros(one.error);
            report
        });
        Report {
            of,
            total: account.total,
            lately: self.lately(&account.load),
            fairness: self.fairness(account),
            clients: clients.collect(),
        }
    }

    fn client(&self, key: u64, client: &Client, peak: Option<&Peak<'_>>) -> ClientReport {
        ClientReport {
            id: ClientId::new(key),
            name: client.name.clone(),
            sums: client.sums,
            untold: Duration::ZERO,
            latency: [0.5, 0.98, 0.99].map(|q| client.latency.quantile(q)),
            lately: self.lately(&client.load),
            peak: peak.and_then(|peak| peak.part(key)),
            flags: client.flags.all().to_vec(),
            routes: client.routes(),
        }
    }

    fn lately(&self, load: &Load) -> Lately {
        Lately {
            ten_seconds: seconds(load.cost.sum(self.second, 10)),
            minute: seconds(load.minute.sum(self.second / 10, 7)),
        }
    }

    /// Of everybody who wanted something: what it got of the lesser of what it wanted and its max-min share.
    fn fairness(&self, account: &Account) -> Option<f64> {
        let capacity = seconds(account.load.cost.sum(self.second, 10));
        let clients = account.top.iter().map(|one| {
            let load = &one.value.load;
            let got = seconds(load.cost.sum(self.second, 10));
            let wanted = seconds(load.demand.sum(self.second, 10));
            let known = one
                .value
                .known
                .and_then(|at| self.known.get(usize::from(at)));
            (got, wanted, known.map_or(1.0, |known| known.weight))
        });
        let clients: Vec<_> = clients.filter(|(_, wanted, _)| *wanted > 0.0).collect();
        let demands = clients.iter().map(|(_, wanted, weight)| (*wanted, *weight));
        let mut demands: Vec<_> = demands.collect();
        let level = share::fair_level(capacity, &mut demands);
        share::jain(clients.iter().map(|(got, wanted, weight)| {
            let due = wanted.min(level * weight);
            if due > 0.0 { (got / due).min(1.0) } else { 1.0 }
        }))
    }
}

fn series(of: Standing, account: &Account) -> Series {
    let peak = account.costs.peak();
    let mut clients: BTreeMap<String, (Sums, Option<f64>)> = BTreeMap::new();
    for one in account.top.iter() {
        let Some(sums) = one.value.shown() else {
            continue;
        };
        let inside = peak.as_ref().map(|peak| {
            let part = peak.part(one.key);
            part.map_or(0.0, |part| part.inside)
        });
        let label = label(ClientId::new(one.key), &one.value.name);
        let (of_label, share) = clients.entry(label).or_default();
        *of_label += &sums;
        *share = inside.map(|inside| share.unwrap_or(0.0) + inside);
    }
    let shown: Sums = clients.values().map(|(sums, _)| sums).sum();
    let shares = clients.values().filter_map(|(_, share)| *share);
    let rest = 1.0 - shares.sum::<f64>();
    let rest = peak.is_some().then(|| rest.clamp(0.0, 1.0));
    Series {
        of,
        clients,
        other: (account.total - &shown, rest),
    }
}
