//! Who sends requests, written out again.

use super::{REDACTED, path};
use crate::config::plan::{Clients, Identify, Jwks, Jwt, Known};
use crate::config::raw::{
    RawClients, RawIdentify, RawJwt, RawKnown, RawPrefixes, RawSecret, Spanned,
};
use crate::config::units::{Rate, Time};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::policy::rate::Quota;

pub(super) fn clients(clients: &Clients, tiers: &[Arc<str>]) -> RawClients {
    let hidden = || RawSecret::Literal(REDACTED.to_owned()).into();
    let identify = clients.identify.iter();
    let known = clients.known.iter();
    RawClients {
        hash_key: clients.hash_key.as_ref().map(|_| hidden()),
        identify: identify.map(|one| way(one).into()).collect(),
        known: known.map(|one| client(one, tiers).into()).collect(),
    }
}

fn way(identify: &Identify) -> RawIdentify {
    let mut raw = RawIdentify::default();
    match identify {
        Identify::Header(name) => raw.header = Some(name.to_string().into()),
        Identify::Jwt(one) => raw.jwt = Some(jwt(one).into()),
        Identify::TlsSan => raw.tls_san = true,
        Identify::Address { v4, v6 } => {
            raw.address = Some(RawPrefixes {
                v4: i64::from(*v4).into(),
                v6: i64::from(*v6).into(),
            });
        }
    }
    raw
}

fn jwt(jwt: &Jwt) -> RawJwt {
    RawJwt {
        header: jwt.header.to_string().into(),
        claim: Some(jwt.claim.to_string().into()),
        jwks: Some(match &jwt.jwks {
            Jwks::File(file) => path(file),
            Jwks::Url(url) => url.to_string().into(),
        }),
        issuer: jwt.issuer.as_deref().map(str::to_owned),
        audience: jwt.audience.as_deref().map(str::to_owned),
        leeway: Time(jwt.leeway),
        refresh: Time(jwt.refresh).into(),
    }
}

fn client(known: &Known, tiers: &[Arc<str>]) -> RawKnown {
    fn texts<T: ToString>(list: &[T]) -> Vec<Spanned<String>> {
        list.iter().map(|one| one.to_string().into()).collect()
    }
    let tier = known.tier.and_then(|tier| tiers.get(usize::from(tier)));
    RawKnown {
        name: Some(known.name.to_string().into()),
        keys: known.keys.iter().map(|key| hash(key).into()).collect(),
        claims: texts(&known.claims),
        sans: texts(&known.sans),
        addresses: texts(&known.addresses),
        values: texts(&known.values),
        tier: tier.map(|name| name.to_string().into()),
        weight: i64::from(known.weight).into(),
        owner: known.owner.as_deref().map(str::to_owned),
        declared_rate: known.declared_rate.as_ref().map(|quota| rate(quota).into()),
    }
}

fn hash(key: &[u8; 32]) -> RawSecret {
    let mut text = "sha256:".to_owned();
    for byte in key {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    RawSecret::Literal(text)
}

pub(super) fn rate(quota: &Quota) -> Rate {
    Rate {
        amount: quota.amount(),
        period: quota.period(),
    }
}
