//! The usage report as one page: charts in SVG, styles inside, nothing asked of anybody else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::admin::api::{Usage, UsageHour, UsageRow};

const COLORS: [&str; 9] = [
    "#2f6fb0", "#d1793b", "#4f9d69", "#b5485d", "#7f6bb3", "#a98c2d", "#3f97a6", "#8a5a44",
    "#9aa0a6",
];
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2530; --soft: #667; --line: #d9dde3; --back: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa3b0; --line: #333b46; --back: #14181d; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; } p, figcaption { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; } th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; } th { color: var(--soft); font-weight: 600; }
svg { width: 100%; height: auto; } text { fill: var(--soft); font-size: 11px; } figure { margin: 1rem 0; } .over { color: #b5485d; }
";

/// The page of `clients`, which are told apart by client, and what the dearest `drawn` of them cost by the hour.
pub(super) fn page(clients: &Usage, hours: &[UsageHour], drawn: usize) -> String {
    let top: Vec<&UsageRow> = clients.rows.iter().take(drawn).collect();
    let names: Vec<&str> = top.iter().filter_map(|row| row.client.as_deref()).collect();
    let mut body = format!(
        "<h1>Usage</h1><p>{} to {} · {} requests by {} clients · {:.0} s of upstream time</p>",
        escape(&clients.from),
        escape(&clients.to),
        clients.total.requests,
        clients.row_count,
        clients.total.upstream_seconds,
    );
    body.push_str(&borrowers(clients));
    body.push_str(&stacked(hours, &names));
    body.push_str(&heat(hours, &names));
    body.push_str(&table(clients));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Usage</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Who has far more of the peak than of the whole.
fn borrowers(clients: &Usage) -> String {
    let mut rows: Vec<(&UsageRow, f64)> = clients
        .rows
        .iter()
        .filter_map(|row| Some((row, row.peak_share?)))
        .filter(|(row, peak)| *peak > 0.05 && *peak > row.share * 1.5)
        .collect();
    rows.sort_by(|one, other| (other.1 - other.0.share).total_cmp(&(one.1 - one.0.share)));
    let mut text = "<h2>Who borrows the peak</h2>".to_owned();
    if rows.is_empty() {
        text.push_str("<p>Nobody takes much more of the busiest twentieth of this time than of the whole.</p>");
        return text;
    }
    text.push_str(
        "<table><tr><th>client</th><th>of the peak</th><th>of the whole</th><th>times</th></tr>",
    );
    for (row, peak) in rows.into_iter().take(10) {
        let _written = write!(
            text,
            "<tr><td>{}</td><td>{:.1}%</td><td>{:.1}%</td><td>{:.1}</td></tr>",
            escape(row.client.as_deref().unwrap_or_default()),
            peak * 100.0,
            row.share * 100.0,
            peak / row.share.max(1e-4),
        );
    }
    text.push_str("</table>");
    text
}

/// Cost over time, the dearest clients apart.
fn stacked(hours: &[UsageHour], names: &[&str]) -> String {
    let mut slots: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in hours {
        let (hour, client) = (row.hour.as_str(), row.client.as_str());
        let place = names
            .iter()
            .position(|name| *name == client)
            .unwrap_or(names.len());
        let slot = slots
            .entry(hour)
            .or_insert_with(|| vec![0.0; names.len() + 1]);
        if let Some(sum) = slot.get_mut(place) {
            *sum += row.upstream_seconds;
        }
    }
    let most = slots
        .values()
        .map(|slot| slot.iter().sum())
        .fold(0.0_f64, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let width = 900.0 / slots.len().max(1) as f64;
    let mut bars = String::new();
    for (index, (hour, slot)) in slots.iter().enumerate() {
        let mut y = 220.0;
        for (place, seconds) in slot.iter().enumerate() {
            let height = seconds / most * 200.0;
            y -= height;
            if height > 0.0 {
                let _written = write!(
                    bars,
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{}\"><title>{} {}: {seconds:.1} s</title></rect>",
                    index as f64 * width,
                    (width * 0.9).max(0.5),
                    color(place, names.len()),
                    escape(hour),
                    escape(names.get(place).copied().unwrap_or("everybody else")),
                );
            }
        }
    }
    let mut legend = String::new();
    for (place, name) in names.iter().copied().chain(["everybody else"]).enumerate() {
        let _written = write!(
            legend,
            "<span style=\"color:{}\">■</span> {} &nbsp; ",
            color(place, names.len()),
            escape(name)
        );
    }
    let first = slots.keys().next().copied().unwrap_or_default();
    let last = slots.keys().next_back().copied().unwrap_or_default();
    format!(
        "<h2>Cost over time</h2><figure><svg viewBox=\"0 0 900 240\" role=\"img\" aria-label=\"upstream seconds by hour and client\">\
         {bars}<text x=\"0\" y=\"236\">{}</text><text x=\"900\" y=\"236\" text-anchor=\"end\">{}</text><text x=\"0\" y=\"12\">{most:.0} s an hour</text></svg>\
         <figcaption>{legend}</figcaption></figure>",
        escape(first),
        escape(last)
    )
}

fn color(place: usize, named: usize) -> &'static str {
    let index = if place >= named {
        COLORS.len() - 1
    } else {
        place % (COLORS.len() - 1)
    };
    COLORS.get(index).copied().unwrap_or("#9aa0a6")
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Each client's cost by hour of the week (UTC).
fn heat(hours: &[UsageHour], names: &[&str]) -> String {
    let mut text = "<h2>When in the week</h2><p>Cost by hour of the week, UTC; the darkest is each client's own most.</p>".to_owned();
    for (place, name) in names.iter().enumerate() {
        let mut week = [0.0_f64; 168];
        for row in hours.iter().filter(|row| row.client == *name) {
            let slot = hour_of_week(&row.hour);
            if let Some(sum) = slot.and_then(|slot| week.get_mut(slot)) {
                *sum += row.upstream_seconds;
            }
        }
        let most = week.iter().copied().fold(0.0, f64::max);
        if most <= 0.0 {
            continue;
        }
        let mut cells = String::new();
        for (slot, seconds) in week.iter().enumerate() {
            let _written = write!(
                cells,
                "<rect x=\"{}\" y=\"{}\" width=\"33\" height=\"13\" fill=\"{}\" fill-opacity=\"{:.2}\"><title>{} {}:00: {seconds:.1} s</title></rect>",
                40 + slot % 24 * 35,
                slot / 24 * 15,
                color(place, names.len()),
                0.05 + 0.95 * seconds / most,
                DAYS.get(slot / 24).copied().unwrap_or_default(),
                slot % 24,
            );
        }
        for (day, name) in DAYS.iter().enumerate() {
            let _written = write!(cells, "<text x=\"0\" y=\"{}\">{name}</text>", day * 15 + 11);
        }
        let _written = write!(
            text,
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 880 106\" role=\"img\" aria-label=\"cost by hour of the week\">{cells}</svg></figure>",
            escape(name)
        );
    }
    text
}

/// The hour of the week, from Monday's first, of a time in RFC 3339.
fn hour_of_week(time: &str) -> Option<usize> {
    let timestamp: jiff::Timestamp = time.parse().ok()?;
    let hours = usize::try_from(timestamp.as_second()).ok()? / 3_600;
    // The epoch began on a Thursday.
    Some((hours + 3 * 24) % 168)
}

fn table(clients: &Usage) -> String {
    let mut text = "<h2>Clients</h2><table><tr><th>client</th><th>requests</th><th>refused</th><th>errors</th><th>cost, s</th>\
                    <th>share</th><th>of the peak</th><th>p98, ms</th><th>declared</th><th>busiest minute</th></tr>"
        .to_owned();
    let percent = |part: f64| format!("{:.1}%", part * 100.0);
    let rate = |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!("{rate:.1}/s"));
    for row in &clients.rows {
        let over = matches!((row.declared_rate, row.peak_rate), (Some(declared), Some(peak)) if peak > declared);
        let _written = write!(
            text,
            "<tr{}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            if over { " class=\"over\"" } else { "" },
            escape(row.client.as_deref().unwrap_or_default()),
            row.sums.requests,
            row.sums.refused,
            row.sums.errors,
            row.sums.upstream_seconds,
            percent(row.share),
            row.peak_share.map_or_else(String::new, percent),
            row.sums
                .p98_ms
                .map_or_else(String::new, |p98| format!("{p98:.0}")),
            rate(row.declared_rate),
            rate(row.peak_rate),
        );
    }
    text.push_str("</table>");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_week_begins_on_monday() {
        assert_eq!(hour_of_week("2026-11-23T00:00:00Z"), Some(0));
        assert_eq!(hour_of_week("2026-11-26T18:30:00Z"), Some(3 * 24 + 18));
    }

    #[test]
    fn a_clients_name_is_text_and_nothing_else() {
        assert_eq!(escape("<b>'&'</b>"), "&lt;b&gt;&#39;&amp;&#39;&lt;/b&gt;");
    }
}
