//! The disk tier through the running proxy: what outlives the process, and what does not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::did;
use crate::support::client::{Client, Response};
use crate::support::http_origin::{Origin, Seen};
use crate::support::proxy::Proxy;
use crate::support::reply::Reply;
use crate::support::wait::{PATIENCE, eventually, eventually_some};

/// Rounds of the crash test, unless `TIDEGATE_KILL_ROUNDS` says.
const ROUNDS: usize = 4;
/// Paths that are asked for under load, and versions of each.
const PATHS: usize = 300;

fn start(origin: &Origin, path: &Path, settings: &str) -> Proxy {
    let (address, path) = (origin.address(), path.display());
    Proxy::start(&format!(
        "[upstreams.app]\nendpoints = [\"{address}\"]\nretry = {{ mode = \"off\" }}\n\
         [cache.shared]\ndisk = {{ path = \"{path}\", size = \"256MiB\" }}\n{settings}\n\
         [[routes]]\nname = \"app\"\nupstream = \"app\"\ncache = \"shared\"\n"
    ))
}

/// What the admin API says of the tier.
fn tier(proxy: &Proxy) -> Value {
    proxy.admin_get("/api/v1/cache").json()["caches"][0]["disk"].clone()
}

fn wait_for(proxy: &Proxy, state: &str) {
    eventually(&format!("the tier to be {state}"), PATIENCE, || {
        tier(proxy)["state"] == state
    });
}

/// A connection on which the proxy is always called the same: its port is not.
fn client(proxy: &Proxy) -> Client {
    proxy.client().host("app.test")
}

/// What is stored for a request, if anything is.
fn stored(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Option<Response> {
    let mut all = vec![("cache-control", "only-if-cached")];
    all.extend(fields);
    let response = client.request("GET", path, &all, b"");
    (response.status != 504).then_some(response)
}

fn stop(mut proxy: Proxy) {
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit().success());
}

fn purge(proxy: &Proxy, what: &str, value: &str, soft: bool) -> Response {
    let body = json!({ what: value, "soft": soft, "reason": "test" });
    proxy.admin_post("/api/v1/cache/purge", &body)
}

/// Answers with its number, and a tag that is the path's first letter; `/v/…` by language.
fn counting() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::http1(move |seen| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let tag = seen.path.get(1..2).unwrap_or_default();
        let reply = Reply::ok(format!("{} {number}", seen.path))
            .header("cache-control", "max-age=3600, stale-if-error=3600")
            .header("etag", &format!("\"{number}\""))
            .header("cache-tag", tag);
        let language = seen.header("accept-language");
        if seen.header("if-none-match").is_some() {
            let mut not_modified = Reply::new(304);
            for (name, value) in [("cache-control", "max-age=3600"), ("x-fresh", "yes")] {
                not_modified = not_modified.header(name, value);
            }
            return not_modified;
        }
        match language {
            Some(language) => reply
                .header("vary", "accept-language")
                .header("x-language", language),
            None => reply,
        }
    })
}

#[test]
fn what_is_stored_is_there_after_a_restart_and_what_was_purged_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let origin = counting();
    let proxy = start(&origin, directory.path(), "");
    let mut on = client(&proxy);
    for path in ["/a/1", "/a/2", "/b/1", "/c/1", "/d/1", "/e/1", "/f/1"] {
        assert_eq!(on.get(path).status, 200);
    }
    for language in ["de", "en"] {
        on.request("GET", "/v", &[("accept-language", language)], b"");
    }
    wait_for(&proxy, "on");
    // A 304 changes what is stored of the head.
    let again = on.request("GET", "/d/1", &[("cache-control", "no-cache")], b"");
    assert_eq!(again.header("x-fresh"), Some("yes"));
    assert_eq!(
        purge(&proxy, "url", "http://app.test/a/1", false).status,
        200
    );
    assert_eq!(
        purge(&proxy, "prefix", "http://app.test/b/", false).status,
        200
    );
    assert_eq!(purge(&proxy, "tag", "c", false).status, 200);
    assert_eq!(purge(&proxy, "tag", "e", true).status, 200);
    assert_eq!(on.request("POST", "/f/1", &[], b"x").status, 200);
    stop(proxy);

    let seen = origin.count();
    for _ in 0..2 {
        let proxy = start(&origin, directory.path(), "");
        wait_for(&proxy, "on");
        let mut on = client(&proxy);
        for path in ["/a/1", "/b/1", "/c/1", "/f/1"] {
            assert!(stored(&mut on, path, &[]).is_none(), "{path} is back");
        }
        assert!(stored(&mut on, "/e/1", &[]).is_none(), "/e/1 is not stale");
        let kept = stored(&mut on, "/a/2", &[]).expect("it was not purged");
        assert_eq!(did(&kept), "hit");
        assert_eq!(kept.text(), "/a/2 1");
        assert!(kept.header("age").is_some());
        let fresh = stored(&mut on, "/d/1", &[]).expect("it was not purged");
        assert_eq!(fresh.header("x-fresh"), Some("yes"));
        for language in ["de", "en"] {
            let fields = [("accept-language", language)];
            let variant = stored(&mut on, "/v", &fields).expect("both are stored");
            assert_eq!(variant.header("x-language"), Some(language));
        }
        assert!(stored(&mut on, "/v", &[("accept-language", "fr")]).is_none());
        proxy.metrics_until("what was loaded", |metrics| {
            let of = |labels| metrics.sum("tidegate_cache_disk_events_total", labels);
            let bytes = [("cache", "shared"), ("tier", "disk")];
            of(&[("event", "loaded")]) >= 4.0 && metrics.sum("tidegate_cache_bytes", &bytes) > 0.0
        });
        stop(proxy);
    }
    assert_eq!(origin.count(), seen, "the origin was asked");
}

/// Requests of which one in a hundred is explained.
const EXPLAINED: usize = 1_500;

#[test]
fn why_tells_the_tier_that_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let origin = counting();
    let proxy = start(&origin, directory.path(), "");
    wait_for(&proxy, "on");
    let mut on = client(&proxy);
    for number in 0..EXPLAINED {
        on.get(&format!("/{number}"));
    }
    stop(proxy);
    let proxy = start(&origin, directory.path(), "");
    wait_for(&proxy, "on");
    let mut on = client(&proxy);
    for tier in ["disk", "memory"] {
        let asked = (0..EXPLAINED).map(|number| {
            let kept = stored(&mut on, &format!("/{number}"), &[]).expect("it is stored");
            kept.header("x-request-id").expect("an id").to_owned()
        });
        let asked: Vec<String> = asked.collect();
        let why = eventually_some("one of them to be explained", PATIENCE, || {
            let why = |id| proxy.admin_get(&format!("/api/v1/why/{id}"));
            let mut answers = asked.iter().map(why);
            let found = answers.find(|answer| answer.status == 200)?;
            Some(found.text())
        });
        assert!(why.contains(&format!("\"{tier}\"")), "{why}");
    }
}

#[test]
fn a_tier_that_a_reload_adds_moves_or_takes_away_is_followed() {
    let places: Vec<TempDir> = (0..2)
        .map(|_| tempfile::tempdir().expect("a directory"))
        .collect();
    let origin = counting();
    let proxy = start(&origin, places[0].path(), "");
    wait_for(&proxy, "on");
    client(&proxy).get("/a/1");
    let text = std::fs::read_to_string(proxy.config_file()).expect("the configuration");
    let moved = text.replace(
        &places[0].path().display().to_string(),
        &places[1].path().display().to_string(),
    );
    let lines = text.lines().filter(|line| !line.starts_with("disk"));
    let without: Vec<&str> = lines.collect();
    for (text, state) in [(moved, "on"), (without.join("\n"), ""), (text, "on")] {
        std::fs::write(proxy.config_file(), text).expect("the configuration");
        proxy.signal(Signal::HUP);
        eventually("the plan to be followed", PATIENCE, || match tier(&proxy) {
            Value::Null => state.is_empty(),
            tier => tier["state"] == state,
        });
    }
    let mut on = client(&proxy);
    assert_eq!(did(&on.get("/a/1")), "hit");
    stop(proxy);
    // What was written to the first directory before it was left is still there.
    let proxy = start(&origin, places[0].path(), "");
    wait_for(&proxy, "on");
    assert!(stored(&mut client(&proxy), "/a/1", &[]).is_some());
}

/// The body of a version of a path: as long as the path says, and different in every byte's place.
fn body(path: &str, version: usize) -> Vec<u8> {
    let mut state = path.bytes().fold(version as u64 + 1, |state, byte| {
        state.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
    });
    let length = 200 + usize::try_from(state % 60_000).expect("it is small");
    let mut body = format!("{path} {version}\n").into_bytes();
    while body.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        body.push(state.to_be_bytes()[0]);
    }
    body
}

/// The version whose body it is.
fn version(path: &str, response: &Response) -> usize {
    let line = response.body.split(|byte| *byte == b'\n').next();
    let line = String::from_utf8_lossy(line.expect("a first line")).into_owned();
    let version = line
        .strip_prefix(&format!("{path} "))
        .expect("its own path");
    let version = version.parse().expect("a version");
    assert!(response.body == body(path, version), "{path} is damaged");
    version
}

#[test]
fn whatever_is_served_after_a_kill_is_whole_and_nothing_purged() {
    let rounds = std::env::var("TIDEGATE_KILL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let directory = tempfile::tempdir().expect("a directory");
    let versions: Arc<Vec<AtomicUsize>> = Arc::new((0..PATHS).map(|_| 0.into()).collect());
    let of = |seen: &Seen| -> usize {
        let number = seen.path.trim_start_matches('/').parse();
        number.expect("a path of this test")
    };
    let told = Arc::clone(&versions);
    let origin = Origin::http1(move |seen| {
        let version = told[of(seen)].load(Ordering::SeqCst);
        Reply::ok(body(&seen.path, version)).header("cache-control", "max-age=3600")
    });
    // By path: the oldest version that no purge covers.
    let mut least = vec![0; PATHS];
    let mut found = 0;
    for round in 0..rounds {
        let mut proxy = start(
            &origin,
            directory.path(),
            "memory = \"1MiB\"\nmax_object = \"256KiB\"",
        );
        wait_for(&proxy, "on");
        let mut on = client(&proxy);
        for (number, least) in least.iter().enumerate() {
            let path = format!("/{number}");
            if let Some(response) = stored(&mut on, &path, &[]) {
                found += 1;
                assert_eq!(response.status, 200);
                let version = version(&path, &response);
                assert!(version >= *least, "{path}: {version} was purged");
            }
        }
        assert_eq!(found > 0, round > 0, "round {round}: nothing was kept");
        kill_under_load(&mut proxy, &versions, &mut least, round);
    }
}

/// Asks for everything over and over, purges meanwhile, and kills the proxy in the midst of it.
fn kill_under_load(proxy: &mut Proxy, versions: &[AtomicUsize], least: &mut [usize], round: usize) {
    let (answered, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failure = Mutex::new(None);
    let address = proxy.address();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (answered, ended, failure) = (&answered, &ended, &failure);
            scope.spawn(move || {
                let mut number = thread * 71 + round * 13;
                while !ended.load(Ordering::Relaxed) {
                    let Ok(client) = Client::try_connect(address) else {
                        continue;
                    };
                    let mut client = client.host("app.test");
                    loop {
                        number = (number * 5 + 7) % PATHS;
                        let path = format!("/{number}");
                        let Some(response) = client.try_request(&path) else {
                            break;
                        };
                        if response.status != 200 {
                            *failure.lock().expect("no panic") = Some(response.status);
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                        number += thread;
                    }
                }
            });
        }
        let until = 300 + round * 37 % 400;
        for purged in 0.. {
            if answered.load(Ordering::Relaxed) >= until {
                break;
            }
            let number = (purged * 31 + round * 7) % PATHS;
            let version = versions[number].fetch_add(1, Ordering::SeqCst) + 1;
            let url = format!("http://app.test/{number}");
            assert_eq!(purge(proxy, "url", &url, false).status, 200);
            least[number] = version;
        }
        proxy.signal(Signal::KILL);
        ended.store(true, Ordering::Relaxed);
    });
    proxy.wait_exit();
    assert_eq!(*failure.lock().expect("no panic"), None, "while it ran");
}

/// A file system in memory, unmounted when dropped.
struct Mounted(TempDir);

impl Mounted {
    /// None for who may not mount.
    fn of(options: &str) -> Option<Self> {
        let place = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]);
        let done = mount.arg(place.path()).output().expect("mount is there");
        if done.status.success() {
            return Some(Self(place));
        }
        let said = String::from_utf8_lossy(&done.stderr).to_lowercase();
        let may_not = ["superuser", "permission denied", "not permitted"];
        assert!(may_not.iter().any(|it| said.contains(it)), "{said}");
        eprintln!("left out: {said}");
        None
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(done.is_ok_and(|done| done.success()), "it is unmounted");
    }
}

/// Answers 100 KiB.
fn large() -> Origin {
    Origin::http1(|seen| {
        let mut body = seen.path.clone().into_bytes();
        body.resize(102_400, b'.');
        Reply::ok(body).header("cache-control", "max-age=3600")
    })
}

const SMALL: &str = "memory = \"1MiB\"\nmax_object = \"256KiB\"";

#[test]
fn a_full_disk_costs_hits_and_nothing_else() {
    let Some(mounted) = Mounted::of("size=4m") else {
        return;
    };
    let origin = large();
    let proxy = start(&origin, &mounted.path().join("cache"), SMALL);
    wait_for(&proxy, "on");
    let mut on = client(&proxy);
    let ask = |on: &mut Client, from: usize, to: usize| {
        for number in from..to {
            let response = on.get(&format!("/{number}"));
            assert_eq!((response.status, response.body.len()), (200, 102_400));
        }
    };
    // More than there is room for: the oldest makes place, though the bound is far.
    ask(&mut on, 0, 100);
    let tier = eventually_some("all to be written", PATIENCE, || {
        let tier = tier(&proxy);
        let events = &tier["events"];
        let done = events["written"].as_u64()? + events["failed"].as_u64()?;
        (done + events["dropped"].as_u64()? == 100).then_some(tier)
    });
    assert!(tier["events"]["evicted"].as_u64() > Some(0), "{tier}");
    let kept = (0..100).filter(|number| stored(&mut on, &format!("/{number}"), &[]).is_some());
    assert!(kept.count() > 10, "{tier}");
    // Somebody else takes the rest: then a purge cannot be kept, and says so.
    let other = std::fs::write(mounted.path().join("other"), vec![1; 4 << 20]);
    assert!(other.is_err(), "the disk is full");
    ask(&mut on, 100, 200);
    let answer = purge(&proxy, "url", "http://app.test/199", false);
    assert!(matches!(answer.status, 200 | 500), "{}", answer.text());
    assert!(stored(&mut on, "/199", &[]).is_none());
    ask(&mut on, 190, 210);
    drop(proxy);
}

#[test]
fn a_directory_that_cannot_be_written_is_told_and_memory_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let mounted = Mounted::of("ro,size=1m");
    let read_only = mounted.as_ref().map(|mounted| mounted.path().join("cache"));
    for path in std::iter::once(file.join("cache")).chain(read_only) {
        let origin = counting();
        let proxy = start(&origin, &path, "");
        wait_for(&proxy, "failed");
        eventually("it is told", PATIENCE, || {
            proxy.stderr().contains("disk tier")
        });
        let mut on = client(&proxy);
        assert_eq!(on.get("/a/1").status, 200);
        assert_eq!(did(&on.get("/a/1")), "hit");
        let failed = [("event", "failed")];
        let failed = proxy
            .metrics()
            .sum("tidegate_cache_disk_events_total", &failed);
        assert!(failed > 0.0);
        let answer = purge(&proxy, "tag", "a", false);
        assert_eq!(answer.status, 500);
        assert!(answer.text().contains("disk"), "{}", answer.text());
        assert_eq!(did(&on.get("/a/1")), "fwd=uri-miss; fwd-status=200; stored");
    }
}
