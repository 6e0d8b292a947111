//! A connection to the database the ledger is in, and what differs from one to the other.
//!
//! Statements are written once, in the SQL that all of them share, with `$1`, `$2` … for values in the order they are
//! first named. Depends on rusqlite and on what speaks to `PostgreSQL`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Value as Cell, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::postgres::{Postgres, said};
use crate::config::plan::Secret;

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
    /// In `PostgreSQL`, at this URL.
    Postgres(Secret),
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It said so.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// It said so, or cannot be reached.
    #[error("{0}")]
    Postgres(String),
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
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A row of an answer.
pub(super) enum Record<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

impl Record<'_> {
    /// A count; 0 where there is none.
    pub(super) fn int(&self, index: usize) -> Result<u64> {
        let value: Option<i64> = match self {
            Self::Sqlite(row) => row.get(index)?,
            Self::Postgres(row) => row.try_get(index).map_err(said)?,
        };
        Ok(value
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(0))
    }

    pub(super) fn text(&self, index: usize) -> Result<&str> {
        match self {
            Self::Sqlite(row) => {
                let text = row.get_ref(index)?.as_str();
                Ok(text.map_err(rusqlite::Error::from)?)
            }
            Self::Postgres(row) => row.try_get(index).map_err(said),
        }
    }

    pub(super) fn bytes(&self, index: usize) -> Result<&[u8]> {
        match self {
            Self::Sqlite(row) => {
                let bytes = row.get_ref(index)?.as_blob();
                Ok(bytes.map_err(rusqlite::Error::from)?)
            }
            Self::Postgres(row) => row.try_get(index).map_err(said),
        }
    }
}

/// The connection.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
    is_squeezed: bool,
}

#[derive(Debug)]
enum Kind {
    Sqlite(Connection),
    Postgres(Postgres),
}

impl Database {
    /// What opens it to be written, and makes it when there is none.
    pub(super) fn writer(place: &Place) -> Result<Self> {
        let database = Self::open(
            place,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        )?;
        if let Kind::Sqlite(connection) = &database.kind {
            // Readers go on while a delta is written; a delta that is written survives the process, and the machine
            // but for its last moments, without a wait for the disk each time.
            let pragma = "PRAGMA journal_mode = WAL";
            let _mode: String = connection.query_row(pragma, [], |row| row.get(0))?;
            database.run("PRAGMA synchronous = NORMAL")?;
        }
        Ok(database)
    }

    /// Opens it to read from it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn reader(place: &Place) -> Result<Self> {
        let database = Self::open(place, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        match place {
            Place::File(_) => {}
            // Connections to one database in memory lock each other's tables, and do not wait for each other.
            Place::Memory(_) => database.run("PRAGMA read_uncommitted = 1")?,
            Place::Postgres(_) => {
                database.run("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")?;
            }
        }
        Ok(database)
    }

    fn open(place: &Place, flags: OpenFlags) -> Result<Self> {
        let (path, flags) = match place {
            Place::File(path) => (path.clone(), flags),
            Place::Memory(name) => (
                format!("file:{name}?mode=memory&cache=shared").into(),
                OpenFlags::SQLITE_OPEN_READ_WRITE
                    | OpenFlags::SQLITE_OPEN_CREATE
                    | OpenFlags::SQLITE_OPEN_URI,
            ),
            Place::Postgres(url) => {
                let kind = Kind::Postgres(Postgres::connect(url.expose())?);
                return Ok(Self {
                    kind,
                    is_squeezed: false,
                });
            }
        };
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self {
            kind: Kind::Sqlite(connection),
            is_squeezed: matches!(place, Place::Memory(_)),
        })
    }

    /// Whether only the dearest rows of each table are kept apart, so that a day may lack who has an hour.
    pub(super) const fn is_squeezed(&self) -> bool {
        self.is_squeezed
    }

    /// Carries out statements that take nothing and answer nothing.
    pub(super) fn run(&self, sql: &str) -> Result<()> {
        match &self.kind {
            Kind::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Kind::Postgres(postgres) => postgres.run(sql),
        }
    }

    /// Carries out one statement; how many rows it changed.
    pub(super) fn change(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        match &mut self.kind {
            Kind::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement.execute(params_from_iter(values))? as u64)
            }
            Kind::Postgres(postgres) => postgres.change(sql, values),
        }
    }

    /// Asks, and hands each row to `take`.
    pub(super) fn ask(
        &mut self,
        sql: &str,
        values: &[Value],
        mut take: impl FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<()> {
        match &mut self.kind {
            Kind::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query(params_from_iter(values))?;
                while let Some(row) = rows.next()? {
                    take(&Record::Sqlite(row))?;
                }
                Ok(())
            }
            Kind::Postgres(postgres) => {
                postgres.ask(sql, values, |row| take(&Record::Postgres(row)))
            }
        }
    }

    /// Does all of `work`, or nothing of it. Of those that do so at once, one waits for the other.
    pub(super) fn whole<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        match &self.kind {
            Kind::Sqlite(_) => self.run("BEGIN IMMEDIATE")?,
            Kind::Postgres(postgres) => postgres.begin()?,
        }
        let done = work(self).and_then(|done| self.run("COMMIT").map(|()| done));
        if done.is_err() {
            // One that broke off by itself has nothing left to take back.
            let _taken_back = self.run("ROLLBACK");
        }
        done
    }

    /// Which layout it has; 0: none.
    pub(super) fn layout(&mut self) -> Result<u64> {
        let kept = match &self.kind {
            Kind::Sqlite(_) => "PRAGMA user_version",
            Kind::Postgres(_) => {
                let mut tables = 0;
                let sql = "SELECT COUNT(*) FROM pg_catalog.pg_tables
                           WHERE tablename = 'usage_layout' AND schemaname = current_schema()";
                self.ask(sql, &[], |row| {
                    tables = row.int(0)?;
                    Ok(())
                })?;
                if tables == 0 {
                    return Ok(0);
                }
                "SELECT layout FROM usage_layout"
            }
        };
        let mut layout = 0;
        self.ask(kept, &[], |row| {
            layout = row.int(0)?;
            Ok(())
        })?;
        Ok(layout)
    }

    pub(super) fn set_layout(&self, layout: u64) -> Result<()> {
        self.run(&match &self.kind {
            Kind::Sqlite(_) => format!("PRAGMA user_version = {layout}"),
            Kind::Postgres(_) => format!(
                "CREATE TABLE IF NOT EXISTS usage_layout (layout BIGINT NOT NULL);
                 DELETE FROM usage_layout; INSERT INTO usage_layout VALUES ({layout})"
            ),
        })
    }

    /// The type of a column of bytes.
    pub(super) const fn bytes_type(&self) -> &'static str {
        match &self.kind {
            Kind::Sqlite(_) => "BLOB",
            Kind::Postgres(_) => "BYTEA",
        }
    }

    /// What stands behind a table that is kept in the order of its key, where that can be.
    pub(super) const fn by_key(&self) -> &'static str {
        match &self.kind {
            Kind::Sqlite(_) => "WITHOUT ROWID",
            Kind::Postgres(_) => "",
        }
    }
}
