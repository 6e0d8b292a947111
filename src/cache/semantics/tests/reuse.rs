//! RFC 9111 sections 4, 4.2, 4.4 and 5.2.1, RFC 5861, RFC 9211.

use http::{HeaderMap, StatusCode};

use super::{NOW, NOW_MILLIS, NOW_TEXT, date, headers};
use crate::cache::semantics::model::{Exchange, Lifetime};
use crate::cache::semantics::reuse::{self, Reuse};
use crate::cache::semantics::status::{CACHE_STATUS, CacheStatus, Forward};
use crate::cache::semantics::{Control, Model, RequestControl};

/// The model of a response that arrived at once.
fn model(response: &[(&str, &str)]) -> Model {
    let response = headers(response);
    let control = Control::of(&response, &[]);
    let seconds = match Lifetime::of(&control, StatusCode::OK, &response, NOW) {
        Lifetime::Explicit(seconds) | Lifetime::Guessed(seconds) => seconds,
        Lifetime::Unknown => 0,
    };
    let exchange = Exchange {
        sent: NOW_MILLIS,
        arrived: NOW_MILLIS,
    };
    Model::new(&control, seconds, &response, exchange)
}

fn lifetime(response: &[(&str, &str)]) -> u64 {
    model(response).lifetime / 1_000
}

#[test]
fn section_4_2_1_lifetimes() {
    let (later, earlier) = (date(60), date(-60));
    let past = date(-3_600);
    for (response, seconds) in [
        (vec![("cache-control", "max-age=60")], 60),
        (vec![("cache-control", "max-age=60, s-maxage=10")], 10),
        (
            vec![
                ("cache-control", "max-age=60"),
                ("expires", earlier.as_str()),
            ],
            60,
        ),
        (vec![("date", NOW_TEXT), ("expires", later.as_str())], 60),
        // Expires is taken from Date, whatever the cache's own clock.
        (vec![("date", past.as_str()), ("expires", NOW_TEXT)], 3_600),
        (vec![("expires", later.as_str())], 60),
        (vec![("expires", earlier.as_str())], 0),
        (vec![("expires", "0")], 0),
        (
            vec![("expires", later.as_str()), ("expires", later.as_str())],
            0,
        ),
        (vec![("date", "x"), ("expires", later.as_str())], 60),
        // Section 4.2.2.
        (vec![("last-modified", earlier.as_str())], 6),
        (vec![("last-modified", later.as_str())], 0),
        (vec![], 0),
    ] {
        assert_eq!(lifetime(&response), seconds, "{response:?}");
    }
    // RFC 9213: a targeted field stands in the place of Expires as well.
    let fields = headers(&[("cdn-cache-control", "public"), ("expires", &later)]);
    let control = Control::of(
        &fields,
        &[http::HeaderName::from_static("cdn-cache-control")],
    );
    let found = Lifetime::of(&control, StatusCode::OK, &fields, NOW);
    assert_eq!(found, Lifetime::Unknown);
}

#[test]
fn section_4_2_3_ages() {
    let earlier = date(-30);
    for (response, seconds) in [
        (vec![], 0),
        (vec![("age", "20")], 20),
        (vec![("age", "20"), ("date", earlier.as_str())], 30),
        (vec![("age", "40"), ("date", earlier.as_str())], 40),
        (vec![("age", "20, 90")], 20),
        (vec![("age", "20"), ("age", "90")], 20),
        (vec![("age", "-20")], 0),
        (vec![("age", "2x")], 0),
        (vec![("age", "99999999999999999999")], u64::from(u32::MAX)),
    ] {
        assert_eq!(
            model(&response).age(NOW_MILLIS) / 1_000,
            seconds,
            "{response:?}"
        );
    }
    let exchange = Exchange {
        sent: NOW_MILLIS - 4_000,
        arrived: NOW_MILLIS,
    };
    let delayed = headers(&[("age", "20")]);
    let model = Model::new(&Control::default(), 0, &delayed, exchange);
    assert_eq!(model.age(NOW_MILLIS + 6_000), 30_000);
}

#[test]
fn section_5_2_1_what_the_client_takes() {
    let fresh = model(&[("cache-control", "max-age=60"), ("age", "20")]);
    let stale = model(&[("cache-control", "max-age=60"), ("age", "80")]);
    let strict = model(&[
        ("cache-control", "max-age=60, must-revalidate"),
        ("age", "80"),
    ]);
    let validated = model(&[("cache-control", "max-age=60, no-cache")]);
    let shared = model(&[("cache-control", "s-maxage=60"), ("age", "80")]);
    let proxy = model(&[
        ("cache-control", "max-age=60, proxy-revalidate"),
        ("age", "80"),
    ]);
    for (model, request, expected) in [
        (fresh, "", Reuse::AsItIs),
        (fresh, "no-cache", Reuse::Asked),
        (fresh, "max-age=20", Reuse::AsItIs),
        (fresh, "max-age=19", Reuse::Asked),
        (fresh, "min-fresh=40", Reuse::AsItIs),
        (fresh, "min-fresh=41", Reuse::Asked),
        (stale, "", Reuse::Stale),
        (stale, "max-stale", Reuse::AsItIs),
        (stale, "max-stale=20", Reuse::AsItIs),
        (stale, "max-stale=19", Reuse::Stale),
        (stale, "max-stale=x", Reuse::Stale),
        (strict, "max-stale", Reuse::Stale),
        (shared, "max-stale", Reuse::Stale),
        (proxy, "max-stale", Reuse::Stale),
        (validated, "max-stale", Reuse::Stale),
    ] {
        let request = RequestControl::of(&headers(&[("cache-control", request)]));
        assert_eq!(
            reuse::reuse(&model, &request, NOW_MILLIS),
            expected,
            "{request:?}"
        );
    }
}

#[test]
fn section_4_2_a_response_is_stale_once_it_is_as_old_as_its_lifetime() {
    let model = model(&[("cache-control", "max-age=60")]);
    let reuse = |after| reuse::reuse(&model, &RequestControl::default(), NOW_MILLIS + after);
    assert_eq!(reuse(59_999), Reuse::AsItIs);
    assert_eq!(reuse(60_000), Reuse::Stale);
}

#[test]
fn rfc_5861_stale_responses_are_used_within_their_windows() {
    let windows = "max-age=60, stale-while-revalidate=10, stale-if-error=20";
    let both = model(&[("cache-control", windows)]);
    let reuse = |after| reuse::reuse(&both, &RequestControl::default(), NOW_MILLIS + after);
    assert_eq!(reuse(69_999), Reuse::WhileRevalidated);
    assert_eq!(reuse(70_000), Reuse::Stale);
    let stands_in =
        |model: &Model, grace, after| reuse::may_stand_in(model, grace, NOW_MILLIS + after);
    assert!(stands_in(&both, 0, 79_999));
    assert!(!stands_in(&both, 0, 80_000));
    // The operator may allow more, but never against the origin's word.
    assert!(stands_in(&both, 60_000, 119_999));
    assert!(!stands_in(&both, 60_000, 120_000));
    for forbidden in [
        "must-revalidate",
        "proxy-revalidate",
        "no-cache",
        "s-maxage=1",
    ] {
        let text = format!("max-age=1, stale-if-error=99, stale-while-revalidate=99, {forbidden}");
        let model = model(&[("cache-control", &text)]);
        assert!(!stands_in(&model, 99_000, 2_000), "{forbidden}");
        let reused = reuse::reuse(&model, &RequestControl::default(), NOW_MILLIS + 2_000);
        assert_eq!(reused, Reuse::Stale, "{forbidden}");
    }
}

#[test]
fn what_was_made_stale_stays_within_its_windows() {
    let model = model(&[("cache-control", "max-age=60, stale-while-revalidate=10")]);
    let expired = model.expired(NOW_MILLIS + 5_000);
    let reuse = |after| reuse::reuse(&expired, &RequestControl::default(), NOW_MILLIS + after);
    assert_eq!(reuse(5_000), Reuse::WhileRevalidated);
    assert_eq!(reuse(15_000), Reuse::Stale);
}

#[test]
fn renewal_is_likelier_the_nearer_the_end() {
    let model = model(&[("cache-control", "max-age=60")]);
    let took = 100;
    let share = |after: u64| {
        let chances = (1..1_000).map(f64::from).map(|it| it / 1_000.0);
        let now = NOW_MILLIS + after;
        chances
            .filter(|chance| reuse::renews(&model, took, *chance, now))
            .count()
    };
    assert_eq!(share(0), 0);
    assert!(!reuse::may_renew(&model, took, NOW_MILLIS));
    assert!(share(59_500) < share(59_900));
    assert!((350..400).contains(&share(59_900)));
    assert!(reuse::may_renew(&model, took, NOW_MILLIS + 59_500));
}

#[test]
fn section_4_4_unsafe_requests_name_what_becomes_invalid() {
    let of = |location: &str| -> Vec<String> {
        let fields = headers(&[("location", location)]);
        reuse::invalidated("http", "a.example", "/x/y?q", &fields).collect()
    };
    for (location, target) in [
        ("/z", "/z"),
        ("/z#part", "/z"),
        ("z", "/x/z"),
        ("?r", "/x/y?r"),
        ("", "/x/y?q"),
        ("http://a.example/z", "/z"),
        ("HTTP://A.EXAMPLE:80/z", "/z"),
        ("http://a.example", "/"),
        ("http://a.example?r", "/?r"),
        ("//a.example/z", "/z"),
    ] {
        assert_eq!(of(location), [target], "{location}");
    }
    // Never at another origin.
    for other in [
        "http://b.example/z",
        "https://a.example/z",
        "//b/z",
        "http://a.example:81/",
    ] {
        assert!(of(other).is_empty(), "{other}");
    }
    let both = headers(&[("location", "/l"), ("content-location", "/c")]);
    let all: Vec<String> = reuse::invalidated("http", "a", "/", &both).collect();
    assert_eq!(all, ["/l", "/c"]);
}

#[test]
fn rfc_9211_the_account_is_appended_to_the_origins() {
    let account = |status: CacheStatus| {
        let mut headers = HeaderMap::new();
        status.append(&mut headers);
        headers
            .get(CACHE_STATUS)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let hit = CacheStatus {
        hit: true,
        ttl: Some(112),
        ..CacheStatus::default()
    };
    assert_eq!(account(hit), "tidegate; hit; ttl=112");
    let miss = CacheStatus {
        forward: Some(Forward::UriMiss),
        forward_status: Some(200),
        stored: true,
        collapsed: true,
        ttl: Some(-3),
        detail: Some("sie"),
        hit: false,
    };
    assert_eq!(
        account(miss),
        "tidegate; fwd=uri-miss; fwd-status=200; stored; collapsed; ttl=-3; detail=sie"
    );
    let mut behind = headers(&[("cache-status", "origin; hit")]);
    hit.append(&mut behind);
    assert_eq!(behind.get_all(CACHE_STATUS).iter().count(), 2);
}
