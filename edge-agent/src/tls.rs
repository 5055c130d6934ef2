//! TLS of the uplink: what time it is for certificates, and whom to trust while enrolling.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edge_broker::transport::doubt::{CertificateTime, judge_in_doubt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::system_clock;

/// Time for certificates. Where somebody vouched for the clock it is that time; else it is
/// max(system clock, build time, last vouched time). A gateway that boots in 1970 must still reach
/// its control plane, and a clock set back must not revive old certificates.
#[derive(Debug)]
pub struct TimeFloor {
    floor_unix_s: AtomicU64,
    /// What time it certainly was, since 1970, at a moment.
    known: Mutex<Option<(Instant, Duration)>>,
}

/// Unix seconds of a moment before this source was released.
pub(crate) const BUILD_FLOOR_UNIX_S: u64 = 1_790_000_000;

impl TimeFloor {
    /// A floor that remembers a vouched time from before the start (0: none).
    #[must_use]
    pub fn new(vouched_unix_s: u64) -> Arc<Self> {
        let floor = vouched_unix_s.max(BUILD_FLOOR_UNIX_S);
        Arc::new(Self { floor_unix_s: AtomicU64::new(floor), known: Mutex::new(None) })
    }

    /// The control plane vouches for this time: it is not earlier any more.
    pub fn vouch(&self, unix_s: u64) {
        self.floor_unix_s.fetch_max(unix_s, Ordering::Relaxed);
    }

    /// The gateway's clock is synced, and shows this time now.
    pub fn know(&self, unix_ms: u64) {
        *self.known() = Some((Instant::now(), Duration::from_millis(unix_ms)));
    }

    fn known(&self) -> MutexGuard<'_, Option<(Instant, Duration)>> {
        // A pair is replaced whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While nobody vouched for the clock nothing is known but that it is not before the floor: a
/// certificate that begins later may have begun, and one that ends after the floor may not have
/// ended, whatever the system's clock shows.
impl CertificateTime for TimeFloor {
    fn doubt(&self, refusal: &rustls::Error) -> Option<UnixTime> {
        let rustls::Error::InvalidCertificate(why) = refusal else { return None };
        if self.known().is_some() {
            return None;
        }
        let floor = Duration::from_secs(self.floor_unix_s.load(Ordering::Relaxed));
        match why {
            CertificateError::NotValidYetContext { not_before, .. } => Some(*not_before),
            CertificateError::ExpiredContext { time, not_after }
                if time.as_secs() > floor.as_secs() && not_after.as_secs() >= floor.as_secs() =>
            {
                Some(UnixTime::since_unix_epoch(floor))
            }
            _ => None,
        }
    }
}

impl TimeProvider for TimeFloor {
    fn current_time(&self) -> Option<UnixTime> {
        let floor = Duration::from_secs(self.floor_unix_s.load(Ordering::Relaxed));
        let now = match *self.known() {
            Some((at, unix)) => unix.saturating_add(at.elapsed()),
            None => Duration::from_millis(system_clock::unix_ms()),
        };
        Some(UnixTime::since_unix_epoch(now.max(floor)))
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
/// The CA certificate is not what it should be.
pub fn enrolled(
    ca: CertificateDer<'static>,
    own: Arc<dyn ResolvesClientCert>,
    time: Arc<TimeFloor>,
) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(other)?;
    let trust = Trust::Root(verifier(roots).map_err(other)?);
    let verifier = ControlPlane { trust, provider: provider(), time: Arc::clone(&time) };
    let mut config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(own);
    // A resumed session would go on under the certificate it began with, also after a renewal.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Configuration of a gateway that enrols: it trusts exactly the chain that holds the CA
/// certificate with this SHA-256.
///
/// # Errors
/// The TLS library refuses its own defaults.
pub fn pinned(ca_sha256: [u8; 32], time: Arc<TimeFloor>) -> io::Result<Arc<ClientConfig>> {
    let trust = Trust::Pinned(ca_sha256);
    let verifier = ControlPlane { trust, provider: provider(), time: Arc::clone(&time) };
    let config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|err| rustls::Error::General(err.to_string()))
}

/// Which root the control plane's chain must lead to.
#[derive(Debug)]
enum Trust {
    /// The one that enrolment brought.
    Root(Arc<WebPkiServerVerifier>),
    /// The one in the chain itself with this SHA-256, which an enrolment token brings.
    Pinned([u8; 32]),
}

/// Verifies the control plane's chain as usual, with one root, and by a time that may be in doubt.
#[derive(Debug)]
struct ControlPlane {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    time: Arc<TimeFloor>,
}

impl Trust {
    fn verifier(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let pin = match self {
            Self::Root(verifier) => return Ok(Arc::clone(verifier)),
            Self::Pinned(pin) => pin,
        };
        let is_pinned = |der: &&CertificateDer<'_>| {
            ring::digest::digest(&ring::digest::SHA256, der).as_ref() == pin
        };
        let ca = chain.iter().find(is_pinned).ok_or_else(|| {
            rustls::Error::General("the server's chain does not hold the token's CA".to_owned())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        verifier(roots)
    }
}

impl ServerCertVerifier for ControlPlane {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.trust.verifier(intermediates)?;
        judge_in_doubt(&*self.time, now, |at| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, at)
        })
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

#[cfg(test)]
mod tests;
