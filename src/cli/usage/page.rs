//! The usage report as one page: charts in SVG, styles inside, nothing asked of anybody else.

mod charts;

use std::fmt::Write as _;

use crate::admin::api::{Usage, UsageHour, UsageRow};

/// Who takes that much more of the peak than of the whole borrows it.
const BORROWS: f64 = 1.5;
/// Less of the peak than this is nobody's concern.
const LEAST: f64 = 0.02;

/// The page of `clients`, which are told apart by client, and what the dearest `drawn` of them cost by the hour.
pub(super) fn page(clients: &Usage, hours: &[UsageHour], drawn: usize) -> String {
    let top: Vec<&UsageRow> = clients.rows.iter().take(drawn).collect();
    let names: Vec<&str> = top.iter().filter_map(|row| row.client.as_deref()).collect();
    let body = [
        summary(clients),
        borrowers(clients),
        charts::stacked(hours, &names),
        charts::heat(hours, &names),
        table(clients),
    ];
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Usage</title><style>{}</style></head><body>{}</body></html>",
        include_str!("page/style.css"),
        body.concat()
    )
}

fn summary(clients: &Usage) -> String {
    let total = &clients.total;
    let of = |part: u64| percent(part as f64 / total.requests.max(1) as f64);
    let cards = [
        (grouped(total.requests), "requests".to_owned()),
        (grouped(clients.row_count as u64), "clients".to_owned()),
        (
            lasting(total.upstream_seconds),
            "cost, upstream time".to_owned(),
        ),
        (
            of(total.errors),
            format!("failed ({})", grouped(total.errors)),
        ),
        (
            of(total.refused),
            format!("refused ({})", grouped(total.refused)),
        ),
        (
            of(total.cache_hits),
            format!(
                "from the cache, {} saved",
                lasting(total.saved_upstream_seconds)
            ),
        ),
    ];
    let day = |time: &str| escape(&time.replace('T', " ").chars().take(16).collect::<String>());
    let mut text = format!(
        "<h1>Who used what</h1><p>{} to {} UTC</p><div class=\"cards\">",
        day(&clients.from),
        day(&clients.to)
    );
    for (number, of) in cards {
        let _written = write!(text, "<div><b>{number}</b>{of}</div>");
    }
    text.push_str("</div>");
    text
}

/// Who has far more of the peak than of the whole.
fn borrowers(clients: &Usage) -> String {
    let with_peak = clients
        .rows
        .iter()
        .filter_map(|row| Some((row, row.peak_share?)));
    let mut rows: Vec<(&UsageRow, f64)> = with_peak
        .filter(|(row, peak)| *peak > LEAST && *peak > row.share * BORROWS)
        .collect();
    rows.sort_by(|one, other| (other.1 - other.0.share).total_cmp(&(one.1 - one.0.share)));
    let mut text = "<h2>Who borrows the peak</h2>".to_owned();
    if rows.is_empty() {
        text.push_str("<p>Nobody takes much more of the busiest twentieth of this time than of the whole.</p>");
        return text;
    }
    text.push_str(
        "<p>Clients whose part of the busiest twentieth of this time is far more than their part of the whole.</p><div class=\"wide\">\
         <table><tr><th>client</th><th>of the peak</th><th>of the whole</th><th>times</th><th class=\"bars\"></th></tr>",
    );
    for (row, peak) in rows.into_iter().take(10) {
        let _written = write!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td><td class=\"bars\"><i class=\"peak\" style=\"width:{:.1}%\"></i><i style=\"width:{:.1}%\"></i></td></tr>",
            escape(row.client.as_deref().unwrap_or_default()),
            percent(peak),
            percent(row.share),
            peak / row.share.max(1e-4),
            peak * 100.0,
            row.share * 100.0,
        );
    }
    text.push_str("</table></div>");
    text
}

fn table(clients: &Usage) -> String {
    let headings = [
        "client",
        "requests",
        "4xx",
        "5xx",
        "refused",
        "retries",
        "cost",
        "share",
        "of the peak",
        "p98",
        "cache hits",
        "saved",
        "bytes",
        "declared",
        "busiest minute",
    ];
    let headings: String = headings
        .iter()
        .map(|heading| format!("<th>{heading}</th>"))
        .collect();
    let mut text = format!(
        "<h2>Clients</h2><p>{} of {}, the dearest first.</p><div class=\"wide\"><table><tr>{headings}</tr>",
        grouped(clients.rows.len() as u64),
        grouped(clients.row_count as u64)
    );
    let rate = |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!("{rate:.1}/s"));
    for row in &clients.rows {
        let over = matches!((row.declared_rate, row.peak_rate), (Some(declared), Some(peak)) if peak > declared);
        let sums = &row.sums;
        let p98 = sums
            .p98_ms
            .map_or_else(String::new, |p98| lasting(p98 / 1e3));
        let cells = [
            escape(row.client.as_deref().unwrap_or_default()),
            grouped(sums.requests),
            grouped(sums.status_4xx),
            grouped(sums.status_5xx),
            grouped(sums.refused),
            grouped(sums.retries),
            lasting(sums.upstream_seconds),
            percent(row.share),
            row.peak_share.map_or_else(String::new, percent),
            p98,
            grouped(sums.cache_hits),
            lasting(sums.saved_upstream_seconds),
            sized(sums.bytes_in + sums.bytes_out),
            rate(row.declared_rate),
            rate(row.peak_rate),
        ];
        text.push_str(if over { "<tr class=\"over\">" } else { "<tr>" });
        for cell in cells {
            let _written = write!(text, "<td>{cell}</td>");
        }
        text.push_str("</tr>");
    }
    text.push_str("</table></div>");
    text
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

fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// `1 234 567`, with spaces that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A time in the unit a person would say it in.
fn lasting(seconds: f64) -> String {
    match seconds {
        0.0 => "0".to_owned(),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        ..120.0 => format!("{seconds:.1} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        ..360_000.0 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.0} h", seconds / 3_600.0),
    }
}

fn sized(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1_024.0 {
            return format!("{size:.0} {unit}");
        }
        size /= 1_024.0;
    }
    format!("{size:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_is_text_and_nothing_else() {
        assert_eq!(escape("<b>'&'</b>"), "&lt;b&gt;&#39;&amp;&#39;&lt;/b&gt;");
    }

    #[test]
    fn numbers_are_as_a_person_reads_them() {
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            (grouped(12), grouped(123)),
            ("12".to_owned(), "123".to_owned())
        );
        let times = [0.0, 0.0123, 5.25, 600.0, 7_300.0, 720_000.0].map(lasting);
        assert_eq!(times, ["0", "12 ms", "5.2 s", "10 min", "2.0 h", "200 h"]);
        assert_eq!(
            [sized(12), sized(2 << 20), sized(3 << 40)],
            ["12 B", "2 MiB", "3.0 TiB"]
        );
    }
}
