//! The public keys of whoever issues tokens (JWK sets, RFC 7517), and the check of a signature by one of them.
//!
//! Verified by ring. Only signatures by a private key are accepted: `none` and shared secrets (HMAC) are not
//! among the algorithms, so a public key can never pass for a shared secret.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

use super::Doubt;

/// Keys that are used of a set.
const MOST_KEYS: usize = 64;

/// An issuer of tokens.
#[derive(Debug, Default)]
pub struct Issuer {
    keys: ArcSwap<Vec<Key>>,
    generation: AtomicU64,
    wanted: AtomicBool,
    failures: AtomicU64,
}

/// Text that is not a set of keys.
#[derive(Debug, thiserror::Error)]
pub enum NoKeySet {
    /// It has another shape.
    #[error("not a set of keys (JWKS): {0}")]
    Shape(#[from] serde_json::Error),
    /// There is none that could verify anything.
    #[error("the set has no RSA, P-256, P-384 or Ed25519 key")]
    NoneUsable,
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Issuer {
    /// Takes over the keys in `text`, or keeps those it has.
    ///
    /// # Errors
    /// When that is not a set with at least one usable key.
    pub fn replace(&self, text: &[u8]) -> Result<(), NoKeySet> {
        let set: RawSet = serde_json::from_slice(text)?;
        // A key of a kind that is not known is none of ours, and no reason to refuse the others.
        let keys = set.keys.into_iter();
        let keys = keys.filter_map(|key| Key::of(serde_json::from_value(key).ok()?));
        let keys: Vec<Key> = keys.take(MOST_KEYS).collect();
        if keys.is_empty() {
            return Err(NoKeySet::NoneUsable);
        }
        if **self.keys.load() != keys {
            self.keys.store(Arc::new(keys));
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// How many keys are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.load().len()
    }

    /// Notes that its keys could not be fetched.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How often they could not be fetched.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a token named a key that is not there, since the last time this was asked.
    pub fn is_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Whether the key `id`, or any when a token names none, signed `message` by `algorithm`.
    pub(super) fn verify(
        &self,
        algorithm: &str,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Doubt> {
        let scheme = Scheme::of(algorithm).ok_or(Doubt::Algorithm)?;
        let keys = self.keys.load();
        if keys.is_empty() {
            return Err(Doubt::NoKeys);
        }
        let named = |key: &&Key| id.is_none() || key.id.as_deref() == id;
        if !keys.iter().any(|key| named(&key)) {
            self.wanted.store(true, Ordering::Relaxed);
            return Err(Doubt::UnknownKey);
        }
        let mut doubt = Doubt::Algorithm;
        for key in keys.iter().filter(named) {
            if key
                .algorithm
                .as_deref()
                .is_some_and(|only| only != algorithm)
            {
                continue;
            }
            match scheme.verify(&key.material, message, signature) {
                Some(true) => return Ok(()),
                Some(false) => doubt = Doubt::Signature,
                None => {}
            }
        }
        Err(doubt)
    }
}

impl Key {
    fn of(raw: RawKey) -> Option<Self> {
        if raw.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let point = |length: usize| {
            let (x, y) = (bytes(&raw.x)?, bytes(&raw.y)?);
            let whole = x.len() == length && y.len() == length;
            whole.then(|| [vec![4], x, y].concat())
        };
        let material = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => Material::Rsa {
                n: bytes(&raw.n)?,
                e: bytes(&raw.e)?,
            },
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&raw.x)?),
            _ => return None,
        };
        Some(Self {
            id: raw.kid,
            algorithm: raw.alg,
            material,
        })
    }
}

/// How a signature is checked.
enum Scheme {
    Rsa(&'static RsaParameters),
    P256,
    P384,
    Ed25519,
}

impl Scheme {
    /// By the names of RFC 7518 and RFC 8037.
    fn of(algorithm: &str) -> Option<Self> {
        Some(match algorithm {
            "RS256" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            "ES256" => Self::P256,
            "ES384" => Self::P384,
            "EdDSA" | "Ed25519" => Self::Ed25519,
            _ => return None,
        })
    }

    /// Whether the key made the signature; none when it is of another kind.
    fn verify(&self, key: &Material, message: &[u8], signature: &[u8]) -> Option<bool> {
        let ecdsa = |by: &'static EcdsaVerificationAlgorithm, point: &[u8]| {
            UnparsedPublicKey::new(by, point).verify(message, signature)
        };
        let verified = match (self, key) {
            (Self::Rsa(by), Material::Rsa { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(by, message, signature)
            }
            (Self::P256, Material::P256(point)) => {
                ecdsa(&signature::ECDSA_P256_SHA256_FIXED, point)
            }
            (Self::P384, Material::P384(point)) => {
                ecdsa(&signature::ECDSA_P384_SHA384_FIXED, point)
            }
            (Self::Ed25519, Material::Ed25519(point)) => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(message, signature)
            }
            _ => return None,
        };
        Some(verified.is_ok())
    }
}
