//! A client as requests carry it, and the keyed hash it goes by.

use std::fmt::{self, Write as _};

use ring::hmac;

use crate::model::ClientId;

/// The longest name, in bytes. What is longer is cut; the client is told apart by all of it.
const LONGEST: usize = 128;

/// Makes hashes that mean nothing to whoever has not its key.
pub struct Hasher(hmac::Key);

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(…)")
    }
}

impl Hasher {
    /// With this key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn tag(&self, kind: &[u8], value: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(kind);
        // No kind has a zero in it, so nothing of one kind looks like something of another.
        context.update(&[0]);
        context.update(value);
        context.sign()
    }

    /// The client of this kind that `value` identifies.
    #[must_use]
    pub fn id(&self, kind: &[u8], value: &[u8]) -> ClientId {
        ClientId::new(first_eight(&self.tag(kind, value)))
    }
}

fn first_eight(tag: &hmac::Tag) -> u64 {
    let bytes = tag.as_ref().first_chunk().copied();
    u64::from_be_bytes(bytes.unwrap_or_default())
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is told apart by.
    pub id: ClientId,
    /// Its name, for people.
    pub name: Box<str>,
    /// Its tier, whatever the route's; an index into the plan's.
    pub tier: Option<u8>,
    /// Its share beside others of its tier.
    pub weight: u32,
    /// Why it is not the one whose name it knows.
    pub doubt: Option<Doubt>,
}

impl Identity {
    /// A client of this kind that `value` identifies, with a name that everybody may see.
    pub(super) fn new(hasher: &Hasher, kind: &[u8], value: &[u8], name: &str) -> Self {
        let end = name.floor_char_boundary(LONGEST);
        Self {
            id: hasher.id(kind, value),
            name: name.get(..end).unwrap_or_default().into(),
            tier: None,
            weight: 1,
            doubt: None,
        }
    }

    /// A client that a secret identifies: its name is a part of the hash that is not its id.
    pub(super) fn secret(hasher: &Hasher, kind: &[u8], value: &[u8]) -> Self {
        let tag = hasher.tag(kind, value);
        let shown = tag.as_ref().iter().skip(8).take(6);
        let shown = shown.fold(0, |shown, byte| shown << 8 | u64::from(*byte));
        // Exactly as long as it becomes: nothing is moved on the way.
        let mut name = String::with_capacity("key:".len() + 12);
        // Writing to a String cannot fail.
        let _infallible = write!(name, "key:{shown:012x}");
        Self {
            id: ClientId::new(first_eight(&tag)),
            name: name.into(),
            tier: None,
            weight: 1,
            doubt: None,
        }
    }
}

/// Why somebody who said to be a certain client was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A header names a known client, and the peer is not trusted to say so.
    UntrustedPeer,
    /// What was sent is no token.
    Malformed,
    /// The token's algorithm is not one of those that are asked of the issuer's key, or none at all.
    Algorithm,
    /// The token names a key that the issuer does not have.
    UnknownKey,
    /// The issuer's keys have not been fetched yet.
    NoKeys,
    /// The token was not signed by the issuer's key.
    Signature,
    /// The token has expired.
    Expired,
    /// The token says no time at which it expires.
    NoExpiry,
    /// The token is not valid yet.
    TooEarly,
    /// The token is another issuer's.
    Issuer,
    /// The token is meant for somebody else.
    Audience,
    /// The token lacks the claim, or it is no text.
    NoClaim,
}

impl Doubt {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UntrustedPeer => "untrusted_peer",
            Self::Malformed => "malformed_token",
            Self::Algorithm => "refused_algorithm",
            Self::UnknownKey => "unknown_key",
            Self::NoKeys => "no_keys_yet",
            Self::Signature => "wrong_signature",
            Self::Expired => "expired",
            Self::NoExpiry => "no_expiry",
            Self::TooEarly => "not_valid_yet",
            Self::Issuer => "wrong_issuer",
            Self::Audience => "wrong_audience",
            Self::NoClaim => "no_claim",
        }
    }
}
