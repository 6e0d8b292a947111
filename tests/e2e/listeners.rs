//! Where clients connect: sockets, PROXY headers, certificates, patience.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use crate::support::certificates::{Authority, Identity};
use crate::support::client::Client;
use crate::support::http_origin::Origin;
use crate::support::proxy::{Proxy, Setup};
use crate::support::wait::{PATIENCE, eventually};

fn listening(origin: SocketAddr, listener: &str) -> String {
    format!(
        "[[listen]]\nname = \"public\"\naddress = \"<public>\"\n{listener}\n[upstreams.app]\nendpoints = [\"{origin}\"]\n"
    )
}

#[test]
fn a_proxy_header_names_the_client_in_both_versions() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::start(&listening(origin.address(), "proxy_protocol = true"));
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    let mut client = proxy.client();
    client.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 5555 80\r\n");
    client.send(request);
    assert_eq!(client.response("GET").status, 200);
    assert_eq!(origin.last().header("x-forwarded-for"), Some("203.0.113.7"));

    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 8, 192, 0, 2, 1, 0x15, 0xb3, 0, 80]);
    let mut client = proxy.client();
    client.send(&header);
    client.send(request);
    assert_eq!(client.response("GET").status, 200);
    assert_eq!(origin.last().header("x-forwarded-for"), Some("203.0.113.8"));

    // Without the header nothing is believed and nothing is answered.
    let mut client = proxy.client();
    client.send(request);
    let said = client.rest().unwrap_or_default();
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{said:?}");
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_listener_may_be_a_socket_file() {
    let origin = Origin::saying("ok");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("public.sock");
    let proxy = Setup::config(&format!(
        "[[listen]]\nname = \"file\"\naddress = \"unix:<dir>/public.sock\"\n[[listen]]\nname = \"public\"\naddress = \"<public>\"\n\
         [upstreams.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    ))
    .directory(directory)
    .start();
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(proxy.get("/").text(), "ok");
}

#[test]
fn a_head_that_does_not_come_to_an_end_is_a_408() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::start(&listening(origin.address(), "header_timeout = \"100ms\""));
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-slow:");
    let said = client.rest().unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_connection_without_a_request_is_closed_in_time() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::start(&listening(
        origin.address(),
        "idle_timeout = \"100ms\"\nheader_timeout = \"100ms\"",
    ));
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "ok");
    assert!(client.is_closed_by_peer());
    assert_eq!(proxy.client().rest(), Some(Vec::new()));
}

/// Whether the listener shows a certificate for `name`.
fn shows(proxy: &Proxy, authority: &Authority, name: &str) -> bool {
    let config = authority.client_config(None, &["http/1.1"]);
    let mut client = Client::connect_tls(proxy.address(), name, config);
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    client
        .rest()
        .is_some_and(|said| said.starts_with(b"HTTP/1.1 200 "))
}

#[test]
fn the_name_asked_for_picks_the_certificate() {
    let origin = Origin::saying("ok");
    let authority = Authority::new();
    let first = authority.issue("first", &["first.example.com"]);
    let other = authority.issue("other", &["other.example.com", "*.wild.example.com"]);
    let tls = format!(
        "[listen.tls]\ncertificate = \"{}\"\nkey = \"{}\"\ncertificates = [{{ certificate = \"{}\", key = \"{}\" }}]",
        first.certificate.display(),
        first.key.display(),
        other.certificate.display(),
        other.key.display()
    );
    let proxy = Proxy::start(&listening(origin.address(), &tls));
    for name in [
        "first.example.com",
        "other.example.com",
        "a.wild.example.com",
    ] {
        assert!(shows(&proxy, &authority, name), "{name}");
    }
    assert!(!shows(&proxy, &authority, "third.example.com"));
}

#[test]
fn a_certificate_that_is_replaced_is_shown_without_a_reload() {
    let origin = Origin::saying("ok");
    let authority = Authority::new();
    let old = authority.issue("old", &["old.example.com"]);
    let directory = tempfile::tempdir().expect("a directory");
    let place = |identity: &Identity| {
        for (from, to) in [
            (&identity.key, "tls.key"),
            (&identity.certificate, "tls.crt"),
        ] {
            let fresh = directory.path().join("fresh");
            fs::copy(from, &fresh).expect("a copy");
            fs::rename(&fresh, directory.path().join(to)).expect("a rename");
        }
    };
    place(&old);
    let tls = format!(
        "tls = {{ certificate = \"{0}/tls.crt\", key = \"{0}/tls.key\" }}",
        directory.path().display()
    );
    let proxy = Proxy::start(&listening(origin.address(), &tls));
    assert!(shows(&proxy, &authority, "old.example.com"));
    place(&authority.issue("new", &["new.example.com"]));
    eventually("the new certificate", PATIENCE, || {
        shows(&proxy, &authority, "new.example.com")
    });
}

#[test]
fn a_file_that_changes_is_taken_over() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let proxy = Proxy::in_front_of(one.address());
    assert_eq!(proxy.get("/").text(), "one");
    let path = proxy.config_file();
    let text = fs::read_to_string(&path).expect("the file");
    let changed = text.replace(&one.address().to_string(), &two.address().to_string());
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, changed).expect("a file");
    fs::rename(&fresh, &path).expect("a rename");
    eventually("the new origin", PATIENCE, || {
        proxy.get("/").text() == "two"
    });
}

/// As Kubernetes changes a mounted `ConfigMap`: the file is a link through `..data`, which is turned.
#[test]
fn a_link_that_is_turned_is_taken_over_and_a_broken_file_is_told() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let proxy = Proxy::in_front_of(one.address());
    let path = proxy.config_file();
    let text = fs::read_to_string(&path).expect("the file");
    let directory = path.parent().expect("a directory").to_owned();
    let turn = |version: &str, text: &str| {
        let place = directory.join(version);
        fs::create_dir(&place).expect("a directory");
        fs::write(place.join("mounted.toml"), text).expect("a file");
        let fresh = directory.join("..fresh");
        symlink(version, &fresh).expect("a link");
        fs::rename(&fresh, directory.join("..data")).expect("a rename");
    };
    turn("..1", &text);
    let fresh = directory.join("fresh");
    symlink("..data/mounted.toml", &fresh).expect("a link");
    fs::rename(&fresh, &path).expect("a rename");
    assert_eq!(proxy.get("/").text(), "one");

    turn(
        "..2",
        &text.replace(&one.address().to_string(), &two.address().to_string()),
    );
    eventually("the new origin", PATIENCE, || {
        proxy.get("/").text() == "two"
    });

    turn("..3", "version = 1\nnonsense = true\n");
    let told = || proxy.status()["config"]["last_reload"]["error"].to_string();
    eventually("the refused file in the status", PATIENCE, || {
        told().contains("nonsense")
    });
    assert_eq!(proxy.get("/").text(), "two");
}
