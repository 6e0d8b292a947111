//! What a report says of peaks, and what it draws: the busiest twentieth of the range, the busiest minute of a client, and
//! cost by the hour. Depends on the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::database::{Database, Result, Value};
use super::report::{Places, Question, Report};
use super::rollup::OTHER;
use super::store::TABLES;

/// Up to this many seconds the peak is made of minutes, beyond it of hours.
const BY_MINUTES: u64 = 2 * 86_400;

/// Says what part of the busiest twentieth of the range each line had.
pub(super) fn add_peak(
    ledger: &mut Database,
    question: &Question,
    report: &mut Report,
    places: &Places,
) -> Result<()> {
    let fine = question.to.saturating_sub(question.from) <= BY_MINUTES;
    let Some((table, length)) = TABLES.get(if fine { 2 } else { 1 }).copied() else {
        return Ok(());
    };
    let range = [question.from - question.from % length, question.to].map(Value::Int);
    let mut slots = 0;
    let sql = format!("SELECT COUNT(DISTINCT at) FROM {table}_total WHERE at >= $1 AND at < $2");
    ledger.ask(&sql, &range, |row| {
        slots = row.int(0)?;
        Ok(())
    })?;
    let keys = question.columns("at");
    let columns = keys.iter().map(|key| format!("t.{key}"));
    let columns: Vec<String> = columns.collect();
    let group = if columns.is_empty() {
        String::new()
    } else {
        format!("GROUP BY {}", columns.join(", "))
    };
    let selected = columns.iter().map(String::as_str);
    let selected: Vec<&str> = selected
        .chain(["CAST(SUM(t.upstream_micros) AS BIGINT)"])
        .collect();
    // The busiest twentieth of the slots in which anything happened, at least one.
    let sql = format!(
        "SELECT {} FROM (SELECT at FROM {table}_total WHERE at >= $1 AND at < $2
           GROUP BY at ORDER BY SUM(upstream_micros) DESC, at LIMIT $3) AS peak
         CROSS JOIN {} AS t WHERE t.at = peak.at {group}",
        selected.join(", "),
        question.table(table),
    );
    let [from, to] = range;
    let mut all = 0;
    let mut had: HashMap<usize, u64> = HashMap::new();
    ledger.ask(&sql, &[from, to, Value::Int((slots / 20).max(1))], |row| {
        let micros = row.int(keys.len())?;
        all += micros;
        if let Some(place) = places.get(&question.key(row, 0)?) {
            had.insert(*place, micros);
        }
        Ok(())
    })?;
    if all > 0 {
        for (place, line) in report.lines.iter_mut().enumerate() {
            let micros = had.get(&place).copied().unwrap_or(0);
            line.peak_share = Some(micros as f64 / all as f64);
        }
    }
    Ok(())
}

/// The most requests that each of `clients` sent in any minute of the range, as far as minutes are kept.
///
/// # Errors
/// When the ledger cannot be read.
pub fn peak_minutes(
    ledger: &mut Database,
    question: &Question,
    clients: &[String],
) -> Result<HashMap<String, u64>> {
    let mut found = HashMap::new();
    if clients.is_empty() {
        return Ok(found);
    }
    // By the minutes first, and in each by the key: a scan of all clients would take a hundred times as long.
    let sql = format!(
        "SELECT client, MAX(requests) FROM (
           SELECT m.client AS client, CAST(SUM(m.requests) AS BIGINT) AS requests
           FROM (SELECT DISTINCT at FROM usage_minute_total WHERE at >= $1 AND at < $2) AS t
           CROSS JOIN usage_minute AS m WHERE m.at = t.at AND m.client IN ({})
           GROUP BY m.at, m.client) AS minutes
         GROUP BY client",
        listed(clients)
    );
    ledger.ask(&sql, &within(question.from, question, clients), |row| {
        found.insert(row.text(0)?.to_owned(), row.int(1)?);
        Ok(())
    })?;
    Ok(found)
}

/// The cost by the hour of `clients`, and under [`OTHER`] of everybody else: hour, client, microseconds.
///
/// # Errors
/// When the ledger cannot be read.
pub fn hours(
    ledger: &mut Database,
    question: &Question,
    clients: &[String],
) -> Result<Vec<(u64, String, u64)>> {
    let from = question.from - question.from % 3_600;
    let mut others: BTreeMap<u64, u64> = BTreeMap::new();
    let sql = "SELECT at, CAST(SUM(upstream_micros) AS BIGINT) FROM usage_hour_total
               WHERE at >= $1 AND at < $2 GROUP BY at";
    ledger.ask(sql, &within(from, question, &[]), |row| {
        others.insert(row.int(0)?, row.int(1)?);
        Ok(())
    })?;
    let mut found = Vec::new();
    if !clients.is_empty() {
        let sql = format!(
            "SELECT h.at, h.client, CAST(SUM(h.upstream_micros) AS BIGINT)
             FROM (SELECT DISTINCT at FROM usage_hour_total WHERE at >= $1 AND at < $2) AS t
             CROSS JOIN usage_hour AS h WHERE h.at = t.at AND h.client IN ({})
             GROUP BY h.at, h.client",
            listed(clients)
        );
        ledger.ask(&sql, &within(from, question, clients), |row| {
            let (hour, micros) = (row.int(0)?, row.int(2)?);
            found.push((hour, row.text(1)?.to_owned(), micros));
            if let Some(rest) = others.get_mut(&hour) {
                *rest = rest.saturating_sub(micros);
            }
            Ok(())
        })?;
    }
    let rest = others.into_iter().filter(|(_, micros)| *micros > 0);
    found.extend(rest.map(|(hour, micros)| (hour, OTHER.to_owned(), micros)));
    Ok(found)
}

/// `$3, $4`: one for each of `clients`, behind the range.
fn listed(clients: &[String]) -> String {
    let places = (3..).take(clients.len()).map(|place| format!("${place}"));
    places.collect::<Vec<_>>().join(", ")
}

fn within(from: u64, question: &Question, clients: &[String]) -> Vec<Value> {
    let names = clients
        .iter()
        .map(|name| Value::Text(Arc::from(name.as_str())));
    let range = [from, question.to].map(Value::Int);
    range.into_iter().chain(names).collect()
}
