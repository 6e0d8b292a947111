//! `/metrics`: everything observed, in the format that is asked for.
//!
//! Nothing is kept registered: a scrape copies the families, takes a snapshot of live values and encodes
//! both, so the numbers of one answer belong together and a name that left the configuration leaves with
//! it. Depends on its neighbours in this room and the registry of names.

mod clients;
mod negotiate;
mod out;
mod phases;
mod protection;
mod proto;
mod services;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::negotiate::format;
pub use self::out::Format;
use self::out::Out;
use super::accounts::Series as ClientSeries;
use super::collector::Metrics;
use super::export::Exported;
use super::keys::row_identity;
use super::process::Process;
use super::series::Series;
use super::snapshot::Snapshot;
use super::status::Status;
use super::tables::{Families, OUTCOMES};
use crate::engine::registry::{Directories, Directory};
use crate::engine::upstream::HostLoad;

/// The label value of everything beyond a family's bound.
const OTHER: &str = "__other__";

/// All of one scrape's values, of one moment.
#[derive(Debug)]
pub struct Exposition {
    families: Families,
    client_series: Vec<ClientSeries>,
    traces_dropped: u64,
    exported: [Exported; 4],
    dropped: [u64; 4],
    directories: Arc<Directories>,
    snapshot: Snapshot,
    reload_ok: bool,
    reloads: (u64, u64),
    draining: bool,
    /// Whether the last attempt to write what outlives a restart failed, and how many did.
    state: (bool, u64),
    process: Process,
}

/// A label's text: of a known name, of none, or of one that is out of the directory.
fn name_of(directory: &Directory, index: Option<usize>) -> Arc<str> {
    let name = index.map(|index| directory.name(index).unwrap_or_else(|| OTHER.into()));
    name.unwrap_or_else(|| "".into())
}

impl Exposition {
    /// Copies what there is, which holds up the observer: not on a thread that gives way to others.
    #[must_use]
    pub fn copy(
        metrics: &Metrics,
        directories: &Arc<Directories>,
        snapshot: Snapshot,
        status: &Status,
    ) -> Self {
        let (families, client_series) = metrics.exported();
        Self {
            families,
            client_series,
            dropped: [
                metrics.drops().exchanges(),
                metrics.drops().lines(),
                metrics.drops().decisions(),
                metrics.drops().told(),
            ],
            traces_dropped: metrics.drops().traces(),
            exported: metrics.exports(),
            directories: Arc::clone(directories),
            snapshot,
            reload_ok: status.last_reload().is_none_or(|last| last.error.is_none()),
            reloads: status.reloads(),
            draining: status.is_draining(),
            state: (status.state_error().is_some(), status.state_failures()),
            process: Process::read(),
        }
    }

    /// The answer to the scrape.
    #[must_use]
    pub fn render(&self, format: Format) -> Vec<u8> {
        let mut out = Out::new(format);
        self.write(&mut out);
        out.finish()
    }

    fn write(&self, out: &mut Out) {
        self.durations(out);
        self.phases(out);
        self.services(out);
        self.counters(out);
        self.gauges(out);
        self.loops(out);
        self.protection(out);
        self.clients(out);
        self.configuration(out);
        out.process(&self.process);
    }

    /// What is sent on by itself, of those that are sent anything.
    fn exports(&self, out: &mut Out) {
        let help = "Requests whose traces were not kept because the observer lagged.";
        out.counter("tidegate_traces_dropped", help, Some(self.traces_dropped));
        let on = self.exported.iter().filter(|one| one.on);
        let rows = on.clone().flat_map(|one| {
            let results = [
                ("sent", one.sent),
                ("dropped", one.dropped),
                ("failed", one.failed),
            ];
            results.map(|(result, count)| ([("exporter", one.exporter), ("result", result)], count))
        });
        let help = "Traces, lines and events, or notices, by what became of them on their way to a server.";
        out.counters("tidegate_exported", help, rows);
        let rows = on.map(|one| ([("exporter", one.exporter)], one.waiting));
        let help = "Traces, lines and events, or notices, that wait in memory to be sent.";
        out.gauges("tidegate_export_waiting", help, rows)
    }

    fn upstream_name(&self, index: Option<usize>) -> Arc<str> {
        name_of(&self.directories.upstreams, index)
    }

    fn route_name(&self, index: Option<usize>) -> Arc<str> {
        name_of(&self.directories.routes, index)
    }

    /// The directory's names are `upstream/address`; the label is the address.
    fn endpoint_name(&self, upstream: &str, index: Option<usize>) -> Arc<str> {
        let name = name_of(&self.directories.endpoints, index);
        let address = name
            .strip_prefix(upstream)
            .and_then(|a| a.strip_prefix('/'));
        address.map_or_else(|| Arc::clone(&name), Arc::from)
    }

    fn counters(&self, out: &mut Out) {
        let families = &self.families;
        let outcomes = OUTCOMES.map(|outcome| [("outcome", outcome.as_str())]);
        out.counters(
            "tidegate_exchanges",
            "Finished exchanges by how they ended.",
            outcomes.into_iter().zip(families.totals.by_outcome),
        );
        self.rejected(out);
        self.caches(out);
        for (name, help, part) in [
            (
                "tidegate_request_bytes",
                "Bytes of request bodies received.",
                0,
            ),
            (
                "tidegate_response_bytes",
                "Bytes of response bodies sent.",
                1,
            ),
        ] {
            let value = |bytes: &(u64, u64)| if part == 0 { bytes.0 } else { bytes.1 };
            let rows = families.bytes.iter();
            let rows = rows.map(|(key, bytes)| (self.route_name(row_identity(key)), value(bytes)));
            let other = families
                .bytes
                .other()
                .map(|(bytes, _)| (OTHER.into(), value(bytes)));
            let rows = rows
                .chain(other)
                .map(|(route, n)| ([("http_route", route)], n));
            out.counters(name, help, rows);
        }
        self.losses(out)
    }

    /// What bounds cost.
    fn losses(&self, out: &mut Out) {
        fn folded<V: Default>(series: &Series<V>) -> u64 {
            series.other().map_or(0, |(_, folded)| folded)
        }
        let [exchanges, lines, decisions, told] = self.dropped;
        let help = "Exchanges missing from these metrics because the observer lagged.";
        out.counter("tidegate_exchanges_dropped", help, Some(exchanges));
        let help = "Access-log lines that were not written.";
        out.counter("tidegate_access_log_lines_dropped", help, Some(lines));
        let help = "Requests that `why` cannot explain because the observer lagged.";
        out.counter("tidegate_decisions_dropped", help, Some(decisions));
        self.exports(out);
        let help = "Durations and metrics told by upstreams that are in no metric because the observer lagged.";
        out.counter("tidegate_components_dropped", help, Some(told));
        let families = &self.families;
        out.counters(
            "tidegate_series_folded",
            "Measurements counted as __other__ because their family has reached its bound.",
            [
                (
                    [("family", "http_server_request_duration_seconds")],
                    folded(&families.server),
                ),
                (
                    [("family", "http_client_request_duration_seconds")],
                    folded(&families.client),
                ),
                (
                    [("family", "tidegate_phase_duration_seconds")],
                    folded(&families.phases),
                ),
                (
                    [("family", "tidegate_request_bytes")],
                    folded(&families.bytes),
                ),
                (
                    [("family", "tidegate_component_duration_seconds")],
                    families.components.other().map_or(0, |(_, folded)| folded),
                ),
                (
                    [("family", "tidegate_endpoint_phase_duration_seconds")],
                    folded(&families.endpoints),
                ),
                (
                    [("family", "tidegate_service_counter")],
                    families.readings.folded(),
                ),
            ],
        )
    }

    /// How late the kernel and what else runs in a worker let it be: late ÷ beats is the mean delay.
    fn loops(&self, out: &mut Out) {
        let loops = self.snapshot.loops.iter().enumerate();
        let loops = loops.map(|(worker, total)| ([("worker", worker.to_string())], *total));
        let rows = loops.clone().map(|(labels, (beats, _))| (labels, beats));
        let help = "Times a worker's event loop was to wake, twelve a second.";
        out.counters("tidegate_event_loop_beats", help, rows);
        let rows = loops.map(|(labels, (_, late))| (labels, late.as_secs_f64()));
        let help = "Time a worker's event loop woke too late, in all.";
        out.counters("tidegate_event_loop_late_seconds", help, rows)
    }

    fn gauges(&self, out: &mut Out) {
        let upstreams = &self.snapshot.upstreams;
        let in_flight = upstreams
            .iter()
            .map(|u| ([("upstream", &*u.name)], u.in_flight));
        out.gauges("tidegate_inflight", "Exchanges in flight.", in_flight);
        let connections = upstreams
            .iter()
            .map(|u| ([("upstream", &*u.name)], u.connections));
        out.gauges(
            "tidegate_upstream_connections",
            "Open connections to an upstream, in use or pooled.",
            connections,
        );
        let endpoints = upstreams.iter().flat_map(|upstream| {
            upstream.endpoints.iter().map(|endpoint| {
                let labels = [
                    ("upstream", &*upstream.name),
                    ("endpoint", &endpoint.address),
                ];
                (labels, u64::from(endpoint.state.is_in_use()))
            })
        });
        out.gauges(
            "tidegate_endpoint_healthy",
            "1 when an endpoint takes requests.",
            endpoints,
        );
        self.hosts(out);
        let listeners = self.snapshot.listeners.iter();
        let listeners = listeners.map(|l| ([("listener", &*l.name)], l.connections));
        out.gauges(
            "tidegate_connections",
            "Open client connections.",
            listeners,
        );
        let listeners = self.snapshot.listeners.iter();
        let listeners = listeners.map(|l| ([("listener", &*l.name)], l.parked));
        out.gauges(
            "tidegate_connections_parked",
            "Open client connections that lie idle and hold next to no memory.",
            listeners,
        )
    }

    /// How the hosts of endpoints are doing, where their node exporters are known.
    fn hosts(&self, out: &mut Out) {
        type Number = fn(&HostLoad) -> f64;
        let cpu = "The part of the processors' time that is used on an endpoint's host.";
        let iowait = "The part of the processors' time that waits for disks on an endpoint's host.";
        let memory = "The part of the memory that is used on an endpoint's host.";
        for (what, help, of) in [
            ("cpu", cpu, (|host| host.cpu) as Number),
            ("iowait", iowait, |host| host.iowait),
            ("memory", memory, |host| host.memory),
        ] {
            let rows = self.snapshot.upstreams.iter().flat_map(|upstream| {
                upstream.endpoints.iter().filter_map(move |endpoint| {
                    let labels = [
                        ("upstream", &*upstream.name),
                        ("endpoint", &endpoint.address),
                    ];
                    Some((labels, of(endpoint.host.as_ref()?)))
                })
            });
            out.gauges(&format!("tidegate_endpoint_host_{what}_ratio"), help, rows);
        }
    }

    fn configuration(&self, out: &mut Out) {
        // A gauge and not an info, which readers of the older text format do not know.
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.gauges("tidegate_build_info", "What runs.", [(version, 1_u64)]);
        let (taken, refused) = self.reloads;
        out.counters(
            "tidegate_config_reloads",
            "Reloads of the configuration.",
            [
                ([("result", "ok")], taken),
                ([("result", "error")], refused),
            ],
        );
        let help = "Attempts to write what outlives a restart that failed.";
        let (failing, failures) = self.state;
        out.counter("tidegate_state_write_failures", help, Some(failures));
        let help = "0 when the last attempt to write what outlives a restart failed.";
        let written = u64::from(!failing);
        out.gauge("tidegate_state_write_success", help, Some(written));
        let (ok, draining) = (u64::from(self.reload_ok), u64::from(self.draining));
        let help = "0 when the last reload was refused.";
        out.gauge("tidegate_config_reload_success", help, Some(ok));
        let help = "1 while the process drains.";
        out.gauge("tidegate_draining", help, Some(draining))
    }
}
