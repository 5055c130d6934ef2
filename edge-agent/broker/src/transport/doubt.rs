//! Certificates judged by a clock that may be wrong.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// What time it is for certificates, and how sure that is.
pub trait CertificateTime: TimeProvider {
    /// A certificate was refused. Where that is only because of the time, and the clock may be wrong:
    /// the moment by which the certificate is to be judged instead.
    fn doubt(&self, refusal: &Error) -> Option<UnixTime>;
}

/// Judges a certificate by `now`, and where the clock may be wrong again by a moment that it may be.
///
/// # Errors
/// What `judge` says last.
pub fn judge_in_doubt<T>(
    time: &dyn CertificateTime,
    now: UnixTime,
    judge: impl Fn(UnixTime) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut verdict = judge(now);
    // An end that is doubted can bring a beginning that is.
    for _ in 0..2 {
        let doubt = verdict.as_ref().err().and_then(|refusal| time.doubt(refusal));
        let Some(at) = doubt else { break };
        verdict = judge(at);
    }
    verdict
}

/// Verifies clients by a clock that may be wrong.
#[derive(Debug)]
pub(super) struct DoubtedClients {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) time: Arc<dyn CertificateTime>,
}

impl ClientCertVerifier for DoubtedClients {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        judge_in_doubt(&*self.time, now, |at| {
            self.verifier.verify_client_cert(end_entity, intermediates, at)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
