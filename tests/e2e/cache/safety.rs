//! What must never reach another client.

use super::{Field, Scene, did, ok, proxy};
use crate::support::client;
use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::Reply;

const FRESH: Field = ("cache-control", "max-age=3600");

#[test]
fn what_credentials_bought_is_for_their_owner_alone() {
    let mut scene = Scene::new(vec![vec![ok(&[FRESH])]], "");
    let mine = scene.get("/0", &[("authorization", "Bearer mine")]);
    let other = scene.get("/0", &[("authorization", "Bearer other")]);
    let nobody = scene.get("/0", &[]);
    assert_eq!(
        [mine.text(), other.text(), nobody.text()],
        ["answer 1", "answer 2", "answer 3"]
    );
}

#[test]
fn a_cookie_is_kept_only_on_the_origins_word() {
    let old = ("last-modified", "Thu, 01 Jan 2015 00:00:00 GMT");
    let cookie = ("set-cookie", "session=1");
    let turns = |fields: &[Field]| vec![ok(fields)];
    let scripts = || {
        vec![
            turns(&[old, cookie]),
            turns(&[cookie]),
            turns(&[FRESH, cookie]),
            turns(&[("cache-control", "s-maxage=99"), cookie]),
        ]
    };
    for (settings, kept) in [
        ("default_ttl = \"1m\"", [false, false, true, true]),
        (
            "default_ttl = \"1m\"\ncookies = \"strict\"",
            [false, false, false, true],
        ),
    ] {
        let mut scene = Scene::new(scripts(), settings);
        for (number, kept) in kept.into_iter().enumerate() {
            let path = format!("/{number}");
            scene.get(&path, &[]);
            assert_eq!(
                did(&scene.get(&path, &[])) == "hit",
                kept,
                "{settings} {path}"
            );
        }
    }
}

#[test]
fn a_path_that_looks_static_makes_nothing_storable() {
    let origin = Origin::http1(|seen| {
        Reply::ok(format!("account of {:?}", seen.header("cookie")))
            .header("content-type", "text/html")
    });
    let proxy = proxy(&origin, "");
    let mut client = proxy.client();
    for path in [
        "/account/x.css",
        "/account;x.js",
        "/account%2Fx.png",
        "/account%23.css",
    ] {
        client.request("GET", path, &[("cookie", "a=victim")], b"");
        let attacker = client.request("GET", path, &[], b"");
        assert!(!attacker.text().contains("victim"), "{path}");
    }
}

#[test]
fn fields_that_are_no_part_of_the_key_do_not_reach_the_origin() {
    let origin = Origin::http1(|seen| {
        let fields = [
            "x-forwarded-host",
            "x-forwarded-scheme",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-host",
            "forwarded",
        ];
        let seen: Vec<&str> = fields.iter().filter_map(|name| seen.header(name)).collect();
        Reply::ok(seen.join(" ")).header("cache-control", "max-age=99")
    });
    let proxy = proxy(&origin, "");
    let mut client = proxy.client().host("victim.example");
    let poison = [
        ("x-forwarded-host", "evil"),
        ("x-forwarded-scheme", "evil"),
        ("x-forwarded-port", "evil"),
        ("x-forwarded-prefix", "evil"),
        ("x-original-url", "/evil"),
        ("x-rewrite-url", "/evil"),
        ("x-http-method-override", "EVIL"),
        ("x-host", "evil"),
        ("forwarded", "host=evil"),
    ];
    let poisoned = client.request("GET", "/", &poison, b"");
    assert_eq!(poisoned.text(), "victim.example");
    assert_eq!(did(&client.get("/")), "hit");
}

#[test]
fn a_get_with_a_body_is_neither_answered_from_the_cache_nor_stored() {
    let origin = Origin::http1(|seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        Reply::ok(format!("said {body}")).header("cache-control", "max-age=99")
    });
    let proxy = proxy(&origin, "");
    let mut client = proxy.client();
    assert_eq!(client.request("GET", "/", &[], b"evil").text(), "said evil");
    let clean = client.get("/");
    assert_eq!(
        (clean.text().as_str(), did(&clean).contains("hit")),
        ("said ", false)
    );
    assert_eq!(client.request("GET", "/", &[], b"evil").text(), "said evil");
    assert_eq!(did(&client.get("/")), "hit");
}

#[test]
fn parameters_are_ignored_only_by_rule_and_then_for_the_origin_as_well() {
    let origin =
        Origin::http1(|seen| Reply::ok(seen.path.clone()).header("cache-control", "max-age=99"));
    let proxy = proxy(&origin, "key = { ignore_query = [\"utm_*\"] }");
    let mut client = proxy.client();
    assert_eq!(client.get("/?a=1&utm_source=evil").text(), "/?a=1");
    assert_eq!(did(&client.get("/?utm_medium=x&a=1")), "hit");
    // What hides behind another separator is the origin's to read, and so another URL.
    assert_eq!(
        client.get("/?a=1;utm_source=x").text(),
        "/?a=1;utm_source=x"
    );
    assert_eq!(client.get("/?utm_source").text(), "/");
}

#[test]
fn the_key_holds_what_the_operator_names() {
    let script = vec![vec![ok(&[FRESH])]];
    let key = "key = { fields = [\"x-tenant\"], cookie_names = [\"language\"] }";
    let mut scene = Scene::new(script, key);
    let one = scene.get("/0", &[("x-tenant", "1"), ("cookie", "language=de")]);
    let other = scene.get("/0", &[("x-tenant", "2"), ("cookie", "language=de")]);
    let third = scene.get("/0", &[("x-tenant", "1"), ("cookie", "a=b; language=en")]);
    assert_eq!(
        [one.text(), other.text(), third.text()],
        ["answer 1", "answer 2", "answer 3"]
    );
    let again = scene.get("/0", &[("x-tenant", "1"), ("cookie", "x=y; language=de")]);
    assert_eq!(again.text(), "answer 1");
}

#[test]
fn hosts_do_not_share() {
    let scene = Scene::new(vec![vec![ok(&[FRESH])]], "");
    let mut one = scene.proxy.client().host("one.example");
    let mut other = scene.proxy.client().host("other.example");
    assert_eq!(
        [one.get("/0").text(), other.get("/0").text()],
        ["answer 1", "answer 2"]
    );
    assert_eq!(
        [one.get("/0").text(), other.get("/0").text()],
        ["answer 1", "answer 2"]
    );
}

#[test]
fn a_body_that_broke_off_is_not_kept() {
    let origin = RawOrigin::start(|mut conversation| {
        let Some((_head, _body)) = conversation.read_request() else {
            return;
        };
        conversation.write(b"HTTP/1.1 200 OK\r\ncache-control: max-age=99\r\n");
        conversation.write(b"content-length: 9\r\n\r\nbegun");
        if conversation.number > 0 {
            conversation.write(b"done");
        }
    });
    let proxy = Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [\"{}\"]\nretry = {{ mode = \"off\" }}\n[cache.shared]\n\
         [[routes]]\nname = \"app\"\nupstream = \"app\"\ncache = \"shared\"\n",
        origin.address()
    ));
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let broken = client::raw(proxy.address(), request);
    assert!(!broken.ends_with(b"done"));
    let mut client = proxy.client().host("a");
    let whole = client.get("/");
    assert_eq!(did(&whole), "fwd=uri-miss; fwd-status=200; stored");
    let stored = client.get("/");
    assert_eq!(
        (did(&stored).as_str(), stored.text().as_str()),
        ("hit", "begundone")
    );
}
