//! The page, the way in, and the feed.

use http_body_util::BodyExt as _;

use super::*;

#[tokio::test]
async fn the_page_names_its_files_by_what_is_in_them_and_they_may_be_kept_for_ever() {
    let state = state();
    let page = get_path(&state, "/").await;
    assert_eq!(page.header("cache-control"), "no-cache");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    assert!(!page.text.contains("<style") && !page.text.contains("style="));
    for (name, kind) in [
        ("app.js", "text/javascript"),
        ("app.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let at = page.text.find(&format!("\"/{name}?")).unwrap();
        let path = page.text[at + 1..].split('"').next().unwrap();
        let file = get_path(&state, path).await;
        assert_eq!((file.status, file.header("content-type")), (200, kind));
        assert!(file.header("cache-control").contains("immutable"));
        let unnamed = get_path(&state, &format!("/{name}")).await;
        assert_eq!(unnamed.header("cache-control"), "no-cache");
        let known = [
            ("host", "localhost"),
            ("if-none-match", file.header("etag")),
        ];
        assert_eq!(get_with(&state, path, &known).await.status, 304);
    }
    let other = [("host", "evil.example")];
    assert!(get_with(&state, "/", &other).await.is_problem(403));
}

#[tokio::test]
async fn the_whole_page_is_light() {
    let mut weight = 0;
    for path in assets::PATHS {
        let request = Request::get(path)
            .header("host", "localhost")
            .header("accept-encoding", "gzip, br");
        let request = request.body(Body::empty()).unwrap();
        let response = router(state()).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        weight += body.len();
    }
    assert!(weight < 250 << 10, "{weight} bytes");
}

fn login(token: &str) -> String {
    serde_json::json!({ "token": token }).to_string()
}

#[tokio::test]
async fn the_token_begins_a_session_that_no_script_reads_and_no_other_site_uses() {
    let mut state = state();
    state.token = Some(Secret::new("s3cret".into()));
    let wrong = post_json(&state, "/api/v1/session", &login("s3cre")).await;
    assert!(wrong.is_problem(401) && wrong.header("set-cookie").is_empty());

    let right = post_json(&state, "/api/v1/session", &login("s3cret")).await;
    assert_eq!(right.status, 200);
    let cookie = right.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    assert!(!cookie.contains("s3cret"));
    let cookie = cookie.split(';').next().unwrap();
    let path = "/api/v1/status";
    let with = [("host", "gate:9900"), ("cookie", cookie)];
    assert_eq!(get_with(&state, path, &with).await.status, 200);
    let forged = format!("{cookie}x");
    let forged = [("host", "gate:9900"), ("cookie", forged.as_str())];
    assert!(get_with(&state, path, &forged).await.is_problem(401));

    for (origin, status) in [
        (None, 403),
        (Some("http://evil.example"), 403),
        (Some("http://gate:3000"), 403),
        (Some("http://gate:9900"), 200),
    ] {
        let mut request = Request::post("/api/v1/cache/purge")
            .header("host", "gate:9900")
            .header("cookie", cookie)
            .header("content-type", "application/json");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let request = request.body(Body::from(r#"{"tag":"news","reason":"test"}"#));
        let answer = send(&state, request.unwrap()).await;
        assert_eq!(answer.status, status, "{origin:?}");
    }
    let ended = delete(&state, "/api/v1/session").await;
    assert!(ended.header("set-cookie").contains("Max-Age=0"));
}

#[tokio::test]
async fn the_feed_begins_at_once_and_is_made_once_for_all() {
    let mut state = state();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    state.snapshot = Arc::new(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        snapshot()
    });
    let watch = async || {
        let request = Request::get("/api/v1/stream").header("host", "localhost");
        let request = request.body(Body::empty()).unwrap();
        let mut response = router(state.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        (response, frame.into_data().unwrap())
    };
    let (one, first) = watch().await;
    let (other, second) = watch().await;
    assert_eq!(first, second);
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    let text = String::from_utf8(first.to_vec()).unwrap();
    let data = text.strip_prefix("event: moment\ndata: ").unwrap();
    let moment: Value = serde_json::from_str(data.trim_end()).unwrap();
    assert_eq!(moment["upstreams"][0]["name"], "orders");
    assert_eq!(moment["upstreams"][0]["endpoints"]["in_use"], 1);
    drop((one, other));
}

#[tokio::test]
async fn one_upstream_tells_everything_and_an_unknown_one_nothing() {
    let state = state();
    let all = get_path(&state, "/api/v1/upstreams/orders").await.json();
    assert_eq!(all["endpoints"][0]["address"], "10.0.0.1:8080");
    assert_eq!(all["limit"]["upstream"], "orders");
    for path in ["/api/v1/upstreams/none", "/api/v1/history?upstream=none"] {
        assert!(get_path(&state, path).await.is_problem(404));
    }
    let past = get_path(&state, "/api/v1/history?seconds=5").await.json();
    assert_eq!(past["bands_ms"][0], 0.0);
    assert_eq!(past["upstreams"][0]["upstream"], "orders");
}
