//! An origin that fails, and operators who act.

use std::sync::Arc;

use serde_json::json;

use super::{Field, Scene, account, did, ok, turn};
use crate::support::client::Client;
use crate::support::http_origin::{Flavour, Origin};
use crate::support::proxy::Proxy;
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::{Gate, Reply};
use crate::support::wait::{PATIENCE, eventually};

const STALE: Field = ("cache-control", "max-age=0");
const TAG: Field = ("etag", "\"a\"");
const FRESH: Field = ("cache-control", "max-age=3600");

#[test]
fn what_is_stale_stands_in_for_an_origin_that_fails() {
    let failing = turn(503, &[], "");
    let scripts = vec![
        vec![ok(&[STALE, TAG]), failing.clone()],
        vec![
            ok(&[("cache-control", "max-age=0, must-revalidate"), TAG]),
            failing.clone(),
        ],
        vec![
            ok(&[("cache-control", "max-age=0, stale-if-error=60"), TAG]),
            failing,
        ],
    ];
    let mut scene = Scene::new(scripts, "");
    for path in ["/0", "/1", "/2"] {
        scene.get(path, &[]);
    }
    for (path, status, what) in [
        ("/0", 200, "fwd=stale; fwd-status=503; detail=sie"),
        ("/1", 503, "fwd=stale; fwd-status=503"),
        ("/2", 200, "fwd=stale; fwd-status=503; detail=sie"),
    ] {
        let response = scene.get(path, &[]);
        assert_eq!(
            (response.status, did(&response).as_str()),
            (status, what),
            "{path}"
        );
        if status == 200 {
            assert_eq!(response.text(), "answer 1");
            assert!(response.header("age").is_some());
        }
    }
    let line = scene
        .proxy
        .access_log_entry("a stale answer", |line| line["cache"] == "stale");
    assert_eq!(line["status"], 200);
}

#[test]
fn what_is_stale_stands_in_while_the_breaker_is_open_and_no_longer_than_allowed() {
    for (settings, status) in [("", 200), ("stale_if_unhealthy = \"0s\"", 503)] {
        let mut scene = Scene::new(vec![vec![ok(&[STALE, TAG])]], settings);
        scene.get("/0", &[]);
        let open = json!({ "state": "open", "ttl": "10m", "reason": "test" });
        assert_eq!(
            scene.proxy.admin_post("/api/v1/breakers/app", &open).status,
            200
        );
        let response = scene.get("/0", &[]);
        assert_eq!(response.status, status, "{settings}");
        if status == 200 {
            assert_eq!(did(&response), "fwd=stale; detail=sie");
            let id = response.header("x-request-id").expect("an id").to_owned();
            eventually("it is explained", PATIENCE, || {
                let why = scene.proxy.admin_get(&format!("/api/v1/why/{id}"));
                why.status == 200 && why.text().contains("\"cache\"")
            });
        }
        assert_eq!(scene.origin.count(), 1);
    }
}

#[test]
fn what_is_stale_stands_in_for_an_origin_that_cannot_be_reached() {
    let fresh = vec![ok(&[FRESH])];
    let scene = Scene::new(vec![vec![ok(&[STALE, TAG])], fresh], "");
    let Scene {
        proxy: _proxy,
        origin,
        mut client,
    } = scene;
    client.get("/0");
    client.get("/1");
    let address = origin.address();
    drop(origin);
    eventually("the origin is gone", PATIENCE, || {
        Client::try_connect(address).is_err()
    });
    let stale = client.get("/0");
    assert_eq!((stale.status, stale.text().as_str()), (200, "answer 1"));
    assert_eq!(did(&stale), "fwd=stale; detail=sie");
    assert_eq!(did(&client.get("/1")), "hit");
    let refused = client.get("/2");
    assert_eq!(refused.status, 502);
    assert_eq!(refused.problem()["reason"], "connect_failed");
}

#[test]
fn what_is_stale_stands_in_while_the_queue_is_full() {
    let gate = Arc::new(Gate::closed());
    let held = Arc::clone(&gate);
    let origin = Origin::start(Flavour::Http1, move |seen| {
        let gate = Arc::clone(&held);
        async move {
            if seen.path == "/held" {
                gate.pass().await;
            }
            Reply::ok("here")
                .header("cache-control", "max-age=0")
                .header("etag", "\"a\"")
        }
    });
    let address = origin.address();
    let proxy = Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [\"{address}\"]\n\
         concurrency = {{ algorithm = \"fixed\", max = 1 }}\nqueue = {{ mode = \"off\" }}\n\
         [cache.shared]\n[[routes]]\nname = \"app\"\nupstream = \"app\"\ncache = \"shared\"\n"
    ));
    let mut client = proxy.client().host("a");
    client.get("/");
    let mut holder = proxy.client().host("a");
    holder.send(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    origin.wait_for_in_flight(1);
    let stale = client.get("/");
    assert_eq!((stale.status, stale.text().as_str()), (200, "here"));
    assert_eq!(did(&stale), "fwd=stale; detail=sie");
    let refused = client.get("/other");
    assert_eq!(
        (refused.status, refused.problem()["reason"].as_str()),
        (503, Some("queue_full"))
    );
    assert_eq!(origin.arrived().len(), 2);
    gate.open();
    assert_eq!(holder.response("GET").text(), "here");
}

#[test]
fn a_stale_error_does_not_stand_in_for_the_next() {
    let failing = turn(503, &[("cache-control", "max-age=1"), ("age", "2")], "");
    let mut scene = Scene::new(vec![vec![failing]], "");
    for answer in ["answer 1", "answer 2"] {
        assert_eq!(scene.get("/0", &[]).text(), answer);
    }
}

#[test]
fn a_stale_answer_is_renewed_behind_the_clients_back() {
    let swr = ok(&[("cache-control", "max-age=0, stale-while-revalidate=600")]);
    let mut scene = Scene::new(vec![vec![swr, ok(&[FRESH])]], "");
    scene.get("/0", &[]);
    let stale = scene.get("/0", &[]);
    assert_eq!(
        (did(&stale).as_str(), stale.text().as_str()),
        ("hit; detail=swr", "answer 1")
    );
    eventually("it is renewed", PATIENCE, || {
        scene.get("/0", &[]).text() == "answer 2"
    });
    assert_eq!(scene.seen("/0").len(), 2);
}

#[test]
fn a_purge_drops_what_it_names_and_nothing_else() {
    let tagged = ok(&[
        FRESH,
        ("cache-tag", "news, front"),
        ("surrogate-key", "a b"),
    ]);
    let plain = ok(&[FRESH]);
    for (scope, purged) in [
        (json!({ "tag": "front" }), 1),
        (json!({ "tag": "b" }), 1),
        (json!({ "tag": "fron" }), 0),
        (json!({ "url": "http://a.example/0" }), 1),
        (json!({ "url": "http://a.example/" }), 0),
        (json!({ "prefix": "http://a.example/" }), 2),
    ] {
        let scene = Scene::new(vec![vec![tagged.clone()], vec![plain.clone()]], "");
        let mut client = scene.proxy.client().host("a.example");
        let first = client.get("/0");
        assert_eq!(
            (first.header("cache-tag"), first.header("surrogate-key")),
            (None, None)
        );
        client.get("/1");
        assert_eq!(client.get("/0").header("cache-tag"), None);
        let mut body = scope.clone();
        body["reason"] = "test".into();
        let answer = scene.proxy.admin_post("/api/v1/cache/purge", &body);
        assert_eq!(answer.json()["purged"], purged, "{scope}");
        client.get("/0");
        client.get("/1");
        let asked = usize::try_from(purged).expect("few");
        assert_eq!(scene.origin.count(), 2 + asked, "{scope}");
    }
}

#[test]
fn a_soft_purge_leaves_what_may_be_used_stale() {
    let swr = ok(&[("cache-control", "max-age=600, stale-while-revalidate=600")]);
    let scene = Scene::new(vec![vec![swr]], "");
    let mut client = scene.proxy.client().host("a");
    client.get("/0");
    let body = json!({ "url": "http://a/0", "soft": true, "reason": "test" });
    scene.proxy.admin_post("/api/v1/cache/purge", &body);
    let stale = client.get("/0");
    assert_eq!(did(&stale), "hit; detail=swr");
    eventually("it is renewed", PATIENCE, || {
        client.get("/0").text() == "answer 2"
    });
}

#[test]
fn a_purge_says_what_is_wrong_with_it() {
    let scene = Scene::new(Vec::new(), "");
    for (body, status) in [
        (json!({ "reason": "test" }), 400),
        (json!({ "url": "/relative", "reason": "test" }), 400),
        (
            json!({ "tag": "a", "url": "http://a/", "reason": "test" }),
            400,
        ),
        (json!({ "tag": "a" }), 400),
        (
            json!({ "tag": "a", "cache": "other", "reason": "test" }),
            404,
        ),
    ] {
        let answer = scene.proxy.admin_post("/api/v1/cache/purge", &body);
        assert_eq!(answer.status, status, "{body}");
    }
}

#[test]
fn the_caches_are_shown_with_what_stands_out() {
    let mut scene = Scene::new(vec![vec![ok(&[FRESH])], vec![turn(200, &[], "x")]], "");
    scene.get("/0", &[]);
    scene.get("/0", &[]);
    scene.get("/1", &[]);
    let shown = scene.proxy.admin_get("/api/v1/cache").json();
    let cache = &shown["caches"][0];
    assert_eq!(cache["name"], "shared");
    assert_eq!(cache["requests"]["hit"], 1);
    assert_eq!(cache["requests"]["miss"], 2);
    assert_eq!(cache["top_by_saved_seconds"][0]["hits"], 1);
    let url = cache["top_by_bytes"][0]["url"].as_str().expect("a URL");
    assert!(url.ends_with("/0"), "{url}");
    let bytes = scene.proxy.metrics();
    let bytes = bytes.value(
        "tidegate_cache_bytes",
        &[("cache", "shared"), ("tier", "memory")],
    );
    assert!(bytes.is_some_and(|bytes| bytes > 0.0));
    assert!(account(&scene.get("/0", &[])).starts_with("tidegate; hit; ttl="));
}

#[test]
fn hints_for_what_is_fetched_anew_go_to_nobody() {
    let origin = RawOrigin::start(|mut conversation| {
        while let Some((head, _)) = conversation.read_request() {
            if head.headers.get("if-none-match").is_some() {
                conversation.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
            }
            let fresh = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\netag: \"a\"\r\n\
                cache-control: max-age=0, stale-while-revalidate=600\r\n\r\nx";
            conversation.write(fresh);
        }
    });
    let proxy = super::proxy_to(origin.address(), "");
    let mut client = proxy.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").interim, Vec::<u16>::new());
    }
}

#[test]
fn who_goes_away_while_being_answered_is_done_with() {
    const LENGTH: usize = 16 << 20;
    let body = "x".repeat(LENGTH);
    let mut scene = Scene::new(vec![vec![turn(200, &[FRESH], &body)]], "");
    assert_eq!(scene.get("/0", &[]).body.len(), LENGTH);
    let mut gone = scene.proxy.client();
    let get = format!("GET /0 HTTP/1.1\r\nhost: {}\r\n\r\n", scene.proxy.address());
    gone.send(get.as_bytes());
    let inflight = || {
        let answer = scene.proxy.admin_get("/api/v1/inflight?limit=1");
        answer.json()["total"].clone()
    };
    eventually("it is being answered", PATIENCE, || inflight() == 1);
    drop(gone);
    eventually("it is over", PATIENCE, || inflight() == 0);
    eventually("the log tells both apart", PATIENCE, || {
        let log = scene.proxy.access_log();
        let gone = log.iter().filter(|line| line["outcome"] == "client_gone");
        (log.len(), gone.count()) == (2, 1)
    });
}
