//! Who sent a request: keys, tokens, certificates, addresses, and what is not believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::support::certificates::Authority;
use crate::support::client::{Client, Response};
use crate::support::http_origin::Origin;
use crate::support::proxy::{Proxy, Setup};
use crate::support::reply::Reply;
use crate::support::wait::{PATIENCE, eventually};

/// SHA-256 of "top-secret".
const HASH: &str = "c6b72594c0f5d8e1c4ca55b4ef2ecc79fd20b6ea5d95f42f67b59ac5b0c9f1de";

fn before(origin: &Origin, config: &str) -> String {
    let address = origin.address();
    format!("[upstreams.app]\nendpoints = [\"{address}\"]\n{config}\n")
}

/// A request with this header on a connection of its own.
fn ask(proxy: &Proxy, name: &str, value: &str) -> Response {
    proxy.client().request("GET", "/", &[(name, value)], b"")
}

/// The access log's entry of the request that was answered so.
fn logged(proxy: &Proxy, response: &Response) -> Value {
    let id = response.header("x-request-id").expect("an id").to_owned();
    proxy.access_log_entry("the request's line", |entry| entry["request_id"] == *id)
}

fn client_of(proxy: &Proxy, response: &Response) -> String {
    let entry = logged(proxy, response);
    entry["client"].as_str().unwrap_or_default().to_owned()
}

/// Why the sender of a request was not believed, as `tidegate why` tells.
fn doubt(proxy: &Proxy, response: &Response) -> String {
    logged(proxy, response);
    let id = response.header("x-request-id").expect("an id");
    let why = proxy.admin_get(&format!("/api/v1/why/{id}")).json();
    let decision = &why["decisions"][0];
    assert_eq!(decision["policy"], "identity", "{why}");
    assert_eq!(decision["decision"], "not_believed", "{why}");
    decision["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_known_key_is_its_client_and_no_key_is_ever_written_anywhere() {
    let origin = Origin::saying("hello");
    let config = before(
        &origin,
        "[[clients.known]]\nname = \"reports\"\nkeys = [{ env = \"REPORTS_KEY\" }]\ntier = \"batch\"",
    );
    let setup = Setup::config(&config).environment("REPORTS_KEY", "top-secret");
    let proxy = setup.start();
    let known = ask(&proxy, "x-api-key", "top-secret");
    let entry = logged(&proxy, &known);
    assert_eq!(
        (&entry["client"], &entry["tier"]),
        (&json!("reports"), &json!("batch"))
    );
    let other = ask(&proxy, "x-api-key", "another-secret");
    let entry = logged(&proxy, &other);
    let name = entry["client"].as_str().unwrap_or_default();
    assert!(name.len() == 16 && name.starts_with("key:"), "{name}");
    assert_eq!(entry["tier"], "standard");
    assert_eq!(
        client_of(&proxy, &ask(&proxy, "x-api-key", "another-secret")),
        name
    );
    assert_eq!(client_of(&proxy, &proxy.get("/")), "127.0.0.1");
    assert_eq!(
        origin.seen()[0].header("x-api-key"),
        Some("top-secret"),
        "the origin needs it"
    );
    let log = std::fs::read_to_string(proxy.directory().join("access.log")).expect("the log");
    let said = [
        log,
        proxy.stderr(),
        proxy
            .metrics()
            .samples()
            .iter()
            .map(|one| format!("{one:?}"))
            .collect(),
        proxy.admin_get("/api/v1/config").text(),
    ];
    assert!(
        !said.iter().any(|text| text.contains("-secret")),
        "{said:?}"
    );
}

#[test]
fn a_header_that_names_a_client_counts_from_trusted_peers_only() {
    let origin = Origin::saying("hello");
    let clients = "[[clients.identify]]\nheader = \"x-tenant\"\n[[clients.identify]]\naddress = {}\n\
                   [[clients.known]]\nname = \"reports\"\nvalues = [\"tenant-7\"]\n";
    let untrusted = Proxy::start(&before(&origin, clients));
    let spoofed = ask(&untrusted, "x-tenant", "tenant-7");
    assert!(client_of(&untrusted, &spoofed).starts_with("key:"));
    assert_eq!(doubt(&untrusted, &spoofed), "untrusted_peer");
    let trusting = format!(
        "{clients}[[listen]]\nname = \"public\"\naddress = \"<public>\"\ntrusted_proxies = [\"127.0.0.1\"]\n"
    );
    let trusted = Proxy::start(&before(&origin, &trusting));
    assert_eq!(
        client_of(&trusted, &ask(&trusted, "x-tenant", "tenant-7")),
        "reports"
    );
    let forwarded = ask(&trusted, "x-forwarded-for", "2001:db8:1:2:3::4");
    assert_eq!(client_of(&trusted, &forwarded), "2001:db8:1:2::/64");
}

/// An issuer of tokens.
struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key"))
    }

    fn keys(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x }] }).to_string()
    }

    /// A token for `azp` that expires then, in seconds since the Unix epoch.
    fn token(&self, algorithm: &str, azp: &str, exp: u64) -> String {
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = encode(json!({ "alg": algorithm, "kid": "a" }));
        let message = format!("{header}.{}", encode(json!({ "azp": azp, "exp": exp })));
        let signature = match algorithm {
            "none" => String::new(),
            "HS256" => {
                let key = self.0.public_key().as_ref();
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
                URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()))
            }
            _ => URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes())),
        };
        format!("Bearer {message}.{signature}")
    }
}

/// Later than any test runs, and earlier.
const LATER: u64 = 32_503_680_000;
const EARLIER: u64 = 1_000_000_000;

fn tokens_are_judged(proxy: &Proxy, issuer: &Issuer) {
    let bearer = |token: &str| ask(proxy, "authorization", token);
    eventually("the issuer's keys to be known", PATIENCE, || {
        client_of(proxy, &bearer(&issuer.token("EdDSA", "billing", LATER))) == "billing"
    });
    for (token, why) in [
        (issuer.token("EdDSA", "billing", EARLIER), "expired"),
        (issuer.token("none", "billing", LATER), "refused_algorithm"),
        (issuer.token("HS256", "billing", LATER), "refused_algorithm"),
        (
            Issuer::new().token("EdDSA", "billing", LATER),
            "wrong_signature",
        ),
    ] {
        let response = bearer(&token);
        assert_eq!(response.status, 200, "the next way is taken");
        assert_eq!(client_of(proxy, &response), "127.0.0.1", "{why}");
        assert_eq!(doubt(proxy, &response), why);
    }
}

#[test]
fn tokens_are_verified_by_keys_in_a_file_that_may_change() {
    let (origin, first, second) = (Origin::saying("hello"), Issuer::new(), Issuer::new());
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys.json");
    std::fs::write(&file, first.keys()).expect("the keys are written");
    let config = before(
        &origin,
        "[[clients.identify]]\njwt = { claim = \"azp\", jwks = \"keys.json\" }\n[[clients.identify]]\naddress = {}",
    );
    let proxy = Setup::config(&config).directory(directory).start();
    tokens_are_judged(&proxy, &first);
    std::fs::write(&file, second.keys()).expect("the keys are written");
    tokens_are_judged(&proxy, &second);
    std::fs::write(&file, "{}").expect("the keys are written");
    eventually("the reload to be refused", PATIENCE, || {
        proxy.metrics().value("tidegate_config_reload_success", &[]) == Some(0.0)
    });
    let token = second.token("EdDSA", "billing", LATER);
    let after = ask(&proxy, "authorization", &token);
    assert_eq!(
        client_of(&proxy, &after),
        "billing",
        "the last good keys stay"
    );
}

#[test]
fn tokens_are_verified_by_keys_that_are_fetched() {
    let (origin, issuer) = (Origin::saying("hello"), Issuer::new());
    let keys = issuer.keys();
    let idp = Origin::http1(move |seen| match seen.path.as_str() {
        "/keys?v=1" => Reply::ok(keys.clone()),
        _ => Reply::new(404),
    });
    let config = before(
        &origin,
        &format!(
            "[[clients.identify]]\njwt = {{ claim = \"azp\", jwks = \"{}/keys?v=1\" }}\n[[clients.identify]]\naddress = {{}}",
            idp.url()
        ),
    );
    let proxy = Proxy::start(&config);
    tokens_are_judged(&proxy, &issuer);
    let url = format!("{}/keys?v=1", idp.url());
    let metrics = proxy.metrics();
    let keys = metrics.value("tidegate_issuer_keys", &[("issuer", &url)]);
    assert_eq!(keys, Some(1.0));
}

#[test]
fn an_issuer_that_cannot_be_reached_costs_its_tokens_and_nothing_else() {
    let (origin, issuer) = (Origin::saying("hello"), Issuer::new());
    let idp = Origin::http1(|_| Reply::new(500));
    let config = before(
        &origin,
        &format!(
            "[[clients.identify]]\njwt = {{ claim = \"azp\", jwks = \"{}/keys\" }}\n[[clients.identify]]\naddress = {{}}",
            idp.url()
        ),
    );
    let proxy = Proxy::start(&config);
    proxy.metrics_until("a fetch to fail", |metrics| {
        metrics.sum("tidegate_issuer_fetch_failures_total", &[]) >= 1.0
    });
    let response = ask(
        &proxy,
        "authorization",
        &issuer.token("EdDSA", "billing", LATER),
    );
    assert_eq!(response.status, 200);
    assert_eq!(client_of(&proxy, &response), "127.0.0.1");
    assert_eq!(doubt(&proxy, &response), "no_keys_yet");
}

#[test]
fn a_certificate_s_name_is_its_client() {
    let (origin, authority) = (Origin::saying("hello"), Authority::new());
    let server = authority.issue("server", &["localhost"]);
    let config = format!(
        "[[clients.identify]]\ntls_san = true\n[[clients.known]]\nname = \"reports\"\nsans = [\"reports.internal\"]\n\
         [[listen]]\nname = \"public\"\naddress = \"<public>\"\n\
         tls = {{ certificate = \"{}\", key = \"{}\", client_ca = \"{}\" }}\n",
        server.certificate.display(),
        server.key.display(),
        authority.certificate().display()
    );
    let proxy = Proxy::start(&before(&origin, &config));
    for (names, client) in [
        (["billing.internal", "b.internal"], "billing.internal"),
        (["a.internal", "reports.internal"], "reports"),
    ] {
        let identity = authority.issue("client", &names);
        let tls = authority.client_config(Some(&identity), &["http/1.1"]);
        let response = Client::connect_tls(proxy.address(), "localhost", tls).get("/");
        assert_eq!(client_of(&proxy, &response), client);
    }
}

#[test]
fn a_hash_key_gives_a_client_the_same_name_everywhere() {
    let origin = Origin::saying("hello");
    let config = before(
        &origin,
        &format!(
            "[clients]\nhash_key = {{ env = \"HASH_KEY\" }}\n[[clients.known]]\nname = \"a\"\nkeys = [\"sha256:{HASH}\"]"
        ),
    );
    let names = ["one", "one", "two"].map(|key| {
        let proxy = Setup::config(&config).environment("HASH_KEY", key).start();
        client_of(&proxy, &ask(&proxy, "x-api-key", "mine"))
    });
    assert_eq!(names[0], names[1]);
    assert_ne!(names[0], names[2]);
}
