//! The page at `/`: what runs, and where to read more. No scripts, no styles, nothing loaded.

use super::AdminState;
use super::openapi;
use crate::observe::access_log::rfc3339;

pub(super) fn render(state: &AdminState) -> String {
    let plan = state.plan.load();
    let snapshot = (state.snapshot)();
    let totals = state.metrics.totals();
    let mut rows = String::new();
    let mut row = |name: &str, value: &str| {
        let value = escaped(value);
        rows.push_str(&format!(
            "<tr><th align=left>{name}</th><td>{value}</td></tr>"
        ));
    };
    row("version", env!("CARGO_PKG_VERSION"));
    row("started", &rfc3339(state.status.started_at()));
    row(
        "draining",
        if state.status.is_draining() {
            "yes"
        } else {
            "no"
        },
    );
    let source = plan.source.as_ref().map(|path| path.display().to_string());
    row("configuration", source.as_deref().unwrap_or("command line"));
    for listener in &snapshot.listeners {
        row(
            "listener",
            &format!("{} {}", listener.name, listener.address),
        );
    }
    for upstream in &snapshot.upstreams {
        let in_use = upstream.endpoints.iter().filter(|e| e.state.is_in_use());
        let (in_use, all) = (in_use.count(), upstream.endpoints.len());
        row(
            "upstream",
            &format!("{}: {in_use} of {all} endpoints in use", upstream.name),
        );
    }
    row(
        "exchanges",
        &format!("{}, of which failed {}", totals.exchanges, totals.errors),
    );
    let links: String = openapi::GET_PATHS
        .iter()
        .filter(|(path, _)| *path != "/")
        .map(|(path, what)| format!("<li><a href=\"{path}\">{path}</a> {what}</li>"))
        .collect();
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\"><title>Tidegate</title></head>\
         <body><h1>Tidegate</h1><table>{rows}</table><ul>{links}</ul></body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}
