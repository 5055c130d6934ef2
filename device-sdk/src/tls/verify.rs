//! Whether the gateway has proven itself: one Certificate that passes `x509.rs`, then one CertificateVerify by its key.

use embedded_tls::{
    CertificateEntryRef, CertificateRef, CertificateVerifyRef, SignatureScheme, TlsError,
    TlsVerifier,
};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::Refusal;
use super::link::Link;
use super::suite::Suite;
use super::x509::{self, Now};

/// What the gateway signs (RFC 8446, 4.4.3): 64 spaces, a text with a zero behind it, the hash of the handshake.
const CONTEXT: &[u8; 34] = b"TLS 1.3, server CertificateVerify\0";
const SIGNED: usize = 64 + CONTEXT.len() + 32;

/// See the module.
pub(super) struct Verifier<'a> {
    /// None: the shared key proves it, and no certificate may come.
    gateway_ca: Option<&'a [u8]>,
    server_name: &'a str,
    now: Now,
    link: &'a Link,
    step: Step,
}

enum Step {
    Certificate,
    /// The key of the certificate, and the hash of the handshake with it.
    CertificateVerify(VerifyingKey, [u8; 32]),
    Done,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(
        gateway_ca: Option<&'a [u8]>,
        server_name: &'a str,
        now: Now,
        link: &'a Link,
    ) -> Self {
        Self { gateway_ca, server_name, now, link, step: Step::Certificate }
    }

    fn certificate(&mut self, shown: &CertificateRef<'_>) -> Result<VerifyingKey, Refusal> {
        let Some(ca) = self.gateway_ca else { return Err(Refusal::Unexpected) };
        if !matches!(self.step, Step::Certificate) {
            return Err(Refusal::Order);
        }
        // What stands behind the leaf is not read: the pinned CA itself must have signed it.
        let Some(CertificateEntryRef::X509(leaf)) = shown.entries.first() else {
            return Err(Refusal::NoProof);
        };
        x509::verify(leaf, ca, self.server_name, self.now)
    }

    fn signature(&mut self, shown: &CertificateVerifyRef<'_>) -> Result<(), Refusal> {
        let step = core::mem::replace(&mut self.step, Step::Done);
        let Step::CertificateVerify(key, transcript) = step else { return Err(Refusal::Order) };
        if shown.signature_scheme != SignatureScheme::EcdsaSecp256r1Sha256 {
            return Err(Refusal::Algorithm);
        }
        let mut signed = [b' '; SIGNED];
        signed[64..64 + CONTEXT.len()].copy_from_slice(CONTEXT);
        signed[64 + CONTEXT.len()..].copy_from_slice(&transcript);
        let signature = Signature::from_der(shown.signature).map_err(|_| Refusal::Signature)?;
        key.verify(&signed, &signature).map_err(|_| Refusal::Signature)
    }

    fn refuse(&self, why: Refusal) -> TlsError {
        self.link.refuse(why);
        TlsError::InvalidCertificate
    }
}

impl TlsVerifier<Suite> for Verifier<'_> {
    /// The name is known since the provisioning.
    fn set_hostname_verification(&mut self, _: &str) -> Result<(), TlsError> {
        Ok(())
    }

    fn verify_certificate(
        &mut self,
        transcript: &Sha256,
        shown: CertificateRef<'_>,
    ) -> Result<(), TlsError> {
        let key = self.certificate(&shown).map_err(|why| self.refuse(why))?;
        self.step = Step::CertificateVerify(key, transcript.clone().finalize().into());
        Ok(())
    }

    fn verify_signature(&mut self, shown: CertificateVerifyRef<'_>) -> Result<(), TlsError> {
        self.signature(&shown).map_err(|why| self.refuse(why))?;
        self.link.prove();
        Ok(())
    }
}
