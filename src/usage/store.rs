//! The ledger in a database: the same sums by minute, hour and day.
//!
//! A delta is added to all three in one transaction, together with its number: a delta that was written already, and is
//! written again because nobody could tell, changes nothing. So nothing has to be rolled up later, and a report
//! adds whole days to the hours and minutes at its edges. Beside each table stands one of what all clients used, so
//! that a report that does not tell them apart need not read them. A ledger in memory keeps only its dearest rows apart.
//! Depends on the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use super::database::Place;
use super::database::{Database, Record, Result, Value};
use super::migrate::migrate;
use super::rollup::Delta;
use super::squeeze::{squeeze, squeeze_old};
use super::sums::{COUNTS, Latency, Sums};

/// How long each granularity is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Minutes.
    pub minutes: Duration,
    /// Hours.
    pub hours: Duration,
    /// Days.
    pub days: Duration,
}

impl Keep {
    /// Where a report from `from` on begins: a minute, hour or day that is still kept at `now`.
    #[must_use]
    pub fn begin(&self, from: u64, now: u64) -> u64 {
        // An hour more, since what is too old is taken out now and then only.
        let age = now.saturating_sub(from) + 3_600;
        let length = if age < self.minutes.as_secs() {
            60
        } else if age < self.hours.as_secs() {
            3_600
        } else {
            86_400
        };
        from - from % length
    }
}

/// The granularities: table, and length in seconds.
pub(super) const TABLES: [(&str, u64); 3] = [
    ("usage_day", 86_400),
    ("usage_hour", 3_600),
    ("usage_minute", 60),
];

/// How long it is remembered what a process has written.
const WRITER_KEPT: u64 = 8 * 86_400;
/// Rows of a delta that are put together at a time: so little is held besides, however many there are.
const PART: usize = 1_024;
/// Rows that one statement takes.
const CHUNKS: [usize; 3] = [256, 16, 1];

/// Slot, client, route and upstream. Where clients are not told apart there is none.
pub(super) type Key = (u64, Option<Arc<str>>, Arc<str>, Arc<str>);

/// The columns of counts.
pub(super) fn count_columns() -> [&'static str; COUNTS] {
    Sums::default().counts_mut().map(|(column, _)| column)
}

/// The columns that tell the rows of a table apart.
pub(super) const fn key_columns(with_client: bool) -> &'static [&'static str] {
    if with_client {
        &["at", "client", "route", "upstream"]
    } else {
        &["at", "route", "upstream"]
    }
}

/// Reads sums from column `first` on.
pub(super) fn read_sums(row: &Record<'_>, first: usize) -> Result<Sums> {
    let mut sums = Sums::default();
    for (index, (_, count)) in sums.counts_mut().into_iter().enumerate() {
        *count = row.int(first + index)?;
    }
    sums.latency = Latency::decode(row.bytes(first + COUNTS)?);
    Ok(sums)
}

/// `rows` in pieces that statements are kept for.
fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = CHUNKS.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at_checked(size)?;
        rows = rest;
        Some(chunk)
    })
}

/// `($1, $2), ($3, $4)` for `rows` rows of `types`; the first row says what they are.
fn places(rows: usize, types: &[&str]) -> String {
    let one = |row: usize| {
        let place = |(index, of): (usize, &&str)| {
            let number = row * types.len() + index + 1;
            if row == 0 {
                format!("CAST(${number} AS {of})")
            } else {
                format!("${number}")
            }
        };
        let places: Vec<String> = types.iter().enumerate().map(place).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(one).collect::<Vec<_>>().join(", ")
}

/// The open ledger.
#[derive(Debug)]
pub struct Store {
    database: Database,
    keep: Keep,
    in_memory: bool,
    squeezed: u64,
}

impl Store {
    /// Opens the ledger, and makes it when there is none.
    ///
    /// # Errors
    /// When it cannot be opened, is no ledger, or was made by a later version.
    pub fn open(place: &Place, keep: Keep) -> Result<Self> {
        let mut database = Database::writer(place)?;
        migrate(&mut database)?;
        Ok(Self {
            database,
            keep,
            in_memory: matches!(place, Place::Memory(_)),
            squeezed: 0,
        })
    }

    /// Adds `delta`, the `sequence`th of the process that calls itself `writer`; nothing if that is in it already.
    ///
    /// # Errors
    /// When it cannot be written. Then nothing of it is.
    pub fn write(&mut self, writer: u64, sequence: u64, now: u64, delta: &Delta) -> Result<()> {
        let in_memory = self.in_memory;
        self.squeezed += self.database.whole(|database| {
            let fresh = database.change(
                "INSERT INTO usage_writer (writer, sequence, written) VALUES ($1, $2, $3)
                 ON CONFLICT (writer) DO UPDATE SET sequence = excluded.sequence, written = excluded.written
                 WHERE usage_writer.sequence < excluded.sequence",
                &[Value::Int(writer), Value::Int(sequence), Value::Int(now)],
            )?;
            if fresh == 0 {
                return Ok(0);
            }
            for (table, length) in TABLES {
                for part in delta.chunks(PART) {
                    let rows = part.iter().map(|row| {
                        let slot = row.minute - row.minute % length;
                        (slot, &row.client, &row.route, &row.upstream, &row.sums)
                    });
                    add(database, table, rows)?;
                }
            }
            if in_memory {
                return squeeze(database, delta);
            }
            Ok(0)
        })?;
        Ok(())
    }

    /// Rows that were put together with others since it was asked last.
    pub(super) fn take_squeezed(&mut self) -> u64 {
        std::mem::take(&mut self.squeezed)
    }

    /// Takes out what is older than it has to be kept.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn prune(&mut self, now: u64) -> Result<()> {
        let kept = [self.keep.days, self.keep.hours, self.keep.minutes];
        for ((table, _), keep) in TABLES.into_iter().zip(kept) {
            let before = [Value::Int(now.saturating_sub(keep.as_secs()))];
            for table in [table.to_owned(), format!("{table}_total")] {
                let sql = format!("DELETE FROM {table} WHERE at < $1");
                self.database.change(&sql, &before)?;
            }
        }
        if self.in_memory {
            self.squeezed += squeeze_old(&mut self.database, now)?;
        }
        let before = [Value::Int(now.saturating_sub(WRITER_KEPT))];
        let sql = "DELETE FROM usage_writer WHERE written < $1";
        self.database.change(sql, &before)?;
        Ok(())
    }
}

/// Adds `rows` to `table` and to what all clients used beside it: slot, client, route, upstream and sums.
pub(super) fn add<'r>(
    database: &mut Database,
    table: &str,
    rows: impl Iterator<Item = (u64, &'r Arc<str>, &'r Arc<str>, &'r Arc<str>, &'r Sums)>,
) -> Result<()> {
    // Put together first, since one statement may change a row once only; and in order, so that neighbours are.
    let mut each: BTreeMap<Key, Sums> = BTreeMap::new();
    let mut all: BTreeMap<Key, Sums> = BTreeMap::new();
    for (slot, client, route, upstream, sums) in rows {
        let key = |client| (slot, client, Arc::clone(route), Arc::clone(upstream));
        each.entry(key(Some(Arc::clone(client))))
            .or_default()
            .add(sums);
        all.entry(key(None)).or_default().add(sums);
    }
    upsert(database, table, true, each)?;
    upsert(database, &format!("{table}_total"), false, all)
}

pub(super) fn upsert(
    database: &mut Database,
    table: &str,
    with_client: bool,
    rows: BTreeMap<Key, Sums>,
) -> Result<()> {
    let (keys, counts) = (key_columns(with_client), count_columns());
    let columns: Vec<&str> = keys.iter().chain(&counts).copied().collect();
    let types: Vec<&str> = key_types(keys)
        .chain(["bigint"; COUNTS])
        .chain([database.bytes_type()])
        .collect();
    let sums = counts.map(|count| format!("{count} = {table}.{count} + excluded.{count}"));
    let mut rows: Vec<(Key, Sums)> = rows.into_iter().collect();
    merge_stored(database, table, keys, &mut rows)?;
    // Most chunks are of one length, and the statement of one is long.
    let (mut length, mut sql) = (0, String::new());
    for chunk in chunks(&rows) {
        if chunk.len() != length {
            length = chunk.len();
            sql = format!(
                "INSERT INTO {table} ({}, latency) VALUES {}
                 ON CONFLICT ({}) DO UPDATE SET {}, latency = excluded.latency",
                columns.join(", "),
                places(length, &types),
                keys.join(", "),
                sums.join(", "),
            );
        }
        let mut values = Vec::with_capacity(chunk.len() * types.len());
        for (key, sums) in chunk {
            values.extend(key_values(key));
            values.extend(sums.counts().map(Value::Int));
            values.push(Value::Bytes(sums.latency.encode()));
        }
        database.change(&sql, &values)?;
    }
    Ok(())
}

/// Latencies do not add up in the database: what it has of them is put to those of `rows`.
fn merge_stored(
    database: &mut Database,
    table: &str,
    keys: &[&'static str],
    rows: &mut [(Key, Sums)],
) -> Result<()> {
    let of = rows.iter().map(|(key, _)| key_values(key).collect());
    let of: Vec<Vec<Value>> = of.collect();
    let mut stored = Vec::new();
    look_up(database, table, keys, &of, "t.latency", |number, row| {
        stored.push((number, Latency::decode(row.bytes(1)?)));
        Ok(())
    })?;
    for (number, latency) in stored {
        if let Some((_, sums)) = rows.get_mut(number) {
            sums.latency.merge(&latency);
        }
    }
    Ok(())
}

/// Looks each of `of`, values of `keys`, up in `table`, and hands to `take` which it is and the `columns` of `t`, from
/// index 1 on.
pub(super) fn look_up(
    database: &mut Database,
    table: &str,
    keys: &[&'static str],
    of: &[Vec<Value>],
    columns: &str,
    mut take: impl FnMut(usize, &Record<'_>) -> Result<()>,
) -> Result<()> {
    let types: Vec<&str> = key_types(keys).chain(["bigint"]).collect();
    let same = keys.iter().zip(1..);
    let same = same.map(|(key, number)| format!("t.{key} = k.column{number}"));
    let same: Vec<String> = same.collect();
    let mut begin = 0;
    let (mut length, mut sql) = (0, String::new());
    for chunk in chunks(of) {
        let numbered = chunk.iter().zip(begin..);
        let values = numbered.flat_map(|(key, number)| {
            let number = Value::Int(number);
            key.iter().cloned().chain([number])
        });
        if chunk.len() != length {
            length = chunk.len();
            // By the keys first: each is looked up.
            sql = format!(
                "SELECT k.column{}, {columns} FROM (VALUES {}) AS k CROSS JOIN {table} AS t WHERE {}",
                types.len(),
                places(length, &types),
                same.join(" AND "),
            );
        }
        database.ask(&sql, &values.collect::<Vec<_>>(), |row| {
            take(usize::try_from(row.int(0)?).unwrap_or(usize::MAX), row)
        })?;
        begin += chunk.len() as u64;
    }
    Ok(())
}

fn key_types(keys: &[&'static str]) -> impl Iterator<Item = &'static str> {
    keys.iter()
        .map(|key| if *key == "at" { "bigint" } else { "text" })
}

fn key_values((at, client, route, upstream): &Key) -> impl Iterator<Item = Value> {
    let names = client.iter().chain([route, upstream]);
    [Value::Int(*at)]
        .into_iter()
        .chain(names.map(|name| Value::Text(Arc::clone(name))))
}
