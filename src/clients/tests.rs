//! Who is taken for whom, and who is not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

use super::*;
use crate::config::Source;

const NOW: u64 = 1_795_521_600;

fn registry(config: &str) -> Registry {
    let text = format!("version = 1\n[upstreams.a]\nendpoints = [\"127.0.0.1:1\"]\n{config}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    let source = Source {
        file: Some(file.path().to_owned()),
        ..Source::default()
    };
    let plan = source
        .load(1_000)
        .unwrap_or_else(|errors| panic!("{errors}"));
    Registry::load(&plan.clients, Arc::new(Hasher::new(b"key")), None).unwrap()
}

/// A request as it comes.
#[derive(Default)]
struct Asked {
    headers: HeaderMap,
    trusted: bool,
    sans: &'static str,
    address: Option<IpAddr>,
}

impl Asked {
    fn with(name: &'static str, value: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        Self {
            headers,
            address: Some([203, 0, 113, 7].into()),
            ..Self::default()
        }
    }

    fn from(address: &str) -> Self {
        Self {
            address: Some(address.parse().unwrap()),
            ..Self::default()
        }
    }

    fn trusted(self) -> Self {
        Self {
            trusted: true,
            ..self
        }
    }

    fn by(&self, registry: &Registry, memo: &mut Memo, unix: u64) -> (Identity, Option<Doubt>) {
        self.over(&KnownPeer::default(), registry, memo, unix)
    }

    /// The same, over the connection of this peer.
    fn over(
        &self,
        peer: &KnownPeer,
        registry: &Registry,
        memo: &mut Memo,
        unix: u64,
    ) -> (Identity, Option<Doubt>) {
        let presented = Presented {
            headers: &self.headers,
            trusted: self.trusted,
            sans: self.sans,
            address: self.address,
            peer: Some(peer),
            unix,
        };
        let (identity, doubt) = registry.identify(&presented, memo);
        (Rc::unwrap_or_clone(identity), doubt)
    }

    fn seen_by(&self, registry: &Registry) -> (Identity, Option<Doubt>) {
        let (mut memo, peer) = (Memo::default(), KnownPeer::default());
        let first = self.over(&peer, registry, &mut memo, NOW);
        let again = self.over(&peer, registry, &mut memo, NOW);
        assert_eq!(again, first, "and remembered");
        assert_eq!(self.by(registry, &mut memo, NOW), first, "of others too");
        first
    }
}

const REPORTS: &str = r#"
[[clients.known]]
name = "reports"
keys = ["sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
claims = ["reports-svc"]
sans = ["reports.internal"]
addresses = ["10.7.0.0/16"]
values = ["tenant-7"]
tier = "batch"
weight = 3
"#;

#[test]
fn a_known_key_is_its_client_whoever_brings_it() {
    // The hash is that of "secret".
    let registry = registry(REPORTS);
    for asked in [
        Asked::with("x-api-key", "secret"),
        Asked::with("x-api-key", "secret").trusted(),
    ] {
        let (identity, doubt) = asked.seen_by(&registry);
        assert_eq!((&*identity.name, doubt), ("reports", None));
        assert_eq!((identity.tier, identity.weight), (Some(2), 3));
    }
}

#[test]
fn an_unknown_key_is_a_client_of_its_own_under_a_name_that_tells_nothing() {
    let registry = registry(REPORTS);
    let (one, _) = Asked::with("x-api-key", "guess-1").seen_by(&registry);
    let (other, _) = Asked::with("x-api-key", "guess-2").seen_by(&registry);
    assert_ne!(one.id, other.id);
    let digits = one.name.strip_prefix("key:").unwrap();
    assert!(
        digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{digits}"
    );
    assert!(
        !format!("{:016x}", one.id.hash()).contains(digits),
        "the name is no part of the id"
    );
}

#[test]
fn a_name_in_a_header_is_believed_of_trusted_peers_only() {
    let registry = registry(&format!(
        "[[clients.identify]]\nheader = \"x-tenant\"\n{REPORTS}"
    ));
    let (believed, doubt) = Asked::with("x-tenant", "tenant-7")
        .trusted()
        .seen_by(&registry);
    assert_eq!((&*believed.name, doubt), ("reports", None));
    let (spoofed, doubt) = Asked::with("x-tenant", "tenant-7").seen_by(&registry);
    assert_eq!(doubt, Some(Doubt::UntrustedPeer));
    assert_ne!(spoofed.id, believed.id);
    assert_eq!((spoofed.tier, spoofed.weight), (None, 1));
    assert!(spoofed.name.starts_with("key:"), "{}", spoofed.name);
    // Nor does a value that nobody configured become the client it is from a trusted peer.
    let (tenant, _) = Asked::with("x-tenant", "tenant-8")
        .trusted()
        .seen_by(&registry);
    let (spoofed, _) = Asked::with("x-tenant", "tenant-8").seen_by(&registry);
    assert_ne!(spoofed.id, tenant.id);
    let (name, _) = Asked::with("x-tenant", "reports")
        .trusted()
        .seen_by(&registry);
    assert_ne!(
        name.id, believed.id,
        "a client's name is not what it is recognised by"
    );
}

#[test]
fn addresses_are_clients_by_their_networks() {
    let registry = registry(REPORTS);
    for (address, name) in [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("10.7.9.9", "reports"),
    ] {
        let (identity, _) = Asked::from(address).seen_by(&registry);
        assert_eq!(&*identity.name, name);
    }
    let same = ["2001:db8::1", "2001:db8::2"].map(|one| Asked::from(one).seen_by(&registry).0);
    assert_eq!(same[0], same[1]);
    let (nobody, _) = Asked::default().seen_by(&registry);
    assert_eq!(&*nobody.name, "anonymous", "over a unix socket");
}

#[test]
fn a_connection_is_looked_at_again_when_the_clients_change() {
    let (mut memo, peer) = (Memo::default(), KnownPeer::default());
    let asked = Asked::from("10.7.9.9");
    let (before, _) = asked.over(&peer, &registry(REPORTS), &mut memo, NOW);
    assert_eq!(&*before.name, "reports");
    let renamed = REPORTS.replace("\"reports\"", "\"billing\"");
    let (after, _) = asked.over(&peer, &registry(&renamed), &mut memo, NOW);
    assert_eq!(&*after.name, "billing");
}

#[test]
fn a_certificate_is_its_first_name_or_the_client_that_has_any_of_them() {
    let config = format!("[[clients.identify]]\naddress = {{ v4 = 24 }}\n{REPORTS}");
    let mut registry = registry(&config);
    registry.ways.insert(
        0,
        Way {
            identify: Identify::TlsSan,
            issuer: None,
        },
    );
    for (sans, name) in [
        ("\na.internal\nb.internal", "a.internal"),
        ("\na.internal\nreports.internal", "reports"),
        ("", "203.0.113.0/24"),
        ("\nreports", "san:reports"),
    ] {
        let asked = Asked {
            sans,
            ..Asked::from("203.0.113.7")
        };
        assert_eq!(&*asked.seen_by(&registry).0.name, name);
    }
}

/// An issuer with two keys, and a registry that knows them.
struct Tokens {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    registry: Registry,
}

impl Tokens {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ed25519 = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let p256 = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let x = URL_SAFE_NO_PAD.encode(ed25519.public_key().as_ref());
        let point = p256.public_key().as_ref();
        let (px, py) = (&point[1..33], &point[33..]);
        let set = json!({ "keys": [
            { "kty": "oct", "kid": "shared", "k": "c2VjcmV0" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x, "use": "sig" },
            { "kty": "EC", "crv": "P-256", "kid": "b", "alg": "ES256",
              "x": URL_SAFE_NO_PAD.encode(px), "y": URL_SAFE_NO_PAD.encode(py) },
        ]});
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        std::fs::write(&path, set.to_string()).unwrap();
        let registry = registry(&format!(
            "[[clients.identify]]\njwt = {{ claim = \"azp\", jwks = \"{}\", issuer = \"idp\", audience = \"api\" }}\n\
             [[clients.identify]]\naddress = {{}}\n{REPORTS}",
            path.display()
        ));
        Self {
            ed25519,
            p256,
            registry,
        }
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = match header["alg"].as_str().unwrap() {
            "ES256" => {
                let signature = self.p256.sign(&SystemRandom::new(), message.as_bytes());
                signature.unwrap().as_ref().to_vec()
            }
            "none" => Vec::new(),
            "HS256" => {
                let key = hmac_key(&self.ed25519);
                ring::hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            _ => self.ed25519.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn asked(&self, header: &Value, claims: &Value) -> (String, Option<Doubt>) {
        let asked = Asked::with(
            "authorization",
            &format!("Bearer {}", self.signed(header, claims)),
        );
        let (identity, doubt) = asked.seen_by(&self.registry);
        (identity.name.into(), doubt)
    }
}

/// The public key, misused as a shared secret.
fn hmac_key(pair: &Ed25519KeyPair) -> ring::hmac::Key {
    ring::hmac::Key::new(ring::hmac::HMAC_SHA256, pair.public_key().as_ref())
}

fn claims() -> Value {
    json!({ "azp": "billing", "iss": "idp", "aud": ["web", "api"], "exp": NOW + 600, "nbf": NOW - 5 })
}

fn changed(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
        value => claims[claim] = value,
    }
    claims
}

#[test]
fn a_signed_claim_is_its_client() {
    let tokens = Tokens::new();
    for header in [
        json!({ "alg": "EdDSA", "kid": "a" }),
        json!({ "alg": "ES256", "kid": "b" }),
        json!({ "alg": "ES256" }),
    ] {
        assert_eq!(
            tokens.asked(&header, &claims()),
            ("billing".into(), None),
            "{header}"
        );
    }
    let header = json!({ "alg": "EdDSA", "kid": "a" });
    let known = changed("azp", json!("reports-svc"));
    assert_eq!(tokens.asked(&header, &known), ("reports".into(), None));
    for (claim, name) in [
        ("reports", "jwt:reports"),
        ("key:0123456789ab", "jwt:key:0123456789ab"),
        ("10.7.0.1", "jwt:10.7.0.1"),
    ] {
        let (found, _) = tokens.asked(&header, &changed("azp", json!(claim)));
        assert_eq!(
            found, name,
            "a claim does not look like somebody else's name"
        );
    }
}

#[test]
fn a_token_that_is_not_right_is_not_believed_and_the_next_way_is_taken() {
    let tokens = Tokens::new();
    let good = json!({ "alg": "EdDSA", "kid": "a" });
    for (header, claims, doubt) in [
        (json!({ "alg": "none" }), claims(), Doubt::Algorithm),
        (
            json!({ "alg": "HS256", "kid": "a" }),
            claims(),
            Doubt::Algorithm,
        ),
        (
            json!({ "alg": "HS256", "kid": "shared" }),
            claims(),
            Doubt::Algorithm,
        ),
        (
            json!({ "alg": "ES256", "kid": "a" }),
            claims(),
            Doubt::Algorithm,
        ),
        (
            json!({ "alg": "EdDSA", "kid": "b" }),
            claims(),
            Doubt::Algorithm,
        ),
        (
            json!({ "alg": "EdDSA", "kid": "z" }),
            claims(),
            Doubt::UnknownKey,
        ),
        (
            json!({ "alg": "EdDSA", "kid": "a", "crit": ["b64"] }),
            claims(),
            Doubt::Algorithm,
        ),
        (
            good.clone(),
            changed("exp", json!(NOW - 60)),
            Doubt::Expired,
        ),
        (good.clone(), changed("exp", Value::Null), Doubt::NoExpiry),
        (
            good.clone(),
            changed("exp", json!("soon")),
            Doubt::Malformed,
        ),
        (
            good.clone(),
            changed("nbf", json!(NOW + 61)),
            Doubt::TooEarly,
        ),
        (good.clone(), changed("iss", json!("other")), Doubt::Issuer),
        (good.clone(), changed("aud", json!("web")), Doubt::Audience),
        (good.clone(), changed("azp", Value::Null), Doubt::NoClaim),
    ] {
        let found = tokens.asked(&header, &claims);
        assert_eq!(
            found,
            ("203.0.113.7".into(), Some(doubt)),
            "{header} {claims}"
        );
    }
    // Another's signature, and what is no token at all.
    let foreign = Tokens::new().signed(&good, &claims());
    let whole = tokens.signed(&good, &claims());
    let (message, _) = whole.rsplit_once('.').unwrap();
    for (token, doubt) in [
        (foreign.as_str(), Doubt::Signature),
        (message, Doubt::Malformed),
        ("a.b.c", Doubt::Malformed),
        ("...", Doubt::Malformed),
        (&"a".repeat(20_000), Doubt::Malformed),
    ] {
        let asked = Asked::with("authorization", &format!("Bearer {token}"));
        assert_eq!(asked.seen_by(&tokens.registry).1, Some(doubt), "{token}");
    }
    let basic = Asked::with("authorization", "Basic dXNlcjpwYXNz");
    assert_eq!(
        basic.seen_by(&tokens.registry).1,
        None,
        "is nothing to doubt"
    );
}

#[test]
fn a_remembered_token_is_forgotten_when_it_expires_or_its_issuer_has_other_keys() {
    let tokens = Tokens::new();
    let token = tokens.signed(&json!({ "alg": "EdDSA", "kid": "a" }), &claims());
    let asked = Asked::with("authorization", &format!("Bearer {token}"));
    let mut memo = Memo::default();
    let mut name = |unix| String::from(asked.by(&tokens.registry, &mut memo, unix).0.name);
    assert_eq!(name(NOW), "billing");
    assert_eq!(name(NOW + 659), "billing", "the leeway is a minute");
    assert_eq!(name(NOW + 660), "203.0.113.7");
    assert_eq!(name(NOW), "203.0.113.7", "for some seconds");
    assert_eq!(name(NOW + 671), "203.0.113.7");
    assert_eq!(name(NOW + 600), "203.0.113.7");
    let issuer = tokens.registry.ways[0].issuer.as_ref().unwrap();
    let other = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "z", "x": "AA" }] });
    let mut memo = Memo::default();
    assert_eq!(
        &*asked.by(&tokens.registry, &mut memo, NOW).0.name,
        "billing"
    );
    issuer.replace(other.to_string().as_bytes()).unwrap();
    let after = asked.by(&tokens.registry, &mut memo, NOW);
    assert_eq!(after.1, Some(Doubt::UnknownKey));
    assert!(issuer.is_wanted() && !issuer.is_wanted());
    assert!(issuer.replace(b"{\"keys\":[]}").is_err());
    assert!(issuer.replace(b"<html>").is_err());
}

#[test]
fn the_hash_key_makes_the_names() {
    let hashes = [b"key", b"yek"].map(|key| Hasher::new(key).id(b"key", b"secret"));
    assert_ne!(hashes[0], hashes[1]);
    let hasher = Hasher::new(b"key");
    assert_ne!(hasher.id(b"key", b"secret"), hasher.id(b"keys", b"ecret"));
}

proptest::proptest! {
    #[test]
    fn no_header_panics_and_each_way_remembers_what_it_found(
        value in "[ -~]{0,80}",
        trusted: bool,
        parts in proptest::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5),
    ) {
        let registry = registry(REPORTS);
        let mut asked = Asked::with("x-api-key", &value);
        asked.trusted = trusted;
        asked.seen_by(&registry);
        let issuer = Issuer::default();
        let jwt = crate::config::plan::Jwt {
            header: http::header::AUTHORIZATION,
            claim: "sub".into(),
            jwks: Jwks::Url("http://idp".into()),
            issuer: None,
            audience: None,
            leeway: std::time::Duration::ZERO,
            refresh: std::time::Duration::from_secs(1),
        };
        for token in [value, parts.join(".")] {
            proptest::prop_assert!(jwt::verify(token.as_bytes(), &jwt, &issuer, NOW).is_err());
        }
    }
}
