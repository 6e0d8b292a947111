//! Who sends a request: the chain of `[[clients.identify]]`, and the clients known by name.
//!
//! Ways are tried in order, and the first that yields says who it is:
//!
//! | way | whom it yields | its name |
//! | --- | --- | --- |
//! | header | whoever has one of a known client's keys; else each value by itself | `key:` and a keyed hash |
//! | jwt | the claim of a token that one of the issuer's keys signed | the claim's value |
//! | `tls_san` | the first DNS name of a verified certificate | that name |
//! | address | the address, or its network | `203.0.113.7`, `2001:db8:1:2::/64` |
//!
//! To know a name is never enough to become its client: a header's value makes nobody a known client unless it
//! is a key (of which only the hash is kept here) or a trusted peer wrote it; and the same value is one client
//! from trusted peers and another from anybody else. So whoever guesses only shares with others who guess.
//!
//! What identifies a client is hashed with a key of the process (HMAC with SHA-256) and not kept: nothing here
//! grows with the number of clients. Each worker remembers a few thousand of the latest in a [`Memo`], which is
//! what makes a repeated key or token cheap. Does no I/O but for reading key files when a plan is loaded.
//! Depends on the plan.

mod identity;
mod issuer;
mod jwt;
mod memo;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use ring::digest::{SHA256, digest};

pub use self::identity::{Doubt, Hasher, Identity};
pub use self::issuer::{Issuer, NoKeySet};
pub use self::memo::{KnownPeer, Memo};
use crate::config::plan::{Clients, Identify, Jwks, Known};
use crate::model::ClientId;

/// How long it is remembered that somebody was not believed, in seconds.
const DOUBT_LASTS: u64 = 10;

/// A file with an issuer's keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct Error {
    path: PathBuf,
    reason: String,
}

/// A plan's clients, ready to be recognised.
#[derive(Debug)]
pub struct Registry {
    hasher: Arc<Hasher>,
    ways: Vec<Way>,
    known: Vec<Named>,
    /// Positions in `known`, by whatever its clients are recognised by.
    keys: HashMap<[u8; 32], usize>,
    claims: HashMap<Arc<str>, usize>,
    sans: HashMap<Arc<str>, usize>,
    values: HashMap<Arc<str>, usize>,
    names: HashMap<Arc<str>, usize>,
    /// Longest prefix first.
    networks: Vec<(IpNet, usize)>,
    /// Of whom nothing yields anything.
    nobody: Identity,
    /// Tells one registry from another for as long as anybody remembers something of it.
    mark: Arc<()>,
}

#[derive(Debug)]
struct Way {
    identify: Identify,
    /// Of a token's way: whose keys verify it.
    issuer: Option<Arc<Issuer>>,
}

/// A known client, as far as its requests go.
#[derive(Debug)]
struct Named {
    id: ClientId,
    name: Arc<str>,
    tier: Option<u8>,
    weight: u32,
}

/// What a request shows of who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Whether its peer is believed in what it says of others.
    pub trusted: bool,
    /// The DNS names of the peer's verified certificate, each behind a newline.
    pub sans: &'a str,
    /// Where it comes from: the peer, or whom a trusted peer names.
    pub address: Option<IpAddr>,
    /// What was found out about that, where it is the peer.
    pub peer: Option<&'a KnownPeer>,
    /// Seconds since the Unix epoch.
    pub unix: u64,
}

impl Registry {
    /// Of `plan`'s clients. Issuers whose keys `former` has fetched keep them.
    ///
    /// # Errors
    /// When a file with an issuer's keys cannot be used.
    pub fn load(plan: &Clients, hasher: Arc<Hasher>, former: Option<&Self>) -> Result<Self, Error> {
        let ways = plan.identify.iter().map(|identify| {
            let issuer = match identify {
                Identify::Jwt(jwt) => Some(issuer(&jwt.jwks, former)?),
                Identify::Header(_) | Identify::TlsSan | Identify::Address { .. } => None,
            };
            Ok(Way {
                identify: identify.clone(),
                issuer,
            })
        });
        let ways = ways.collect::<Result<_, Error>>()?;
        let index = |marks: fn(&Known) -> &Vec<Arc<str>>| {
            let all = plan.known.iter().enumerate();
            all.flat_map(|(at, known)| marks(known).iter().map(move |mark| (Arc::clone(mark), at)))
                .collect()
        };
        let all = || plan.known.iter().enumerate();
        let mut networks: Vec<_> = all()
            .flat_map(|(at, known)| known.addresses.iter().map(move |network| (*network, at)))
            .collect();
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        let known = plan.known.iter().map(|known| Named {
            id: hasher.id(b"known", known.name.as_bytes()),
            name: Arc::clone(&known.name),
            tier: known.tier,
            weight: known.weight,
        });
        Ok(Self {
            known: known.collect(),
            keys: all()
                .flat_map(|(at, known)| known.keys.iter().map(move |key| (*key, at)))
                .collect(),
            claims: index(|known| &known.claims),
            sans: index(|known| &known.sans),
            values: index(|known| &known.values),
            names: all()
                .map(|(at, known)| (Arc::clone(&known.name), at))
                .collect(),
            networks,
            nobody: Identity::new(&hasher, b"nobody", b"", "anonymous"),
            ways,
            hasher,
            mark: Arc::default(),
        })
    }

    /// What its hashes are made with.
    #[must_use]
    pub const fn hasher(&self) -> &Arc<Hasher> {
        &self.hasher
    }

    /// The issuers whose keys are fetched: where from, how often, and where they go.
    pub fn issuers(&self) -> impl Iterator<Item = (&Arc<str>, std::time::Duration, &Arc<Issuer>)> {
        self.ways.iter().filter_map(|way| match &way.identify {
            Identify::Jwt(jwt) => match &jwt.jwks {
                Jwks::Url(url) => Some((url, jwt.refresh, way.issuer.as_ref()?)),
                Jwks::File(_) => None,
            },
            Identify::Header(_) | Identify::TlsSan | Identify::Address { .. } => None,
        })
    }

    /// Grows when what was found out before may no longer be so.
    fn generation(&self) -> u64 {
        let issuers = self.ways.iter().filter_map(|way| way.issuer.as_ref());
        issuers.map(|issuer| issuer.generation()).sum()
    }

    /// Who sent what is `presented`, and why somebody who said to be another was not believed.
    pub fn identify(
        &self,
        presented: &Presented<'_>,
        memo: &mut Memo,
    ) -> (Rc<Identity>, Option<Doubt>) {
        memo.turn_to(&self.mark, self.generation());
        let mut doubt = None;
        for (index, way) in self.ways.iter().enumerate() {
            match self.look(index, way, presented, memo) {
                Some(Ok(identity)) => {
                    let doubt = doubt.or(identity.doubt);
                    return (identity, doubt);
                }
                Some(Err(why)) => doubt = doubt.or(Some(why)),
                None => {}
            }
        }
        (Rc::new(self.nobody.clone()), doubt)
    }

    /// What one way yields; none when there is nothing to look at.
    fn look(
        &self,
        index: usize,
        way: &Way,
        presented: &Presented<'_>,
        memo: &mut Memo,
    ) -> Option<Result<Rc<Identity>, Doubt>> {
        let &Presented { trusted, unix, .. } = presented;
        let once = |found| (Ok(found), u64::MAX);
        match &way.identify {
            Identify::Header(name) => {
                let value = presented.headers.get(name).map(HeaderValue::as_bytes)?;
                (!value.is_empty()).then(|| {
                    memo.recall((index, trusted), value, unix, || {
                        once(self.by_header(value, trusted))
                    })
                })
            }
            Identify::Jwt(jwt) => {
                let token = jwt::bearer(presented.headers.get(&jwt.header)?, &jwt.header)?;
                let issuer = way.issuer.as_ref()?;
                Some(memo.recall((index, false), token, unix, || {
                    match jwt::verify(token, jwt, issuer, unix) {
                        Ok((claim, until)) => (Ok(self.by_claim(&claim)), until),
                        Err(doubt) => (Err(doubt), unix + DOUBT_LASTS),
                    }
                }))
            }
            Identify::TlsSan => {
                let sans = presented.sans;
                (!sans.is_empty()).then(|| {
                    memo.recall((index, false), sans.as_bytes(), unix, || {
                        once(self.by_certificate(sans))
                    })
                })
            }
            Identify::Address { v4, v6 } => {
                let address = presented.address?;
                let mut find = || self.by_address(index, (*v4, *v6), address, unix, memo);
                Some(match presented.peer {
                    Some(peer) => peer.recall(&self.mark, self.generation(), find),
                    None => find(),
                })
            }
        }
    }

    /// The network that `address` is in, an IPv4 address itself or an IPv6 /64, as whatever else it may be.
    pub fn network(&self, address: Option<IpAddr>, unix: u64, memo: &mut Memo) -> ClientId {
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return self.nobody.id;
        };
        let bits = match address {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits() >> 64,
        };
        self.hash(
            (usize::MAX, address.is_ipv6()),
            b"network",
            &bits.to_be_bytes(),
            unix,
            memo,
        )
    }

    /// A header's value, as something to count.
    pub fn value(&self, value: &[u8], unix: u64, memo: &mut Memo) -> ClientId {
        self.hash((usize::MAX - 1, false), b"header", value, unix, memo)
    }

    fn hash(
        &self,
        way: (usize, bool),
        kind: &[u8],
        value: &[u8],
        unix: u64,
        memo: &mut Memo,
    ) -> ClientId {
        memo.turn_to(&self.mark, self.generation());
        let found = memo.recall(way, value, unix, || {
            (Ok(Identity::secret(&self.hasher, kind, value)), u64::MAX)
        });
        found.map_or_else(|_never| self.nobody.id, |identity| identity.id)
    }

    fn by_header(&self, value: &[u8], trusted: bool) -> Identity {
        if let Some(known) = self.by_key(value) {
            return known;
        }
        let named = std::str::from_utf8(value).ok();
        let named = named.and_then(|value| self.values.get(value));
        match named {
            Some(known) if trusted => self.named(*known),
            Some(_) => Identity {
                doubt: Some(Doubt::UntrustedPeer),
                ..Identity::secret(&self.hasher, b"key", value)
            },
            None if trusted => Identity::secret(&self.hasher, b"value", value),
            None => Identity::secret(&self.hasher, b"key", value),
        }
    }

    /// The client whose key `value` is.
    fn by_key(&self, value: &[u8]) -> Option<Identity> {
        if self.keys.is_empty() {
            return None;
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, value).as_ref());
        self.keys.get(&hash).map(|known| self.named(*known))
    }

    fn by_claim(&self, claim: &str) -> Identity {
        match self.claims.get(claim) {
            Some(known) => self.named(*known),
            None => self.plain(b"jwt", "jwt:", claim),
        }
    }

    fn by_certificate(&self, sans: &str) -> Identity {
        let mut sans = sans.lines().filter(|san| !san.is_empty());
        let first = sans.clone().next().unwrap_or_default();
        match sans.find_map(|san| self.sans.get(san)) {
            Some(known) => self.named(*known),
            None => self.plain(b"san", "san:", first),
        }
    }

    fn by_address(
        &self,
        index: usize,
        (v4, v6): (u8, u8),
        address: IpAddr,
        unix: u64,
        memo: &mut Memo,
    ) -> Result<Rc<Identity>, Doubt> {
        let address = address.to_canonical();
        let bits = match address {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let way = (index, address.is_ipv6());
        memo.recall(way, &bits.to_be_bytes(), unix, || {
            (Ok(self.of_network(address, (v4, v6))), u64::MAX)
        })
    }

    fn of_network(&self, address: IpAddr, (v4, v6): (u8, u8)) -> Identity {
        let mut known = self.networks.iter();
        if let Some((_, known)) = known.find(|(network, _)| network.contains(&address)) {
            return self.named(*known);
        }
        let bits = if address.is_ipv4() { v4 } else { v6 };
        let network = IpNet::new(address, bits).map(|network| network.trunc());
        let name = match network {
            Ok(network) if network.prefix_len() == network.max_prefix_len() => address.to_string(),
            Ok(network) => network.to_string(),
            Err(_beyond) => address.to_string(),
        };
        Identity::new(&self.hasher, b"address", name.as_bytes(), &name)
    }

    /// A client whose name is what identifies it, unless another has that name.
    fn plain(&self, kind: &[u8], prefix: &str, value: &str) -> Identity {
        let taken = self.names.contains_key(value)
            || value.starts_with("key:")
            || matches!(value, "anonymous" | "__other__")
            || value.parse::<IpNet>().is_ok()
            || value.parse::<IpAddr>().is_ok();
        let prefix = if taken { prefix } else { "" };
        Identity::new(
            &self.hasher,
            kind,
            value.as_bytes(),
            &format!("{prefix}{value}"),
        )
    }

    fn named(&self, position: usize) -> Identity {
        self.known.get(position).map_or_else(
            || self.nobody.clone(),
            |known| Identity {
                id: known.id,
                name: known.name.as_ref().into(),
                tier: known.tier,
                weight: known.weight,
                doubt: None,
            },
        )
    }
}

fn issuer(jwks: &Jwks, former: Option<&Registry>) -> Result<Arc<Issuer>, Error> {
    match jwks {
        Jwks::File(path) => {
            let refused = |reason: String| Error {
                path: path.clone(),
                reason,
            };
            let text = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
            let issuer = Issuer::default();
            issuer
                .replace(&text)
                .map_err(|error| refused(error.to_string()))?;
            Ok(Arc::new(issuer))
        }
        Jwks::Url(url) => {
            let mut known = former.into_iter().flat_map(Registry::issuers);
            let known = known.find(|(other, _, _)| *other == url);
            Ok(known.map_or_else(Arc::default, |(_, _, issuer)| Arc::clone(issuer)))
        }
    }
}
