//! What a stored response is found by.
//!
//! A key is the URL as it is forwarded, the host in lower case, and behind it whatever else the origin is shown
//! and may answer by: fields a trusted peer vouches for, and those the operator names. Text, compared in whole:
//! no two URLs can stand for each other.

use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};

use crate::config::plan::CacheKey;

/// Fields that some origins believe before the URL itself. From untrusted peers they are taken out where
/// responses are cached; from trusted ones they are part of the key.
pub const UNKEYED: [HeaderName; 13] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-path"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// What the way to Tidegate says about a request, as it is told the origin.
const TOLD: [HeaderName; 2] = [
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
];

/// What stands between a URL and what else is part of its key: no URL and no field can contain it.
const SEPARATOR: char = '\n';

/// The URL that keys begin with.
#[must_use]
pub fn url(scheme: &str, host: &str, target: &str) -> String {
    // With room for what becomes of it: the name of the upstream comes behind.
    let mut url = String::with_capacity(scheme.len() + host.len() + target.len() + 3 + 32);
    add_url(&mut url, scheme, host, target);
    url
}

/// Begins a key with that URL.
pub fn add_url(key: &mut String, scheme: &str, host: &str, target: &str) {
    let default = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(default).unwrap_or(host);
    key.push_str(scheme);
    key.push_str("://");
    let from = key.len();
    key.push_str(host);
    if let Some(host) = key.get_mut(from..) {
        host.make_ascii_lowercase();
    }
    key.push_str(target);
}

/// A URL that somebody wrote, as keys begin with it; none when it is not absolute.
#[must_use]
pub fn normal(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(end)?;
    if host.is_empty() || !matches!(scheme.as_str(), "http" | "https") {
        return None;
    }
    Some(match target.as_bytes().first() {
        None => url(&scheme, host, "/"),
        Some(b'?') => url(&scheme, host, &format!("/{target}")),
        Some(_) => url(&scheme, host, target),
    })
}

/// Adds what else is part of the key of a request with these fields, whose peer is `trusted` or not.
pub fn add_fields(key: &mut String, headers: &HeaderMap, trusted: bool, parts: &CacheKey) {
    if trusted {
        for name in UNKEYED.iter().chain(&TOLD) {
            field(key, headers, name);
        }
    }
    for name in &parts.headers {
        field(key, headers, name);
    }
    for name in &parts.cookies {
        if let Some(value) = cookie(headers, name) {
            add(key, name, &value);
        }
    }
}

/// Adds which origin answers: the upstream's name and, where that is not the URL's own, the path it is asked.
pub fn add_origin(key: &mut String, upstream: &str, rewritten: Option<&str>) {
    add(key, "@", upstream);
    if let Some(path) = rewritten {
        add(key, "@", path);
    }
}

/// Whether `name` is one of [`UNKEYED`]. Nearly every field is told from them by its first letters.
#[must_use]
pub fn is_unkeyed(name: &HeaderName) -> bool {
    let text = name.as_str();
    (text.starts_with("x-") || text.starts_with('f')) && UNKEYED.contains(name)
}

/// Takes what never is part of a key out of an untrusted peer's request.
pub fn strip_unkeyed(headers: &mut HeaderMap) {
    for name in &UNKEYED {
        headers.remove(name);
    }
}

/// Whether `key` is that of `url`.
#[must_use]
pub fn is_of(key: &str, url: &str) -> bool {
    key.strip_prefix(url)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR))
}

/// The URL that `key` begins with.
#[must_use]
pub fn url_of(key: &str) -> &str {
    key.split(SEPARATOR).next().unwrap_or(key)
}

/// `query` without the parameters that `ignored` names; none when nothing changes.
#[must_use]
pub fn without(query: &str, ignored: &[Arc<str>]) -> Option<String> {
    let is_ignored = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or(parameter);
        ignored
            .iter()
            .any(|ignored| match ignored.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == &**ignored,
            })
    };
    query.split('&').any(|one| is_ignored(&one)).then(|| {
        let kept: Vec<&str> = query.split('&').filter(|one| !is_ignored(one)).collect();
        kept.join("&")
    })
}

fn field(key: &mut String, headers: &HeaderMap, name: &HeaderName) {
    for value in headers.get_all(name) {
        add(
            key,
            name.as_str(),
            &String::from_utf8_lossy(value.as_bytes()),
        );
    }
}

fn add(key: &mut String, name: &str, value: &str) {
    key.push(SEPARATOR);
    key.push_str(name);
    key.push('=');
    key.push_str(value);
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let pair = std::str::from_utf8(pair.trim_ascii()).ok()?;
        let value = pair.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_an_operator_writes_is_found() {
        assert_eq!(normal("HTTP://A:80/x?y").as_deref(), Some("http://a/x?y"));
        assert_eq!(normal("https://a").as_deref(), Some("https://a/"));
        for bad in ["/x", "a/x", "ftp://a/", "http://"] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn the_same_url_has_one_key_however_its_host_is_written() {
        assert_eq!(
            url("http", "A.Example:80", "/x"),
            url("http", "a.example", "/x")
        );
        assert_ne!(url("http", "a", "/x"), url("https", "a", "/x"));
        assert_ne!(url("http", "a", "/X"), url("http", "a", "/x"));
        assert_ne!(url("http", "a", "/x%2Fy"), url("http", "a", "/x/y"));
    }

    #[test]
    fn what_a_trusted_peer_says_is_part_of_the_key() {
        let mut headers = HeaderMap::new();
        headers.insert("x-original-url", HeaderValue::from_static("/admin"));
        let key = |trusted| {
            let mut key = "http://a/".to_owned();
            add_fields(&mut key, &headers, trusted, &CacheKey::default());
            key
        };
        let (plain, keyed) = (key(false), key(true));
        assert_ne!(plain, keyed);
        assert!(is_of(&keyed, "http://a/"));
        assert!(!is_of(&keyed, "http://a"));
        assert_eq!(url_of(&keyed), "http://a/");
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("xlang=de; lang=en"));
        assert_eq!(cookie(&headers, "lang").as_deref(), Some("en"));
        assert_eq!(cookie(&headers, "lan"), None);
    }

    #[test]
    fn ignored_parameters_go_and_the_rest_stays_in_order() {
        let ignored = names(&["utm_*", "fbclid"]);
        let stripped = without("b=2&utm_source=x&a=1&fbclid=y", &ignored);
        assert_eq!(stripped.as_deref(), Some("b=2&a=1"));
        assert_eq!(without("b=2&a=1", &ignored), None);
        // A parameter hidden behind another separator stays where the origin sees it.
        assert_eq!(without("a=1;utm_source=x", &ignored), None);
    }
}
