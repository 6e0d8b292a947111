//! `[clients]`: who sends requests, and what is known of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawSecret, Spanned};
use crate::config::units::{Rate, Time};

/// Who sends requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawClients {
    /// What hashes of keys are made with. Replicas that share it give a client the same name. Default: random,
    /// and kept in `state_dir` once something is kept there. A change needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hash_key: Option<Spanned<RawSecret>>,
    /// Ways to tell clients apart, tried in order; the first that yields wins. Default: the header `x-api-key`,
    /// then the address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) identify: Vec<Spanned<RawIdentify>>,
    /// Clients known by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) known: Vec<Spanned<RawKnown>>,
}

/// One way to tell clients apart. Needs exactly one of its keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct RawIdentify {
    /// By a header's value, such as an API key. The value is never stored, logged or exported: a short keyed
    /// hash is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<Spanned<String>>,
    /// By a claim of a signed token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jwt: Option<Spanned<RawJwt>>,
    /// By the first DNS name in the client's certificate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tls_san: bool,
    /// By network address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<RawPrefixes>,
}

/// A claim of a JSON Web Token (RFC 7519) whose signature one of the issuer's keys verifies.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["claim", "jwks"]))]
pub(crate) struct RawJwt {
    /// The header that carries it; of `authorization`, what follows `Bearer`.
    pub(crate) header: Spanned<String>,
    /// The claim whose value is the client, such as `azp` or `sub`.
    #[schemars(required)]
    pub(crate) claim: Option<Spanned<String>>,
    /// The issuer's public keys (RFC 7517): a file, or an http(s) URL that is fetched again and again.
    #[schemars(required)]
    pub(crate) jwks: Option<Spanned<String>>,
    /// What `iss` must be. Default: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// What `aud` must be or contain. Default: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<String>,
    /// How far clocks may be apart when `exp` and `nbf` are looked at.
    pub(crate) leeway: Time,
    /// How often a URL is fetched; sooner, at most every 30s, when a token names a key that is not there.
    pub(crate) refresh: Spanned<Time>,
}

impl Default for RawJwt {
    fn default() -> Self {
        Self {
            header: "authorization".to_owned().into(),
            claim: None,
            jwks: None,
            issuer: None,
            audience: None,
            leeway: Time::secs(60),
            refresh: Time::secs(600).into(),
        }
    }
}

/// How much of an address is one client.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawPrefixes {
    /// Leading bits of an IPv4 address.
    #[schemars(range(min = 1, max = 32))]
    pub(crate) v4: Spanned<i64>,
    /// Leading bits of an IPv6 address. One subscriber mostly has 64.
    #[schemars(range(min = 1, max = 128))]
    pub(crate) v6: Spanned<i64>,
}

impl Default for RawPrefixes {
    fn default() -> Self {
        Self {
            v4: 32.into(),
            v6: 64.into(),
        }
    }
}

/// A client known by name. Needs something to be recognised by.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub(crate) struct RawKnown {
    /// Unique name.
    #[schemars(required)]
    pub(crate) name: Option<Spanned<String>>,
    /// Its API keys: `sha256:` and the key's SHA-256 in hex, or { env = … } or { file = … } with the key or
    /// such a hash. Looked for in every identifying header, whoever sends it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<Spanned<RawSecret>>,
    /// Values of the tokens' claim.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) claims: Vec<Spanned<String>>,
    /// DNS names in its certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sans: Vec<Spanned<String>>,
    /// Its addresses and networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) addresses: Vec<Spanned<String>>,
    /// Values of an identifying header. Anybody can write them, so only trusted proxies are believed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<Spanned<String>>,
    /// How important its requests are, whatever the route. Default: the route's tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tier: Option<Spanned<String>>,
    /// Its share beside others of its tier while they wait.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) weight: Spanned<i64>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// What it said it would send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) declared_rate: Option<Spanned<Rate>>,
}

impl Default for RawKnown {
    fn default() -> Self {
        Self {
            name: None,
            keys: Vec::new(),
            claims: Vec::new(),
            sans: Vec::new(),
            addresses: Vec::new(),
            values: Vec::new(),
            tier: None,
            weight: 1.into(),
            owner: None,
            declared_rate: None,
        }
    }
}
