//! RFC 9111 by its sections: two requests for each case, and whether the origin was asked again.

use super::{Field, Scene, Turn, account, did, ok, proxy_to, turn};
use crate::support::raw_origin::RawOrigin;

const FRESH: Field = ("cache-control", "max-age=3600");

/// What the second request of a case comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    /// Answered from what is stored.
    Hit,
    /// The origin is asked, with a condition.
    Validated,
    /// The origin is asked for the whole.
    Asked,
}
use Second::{Asked, Hit, Validated};

#[derive(Clone)]
struct Case {
    section: &'static str,
    request: &'static [Field],
    response: Turn,
    again: &'static [Field],
    second: Second,
}

fn case(section: &'static str, response: &[Field], second: Second) -> Case {
    with(section, &[], response, &[], second)
}

fn with(
    section: &'static str,
    request: &'static [Field],
    response: &[Field],
    again: &'static [Field],
    second: Second,
) -> Case {
    Case {
        section,
        request,
        response: ok(response),
        again,
        second,
    }
}

fn status(section: &'static str, status: u16, response: &[Field], second: Second) -> Case {
    Case {
        response: turn(status, response, ""),
        ..case(section, &[], second)
    }
}

fn storing() -> Vec<Case> {
    vec![
        case("3", &[FRESH], Hit),
        case("3", &[], Asked),
        case("3", &[("expires", "Tue, 01 Jan 2199 00:00:00 GMT")], Hit),
        case("3", &[("expires", "Thu, 01 Jan 1970 00:00:00 GMT")], Asked),
        case(
            "5.2.2.5 no-store",
            &[("cache-control", "no-store, max-age=9")],
            Asked,
        ),
        case(
            "5.2.2.5 no-store",
            &[("cache-control", "No-Store, max-age=9")],
            Asked,
        ),
        case(
            "5.2.2.7 private",
            &[("cache-control", "private, max-age=9")],
            Asked,
        ),
        case(
            "5.2.2.7 private fields",
            &[("cache-control", "private=\"x-a\", max-age=99")],
            Hit,
        ),
        case(
            "5.2.2.4 no-cache",
            &[("cache-control", "no-cache"), ("etag", "\"a\"")],
            Validated,
        ),
        case(
            "5.2.2.4 no-cache",
            &[("cache-control", "no-cache, max-age=9")],
            Asked,
        ),
        case(
            "5.2.2.10 s-maxage",
            &[("cache-control", "s-maxage=9, max-age=0")],
            Hit,
        ),
        case(
            "5.2.2.10 s-maxage",
            &[("cache-control", "s-maxage=0, max-age=9")],
            Asked,
        ),
    ]
}

fn lifetimes() -> Vec<Case> {
    vec![
        case(
            "4.2.1 repeated",
            &[("cache-control", "max-age=0, max-age=9")],
            Asked,
        ),
        case("4.2.1 quoted", &[("cache-control", "max-age=\"99\"")], Hit),
        case(
            "4.2.1 malformed",
            &[("cache-control", "max-age='99'")],
            Asked,
        ),
        case(
            "4.2.3 age",
            &[("cache-control", "max-age=99"), ("age", "98")],
            Hit,
        ),
        case(
            "4.2.3 age",
            &[("cache-control", "max-age=99"), ("age", "99")],
            Asked,
        ),
        case(
            "4.2 stale",
            &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
            Validated,
        ),
        case("4.1 Vary: *", &[FRESH, ("vary", "*")], Asked),
        case(
            "RFC 9213",
            &[
                ("cache-control", "no-store"),
                ("cdn-cache-control", "max-age=99"),
            ],
            Hit,
        ),
        case(
            "RFC 9213",
            &[FRESH, ("cdn-cache-control", "no-store")],
            Asked,
        ),
        case(
            "RFC 9213",
            &[FRESH, ("cdn-cache-control", "max-age=\"x")],
            Hit,
        ),
        with("3.5", &[("authorization", "x")], &[FRESH], &[], Asked),
        with(
            "3.5 public",
            &[("authorization", "x")],
            &[("cache-control", "public, max-age=99")],
            &[],
            Hit,
        ),
        with(
            "5.2.1.5 no-store",
            &[("cache-control", "no-store")],
            &[FRESH],
            &[],
            Asked,
        ),
    ]
}

fn statuses() -> Vec<Case> {
    let mut cases = Vec::new();
    for number in [
        200, 201, 203, 204, 299, 301, 302, 307, 400, 404, 410, 499, 500, 599,
    ] {
        cases.push(status("3 any final status", number, &[FRESH], Hit));
    }
    let old = ("last-modified", "Thu, 01 Jan 2015 00:00:00 GMT");
    for number in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        cases.push(status("4.2.2 heuristics", number, &[old], Hit));
    }
    for number in [201, 202, 302, 307, 403, 502, 503, 504, 599] {
        cases.push(status("4.2.2 heuristics", number, &[old], Asked));
    }
    cases
}

fn reusing() -> Vec<Case> {
    let fresh = |again, second| with("5.2.1", &[], &[FRESH, ("age", "100")], again, second);
    let tagged = |again, second| with("5.2.1", &[], &[FRESH, ("etag", "\"a\"")], again, second);
    let stale = |again, second| {
        let response = [
            ("cache-control", "max-age=10"),
            ("age", "20"),
            ("etag", "\"a\""),
        ];
        with("5.2.1.2 max-stale", &[], &response, again, second)
    };
    vec![
        tagged(&[("cache-control", "no-cache")], Validated),
        tagged(&[("pragma", "no-cache")], Validated),
        tagged(
            &[("pragma", "no-cache"), ("cache-control", "max-age=9")],
            Hit,
        ),
        tagged(&[("cache-control", "no-store")], Asked),
        fresh(&[("cache-control", "max-age=99")], Asked),
        fresh(&[("cache-control", "max-age=200")], Hit),
        fresh(&[("cache-control", "min-fresh=3000")], Hit),
        fresh(&[("cache-control", "min-fresh=3600")], Asked),
        fresh(&[("cache-control", "only-if-cached")], Hit),
        stale(&[], Validated),
        stale(&[("cache-control", "max-stale")], Hit),
        stale(&[("cache-control", "max-stale=60")], Hit),
        stale(&[("cache-control", "max-stale=5")], Validated),
        with(
            "5.2.2.2 must-revalidate",
            &[],
            &[
                ("cache-control", "max-age=1, must-revalidate"),
                ("age", "9"),
                ("etag", "\"a\""),
            ],
            &[("cache-control", "max-stale")],
            Validated,
        ),
        with(
            "4.1 same",
            &[("foo", "1")],
            &[FRESH, ("vary", "Foo")],
            &[("foo", "1")],
            Hit,
        ),
        with(
            "4.1 other",
            &[("foo", "1")],
            &[FRESH, ("vary", "Foo")],
            &[("foo", "2")],
            Asked,
        ),
        with(
            "4.1 missing",
            &[("foo", "1")],
            &[FRESH, ("vary", "Foo")],
            &[],
            Asked,
        ),
        with("4.1 absent both", &[], &[FRESH, ("vary", "Foo")], &[], Hit),
        with(
            "4.1 spaces",
            &[("foo", "1, 2")],
            &[FRESH, ("vary", "Foo, Bar")],
            &[("foo", "1,2")],
            Hit,
        ),
    ]
}

/// What is written strangely, and what it comes to.
fn oddities() -> Vec<Case> {
    let mut cases = Vec::new();
    for (value, second) in [
        ("max-age=99999999999", Hit),
        ("MaX-aGe=99", Hit),
        ("max-age=0099", Hit),
        (", ,max-age=99,,", Hit),
        ("max-age=99, other=\"no-store\"", Hit),
        ("other=\"max-age=99\"", Asked),
        ("other=\"a, b\", no-store, max-age=99", Asked),
        ("max-age=-99", Asked),
        ("max-age=a99", Asked),
        ("max-age =99", Asked),
        ("max-age= 99", Asked),
    ] {
        cases.push(case("5.2", &[("cache-control", value)], second));
    }
    for (value, second) in [
        ("7200", Asked),
        ("7200, 0", Asked),
        ("0, 7200", Hit),
        ("abc", Hit),
        ("99999999999", Asked),
    ] {
        cases.push(case("5.1 Age", &[FRESH, ("age", value)], second));
    }
    for (value, second) in [
        ("Thu, 18 Aug 2050 02:01:18 GMT", Hit),
        ("Thursday, 18-Aug-50 02:01:18 GMT", Hit),
        ("Thu Aug 18 02:01:18 2050", Hit),
        ("THU, 18 AUG 2050 02:01:18 gmt", Hit),
        ("0", Asked),
        ("Thu, 18 Aug 2050 02:01:18", Asked),
        ("Thu, 18 Aug 2050 02:01:18 AEST", Asked),
        ("Thu, 18 Aug 2050 2:01:18 GMT", Asked),
        ("Thu, 18-Aug-2050 02:01:18 GMT", Asked),
        ("Thu, 18 Aug 2050 02.01.18 GMT", Asked),
        ("Thu 18 Aug 2050 02:01:18 GMT", Asked),
        ("Thu, 18 Aug 50 02:01:18 GMT", Asked),
    ] {
        cases.push(case("5.3 Expires", &[("expires", value)], second));
    }
    let targeted = |value, second| {
        let response = [FRESH, ("cdn-cache-control", value)];
        case("RFC 9213", &response, second)
    };
    cases.extend([
        targeted("max-age=0", Asked),
        targeted("private", Asked),
        targeted("max-age=0, max-age=99", Hit),
        targeted("max-age=99;a=b", Hit),
        targeted("", Hit),
        targeted("max-age=\"0\"", Hit),
        targeted("max-age=0.5", Hit),
        targeted("max-age= 0", Hit),
    ]);
    for (section, number, directives, second) in [
        (
            "5.2.2.3 must-understand",
            200,
            "no-store, max-age=99, must-understand",
            Hit,
        ),
        (
            "5.2.2.3 must-understand",
            499,
            "max-age=99, must-understand",
            Asked,
        ),
    ] {
        cases.push(status(
            section,
            number,
            &[("cache-control", directives)],
            second,
        ));
    }
    let german = [
        FRESH,
        ("vary", "accept-language"),
        ("content-language", "de"),
    ];
    for (wanted, second) in [("DE", Hit), ("de, en;q=0.5", Hit), ("en, de", Asked)] {
        let again: &'static [Field] = match wanted {
            "DE" => &[("accept-language", "DE")],
            "en, de" => &[("accept-language", "en, de")],
            _ => &[("accept-language", "de, en;q=0.5")],
        };
        let first = &[("accept-language", "fr, de")];
        cases.push(with("4.1 language", first, &german, again, second));
    }
    cases
}

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
    let cases = [storing(), lifetimes(), statuses(), reusing(), oddities()].concat();
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
                assert_eq!(seen.len(), 1, "{what}: {}", account(&second));
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
