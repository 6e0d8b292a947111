//! The method `PURGE`, as other caches take it.

use super::{Field, Scene, did, ok, proxy_on};
use crate::support::client::Client;
use crate::support::http_origin::Origin;
use crate::support::reply::Reply;

const FRESH: Field = ("cache-control", "max-age=3600");

fn purge(client: &mut Client, path: &str) -> (u16, String) {
    let answer = client.request("PURGE", path, &[], b"");
    (answer.status, answer.text())
}

#[test]
fn a_purge_drops_every_variant_of_its_url_and_nothing_else() {
    let origin = Origin::http1(|seen| {
        Reply::ok(seen.path.clone())
            .header("cache-control", "max-age=3600")
            .header("vary", "accept-language")
    });
    let listen = "purge_from = [\"127.0.0.0/8\"]";
    let proxy = proxy_on(
        listen,
        origin.address(),
        "key = { ignore_query = [\"utm_*\"] }",
    );
    let mut client = proxy.client().host("a.example");
    let read = |client: &mut Client, path: &str| {
        for language in ["de", "en"] {
            client.request("GET", path, &[("accept-language", language)], b"");
        }
    };
    read(&mut client, "/x?a=1");
    read(&mut client, "/x");
    assert_eq!(origin.count(), 4);
    let purged = purge(&mut client, "/y/../x?utm_source=mail&a=1");
    assert_eq!(purged, (200, "{\"purged\":1}".to_owned()));
    assert_eq!(purge(&mut client, "/x?a=1").0, 404);
    read(&mut client, "/x");
    assert_eq!(origin.count(), 4, "another URL was purged");
    read(&mut client, "/x?a=1");
    assert_eq!(origin.count(), 6);
    assert_eq!(purge(&mut proxy.client().host("b.example"), "/x").0, 404);
    let log = proxy.stderr();
    let told = log.lines().any(|line| {
        line.contains(r#""action":"purge","peer":"127.0.0.1""#)
            && line.contains(r#""url":"http://a.example/x?a=1""#)
    });
    assert!(told, "{log}");
}

#[test]
fn who_may_not_purge_is_refused_and_where_nobody_may_it_is_a_method_like_any_other() {
    for (listen, status, reason) in [
        ("purge_from = [\"192.0.2.1\"]", 403, Some("bad_request")),
        ("", 200, None),
        // What a client says of its own address counts only when its peer is trusted.
        (
            "purge_from = [\"192.0.2.1\"]\ntrusted_proxies = [\"127.0.0.1\"]",
            200,
            None,
        ),
        (
            "purge_from = [\"127.0.0.1\"]\ntrusted_proxies = [\"127.0.0.1\"]",
            403,
            Some("bad_request"),
        ),
    ] {
        let origin = Origin::http1(|_| Reply::ok("x").header("cache-control", "max-age=3600"));
        let proxy = proxy_on(listen, origin.address(), "");
        let mut client = proxy.client().host("a");
        client.get("/");
        let from = [("x-forwarded-for", "192.0.2.1")];
        let answer = client.request("PURGE", "/", &from, b"");
        assert_eq!(answer.status, status, "{listen}");
        if let Some(reason) = reason {
            assert_eq!(answer.problem()["reason"], reason, "{listen}");
        }
        let asked = origin.count();
        let forwarded = listen.is_empty();
        assert_eq!(asked, if forwarded { 2 } else { 1 }, "{listen}");
        // A forwarded one that succeeds changes what it names, as every unsafe method does.
        client.get("/");
        let dropped = status == 200;
        assert_eq!(origin.count() - asked, usize::from(dropped), "{listen}");
    }
}

#[test]
fn the_admin_listener_takes_a_purge_of_a_whole_url_or_by_host() {
    let scene = Scene::new(vec![vec![ok(&[FRESH])]], "");
    let mut client = scene.proxy.client().host("a.example");
    for target in ["http://a.example/0", "/0"] {
        client.get("/0");
        let ask = |fields: &[Field]| {
            let mut admin = Client::connect(scene.proxy.admin()).host("a.example");
            admin.request("PURGE", target, fields, b"")
        };
        let page = ask(&[("origin", "http://a.example")]);
        assert_eq!(page.status, 403, "{target}");
        assert_eq!(did(&client.get("/0")), "hit", "{target}");
        let done = ask(&[]);
        assert_eq!(
            (done.status, done.json()["purged"].as_u64()),
            (200, Some(1)),
            "{target}"
        );
        assert_eq!(ask(&[]).status, 404, "{target}");
        assert_eq!(
            did(&client.get("/0")),
            "fwd=uri-miss; fwd-status=200; stored",
            "{target}"
        );
    }
    let mut admin = Client::connect(scene.proxy.admin()).host("a.example");
    let other = admin.request("PURGE", "https://a.example/0", &[], b"");
    assert_eq!(other.status, 404);
}

#[test]
fn the_admin_listener_purges_a_url_as_it_is_stored() {
    let origin = Origin::http1(|_| Reply::ok("fine").header(FRESH.0, FRESH.1));
    let key = "key = { ignore_query = [\"utm_*\"] }";
    let proxy = proxy_on("", origin.address(), key);
    let mut client = proxy.client().host("a.example");
    let url = "http://a.example/x?utm_source=mail&a=1";
    let body = format!("{{\"url\": \"{url}\", \"reason\": \"a test\"}}");
    for (method, target, body) in [
        ("PURGE", url, ""),
        ("POST", "/api/v1/cache/purge", body.as_str()),
    ] {
        client.get("/x?a=1");
        assert_eq!(did(&client.get("/x?utm_id=7&a=1")), "hit");
        let mut admin = Client::connect(proxy.admin());
        let fields = [("content-type", "application/json")];
        let purged = admin.request(method, target, &fields, body.as_bytes());
        assert_eq!(purged.json()["purged"].as_u64(), Some(1), "{method}");
        assert_ne!(did(&client.get("/x?a=1")), "hit", "{method}");
    }
}
