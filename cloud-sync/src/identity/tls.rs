//! TLS settings of the two listeners. TLS 1.3 only: every client of ours speaks it, and browsers.

use std::path::Path;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::ca::{Authority, date, is_worn};
use super::files::{PUBLIC, SECRET, read, replace};
use super::late::LateClients;
use super::{IdentityError, Settings};

/// Certificates and keys of the server.
pub(crate) struct TlsFiles {
    /// Signs gateways.
    pub(crate) gateway_ca: Authority,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The MQTT listener's settings.
pub(crate) type MqttTls = Arc<ServerConfig>;

impl TlsFiles {
    /// Reads the files; a worn server certificate is replaced.
    pub(crate) fn load(
        dir: &Path,
        settings: &Settings,
        now_ms: u64,
    ) -> Result<Self, IdentityError> {
        let folder = dir.join("tls");
        let gateway_ca = Authority::load(&folder, "gateway-ca")?;
        let (pem_path, key_path) = (folder.join("server.pem"), folder.join("server.key"));
        let (mut pem, mut key) = (read(&pem_path)?, read(&key_path)?);
        if is_worn(&pem, &settings.names, date(now_ms)) {
            (pem, key) = gateway_ca.issue_server(&settings.names, date(now_ms))?;
            replace(&key_path, &key, SECRET)?;
            replace(&pem_path, &pem, PUBLIC)?;
            tracing::info!("the server has a new certificate");
        }
        let refused = |error| IdentityError::Certificate(format!("server certificate: {error}"));
        let server = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(refused)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(refused)?;
        // The chain holds the authority itself: a gateway that enrols knows it by its hash only.
        let chain = vec![server, gateway_ca.certificate().clone()];
        Ok(Self { gateway_ca, chain, key })
    }

    /// For gateways: a client certificate of the gateway CA, or none while they enrol.
    pub(crate) fn mqtt(&self) -> Result<MqttTls, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.gateway_ca.certificate().clone()).map_err(refused)?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(refused)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_client_cert_verifier(Arc::new(LateClients(verifier)))
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(refused)?;
        Ok(Arc::new(config))
    }

    /// For operators and browsers.
    pub(crate) fn http(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(refused)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn refused(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}
