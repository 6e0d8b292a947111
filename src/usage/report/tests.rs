//! Reports against sums made by hand.

use std::time::Duration;

use super::*;
use crate::config::plan::Secret;
use crate::usage::postgresql::Server;
use crate::usage::rank::ranked_within;
use crate::usage::rollup::{OTHER, Row};
use crate::usage::store::{Keep, Place, Store};
use crate::usage::sums::Latency;

/// Each check for itself on a ledger in a file, and all of them on one in `PostgreSQL`.
macro_rules! on_each_database {
    ($($check:ident,)*) => {
        mod in_a_file {
            $(#[test] fn $check() {
                let directory = tempfile::tempdir().unwrap();
                super::$check(&super::Place::File(directory.path().join("usage.db")));
            })*
        }

        #[test]
        fn whatever_holds_in_a_file_holds_in_postgresql() {
            let server = Server::start();
            $({
                let url = server.database(stringify!($check));
                $check(&Place::Postgres(Secret::new(url)));
            })*
        }
    };
}

on_each_database! {
    whatever_is_asked_the_sums_are_those_of_the_minutes,
    of_many_rows_the_dearest_are_kept_and_all_are_counted,
    what_is_written_again_counts_once,
    the_peak_is_the_busiest_twentieth,
    what_is_too_old_goes,
    by_whatever_rows_are_told_apart_each_has_its_own,
    over_days_the_dearest_hours_of_clients_are_those_of_all_rows,
    the_chattiest_come_first_where_they_are_asked_for,
    latencies_of_two_deltas_merge,
    who_has_written_long_ago_is_forgotten,
}

const DAY: u64 = 86_400;
const KEEP: Keep = Keep {
    minutes: Duration::from_secs(8 * DAY),
    hours: Duration::from_secs(90 * DAY),
    days: Duration::from_secs(400 * DAY),
};

fn row(minute: u64, client: &str, requests: u64) -> Row {
    let sums = Sums {
        requests,
        upstream_micros: requests * 1_000,
        bytes_out: requests * 10,
        latency: Latency::of(Duration::from_millis(1), requests),
        ..Sums::default()
    };
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
        first: First::Dearest,
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

fn whatever_is_asked_the_sums_are_those_of_the_minutes(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let begin = 20_000 * DAY;
    let mut rows = Vec::new();
    for _ in 0..3_000 {
        let minute = begin + rng.u64(0..3 * 1_440) * 60;
        rows.push(row(minute, ["a", "b", "c"][rng.usize(0..3)], rng.u64(1..9)));
    }
    for (sequence, delta) in (1..).zip(rows.chunks(100)) {
        store.write(1, sequence, 0, &delta.to_vec()).unwrap();
    }
    let mut ledger = Database::reader(place).unwrap();
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
            let report = report(&mut ledger, &asked(from, to, by)).unwrap();
            assert_eq!(report.total.requests, exact, "{from} {to} {by:?}");
        }
    }
}

fn of_many_rows_the_dearest_are_kept_and_all_are_counted(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    let delta = (0..3_000).map(|client| row(60, &client.to_string(), client + 1));
    store.write(1, 1, 0, &delta.collect()).unwrap();
    let question = Question {
        limit: 2,
        ..asked(0, 120, &[By::Client])
    };
    let report = report(&mut Database::reader(place).unwrap(), &question).unwrap();
    let clients: Vec<_> = report
        .lines
        .iter()
        .map(|line| line.key.client.as_deref().unwrap())
        .collect();
    assert_eq!(
        (clients.as_slice(), report.rows),
        (&["2999", "2998"][..], 3_000)
    );
    assert_eq!(report.total.requests, 3_000 * 3_001 / 2);
}

fn what_is_written_again_counts_once(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    let delta = vec![row(60, "a", 5)];
    store.write(1, 1, 0, &delta).unwrap();
    store.write(1, 1, 0, &delta).unwrap();
    store.write(2, 1, 0, &delta).unwrap();
    store.write(1, 2, 0, &delta).unwrap();
    let report = report(&mut Database::reader(place).unwrap(), &asked(0, DAY, &[])).unwrap();
    assert_eq!(report.total.requests, 15);
}

fn the_peak_is_the_busiest_twentieth(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    let mut delta: Vec<Row> = (0..40)
        .map(|minute| row(minute * 60, "steady", 10))
        .collect();
    delta.extend([row(0, "borrower", 90), row(60, "borrower", 90)]);
    store.write(1, 1, 0, &delta).unwrap();
    let mut ledger = Database::reader(place).unwrap();
    let report = report(&mut ledger, &asked(0, 2_400, &[By::Client])).unwrap();
    let shares: Vec<_> = report
        .lines
        .iter()
        .map(|line| line.peak_share.unwrap())
        .collect();
    assert_eq!(report.lines[0].key.client.as_deref(), Some("steady"));
    assert!(
        (shares[0] - 0.1).abs() < 1e-9 && (shares[1] - 0.9).abs() < 1e-9,
        "{shares:?}"
    );
    let most = peak_minutes(&mut ledger, &asked(0, 2_400, &[]), &["borrower".to_owned()]);
    assert_eq!(most.unwrap()["borrower"], 90);
    let hours = hours(&mut ledger, &asked(0, 2_400, &[]), &["borrower".to_owned()]).unwrap();
    let other = (0, OTHER.to_owned(), 400_000);
    assert_eq!(hours, [(0, "borrower".to_owned(), 180_000), other]);
}

fn what_is_too_old_goes(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    let now = 20_000 * DAY;
    store
        .write(
            1,
            1,
            now,
            &vec![row(now - 9 * DAY, "a", 1), row(now - 401 * DAY, "a", 2)],
        )
        .unwrap();
    store.prune(now).unwrap();
    let mut ledger = Database::reader(place).unwrap();
    let day = asked(now - 9 * DAY, now - 8 * DAY, &[]);
    assert_eq!(report(&mut ledger, &day).unwrap().total.requests, 1);
    let minute = asked(now - 9 * DAY, now - 9 * DAY + 60, &[]);
    assert_eq!(report(&mut ledger, &minute).unwrap().total.requests, 0);
    assert_eq!(
        report(&mut ledger, &asked(0, now, &[]))
            .unwrap()
            .total
            .requests,
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

fn by_whatever_rows_are_told_apart_each_has_its_own(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    let mut rng = fastrand::Rng::with_seed(11);
    let rows: Vec<Row> = (0..2_000)
        .map(|_| Row {
            route: ["x", "y"][rng.usize(0..2)].into(),
            upstream: ["u", "v"][rng.usize(0..2)].into(),
            ..row(
                rng.u64(0..400) * 60,
                ["a", "b", "c"][rng.usize(0..3)],
                rng.u64(1..9),
            )
        })
        .collect();
    store.write(1, 1, 0, &rows).unwrap();
    let mut ledger = Database::reader(place).unwrap();
    let (from, to) = (30 * 60, 390 * 60);
    for chosen in 0..16_usize {
        let by: Vec<By> = (0..)
            .zip(By::ALL)
            .filter(|(bit, _)| chosen >> bit & 1 == 1)
            .map(|(_, by)| by)
            .collect();
        let mut exact: HashMap<Key, u64> = HashMap::new();
        for row in rows.iter().filter(|row| (from..to).contains(&row.minute)) {
            let name = |of, name: &Arc<str>| by.contains(&of).then(|| name.to_string());
            let key = Key {
                hour: by.contains(&By::Hour).then_some(row.minute / 3_600 * 3_600),
                client: name(By::Client, &row.client),
                route: name(By::Route, &row.route),
                upstream: name(By::Upstream, &row.upstream),
            };
            *exact.entry(key).or_default() += row.sums.requests;
        }
        for limit in [3, 1_000] {
            let question = Question {
                limit,
                ..asked(from, to, &by)
            };
            let report = report(&mut ledger, &question).unwrap();
            assert_eq!(report.rows, exact.len(), "{by:?}");
            assert_eq!(report.lines.len(), exact.len().min(limit));
            let mut most: Vec<u64> = exact.values().copied().collect();
            most.sort_unstable_by(|one, other| other.cmp(one));
            for (line, most) in report.lines.iter().zip(most) {
                assert_eq!(
                    line.sums.requests, exact[&line.key],
                    "{by:?} {:?}",
                    line.key
                );
                assert_eq!(line.sums.requests, most, "{by:?}: dearest first");
                let counted = line.sums.latency.quantile(0.98).unwrap();
                assert!((counted - 1.0).abs() < 0.05, "{counted}");
            }
        }
    }
}

fn over_days_the_dearest_hours_of_clients_are_those_of_all_rows(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    let mut rng = fastrand::Rng::with_seed(17);
    let begin = 20_000 * DAY;
    let minutes = 5 * 1_440;
    let mut rows: Vec<Row> = (0..6_000)
        .map(|_| {
            let client = rng.u64(1..40);
            Row {
                route: ["x", "y"][rng.usize(0..2)].into(),
                upstream: ["u", "v"][rng.usize(0..2)].into(),
                ..row(
                    begin + rng.u64(0..minutes) * 60,
                    &client.to_string(),
                    rng.u64(1..600) / client + 1,
                )
            }
        })
        .collect();
    // What costs most is not what calls most.
    for row in &mut rows {
        row.sums.upstream_micros *= rng.u64(1..9);
    }
    store.write(1, 1, 0, &rows).unwrap();
    let mut ledger = Database::reader(place).unwrap();
    let (from, to) = (begin + 7 * 3_600 + 60, begin + 4 * DAY + 5 * 3_600 + 120);
    for more in [
        &[][..],
        &[By::Route],
        &[By::Upstream],
        &[By::Route, By::Upstream],
    ] {
        let by = [&[By::Hour, By::Client], more].concat();
        let mut exact: HashMap<Key, (u64, u64)> = HashMap::new();
        for row in rows.iter().filter(|row| (from..to).contains(&row.minute)) {
            let name = |of, name: &Arc<str>| by.contains(&of).then(|| name.to_string());
            let key = Key {
                hour: Some(row.minute / 3_600 * 3_600),
                client: Some(row.client.to_string()),
                route: name(By::Route, &row.route),
                upstream: name(By::Upstream, &row.upstream),
            };
            let sums = exact.entry(key).or_default();
            *sums = (
                sums.0 + row.sums.upstream_micros,
                sums.1 + row.sums.requests,
            );
        }
        for first in [First::Dearest, First::Chattiest] {
            let rank = |sums: (u64, u64)| match first {
                First::Dearest => sums,
                First::Chattiest => (sums.1, sums.0),
            };
            let mut ranks: Vec<_> = exact.values().map(|sums| rank(*sums)).collect();
            ranks.sort_unstable_by(|one, other| other.cmp(one));
            // With days enough to look into, and with so few that all rows have to be put together.
            for (limit, most) in [
                (1, 20_000),
                (9, 20_000),
                (9, 3),
                (700, 300),
                (100_000, 20_000),
            ] {
                let question = Question {
                    first,
                    limit,
                    ..asked(from, to, &by)
                };
                let stretches = question.stretches();
                let ranked = ranked_within(&mut ledger, &question, &stretches, most).unwrap();
                assert_eq!(ranked.rows, exact.len(), "{by:?} {limit} {most}");
                let found: Vec<_> = ranked.keys.iter().map(|(rank, _)| *rank).collect();
                assert_eq!(
                    found,
                    ranks[..limit.min(ranks.len())],
                    "{by:?} {limit} {most}"
                );
                for (found, key) in &ranked.keys {
                    assert_eq!(*found, rank(exact[key]));
                }
            }
        }
    }
}

fn the_chattiest_come_first_where_they_are_asked_for(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    let mut dear = row(0, "dear", 1);
    dear.sums.upstream_micros = 9_000_000;
    store
        .write(1, 1, 0, &vec![dear, row(0, "chatty", 2)])
        .unwrap();
    let mut ledger = Database::reader(place).unwrap();
    for (first, client) in [(First::Dearest, "dear"), (First::Chattiest, "chatty")] {
        let question = Question {
            first,
            limit: 1,
            ..asked(0, 60, &[By::Client])
        };
        let report = report(&mut ledger, &question).unwrap();
        assert_eq!(report.lines[0].key.client.as_deref(), Some(client));
    }
}

fn latencies_of_two_deltas_merge(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    for (sequence, millis, count) in [(1, 10, 97), (2, 500, 3)] {
        let mut row = row(0, "a", count);
        row.sums.latency = Latency::of(Duration::from_millis(millis), count);
        store.write(1, sequence, 0, &vec![row]).unwrap();
    }
    let mut ledger = Database::reader(place).unwrap();
    for by in [&[][..], &[By::Client], &[By::Client, By::Hour]] {
        let report = report(&mut ledger, &asked(0, 60, by)).unwrap();
        let latency = &report.lines[0].sums.latency;
        let (median, slow) = (
            latency.quantile(0.5).unwrap(),
            latency.quantile(0.98).unwrap(),
        );
        assert!(
            (median / 10.0 - 1.0).abs() < 0.05 && (slow / 500.0 - 1.0).abs() < 0.05,
            "{median} {slow}"
        );
    }
}

fn who_has_written_long_ago_is_forgotten(place: &Place) {
    let mut store = Store::open(place, KEEP).unwrap();
    for (writer, now) in [(1, 0), (2, 9 * DAY), (3, 10 * DAY)] {
        store
            .write(writer, 1, now, &vec![row(now, "a", 1)])
            .unwrap();
    }
    store.prune(10 * DAY).unwrap();
    let mut writers = Vec::new();
    let mut ledger = Database::reader(place).unwrap();
    let ask = "SELECT writer FROM usage_writer ORDER BY writer";
    ledger
        .ask(ask, &[], |row| {
            writers.push(row.int(0)?);
            Ok(())
        })
        .unwrap();
    assert_eq!(writers, [2, 3]);
}
