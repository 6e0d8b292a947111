//! Checks of `[clients]`.

use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::{Check, address, report_duplicates};
use crate::config::plan::{Clients, Identify, Jwks, Jwt, Known, Listener};
use crate::config::raw::{
    RawClients, RawIdentify, RawJwt, RawKnown, RawPrefixes, RawSecret, Spanned,
};
use crate::config::units::Rate;
use crate::policy::rate::Quota;

impl Check<'_> {
    pub(super) fn clients(
        &mut self,
        raw: &RawClients,
        tiers: &[Arc<str>],
        listeners: &[Listener],
    ) -> Clients {
        let hash_key = raw.hash_key.as_ref().and_then(|key| self.secret(key));
        let identify = if raw.identify.is_empty() {
            Clients::default().identify
        } else {
            let entries = raw.identify.iter();
            entries
                .filter_map(|one| self.identify(one, listeners))
                .collect()
        };
        let names = raw.known.iter().filter_map(|one| one.name.as_ref());
        let names = names.map(|name| (name.as_str(), name.span()));
        report_duplicates(self, "a client", names);
        self.distinct_marks(&raw.known);
        let known = raw.known.iter();
        let known = known.filter_map(|one| self.known(one, tiers)).collect();
        self.distinct_keys(&raw.known, &known);
        Clients {
            hash_key,
            identify,
            known,
        }
    }

    fn identify(&mut self, raw: &Spanned<RawIdentify>, listeners: &[Listener]) -> Option<Identify> {
        let hint = "write one of `header = \"x-api-key\"`, `jwt = { … }`, `tls_san = true` and `address = {}`";
        match (&raw.header, &raw.jwt, raw.tls_san, &raw.address) {
            (Some(name), None, false, None) => {
                let name = self.take(name.span(), address::header_name(name))?;
                Some(Identify::Header(name))
            }
            (None, Some(jwt), false, None) => self.jwt(jwt).map(Identify::Jwt),
            (None, None, true, None) => {
                let asks = |one: &Listener| one.tls.as_ref().is_some_and(|t| t.client_ca.is_some());
                if !listeners.iter().any(asks) {
                    self.error_hint(
                        raw.span(),
                        "no listener asks its clients for certificates",
                        "give a listener's `tls` a `client_ca`, or take `tls_san` out",
                    );
                }
                Some(Identify::TlsSan)
            }
            (None, None, false, Some(prefixes)) => Some(self.prefixes(prefixes)),
            (None, None, false, None) => {
                let keys = ["header", "jwt", "tls_san", "address"];
                if !keys.iter().any(|key| self.was_dropped(&raw.span(), key)) {
                    self.error_hint(raw.span(), "this does not say what to look at", hint);
                }
                None
            }
            _ => {
                self.error_hint(raw.span(), "this says several things to look at", hint);
                None
            }
        }
    }

    fn prefixes(&mut self, raw: &RawPrefixes) -> Identify {
        Identify::Address {
            v4: self.whole(&raw.v4, "v4", 1..=32_u8),
            v6: self.whole(&raw.v6, "v6", 1..=128_u8),
        }
    }

    fn jwt(&mut self, raw: &Spanned<RawJwt>) -> Option<Jwt> {
        let (table, hint) = (raw.span(), "a token needs `claim` and `jwks`");
        let header = self.take(raw.header.span(), address::header_name(&raw.header));
        let claim = self.required(raw.claim.as_ref(), &table, "claim", hint);
        let jwks = self.required(raw.jwks.as_ref(), &table, "jwks", hint);
        let jwks = jwks.and_then(|jwks| self.jwks(jwks));
        let refresh = self.above_zero(&raw.refresh, "refresh");
        Some(Jwt {
            header: header?,
            claim: claim?.as_str().into(),
            jwks: jwks?,
            issuer: raw.issuer.as_deref().map(Arc::from),
            audience: raw.audience.as_deref().map(Arc::from),
            leeway: raw.leeway.0,
            refresh,
        })
    }

    fn jwks(&mut self, raw: &Spanned<String>) -> Option<Jwks> {
        if !raw.contains("://") {
            let (path, _) = self.read_file(raw)?;
            return Some(Jwks::File(path));
        }
        self.http_url(raw).map(Jwks::Url)
    }

    /// A URL that is fetched from.
    pub(super) fn http_url(&mut self, raw: &Spanned<String>) -> Option<Arc<str>> {
        let uri: Option<http::Uri> = raw.parse().ok();
        let good = uri.is_some_and(|uri| {
            uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
        });
        if !good {
            let message = format!("`{}` is no http or https URL", raw.escape_debug());
            self.error(raw.span(), message);
            return None;
        }
        Some(raw.as_str().into())
    }

    fn known(&mut self, raw: &Spanned<RawKnown>, tiers: &[Arc<str>]) -> Option<Known> {
        let table = raw.span();
        let hint = "write `name = \"reports\"` and how it is recognised, such as `keys`";
        let name = self.required(raw.name.as_ref(), &table, "name", hint);
        let place = name.map_or_else(|| table.clone(), Spanned::span);
        let name = name.map(|name| self.name(name));
        let marks = ["keys", "claims", "sans", "addresses", "values"];
        let lists = [&raw.claims, &raw.sans, &raw.addresses, &raw.values];
        let has_any = !raw.keys.is_empty() || lists.iter().any(|list| !list.is_empty());
        if !has_any && !marks.iter().any(|key| self.was_dropped(&table, key)) {
            self.error_hint(
                place.clone(),
                "nothing says how this client is recognised",
                "give it `keys`, `claims`, `sans`, `addresses` or `values`",
            );
        }
        let mut key_files = Vec::new();
        let keys = raw.keys.iter();
        let keys = keys
            .filter_map(|key| self.api_key(key, &place, &mut key_files))
            .collect();
        let networks = raw.addresses.iter();
        let addresses = networks
            .filter_map(|network| self.take(network.span(), address::network(network)))
            .collect();
        let texts = |list: &[Spanned<String>]| list.iter().map(|one| one.as_str().into()).collect();
        let tier = raw.tier.as_ref().map(|tier| self.tier(Some(tier), tiers));
        let declared_rate = raw.declared_rate.as_ref();
        Some(Known {
            name: name?,
            keys,
            key_files,
            claims: texts(&raw.claims),
            sans: raw
                .sans
                .iter()
                .map(|san| san.to_ascii_lowercase().into())
                .collect(),
            addresses,
            values: texts(&raw.values),
            tier,
            weight: self.whole(&raw.weight, "weight", 1..=1_000_u32),
            owner: raw.owner.as_deref().map(Arc::from),
            declared_rate: declared_rate.and_then(|rate| self.quota(rate, rate.amount)),
        })
    }

    /// A rate as a quota, of which `burst` may come at once.
    pub(super) fn quota(&mut self, rate: &Spanned<Rate>, burst: u64) -> Option<Quota> {
        self.take(rate.span(), Quota::try_new(rate.amount, rate.period, burst))
    }

    /// The SHA-256 of an API key. What is wrong is shown at `place`, never the key itself.
    fn api_key(
        &mut self,
        raw: &Spanned<RawSecret>,
        place: &std::ops::Range<usize>,
        files: &mut Vec<PathBuf>,
    ) -> Option<[u8; 32]> {
        if let RawSecret::Literal(text) = &**raw {
            let hash = text.strip_prefix("sha256:").and_then(from_hex);
            if hash.is_none() {
                self.error_hint(
                    place.clone(),
                    "a key of this client stands here in the clear, or its hash is cut short",
                    "write `sha256:` and the 64 digits that `printf %s KEY | sha256sum` prints, or { env = … } or { file = … }",
                );
            }
            return hash;
        }
        let secret = self.secret(raw)?;
        files.extend(secret.file().map(PathBuf::from));
        let hash = secret.expose().strip_prefix("sha256:").and_then(from_hex);
        Some(hash.unwrap_or_else(|| {
            let mut hash = [0; 32];
            hash.copy_from_slice(digest(&SHA256, secret.expose().as_bytes()).as_ref());
            hash
        }))
    }

    /// Nothing may stand for two clients.
    fn distinct_marks(&mut self, known: &[Spanned<RawKnown>]) {
        type Marks = fn(&RawKnown) -> &Vec<Spanned<String>>;
        let lists: [(&str, Marks); 4] = [
            ("a client with the claim", |one| &one.claims),
            ("a client with the certificate name", |one| &one.sans),
            ("a client with the address", |one| &one.addresses),
            ("a client with the header value", |one| &one.values),
        ];
        for (what, list) in lists {
            let marks = known.iter().flat_map(|one| list(one));
            report_duplicates(self, what, marks.map(|mark| (mark.as_str(), mark.span())));
        }
    }

    fn distinct_keys(&mut self, raw: &[Spanned<RawKnown>], known: &Vec<Known>) {
        let mut seen = std::collections::HashMap::new();
        for client in known {
            for key in &client.keys {
                let Some(other) = seen.insert(key, &client.name) else {
                    continue;
                };
                let named = |one: &&Spanned<RawKnown>| {
                    one.name.as_ref().is_some_and(|name| **name == *client.name)
                };
                let place = raw.iter().find(named).and_then(|one| one.name.as_ref());
                let message = format!("a key of this client is also one of `{other}`");
                self.error(place.map_or(0..0, Spanned::span), message);
            }
        }
    }
}

/// 64 hex digits as 32 bytes.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
