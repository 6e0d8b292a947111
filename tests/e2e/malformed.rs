//! Requests that are not HTTP, or not only one request: refused, closed, and never passed on.
//!
//! A proxy and its origin that disagree about where a request ends let one client speak for another
//! (request smuggling), so what is ambiguous is refused even where an RFC would allow a guess.

mod bodies;
mod cases;
mod heads;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wire;

use cases::{Case, SILENCE};

/// How many connections are tried at a time.
const THREADS: usize = 8;

#[test]
fn malformed_heads_are_refused_and_nothing_of_them_reaches_the_origin() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());

    let failures = refuse_all(&proxy, &heads::all());

    assert_eq!(origin.arrived(), Vec::<String>::new(), "{failures}");
    assert!(failures.is_empty(), "{failures}");
    assert_is_well(&proxy);
}

#[test]
fn malformed_bodies_are_refused_and_never_reach_the_origin_whole() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());

    let failures = refuse_all(&proxy, &bodies::all());

    let whole: Vec<String> = origin.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(whole, Vec::<String>::new(), "{failures}");
    let smuggled = origin
        .arrived()
        .iter()
        .any(|line| line.contains("smuggled"));
    assert!(!smuggled, "{:?}", origin.arrived());
    assert!(failures.is_empty(), "{failures}");
    assert_is_well(&proxy);
}

#[test]
fn a_chunk_size_with_blanks_is_refused_or_read_as_its_number() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());

    let failures = refuse_all(&proxy, &bodies::tolerable());

    assert!(failures.is_empty(), "{failures}");
    for seen in origin.seen() {
        assert_eq!(
            (seen.path.as_str(), seen.body.as_slice()),
            ("/body", &b"hello"[..])
        );
    }
    assert_is_well(&proxy);
}

#[test]
fn a_body_over_the_bound_is_a_413_whatever_its_framing() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::start(&format!(
        "[[listen]]
         name = \"public\"
         address = \"<public>\"
         max_body_bytes = \"1KiB\"
         [upstreams.origin]
         endpoints = [\"{}\"]
         [[routes]]
         name = \"all\"
         match = {{ path_prefix = \"/\" }}
         upstream = \"origin\"\n",
        origin.address()
    ));
    let fits = [b'x'; 1_024];
    let sized = |body: &[u8]| proxy.client().request("POST", "/", &[], body);
    assert_eq!(sized(&fits).status, 200);

    let too_large = [b'x'; 1_025];
    let response = sized(&too_large);
    assert_eq!(response.status, 413);
    assert_eq!(response.problem()["reason"], "body_too_large");

    let mut chunks = b"401\r\n".to_vec();
    chunks.extend_from_slice(&too_large);
    chunks.extend_from_slice(b"\r\n0\r\n\r\n");
    let chunked = [("transfer-encoding", "chunked")];
    let response = proxy.client().request("POST", "/", &chunked, &chunks);
    assert_eq!(response.status, 413);
    assert_eq!(origin.seen().len(), 1, "only what fits arrives whole");
}

#[test]
fn headers_over_the_bound_are_a_431_that_explains_itself() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::start(&format!(
        "[[listen]]
         name = \"public\"
         address = \"<public>\"
         max_header_bytes = \"16KiB\"
         [upstreams.origin]
         endpoints = [\"{}\"]
         [[routes]]
         name = \"all\"
         match = {{ path_prefix = \"/\" }}
         upstream = \"origin\"\n",
        origin.address()
    ));
    let with = |bytes: usize| {
        let value = "x".repeat(bytes);
        proxy
            .client()
            .request("GET", "/", &[("x-large", &value)], b"")
    };

    assert_eq!(with(8_000).status, 200);
    assert_eq!(with(20_000).status, 431);
    assert_eq!(origin.count(), 1);
}

#[test]
fn the_cases_are_many_and_each_has_a_name_of_its_own() {
    let cases = [heads::all(), bodies::all()].concat();
    let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() >= 200, "{}", cases.len());
}

/// Sends every case on a connection of its own; one line for each that was not refused as it should.
fn refuse_all(proxy: &Proxy, cases: &[Case]) -> String {
    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = refuse(proxy, case) {
                        let line = format!("{}: {failure}", case.name);
                        failures.lock().expect("no thread panics").push(line);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panics");
    failures.sort();
    failures.join("\n")
}

fn refuse(proxy: &Proxy, case: &Case) -> Result<(), String> {
    // Short, since it is reached only by a case that fails, and many may.
    let mut client = Client::connect(proxy.address()).patience(Duration::from_secs(3));
    client.send(&case.bytes);
    if case.finish_sending {
        client.finish_sending();
    }
    let bytes = client.rest().ok_or("the connection is not closed")?;
    if bytes.is_empty() {
        return case
            .expected(SILENCE)
            .then_some(())
            .ok_or_else(|| "closed without an answer".to_owned());
    }
    let mut reader = BufReader::new(bytes.as_slice());
    let head = wire::read_head(&mut reader)
        .ok()
        .flatten()
        .ok_or("the answer is not HTTP")?;
    let status: u16 = head.word(1).parse().unwrap_or_default();
    if !case.expected(status) {
        return Err(format!("answered {}", head.line));
    }
    wire::read_body(&mut reader, &head.headers, true)
        .map_err(|error| format!("the answer is not whole: {error}"))?;
    match reader.fill_buf() {
        Ok([]) => Ok(()),
        _ => Err("answered more than once".to_owned()),
    }
}

/// The same process still answers a good request.
#[track_caller]
fn assert_is_well(proxy: &Proxy) {
    assert_eq!(proxy.get("/well").text(), "ok");
    assert_eq!(proxy.status()["pid"], proxy.pid());
}
