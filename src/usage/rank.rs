//! Which rows of a report come first, and how many there are.
//!
//! What a client cost in an hour is no more than what it cost in that day. So where rows are told apart by client and
//! hour, and there are millions of them to a month, the dearest days of clients are looked into, dearest first, until
//! none that is left can hold an hour among the first: Fagin's threshold algorithm. Where all cost about the same it
//! finds nothing soon; then, as for everything else, all rows are put together by the database. Depends on the store.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::database::{Database, Result, Value};
use super::report::{By, First, Key, Question, Stretch};
use super::store::look_up;

/// Days of clients that are looked into at most, and of these at a time.
const DAYS: u64 = 20_000;
const AT_A_TIME: usize = 256;
const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;

/// What rows are ranked by.
pub(super) type Rank = (u64, u64);

/// The first of many rows.
pub(super) struct Ranked {
    limit: usize,
    /// Whatever ranks no higher is not among them.
    floor: Option<Rank>,
    /// What ranks highest, highest first.
    pub(super) keys: Vec<(Rank, Key)>,
    /// How many rows there are.
    pub(super) rows: usize,
}

impl Ranked {
    const fn none(limit: usize) -> Self {
        Self {
            limit,
            floor: None,
            keys: Vec::new(),
            rows: 0,
        }
    }

    fn offer(&mut self, rank: Rank, key: impl FnOnce() -> Result<Key>) -> Result<()> {
        if self.floor.is_none_or(|floor| rank > floor) {
            self.keys.push((rank, key()?));
            // However many there are, not many more than are asked for are held.
            if self.keys.len() >= self.limit.saturating_mul(2).max(1_024) {
                self.cut();
            }
        }
        Ok(())
    }

    fn cut(&mut self) {
        self.keys.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        self.keys.truncate(self.limit);
        if self.keys.len() == self.limit {
            self.floor = self.keys.last().map(|(rank, _)| *rank);
        }
    }
}

/// The keys of the rows that come first.
pub(super) fn ranked(
    ledger: &mut Database,
    question: &Question,
    stretches: &[Stretch],
) -> Result<Ranked> {
    ranked_within(ledger, question, stretches, DAYS)
}

/// The same, after looking into this many days of clients at most.
pub(super) fn ranked_within(
    ledger: &mut Database,
    question: &Question,
    stretches: &[Stretch],
    most: u64,
) -> Result<Ranked> {
    let mut ranked = Ranked::none(question.limit);
    // By the hour, each stretch has hours of its own, in the order of its table: nothing is sorted.
    let apart = if question.is_by(By::Hour) {
        1
    } else {
        stretches.len().max(1)
    };
    let is_looked_into =
        question.is_by(By::Hour) && question.is_by(By::Client) && !ledger.is_squeezed();
    if !is_looked_into || !dearest_days(ledger, question, stretches, most, &mut ranked)? {
        ranked = Ranked::none(question.limit);
        for stretches in stretches.chunks(apart) {
            put_together(ledger, question, stretches, &mut ranked)?;
        }
    }
    ranked.cut();
    Ok(ranked)
}

/// Offers the rows of `stretches`, of whole days only those that can be among the first; whether that could be told.
fn dearest_days(
    ledger: &mut Database,
    question: &Question,
    stretches: &[Stretch],
    most: u64,
    ranked: &mut Ranked,
) -> Result<bool> {
    let mut whole = None;
    for stretch in stretches {
        let (edges, days) = days(stretch);
        // Before the days: the more are known, the sooner the rest is too cheap.
        for edge in edges {
            put_together(ledger, question, &[edge], ranked)?;
        }
        whole = whole.or(days);
    }
    let Some(days) = whole else {
        return Ok(true);
    };
    let found = look_into(ledger, question, &days, most, ranked)?;
    if found {
        ranked.rows += count(ledger, question, &days)?;
    }
    Ok(found)
}

/// A stretch of hours as the whole days in it, if there are any, and what is left at their edges.
fn days(stretch: &Stretch) -> (Vec<Stretch>, Option<Stretch>) {
    let (table, from, to) = *stretch;
    let (begin, end) = (from.next_multiple_of(DAY), to - to % DAY);
    if table != "usage_hour" || begin >= end {
        return (vec![*stretch], None);
    }
    let edges = [(table, from, begin), (table, end, to)];
    let edges = edges.into_iter().filter(|(_, from, to)| from < to);
    (edges.collect(), Some((table, begin, end)))
}

/// The columns that rows are ranked by.
const fn by(question: &Question) -> [&'static str; 2] {
    let (cost, calls) = ("upstream_micros", "requests");
    match question.first {
        First::Dearest => [cost, calls],
        First::Chattiest => [calls, cost],
    }
}

fn selected(keys: &[&str], by: [&str; 2]) -> String {
    let columns = keys.iter().map(|key| (*key).to_owned());
    let sums = by.map(|column| format!("CAST(SUM({column}) AS BIGINT)"));
    columns.chain(sums).collect::<Vec<_>>().join(", ")
}

/// Offers all rows of `stretches`.
fn put_together(
    ledger: &mut Database,
    question: &Question,
    stretches: &[Stretch],
    ranked: &mut Ranked,
) -> Result<()> {
    let slot = match stretches {
        [("usage_hour", ..)] => "at",
        _ => "at - at % 3600",
    };
    let keys = question.columns(slot);
    let part = |(index, (table, _, _)): (usize, &Stretch)| {
        format!(
            "SELECT * FROM {} WHERE at >= ${} AND at < ${}",
            question.table(table),
            index * 2 + 1,
            index * 2 + 2
        )
    };
    let parts: Vec<String> = stretches.iter().enumerate().map(part).collect();
    let group = if keys.is_empty() {
        String::new()
    } else {
        format!("GROUP BY {}", keys.join(", "))
    };
    let sql = format!(
        "SELECT {} FROM ({}) AS used {group}",
        selected(&keys, by(question)),
        parts.join(" UNION ALL ")
    );
    let bounds = stretches.iter().flat_map(|(_, from, to)| [*from, *to]);
    let bounds: Vec<Value> = bounds.map(Value::Int).collect();
    ledger.ask(&sql, &bounds, |row| {
        ranked.rows += 1;
        let rank = (row.int(keys.len())?, row.int(keys.len() + 1)?);
        ranked.offer(rank, || question.key(row, 0))
    })
}

/// How many rows whole days have, told apart by client and hour.
fn count(ledger: &mut Database, question: &Question, (table, from, to): &Stretch) -> Result<usize> {
    let keys = question.columns("at").join(", ");
    let within = format!("FROM {table} WHERE at >= $1 AND at < $2");
    // The order of the table's key tells rows apart one by one, but for upstreams without routes: of these, the database
    // holds those of an hour at a time.
    let (sql, length) = match (question.is_by(By::Route), question.is_by(By::Upstream)) {
        (true, true) => (format!("SELECT COUNT(*) {within}"), to - from),
        (false, true) => (counted(&format!("{keys} {within}")), HOUR),
        (_, false) => (counted(&format!("{keys} {within}")), to - from),
    };
    let mut rows = 0;
    let mut begin = *from;
    while begin < *to {
        let end = begin + length;
        ledger.ask(&sql, &[begin, end].map(Value::Int), |row| {
            rows += row.int(0)?;
            Ok(())
        })?;
        begin = end;
    }
    Ok(usize::try_from(rows).unwrap_or(usize::MAX))
}

fn counted(distinct: &str) -> String {
    format!("SELECT COUNT(*) FROM (SELECT DISTINCT {distinct}) AS used")
}

/// Offers the hours of the clients' dearest days, until no other can be among the first; whether it came to that.
fn look_into(
    ledger: &mut Database,
    question: &Question,
    (table, from, to): &Stretch,
    most: u64,
    ranked: &mut Ranked,
) -> Result<bool> {
    let keys = question.columns("at");
    let by = by(question);
    let [first, second] = by;
    let sql = format!(
        "SELECT {} FROM usage_day WHERE at >= $1 AND at < $2 GROUP BY {}
         ORDER BY SUM({first}) DESC, SUM({second}) DESC LIMIT $3",
        selected(&keys, by),
        keys.join(", "),
    );
    let mut dearest: Vec<(Rank, Key)> = Vec::new();
    let values = [*from, *to, most].map(Value::Int);
    ledger.ask(&sql, &values, |row| {
        let rank = (row.int(keys.len())?, row.int(keys.len() + 1)?);
        // The day it is stands where the hour does.
        dearest.push((rank, question.key(row, 0)?));
        Ok(())
    })?;
    for some in dearest.chunks(AT_A_TIME) {
        let highest = some.first().map(|(rank, _)| *rank);
        if highest.is_some() && ranked.floor >= highest {
            return Ok(true);
        }
        for (key, rank) in hours_of(ledger, question, table, some)? {
            ranked.offer(rank, || Ok(key))?;
        }
        ranked.cut();
    }
    let lowest = dearest.last().map(|(rank, _)| *rank);
    Ok((dearest.len() as u64) < most || ranked.floor >= lowest)
}

/// The hours of `days`, which are days of clients, and their ranks.
fn hours_of(
    ledger: &mut Database,
    question: &Question,
    table: &str,
    days: &[(Rank, Key)],
) -> Result<HashMap<Key, Rank>> {
    let asked: HashSet<&Key> = days.iter().map(|(_, day)| day).collect();
    let clients = days
        .iter()
        .filter_map(|(_, day)| day.hour.zip(day.client.as_deref()));
    let mut slots = Vec::with_capacity(days.len() * 24);
    for (day, client) in clients.collect::<BTreeSet<(u64, &str)>>() {
        let client: Arc<str> = client.into();
        let hours = (0..DAY / HOUR).map(|hour| day + hour * HOUR);
        slots.extend(hours.map(|at| vec![Value::Int(at), Value::Text(Arc::clone(&client))]));
    }
    let columns = question.columns("at").into_iter().chain(by(question));
    let columns: Vec<String> = columns.map(|column| format!("t.{column}")).collect();
    let first = columns.len() - 1;
    let mut found: HashMap<Key, Rank> = HashMap::new();
    let keys = ["at", "client"];
    look_up(
        ledger,
        table,
        &keys,
        &slots,
        &columns.join(", "),
        |_, row| {
            let key = question.key(row, 1)?;
            let day = Key {
                hour: key.hour.map(|hour| hour - hour % DAY),
                ..key.clone()
            };
            // More routes and upstreams may be told apart than are asked for here.
            if asked.contains(&day) {
                let rank = found.entry(key).or_default();
                let more = (row.int(first)?, row.int(first + 1)?);
                *rank = (rank.0.saturating_add(more.0), rank.1.saturating_add(more.1));
            }
            Ok(())
        },
    )?;
    Ok(found)
}
