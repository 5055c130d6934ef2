//! TLS settings of a listener, and identity from client certificates.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

use super::doubt::{CertificateTime, DoubtedClients};
use crate::broker::PeerCertificate;

/// What a TLS listener needs.
#[derive(Debug)]
pub struct TlsSettings<'a> {
    /// Certificate chain of the server, PEM, its own first.
    pub cert_chain_pem: &'a [u8],
    /// Its private key, PEM.
    pub key_pem: &'a [u8],
    /// CA certificates for clients, PEM. A client may then show a certificate of theirs; it need
    /// not, so that clients with passwords can use the same listener.
    pub client_ca_pem: Option<&'a [u8]>,
    /// Whether TLS 1.2 is allowed beside 1.3, for old devices.
    pub allow_tls12: bool,
    /// Bytes of payload in a record that is sent, at most; [`RECORD_BYTES_DEFAULT`] unless there is a reason. It is not
    /// negotiated: rustls does not know the extension max_fragment_length (RFC 6066, 4), so who takes only small records
    /// needs a listener that sends no larger ones to anybody.
    pub record_bytes_max: usize,
    /// What time it is for certificates; the system's clock without.
    pub time: Option<Arc<dyn CertificateTime>>,
}

/// Records that a device with buffers of 4 KiB takes.
pub const RECORD_BYTES_DEFAULT: usize = 4096;
/// Records as TLS has them.
pub const RECORD_BYTES_MAX: usize = 16384;
/// What rustls counts to a fragment beside its payload: the header of the record.
const RECORD_HEADER_BYTES: usize = 5;

/// Why TLS settings do not work.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("the {what} is not valid PEM or holds none: {error}")]
    Pem {
        /// Which of them.
        what: &'static str,
        /// What is wrong with it.
        error: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in the chain.
    #[error("the certificate chain is empty")]
    NoCertificate,
    /// The client CA cannot be used.
    #[error("the client CA cannot be used: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
    /// Certificate and key do not work together.
    #[error("certificate and key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The configuration of a TLS listener: ring, TLS 1.3 and, if allowed, 1.2.
///
/// # Errors
/// What is wrong with the settings.
pub fn server_config(settings: TlsSettings<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(settings.cert_chain_pem, "certificate chain")?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(settings.key_pem)
        .map_err(|error| TlsError::Pem { what: "private key", error })?;
    let clients: Arc<dyn ClientCertVerifier> = match settings.client_ca_pem {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for ca in certificates(pem, "client CA")? {
                roots.add(ca)?;
            }
            let provider = Arc::clone(&provider);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()?;
            match &settings.time {
                None => verifier,
                Some(time) => Arc::new(DoubtedClients { verifier, time: Arc::clone(time) }),
            }
        }
    };
    let versions: &[&rustls::SupportedProtocolVersion] = if settings.allow_tls12 {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    } else {
        &[&rustls::version::TLS13]
    };
    let time: Arc<dyn TimeProvider> = match settings.time {
        None => Arc::new(DefaultTimeProvider),
        Some(time) => time,
    };
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.max_fragment_size = Some(settings.record_bytes_max + RECORD_HEADER_BYTES);
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { what, error })
}

/// Identity of a client whose chain was verified in the handshake; none without a common name.
pub(super) fn peer_certificate(chain: Option<&[CertificateDer<'_>]>) -> Option<PeerCertificate> {
    let der = chain?.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let common_name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, der).as_ref());
    let not_after_unix_s = certificate.validity().not_after.timestamp();
    let serial = certificate.raw_serial().to_vec();
    Some(PeerCertificate { common_name, serial, fingerprint, not_after_unix_s })
}
