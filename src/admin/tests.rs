mod dashboard;
mod guard;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use serde_json::Value;
use tower::ServiceExt;

use self::world::{INCIDENT, delete, get_path, get_with, post_json, send, snapshot, state};
use super::*;
use crate::config::plan;
use crate::incident::bundle::{FLAMEGRAPH, FOLDED, pack};
use crate::model::{EndpointId, Phase, RouteId, UpstreamId};
use crate::observe::collector::tests::metrics_of;
use crate::observe::events::tests::events;
use crate::observe::inflight;
use crate::observe::snapshot::{
    EndpointView, IssuerView, ListenerView, RateLimitView, UpstreamView, UsageView,
};
use crate::observe::tables::tests::{answered, refused};
use crate::usage::Ledger;
use crate::usage::store::Store;

#[tokio::test]
async fn every_path_of_the_description_answers_as_described() {
    let state = state();
    let document = get_path(&state, "/api/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(
        paths.len(),
        // One path answers both, and one only DELETE.
        openapi::GET_PATHS.len() + openapi::POST_PATHS.len()
    );
    for (path, operations) in paths {
        // One profile at a time, and another test may be taking it; of memory only the binary has one.
        if path.starts_with("/debug/pprof/") {
            continue;
        }
        for (method, operation) in operations.as_object().unwrap() {
            if path == "/api/v1/stream" {
                // Never ends; has a test of its own.
                continue;
            }
            let answer = if path == "/api/v1/session" && method == "delete" {
                delete(&state, path).await
            } else if method == "get" {
                let id = "0195f6a1-7c3e-7b11-a4d3-0242ac120002";
                // Events as they come never end.
                let path = path
                    .replace("{request_id}", id)
                    .replace("{upstream}", "orders")
                    .replace("{id}", INCIDENT)
                    .replace("/events", "/events?recent");
                get_path(&state, &path).await
            } else if method == "delete" {
                let asked = r#"{"kind":"client","subject":"b","ttl":"1m","reason":"test"}"#;
                let isolated = post_json(&state, "/api/v1/isolations", asked).await.json();
                let id = isolated["id"].as_str().unwrap();
                delete(&state, &format!("/api/v1/isolations/{id}?reason=test")).await
            } else {
                let change = if path.contains("session") {
                    r#"{"token":"s3cret"}"#
                } else if path.contains("purge") {
                    r#"{"tag":"news","reason":"test"}"#
                } else if path.contains("isolations") {
                    r#"{"kind":"client","subject":"a","ttl":"1m","reason":"test"}"#
                } else if path.contains("breakers") {
                    r#"{"state":"auto","reason":"test"}"#
                } else {
                    r#"{"reason":"test"}"#
                };
                post_json(&state, &path.replace("{upstream}", "orders"), change).await
            };
            let responses = operation["responses"].as_object().unwrap();
            let described = responses.get(&answer.status.to_string());
            let described = described.unwrap_or_else(|| panic!("{path}: {}", answer.status));
            let mut kinds = described["content"].as_object().unwrap().keys();
            let answered = answer.header("content-type");
            assert!(
                kinds.any(|kind| answered.starts_with(kind.as_str())),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn the_status_tells_what_runs() {
    let state = state();
    let value = get_path(&state, "/api/v1/status").await.json();
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value["workers"], 2);
    assert_eq!(value["connections"], 3);
    assert_eq!(value["exchanges"]["total"], 2);
    assert_eq!(value["exchanges"]["by_outcome"]["refused"], 1);
    assert_eq!(value["config"]["hash"], "abc");
    assert_eq!(value["config"]["last_reload"], Value::Null);
    assert_eq!(value["draining"], false);
    state
        .status
        .reloaded(crate::clock::SystemClock, Err("no".into()));
    let value = get_path(&state, "/api/v1/status").await.json();
    assert_eq!(value["config"]["last_reload"]["error"], "no");
}

#[tokio::test]
async fn routes_and_upstreams_tell_their_traffic() {
    let state = state();
    let value = get_path(&state, "/api/v1/routes").await.json();
    let route = &value["routes"][0];
    assert_eq!(route["match"]["host"], "*.example.com");
    assert_eq!(route["match"]["path_prefix"], "/orders");
    assert_eq!(route["timeout_ms"], 15_000.0);
    assert_eq!(route["traffic"]["total"]["requests"], 1);
    assert!(route["traffic"]["recent"]["p98_ms"].as_f64().unwrap() > 19.0);
    let value = get_path(&state, "/api/v1/upstreams").await.json();
    let upstream = &value["upstreams"][0];
    assert_eq!(upstream["traffic"]["total"]["bytes_out"], 1_000);
    assert_eq!(upstream["endpoints"][0]["state"], "healthy");
    assert_eq!(upstream["endpoints"][0]["latency_ms"], 1.5);
}

#[tokio::test]
async fn a_reload_tells_the_new_hash_or_what_is_wrong() {
    let state = state();
    let answer = post_json(&state, "/api/v1/reload", "{\"reason\": \"new route\"}").await;
    assert_eq!(
        (answer.status, answer.json()["hash"].as_str()),
        (200, Some("def"))
    );
    let answer = post_json(&state, "/api/v1/reload", "{\"reason\": \"bad\"}").await;
    assert!(answer.is_problem(422));
    assert_eq!(answer.json()["detail"], "gate.toml:1:1 no");
}

#[tokio::test]
async fn a_drain_makes_it_unready_but_not_dead() {
    let state = state();
    assert_eq!(get_path(&state, "/readyz").await.status, 200);
    let answer = post_json(&state, "/api/v1/drain", "{\"reason\": \"move\"}").await;
    assert_eq!(
        (answer.status, answer.json()["already"].as_bool()),
        (202, Some(false))
    );
    while !state.status.is_draining() {
        tokio::task::yield_now().await;
    }
    assert_eq!(get_path(&state, "/readyz").await.status, 503);
    assert_eq!(get_path(&state, "/livez").await.status, 200);
    let answer = post_json(&state, "/api/v1/drain", "{\"reason\": \"again\"}").await;
    assert_eq!(answer.json()["already"], true);
}

#[tokio::test]
async fn a_change_without_a_reason_is_refused() {
    let state = state();
    for body in [
        "",
        "{}",
        "{\"reason\": \"  \"}",
        "{\"reason\": 1}",
        "{\"reason\": \"x\", \"y\": 1}",
    ] {
        let answer = post_json(&state, "/api/v1/drain", body).await;
        assert!(answer.is_problem(400), "{body}");
    }
    let long = format!("{{\"reason\": \"{}\"}}", "x".repeat(MAX_BODY));
    assert!(
        post_json(&state, "/api/v1/drain", &long)
            .await
            .is_problem(413)
    );
    assert!(!state.status.is_draining());
}

#[tokio::test]
async fn a_form_of_another_page_changes_nothing() {
    let state = state();
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = Request::post("/api/v1/drain").header("content-type", kind);
        let request = request.body(Body::from("{\"reason\": \"x\"}")).unwrap();
        assert!(send(&state, request).await.is_problem(415));
    }
}

#[tokio::test]
async fn requests_under_way_are_shown_with_their_names_and_as_many_as_asked_for() {
    let state = state();
    let all = get_path(&state, "/api/v1/inflight").await.json();
    assert_eq!(
        (&all["total"], all["requests"].as_array().map(Vec::len)),
        (&7.into(), Some(2))
    );
    let first = &all["requests"][0];
    assert_eq!(first["endpoint"], "10.0.0.1:8080");
    assert_eq!(
        (&first["phase"], &first["age_ms"]),
        (&"wait".into(), &2_500.0.into())
    );
    let one = get_path(&state, "/api/v1/inflight?limit=1").await.json();
    assert_eq!(one["requests"].as_array().map(Vec::len), Some(1));
    for wrong in ["limit=many", "limti=1"] {
        let answer = get_path(&state, &format!("/api/v1/inflight?{wrong}")).await;
        assert!(answer.is_problem(400), "{wrong}");
    }
}

#[tokio::test]
async fn a_refused_request_is_explained_by_its_id() {
    let state = state();
    let id = "0195f6a1-7c3e-7b11-a4d3-0242ac120002";
    let why = get_path(&state, &format!("/api/v1/why/{id}")).await.json();
    assert_eq!(
        (&why["status"], &why["reason"]),
        (&404.into(), &"no_route".into())
    );
    assert_eq!(
        why["phases"].as_array().map(Vec::len),
        Some(Phase::ALL.len())
    );
    let answer = get_path(&state, "/api/v1/why/another").await;
    assert!(answer.is_problem(404));
    assert!(
        answer.text.contains("Known are, since 2026-"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn an_order_to_a_breaker_is_checked_before_it_is_given() {
    let state = state();
    let open = r#"{"state":"open","ttl":"30m","reason":"drill"}"#;
    let answer = post_json(&state, "/api/v1/breakers/orders", open).await;
    assert_eq!(
        (answer.status, answer.json()["ttl"].as_str()),
        (200, Some("30m"))
    );
    let auto = r#"{"state":"auto","reason":"over"}"#;
    let answer = post_json(&state, "/api/v1/breakers/orders", auto).await;
    assert_eq!(answer.status, 200);
    for (upstream, status) in [("idle", 409), ("other", 404)] {
        let path = format!("/api/v1/breakers/{upstream}");
        assert!(post_json(&state, &path, open).await.is_problem(status));
    }
    for wrong in [
        r#"{"state":"ajar","ttl":"30m","reason":"drill"}"#,
        r#"{"state":"open","reason":"drill"}"#,
        r#"{"state":"open","ttl":"0s","reason":"drill"}"#,
        r#"{"state":"open","ttl":"8d","reason":"drill"}"#,
        r#"{"state":"open","ttl":"soon","reason":"drill"}"#,
        r#"{"state":"open","ttl":"30m","reason":" "}"#,
        r#"{"state":"open","ttl":"30m"}"#,
    ] {
        let answer = post_json(&state, "/api/v1/breakers/orders", wrong).await;
        assert!(answer.is_problem(400), "{wrong}");
    }
}

#[tokio::test]
async fn reading_with_a_changing_method_and_the_reverse_are_refused() {
    let state = state();
    let answer = get_path(&state, "/api/v1/drain").await;
    assert!(answer.is_problem(405));
    assert_eq!(answer.header("allow"), "POST");
    assert!(
        post_json(&state, "/api/v1/status", "{}")
            .await
            .is_problem(405)
    );
    assert!(post_json(&state, "/livez", "{}").await.is_problem(405));
}

#[tokio::test]
async fn metrics_come_in_the_format_the_reader_takes() {
    use crate::observe::prometheus::Format;

    let state = state();
    for (accept, format) in [
        ("*/*", Format::OpenMetrics),
        ("text/plain;version=0.0.4", Format::Classic),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            Format::OpenMetrics,
        ),
        (Format::Protobuf.content_type(), Format::Protobuf),
    ] {
        let answer = get_with(&state, "/metrics", &[("accept", accept)]).await;
        assert_eq!(answer.header("content-type"), format.content_type());
        let ended = answer.text.ends_with("# EOF\n");
        assert_eq!(ended, format == Format::OpenMetrics);
    }
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    assert!(get_path(&state(), "/nothing").await.is_problem(404));
}

#[tokio::test]
async fn who_is_isolated_is_listed_until_released() {
    let state = state();
    let path = "/api/v1/isolations";
    let asked = async |change: &str| post_json(&state, path, change).await;
    for (change, status, says) in [
        (
            r#"{"kind":"client","subject":"x","ttl":"1m"}"#,
            400,
            "reason",
        ),
        (
            r#"{"kind":"client","subject":"x","ttl":"1m","reason":" "}"#,
            400,
            "reason",
        ),
        (
            r#"{"kind":"client","subject":"x","ttl":"8d","reason":"r"}"#,
            400,
            "ttl",
        ),
        (
            r#"{"kind":"client","subject":"x","ttl":"0s","reason":"r"}"#,
            400,
            "ttl",
        ),
        (
            r#"{"kind":"client","subject":"","ttl":"1m","reason":"r"}"#,
            400,
            "name",
        ),
        (
            r#"{"kind":"planet","subject":"x","ttl":"1m","reason":"r"}"#,
            400,
            "kind",
        ),
        (
            r#"{"kind":"route","subject":"x","ttl":"1m","reason":"r"}"#,
            404,
            "route",
        ),
        (
            r#"{"kind":"endpoint","subject":"x","ttl":"1m","reason":"r"}"#,
            404,
            "UPSTREAM/ADDRESS",
        ),
        (
            r#"{"kind":"client","subject":"x","to":"throttle=9","ttl":"1m","reason":"r"}"#,
            400,
            "rate",
        ),
        (
            r#"{"kind":"client","subject":"x","to":"jail","ttl":"1m","reason":"r"}"#,
            400,
            "lane",
        ),
    ] {
        let answer = asked(change).await;
        assert!(answer.is_problem(status), "{change}: {}", answer.text);
        assert!(answer.text.contains(says), "{change}: {}", answer.text);
    }
    let preview =
        r#"{"kind":"client","subject":"x","to":"block","ttl":"1m","reason":"r","preview":true}"#;
    let preview = asked(preview).await.json();
    assert_eq!(
        (&preview["id"], &preview["to"]),
        (&Value::Null, &"block".into())
    );
    assert_eq!(preview["preview"]["would_refuse"], 0);
    assert_eq!(
        get_path(&state, path).await.json()["isolations"],
        serde_json::json!([])
    );

    let ordered =
        r#"{"kind":"client","subject":"x","to":"throttle=10/s","ttl":"30m","reason":"r"}"#;
    let id = asked(ordered).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let listed = get_path(&state, path).await.json();
    let one = &listed["isolations"][0];
    assert_eq!(
        (&one["id"], &one["subject"]),
        (&id.clone().into(), &"x".into())
    );
    assert!(one["remaining_seconds"].as_u64().unwrap() > 1_700);
    assert!(
        delete(&state, &format!("{path}/{id}"))
            .await
            .is_problem(400)
    );
    let gone = format!("{path}/{id}?reason=over");
    assert_eq!(delete(&state, &gone).await.status, 200);
    assert!(delete(&state, &gone).await.is_problem(404));
}
