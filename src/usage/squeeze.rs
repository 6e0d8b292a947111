//! Keeps a ledger in memory small: of each day, hour and minute the dearest rows, and the rest put together.
//!
//! Totals stay exact, and so does what is told of whoever is heavy: to have been light in a minute, and therefore part of
//! `__other__` there, takes nothing from the sums of the hour and the day. Depends on the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::database::{Database, Result, Value};
use super::rollup::{Delta, OTHER};
use super::store::{Key, TABLES, count_columns, read_sums, upsert};
use super::sums::Sums;

/// Rows that are kept of a day, of an hour and of a minute. Up to twice as many stand there for a while: some 30 MiB at
/// most, however many clients there are.
const KEPT: [u64; TABLES.len()] = [2_000, 500, 300];
/// So many seconds are asked for by the minute, namely the hour that is not over;
const FINE: u64 = 3_900;
/// of an older minute, this many rows are kept.
const KEPT_OF_OLD: u64 = 20;

/// Squeezes whatever `delta` was added to; how many rows were put together.
pub(super) fn squeeze(database: &mut Database, delta: &Delta) -> Result<u64> {
    let mut squeezed = 0;
    for ((table, length), most) in TABLES.into_iter().zip(KEPT) {
        let slots = delta.iter().map(|row| row.minute - row.minute % length);
        for slot in slots.collect::<BTreeSet<u64>>() {
            squeezed += squeeze_slot(database, table, slot, most)?;
        }
    }
    Ok(squeezed)
}

/// Squeezes the minutes that are seldom asked for at `now`; how many rows were put together.
pub(super) fn squeeze_old(database: &mut Database, now: u64) -> Result<u64> {
    let [_, _, (table, _)] = TABLES;
    let mut slots = Vec::new();
    let sql = format!("SELECT DISTINCT at FROM {table}_total WHERE at < $1");
    let before = [Value::Int(now.saturating_sub(FINE))];
    database.ask(&sql, &before, |row| {
        slots.push(row.int(0)?);
        Ok(())
    })?;
    database.whole(|database| {
        let mut slots = slots.into_iter();
        slots.try_fold(0, |squeezed, slot| {
            Ok(squeezed + squeeze_slot(database, table, slot, KEPT_OF_OLD)?)
        })
    })
}

/// Puts all but the `most` dearest rows of a slot together, if it has more than twice as many; how many that were.
fn squeeze_slot(database: &mut Database, table: &str, slot: u64, most: u64) -> Result<u64> {
    let mut rows = 0;
    let sql = format!("SELECT COUNT(*) FROM {table} WHERE at = $1");
    database.ask(&sql, &[Value::Int(slot)], |row| {
        rows = row.int(0)?;
        Ok(())
    })?;
    if rows <= 2 * most {
        return Ok(0);
    }
    let light = format!(
        "at = $1 AND (client, route, upstream) IN (
           SELECT client, route, upstream FROM {table} WHERE at = $1 AND client <> $2
           ORDER BY upstream_micros DESC, requests DESC LIMIT $3 OFFSET $4)"
    );
    let other: Arc<str> = OTHER.into();
    let which = [
        Value::Int(slot),
        Value::Text(Arc::clone(&other)),
        Value::Int(rows),
        Value::Int(most),
    ];
    let counts = count_columns().join(", ");
    let sql = format!("SELECT route, upstream, {counts}, latency FROM {table} WHERE {light}");
    let mut together: BTreeMap<Key, Sums> = BTreeMap::new();
    database.ask(&sql, &which, |row| {
        let (route, upstream) = (row.text(0)?.into(), row.text(1)?.into());
        let key = (slot, Some(Arc::clone(&other)), route, upstream);
        together.entry(key).or_default().add(&read_sums(row, 2)?);
        Ok(())
    })?;
    let squeezed = database.change(&format!("DELETE FROM {table} WHERE {light}"), &which)?;
    upsert(database, table, true, together)?;
    Ok(squeezed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::{By, First, Question, report};
    use super::super::rollup::Row;
    use super::super::store::{Keep, Place, Store};
    use super::*;
    use crate::usage::sums::Latency;

    const DAY: u64 = 86_400;
    const KEEP: Keep = Keep {
        minutes: Duration::from_secs(DAY),
        hours: Duration::from_secs(DAY),
        days: Duration::from_secs(DAY),
    };

    fn row(minute: u64, client: usize, requests: u64) -> Row {
        Row {
            minute,
            client: format!("c{client}").into(),
            route: "r".into(),
            upstream: "u".into(),
            sums: Sums {
                requests,
                upstream_micros: requests * 1_000,
                latency: Latency::of(Duration::from_millis(1), requests),
                ..Sums::default()
            },
        }
    }

    fn rows(ledger: &mut Database, table: &str) -> u64 {
        let mut rows = 0;
        let counted = ledger.ask(&format!("SELECT COUNT(*) FROM {table}"), &[], |row| {
            rows = row.int(0)?;
            Ok(())
        });
        counted.unwrap();
        rows
    }

    #[test]
    fn however_many_clients_come_few_rows_stay_and_the_heavy_ones_and_the_totals_are_exact() {
        let place = Place::Memory("squeezed".to_owned());
        let mut store = Store::open(&place, KEEP).unwrap();
        let mut ledger = Database::reader(&place).unwrap();
        // Ten heavy ones in every delta, and a thousand others of whom none ever comes again.
        for sequence in 1..=30 {
            let at = 10 * DAY + sequence / 10 * 60;
            let light = 1_000 * usize::try_from(sequence).unwrap();
            let light = (light..light + 1_000).map(|client| row(at, client, 1));
            let heavy = (0..10).map(|client| row(at, client, 100));
            store
                .write(1, sequence, at, &heavy.chain(light).collect())
                .unwrap();
        }
        assert!(store.take_squeezed() > 0);
        assert_eq!(store.take_squeezed(), 0, "each is told once");
        let most = KEPT.map(|kept| 2 * kept);
        let of = |slots: [u64; 3], table: usize| most[table] * slots[table];
        for (table, (name, _)) in TABLES.into_iter().enumerate() {
            let rows = rows(&mut ledger, name);
            assert!(rows <= of([1, 1, 4], table), "{rows} in {name}");
        }
        for (from, to) in [
            (10 * DAY, 11 * DAY),
            (10 * DAY, 10 * DAY + 3_600),
            (10 * DAY, 10 * DAY + 240),
        ] {
            let question = Question {
                from,
                to,
                by: vec![By::Client],
                first: First::Chattiest,
                limit: 11,
            };
            let report = report(&mut ledger, &question).unwrap();
            assert_eq!(report.total.requests, 30 * 2_000);
            let line = |name: &str| {
                let mut lines = report.lines.iter();
                lines
                    .find(|line| line.key.client.as_deref() == Some(name))
                    .unwrap()
            };
            for client in 0..10 {
                assert_eq!(line(&format!("c{client}")).sums.requests, 3_000);
            }
            let other = &line(OTHER).sums;
            assert!(other.requests > 20_000);
            assert_eq!(
                other.latency.quantile(0.98),
                report.total.latency.quantile(0.98)
            );
        }
        store.prune(10 * DAY + 180 + FINE + 60).unwrap();
        let left = rows(&mut ledger, "usage_minute");
        assert!(left <= 4 * 2 * KEPT_OF_OLD, "{left}");
        assert!(rows(&mut ledger, "usage_hour") > left);
    }
}
