//! Gateways whose certificate expired while they were away.
//!
//! A gateway that was off for longer than its certificate lives must come back without anybody
//! going there. Its key still proves who it is, so it is let in for [`GRACE`] after the end of its
//! certificate, and told to renew it at once. What ends a gateway's access is its removal from this
//! control plane, not the date on its certificate.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// How long after its end a gateway's certificate is still good for a renewal.
pub(super) const GRACE: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Verifies gateways' certificates; one that expired is judged by the last moment of its life.
#[derive(Debug)]
pub(super) struct LateClients(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for LateClients {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) if now.as_secs() <= not_after.as_secs().saturating_add(GRACE.as_secs()) => {
                // Dates are looked at before the issuer is: until now it may be anybody's.
                let verified = self.0.verify_client_cert(end_entity, intermediates, not_after)?;
                tracing::info!("a gateway comes with an expired certificate, and will renew it");
                Ok(verified)
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use rcgen::{CertificateParams, KeyPair};
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;

    use super::super::ca::{Authority, GATEWAY_LIFE, date};
    use super::*;

    const NOW_MS: u64 = 1_790_000_000_000;

    fn verifier(authority: &Authority) -> LateClients {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        LateClients(builder.build().unwrap())
    }

    /// What is logged while `work` runs.
    fn logged(work: impl FnOnce()) -> String {
        let file = tempfile::tempfile().unwrap();
        let mut read = file.try_clone().unwrap();
        let log = tracing_subscriber::fmt().with_writer(std::sync::Mutex::new(file)).finish();
        tracing::subscriber::with_default(log, work);
        let mut text = String::new();
        read.rewind().unwrap();
        read.read_to_string(&mut text).unwrap();
        text
    }

    /// Anybody can make a certificate that has expired, and show it as often as they like.
    #[test]
    fn only_an_expired_certificate_of_ours_is_worth_a_line_in_the_log() {
        let temp = tempfile::tempdir().unwrap();
        let ours = Authority::for_tests(temp.path());
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let gateway = CertificateDer::from(ours.issue_gateway("gw", 1, csr.der(), NOW_MS).unwrap());
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (date(NOW_MS - 1_000), date(NOW_MS));
        let anybody = params.self_signed(&key).unwrap();
        let late = verifier(&ours);
        let at = UnixTime::since_unix_epoch(GATEWAY_LIFE + Duration::from_millis(NOW_MS + 9_000));
        let told = logged(|| assert!(late.verify_client_cert(&gateway, &[], at).is_ok()));
        assert!(told.contains("expired certificate"), "{told}");
        let at = UnixTime::since_unix_epoch(Duration::from_millis(NOW_MS + 9_000));
        let told = logged(|| assert!(late.verify_client_cert(anybody.der(), &[], at).is_err()));
        assert_eq!(told, "");
    }

    #[test]
    fn an_expired_certificate_is_good_until_the_grace_ends_and_a_foreign_one_never() {
        let (temp, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ours = Authority::for_tests(temp.path());
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let der = CertificateDer::from(ours.issue_gateway("gw", 1, csr.der(), NOW_MS).unwrap());
        let end_s = NOW_MS / 1_000 + GATEWAY_LIFE.as_secs();
        let at = |unix_s| UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
        let late = verifier(&ours);
        for (unix_s, good) in [
            (NOW_MS / 1_000, true),
            (end_s, true),
            (end_s + 26 * 86_400, true),
            (end_s + GRACE.as_secs(), true),
            (end_s + GRACE.as_secs() + 1, false),
            (NOW_MS / 1_000 - 2 * 86_400, false),
        ] {
            assert_eq!(late.verify_client_cert(&der, &[], at(unix_s)).is_ok(), good, "{unix_s}");
        }
        let theirs = verifier(&Authority::for_tests(other.path()));
        assert!(theirs.verify_client_cert(&der, &[], at(end_s + 1)).is_err());
    }
}
