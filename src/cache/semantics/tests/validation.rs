//! RFC 9111 sections 3.2, 3.3, 3.4 and 4.3, RFC 9110 sections 13 and 14.

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};

use super::{NOW, NOW_TEXT, date, headers};
use crate::cache::semantics::range::{self, Wanted};
use crate::cache::semantics::{Control, condition, fields};

#[test]
fn section_4_3_1_the_stored_validators_are_sent_in_the_place_of_the_clients() {
    let stored = headers(&[("etag", "\"a\""), ("last-modified", NOW_TEXT)]);
    let mut request = headers(&[
        ("if-none-match", "\"client\""),
        ("if-range", "\"client\""),
        ("range", "bytes=0-1"),
        ("x", "1"),
    ]);
    assert!(condition::validate(&mut request, &stored));
    assert_eq!(request.get(IF_NONE_MATCH).unwrap(), "\"a\"");
    assert_eq!(request.get(IF_MODIFIED_SINCE).unwrap(), NOW_TEXT);
    assert_eq!(request.len(), 3);
    assert!(!condition::validate(&mut request, &headers(&[])));
    assert_eq!(request.len(), 1);
}

#[test]
fn section_4_3_2_the_client_is_told_when_it_has_it_already() {
    let (later, earlier) = (date(1), date(-1));
    let tagged = headers(&[("etag", "W/\"a\""), ("last-modified", NOW_TEXT)]);
    let dated = headers(&[("date", NOW_TEXT)]);
    for (stored, request, has) in [
        (&tagged, vec![("if-none-match", "\"a\"")], true),
        (&tagged, vec![("if-none-match", "W/\"a\"")], true),
        (&tagged, vec![("if-none-match", "\"b\", \"a\"")], true),
        (
            &tagged,
            vec![("if-none-match", "\"b\""), ("if-none-match", "\"a\"")],
            true,
        ),
        (&tagged, vec![("if-none-match", "*")], true),
        (&tagged, vec![("if-none-match", "\"b\"")], false),
        (&tagged, vec![("if-none-match", "\"b,\", \"x\"")], false),
        // If-None-Match alone counts where both are given.
        (
            &tagged,
            vec![("if-none-match", "\"b\""), ("if-modified-since", NOW_TEXT)],
            false,
        ),
        (&tagged, vec![("if-modified-since", NOW_TEXT)], true),
        (&tagged, vec![("if-modified-since", later.as_str())], true),
        (
            &tagged,
            vec![("if-modified-since", earlier.as_str())],
            false,
        ),
        (
            &tagged,
            vec![("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")],
            true,
        ),
        (&tagged, vec![("if-modified-since", "x")], false),
        (&dated, vec![("if-modified-since", NOW_TEXT)], true),
        (&tagged, vec![], false),
    ] {
        let request = headers(&request);
        assert_eq!(
            condition::is_unmodified(&request, stored, NOW),
            has,
            "{request:?}"
        );
    }
}

#[test]
fn sections_3_2_and_4_3_4_a_304_changes_the_stored_fields() {
    let stored = headers(&[
        ("etag", "\"a\""),
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("age", "7"),
        ("x-list", "1"),
        ("x-list", "2"),
        ("x-old", "1"),
    ]);
    let fresh = headers(&[
        ("etag", "\"a\""),
        ("content-length", "0"),
        ("content-range", "bytes 0-1/2"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("content-type", "text/html"),
        ("x-list", "3"),
        ("x-new", "1"),
    ]);
    let merged = fields::freshened(&stored, &fresh, &Control::default());
    let expected = headers(&[
        ("etag", "\"a\""),
        ("content-length", "5"),
        ("content-type", "text/html"),
        ("x-list", "3"),
        ("x-old", "1"),
        ("x-new", "1"),
    ]);
    assert_eq!(merged, expected);
}

#[test]
fn section_4_3_4_a_304_is_about_what_was_asked_unless_it_names_another() {
    let about = |stored: &[(&str, &str)], fresh: &[(&str, &str)]| {
        fields::is_about(&headers(stored), &headers(fresh))
    };
    let strong = ("etag", "\"a\"");
    assert!(about(&[strong], &[]));
    assert!(about(&[strong], &[strong]));
    assert!(about(&[strong], &[("etag", "W/\"b\"")]));
    assert!(!about(&[strong], &[("etag", "\"b\"")]));
    assert!(!about(&[("etag", "W/\"a\"")], &[strong]));
}

#[test]
fn section_4_3_5_head_tells_whether_what_is_stored_still_holds() {
    let stored = headers(&[("etag", "\"a\""), ("content-length", "5")]);
    assert!(fields::is_same(&stored, &headers(&[("etag", "\"a\"")])));
    assert!(fields::is_same(&stored, &headers(&[])));
    assert!(!fields::is_same(&stored, &headers(&[("etag", "\"b\"")])));
    assert!(!fields::is_same(
        &stored,
        &headers(&[("content-length", "6")])
    ));
}

#[test]
fn rfc_9110_section_14_ranges() {
    for (range, wanted) in [
        ("bytes=0-0", Wanted::Part(0, 1)),
        ("bytes=2-", Wanted::Part(2, 10)),
        ("bytes=-3", Wanted::Part(7, 10)),
        ("bytes=-30", Wanted::Part(0, 10)),
        ("bytes=5-99", Wanted::Part(5, 10)),
        ("bytes=9-99999999999999999999999", Wanted::Part(9, 10)),
        ("BYTES=1-2", Wanted::Part(1, 3)),
        ("bytes=10-", Wanted::Unsatisfiable),
        ("bytes=-0", Wanted::Unsatisfiable),
        ("bytes=3-2", Wanted::Whole),
        ("bytes=-", Wanted::Whole),
        ("bytes=a-b", Wanted::Whole),
        ("bytes=0-1,3-4", Wanted::Whole),
        ("lines=0-1", Wanted::Whole),
        ("bytes", Wanted::Whole),
    ] {
        let request = headers(&[("range", range)]);
        assert_eq!(range::wanted(&request, 10), wanted, "{range}");
    }
    assert_eq!(range::wanted(&headers(&[]), 10), Wanted::Whole);
    assert_eq!(
        range::wanted(&headers(&[("range", "bytes=-1")]), 0),
        Wanted::Unsatisfiable
    );
}

#[test]
fn rfc_9110_section_13_1_5_if_range() {
    let earlier = date(-60);
    let stored = headers(&[
        ("etag", "\"a\""),
        ("last-modified", &earlier),
        ("date", NOW_TEXT),
    ]);
    let holds =
        |value: &str| condition::range_holds(&headers(&[("if-range", value)]), &stored, NOW);
    assert!(condition::range_holds(&headers(&[]), &stored, NOW));
    assert!(holds("\"a\""));
    assert!(holds(&earlier));
    assert!(!holds("W/\"a\""));
    assert!(!holds("\"b\""));
    assert!(!holds(NOW_TEXT));
    assert!(!holds("x"));
    let weak = headers(&[("etag", "W/\"a\"")]);
    assert!(!condition::range_holds(
        &headers(&[("if-range", "W/\"a\"")]),
        &weak,
        NOW
    ));
}

#[test]
fn sections_3_3_and_3_4_parts() {
    let carried = |value: &str| range::carried(&headers(&[("content-range", value)]));
    assert_eq!(carried("bytes 0-4/10"), Some((0, 5, 10)));
    for bad in [
        "bytes 0-4/*",
        "bytes 4-0/10",
        "bytes 0-10/10",
        "bytes */10",
        "lines 0-4/10",
        "0-4/10",
        "bytes -4/10",
    ] {
        assert_eq!(carried(bad), None, "{bad}");
    }
    let combine = |one: &str, other: &str| {
        range::may_combine(&headers(&[("etag", one)]), &headers(&[("etag", other)]))
    };
    assert!(combine("\"a\"", "\"a\""));
    assert!(!combine("\"a\"", "\"b\""));
    assert!(!combine("W/\"a\"", "W/\"a\""));
    assert!(!range::may_combine(&headers(&[]), &headers(&[])));
    assert_eq!(range::content_range(2, 5, 10).unwrap(), "bytes 2-4/10");
}
