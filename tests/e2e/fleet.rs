//! Quotas that several processes share by Redis.

use rustix::process::Signal;

use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::redis;
use crate::support::wait::{PATIENCE, eventually};

/// A process that shares `quota` with others by `server`.
fn process(origin: &Origin, server: &redis::Server, quota: &str) -> Proxy {
    Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"all\"\nupstream = \"app\"\n\
         rate_limits = [\"ours\"]\n[rate_limits.ours]\nscope = \"shared\"\n{quota}\n\
         [shared]\nredis = \"{}\"\n",
        origin.address(),
        server.url()
    ))
}

fn shared(proxy: &Proxy, name: &str) -> Option<f64> {
    proxy
        .metrics()
        .value(&format!("tidegate_shared_{name}"), &[])
}

/// Waits until all of them know of each other.
fn met(proxies: &[&Proxy]) {
    let count = proxies.len() as f64;
    eventually("all have met", PATIENCE, || {
        let mut processes = proxies.iter();
        processes.all(|one| shared(one, "processes") == Some(count))
    });
}

/// Whether a request passes.
fn passes(proxy: &Proxy) -> bool {
    match proxy.get("/").status {
        200 => true,
        429 => false,
        other => panic!("{other}"),
    }
}

/// How many pass until nothing is left.
fn all(proxy: &Proxy) -> u64 {
    let (mut passed, mut in_vain) = (0, 0);
    eventually("nothing is left", PATIENCE, || {
        let passes = passes(proxy);
        passed += u64::from(passes);
        in_vain = if passes { 0 } else { in_vain + 1 };
        in_vain == 100
    });
    passed
}

/// What the server knows was used of a day's quota.
fn count(server: &redis::Server) -> Option<u64> {
    let keys = server.say(&["--scan", "--pattern", "*ours*"]);
    server.say(&["GET", keys.lines().next()?]).parse().ok()
}

#[test]
fn processes_share_a_quota() {
    let (origin, server) = (Origin::saying("hello"), redis::Server::start());
    let [one, mut other] = [0, 1].map(|_| process(&origin, &server, "quota = \"20/day\""));
    met(&[&one, &other]);
    let mut passed = 0;
    eventually("one has used most of it", PATIENCE, || {
        passed += u64::from(passes(&one));
        passed == 15
    });
    eventually("it is told", PATIENCE, || count(&server) == Some(15));
    assert!(passes(&other));
    eventually("it is told as well", PATIENCE, || {
        count(&server) == Some(16)
    });
    assert_eq!(16 + all(&other), 20);
    // What one has not heard of yet, it may think is left: of that it takes its part at a time.
    let more = all(&one);
    assert!(more <= 3, "{more}");
    // Who goes says so.
    other.signal(Signal::TERM);
    assert!(other.wait_exit().success());
    met(&[&one]);
}

#[test]
fn each_goes_by_its_part_while_the_server_is_away() {
    let (origin, mut server) = (Origin::saying("hello"), redis::Server::start());
    let both = [0, 1].map(|_| process(&origin, &server, "quota = \"60/h\"\nburst = 10"));
    let both @ [one, other] = both.each_ref();
    met(&both);
    server.kill();
    eventually("both know that it is away", PATIENCE, || {
        both.iter().all(|one| shared(one, "up") == Some(0.0))
    });
    assert_eq!(shared(one, "processes"), Some(2.0));
    let passed = |proxy: &Proxy| (0..12).filter(|_| passes(proxy)).count();
    assert_eq!((passed(one), passed(other)), (5, 5));
    let told = one.admin_get("/api/v1/events?recent").text();
    assert!(told.contains("\"away\":true"), "{told}");
    server.run();
    eventually("both have met again", PATIENCE, || {
        both.iter().all(|one| shared(one, "up") == Some(1.0))
    });
    assert!(shared(one, "errors_total").is_some_and(|errors| errors > 0.0));
}

#[test]
fn what_the_server_forgets_the_processes_know() {
    let (origin, server) = (Origin::saying("hello"), redis::Server::start());
    let proxy = process(&origin, &server, "quota = \"10/day\"");
    eventually("they have met", PATIENCE, || {
        shared(&proxy, "up") == Some(1.0)
    });
    let passed = (0..6).filter(|_| passes(&proxy)).count();
    assert_eq!(passed, 6);
    eventually("it is told", PATIENCE, || count(&server) == Some(6));
    assert_eq!(server.say(&["FLUSHALL"]), "OK");
    assert!(passes(&proxy));
    eventually("it is told anew", PATIENCE, || count(&server) == Some(7));
}

#[test]
fn a_process_that_finds_nobody_to_agree_with_goes_on_alone_until_it_is_started_again() {
    let (origin, mut server) = (Origin::saying("hello"), redis::Server::start());
    let first = process(&origin, &server, "quota = \"5/day\"");
    met(&[&first]);
    server.kill();
    eventually("the first knows that it is away", PATIENCE, || {
        shared(&first, "up") == Some(0.0)
    });
    let mut second = process(&origin, &server, "quota = \"5/day\"");
    assert!(passes(&second));
    let said = second.stderr() + &second.stdout();
    assert!(said.contains("cannot agree on a key"), "{said}");
    second.signal(Signal::TERM);
    assert!(second.wait_exit().success());
    server.run();
    // Whoever is there says again what to agree on.
    eventually("the first is back", PATIENCE, || {
        shared(&first, "up") == Some(1.0)
    });
    let second = process(&origin, &server, "quota = \"5/day\"");
    met(&[&first, &second]);
}
