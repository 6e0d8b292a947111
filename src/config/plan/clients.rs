//! Who sends requests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::Secret;
use crate::policy::rate::Quota;

/// `[clients]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Clients {
    /// What hashes of keys are made with; none: something random.
    pub hash_key: Option<Secret>,
    /// Ways to tell clients apart, tried in order; at least one.
    pub identify: Vec<Identify>,
    /// Clients known by name, in the order of the file.
    pub known: Vec<Known>,
}

/// One way to tell clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identify {
    /// By this header's value.
    Header(HeaderName),
    /// By a claim of a signed token.
    Jwt(Jwt),
    /// By a name in the client's certificate.
    TlsSan,
    /// By so many leading bits of its address.
    Address {
        /// Of an IPv4 address, 1 to 32.
        v4: u8,
        /// Of an IPv6 address, 1 to 128.
        v6: u8,
    },
}

/// `jwt = { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// The header that carries the token.
    pub header: HeaderName,
    /// The claim whose value is the client.
    pub claim: Arc<str>,
    /// The issuer's public keys.
    pub jwks: Jwks,
    /// What `iss` must be.
    pub issuer: Option<Arc<str>>,
    /// What `aud` must be or contain.
    pub audience: Option<Arc<str>>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// How often a URL is fetched.
    pub refresh: Duration,
}

/// Where an issuer's public keys are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Jwks {
    /// In a file; read again when it changes.
    File(PathBuf),
    /// At an http or https URL.
    Url(Arc<str>),
}

/// `[[clients.known]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Unique name.
    pub name: Arc<str>,
    /// SHA-256 of each of its API keys.
    pub keys: Vec<[u8; 32]>,
    /// The files those were read from, if any.
    pub key_files: Vec<PathBuf>,
    /// Values of the tokens' claim.
    pub claims: Vec<Arc<str>>,
    /// DNS names in its certificates, in lower case.
    pub sans: Vec<Arc<str>>,
    /// Its networks.
    pub addresses: Vec<IpNet>,
    /// Values of an identifying header, believed of trusted peers only.
    pub values: Vec<Arc<str>>,
    /// Its tier, an index into [`Plan::tiers`](super::Plan::tiers); none: the route's.
    pub tier: Option<u8>,
    /// Its share beside others of its tier, 1 to 1000.
    pub weight: u32,
    /// Who answers for it.
    pub owner: Option<Arc<str>>,
    /// What it said it would send.
    pub declared_rate: Option<Quota>,
}

impl Default for Clients {
    /// By API key, then by address.
    fn default() -> Self {
        Self {
            hash_key: None,
            identify: vec![
                Identify::Header(HeaderName::from_static("x-api-key")),
                Identify::Address { v4: 32, v6: 64 },
            ],
            known: Vec::new(),
        }
    }
}
