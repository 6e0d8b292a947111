//! Large bodies, which the cache keeps in pages that the kernel sends.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::{did, proxy};
use crate::support::client::Response;
use crate::support::h2::Http2;
use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::reply::Reply;
use crate::support::wait::{PATIENCE, eventually};

/// A body that shows where it was cut.
fn body(length: usize) -> Vec<u8> {
    (0..251).cycle().take(length).collect()
}

/// An origin whose path is the length of what it answers.
fn origin() -> Origin {
    Origin::http1(|seen| {
        let length = seen.path.trim_start_matches('/').parse().unwrap_or(0);
        Reply::ok(body(length))
            .header("cache-control", "max-age=3600")
            .header("etag", "\"one\"")
    })
}

/// Bytes that the proxy has in pages.
fn in_pages(proxy: &Proxy) -> u64 {
    let files = format!("/proc/{}/fd", proxy.pid());
    let files = std::fs::read_dir(files).expect("the proxy runs").flatten();
    let pages = files.filter(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        target.to_string_lossy().contains("memfd:tidegate-cache")
    });
    let sizes = pages.filter_map(|file| std::fs::metadata(file.path()).ok());
    sizes.map(|file| file.blocks() * 512).sum()
}

/// `response` is a hit, and this is its body.
fn is_hit(response: &Response, whole: &[u8]) {
    assert_eq!(did(response), "hit");
    // Not by assert_eq!, which would print all of both.
    assert!(response.body == whole, "{} bytes came", response.body.len());
}

#[test]
fn a_large_body_comes_whole_however_it_is_asked_for() {
    const LENGTH: usize = 3_000_001;
    let (origin, whole) = (origin(), body(LENGTH));
    let proxy = proxy(&origin, "");
    let path = format!("/{LENGTH}");
    let mut client = proxy.client();
    assert!(client.get(&path).body == whole);
    for _ in 0..3 {
        is_hit(&client.get(&path), &whole);
    }
    assert!(in_pages(&proxy) >= LENGTH as u64);
    let head = client.request("HEAD", &path, &[], b"");
    assert_eq!(head.header("content-length"), Some("3000001"));
    let part = client.request("GET", &path, &[("range", "bytes=999999-2000000")], b"");
    assert_eq!(part.status, 206);
    is_hit(&part, &whole[999_999..=2_000_000]);
    let same = client.request("GET", &path, &[("if-none-match", "\"one\"")], b"");
    assert_eq!((same.status, same.body.len()), (304, 0));
    // Several on one connection, one sent behind the other.
    let get = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", proxy.address());
    client.send(get.repeat(3).as_bytes());
    for _ in 0..3 {
        is_hit(&client.response("GET"), &whole);
    }
    // Who does not take pages gets the same.
    is_hit(&Http2::connect(proxy.address()).get(&path), &whole);
    let mut old = proxy.client();
    old.send(format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", proxy.address()).as_bytes());
    is_hit(&old.response("GET"), &whole);
    assert_eq!(origin.count(), 1);
    let hits = "what was sent stands in the log";
    eventually(hits, PATIENCE, || {
        let log = proxy.access_log();
        log.iter()
            .filter(|line| line["bytes_out"] == LENGTH)
            .count()
            == 9
    });
}

#[test]
fn what_is_purged_under_way_arrives_whole_and_its_memory_is_given_back() {
    const LENGTH: usize = 16 << 20;
    let (origin, whole) = (origin(), body(LENGTH));
    let proxy = proxy(&origin, "max_object = \"32MiB\"");
    let path = format!("/{LENGTH}");
    for _ in 0..3 {
        assert!(proxy.client().get(&path).body == whole);
    }
    let mut slow = proxy.client();
    slow.send(format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", proxy.address()).as_bytes());
    // More than lies between the two: the rest waits for who reads it.
    eventually("it is being answered", PATIENCE, || {
        proxy.admin_get("/api/v1/inflight?limit=1").json()["total"] == 1
    });
    let everything = format!("http://{}/", proxy.address());
    let gone = json!({"prefix": everything, "soft": false, "reason": "test"});
    assert_eq!(proxy.admin_post("/api/v1/cache/purge", &gone).status, 200);
    let mut other = proxy.client();
    for _ in 0..3 {
        assert!(other.get("/1000000").body == body(1_000_000));
    }
    assert!(in_pages(&proxy) > LENGTH as u64);
    is_hit(&slow.response("GET"), &whole);
    eventually("the memory is given back", PATIENCE, || {
        in_pages(&proxy) < 2_000_000
    });
    is_hit(&other.get("/1000000"), &body(1_000_000));
}
