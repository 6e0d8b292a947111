//! TLS towards clients and upstreams: files become rustls configurations.
//!
//! rustls with ring, TLS 1.2 and 1.3. Depends on rustls and the plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::plan::{CertificateFiles, ClientTls, Protocol, ServerTls};

/// A file that TLS needs cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl TlsError {
    fn new(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The configuration towards clients.
pub(crate) fn server_config(
    tls: &ServerTls,
    http1: bool,
    http2: bool,
) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates = Certificates::load(&tls.certificates)?;
    let first = tls
        .certificates
        .first()
        .map_or_else(|| Path::new("tls"), |files| &files.certificate);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new(first, error))?;
    let builder = match &tls.client_ca {
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| TlsError::new(path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    if http1 {
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    Ok(Arc::new(config))
}

/// The DNS names that the verified `certificate` is for, each behind a newline.
pub(crate) fn dns_names(certificate: &CertificateDer<'_>) -> Box<str> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Box::default();
    };
    let mut names = String::new();
    for name in certificate.valid_dns_names() {
        names.push('\n');
        names.push_str(&name.to_ascii_lowercase());
    }
    names.into()
}

/// The configuration towards a server that the system's authorities vouch for.
pub(crate) fn system_config() -> Result<Arc<ClientConfig>, TlsError> {
    let tls = ClientTls {
        server_name: None,
        ca: None,
        client: None,
    };
    client_config(&tls, Protocol::Http1)
}

/// The configuration towards an upstream.
pub(crate) fn client_config(
    tls: &ClientTls,
    protocol: Protocol,
) -> Result<Arc<ClientConfig>, TlsError> {
    let system = Path::new("system certificates");
    let roots = match &tls.ca {
        Some(path) => roots(path)?,
        None => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            store
        }
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new(system, error))?
        .with_root_certificates(roots);
    let mut config = match &tls.client {
        Some(files) => builder
            .with_client_auth_cert(chain(&files.certificate)?, key(&files.key)?)
            .map_err(|error| TlsError::new(&files.certificate, error))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::Http2 => b"h2".to_vec(),
    }];
    Ok(Arc::new(config))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::new(path, error))?;
    if chain.is_empty() {
        return Err(TlsError::new(path, "there is no certificate in this file"));
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::new(path, error))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in chain(path)? {
        store
            .add(certificate)
            .map_err(|error| TlsError::new(path, error))?;
    }
    Ok(store)
}

/// A listener's certificates, chosen by the name the client asks for.
#[derive(Debug)]
struct Certificates {
    /// Names in lower case, `*.` in front of those for any label; with the certificate's index.
    names: Vec<(String, usize)>,
    keys: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    fn load(files: &[CertificateFiles]) -> Result<Self, TlsError> {
        let mut this = Self {
            names: Vec::new(),
            keys: Vec::new(),
        };
        for files in files {
            let chain = chain(&files.certificate)?;
            if let Some(own) = chain.first() {
                let certificate = webpki::EndEntityCert::try_from(own)
                    .map_err(|error| TlsError::new(&files.certificate, error))?;
                let index = this.keys.len();
                this.names.extend(
                    certificate
                        .valid_dns_names()
                        .map(|name| (name.to_ascii_lowercase(), index)),
                );
            }
            let signer = provider()
                .key_provider
                .load_private_key(key(&files.key)?)
                .map_err(|error| TlsError::new(&files.key, error))?;
            let key = CertifiedKey::new(chain, signer);
            key.keys_match().map_err(|_mismatch| {
                TlsError::new(
                    &files.key,
                    format_args!("this is not the key of {}", files.certificate.display()),
                )
            })?;
            this.keys.push(Arc::new(key));
        }
        Ok(this)
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let exact = self.names.iter().find(|(own, _)| own == name);
        let found = exact.or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.names
                .iter()
                .find(|(own, _)| own.strip_prefix("*.") == Some(parent))
        });
        self.keys.get(found?.1)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello
            .server_name()
            .and_then(|name| self.find(&name.to_ascii_lowercase()));
        named.or_else(|| self.keys.first()).cloned()
    }
}
