//! `tidegate status`: what runs, on which configuration, and how it fares.

use std::process::ExitCode;

use super::query::QueryArgs;
use super::table::{Cell, Style, Table, Tone, age, bytes, counted, percent, shortened};
use crate::admin::api::Status;

/// The width left for a value: a longer one is cut by the table's other column otherwise.
const VALUE_WIDTH: usize = 64;

pub(super) fn status(query: QueryArgs) -> ExitCode {
    query.show("/api/v1/status", table)
}

fn table(status: &Status, style: Style) -> String {
    let mut rows = Rows(Table::new(["tidegate", &status.version], 2));
    if status.draining {
        rows.add("state", "draining", Tone::Warning);
    } else {
        rows.add("state", "running", Tone::Good);
    }
    let up = age(status.uptime_seconds);
    rows.plain("up", &format!("{up}, since {}", status.started_at));
    let workers = counted(status.workers as u64, "worker");
    rows.plain("process", &format!("{}, {workers}", status.pid));
    configuration(status, &mut rows);
    for listener in &status.listeners {
        let (name, address) = (&listener.name, &listener.address);
        let connections = counted(listener.connections, "connection");
        rows.plain("listener", &format!("{name} {address}, {connections}"));
    }
    let exchanges = &status.exchanges;
    let (total, failed) = (exchanges.total, counted(exchanges.errors, "error"));
    let share = percent(exchanges.errors, total);
    rows.plain("exchanges", &format!("{total}, {failed} ({share})"));
    for (outcome, count) in exchanges.by_outcome.iter().filter(|(_, count)| **count > 0) {
        rows.plain(&format!("  {outcome}"), &count.to_string());
    }
    let (received, sent) = (bytes(exchanges.bytes_in), bytes(exchanges.bytes_out));
    rows.plain("bodies", &format!("{received} received, {sent} sent"));
    let dropped = &status.dropped;
    if dropped.exchanges > 0 || dropped.access_log_lines > 0 {
        let exchanges = counted(dropped.exchanges, "exchange");
        let lines = counted(dropped.access_log_lines, "access log line");
        rows.add("dropped", &format!("{exchanges}, {lines}"), Tone::Warning);
    }
    rows.0.render(style)
}

fn configuration(status: &Status, rows: &mut Rows) {
    let config = &status.config;
    let source = config.source.as_deref().unwrap_or("the command line");
    rows.plain("configuration", source);
    rows.plain("  loaded", &config.loaded_at);
    rows.plain("  hash", &config.hash);
    if let Some(reload) = config.last_reload.as_ref().filter(|reload| !reload.ok) {
        rows.add("  reload", &format!("failed {}", reload.at), Tone::Bad);
        for line in reload.error.iter().flat_map(|error| error.lines()) {
            rows.plain("", line);
        }
    }
}

/// Names and values.
struct Rows(Table<2>);

impl Rows {
    fn plain(&mut self, name: &str, value: &str) {
        self.add(name, value, Tone::Plain);
    }

    fn add(&mut self, name: &str, value: &str, tone: Tone) {
        let value = Cell::new(&shortened(value, VALUE_WIDTH), tone);
        self.0.row([name.into(), value]);
    }
}
