//! The usage ledger against an independent count over the access log.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::http_origin::Origin;
use crate::support::postgresql::Server;
use crate::support::proxy::{Proxy, Setup};
use crate::support::reply::Reply;
use crate::support::wait::eventually;

/// Requests and bytes by client.
type Count = BTreeMap<String, (u64, u64, u64)>;

fn ask(proxy: &Proxy, keys: &[&str], times: usize) {
    let mut client = proxy.client();
    for round in 0..times {
        for key in keys {
            let path = format!("/{}", "x".repeat(round % 7));
            client.request("POST", &path, &[("x-api-key", key)], &vec![b'y'; round * 3]);
        }
    }
}

/// What the log says.
fn logged(proxy: &Proxy) -> Count {
    let mut count = Count::new();
    for line in proxy.access_log() {
        let sum = count
            .entry(line["client"].as_str().unwrap_or_default().to_owned())
            .or_default();
        let number = |key: &str| line[key].as_u64().unwrap_or_default();
        *sum = (
            sum.0 + 1,
            sum.1 + number("bytes_in"),
            sum.2 + number("bytes_out"),
        );
    }
    count
}

/// What the report says.
fn reported(proxy: &Proxy) -> Count {
    let answer = proxy.admin_get("/api/v1/usage?from=-1d").json();
    let rows = answer["rows"].as_array().cloned().unwrap_or_default();
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or_default();
    rows.iter()
        .map(|row| {
            let client = row["client"].as_str().unwrap_or_default().to_owned();
            let sums = ("requests", "bytes_in", "bytes_out");
            (
                client,
                (
                    number(row, sums.0),
                    number(row, sums.1),
                    number(row, sums.2),
                ),
            )
        })
        .collect()
}

fn add(one: &mut Count, other: &Count) {
    for (client, sums) in other {
        let sum = one.entry(client.clone()).or_default();
        *sum = (sum.0 + sums.0, sum.1 + sums.1, sum.2 + sums.2);
    }
}

fn agrees(proxy: &Proxy, expected: &Count) {
    eventually("the report equals the log", Duration::from_secs(20), || {
        reported(proxy) == *expected
    });
}

#[test]
fn the_report_equals_the_log_over_a_restart_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    equals_the_log(&format!("sqlite:{}", dir.path().join("usage.db").display()));
}

#[test]
fn so_it_does_in_postgresql() {
    let server = Server::start();
    equals_the_log(&server.database("ledger"));
}

fn config(origin: &Origin, store: &str) -> String {
    format!(
        "[clients]\nhash_key = \"a-key-for-the-test\"\n[upstreams.app]\nendpoints = [\"{}\"]\n[usage]\nstore = \"{store}\"\n",
        origin.address(),
    )
}

fn equals_the_log(store: &str) {
    let origin = Origin::http1(|seen| Reply::ok("z".repeat(seen.body.len() + 5)));
    let config = config(&origin, store);
    let mut proxy = Setup::config(&config).start();
    ask(&proxy, &["one", "two", "three"], 40);
    proxy.access_log_entry("the last", |line| line["client"] != "");
    let mut expected = Count::new();
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit().success());
    add(&mut expected, &logged(&proxy));
    assert_eq!(expected.values().map(|sums| sums.0).sum::<u64>(), 120);

    let mut proxy = Setup::config(&config).start();
    agrees(&proxy, &expected);
    ask(&proxy, &["two", "four"], 30);
    eventually("its lines", Duration::from_secs(10), || {
        proxy.access_log().len() == 60
    });
    add(&mut expected, &logged(&proxy));
    agrees(&proxy, &expected);
    proxy.signal(Signal::KILL);
    assert!(!proxy.wait_exit().success());

    let proxy = Setup::config(&config).start();
    agrees(&proxy, &expected);
    ask(&proxy, &["one"], 5);
    eventually("its lines", Duration::from_secs(10), || {
        proxy.access_log().len() == 5
    });
    add(&mut expected, &logged(&proxy));
    agrees(&proxy, &expected);

    let by = proxy
        .admin_get("/api/v1/usage?from=-1d&by=route,upstream")
        .json();
    assert_eq!(by["rows"][0]["upstream"], "app");
    assert_eq!(by["total"]["requests"], 185);
    let pairs = proxy.admin_get("/api/v1/traffic?from=-1d").json();
    assert_eq!(pairs["pairs"][0]["calls"], 70);
    let hours = proxy
        .admin_get("/api/v1/usage/hours?from=-1d&limit=2")
        .json();
    let drawn = hours["hours"].as_array();
    assert!(drawn.is_some_and(|drawn| drawn.len() >= 3), "{hours}");
    for bad in ["from=now", "by=colour", "from=-1h&to=-2h", "limit=x"] {
        assert_eq!(
            proxy.admin_get(&format!("/api/v1/usage?{bad}")).status,
            400,
            "{bad}"
        );
    }
}

#[test]
fn a_ledger_that_cannot_be_written_delays_nobody_and_is_said() {
    let origin = Origin::saying("ok");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db");
    std::fs::write(
        &file,
        "no database, and long enough that nobody takes it for an empty one",
    )
    .unwrap();
    let config = format!(
        "[upstreams.app]\nendpoints = [\"{}\"]\n[usage]\nstore = \"sqlite:{}\"\n",
        origin.address(),
        file.display()
    );
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/").status, 200);
    proxy.metrics_until("an error and a row that waits", |metrics| {
        let value = |name| metrics.value(name, &[]).unwrap_or_default();
        value("tidegate_usage_write_errors_total") > 0.0 && value("tidegate_usage_pending") > 0.0
    });
    assert!(proxy.status()["usage"]["error"].is_string());
    assert_eq!(proxy.admin_get("/api/v1/usage").status, 503);
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .starts_with("no database")
    );
    std::fs::remove_file(&file).unwrap();
    eventually(
        "it is written once it can be",
        Duration::from_secs(30),
        || proxy.admin_get("/api/v1/usage").json()["total"]["requests"] == 1,
    );
}

#[test]
fn the_report_tells_classes_retries_savings_and_traces() {
    let origin = Origin::http1(|seen| match seen.path.as_str() {
        "/missing" => Reply::new(404),
        "/broken" => Reply::new(503),
        _ => Reply::ok("x".repeat(100)).header("cache-control", "max-age=60"),
    });
    let proxy = Proxy::start(&format!(
        "[[listen]]\nname = \"public\"\naddress = \"<public>\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
         [upstreams.app]\nendpoints = [\"{}\"]\nretry = {{ attempts = 2, budget = 1.0 }}\n\
         [cache.shared]\nmemory = \"8MiB\"\nmax_object = \"1MiB\"\n\
         [[routes]]\nname = \"app\"\nupstream = \"app\"\ncache = \"shared\"\n",
        origin.address()
    ));
    let mut client = proxy.client();
    let paths = ["/kept", "/kept", "/kept", "/missing", "/broken"];
    for (call, path) in paths.into_iter().enumerate() {
        let parent = format!("00-{:032x}-{:016x}-01", call / 3 + 1, call + 1);
        client.request("GET", path, &[("traceparent", &parent)], b"");
    }
    let mut total = Value::Null;
    eventually("all are in the ledger", Duration::from_secs(20), || {
        total = proxy.admin_get("/api/v1/usage").json()["total"].clone();
        total["requests"] == 5
    });
    for (count, expected) in [
        ("status_2xx", 3),
        ("status_4xx", 1),
        ("status_5xx", 1),
        ("status_3xx", 0),
        ("cache_hits", 2),
        ("cache_bytes", 200),
    ] {
        assert_eq!(total[count], expected, "{count} of {total}");
    }
    let count = |name: &str| total[name].as_u64().unwrap_or_default();
    assert!(count("retries") > 0, "{total}");
    let sent = origin.seen().len() as u64;
    assert_eq!(count("attempts"), sent);
    assert!(
        total["saved_upstream_seconds"].as_f64().unwrap() > 0.0,
        "{total}"
    );
    let pairs = proxy.admin_get("/api/v1/traffic").json();
    assert_eq!(pairs["pairs"][0]["calls_per_trace"], 2.5, "{pairs}");
}

#[test]
fn another_reader_finds_in_the_parquet_file_what_the_api_says() {
    let origin = Origin::saying("ok");
    let proxy = Setup::config(&config(&origin, "memory")).start();
    ask(&proxy, &["one", "two", "three"], 7);
    let path = "/api/v1/usage?from=-1d&by=hour,client,upstream&limit=100";
    let mut answer = Value::Null;
    eventually("all are in the ledger", Duration::from_secs(20), || {
        answer = proxy.admin_get(path).json();
        answer["total"]["requests"] == 21
    });
    let admin = format!("http://{}", proxy.admin());
    let by = ["--from=-1d", "--by=hour,client,upstream"];
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["usage", "--admin", &admin, "-o", "parquet"])
        .args(by)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let reader = SerializedFileReader::new(bytes::Bytes::from(output.stdout)).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    let rows: Vec<BTreeMap<String, Field>> = rows
        .map(|row| row.unwrap().into_columns().into_iter().collect())
        .collect();
    let expected = answer["rows"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(expected) {
        let names = ["client", "upstream", "requests", "bytes_in", "bytes_out"];
        let numbers = ["status_2xx", "upstream_seconds", "share", "p98_ms"];
        for name in names.iter().chain(&numbers) {
            assert_eq!(value(&row[*name]), expected[*name], "{name}");
        }
        let hour: jiff::Timestamp = expected["hour"].as_str().unwrap().parse().unwrap();
        assert_eq!(row["hour"], Field::TimestampMillis(hour.as_millisecond()));
        assert_eq!(row["peak_rate"], Field::Null);
        assert!(!row.contains_key("route"));
    }
}

fn value(field: &Field) -> Value {
    match field {
        Field::Str(text) => text.as_str().into(),
        Field::Long(number) => (*number).into(),
        Field::Double(number) => (*number).into(),
        _ => Value::Null,
    }
}

#[test]
fn a_postgresql_that_is_away_delays_nobody_and_misses_nothing_once_it_is_back() {
    let origin = Origin::saying("ok");
    let mut server = Server::start();
    let url = server.database("ledger");
    server.kill();
    let proxy = Setup::config(&config(&origin, &url)).start();
    let mut expected = Count::new();
    ask(&proxy, &["one", "two"], 10);
    eventually("that it is away is said", Duration::from_secs(20), || {
        proxy.status()["usage"]["error"].is_string()
    });
    let status = proxy.status().to_string();
    assert!(status.contains("postgres://tidegate@") && !status.contains("no-secret"));
    assert_eq!(proxy.admin_get("/api/v1/usage").status, 503);
    server.run();
    let all = |expected: u64| {
        eventually("all are in the ledger", Duration::from_secs(60), || {
            let total = &proxy.admin_get("/api/v1/usage").json()["total"];
            total["requests"] == expected
        });
    };
    all(20);
    // In the middle, and while something is under way.
    ask(&proxy, &["one", "two"], 10);
    server.kill();
    ask(&proxy, &["one", "two"], 10);
    proxy.metrics_until("rows wait", |metrics| {
        let value = |name| metrics.value(name, &[]).unwrap_or_default();
        value("tidegate_usage_pending") > 0.0 && value("tidegate_usage_write_errors_total") > 1.0
    });
    server.run();
    all(60);
    add(&mut expected, &logged(&proxy));
    agrees(&proxy, &expected);
    let (read, said) = server.sql("ledger", "SELECT SUM(requests) FROM usage_day_total");
    assert!(read && said == "60", "{said}");
    assert!(!proxy.stderr().contains("no-secret"));
}

#[test]
fn a_kill_while_postgresql_is_away_loses_nothing_that_was_handed_over_and_nothing_counts_twice() {
    let origin = Origin::saying("ok");
    let mut server = Server::start();
    let url = server.database("ledger");
    let state = tempfile::tempdir().unwrap();
    let config = format!(
        "[server]\nstate_dir = \"{}\"\n{}",
        state.path().display(),
        config(&origin, &url)
    );
    let mut proxy = Setup::config(&config).start();
    let mut expected = Count::new();
    ask(&proxy, &["one", "two"], 5);
    eventually("all are in the ledger", Duration::from_secs(20), || {
        proxy.admin_get("/api/v1/usage").json()["total"]["requests"] == 10
    });
    server.kill();
    // What `last` asked for comes after all else, in the same delta or a later one.
    let waiting = |rows| {
        proxy.metrics_until("rows wait", |metrics| {
            let value = |name| metrics.value(name, &[]).unwrap_or_default();
            assert!(value("tidegate_usage_unjournaled_total") < 1.0);
            value("tidegate_usage_pending") >= rows
        });
    };
    ask(&proxy, &["one", "two"], 7);
    waiting(2.0);
    ask(&proxy, &["last"], 1);
    waiting(3.0);
    add(&mut expected, &logged(&proxy));
    assert_eq!(expected.values().map(|sums| sums.0).sum::<u64>(), 25);
    proxy.signal(Signal::KILL);
    assert!(!proxy.wait_exit().success());
    // Ended while it is still away, which loses nothing either.
    let mut proxy = Setup::config(&config).start();
    ask(&proxy, &["two"], 3);
    proxy.access_log_entry("the last", |line| line["client"] != "");
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit().success());
    add(&mut expected, &logged(&proxy));
    server.run();
    for _ in 0..2 {
        let mut proxy = Setup::config(&config).start();
        agrees(&proxy, &expected);
        proxy.signal(Signal::KILL);
        assert!(!proxy.wait_exit().success());
    }
}
