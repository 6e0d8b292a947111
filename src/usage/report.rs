//! Reports over the ledger.
//!
//! A time from any minute to any other is whole days, the hours at their edges, and the minutes at theirs. Whoever asks
//! for what is no longer kept that fine begins earlier, at what is: see [`Keep::begin`]. Depends on the store.
//!
//! [`Keep::begin`]: super::store::Keep::begin

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rollup::{BUCKET_COUNT, OTHER, Sums};
use super::store::{TABLES, columns, signed};

/// What rows are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The client.
    Client,
    /// The route.
    Route,
    /// The upstream.
    Upstream,
    /// The hour it happened in.
    Hour,
}

impl By {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Route => "route",
            Self::Upstream => "upstream",
            Self::Hour => "hour",
        }
    }

    /// What `word` means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Client, Self::Route, Self::Upstream, Self::Hour]
            .into_iter()
            .find(|by| by.as_str() == word)
    }

    const fn column(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Route => "route",
            Self::Upstream => "upstream",
            Self::Hour => "at - at % 3600",
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// From this second on, since the Unix epoch; rounded down to a minute.
    pub from: u64,
    /// Up to this one; rounded up to a minute.
    pub to: u64,
    /// What rows are told apart by, in this order.
    pub by: Vec<By>,
    /// Rows at most; those that cost most.
    pub limit: usize,
}

/// One row of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// The client, if rows are told apart by it.
    pub client: Option<String>,
    /// The route, likewise.
    pub route: Option<String>,
    /// The upstream, likewise.
    pub upstream: Option<String>,
    /// When the hour began, in seconds since the Unix epoch, likewise.
    pub hour: Option<u64>,
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
    /// The rows, dearest first.
    pub lines: Vec<Line>,
    /// How many rows there are, those beyond the limit among them.
    pub rows: usize,
}

impl Report {
    fn keep_dearest(&mut self, limit: usize) {
        let cost = |line: &Line| (line.sums.upstream_micros, line.sums.requests);
        self.lines.sort_by_key(|line| std::cmp::Reverse(cost(line)));
        self.lines.truncate(limit);
    }
}

/// One stretch of one table.
type Stretch = (&'static str, u64, u64);

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

/// Answers `question`.
///
/// # Errors
/// When the ledger cannot be read.
pub fn report(ledger: &Connection, question: &Question) -> rusqlite::Result<Report> {
    let coarsest = usize::from(question.by.contains(&By::Hour));
    let stretches = stretches(question.from, question.to, coarsest);
    if stretches.is_empty() {
        return Ok(Report::default());
    }
    let all = columns();
    let sums = all.iter().map(|column| format!("SUM({column})"));
    let sums: Vec<String> = sums.collect();
    let keys: Vec<&str> = question.by.iter().map(|by| by.column()).collect();
    let parts = stretches.iter().map(|(table, _, _)| {
        format!(
            "SELECT at, client, route, upstream, {} FROM {table} WHERE at >= ? AND at < ?",
            all.join(", ")
        )
    });
    let parts: Vec<String> = parts.collect();
    let group = if keys.is_empty() {
        String::new()
    } else {
        format!("GROUP BY {}", keys.join(", "))
    };
    let selected: Vec<String> = keys
        .iter()
        .map(|key| (*key).to_owned())
        .chain(sums)
        .collect();
    let sql = format!(
        "SELECT {} FROM ({}) {group}",
        selected.join(", "),
        parts.join(" UNION ALL ")
    );
    let bounds = stretches
        .iter()
        .flat_map(|(_, from, to)| [signed(*from), signed(*to)]);
    let mut statement = ledger.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(bounds))?;
    let mut report = Report::default();
    while let Some(row) = rows.next()? {
        let mut line = Line::default();
        for (index, by) in question.by.iter().enumerate() {
            match by {
                By::Client => line.client = row.get(index)?,
                By::Route => line.route = row.get(index)?,
                By::Upstream => line.upstream = row.get(index)?,
                By::Hour => line.hour = Some(unsigned(row.get(index)?)),
            }
        }
        line.sums = read_sums(row, question.by.len())?;
        report.total.add(&line.sums);
        report.rows += 1;
        report.lines.push(line);
        // However many there are, not many more than are asked for are held.
        if report.lines.len() >= question.limit.saturating_mul(2).max(1_024) {
            report.keep_dearest(question.limit);
        }
    }
    report.keep_dearest(question.limit);
    if !question.by.contains(&By::Hour) {
        add_peak(ledger, question, &mut report)?;
    }
    Ok(report)
}

fn read_sums(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Sums> {
    let number = |index: usize| -> rusqlite::Result<u64> {
        let value: Option<i64> = row.get(first + index)?;
        Ok(unsigned(value.unwrap_or(0)))
    };
    let mut sums = Sums {
        requests: number(0)?,
        refused: number(1)?,
        errors: number(2)?,
        attempts: number(3)?,
        bytes_in: number(4)?,
        bytes_out: number(5)?,
        upstream_micros: number(6)?,
        latency: [0; BUCKET_COUNT],
    };
    for (bucket, count) in sums.latency.iter_mut().enumerate() {
        *count = number(7 + bucket)?;
    }
    Ok(sums)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Up to this many seconds the peak is made of minutes, beyond it of hours.
const BY_MINUTES: u64 = 2 * 86_400;

/// Says what part of the busiest twentieth of the range each line had.
fn add_peak(ledger: &Connection, question: &Question, report: &mut Report) -> rusqlite::Result<()> {
    let fine = question.to.saturating_sub(question.from) <= BY_MINUTES;
    let Some((table, length)) = TABLES.get(if fine { 2 } else { 1 }).copied() else {
        return Ok(());
    };
    let (from, to) = (
        signed(question.from - question.from % length),
        signed(question.to),
    );
    let slots: i64 = ledger.query_row(
        &format!("SELECT COUNT(*) FROM {table}_total WHERE at >= ?1 AND at < ?2"),
        [from, to],
        |row| row.get(0),
    )?;
    // The busiest twentieth of the slots in which anything happened, at least one.
    let most = (slots / 20).max(1);
    let keys: Vec<&str> = question.by.iter().map(|by| by.column()).collect();
    let group = if keys.is_empty() {
        "1".to_owned()
    } else {
        keys.join(", ")
    };
    let sql = format!(
        "WITH peak AS (SELECT at FROM {table}_total WHERE at >= ?1 AND at < ?2
                       ORDER BY upstream_micros DESC, at LIMIT ?3)
         SELECT {group}, SUM(upstream_micros) FROM {table} WHERE at IN (SELECT at FROM peak) GROUP BY {group}"
    );
    let mut statement = ledger.prepare_cached(&sql)?;
    let mut rows = statement.query([from, to, most])?;
    let mut shares: HashMap<Vec<String>, u64> = HashMap::new();
    let mut all = 0;
    while let Some(row) = rows.next()? {
        let width = keys.len().max(1);
        let mut key = Vec::with_capacity(keys.len());
        for index in 0..keys.len() {
            key.push(row.get::<_, String>(index)?);
        }
        let micros = unsigned(row.get(width)?);
        all += micros;
        shares.insert(key, micros);
    }
    if all == 0 {
        return Ok(());
    }
    for line in &mut report.lines {
        let part = |by: &By| match by {
            By::Client => line.client.clone(),
            By::Route => line.route.clone(),
            By::Upstream => line.upstream.clone(),
            By::Hour => None,
        };
        let key: Vec<String> = question.by.iter().filter_map(part).collect();
        let micros = shares.get(&key).copied().unwrap_or(0);
        line.peak_share = Some(micros as f64 / all as f64);
    }
    Ok(())
}

/// The most requests that each of `clients` sent in any minute of the range, as far as minutes are kept.
///
/// # Errors
/// When the ledger cannot be read.
pub fn peak_minutes(
    ledger: &Connection,
    question: &Question,
    clients: &[String],
) -> rusqlite::Result<HashMap<String, u64>> {
    // By the minutes first, and in each by the key: a scan of all clients would take a hundred times as long.
    let sql = format!(
        "SELECT client, MAX(requests) FROM (
           SELECT m.client AS client, SUM(m.requests) AS requests
           FROM usage_minute_total t CROSS JOIN usage_minute m ON m.at = t.at AND m.client IN ({})
           WHERE t.at >= ? AND t.at < ? GROUP BY m.at, m.client)
         GROUP BY client",
        places(clients.len())
    );
    let mut found = HashMap::new();
    if clients.is_empty() {
        return Ok(found);
    }
    let mut statement = ledger.prepare(&sql)?;
    let mut rows = statement.query(bound(clients, question))?;
    while let Some(row) = rows.next()? {
        found.insert(row.get(0)?, unsigned(row.get(1)?));
    }
    Ok(found)
}

/// The cost by the hour of `clients`, and under [`OTHER`] of everybody else: hour, client, microseconds.
///
/// # Errors
/// When the ledger cannot be read.
pub fn hours(
    ledger: &Connection,
    question: &Question,
    clients: &[String],
) -> rusqlite::Result<Vec<(u64, String, u64)>> {
    let mut others: BTreeMap<u64, u64> = BTreeMap::new();
    let range = [
        signed(question.from - question.from % 3_600),
        signed(question.to),
    ];
    let mut statement = ledger.prepare_cached(
        "SELECT at, upstream_micros FROM usage_hour_total WHERE at >= ?1 AND at < ?2",
    )?;
    let mut rows = statement.query(range)?;
    while let Some(row) = rows.next()? {
        others.insert(unsigned(row.get(0)?), unsigned(row.get(1)?));
    }
    let mut found = Vec::new();
    if !clients.is_empty() {
        let sql = format!(
            "SELECT h.at, h.client, SUM(h.upstream_micros)
             FROM usage_hour_total t CROSS JOIN usage_hour h ON h.at = t.at AND h.client IN ({})
             WHERE t.at >= ? AND t.at < ? GROUP BY h.at, h.client",
            places(clients.len())
        );
        let mut statement = ledger.prepare(&sql)?;
        let from = question.from - question.from % 3_600;
        let question = Question {
            from,
            ..question.clone()
        };
        let mut rows = statement.query(bound(clients, &question))?;
        while let Some(row) = rows.next()? {
            let (hour, micros) = (unsigned(row.get(0)?), unsigned(row.get(2)?));
            found.push((hour, row.get(1)?, micros));
            if let Some(rest) = others.get_mut(&hour) {
                *rest = rest.saturating_sub(micros);
            }
        }
    }
    let rest = others.into_iter().filter(|(_, micros)| *micros > 0);
    found.extend(rest.map(|(hour, micros)| (hour, OTHER.to_owned(), micros)));
    Ok(found)
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn bound(clients: &[String], question: &Question) -> impl rusqlite::Params {
    let names = clients.iter().map(|name| Value::from(name.clone()));
    let range = [question.from, question.to].map(|at| Value::from(signed(at)));
    params_from_iter(names.chain(range).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::usage::rollup::Row;
    use crate::usage::store::{Keep, Place, Store, reader};

    const DAY: u64 = 86_400;
    const KEEP: Keep = Keep {
        minutes: Duration::from_secs(8 * DAY),
        hours: Duration::from_secs(90 * DAY),
        days: Duration::from_secs(400 * DAY),
    };

    fn row(minute: u64, client: &str, requests: u64) -> Row {
        let mut sums = Sums {
            requests,
            upstream_micros: requests * 1_000,
            bytes_out: requests * 10,
            ..Sums::default()
        };
        sums.latency[1] = requests;
        Row {
            minute,
            client: client.into(),
            route: "all".into(),
            upstream: "app".into(),
            sums,
        }
    }

    fn asked(from: u64, to: u64, by: &[By]) -> Question {
        Question {
            from,
            to,
            by: by.to_vec(),
            limit: 1_000,
        }
    }

    #[test]
    fn a_range_is_whole_days_and_what_is_left_at_its_edges() {
        let hour = 3_600;
        assert_eq!(
            stretches(DAY - hour - 60, 2 * DAY + 60, 0),
            [
                ("usage_minute", DAY - hour - 60, DAY - hour),
                ("usage_hour", DAY - hour, DAY),
                ("usage_day", DAY, 2 * DAY),
                ("usage_minute", 2 * DAY, 2 * DAY + 60),
            ]
        );
        assert_eq!(stretches(30, 90, 0), [("usage_minute", 0, 120)]);
        assert_eq!(stretches(0, 0, 0), []);
        assert!(
            stretches(0, 3 * DAY, 1)
                .iter()
                .all(|(table, ..)| *table != "usage_day")
        );
    }

    #[test]
    fn whatever_is_asked_the_sums_are_those_of_the_minutes() {
        let place = Place::Memory("sums".to_owned());
        let mut store = Store::open(&place, KEEP).unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let begin = 20_000 * DAY;
        let mut rows = Vec::new();
        for _ in 0..3_000 {
            let minute = begin + rng.u64(0..3 * 1_440) * 60;
            rows.push(row(minute, ["a", "b", "c"][rng.usize(0..3)], rng.u64(1..9)));
        }
        for (sequence, delta) in (1..).zip(rows.chunks(100)) {
            store.write(1, sequence, &delta.to_vec()).unwrap();
        }
        let ledger = reader(&place).unwrap();
        for _ in 0..50 {
            let from = begin + rng.u64(0..3 * 1_440) * 60;
            let to = from + rng.u64(1..2 * 1_440) * 60;
            let inside = |row: &&Row| (from..to).contains(&row.minute);
            let exact: u64 = rows
                .iter()
                .filter(inside)
                .map(|row| row.sums.requests)
                .sum();
            for by in [
                &[][..],
                &[By::Client],
                &[By::Hour, By::Client],
                &[By::Route, By::Upstream],
            ] {
                let report = report(&ledger, &asked(from, to, by)).unwrap();
                assert_eq!(report.total.requests, exact, "{from} {to} {by:?}");
            }
        }
    }

    #[test]
    fn of_many_rows_the_dearest_are_kept_and_all_are_counted() {
        let place = Place::Memory("many".to_owned());
        let mut store = Store::open(&place, KEEP).unwrap();
        let delta = (0..3_000).map(|client| row(60, &client.to_string(), client + 1));
        store.write(1, 1, &delta.collect()).unwrap();
        let question = Question {
            limit: 2,
            ..asked(0, 120, &[By::Client])
        };
        let report = report(&reader(&place).unwrap(), &question).unwrap();
        let clients: Vec<_> = report
            .lines
            .iter()
            .map(|line| line.client.as_deref().unwrap())
            .collect();
        assert_eq!(
            (clients.as_slice(), report.rows),
            (&["2999", "2998"][..], 3_000)
        );
        assert_eq!(report.total.requests, 3_000 * 3_001 / 2);
    }

    #[test]
    fn what_is_written_again_counts_once() {
        let place = Place::Memory("once".to_owned());
        let mut store = Store::open(&place, KEEP).unwrap();
        let delta = vec![row(60, "a", 5)];
        store.write(1, 1, &delta).unwrap();
        store.write(1, 1, &delta).unwrap();
        store.write(2, 1, &delta).unwrap();
        store.write(1, 2, &delta).unwrap();
        let report = report(&reader(&place).unwrap(), &asked(0, DAY, &[])).unwrap();
        assert_eq!(report.total.requests, 15);
    }

    #[test]
    fn the_peak_is_the_busiest_twentieth() {
        let place = Place::Memory("peak".to_owned());
        let mut store = Store::open(&place, KEEP).unwrap();
        let mut delta: Vec<Row> = (0..40)
            .map(|minute| row(minute * 60, "steady", 10))
            .collect();
        delta.extend([row(0, "borrower", 90), row(60, "borrower", 90)]);
        store.write(1, 1, &delta).unwrap();
        let ledger = reader(&place).unwrap();
        let report = report(&ledger, &asked(0, 2_400, &[By::Client])).unwrap();
        let shares: Vec<_> = report
            .lines
            .iter()
            .map(|line| line.peak_share.unwrap())
            .collect();
        assert_eq!(report.lines[0].client.as_deref(), Some("steady"));
        assert!(
            (shares[0] - 0.1).abs() < 1e-9 && (shares[1] - 0.9).abs() < 1e-9,
            "{shares:?}"
        );
        let most = peak_minutes(&ledger, &asked(0, 2_400, &[]), &["borrower".to_owned()]);
        assert_eq!(most.unwrap()["borrower"], 90);
        let hours = hours(&ledger, &asked(0, 2_400, &[]), &["borrower".to_owned()]).unwrap();
        let other = (0, OTHER.to_owned(), 400_000);
        assert_eq!(hours, [(0, "borrower".to_owned(), 180_000), other]);
    }

    #[test]
    fn what_is_too_old_goes() {
        let place = Place::Memory("old".to_owned());
        let mut store = Store::open(&place, KEEP).unwrap();
        let now = 20_000 * DAY;
        store
            .write(
                1,
                1,
                &vec![row(now - 9 * DAY, "a", 1), row(now - 401 * DAY, "a", 2)],
            )
            .unwrap();
        store.prune(now).unwrap();
        let ledger = reader(&place).unwrap();
        let day = asked(now - 9 * DAY, now - 8 * DAY, &[]);
        assert_eq!(report(&ledger, &day).unwrap().total.requests, 1);
        let minute = asked(now - 9 * DAY, now - 9 * DAY + 60, &[]);
        assert_eq!(report(&ledger, &minute).unwrap().total.requests, 0);
        assert_eq!(
            report(&ledger, &asked(0, now, &[])).unwrap().total.requests,
            1
        );
    }

    #[test]
    fn a_file_that_is_no_ledger_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidegate.db");
        std::fs::write(
            &path,
            "not a database, and longer than a page header has to be, really",
        )
        .unwrap();
        assert!(Store::open(&Place::File(path.clone()), KEEP).is_err());
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .starts_with("not a database")
        );
    }
}
