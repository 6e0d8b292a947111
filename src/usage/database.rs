//! A connection to the database the ledger is in, and what differs from one to the other.
//!
//! Statements are written once, in the SQL that all of them share, with `$1`, `$2` … for values in the order they are
//! first named. Depends on rusqlite.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Value as Cell, ValueRef};
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

/// How long a reader or writer waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// Prepared statements kept.
const STATEMENTS: usize = 64;

/// Where the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// In memory, under this name: gone with the process.
    Memory(String),
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It said so.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// It holds a ledger of a layout that this version does not know.
    #[error("the ledger was made by a later version of Tidegate")]
    Later,
}

/// Whether it did.
pub type Result<T> = std::result::Result<T, Error>;

/// A value that a statement is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Int(u64),
    Text(Arc<str>),
    Bytes(Vec<u8>),
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Int(value) => ToSqlOutput::Owned(Cell::Integer(signed(*value))),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

/// The database counts to 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A row of an answer.
pub(super) struct Record<'r>(&'r Row<'r>);

impl Record<'_> {
    /// A count; 0 where there is none.
    pub(super) fn int(&self, index: usize) -> Result<u64> {
        let value: Option<i64> = self.0.get(index)?;
        Ok(value
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(0))
    }

    pub(super) fn text(&self, index: usize) -> Result<&str> {
        let text = self.0.get_ref(index)?.as_str();
        Ok(text.map_err(rusqlite::Error::from)?)
    }

    pub(super) fn bytes(&self, index: usize) -> Result<&[u8]> {
        let bytes = self.0.get_ref(index)?.as_blob();
        Ok(bytes.map_err(rusqlite::Error::from)?)
    }
}

/// The connection.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
}

impl Database {
    /// What opens it to be written, and makes it when there is none.
    pub(super) fn writer(place: &Place) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let database = Self::open(place, flags)?;
        // Readers go on while a delta is written; a delta that is written survives the process, and the machine but
        // for its last moments, without a wait for the disk each time.
        let pragma = "PRAGMA journal_mode = WAL";
        let _mode: String = database
            .connection
            .query_row(pragma, [], |row| row.get(0))?;
        database.run("PRAGMA synchronous = NORMAL")?;
        Ok(database)
    }

    /// Opens it to read from it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn reader(place: &Place) -> Result<Self> {
        let database = Self::open(place, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        if matches!(place, Place::Memory(_)) {
            // Connections to one database in memory lock each other's tables, and do not wait for each other.
            database.run("PRAGMA read_uncommitted = 1")?;
        }
        Ok(database)
    }

    fn open(place: &Place, flags: OpenFlags) -> Result<Self> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match place {
            Place::File(path) => Connection::open_with_flags(path, flags)?,
            Place::Memory(name) => Connection::open_with_flags(
                Path::new(&format!("file:{name}?mode=memory&cache=shared")),
                OpenFlags::SQLITE_OPEN_READ_WRITE
                    | OpenFlags::SQLITE_OPEN_CREATE
                    | OpenFlags::SQLITE_OPEN_URI
                    | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?,
        };
        connection.busy_timeout(PATIENCE)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self { connection })
    }

    /// Carries out statements that take nothing and answer nothing.
    pub(super) fn run(&self, sql: &str) -> Result<()> {
        Ok(self.connection.execute_batch(sql)?)
    }

    /// Carries out one statement; how many rows it changed.
    pub(super) fn change(&mut self, sql: &str, values: &[Value]) -> Result<usize> {
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute(params_from_iter(values))?)
    }

    /// Asks, and hands each row to `take`.
    pub(super) fn ask(
        &mut self,
        sql: &str,
        values: &[Value],
        mut take: impl FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            take(&Record(row))?;
        }
        Ok(())
    }

    /// Does all of `work`, or nothing of it.
    pub(super) fn whole<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.run("BEGIN IMMEDIATE")?;
        let done = work(self).and_then(|done| self.run("COMMIT").map(|()| done));
        if done.is_err() {
            // One that broke off by itself has nothing left to take back.
            let _taken_back = self.run("ROLLBACK");
        }
        done
    }

    /// Which layout it has; 0: none.
    pub(super) fn layout(&mut self) -> Result<u64> {
        let mut layout = 0;
        self.ask("PRAGMA user_version", &[], |row| {
            layout = row.int(0)?;
            Ok(())
        })?;
        Ok(layout)
    }

    pub(super) fn set_layout(&self, layout: u64) -> Result<()> {
        self.run(&format!("PRAGMA user_version = {layout}"))
    }

    /// The type of a column of bytes.
    pub(super) const fn bytes_type(&self) -> &'static str {
        "BLOB"
    }

    /// What stands behind a table that is kept in the order of its key.
    pub(super) const fn by_key(&self) -> &'static str {
        "WITHOUT ROWID"
    }
}
