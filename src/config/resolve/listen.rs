//! Checks of `[[listen]]`.

use std::path::PathBuf;

use ipnet::IpNet;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Check, address, report_duplicates};
use crate::config::plan::{CertificateFiles, Listener, ServerTls};
use crate::config::raw::{RawListen, RawProtocol, RawServerTls, Spanned};
use crate::config::units::Size;

/// The least that the HTTP/1 parser can work with, and more than any sound request needs.
const HEADER_BYTES: std::ops::RangeInclusive<u64> = (8 << 10)..=(16 << 20);

impl Check<'_> {
    pub(super) fn listeners(&mut self, raw: &[Spanned<RawListen>]) -> Vec<Listener> {
        if raw.is_empty() {
            let name = "default".to_owned();
            let only = RawListen {
                name: Some(name.into()),
                ..RawListen::default()
            };
            return self.listener(&only.into()).into_iter().collect();
        }
        let named = raw.iter().map(|one| {
            let name = one.name.as_ref().unwrap_or(&one.address);
            (name.as_str(), name.span())
        });
        report_duplicates(self, "a listener", named);
        let mut listeners: Vec<Listener> = Vec::new();
        for one in raw {
            let Some(listener) = self.listener(one) else {
                continue;
            };
            match listeners.iter().find(|other| other.bind == listener.bind) {
                Some(other) if other.name != listener.name => self.error(
                    one.address.span(),
                    format!("listener `{}` already has this address", other.name),
                ),
                _ => listeners.push(listener),
            }
        }
        listeners
    }

    fn listener(&mut self, raw: &Spanned<RawListen>) -> Option<Listener> {
        let bind = self.take(raw.address.span(), address::bind(&raw.address));
        let name = raw.name.as_ref().unwrap_or(&raw.address);
        if name.is_empty() || name.chars().any(char::is_control) {
            self.error(name.span(), "the name is empty or not printable");
        }
        if raw.protocols.is_empty() && !self.was_dropped(&raw.span(), "protocols") {
            self.error_hint(
                raw.protocols.span(),
                "the listener speaks no protocol",
                "write `protocols = [\"http1\", \"http2\"]`",
            );
        }
        let tls = raw.tls.as_ref().map(|tls| self.server_tls(tls));
        let trusted_proxies = self.networks(&raw.trusted_proxies);
        let purge_from = self.networks(&raw.purge_from);
        let header_timeout = self.above_zero(&raw.header_timeout, "header_timeout");
        let idle_timeout = self.above_zero(&raw.idle_timeout, "idle_timeout");
        let max_header_bytes = self.header_bytes(&raw.max_header_bytes);
        let max_headers = self.whole(&raw.max_headers, "max_headers", 1..=10_000_u16);
        let streams = 1..=65_535_u32;
        let max_concurrent_streams = self.whole(
            &raw.max_concurrent_streams,
            "max_concurrent_streams",
            streams,
        );
        Some(Listener {
            name: name.as_str().into(),
            bind: bind?,
            http1: raw.protocols.contains(&RawProtocol::Http1),
            http2: raw.protocols.contains(&RawProtocol::Http2),
            tls,
            trusted_proxies,
            purge_from,
            proxy_protocol: raw.proxy_protocol,
            header_timeout,
            idle_timeout,
            max_header_bytes,
            max_headers: max_headers.into(),
            max_body_bytes: (raw.max_body_bytes.0 > 0).then_some(raw.max_body_bytes.0),
            max_concurrent_streams,
        })
    }

    fn networks(&mut self, raw: &[Spanned<String>]) -> Vec<IpNet> {
        raw.iter()
            .filter_map(|text| self.take(text.span(), address::network(text)))
            .collect()
    }

    fn header_bytes(&mut self, raw: &Spanned<Size>) -> usize {
        if !HEADER_BYTES.contains(&raw.0) {
            let (least, most) = (Size(*HEADER_BYTES.start()), Size(*HEADER_BYTES.end()));
            let message = format!("`max_header_bytes` must be from {least} to {most}");
            self.error(raw.span(), message);
        }
        usize::try_from(raw.0).unwrap_or(usize::MAX)
    }

    fn server_tls(&mut self, raw: &Spanned<RawServerTls>) -> ServerTls {
        let mut certificates = Vec::new();
        let span = raw.span();
        let has_main = raw.certificate.is_some() || raw.key.is_some();
        if has_main || raw.certificates.is_empty() {
            let pair = (raw.certificate.as_ref(), raw.key.as_ref());
            certificates.extend(self.required_pair(pair, &span));
        }
        for further in &raw.certificates {
            let pair = (further.certificate.as_ref(), further.key.as_ref());
            certificates.extend(self.required_pair(pair, &further.span()));
        }
        ServerTls {
            certificates,
            client_ca: raw.client_ca.as_ref().and_then(|ca| self.certificate(ca)),
        }
    }

    fn required_pair(
        &mut self,
        (certificate, key): (Option<&Spanned<String>>, Option<&Spanned<String>>),
        table: &std::ops::Range<usize>,
    ) -> Option<CertificateFiles> {
        let hint = "TLS needs `certificate` and `key`, each a PEM file";
        let certificate = self.required(certificate, table, "certificate", hint);
        let key = self.required(key, table, "key", hint);
        self.certificate_pair(certificate?, key?)
    }

    /// A certificate and key whose files can be read.
    pub(super) fn certificate_pair(
        &mut self,
        certificate: &Spanned<String>,
        key: &Spanned<String>,
    ) -> Option<CertificateFiles> {
        let certificate = self.certificate(certificate);
        let key = self.private_key(key);
        Some(CertificateFiles {
            certificate: certificate?,
            key: key?,
        })
    }

    /// A file with at least one certificate.
    pub(super) fn certificate(&mut self, path: &Spanned<String>) -> Option<PathBuf> {
        let (whole, content) = self.read_file(path)?;
        let mut found = CertificateDer::pem_slice_iter(&content);
        if matches!(found.next(), Some(Ok(_))) && found.all(|one| one.is_ok()) {
            return Some(whole);
        }
        let message = format!("{} holds no certificate", whole.display());
        self.error_hint(path.span(), message, "it must be a PEM file");
        None
    }

    fn private_key(&mut self, path: &Spanned<String>) -> Option<PathBuf> {
        let (whole, content) = self.read_file(path)?;
        if PrivateKeyDer::from_pem_slice(&content).is_ok() {
            return Some(whole);
        }
        let message = format!("{} holds no private key", whole.display());
        self.error_hint(path.span(), message, "it must be a PEM file");
        None
    }
}
