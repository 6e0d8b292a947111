//! `tidegate upstreams`: each upstream with its endpoints, their health and their load.

use std::process::ExitCode;

use super::query::QueryArgs;
use super::table::{Cell, Style, Table, Tone, latency, percent, plain, rate};
use crate::admin::api::{Endpoint, Upstream, Upstreams};

pub(super) fn upstreams(query: QueryArgs) -> ExitCode {
    query.show("/api/v1/upstreams", table)
}

fn table(answer: &Upstreams, style: Style) -> String {
    let headings = [
        "UPSTREAM", "STATE", "INFLIGHT", "CONNS", "REQ/S", "ERRORS", "LATENCY", "P99",
    ];
    let mut table = Table::new(headings, 2);
    for upstream in &answer.upstreams {
        table.row(of_upstream(upstream));
        for endpoint in &upstream.endpoints {
            table.row(of_endpoint(endpoint));
        }
    }
    let mut text = table.render(style);
    text.push_str(&phases(answer, style));
    text.push_str(&hosts(answer, style));
    for upstream in &answer.upstreams {
        for endpoint in upstream.endpoints.iter().filter(|e| !e.healthy) {
            if let Some(message) = &endpoint.message {
                let (upstream, endpoint) = (plain(&upstream.name), plain(&endpoint.address));
                text.push_str(&format!("\n{upstream}/{endpoint}: {}", plain(message)));
            }
        }
    }
    text
}

/// Where the last minute's time went: the phases that took any to speak of.
fn phases(answer: &Upstreams, style: Style) -> String {
    let mut table = Table::new(["LAST MINUTE", "P50", "P90", "P98", "P99", "P99.9"], 1);
    let mut empty = true;
    for upstream in &answer.upstreams {
        let minute = upstream.windows.iter().find(|one| one.over_seconds == 60);
        let phases = minute.map_or(&[][..], |window| &window.phases);
        for one in phases
            .iter()
            .filter(|one| one.p99_9_ms >= Some(WORTH_A_LINE))
        {
            empty = false;
            table.row([
                format!("{} {}", upstream.name, one.phase).into(),
                latency(one.p50_ms).into(),
                latency(one.p90_ms).into(),
                latency(one.p98_ms).into(),
                latency(one.p99_ms).into(),
                latency(one.p99_9_ms).into(),
            ]);
        }
    }
    if empty {
        return String::new();
    }
    format!("\n{}", table.render(style))
}

/// How the hosts are doing whose node exporters are known.
fn hosts(answer: &Upstreams, style: Style) -> String {
    let mut table = Table::new(["HOST", "CPU", "IOWAIT", "MEMORY", "GROWTH/S", "LOAD"], 1);
    let mut empty = true;
    for upstream in &answer.upstreams {
        for endpoint in &upstream.endpoints {
            let Some(host) = &endpoint.host else { continue };
            empty = false;
            table.row([
                format!("{} {}", upstream.name, endpoint.address).into(),
                format!("{:.0}%", host.cpu * 100.0).into(),
                format!("{:.0}%", host.iowait * 100.0).into(),
                format!("{:.0}%", host.memory * 100.0).into(),
                format!("{:+.1} MiB", host.memory_slope / 1_048_576.0).into(),
                format!("{:.2}", host.load).into(),
            ]);
        }
    }
    if empty {
        return String::new();
    }
    format!("\n{}", table.render(style))
}

/// Milliseconds below which a phase is left out.
const WORTH_A_LINE: f64 = 0.1;

fn of_upstream(upstream: &Upstream) -> [Cell; 8] {
    let all = upstream.endpoints.len();
    let healthy = upstream.endpoints.iter().filter(|e| e.healthy).count();
    let tone = match healthy {
        0 => Tone::Bad,
        some if some < all => Tone::Warning,
        _ => Tone::Good,
    };
    let recent = &upstream.traffic.recent;
    [
        upstream.name.as_str().into(),
        Cell::new(&format!("{healthy}/{all} up"), tone),
        upstream.in_flight.to_string().into(),
        upstream.connections.to_string().into(),
        rate(recent.requests, recent.over_seconds).into(),
        percent(recent.errors, recent.requests).into(),
        latency(recent.p50_ms).into(),
        latency(recent.p99_ms).into(),
    ]
}

fn of_endpoint(endpoint: &Endpoint) -> [Cell; 8] {
    let tone = match (endpoint.healthy, endpoint.state.as_str()) {
        (false, _) => Tone::Bad,
        (true, "healthy") => Tone::Plain,
        (true, _) => Tone::Warning,
    };
    [
        format!("  {}", endpoint.address).into(),
        Cell::new(&endpoint.state, tone),
        endpoint.in_flight.to_string().into(),
        endpoint.connections.to_string().into(),
        "".into(),
        "".into(),
        latency(endpoint.latency_ms).into(),
        "".into(),
    ]
}
