//! The tables' rows, as text.

use super::super::table::{latency, percent, plain, rate, share};
use super::shot::Shot;
use crate::admin::api::{Client, InFlightRequest, Isolation, Upstream};

/// One row: what it is about, its cells, and how bad it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// What it is told apart by, so that a selection stays with it when rows change places.
    pub(super) key: String,
    pub(super) cells: Vec<String>,
    pub(super) alarm: Alarm,
    /// What can be isolated: a kind and a subject.
    pub(super) isolates: Option<(&'static str, String)>,
    /// What can be released.
    pub(super) releases: Option<String>,
    /// What more there is to say.
    pub(super) detail: Vec<String>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Alarm {
    #[default]
    None,
    Warning,
    Bad,
}

/// An upstream and its endpoints.
pub(super) fn upstream(one: &Upstream, shot: &Shot) -> Vec<Row> {
    let name = &one.name;
    let limit = shot
        .limits
        .limits
        .iter()
        .find(|limit| limit.upstream == *name);
    let mut breakers = shot.breakers.breakers.iter();
    let breaker = breakers.find(|breaker| breaker.upstream.as_deref() == Some(&**name));
    let (all, up) = (
        one.endpoints.len(),
        one.endpoints.iter().filter(|e| e.healthy).count(),
    );
    let open = breaker.is_some_and(|breaker| breaker.state != "closed");
    let alarm = match up {
        0 => Alarm::Bad,
        _ if open => Alarm::Bad,
        some if some < all => Alarm::Warning,
        _ => Alarm::None,
    };
    let recent = &one.traffic.recent;
    let load = limit.filter(|limit| limit.mode != "off").map_or_else(
        || one.in_flight.to_string(),
        |limit| format!("{}/{}", limit.in_flight, limit.limit),
    );
    let mut rows = vec![Row {
        key: name.clone(),
        cells: vec![
            plain(name).into_owned(),
            format!("{up}/{all} up"),
            breaker
                .map_or("-", |breaker| breaker.state.as_str())
                .to_owned(),
            load,
            limit.map_or_else(|| "-".to_owned(), |limit| limit.waiting.to_string()),
            rate(recent.requests, recent.over_seconds),
            percent(recent.errors, recent.requests),
            latency(recent.p50_ms),
            latency(recent.p98_ms),
        ],
        alarm,
        isolates: None,
        releases: None,
        detail: phases(one),
    }];
    rows.extend(one.endpoints.iter().map(|endpoint| {
        let address = plain(&endpoint.address);
        let mut cells = vec![
            format!("  {address}"),
            endpoint.state.clone(),
            String::new(),
        ];
        cells.push(endpoint.in_flight.to_string());
        cells.resize(7, String::new());
        cells.extend([latency(endpoint.latency_ms), String::new()]);
        Row {
            key: format!("{name}/{}", endpoint.address),
            cells,
            alarm: match endpoint.state.as_str() {
                "healthy" => Alarm::None,
                "unhealthy" => Alarm::Bad,
                _ => Alarm::Warning,
            },
            isolates: Some(("endpoint", format!("{name}/{}", endpoint.address))),
            releases: None,
            detail: vec![
                format!("{address} of {}", plain(name)),
                format!("state {}, weight {}", endpoint.state, endpoint.weight),
                format!("{} connections", endpoint.connections),
                plain(
                    endpoint
                        .message
                        .as_deref()
                        .unwrap_or("no check has said anything"),
                )
                .into_owned(),
            ],
        }
    }));
    rows
}

/// Where the last minute's time went.
fn phases(one: &Upstream) -> Vec<String> {
    let mut lines = vec![format!("{}: the last minute by phase", plain(&one.name))];
    let minute = one.windows.iter().find(|window| window.over_seconds == 60);
    for phase in minute.map_or(&[][..], |window| &window.phases) {
        let (p50, p98, p99) = (
            latency(phase.p50_ms),
            latency(phase.p98_ms),
            latency(phase.p99_ms),
        );
        lines.push(format!(
            "{:<8} p50 {p50:>8}  p98 {p98:>8}  p99 {p99:>8}",
            plain(&phase.phase)
        ));
    }
    lines
}

pub(super) fn client(one: &Client) -> Row {
    let mut flags: Vec<&str> = one.flags.iter().map(|flag| flag.flag.as_str()).collect();
    flags.sort_unstable();
    flags.dedup();
    let first = one.upstreams.first();
    let mut detail = vec![format!("client {}", plain(&one.client))];
    if let Some(owner) = &one.owner {
        detail.push(format!("owner {}", plain(owner)));
    }
    for at in &one.upstreams {
        let upstream = plain(at.upstream.as_deref().unwrap_or("no upstream")).into_owned();
        let (requests, cost) = (at.took.requests, at.took.upstream_seconds);
        detail.push(format!(
            "{upstream}: {requests} requests, {cost:.1} s of it"
        ));
    }
    for flag in &one.flags {
        let upstream = plain(flag.upstream.as_deref().unwrap_or("no upstream")).into_owned();
        detail.push(format!(
            "{} at {upstream} since {}",
            plain(&flag.flag),
            plain(&flag.since)
        ));
        for evidence in &flag.evidence {
            let (what, value) = (plain(&evidence.what), evidence.value);
            detail.push(format!("  {what}: {value:.3} {}", plain(&evidence.unit)));
        }
    }
    Row {
        key: one.client.clone(),
        cells: vec![
            plain(&one.client).into_owned(),
            plain(&flags.join(",")).into_owned(),
            one.requests.to_string(),
            one.refused.to_string(),
            share(one.share.last_10s),
            share(one.share.overall),
            one.share.peak.map_or_else(|| "-".to_owned(), share),
            latency(first.and_then(|at| at.p98_ms)),
        ],
        alarm: match flags.as_slice() {
            [] => Alarm::None,
            flags if flags.contains(&"noisy") => Alarm::Bad,
            _ => Alarm::Warning,
        },
        isolates: Some(("client", one.client.clone())),
        releases: None,
        detail,
    }
}

pub(super) fn request(one: &InFlightRequest) -> Row {
    let text = |text: Option<&str>| plain(text.unwrap_or("-")).into_owned();
    let path = plain(one.path.as_deref().unwrap_or_default());
    Row {
        key: one.request_id.clone(),
        cells: vec![
            format!("{} {path}", plain(&one.method)),
            plain(&one.phase).into_owned(),
            text(one.upstream.as_deref()),
            text(one.endpoint.as_deref()),
            one.attempts.to_string(),
            latency(one.age_ms),
        ],
        alarm: match one.age_ms {
            Some(age) if age >= 10_000.0 => Alarm::Bad,
            Some(age) if age >= 1_000.0 => Alarm::Warning,
            _ => Alarm::None,
        },
        isolates: one.route.clone().map(|route| ("route", route)),
        releases: None,
        detail: vec![
            format!("{} {path}", plain(&one.method)),
            format!("request {}", plain(&one.request_id)),
            format!("route {}", text(one.route.as_deref())),
            format!(
                "under way for {}, now in {}",
                latency(one.age_ms),
                plain(&one.phase)
            ),
        ],
    }
}

pub(super) fn isolation(one: &Isolation) -> Row {
    let subject = plain(&one.subject).into_owned();
    Row {
        key: one.id.clone(),
        detail: vec![
            format!("{} {subject} in {}", one.kind, plain(&one.to)),
            format!("from {} until {}", plain(&one.since), plain(&one.until)),
            format!("by {}: {}", plain(&one.by), plain(&one.reason)),
            format!(
                "{} requests passed, {} were refused",
                one.passed, one.refused
            ),
        ],
        cells: vec![
            subject,
            one.kind.clone(),
            plain(&one.to).into_owned(),
            plain(&one.reason).into_owned(),
            super::super::table::age(one.remaining_seconds),
            one.refused.to_string(),
        ],
        alarm: Alarm::Warning,
        isolates: None,
        releases: Some(one.id.clone()),
    }
}
