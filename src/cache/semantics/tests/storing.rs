//! RFC 9111 sections 3 and 4.1.

use http::{HeaderMap, Method, StatusCode};

use super::{NOW_MILLIS, date, headers};
use crate::cache::semantics::model::Exchange;
use crate::cache::semantics::store::{Answer, Policy, Refused, storable};
use crate::cache::semantics::vary::Vary;
use crate::cache::semantics::{Control, Model, fields};

struct Case<'a> {
    method: Method,
    request: &'a [(&'a str, &'a str)],
    status: u16,
    response: &'a [(&'a str, &'a str)],
    policy: Policy,
}

const GET: Case<'_> = Case {
    method: Method::GET,
    request: &[],
    status: 200,
    response: &[],
    policy: Policy {
        default_ttl: 0,
        not_found_ttl: 0,
        strict_cookies: false,
    },
};

impl Case<'_> {
    fn judge(&self) -> Result<Model, Refused> {
        let (request, response) = (headers(self.request), headers(self.response));
        let answer = Answer {
            method: &self.method,
            request: &request,
            status: StatusCode::from_u16(self.status).unwrap(),
            headers: &response,
            exchange: Exchange {
                sent: NOW_MILLIS,
                arrived: NOW_MILLIS,
            },
            names_itself: response.contains_key("content-location"),
        };
        storable(&answer, &Control::of(&response, &[]), self.policy).map(|(model, _)| model)
    }
}

#[test]
fn section_3_what_may_be_stored() {
    let fresh = ("cache-control", "max-age=60");
    let refused = |case: &Case<'_>| case.judge().err();
    for (request, response, expected) in [
        (vec![], vec![fresh], None),
        (
            vec![],
            vec![("cache-control", "no-store, max-age=60")],
            Some(Refused::NoStore),
        ),
        (
            vec![("cache-control", "no-store")],
            vec![fresh],
            Some(Refused::NoStore),
        ),
        (
            vec![],
            vec![("cache-control", "private, max-age=60")],
            Some(Refused::Private),
        ),
        (
            vec![],
            vec![("cache-control", "private=\"x\", max-age=60")],
            None,
        ),
        // Section 3.5: credentials.
        (
            vec![("authorization", "x")],
            vec![fresh],
            Some(Refused::Authorization),
        ),
        (
            vec![("authorization", "x")],
            vec![("cache-control", "public, max-age=60")],
            None,
        ),
        (
            vec![("authorization", "x")],
            vec![("cache-control", "s-maxage=60")],
            None,
        ),
        (
            vec![("authorization", "x")],
            vec![("cache-control", "max-age=60, must-revalidate")],
            None,
        ),
        // Section 4.1.
        (vec![], vec![fresh, ("vary", "*")], Some(Refused::Vary)),
        (vec![], vec![fresh, ("vary", "a, *")], Some(Refused::Vary)),
        (
            vec![],
            vec![fresh, ("vary", "a"), ("vary", "*")],
            Some(Refused::Vary),
        ),
        // Without a lifetime: only what can be validated.
        (vec![], vec![], Some(Refused::NoLifetime)),
        (vec![], vec![("etag", "\"a\"")], None),
        (
            vec![],
            vec![("cache-control", "no-cache"), ("etag", "\"a\"")],
            None,
        ),
        (
            vec![],
            vec![("cache-control", "max-age=0")],
            Some(Refused::NoLifetime),
        ),
        (
            vec![],
            vec![("cache-control", "max-age=0, stale-while-revalidate=9")],
            None,
        ),
        // A cookie is kept only on the origin's explicit word.
        (vec![], vec![fresh, ("set-cookie", "a=b")], None),
        (
            vec![],
            vec![("etag", "\"a\""), ("set-cookie", "a=b")],
            Some(Refused::Cookie),
        ),
    ] {
        let case = Case {
            request: &request,
            response: &response,
            ..GET
        };
        assert_eq!(refused(&case), expected, "{request:?} {response:?}");
    }
}

#[test]
fn section_3_explicit_freshness_makes_any_final_status_storable() {
    for status in [200, 201, 299, 302, 400, 404, 410, 499, 500, 503, 599] {
        let case = Case {
            status,
            response: &[("cache-control", "max-age=60")],
            ..GET
        };
        assert!(case.judge().is_ok(), "{status}");
    }
    for status in [100, 103, 206, 304] {
        let case = Case {
            status,
            response: &[("cache-control", "max-age=60")],
            ..GET
        };
        assert_eq!(case.judge(), Err(Refused::Status), "{status}");
    }
}

#[test]
fn section_4_2_2_only_some_statuses_are_guessed_about() {
    let changed = date(-86_400);
    let response = [("last-modified", changed.as_str())];
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        let case = Case {
            status,
            response: &response,
            ..GET
        };
        // A tenth of a day, but no more than five minutes.
        assert_eq!(case.judge().unwrap().lifetime, 300_000, "{status}");
    }
    for status in [201, 202, 302, 307, 400, 403, 500, 503, 599] {
        let case = Case {
            status,
            response: &response,
            ..GET
        };
        assert_eq!(case.judge(), Err(Refused::NoLifetime), "{status}");
    }
    let public = [
        ("last-modified", changed.as_str()),
        ("cache-control", "public"),
    ];
    let case = Case {
        status: 599,
        response: &public,
        ..GET
    };
    assert_eq!(case.judge().unwrap().lifetime, 300_000);
}

#[test]
fn section_5_2_2_3_what_must_be_understood_may_be_stored_only_then() {
    let response = [("cache-control", "max-age=60, no-store, must-understand")];
    let case = |status| Case {
        status,
        response: &response,
        ..GET
    };
    assert!(case(200).judge().is_ok());
    assert_eq!(case(599).judge(), Err(Refused::Status));
}

#[test]
fn section_3_other_methods() {
    let fresh = [("cache-control", "max-age=60")];
    for method in [
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::HEAD,
        Method::POST,
    ] {
        let case = Case {
            method,
            response: &fresh,
            ..GET
        };
        assert_eq!(case.judge(), Err(Refused::Method));
    }
    let named = [("cache-control", "max-age=60"), ("content-location", "/")];
    let case = Case {
        method: Method::POST,
        response: &named,
        ..GET
    };
    assert!(case.judge().is_ok());
}

#[test]
fn the_operators_lifetime_stands_in_only_where_the_origin_says_nothing() {
    let policy = Policy {
        default_ttl: 30,
        not_found_ttl: 5,
        strict_cookies: true,
    };
    let judge = |status, response: &[(&str, &str)]| {
        let case = Case {
            status,
            response,
            policy,
            ..GET
        };
        case.judge().map(|model| model.lifetime)
    };
    assert_eq!(judge(200, &[]), Ok(30_000));
    assert_eq!(judge(404, &[]), Ok(5_000));
    assert_eq!(judge(200, &[("cache-control", "max-age=1")]), Ok(1_000));
    for (status, response) in [
        (200, vec![("cache-control", "no-store")]),
        (200, vec![("cache-control", "private")]),
        (200, vec![("set-cookie", "a=b")]),
        // An attacker's request can cause these.
        (400, vec![]),
        (405, vec![]),
        (414, vec![]),
        (501, vec![]),
        (500, vec![]),
    ] {
        assert!(judge(status, &response).is_err(), "{status} {response:?}");
    }
    // Strict: a cookie only with the word that it is for all.
    let cookie = ("set-cookie", "a=b");
    assert_eq!(
        judge(200, &[("cache-control", "max-age=9"), cookie]),
        Err(Refused::Cookie)
    );
    assert!(judge(200, &[("cache-control", "max-age=9, public"), cookie]).is_ok());
    assert!(judge(200, &[("cache-control", "s-maxage=9"), cookie]).is_ok());
}

#[test]
fn section_3_1_fields_of_the_hop_and_withheld_ones_are_not_kept() {
    let response = headers(&[
        ("connection", "x-hop, \"x-quoted\""),
        ("x-hop", "1"),
        ("keep-alive", "timeout=1"),
        ("transfer-encoding", "chunked"),
        ("proxy-authenticate", "Basic"),
        ("te", "trailers"),
        ("upgrade", "x"),
        ("cache-control", "no-cache=\"x-secret\", max-age=1"),
        ("x-secret", "1"),
        ("set-cookie", "a=b"),
        ("x-kept", "1"),
    ]);
    let kept = fields::kept(&response, &Control::of(&response, &[]), super::NOW);
    let mut names: Vec<&str> = kept.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "date", "set-cookie", "x-kept"]);
    assert_eq!(kept.get("date").unwrap(), super::NOW_TEXT);
}

#[test]
fn section_4_1_selecting_fields_match_when_they_mean_the_same() {
    let vary = |value: &str| Vary::of(&headers(&[("vary", value)])).unwrap();
    let same = |names: &str, one: &HeaderMap, other: &HeaderMap| {
        vary(names).selection(one) == vary(names).selection(other)
    };
    let of = |name: &'static str, value: &'static str| headers(&[(name, value)]);
    assert!(same("Foo", &of("foo", "1"), &of("foo", "1")));
    assert!(!same("Foo", &of("foo", "1"), &of("foo", "2")));
    assert!(!same("Foo", &of("foo", "1"), &HeaderMap::new()));
    assert!(!same("Foo", &of("foo", ""), &HeaderMap::new()));
    assert!(same("Foo", &of("bar", "1"), &of("bar", "2")));
    assert!(same("foo", &of("foo", "1, 2"), &of("foo", "1,2")));
    assert!(same(
        "foo",
        &of("foo", "1, 2"),
        &headers(&[("foo", "1"), ("foo", "2")])
    ));
    assert!(!same("foo", &of("foo", "1, 2"), &of("foo", "2, 1")));
    assert!(same(
        "accept-language",
        &of("accept-language", "en, DE"),
        &of("accept-language", "de,en")
    ));
    assert!(!same(
        "accept-language",
        &of("accept-language", "en;q=0.5, de"),
        &of("accept-language", "de, en;q=0.6")
    ));
    assert!(same(
        "accept-encoding",
        &of("accept-encoding", "gzip, br"),
        &of("accept-encoding", "BR,gzip")
    ));
    // One value cannot look like two.
    let two = headers(&[("a", "1"), ("b", "2:x")]);
    let one = headers(&[("a", "12"), ("b", "x")]);
    assert!(!same("a, b", &two, &one));
}
