//! Screens of 80 columns against what is expected of them, and what keys do.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, from_value, json};

use super::app::{App, Order, View};
use super::draw::draw;
use super::shot::Shot;

fn shot(verdicts: &Value, requests: u64) -> Shot {
    let recent = json!({
        "over_seconds": 10, "requests": requests, "errors": 5, "p50_ms": 12.3, "p98_ms": 1520.0, "p99_ms": 1700.0,
    });
    let total = json!({ "requests": 5_000, "errors": 5, "bytes_in": 0, "bytes_out": 0 });
    let endpoint = |address: &str, state: &str| {
        json!({
            "address": address, "zone": null, "weight": 1.0, "healthy": state == "healthy", "state": state,
            "message": "connection refused", "in_flight": 1, "latency_ms": 9.5, "connections": 2,
        })
    };
    let share =
        |now: f64| json!({ "overall": 0.25, "peak": null, "last_minute": 0.5, "last_10s": now });
    let took = json!({
        "requests": 4_000, "by_class": {}, "bytes_in": 0, "bytes_out": 0, "retries": 0, "upstream_seconds": 61.5,
    });
    let client = |name: &str, now: f64, flags: Value| {
        json!({
            "client": name, "label": name, "owner": "data team", "tier": null, "declared_rate": null, "requests": 4_000,
            "refused": 7, "upstream_seconds": 61.5, "share": share(now), "flags": flags,
            "upstreams": [{
                "upstream": "shop", "took": took, "untold_upstream_seconds": 0.0, "p50_ms": 10.0, "p98_ms": 150.0,
                "p99_ms": 160.0, "share": share(now),
            }],
        })
    };
    let noisy = json!([{
        "flag": "noisy", "upstream": "shop", "since": "2026-11-26T08:00:00Z", "routes": [],
        "evidence": [{ "what": "share", "value": 0.8, "baseline": null, "unit": "ratio" }],
    }]);
    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        from_value(value).unwrap()
    }
    Shot {
        status: of(json!({
            "version": "9.9.9", "pid": 7, "started_at": "", "uptime_seconds": 200, "workers": 2, "draining": false,
            "config": { "source": null, "hash": "", "loaded_at": "", "last_reload": null },
            "connections": 51, "listeners": [],
            "exchanges": { "total": 1_000, "errors": 5, "by_outcome": {}, "bytes_in": 0, "bytes_out": 0 },
            "dropped": { "exchanges": 0, "access_log_lines": 0 }, "state": { "directory": null, "error": null },
            "usage": { "store": "memory", "file": null, "written": null, "pending": 0, "dropped": 0, "error": null },
        })),
        upstreams: of(json!({ "upstreams": [{
            "name": "shop", "protocol": "http1", "balance": "peak-ewma", "in_flight": 3, "connections": 4,
            "traffic": { "total": total, "recent": recent }, "windows": [],
            "endpoints": [endpoint("10.0.0.1:80", "healthy"), endpoint("10.0.0.2:80", "unhealthy")],
        }] })),
        limits: of(json!({ "rate_limits": [], "limits": [{
            "upstream": "shop", "mode": "enforce", "algorithm": "adaptive", "limit": 16, "in_flight": 3, "waiting": 2,
            "streams": 0, "elasticity": null, "base_latency_ms": null, "latency_ms": null, "throughput": null,
        }] })),
        breakers: of(json!({ "breakers": [] })),
        clients: of(json!({
            "sort": "cost", "total": 2, "upstreams": [],
            "clients": [client("reports", 0.8, noisy), client("web", 0.2, json!([]))],
        })),
        in_flight: of(json!({ "total": 1, "silent_workers": 0, "requests": [{
            "request_id": "0193", "method": "GET", "path": "/shop/report/7", "age_ms": 12_000.0, "phase": "wait",
            "route": "shop", "upstream": "shop", "endpoint": "10.0.0.1:80", "attempts": 1,
        }] })),
        diagnosis: of(json!({ "lagging": true, "verdicts": verdicts })),
        isolations: of(json!({ "isolations": [{
            "id": "4f1c", "kind": "client", "subject": "batch", "to": "lane", "since": "", "until": "",
            "remaining_seconds": 90, "reason": "too loud", "by": "127.0.0.1:5", "passed": 3, "refused": 11,
        }] })),
    }
}

fn noisy() -> Value {
    json!([{
        "cause": "noisy_client", "subject": "reports", "upstream": "shop", "confidence": 0.87, "since_seconds": 3,
        "evidence": [], "action": null,
        "advice": "hold it back: tidegate isolate client reports --to lane --ttl 15m --reason noisy; for good, more",
    }])
}

fn app() -> App {
    let mut app = App::new(View::Upstreams, false);
    app.look(shot(&noisy(), 1_000));
    app
}

fn press(app: &mut App, code: KeyCode) -> Option<Order> {
    app.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn write(app: &mut App, text: &str) {
    for letter in text.chars() {
        assert_eq!(press(app, KeyCode::Char(letter)), None);
    }
}

/// The screen's lines, without the blanks at their ends.
fn screen(app: &App) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(80, 16)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let text = terminal.backend().to_string();
    let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
    lines.map(str::to_owned).collect()
}

#[test]
fn upstreams_stand_under_the_verdict_within_80_columns() {
    let expected = [
        "tidegate 9.9.9  up 3m 20s  51 connections  1 in flight  0.5% failed",
        "◆ noisy_client reports, 87% sure",
        "  → hold it back:",
        "    tidegate isolate client reports --to…-ttl 15m --reason noisy; for good, more",
        "[1 Upstreams]  2 Clients   3 In flight   4 Isolations",
        "  UPSTREAM      STATE     BREAKER LOAD QUEUE REQ/S ERRORS    P50   P98",
        "> shop          1/2 up    -       3/16     2   100   0.5% 12.3ms 1.52s",
        "    10.0.0.1:80 healthy              1                     9.5ms",
        "    10.0.0.2:80 unhealthy            1                     9.5ms",
    ];
    assert_eq!(screen(&app()).get(..9).unwrap(), expected);
}

#[test]
fn every_view_is_a_key_away() {
    let mut app = app();
    press(&mut app, KeyCode::Char('2'));
    let clients = screen(&app);
    assert_eq!(
        clients[6],
        "> reports  noisy     4000       7 80.0%   25.0%    - 150ms"
    );
    assert_eq!(
        clients[7],
        "  web                4000       7 20.0%   25.0%    - 150ms"
    );
    press(&mut app, KeyCode::Tab);
    assert_eq!(
        screen(&app)[6],
        "> GET /shop/report/7 wait  shop     10.0.0.1:80   1 12.00s"
    );
    press(&mut app, KeyCode::Tab);
    assert_eq!(
        screen(&app)[6],
        "> batch    client lane too loud 1m 30s      11"
    );
    press(&mut app, KeyCode::BackTab);
    assert_eq!(app.view, View::Inflight);
}

#[test]
fn nothing_wrong_is_said_so() {
    let mut app = App::new(View::Upstreams, false);
    assert_eq!(screen(&app)[0], "asking …");
    app.look(shot(&json!([]), 1));
    assert_eq!(
        screen(&app)[1],
        "◇ clients suffer, and no cause is sure enough yet"
    );
}

#[test]
fn rows_are_filtered_and_sorted_and_the_selection_stays_with_its_row() {
    let mut app = app();
    write(&mut app, "2js");
    assert_eq!(app.sorted_by(), Some("REQUESTS"));
    write(&mut app, "ss");
    assert_eq!(app.sorted_by(), Some("10S"));
    assert!(screen(&app)[7].starts_with("> web"));
    let mut turned = shot(&noisy(), 1_000);
    turned.clients.clients.reverse();
    write(&mut app, "ssss");
    assert_eq!(app.sorted_by(), None);
    app.look(turned);
    assert!(screen(&app)[6].starts_with("> web"));
    write(&mut app, "/rep");
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.rows().len(), 1);
    assert!(screen(&app)[4].ends_with("/rep"));
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.rows().len(), 2);
}

#[test]
fn a_client_is_isolated_with_a_reason_and_released() {
    let mut app = app();
    write(&mut app, "2i");
    assert!(
        screen(&app)
            .iter()
            .any(|line| line.contains("client reports"))
    );
    assert_eq!(press(&mut app, KeyCode::Enter), None);
    assert!(app.said.contains("reason"));
    press(&mut app, KeyCode::Right);
    press(&mut app, KeyCode::Up);
    let Some(Order::Isolate(preview)) = press(&mut app, KeyCode::Tab) else {
        panic!("a preview is asked for");
    };
    assert!(preview.preview);
    write(&mut app, "loud");
    let Some(Order::Isolate(asked)) = press(&mut app, KeyCode::Enter) else {
        panic!("it is asked for");
    };
    assert_eq!(
        (
            &*asked.kind,
            &*asked.subject,
            asked.to.as_deref(),
            &*asked.ttl,
            &*asked.reason
        ),
        ("client", "reports", Some("throttle=1/s"), "30m", "loud")
    );
    assert!(!asked.preview);
    write(&mut app, "4");
    let released = press(&mut app, KeyCode::Char('r'));
    assert_eq!(released, Some(Order::Release("4f1c".to_owned())));
    write(&mut app, "1i");
    assert!(app.said.contains("cannot be isolated"));
    press(&mut app, KeyCode::Down);
    write(&mut app, "i");
    press(&mut app, KeyCode::Right);
    write(&mut app, "bad disk");
    let Some(Order::Isolate(asked)) = press(&mut app, KeyCode::Enter) else {
        panic!("an endpoint can be isolated");
    };
    assert_eq!(
        (&*asked.subject, asked.to.as_deref()),
        ("shop/10.0.0.1:80", Some("block"))
    );
}

#[test]
fn a_row_tells_more_and_q_ends() {
    let mut app = app();
    write(&mut app, "2");
    press(&mut app, KeyCode::Enter);
    let shown = screen(&app).join(" ");
    assert!(
        shown.contains("owner data team") && shown.contains("noisy at shop"),
        "{shown}"
    );
    press(&mut app, KeyCode::Esc);
    assert!(!app.is_done());
    write(&mut app, "q");
    assert!(app.is_done());
    let mut app = self::app();
    app.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(app.is_done());
}
