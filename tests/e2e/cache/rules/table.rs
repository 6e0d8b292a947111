//! The cases: what is asked first, what is answered, what is asked then, and what that comes to.

use super::super::{Field, Turn, ok, turn};
use super::FRESH;

/// What the second request of a case comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// Answered from what is stored.
    Hit,
    /// The origin is asked, with a condition.
    Validated,
    /// The origin is asked for the whole.
    Asked,
}
use self::Second::{Asked, Hit, Validated};

#[derive(Clone)]
pub(super) struct Case {
    pub(super) section: &'static str,
    pub(super) request: &'static [Field],
    pub(super) response: Turn,
    pub(super) again: &'static [Field],
    pub(super) second: Second,
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
    for number in [201, 302, 403, 599] {
        let public = [old, ("cache-control", "public")];
        cases.push(status("4.2.2 heuristics, public", number, &public, Hit));
    }
    let stale = [("cache-control", "max-age=1"), ("age", "2")];
    for number in [
        200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599,
    ] {
        cases.push(status("4.2.4 any stale status", number, &stale, Asked));
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

/// Which of several words counts.
fn precedence() -> Vec<Case> {
    let later = ("expires", "Thu, 18 Aug 2050 02:01:18 GMT");
    let stale = |directives, second| {
        let response = [
            ("cache-control", directives),
            ("age", "20"),
            ("etag", "\"a\""),
        ];
        with(
            "5.2.2",
            &[],
            &response,
            &[("cache-control", "max-stale")],
            second,
        )
    };
    let credentials = |directives, second| {
        let response = [("cache-control", directives)];
        with("3.5", &[("authorization", "x")], &response, &[], second)
    };
    vec![
        case("5.3", &[("cache-control", "max-age=0"), later], Asked),
        case(
            "5.3",
            &[("cache-control", "max-age=99"), ("expires", "0")],
            Hit,
        ),
        case("5.3", &[("cache-control", "s-maxage=0"), later], Asked),
        // Two lines are no date.
        case("5.3", &[later, later], Asked),
        // A lifetime is counted from the origin's own clock.
        case(
            "4.2.1",
            &[later, ("date", "Thu, 18 Aug 2050 02:01:18 GMT")],
            Asked,
        ),
        case(
            "4.2.1",
            &[later, ("date", "Thu, 18 Aug 2050 01:01:18 GMT")],
            Hit,
        ),
        case(
            "4.2.1",
            &[FRESH, ("date", "Thu, 18 Aug 2050 02:01:18 GMT")],
            Hit,
        ),
        case("5.4", &[FRESH, ("pragma", "no-cache")], Hit),
        case("7.3", &[FRESH, ("set-cookie", "a=b")], Hit),
        case("3", &[FRESH, ("content-disposition", "attachment")], Hit),
        case(
            "RFC 8246",
            &[("cache-control", "max-age=99, immutable")],
            Hit,
        ),
        case(
            "5.2.2.2",
            &[("cache-control", "max-age=99, must-revalidate")],
            Hit,
        ),
        case(
            "5.2.2.8",
            &[("cache-control", "max-age=99, proxy-revalidate")],
            Hit,
        ),
        case(
            "5.2.2.10",
            &[
                ("cache-control", "max-age=99"),
                ("cache-control", "s-maxage=0"),
            ],
            Asked,
        ),
        case("5.2.2.5", &[FRESH, ("cache-control", "no-store")], Asked),
        stale("max-age=10", Hit),
        stale("max-age=10, must-revalidate", Validated),
        stale("max-age=10, proxy-revalidate", Validated),
        stale("s-maxage=10", Validated),
        stale("max-age=30, no-cache", Validated),
        with(
            "RFC 5861 3",
            &[],
            &[
                ("cache-control", "max-age=10, stale-while-revalidate=5"),
                ("age", "20"),
                ("etag", "\"a\""),
            ],
            &[],
            Validated,
        ),
        credentials("s-maxage=99", Hit),
        credentials("max-age=99, must-revalidate", Hit),
        credentials("max-age=99, proxy-revalidate", Asked),
        with("3.5", &[], &[FRESH], &[("authorization", "x")], Hit),
    ]
}

/// How requests are told apart by what `Vary` names.
fn varying() -> Vec<Case> {
    let by = |names: &'static str, first, again, second| {
        with("4.1", first, &[FRESH, ("vary", names)], again, second)
    };
    vec![
        by("*, foo", &[("foo", "1")], &[("foo", "1")], Asked),
        by("foo, *", &[("foo", "1")], &[("foo", "1")], Asked),
        by(", foo", &[("foo", "1")], &[("foo", "2")], Asked),
        by("FOO", &[("foo", "1")], &[("foo", "1")], Hit),
        by(
            "foo, bar",
            &[("foo", "1"), ("bar", "2")],
            &[("bar", "2"), ("foo", "1")],
            Hit,
        ),
        by(
            "foo, bar",
            &[("foo", "1"), ("bar", "2")],
            &[("foo", "1"), ("bar", "3")],
            Asked,
        ),
        by(
            "foo",
            &[("foo", "1"), ("foo", "2")],
            &[("foo", "1, 2")],
            Hit,
        ),
        by("foo", &[("foo", "1, 2")], &[("foo", "2, 1")], Asked),
        by("foo", &[("foo", "a")], &[("foo", "A")], Asked),
        by("foo", &[], &[("foo", "")], Asked),
        by(
            "accept-language",
            &[("accept-language", "en, de")],
            &[("accept-language", "DE,en")],
            Hit,
        ),
        by(
            "accept-language",
            &[("accept-language", "en;q=0.5, de")],
            &[("accept-language", "en, de;q=0.5")],
            Asked,
        ),
        by(
            "accept-encoding",
            &[("accept-encoding", "gzip, br")],
            &[("accept-encoding", "br,gzip")],
            Hit,
        ),
        with(
            "4.1 two lines",
            &[("foo", "1"), ("bar", "1")],
            &[FRESH, ("vary", "foo"), ("vary", "bar")],
            &[("foo", "1"), ("bar", "2")],
            Asked,
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

/// Every case.
pub(super) fn all() -> Vec<Case> {
    [
        storing(),
        lifetimes(),
        statuses(),
        reusing(),
        precedence(),
        varying(),
        oddities(),
    ]
    .concat()
}
