//! The certificate that the uplink shows, and its renewal while the gateway runs.
//!
//! The control plane knows what time it is, so it says when a certificate is worn. The gateway makes
//! a new key, asks for a certificate for it, and shows that from the next connection on.
//!
//! # Invariants
//! - The new certificate is shown only after key and certificate are on disk, in one file. Until
//!   then, and wherever a message was lost, the old one serves, and the control plane says it again.
//! - A certificate is taken only for the key that was made for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, KeyPair};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::identity::Identity;
use crate::tls::{self, TimeFloor};
use crate::uplink::mqtt::Endpoint;

/// See the module.
#[derive(Debug)]
pub struct Credentials {
    data_dir: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    identity: Identity,
    shown: Arc<CertifiedKey>,
    /// The key of a certificate that was asked for and has not come yet.
    asked: Option<KeyPair>,
}

impl Credentials {
    /// Those of an identity that is kept in `data_dir`.
    ///
    /// # Errors
    /// The identity does not hold what TLS needs.
    pub fn new(identity: Identity, data_dir: &Path) -> io::Result<Arc<Self>> {
        let shown = Arc::new(certified(&identity)?);
        let held = Mutex::new(Held { identity, shown, asked: None });
        Ok(Arc::new(Self { data_dir: data_dir.to_owned(), held }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change below is complete in itself.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where and how the uplink connects.
    ///
    /// # Errors
    /// The identity does not hold what TLS needs.
    pub fn endpoint(self: &Arc<Self>, time: Arc<TimeFloor>) -> io::Result<Endpoint> {
        let identity = self.held().identity.clone();
        let ca = CertificateDer::from(identity.enrolled.gateway_ca.clone());
        let own: Arc<dyn ResolvesClientCert> = Arc::<Self>::clone(self);
        identity.endpoint(tls::enrolled(ca, own, time)?)
    }

    /// The signing request (PKCS#10, DER) for a new certificate. Until one is taken all requests are
    /// for the same key, so that an answer fits whichever request it is for.
    ///
    /// # Errors
    /// No key can be made.
    pub fn request(&self) -> io::Result<Vec<u8>> {
        let mut held = self.held();
        let key = match held.asked.take() {
            Some(key) => key,
            None => KeyPair::generate().map_err(io::Error::other)?,
        };
        let csr = CertificateParams::default().serialize_request(&key).map_err(io::Error::other);
        held.asked = Some(key);
        Ok(csr?.der().to_vec())
    }

    /// Takes a new certificate (DER): writes it with its key, and shows it from now on.
    ///
    /// # Errors
    /// It is not for the key that was asked for, the disk refuses, or the identity on disk is not the
    /// held one any more (the gateway was enrolled anew); what is there stays.
    pub fn take(&self, certificate: Vec<u8>) -> io::Result<()> {
        let mut held = self.held();
        let nobody = || io::Error::new(io::ErrorKind::InvalidData, "nobody asked for it");
        let key = held.asked.as_ref().ok_or_else(nobody)?.serialize_der();
        let identity = held.identity.renewed(key, certificate);
        let shown = Arc::new(certified(&identity)?);
        identity.replace(&held.identity, &self.data_dir)?;
        *held = Held { identity, shown, asked: None };
        Ok(())
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.held().shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Certificate and key, which must fit each other.
///
/// # Errors
/// They do not, or one of them is none.
pub(crate) fn certified(identity: &Identity) -> io::Result<CertifiedKey> {
    let own = CertificateDer::from(identity.enrolled.certificate.clone());
    let key = PrivateKeyDer::Pkcs8(identity.key().to_vec().into());
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(vec![own], key, &provider)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

#[cfg(test)]
mod tests {
    use sync_protocol::enroll::Enrolled;
    use sync_protocol::id::InstanceId;

    use super::*;

    fn self_signed(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().self_signed(key).expect("a certificate").der().to_vec()
    }

    fn identity(key: &KeyPair) -> Identity {
        let enrolled = Enrolled {
            certificate: self_signed(key),
            gateway_ca: vec![1],
            endpoint: "localhost:1".to_owned(),
            instance: InstanceId([1; 16]),
            author_keys: Vec::new(),
        };
        Identity::new("gw".to_owned(), key.serialize_der(), enrolled)
    }

    /// The key of the certificate that is asked for.
    fn asked(credentials: &Credentials) -> KeyPair {
        let held = credentials.held();
        let key = held.asked.as_ref().expect("a key").serialize_der();
        KeyPair::try_from(key).expect("a key")
    }

    #[test]
    fn a_renewal_gives_way_to_an_enrolment_beside_it_and_keeps_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let [old, new] = [(); 2].map(|()| identity(&KeyPair::generate().expect("a key")));
        let on_disk = || Identity::load(dir.path()).expect("read").expect("there");
        old.save(dir.path()).expect("written");
        let credentials = Credentials::new(old.clone(), dir.path()).expect("they fit");
        let shown = || credentials.resolve(&[], &[]).expect("one").cert[0].to_vec();
        credentials.request().expect("a request");
        credentials.take(self_signed(&asked(&credentials))).expect("it fits");
        assert_eq!(on_disk().enrolment(), old.enrolment(), "a renewal is no enrolment");

        credentials.request().expect("a request");
        let before = shown();
        new.save(dir.path()).expect("the agent holds no lock");
        let refused = credentials.take(self_signed(&asked(&credentials)));
        assert!(refused.is_err_and(|error| error.to_string().contains("enrolled anew")));
        assert_eq!(on_disk().enrolled.certificate, new.enrolled.certificate);
        assert_ne!(on_disk().enrolment(), old.enrolment());
        assert_eq!(shown(), before, "until the agent starts again");
    }

    #[test]
    fn a_new_certificate_is_shown_once_it_is_on_disk_and_only_for_its_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let old = identity(&key);
        old.save(dir.path()).expect("written");
        let credentials = Credentials::new(old, dir.path()).expect("they fit");
        let shown = || credentials.resolve(&[], &[]).expect("one").cert[0].to_vec();
        let on_disk = || Identity::load(dir.path()).expect("read").expect("there");
        let before = shown();
        assert!(credentials.take(self_signed(&key)).is_err(), "nobody asked");

        let first = credentials.request().expect("a request");
        let again = credentials.request().expect("a request");
        let spki = |csr: &[u8]| {
            let csr = rcgen::CertificateSigningRequestParams::from_der(&csr.to_vec().into());
            rcgen::PublicKeyData::subject_public_key_info(&csr.expect("a request").public_key)
        };
        assert_eq!(spki(&first), spki(&again), "one key until a certificate comes");
        assert!(credentials.take(self_signed(&key)).is_err(), "it is for the old key");
        assert_eq!((shown(), on_disk().enrolled.certificate), (before.clone(), before.clone()));

        let new = self_signed(&asked(&credentials));
        credentials.take(new.clone()).expect("it fits");
        assert_eq!((shown(), on_disk().enrolled.certificate), (new.clone(), new));
        assert!(credentials.take(before).is_err(), "that was all");
        Credentials::new(on_disk(), dir.path()).expect("key and certificate on disk fit");
    }
}
