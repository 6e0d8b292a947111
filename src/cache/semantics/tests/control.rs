//! RFC 9111 sections 1.2.2, 5.2 and 5.3, RFC 9110 section 5.6.7, RFC 9213.

use http::{HeaderName, HeaderValue};

use super::{NOW, NOW_TEXT, headers};
use crate::cache::semantics::control::MAX_SECONDS;
use crate::cache::semantics::{Control, RequestControl, date};

fn max_age(value: &str) -> Option<u32> {
    Control::of(&headers(&[("cache-control", value)]), &[]).max_age
}

#[test]
fn section_5_2_directives_are_read_as_the_grammar_says() {
    for (value, seconds) in [
        ("max-age=3600", Some(3600)),
        ("MAX-AGE=3600", Some(3600)),
        ("max-age=\"3600\"", Some(3600)),
        ("max-age=003600", Some(3600)),
        ("public, max-age=3600", Some(3600)),
        ("a=\"max-age=1\", max-age=3600", Some(3600)),
        ("a=\"x, max-age=1\"", None),
        ("a=\"\\\", max-age=1\"", None),
        (",, ,max-age=3600,", Some(3600)),
        ("x-max-age=1", None),
        // Malformed: stale.
        ("max-age='3600'", Some(0)),
        ("max-age=-1", Some(0)),
        ("max-age=3600.0", Some(0)),
        ("max-age=a1", Some(0)),
        ("max-age=1a", Some(0)),
        ("max-age= 3600", Some(0)),
        ("max-age =3600", Some(0)),
        ("max-age", Some(0)),
        ("max-age=", Some(0)),
        // Section 4.2.1: of several, the shortest.
        ("max-age=3600, max-age=60", Some(60)),
        ("max-age=60, max-age=3600", Some(60)),
        // Section 1.2.2: too large counts as the largest.
        ("max-age=99999999999999999999999", Some(MAX_SECONDS)),
        ("max-age=4294967296", Some(MAX_SECONDS)),
    ] {
        assert_eq!(max_age(value), seconds, "{value}");
    }
}

#[test]
fn section_5_2_2_several_lines_are_one_list() {
    let lines = headers(&[
        ("cache-control", "no-store"),
        ("cache-control", "max-age=1"),
    ]);
    let control = Control::of(&lines, &[]);
    assert!(control.no_store());
    assert_eq!(control.max_age, Some(1));
}

#[test]
fn section_5_2_2_4_named_fields_are_withheld_and_nothing_else() {
    let of = |value| Control::of(&headers(&[("cache-control", value)]), &[]);
    let control = of("no-cache=\"set-cookie, x-a\", private=\"x-b\"");
    assert!(!control.no_cache() && !control.private());
    let names: Vec<&str> = control.withheld.iter().map(HeaderName::as_str).collect();
    assert_eq!(names, ["set-cookie", "x-a", "x-b"]);
    // What is no list of fields concerns the whole.
    assert!(of("no-cache=set-cookie").no_cache());
    assert!(of("private=\"\"").private());
    assert!(of("private=\"not a field\"").private());
}

#[test]
fn section_5_2_1_requests_say_what_they_take() {
    let of = |fields: &[(&str, &str)]| RequestControl::of(&headers(fields));
    let control = of(&[("cache-control", "max-age=5, min-fresh=3, max-stale=7")]);
    assert_eq!(
        (control.max_age, control.min_fresh, control.max_stale),
        (Some(5), Some(3), Some(7))
    );
    assert_eq!(
        of(&[("cache-control", "max-stale")]).max_stale,
        Some(MAX_SECONDS)
    );
    assert!(of(&[("cache-control", "Only-If-Cached")]).only_if_cached);
    assert!(of(&[("cache-control", "no-store")]).no_store);
    // Section 5.4: Pragma counts only without Cache-Control.
    assert!(of(&[("pragma", "no-cache")]).no_cache);
    assert!(!of(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]).no_cache);
}

#[test]
fn rfc_9213_a_targeted_field_that_is_valid_stands_in_the_place_of_cache_control() {
    let targeted = [
        HeaderName::from_static("tidegate-cache-control"),
        HeaderName::from_static("cdn-cache-control"),
    ];
    let of = |name: &str, value: &str| {
        let fields = headers(&[("cache-control", "no-store"), (name, value)]);
        Control::of(&fields, &targeted)
    };
    for value in [
        "max-age=60",
        "max-age=60;x=1",
        "no-store=?0, max-age=60",
        "x, max-age=60",
    ] {
        let control = of("cdn-cache-control", value);
        assert!(control.targeted && !control.no_store(), "{value}");
        assert_eq!(control.max_age, Some(60), "{value}");
    }
    for value in [
        "",
        "max-age=\"60\"",
        "max-age=60.0",
        "max-age=a b",
        "MAX-AGE=60",
        "&&",
    ] {
        let control = of("cdn-cache-control", value);
        assert!(!control.targeted && control.no_store(), "{value}");
    }
    assert!(of("cdn-cache-control", "no-store").no_store());
    // The first of the list counts.
    let both = headers(&[
        ("cdn-cache-control", "max-age=1"),
        ("tidegate-cache-control", "max-age=2"),
    ]);
    assert_eq!(Control::of(&both, &targeted).max_age, Some(2));
}

#[test]
fn rfc_9110_section_5_6_7_all_three_forms_of_a_date_are_read() {
    let parse = |text: &str| date::parse(&HeaderValue::try_from(text).unwrap(), NOW);
    for good in [
        NOW_TEXT,
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "sun, 06 nov 1994 08:49:37 gmt",
        // The day of the week is not checked against the date.
        "Mon, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(parse(good), Some(NOW), "{good}");
    }
    for bad in [
        "0",
        "",
        "-1",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994  08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "06 Nov 1994 08:49:37 GMT",
        "é, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(parse(bad), None, "{bad}");
    }
    // A year more than 50 years ahead is one of the past.
    assert!(parse("Sunday, 06-Nov-45 08:49:37 GMT").unwrap() < NOW);
    assert!(parse("Sunday, 06-Nov-44 08:49:37 GMT").unwrap() > NOW);
}

#[test]
fn a_date_that_is_written_reads_the_same() {
    for at in [0, 1, NOW, 951_782_400, 4_102_444_799, 253_402_300_799] {
        let text = date::format(at).unwrap();
        assert_eq!(date::parse(&text, NOW), Some(at), "{text:?}");
    }
    assert_eq!(date::format(NOW).unwrap(), NOW_TEXT);
}
