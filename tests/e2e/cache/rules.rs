//! RFC 9111 by its sections: two requests for each case, and whether the origin was asked again.

mod table;

use self::table::Second::{Asked, Hit, Validated};
use super::{Field, Scene, account, did, ok, proxy_to, turn};
use crate::support::http_origin::Origin;
use crate::support::raw_origin::RawOrigin;
use crate::support::reply::Reply;

const FRESH: Field = ("cache-control", "max-age=3600");

#[test]
fn section_9_3_3_of_rfc_9110_an_answer_to_post_that_names_itself_is_kept_for_get() {
    let posted = |location| vec![ok(&[FRESH, ("content-location", location)])];
    let scripts = vec![posted("/0"), posted("/0"), vec![ok(&[FRESH])]];
    let mut scene = Scene::new(scripts, "");
    for (path, second) in [
        ("/0", "hit"),
        ("/1", "fwd=uri-miss"),
        ("/2", "fwd=uri-miss"),
    ] {
        scene.client.request("POST", path, &[], b"x");
        let got = scene.get(path, &[]);
        assert!(did(&got).starts_with(second), "{path}: {}", did(&got));
    }
}

#[test]
fn section_3_an_interim_response_is_passed_on_and_never_stored() {
    let origin = RawOrigin::start(|mut conversation| {
        conversation.read_request();
        conversation.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        conversation
            .write(b"HTTP/1.1 200 OK\r\ncache-control: max-age=99\r\ncontent-length: 2\r\n\r\nok");
    });
    let proxy = proxy_to(origin.address(), "");
    let mut client = proxy.client();
    let first = client.get("/");
    assert_eq!(first.interim, [103]);
    let second = client.get("/");
    assert_eq!(
        (did(&second).as_str(), second.text().as_str()),
        ("hit", "ok")
    );
    assert!(second.interim.is_empty());
    assert_eq!(second.header("link"), None);
}

#[test]
fn each_rule_is_kept_by_its_section() {
    let cases = table::all();
    let scripts = cases.iter().map(|case| {
        let validated = turn(304, &[("etag", "\"a\"")], "");
        let second = match case.second {
            Validated => validated,
            Hit | Asked => case.response.clone(),
        };
        vec![case.response.clone(), second]
    });
    let mut scene = Scene::new(scripts.collect(), "");
    for (number, case) in cases.iter().enumerate() {
        let path = format!("/{number}");
        let what = format!("{} {:?} {:?}", case.section, case.response, case.again);
        let first = scene.get(&path, case.request);
        assert_eq!(first.status, case.response.status, "{what}");
        assert!(account(&first).starts_with("tidegate; fwd="), "{what}");
        let second = scene.get(&path, case.again);
        assert_eq!(second.status, case.response.status, "{what}");
        let seen = scene.seen(&path);
        match case.second {
            Hit => {
                // What is stale is renewed besides, whether or not that has reached the origin yet.
                let renewed = account(&second).contains("detail=swr");
                let asked = if renewed {
                    seen.len().min(1)
                } else {
                    seen.len()
                };
                assert_eq!(asked, 1, "{what}: {}", account(&second));
                assert!(account(&second).contains("; hit"), "{what}");
                assert_eq!(second.body, first.body, "{what}");
                assert!(second.header("age").is_some(), "{what}");
            }
            Validated => {
                assert_eq!(seen.len(), 2, "{what}");
                assert_eq!(seen[1].header("if-none-match"), Some("\"a\""), "{what}");
                assert_eq!(second.body, first.body, "{what}");
            }
            Asked => {
                assert_eq!(seen.len(), 2, "{what}: {}", account(&second));
                assert_eq!(seen[1].header("if-none-match"), None, "{what}");
                if case.response.status != 204 {
                    assert_eq!(second.text(), "answer 2", "{what}");
                }
            }
        }
    }
}

#[test]
fn section_3_1_fields_are_kept_as_they_came_but_for_those_of_the_hop() {
    let response = ok(&[
        ("cache-control", "max-age=99, no-cache=\"x-secret\""),
        ("date", "Thu, 01 Jan 2015 00:00:00 GMT"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-secret", "1"),
        ("set-cookie", "a=b"),
        ("x-list", "1"),
        ("x-list", "2"),
        ("age", "0"),
    ]);
    // Its date is long ago: it is stale, but the client takes it.
    let mut scene = Scene::new(vec![vec![response]], "");
    let first = scene.get("/0", &[]);
    assert_eq!(first.header("x-secret"), Some("1"));
    let second = scene.get("/0", &[("cache-control", "max-stale")]);
    assert!(account(&second).contains("; hit"), "{}", account(&second));
    assert_eq!(second.header("date"), Some("Thu, 01 Jan 2015 00:00:00 GMT"));
    assert_eq!(second.header("set-cookie"), Some("a=b"));
    assert_eq!(second.headers.all("x-list").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(
        (second.header("x-hop"), second.header("x-secret")),
        (None, None)
    );
}

#[test]
fn section_4_1_several_variants_are_kept_and_the_right_one_is_served() {
    let of = |language: &'static str| turn(200, &[FRESH, ("vary", "accept-language")], language);
    let mut scene = Scene::new(vec![vec![of("de"), of("en")]], "");
    for (language, expected) in [("de", "de"), ("en", "en"), ("de", "de"), ("EN", "en")] {
        let response = scene.get("/0", &[("accept-language", language)]);
        assert_eq!(response.text(), expected);
    }
    assert_eq!(scene.seen("/0").len(), 2);
}

#[test]
fn sections_3_2_and_4_3_a_304_freshens_what_is_stored() {
    let stored = ok(&[
        ("cache-control", "max-age=0"),
        ("etag", "\"a\""),
        ("x-a", "1"),
    ]);
    let fresh = turn(
        304,
        &[FRESH, ("etag", "\"a\""), ("x-a", "2"), ("x-b", "3")],
        "",
    );
    let mut scene = Scene::new(vec![vec![stored, fresh]], "");
    scene.get("/0", &[]);
    let second = scene.get("/0", &[]);
    assert_eq!(did(&second), "fwd=stale; fwd-status=304; stored");
    let third = scene.get("/0", &[]);
    assert_eq!(did(&third), "hit");
    for response in [second, third] {
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "answer 1")
        );
        assert_eq!(
            (response.header("x-a"), response.header("x-b")),
            (Some("2"), Some("3"))
        );
    }
    assert_eq!(scene.seen("/0").len(), 2);
}

#[test]
fn section_4_3_2_the_client_is_told_that_it_has_it_already() {
    let response = ok(&[
        FRESH,
        ("etag", "\"a\""),
        ("last-modified", "Thu, 01 Jan 2015 00:00:00 GMT"),
    ]);
    let mut scene = Scene::new(vec![vec![response]], "");
    scene.get("/0", &[]);
    for (name, value, status) in [
        ("if-none-match", "\"a\"", 304),
        ("if-none-match", "W/\"a\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"b\"", 200),
        ("if-modified-since", "Thu, 01 Jan 2015 00:00:00 GMT", 304),
        ("if-modified-since", "Wed, 31 Dec 2014 00:00:00 GMT", 200),
    ] {
        let response = scene.get("/0", &[(name, value)]);
        assert_eq!(response.status, status, "{name}: {value}");
        assert_eq!(response.header("etag"), Some("\"a\""));
        assert_eq!(response.body.is_empty(), status == 304);
    }
    assert_eq!(scene.seen("/0").len(), 1);
}

#[test]
fn section_4_3_5_head_is_answered_and_tells_what_still_holds() {
    let fresh = ok(&[FRESH]);
    let stale = ok(&[("cache-control", "max-age=0"), ("etag", "\"a\"")]);
    let same = ok(&[
        FRESH,
        ("etag", "\"a\""),
        ("x-a", "2"),
        ("content-length", "8"),
    ]);
    let gone = turn(410, &[], "");
    let mut scene = Scene::new(
        vec![vec![fresh], vec![stale.clone(), same], vec![stale, gone]],
        "",
    );
    for path in ["/0", "/1", "/2"] {
        scene.get(path, &[]);
    }
    let head = scene.client.request("HEAD", "/0", &[], b"");
    assert_eq!(
        (head.header("content-length"), scene.seen("/0").len()),
        (Some("8"), 1)
    );
    scene.client.request("HEAD", "/1", &[], b"");
    let hit = scene.get("/1", &[]);
    assert_eq!((did(&hit).as_str(), hit.header("x-a")), ("hit", Some("2")));
    scene.client.request("HEAD", "/2", &[], b"");
    scene.get("/2", &[]);
    assert_eq!(scene.seen("/2").len(), 3);
}

#[test]
fn section_4_4_unsafe_methods_drop_what_they_change() {
    for (method, status, field, dropped) in [
        ("POST", 200, ("x", "1"), ["/0", "/0"]),
        ("PUT", 201, ("location", "/1"), ["/0", "/1"]),
        ("DELETE", 204, ("content-location", "/1"), ["/0", "/1"]),
        ("PATCH", 302, ("location", "/1"), ["/0", "/1"]),
        ("M-SEARCH", 200, ("x", "1"), ["/0", "/0"]),
    ] {
        let fresh = ok(&[FRESH]);
        let mut scene = Scene::new(
            vec![vec![fresh.clone(), turn(status, &[field], "")], vec![fresh]],
            "",
        );
        scene.get("/0", &[]);
        scene.get("/1", &[]);
        scene.client.request(method, "/0", &[], b"");
        for path in dropped {
            let asked = scene.seen(path).len();
            scene.get(path, &[]);
            assert_eq!(scene.seen(path).len(), asked + 1, "{method} {path}");
            // Only once in the cases that name one path twice.
            if dropped[0] == dropped[1] {
                break;
            }
        }
    }
    // A failed one changes nothing, and other origins are not its business.
    for (status, field) in [(400, ("x", "1")), (500, ("x", "1"))] {
        let fresh = ok(&[FRESH]);
        let mut scene = Scene::new(vec![vec![fresh, turn(status, &[field], "")]], "");
        scene.get("/0", &[]);
        scene.client.request("POST", "/0", &[], b"");
        assert_eq!(did(&scene.get("/0", &[])), "hit");
    }
}

#[test]
fn section_5_2_1_7_only_if_cached_never_asks_the_origin() {
    let mut scene = Scene::new(vec![vec![ok(&[FRESH])]], "");
    let response = scene.get("/0", &[("cache-control", "only-if-cached")]);
    assert_eq!((response.status, scene.origin.count()), (504, 0));
}

#[test]
fn ranges_are_answered_from_the_whole_and_parts_are_kept() {
    let whole = turn(200, &[FRESH, ("etag", "\"a\"")], "0123456789");
    let part = turn(
        206,
        &[FRESH, ("etag", "\"a\""), ("content-range", "bytes 0-4/10")],
        "01234",
    );
    let rest = turn(
        206,
        &[FRESH, ("etag", "\"a\""), ("content-range", "bytes 5-9/10")],
        "56789",
    );
    let mut scene = Scene::new(vec![vec![whole], vec![part, rest]], "");
    scene.get("/0", &[]);
    for (range, status, body, of) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=8-", 206, "89", Some("bytes 8-9/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("bytes=0-1,4-5", 200, "0123456789", None),
        ("lines=1-2", 200, "0123456789", None),
    ] {
        let response = scene.get("/0", &[("range", range)]);
        assert_eq!(
            (response.status, response.text().as_str()),
            (status, body),
            "{range}"
        );
        assert_eq!(response.header("content-range"), of, "{range}");
    }
    let other = scene.get("/0", &[("range", "bytes=2-4"), ("if-range", "\"b\"")]);
    assert_eq!((other.status, other.text().as_str()), (200, "0123456789"));
    assert_eq!(scene.seen("/0").len(), 1);

    assert_eq!(scene.get("/1", &[("range", "bytes=0-4")]).status, 206);
    let inside = scene.get("/1", &[("range", "bytes=1-2")]);
    assert_eq!(
        (inside.text().as_str(), did(&inside).as_str()),
        ("12", "hit")
    );
    // Section 3.4: what is missing is asked for and put behind what is stored.
    let completed = scene.get("/1", &[]);
    assert_eq!(
        (completed.status, completed.text().as_str()),
        (200, "0123456789")
    );
    assert_eq!(scene.seen("/1")[1].header("range"), Some("bytes=5-"));
    let stored = scene.get("/1", &[]);
    assert_eq!(
        (did(&stored).as_str(), stored.text().as_str()),
        ("hit", "0123456789")
    );
}

#[test]
fn section_3_4_parts_are_combined_only_under_a_strong_validator_that_is_the_same() {
    let part = |tag: &'static str| {
        let fields = [FRESH, ("etag", tag), ("content-range", "bytes 0-4/10")];
        turn(206, &fields, "01234")
    };
    let whole = turn(200, &[FRESH, ("etag", "\"b\"")], "abcdefghij");
    let scripts = vec![
        vec![part("W/\"a\""), whole.clone()],
        vec![part("\"a\""), whole],
    ];
    let mut scene = Scene::new(scripts, "");
    for (path, range) in [("/0", None), ("/1", Some("bytes=5-"))] {
        scene.get(path, &[("range", "bytes=0-4")]);
        // The origin has another by now, and sends all of it.
        let all = scene.get(path, &[]);
        assert_eq!(
            (all.status, all.text().as_str()),
            (200, "abcdefghij"),
            "{path}"
        );
        assert_eq!(scene.seen(path)[1].header("range"), range, "{path}");
        assert_eq!(did(&scene.get(path, &[])), "hit", "{path}");
        // What was stored of the former is gone with it.
        let inside = scene.get(path, &[("range", "bytes=1-2")]);
        assert_eq!(inside.text(), "bc", "{path}");
    }
}

#[test]
fn section_3_3_a_part_answers_what_lies_within_it_by_whatever_it_is_named() {
    let end = turn(
        206,
        &[FRESH, ("etag", "\"a\""), ("content-range", "bytes 5-9/10")],
        "56789",
    );
    let beyond = turn(206, &[FRESH, ("content-range", "bytes 2-3/10")], "23");
    let mut scene = Scene::new(vec![vec![end, beyond]], "");
    scene.get("/0", &[("range", "bytes=-5")]);
    for (range, body, of) in [
        ("bytes=-5", "56789", "bytes 5-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=6-", "6789", "bytes 6-9/10"),
        ("bytes=7-7", "7", "bytes 7-7/10"),
    ] {
        let response = scene.get("/0", &[("range", range)]);
        assert_eq!(
            (response.status, response.text().as_str()),
            (206, body),
            "{range}"
        );
        assert_eq!(response.header("content-range"), Some(of), "{range}");
        assert_eq!(did(&response), "hit", "{range}");
    }
    assert_eq!(scene.get("/0", &[("range", "bytes=2-3")]).text(), "23");
    assert_eq!(scene.seen("/0").len(), 2);
}

#[test]
fn section_4_3_1_a_clients_own_condition_is_judged_by_the_cache_once_it_has_validated() {
    let stored = ok(&[("cache-control", "max-age=0"), ("etag", "\"a\"")]);
    let still = turn(
        304,
        &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
        "",
    );
    let new = ok(&[FRESH, ("etag", "\"b\"")]);
    let mut scene = Scene::new(vec![vec![stored, still.clone(), still, new]], "");
    scene.get("/0", &[]);
    // The client has an older one: it is sent the one that was found good.
    let older = scene.get("/0", &[("if-none-match", "\"x\"")]);
    assert_eq!((older.status, older.text().as_str()), (200, "answer 1"));
    let same = scene.get("/0", &[("if-none-match", "\"x\", W/\"a\"")]);
    assert_eq!((same.status, same.body.len()), (304, 0));
    for seen in &scene.seen("/0")[1..] {
        assert_eq!(seen.header("if-none-match"), Some("\"a\""));
    }
    assert_eq!(
        scene.get("/0", &[("if-none-match", "\"a\"")]).text(),
        "answer 4"
    );
    let has = scene.get("/0", &[("if-none-match", "\"b\"")]);
    assert_eq!((has.status, did(&has).as_str()), (304, "hit"));
}

#[test]
fn trailers_are_passed_on_as_they_come_and_are_no_part_of_what_is_stored() {
    let origin = Origin::http1(|_| {
        Reply::ok("one")
            .body("two")
            .header("cache-control", "max-age=99")
            .header("trailer", "x-sum")
            .trailer("x-sum", "6")
    });
    let proxy = proxy_to(origin.address(), "");
    let mut client = proxy.client();
    let mut get = || client.request("GET", "/", &[("te", "trailers")], b"");
    let (first, second) = (get(), get());
    assert_eq!(first.trailers.get("x-sum"), Some("6"));
    assert_eq!(
        (did(&second).as_str(), second.text().as_str()),
        ("hit", "onetwo")
    );
    // RFC 9110 section 6.5.1: nor may they become fields of the head.
    for (name, left) in [
        ("x-sum", second.header("x-sum")),
        ("trailer", second.header("trailer")),
    ] {
        assert_eq!(left, None, "{name}");
    }
    assert_eq!(second.trailers.get("x-sum"), None);
}

#[test]
fn a_hit_has_the_same_fields_whether_its_head_is_copied_or_written_as_it_is_kept() {
    let fields = [
        FRESH,
        ("age", "5"),
        ("cache-status", "nearer; hit"),
        ("etag", "\"a\""),
        ("x-request-id", "theirs"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ];
    let telling = [FRESH, ("x-tidegate-metric", "rows;v=40")];
    let mut scene = Scene::new(vec![vec![ok(&fields)], vec![ok(&telling)]], "");
    let first = scene.get("/0", &[]);
    let kept = scene.get("/0", &[]);
    // A wish that it meets makes it the other kind of hit.
    let copied = scene.get("/0", &[("cache-control", "max-age=3600")]);
    for hit in [&kept, &copied] {
        assert_eq!((did(hit).as_str(), hit.text()), ("hit", first.text()));
        let all = |name| hit.headers.all(name).collect::<Vec<_>>();
        assert_eq!(all("x-twice"), ["1", "2"]);
        assert_eq!(all("etag"), ["\"a\""]);
        assert_eq!(all("date"), first.headers.all("date").collect::<Vec<_>>());
        assert_eq!(all("content-length"), [first.text().len().to_string()]);
        let age: u64 = hit.header("age").unwrap_or_default().parse().unwrap();
        assert!((5..3_600).contains(&age), "{age}");
        assert_eq!(all("age").len(), 1);
        assert_eq!(all("cache-status").len(), 2, "{:?}", all("cache-status"));
        assert_eq!(all("x-request-id").len(), 1);
        assert_ne!(hit.header("x-request-id"), Some("theirs"));
    }
    scene.get("/1", &[]);
    let hit = scene.get("/1", &[]);
    assert_eq!(did(&hit), "hit");
    assert_eq!(hit.header("x-tidegate-metric"), None);
    assert_eq!(scene.seen("/0").len() + scene.seen("/1").len(), 2);
}
