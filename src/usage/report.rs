//! Reports over the ledger.
//!
//! A time from any minute to any other is whole days, the hours at their edges, and the minutes at theirs. Whoever asks
//! for what is no longer kept that fine begins earlier, at what is: see [`Keep::begin`]. A report reads twice: first what
//! it ranks its rows by, see `rank`; then everything, of those it shows. So it holds no more than it shows, however
//! many there are. Depends on the store.
//!
//! [`Keep::begin`]: super::store::Keep::begin

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use super::database::{Database, Error, Result};
use super::database::{Record, Value};
use super::peak::add_peak;
pub use super::peak::{hours, peak_minutes};
use super::rank::ranked;
use super::store::{TABLES, count_columns, look_up, read_sums};
use super::sums::Sums;

/// What rows are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The hour it happened in.
    Hour,
    /// The client.
    Client,
    /// The route.
    Route,
    /// The upstream.
    Upstream,
}

impl By {
    /// All of them, in the order of the tables' keys.
    const ALL: [Self; 4] = [Self::Hour, Self::Client, Self::Route, Self::Upstream];

    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Client => "client",
            Self::Route => "route",
            Self::Upstream => "upstream",
        }
    }

    /// What `word` means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == word)
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Whoever cost most.
    Dearest,
    /// Whoever asked most often.
    Chattiest,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// From this second on, since the Unix epoch; rounded down to a minute.
    pub from: u64,
    /// Up to this one; rounded up to a minute.
    pub to: u64,
    /// What rows are told apart by.
    pub by: Vec<By>,
    /// What comes first.
    pub first: First,
    /// Rows at most.
    pub limit: usize,
}

impl Question {
    pub(super) fn is_by(&self, by: By) -> bool {
        self.by.contains(&by)
    }

    /// What its time is made of.
    fn stretches(&self) -> Vec<Stretch> {
        stretches(self.from, self.to, usize::from(self.is_by(By::Hour)))
    }

    /// The columns that tell rows apart, in the order of the tables' keys; `slot` for the hour.
    pub(super) fn columns(&self, slot: &'static str) -> Vec<&'static str> {
        let asked = By::ALL.into_iter().filter(|by| self.is_by(*by));
        let column = |by| match by {
            By::Hour => slot,
            other => other.as_str(),
        };
        asked.map(column).collect()
    }

    /// The table to read, of one by its name: that of all clients where they are not told apart.
    pub(super) fn table(&self, name: &str) -> String {
        if self.is_by(By::Client) {
            name.to_owned()
        } else {
            format!("{name}_total")
        }
    }

    /// The key in a record whose [`columns`](Self::columns) begin at index `first`.
    pub(super) fn key(&self, row: &Record<'_>, first: usize) -> Result<Key> {
        let mut key = Key::default();
        let asked = By::ALL.into_iter().filter(|by| self.is_by(*by));
        for (index, by) in (first..).zip(asked) {
            match by {
                By::Hour => key.hour = Some(row.int(index)? / 3_600 * 3_600),
                By::Client => key.client = Some(row.text(index)?.to_owned()),
                By::Route => key.route = Some(row.text(index)?.to_owned()),
                By::Upstream => key.upstream = Some(row.text(index)?.to_owned()),
            }
        }
        Ok(key)
    }
}

/// What tells a row apart from others; of what is not asked for, none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// When the hour began, in seconds since the Unix epoch.
    pub hour: Option<u64>,
    /// The client.
    pub client: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// The upstream.
    pub upstream: Option<String>,
}

/// One row of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Whose it is.
    pub key: Key,
    /// What was used.
    pub sums: Sums,
    /// Its part of the upstreams' time in the busiest twentieth of the range.
    pub peak_share: Option<f64>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Over all rows, those beyond the limit among them.
    pub total: Sums,
    /// The rows.
    pub lines: Vec<Line>,
    /// How many rows there are, those beyond the limit among them.
    pub rows: usize,
}

/// Where in a report each key stands.
pub(super) type Places = HashMap<Key, usize>;

/// One stretch of one table.
pub(super) type Stretch = (&'static str, u64, u64);

/// What the time from `from` to `to` is made of, from `coarsest` on: indices into the tables.
fn stretches(from: u64, to: u64, coarsest: usize) -> Vec<Stretch> {
    let Some((table, length)) = TABLES.get(coarsest).copied() else {
        return Vec::new();
    };
    let last = coarsest + 1 == TABLES.len();
    if last {
        let (from, to) = (from - from % length, to.next_multiple_of(length));
        return if from < to {
            vec![(table, from, to)]
        } else {
            Vec::new()
        };
    }
    let (begin, end) = (from.next_multiple_of(length), to - to % length);
    if begin >= end {
        return stretches(from, to, coarsest + 1);
    }
    let mut all = Vec::new();
    if from < begin {
        all.extend(stretches(from, begin, coarsest + 1));
    }
    all.push((table, begin, end));
    if end < to {
        all.extend(stretches(end, to, coarsest + 1));
    }
    all
}

/// The keys of the rows that come first, and nothing else of them.
///
/// # Errors
/// When the ledger cannot be read.
pub fn first(ledger: &mut Database, question: &Question) -> Result<Vec<Key>> {
    let ranked = ranked(ledger, question, &question.stretches())?;
    Ok(ranked.keys.into_iter().map(|(_, key)| key).collect())
}

/// Answers `question`.
///
/// # Errors
/// When the ledger cannot be read.
pub fn report(ledger: &mut Database, question: &Question) -> Result<Report> {
    let stretches = question.stretches();
    if stretches.is_empty() {
        return Ok(Report::default());
    }
    let ranked = ranked(ledger, question, &stretches)?;
    let line = |(_, key)| Line {
        key,
        ..Line::default()
    };
    let mut report = Report {
        rows: ranked.rows,
        lines: ranked.keys.into_iter().map(line).collect(),
        total: Sums::default(),
    };
    let keys = report.lines.iter().map(|line| line.key.clone());
    let places: Places = keys.zip(0..).collect();
    add_total(ledger, question, &stretches, &mut report, &places)?;
    if question.is_by(By::Client) && question.is_by(By::Hour) {
        fill_hours(ledger, question, &stretches, &mut report, &places)?;
    } else if question.is_by(By::Client) {
        fill(ledger, question, &stretches, &mut report, &places)?;
    }
    if !question.is_by(By::Hour) {
        add_peak(ledger, question, &mut report, &places)?;
    }
    Ok(report)
}

/// Adds up what all used; and the lines', where they do not tell clients apart.
fn add_total(
    ledger: &mut Database,
    question: &Question,
    stretches: &[Stretch],
    report: &mut Report,
    places: &Places,
) -> Result<()> {
    let lines = !question.is_by(By::Client);
    let keys = if lines {
        question.columns("at")
    } else {
        Vec::new()
    };
    each(ledger, "_total", &keys, stretches, |row| {
        let sums = read_sums(row, keys.len())?;
        report.total.add(&sums);
        if lines {
            add_to(report, places, &question.key(row, 0)?, &sums);
        }
        Ok(())
    })
}

/// Fills lines that are told apart by client, and not by the hour.
fn fill(
    ledger: &mut Database,
    question: &Question,
    stretches: &[Stretch],
    report: &mut Report,
    places: &Places,
) -> Result<()> {
    let keys = question.columns("at");
    each(ledger, "", &keys, stretches, |row| {
        let key = question.key(row, 0)?;
        if places.contains_key(&key) {
            add_to(report, places, &key, &read_sums(row, keys.len())?);
        }
        Ok(())
    })
}

/// Hands every row of `stretches` to `take`, with `keys` and all sums.
fn each(
    ledger: &mut Database,
    kind: &str,
    keys: &[&str],
    stretches: &[Stretch],
    mut take: impl FnMut(&Record<'_>) -> Result<()>,
) -> Result<()> {
    for (table, from, to) in stretches {
        let columns = everything(keys);
        let sql = format!("SELECT {columns} FROM {table}{kind} WHERE at >= $1 AND at < $2");
        ledger.ask(&sql, &[Value::Int(*from), Value::Int(*to)], &mut take)?;
    }
    Ok(())
}

/// Fills lines that are told apart by hour and client: there are many more than are shown, and each is looked up.
fn fill_hours(
    ledger: &mut Database,
    question: &Question,
    stretches: &[Stretch],
    report: &mut Report,
    places: &Places,
) -> Result<()> {
    let keys = question.columns("at");
    let columns = everything(&keys);
    // Each once, however many routes and upstreams of it are shown.
    let shown = places
        .keys()
        .filter_map(|key| key.hour.zip(key.client.as_deref()));
    let shown: BTreeSet<(u64, &str)> = shown.collect();
    for (table, from, to) in stretches {
        let length = if *table == "usage_hour" { 3_600 } else { 60 };
        let mut slots = Vec::new();
        for (hour, client) in &shown {
            let client: Arc<str> = (*client).into();
            let within = (*from.max(hour)..(hour + 3_600).min(*to)).step_by(length);
            slots.extend(within.map(|at| vec![Value::Int(at), Value::Text(Arc::clone(&client))]));
        }
        look_up(
            ledger,
            table,
            &["at", "client"],
            &slots,
            &columns,
            |_, row| {
                let key = question.key(row, 1)?;
                // More routes and upstreams than are shown may be told apart.
                if places.contains_key(&key) {
                    add_to(report, places, &key, &read_sums(row, keys.len() + 1)?);
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// What reads `keys` and all sums.
fn everything(keys: &[&str]) -> String {
    let columns = keys.iter().copied().chain(count_columns());
    let columns: Vec<&str> = columns.chain(["latency"]).collect();
    columns.join(", ")
}

fn add_to(report: &mut Report, places: &Places, key: &Key, sums: &Sums) {
    let place = places.get(key);
    if let Some(line) = place.and_then(|place| report.lines.get_mut(*place)) {
        line.sums.add(sums);
    }
}

#[cfg(test)]
mod tests;
