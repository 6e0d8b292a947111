//! Which request goes where, and what is changed on its way.

use serde_json::Value;

use crate::support::client::Client;
use crate::support::http_origin::{Origin, Seen};
use crate::support::proxy::Proxy;
use crate::support::reply::Reply;

/// Host, method, target and headers of a request, and the route it takes.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

/// A route to the upstream `app`, its other keys as given.
fn route(name: &str, keys: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\nupstream = \"app\"\n{keys}\n")
}

fn proxy(origin: &Origin, routes: &[(&str, &str)]) -> Proxy {
    let routes: String = routes
        .iter()
        .map(|(name, keys)| route(name, keys))
        .collect();
    Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [\"{}\"]\n{routes}",
        origin.address()
    ))
}

/// The route that the log says a request took.
fn taken(
    proxy: &Proxy,
    mut client: Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> String {
    let answer = client.request(method, path, headers, b"");
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let line = proxy.access_log_entry("its exchange", |line: &Value| {
        line["request_id"] == id.as_str()
    });
    line["route"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn the_most_specific_match_wins_wherever_it_stands_in_the_file() {
    let origin = Origin::saying("ok");
    let proxy = proxy(
        &origin,
        &[
            ("any", ""),
            ("prefix", "match = { path_prefix = \"/orders\" }"),
            ("longer", "match = { path_prefix = \"/orders/open\" }"),
            ("exact", "match = { path = \"/orders/open\" }"),
            (
                "reads",
                "match = { path_prefix = \"/orders\", methods = [\"GET\"] }",
            ),
            (
                "canary",
                "match = { path_prefix = \"/orders\", methods = [\"GET\"], headers = { x-canary = \"1\" } }",
            ),
            ("wild", "match = { host = \"*.example.com\" }"),
            ("host", "match = { host = \"api.example.com\" }"),
        ],
    );
    let cases: [Case; 13] = [
        ("a", "POST", "/", &[], "any"),
        ("a", "POST", "/ordersish", &[], "any"),
        ("a", "POST", "/orders", &[], "prefix"),
        ("a", "POST", "/orders/7", &[], "prefix"),
        ("a", "GET", "/orders/7?x=/orders/open", &[], "reads"),
        ("a", "GET", "/orders/7", &[("x-canary", "1")], "canary"),
        ("a", "GET", "/orders/7", &[("x-canary", "2")], "reads"),
        ("a", "POST", "/orders/open", &[], "exact"),
        ("a", "POST", "/orders/open/1", &[], "longer"),
        ("a", "POST", "/orders/open/", &[], "longer"),
        ("shop.example.com", "POST", "/orders", &[], "wild"),
        ("API.Example.com:8080", "GET", "/orders", &[], "host"),
        ("example.com", "POST", "/", &[], "any"),
    ];
    for (host, method, path, headers, route) in cases {
        let client = proxy.client().host(host);
        let taken = taken(&proxy, client, method, path, headers);
        assert_eq!(taken, route, "{method} {host}{path} {headers:?}");
    }
}

#[test]
fn a_rewrite_changes_the_path_and_keeps_the_query() {
    let origin = Origin::http1(|seen: &Seen| Reply::ok(seen.path.clone()));
    let proxy = proxy(
        &origin,
        &[
            (
                "stripped",
                "match = { path_prefix = \"/a\" }\nrewrite = { strip_prefix = \"/a\" }",
            ),
            (
                "replaced",
                "match = { path_prefix = \"/b\" }\nrewrite = { replace_prefix = \"/v2/b\" }",
            ),
            ("kept", ""),
        ],
    );
    for (asked, seen) in [
        ("/a", "/"),
        ("/a?q=1", "/?q=1"),
        ("/a/", "/"),
        ("/a/b%2Fc?q=%20&a=/a", "/b%2Fc?q=%20&a=/a"),
        ("/b", "/v2/b"),
        ("/b/x?y", "/v2/b/x?y"),
        ("/c//d/./e?f=/./", "/c//d/e?f=/./"),
    ] {
        assert_eq!(proxy.get(asked).text(), seen, "{asked}");
    }
}

#[test]
fn headers_are_removed_and_set_in_both_directions() {
    let origin = Origin::http1(|_| {
        Reply::ok("ok")
            .header("x-powered-by", "php")
            .header("server", "origin")
            .header("cache-control", "private")
    });
    let proxy = proxy(
        &origin,
        &[(
            "all",
            "headers = { request = { set = { x-from = \"tidegate\" }, remove = [\"x-debug\"] }, \
             response = { set = { cache-control = \"no-store\" }, remove = [\"X-Powered-By\"] } }",
        )],
    );
    let answer = proxy
        .client()
        .request("GET", "/", &[("x-debug", "1"), ("x-from", "me")], b"");
    let seen = origin.last();
    assert_eq!(seen.header("x-debug"), None);
    assert_eq!(seen.headers.all("x-from").collect::<Vec<_>>(), ["tidegate"]);
    assert_eq!(answer.header("x-powered-by"), None);
    assert_eq!(answer.header("server"), Some("origin"));
    assert_eq!(
        answer.headers.all("cache-control").collect::<Vec<_>>(),
        ["no-store"]
    );
}
