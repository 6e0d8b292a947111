//! Paths, by example and by property.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn target(text: &str) -> PathAndQuery {
    text.parse().unwrap()
}

#[test]
fn a_path_with_nothing_to_do_is_borrowed() {
    for path in [
        "/",
        "/a",
        "/a/b/",
        "//a//b",
        "/a.b/..c/...",
        "/%2f/%C3%A9",
        "/a;v=1",
        "*",
        "/é",
    ] {
        let normalised = normalise(path).unwrap();
        assert!(matches!(normalised, Cow::Borrowed(_)), "{path}");
        assert_eq!(normalised, path);
    }
}

#[test]
fn dot_segments_are_removed_in_every_spelling() {
    for (path, expected) in [
        ("/a/b/c/./../../g", "/a/g"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/.", "/"),
        ("/a/b/..", "/a/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e./b", "/b"),
        ("/%2e/a", "/a"),
        ("/a//../b", "/a/b"),
        ("/a/..%2fb/./c", "/a/..%2fb/c"),
    ] {
        assert_eq!(normalise(path).unwrap(), expected, "{path}");
    }
}

#[test]
fn climbing_above_the_root_is_refused() {
    for path in ["/..", "/a/../..", "/../a", "/%2e%2e", "/a/../../a/b"] {
        assert_eq!(normalise(path), Err(BadPath::AboveRoot), "{path}");
    }
}

#[test]
fn what_cannot_stand_in_a_path_is_refused() {
    for (path, expected) in [
        ("", BadPath::NotAbsolute),
        ("a", BadPath::NotAbsolute),
        ("**", BadPath::NotAbsolute),
        ("/a b", BadPath::Character),
        ("/a\0", BadPath::Character),
        ("/a%00", BadPath::Character),
        ("/a\r\n", BadPath::Character),
        ("/a\x7f", BadPath::Character),
        ("/a\\..\\b", BadPath::Character),
        ("/a#b", BadPath::Character),
        ("/a?b", BadPath::Character),
        ("/%", BadPath::Escape),
        ("/%2", BadPath::Escape),
        ("/%zz", BadPath::Escape),
        ("/%+1", BadPath::Escape),
    ] {
        assert_eq!(normalise(path), Err(expected), "{path:?}");
    }
}

#[test]
fn a_prefix_is_stripped_at_a_slash() {
    for (prefix, path, expected) in [
        ("/orders", "/orders", "/"),
        ("/orders", "/orders/", "/"),
        ("/orders", "/orders/1?q=a/b", "/1?q=a/b"),
        ("/orders/", "/orders/1", "/1"),
        ("/orders", "/orders?q", "/?q"),
        ("/orders", "/ordersx", "/ordersx"),
        ("/orders", "/other", "/other"),
        ("/", "/a", "/a"),
        ("/a", "/a//b", "//b"),
        ("/a", "*", "*"),
    ] {
        let rule = Rewrite::StripPrefix(prefix.into());
        assert_eq!(
            rewrite(&target(path), &rule),
            expected,
            "{prefix} of {path}"
        );
    }
}

#[test]
fn a_prefix_is_replaced_as_the_gateway_api_says() {
    for (path, prefix, with, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/a?q=1", "/", "/v2", "/v2/a?q=1"),
    ] {
        let rule = Rewrite::ReplacePrefix {
            prefix: prefix.into(),
            with: with.into(),
        };
        assert_eq!(
            rewrite(&target(path), &rule),
            expected,
            "{path} {prefix} {with}"
        );
    }
}

#[test]
fn a_new_path_keeps_the_query() {
    assert_eq!(with_path(&target("/a/../b?x=1"), "/b").unwrap(), "/b?x=1");
    assert_eq!(with_path(&target("/a?"), "/b").unwrap(), "/b?");
}

/// Paths made of the pieces that matter.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", ".", "..", "%2e", "%2E", "%2f", "%00", "%", "a", "bc", " ", "é", "\\",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn a_normalised_path_is_absolute_and_stays_as_it_is(path in paths()) {
        if let Ok(normalised) = normalise(&path) {
            prop_assert!(normalised.starts_with('/'));
            prop_assert!(normalised.split('/').all(|segment| Dots::of(segment).is_none()));
            let again = normalise(&normalised).unwrap();
            prop_assert!(matches!(again, Cow::Borrowed(_)));
            prop_assert_eq!(again.as_ref(), normalised.as_ref());
        }
    }

    #[test]
    fn no_text_makes_it_panic(path in any::<String>()) {
        if let Ok(normalised) = normalise(&path) {
            prop_assert!(normalised == "*" || normalised.starts_with('/'));
        }
    }

    #[test]
    fn a_rewritten_target_begins_with_a_slash_and_keeps_its_query(
        path in "/[a-c/]{0,8}",
        query in proptest::option::of("[a-z=&]{0,6}"),
        prefix in "/[a-c/]{0,4}",
        with in "(/[a-c/]{0,4})?",
    ) {
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let text = format!("{path}{query}");
        let target = target(&text);
        let (prefix, with) = (prefix.as_str().into(), with.as_str().into());
        for rule in [Rewrite::StripPrefix(Arc::clone(&prefix)), Rewrite::ReplacePrefix { prefix, with }] {
            let rewritten = rewrite(&target, &rule);
            prop_assert!(rewritten.path().starts_with('/'));
            prop_assert_eq!(rewritten.query(), target.query());
        }
    }
}
