//! Makes the ledger's tables, and those of an earlier layout into those of this one.
//!
//! The first layout (of `SQLite` only) had latencies in columns, in buckets that doubled, and knew no status, cache nor
//! trace. Depends on the database.

use std::sync::Arc;
use std::time::Duration;

use super::database::{Database, Error, Result, Value};
use super::store::{TABLES, add, count_columns, key_columns};
use super::sums::{Latency, Sums};

/// The layout this version writes.
const LAYOUT: u64 = 2;
/// Rows of the first layout that are taken over at a time.
const STEP: u64 = 10_000;

/// Brings `database` to the layout this version writes.
pub(super) fn migrate(database: &mut Database) -> Result<()> {
    if database.layout()? == LAYOUT {
        return Ok(());
    }
    database.whole(|database| {
        // Once more, since another may have been quicker.
        match database.layout()? {
            LAYOUT => return Ok(()),
            0 => create(database)?,
            1 => {
                for (table, _) in TABLES {
                    database.run(&format!(
                        "ALTER TABLE {table} RENAME TO {table}_1; DROP TABLE {table}_total"
                    ))?;
                }
                create(database)?;
                for (table, _) in TABLES {
                    take_over(database, table)?;
                    database.run(&format!("DROP TABLE {table}_1"))?;
                }
                database.run("DROP TABLE writer")?;
            }
            _ => return Err(Error::Later),
        }
        database.set_layout(LAYOUT)
    })
}

fn create(database: &Database) -> Result<()> {
    let counts = count_columns().map(|count| format!("{count} BIGINT NOT NULL"));
    for (table, _) in TABLES {
        for (table, with_client) in [(table.to_owned(), true), (format!("{table}_total"), false)] {
            let keys = key_columns(with_client);
            let typed = keys.iter().map(|key| {
                let of = if *key == "at" { "BIGINT" } else { "TEXT" };
                format!("{key} {of} NOT NULL")
            });
            database.run(&format!(
                "CREATE TABLE {table} ({}, {}, latency {} NOT NULL, PRIMARY KEY ({})) {}",
                typed.collect::<Vec<_>>().join(", "),
                counts.join(", "),
                database.bytes_type(),
                keys.join(", "),
                database.by_key(),
            ))?;
        }
    }
    database.run(
        "CREATE TABLE usage_writer (writer BIGINT PRIMARY KEY, sequence BIGINT NOT NULL, written BIGINT NOT NULL)",
    )
}

/// Upper bounds of the first layout's buckets, in microseconds: doubling from half a millisecond. One more stood above.
const BUCKETS: [u64; 17] = [
    500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000,
    2_048_000, 4_096_000, 8_192_000, 16_384_000, 32_768_000,
];

/// Takes over what the first layout had in `table`.
fn take_over(database: &mut Database, table: &str) -> Result<()> {
    let buckets = (0..=BUCKETS.len()).map(|bucket| format!("latency_{bucket}"));
    let sql = format!(
        "SELECT at, client, route, upstream, upstream_micros, requests, refused, errors, attempts, bytes_in, bytes_out, {}
         FROM {table}_1 ORDER BY at, client, route, upstream LIMIT $1 OFFSET $2",
        buckets.collect::<Vec<_>>().join(", ")
    );
    for step in 0.. {
        let mut rows: Vec<(u64, [Arc<str>; 3], Sums)> = Vec::new();
        let page = [Value::Int(STEP), Value::Int(step * STEP)];
        database.ask(&sql, &page, |row| {
            let mut sums = Sums {
                upstream_micros: row.int(4)?,
                requests: row.int(5)?,
                refused: row.int(6)?,
                errors: row.int(7)?,
                attempts: row.int(8)?,
                bytes_in: row.int(9)?,
                bytes_out: row.int(10)?,
                ..Sums::default()
            };
            let mut lower = 0;
            for (bucket, upper) in BUCKETS.into_iter().chain([BUCKETS[16] * 2]).enumerate() {
                let middle = Duration::from_micros(u64::midpoint(lower, upper));
                sums.latency
                    .merge(&Latency::of(middle, row.int(11 + bucket)?));
                lower = upper;
            }
            let names = [row.text(1)?, row.text(2)?, row.text(3)?].map(Arc::from);
            rows.push((row.int(0)?, names, sums));
            Ok(())
        })?;
        if rows.is_empty() {
            break;
        }
        let rows = rows
            .iter()
            .map(|(slot, [client, route, upstream], sums)| (*slot, client, route, upstream, sums));
        add(database, table, rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::report::{By, First, Question, report};
    use super::super::rollup::Row;
    use super::super::store::{Keep, Place, Store};
    use super::*;

    const KEEP: Keep = Keep {
        minutes: Duration::from_secs(8 * 86_400),
        hours: Duration::from_secs(90 * 86_400),
        days: Duration::from_secs(400 * 86_400),
    };

    /// A ledger as the first version made it.
    fn first_layout(path: &std::path::Path) {
        let ledger = Connection::open(path).unwrap();
        let latency = (0..18).map(|bucket| format!("latency_{bucket} INTEGER NOT NULL"));
        let latency = latency.collect::<Vec<_>>().join(", ");
        for table in ["usage_day", "usage_hour", "usage_minute"] {
            ledger
                .execute_batch(&format!(
                    "CREATE TABLE {table} (at INTEGER NOT NULL, client TEXT NOT NULL, route TEXT NOT NULL,
                     upstream TEXT NOT NULL, requests INTEGER NOT NULL, refused INTEGER NOT NULL, errors INTEGER NOT NULL,
                     attempts INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
                     upstream_micros INTEGER NOT NULL, {latency},
                     PRIMARY KEY (at, client, route, upstream)) WITHOUT ROWID;
                     CREATE TABLE {table}_total (at INTEGER PRIMARY KEY, upstream_micros INTEGER NOT NULL);
                     INSERT INTO {table} VALUES (0, 'a', 'r', 'u', 100, 1, 2, 103, 5, 6, 7000000,
                       0, 0, 0, 97, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0);
                     INSERT INTO {table} VALUES (0, 'b', 'r', 'u', 1, 0, 0, 1, 5, 6, 1000,
                       1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
                     INSERT INTO {table}_total VALUES (0, 7001000);"
                ))
                .unwrap();
        }
        ledger
            .execute_batch(
                "CREATE TABLE writer (epoch INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
                 INSERT INTO writer VALUES (1, 7); PRAGMA user_version = 1;",
            )
            .unwrap();
    }

    #[test]
    fn a_ledger_of_the_first_layout_opens_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidegate.db");
        first_layout(&path);
        let place = Place::File(path);
        let mut store = Store::open(&place, KEEP).unwrap();
        let sums = Sums {
            requests: 1,
            ..Sums::default()
        };
        let row = Row {
            minute: 0,
            client: "a".into(),
            route: "r".into(),
            upstream: "u".into(),
            sums,
        };
        store.write(1, 1, 0, &vec![row]).unwrap();
        drop(store);
        // And once more, when there is nothing left to take over.
        let _store = Store::open(&place, KEEP).unwrap();
        let mut ledger = Database::reader(&place).unwrap();
        for (from, to) in [(0, 60), (0, 3_600), (0, 86_400)] {
            for by in [By::Client, By::Upstream] {
                let question = Question {
                    from,
                    to,
                    by: vec![by],
                    first: First::Dearest,
                    limit: 10,
                };
                let report = report(&mut ledger, &question).unwrap();
                assert_eq!(report.total.requests, 102);
                assert_eq!(
                    (report.total.errors, report.total.upstream_micros),
                    (2, 7_001_000)
                );
                let latency = &report.lines[0].sums.latency;
                assert!((2.0..=4.0).contains(&latency.quantile(0.5).unwrap()));
                assert!((128.0..=256.0).contains(&latency.quantile(0.99).unwrap()));
            }
        }
    }

    #[test]
    fn a_ledger_of_a_later_version_is_left_alone() {
        let place = Place::Memory("later".to_owned());
        let database = Database::writer(&place).unwrap();
        database.set_layout(LAYOUT + 1).unwrap();
        assert!(matches!(Store::open(&place, KEEP), Err(Error::Later)));
    }
}
