use super::*;

#[test]
fn grpc_timeouts_follow_their_grammar() {
    assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
    assert_eq!(grpc_timeout("1H"), Some(Duration::from_secs(3_600)));
    for bad in ["", "m", "123456789m", "1x", "-1m", "é"] {
        assert_eq!(grpc_timeout(bad), None, "{bad:?}");
    }
}

#[test]
fn hosts_are_names_or_addresses_with_ports() {
    for good in [
        "a",
        "a.b:80",
        "a_b",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "a:",
    ] {
        assert!(is_authority(good.as_bytes()), "{good:?}");
    }
    for bad in [
        "", ":80", "a:99999", "a:x", "a:-1", "[a]", "[::1]x", "a,b", "a@b", "a/b", "a b",
    ] {
        assert!(!is_authority(bad.as_bytes()), "{bad:?}");
    }
}

#[test]
fn what_connection_names_goes_with_it() {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("x-secret, close"));
    headers.insert("x-secret", HeaderValue::from_static("1"));
    headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
    headers.insert("x-open", HeaderValue::from_static("2"));
    let fields = survey(&headers);
    strip_hop_by_hop(&mut headers, fields);
    assert_eq!(headers.len(), 1);
    assert!(headers.contains_key("x-open"));
}
