//! The ledger in a database file (`SQLite`): the same sums by minute, hour and day.
//!
//! A delta is added to all three in one transaction, together with its number: a delta that was written already, and is
//! written again because nobody could tell, changes nothing. So nothing has to be rolled up later, and a report
//! adds whole days to the hours and minutes at its edges. Depends on rusqlite.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, params};

use super::rollup::{BUCKET_COUNT, Delta, Row};

/// Where the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// In memory, under this name: gone with the process.
    Memory(String),
}

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

/// The layout this version writes.
const VERSION: i64 = 1;
/// How long a reader or writer waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// The columns that are summed, in the order of [`Row::sums`].
pub(super) fn columns() -> Vec<String> {
    let named = [
        "requests",
        "refused",
        "errors",
        "attempts",
        "bytes_in",
        "bytes_out",
        "upstream_micros",
    ];
    let latency = (0..BUCKET_COUNT).map(|bucket| format!("latency_{bucket}"));
    named
        .into_iter()
        .map(str::to_owned)
        .chain(latency)
        .collect()
}

/// Opens the ledger to read from it.
///
/// # Errors
/// When it cannot be opened.
pub fn reader(place: &Place) -> rusqlite::Result<Connection> {
    let connection = open(place, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(PATIENCE)?;
    if matches!(place, Place::Memory(_)) {
        // Connections to one database in memory lock each other's tables, and do not wait for each other.
        connection.execute_batch("PRAGMA read_uncommitted = 1")?;
    }
    Ok(connection)
}

fn open(place: &Place, mode: OpenFlags) -> rusqlite::Result<Connection> {
    match place {
        Place::File(path) => {
            Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        }
        Place::Memory(name) => Connection::open_with_flags(
            Path::new(&format!("file:{name}?mode=memory&cache=shared")),
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        ),
    }
}

/// The ledger, open for writing.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    keep: Keep,
}

impl Store {
    /// Opens the ledger, and makes it when there is none.
    ///
    /// # Errors
    /// When it cannot be opened, is no ledger, or was made by a later version.
    pub fn open(place: &Place, keep: Keep) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = open(place, flags)?;
        connection.busy_timeout(PATIENCE)?;
        // Readers go on while a delta is written; a delta that is written survives the process, and the machine but
        // for its last moments, without a wait for the disk each time.
        let _mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        let mut store = Self { connection, keep };
        store.migrate()?;
        Ok(store)
    }

    fn migrate(&mut self) -> rusqlite::Result<()> {
        let version: i64 = self
            .connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == VERSION {
            return Ok(());
        }
        if version > VERSION {
            let message = "the ledger was made by a later version of Tidegate";
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_SCHEMA);
            return Err(rusqlite::Error::SqliteFailure(
                code,
                Some(message.to_owned()),
            ));
        }
        let sums = columns().join(" INTEGER NOT NULL, ");
        let transaction = self.connection.transaction()?;
        for (table, _) in TABLES {
            transaction.execute_batch(&format!(
                "CREATE TABLE {table} (at INTEGER NOT NULL, client TEXT NOT NULL, route TEXT NOT NULL,
                 upstream TEXT NOT NULL, {sums} INTEGER NOT NULL,
                 PRIMARY KEY (at, client, route, upstream)) WITHOUT ROWID;
                 CREATE TABLE {table}_total (at INTEGER PRIMARY KEY, upstream_micros INTEGER NOT NULL);"
            ))?;
        }
        transaction.execute_batch(&format!(
            "CREATE TABLE writer (epoch INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
             PRAGMA user_version = {VERSION};"
        ))?;
        transaction.commit()
    }

    /// Adds `delta`, the `sequence`th of the process that began at `epoch`; nothing if that is in it already.
    ///
    /// # Errors
    /// When it cannot be written. Then nothing of it is.
    pub fn write(&mut self, epoch: u64, sequence: u64, delta: &Delta) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let fresh = transaction.execute(
            "INSERT INTO writer (epoch, sequence) VALUES (?1, ?2)
             ON CONFLICT (epoch) DO UPDATE SET sequence = excluded.sequence
             WHERE sequence < excluded.sequence",
            params![signed(epoch), signed(sequence)],
        )?;
        if fresh == 0 {
            return Ok(());
        }
        for (table, length) in TABLES {
            add(&transaction, table, length, delta)?;
        }
        transaction.commit()
    }

    /// Takes out what is older than it has to be kept.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn prune(&mut self, now: u64) -> rusqlite::Result<()> {
        let kept = [self.keep.days, self.keep.hours, self.keep.minutes];
        for ((table, _), keep) in TABLES.into_iter().zip(kept) {
            let before = signed(now.saturating_sub(keep.as_secs()));
            for table in [table.to_owned(), format!("{table}_total")] {
                let sql = format!("DELETE FROM {table} WHERE at < ?1");
                self.connection.execute(&sql, params![before])?;
            }
        }
        Ok(())
    }
}

fn add(
    transaction: &Transaction<'_>,
    table: &str,
    length: u64,
    delta: &Delta,
) -> rusqlite::Result<()> {
    let columns = columns();
    let places: Vec<String> = (0..columns.len())
        .map(|index| format!("?{}", index + 5))
        .collect();
    let sums: Vec<String> = columns
        .iter()
        .map(|column| format!("{column} = {column} + excluded.{column}"))
        .collect();
    let mut one = transaction.prepare_cached(&format!(
        "INSERT INTO {table} (at, client, route, upstream, {}) VALUES (?1, ?2, ?3, ?4, {})
         ON CONFLICT (at, client, route, upstream) DO UPDATE SET {}",
        columns.join(", "),
        places.join(", "),
        sums.join(", "),
    ))?;
    let mut total = transaction.prepare_cached(&format!(
        "INSERT INTO {table}_total (at, upstream_micros) VALUES (?1, ?2)
         ON CONFLICT (at) DO UPDATE SET upstream_micros = upstream_micros + excluded.upstream_micros"
    ))?;
    for row in delta {
        let at = signed(row.minute - row.minute % length);
        one.raw_bind_parameter(1, at)?;
        one.raw_bind_parameter(2, &*row.client)?;
        one.raw_bind_parameter(3, &*row.route)?;
        one.raw_bind_parameter(4, &*row.upstream)?;
        for (index, value) in values(row).enumerate() {
            one.raw_bind_parameter(index + 5, signed(value))?;
        }
        one.raw_execute()?;
        total.execute(params![at, signed(row.sums.upstream_micros)])?;
    }
    Ok(())
}

/// The sums of `row`, in the order of [`columns`].
fn values(row: &Row) -> impl Iterator<Item = u64> + '_ {
    let sums = &row.sums;
    let named = [
        sums.requests,
        sums.refused,
        sums.errors,
        sums.attempts,
        sums.bytes_in,
        sums.bytes_out,
        sums.upstream_micros,
    ];
    named.into_iter().chain(sums.latency.iter().copied())
}

/// The database counts to 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
