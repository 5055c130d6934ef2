//! TLS of the uplink: what time it is for certificates, and whom to trust while enrolling.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Time for certificates: max(system clock, build time, last vouched time). A gateway that boots
/// in 1970 must still reach its control plane, and a clock set back must not revive old
/// certificates.
#[derive(Debug)]
pub struct TimeFloor {
    floor_unix_s: AtomicU64,
}

/// Unix seconds of a moment before this source was released.
const BUILD_FLOOR_UNIX_S: u64 = 1_790_000_000;

impl TimeFloor {
    /// A floor that remembers a vouched time from before the start (0: none).
    #[must_use]
    pub fn new(vouched_unix_s: u64) -> Arc<Self> {
        let floor = vouched_unix_s.max(BUILD_FLOOR_UNIX_S);
        Arc::new(Self { floor_unix_s: AtomicU64::new(floor) })
    }

    /// The control plane vouches for this time.
    pub fn vouch(&self, unix_s: u64) {
        self.floor_unix_s.fetch_max(unix_s, Ordering::Relaxed);
    }
}

impl TimeProvider for TimeFloor {
    fn current_time(&self) -> Option<UnixTime> {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let floor = std::time::Duration::from_secs(self.floor_unix_s.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(system.max(floor)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn other(err: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, err.to_string())
}

/// Configuration of an enrolled gateway: its own certificate, and the gateway CA as the only root.
///
/// # Errors
/// The certificates or the key are not what they should be.
pub fn enrolled(
    ca: CertificateDer<'static>,
    own: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    time: Arc<TimeFloor>,
) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(other)?;
    let config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)
        .map_err(other)?;
    Ok(Arc::new(config))
}

/// Configuration of a gateway that enrols: it trusts exactly the chain that holds the CA
/// certificate with this SHA-256.
///
/// # Errors
/// The TLS library refuses its own defaults.
pub fn pinned(ca_sha256: [u8; 32], time: Arc<TimeFloor>) -> io::Result<Arc<ClientConfig>> {
    let verifier = PinnedCa { ca_sha256, provider: provider() };
    let config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Finds the pinned CA in the chain, then verifies the chain as usual with it as the only root.
#[derive(Debug)]
struct PinnedCa {
    ca_sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |der: &&CertificateDer<'_>| {
            ring::digest::digest(&ring::digest::SHA256, der).as_ref() == self.ca_sha256
        };
        let ca = intermediates.iter().find(is_pinned).ok_or_else(|| {
            rustls::Error::General("the server's chain does not hold the token's CA".to_owned())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let builder = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        );
        let verifier = builder.build().map_err(|err| rustls::Error::General(err.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Writes a secret file so that only the owner can read it, and so that a power cut leaves the
/// old or the new content.
///
/// # Errors
/// The disk refuses.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let next = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    fs::File::open(dir)?.sync_all()
}
