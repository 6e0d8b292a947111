//! A certificate authority that lives as long as a test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// An authority whose files lie in a temporary directory.
#[derive(Debug)]
pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new authority.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Tidegate test authority");
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        let certificate = directory.path().join("ca.crt");
        std::fs::write(&certificate, own.pem()).expect("the certificate is written");
        Self {
            directory,
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// The authority's own certificate, as a PEM file.
    pub(crate) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A certificate for these host names and addresses, as `NAME.crt` and `NAME.key`. Issuing the same
    /// name again replaces the files.
    pub(crate) fn issue(&self, name: &str, subjects: &[&str]) -> Identity {
        let subjects: Vec<String> = subjects.iter().map(|&one| one.to_owned()).collect();
        let mut params = CertificateParams::new(subjects).expect("subject names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        let identity = Identity {
            certificate: self.directory.path().join(format!("{name}.crt")),
            key: self.directory.path().join(format!("{name}.key")),
        };
        std::fs::write(&identity.key, key.serialize_pem()).expect("the key is written");
        std::fs::write(&identity.certificate, leaf.pem()).expect("the certificate is written");
        identity
    }

    /// What a server that shows `identity` needs; clients must then show a certificate of this
    /// authority when `verify_clients`.
    pub(crate) fn server_config(
        &self,
        identity: &Identity,
        alpn: &[&str],
        verify_clients: bool,
    ) -> Arc<rustls::ServerConfig> {
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions");
        let builder = if verify_clients {
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(self.roots()),
                provider(),
            );
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = identity.load();
        let mut config = builder.with_single_cert(chain, key).expect("an identity");
        config.alpn_protocols = protocols(alpn);
        Arc::new(config)
    }

    /// What a client that trusts this authority needs; it shows `identity` when it has one.
    pub(crate) fn client_config(
        &self,
        identity: Option<&Identity>,
        alpn: &[&str],
    ) -> Arc<rustls::ClientConfig> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(self.roots());
        let mut config = match identity {
            Some(identity) => {
                let (chain, key) = identity.load();
                builder
                    .with_client_auth_cert(chain, key)
                    .expect("an identity")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols(alpn);
        Arc::new(config)
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        let own = CertificateDer::from_pem_file(&self.certificate).expect("the certificate");
        roots.add(own).expect("a root");
        roots
    }
}

impl Identity {
    fn load(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_file(&self.certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        (vec![certificate], key)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}
