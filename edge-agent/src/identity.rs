//! The gateway's identity: made by enrolment, kept in one file of the data directory, renewed by
//! [`crate::credentials`].
//!
//! The file is written at once and whole (temporary file, fsync, rename), readable by its owner
//! only. It holds the private key; nothing else on the gateway does.
//!
//! # Invariants
//! - One process at a time writes it: an enrolment beside a running agent and a renewal take turns.
//! - A renewal replaces only the identity that it renews, never one that was enrolled meanwhile.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sync_protocol::enroll::{self, Enrolled};
use sync_protocol::id::Digest;
use sync_protocol::topics;

use crate::tls;
use crate::uplink::mqtt::{self, Endpoint};
use crate::uplink::proxy::Route;

/// What enrolment left.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Gateway name, as in the certificate.
    pub gateway: String,
    /// Private key, PKCS#8 DER.
    key: Vec<u8>,
    /// What the control plane answered.
    pub enrolled: Enrolled,
    /// See [`Identity::enrolment`].
    enrolment: Digest,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Identity {
    /// Puts together what an enrolment left.
    #[must_use]
    pub fn new(gateway: String, key: Vec<u8>, enrolled: Enrolled) -> Self {
        let enrolment = Digest::of(&enrolled.certificate);
        Self { gateway, key, enrolled, enrolment }
    }

    /// Which enrolment this is: the digest of its first certificate, which renewals keep.
    #[must_use]
    pub fn enrolment(&self) -> Digest {
        self.enrolment
    }

    /// Where it lies.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("identity")
    }

    /// Reads the identity; `None` where the gateway never enrolled.
    ///
    /// # Errors
    /// The file cannot be read or is no identity.
    pub fn load(data_dir: &Path) -> io::Result<Option<Self>> {
        let path = Self::path(data_dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        Self::decode(&bytes, data_dir).map(Some)
    }

    /// Reads what [`Identity::save`] wrote.
    pub(crate) fn decode(bytes: &[u8], data_dir: &Path) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(|_| {
            let path = Self::path(data_dir);
            let text = format!("{} is damaged: enrol again with a new token", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    /// Writes the identity, whatever is there.
    ///
    /// # Errors
    /// The disk refuses, or another process writes it right now.
    pub fn save(&self, data_dir: &Path) -> io::Result<()> {
        let _lock = lock(data_dir)?;
        self.write(data_dir)
    }

    /// Writes the identity in the place of `old`.
    ///
    /// # Errors
    /// As [`Identity::save`]; or what is there is not `old`, and stays.
    pub(crate) fn replace(&self, old: &Self, data_dir: &Path) -> io::Result<()> {
        let _lock = lock(data_dir)?;
        let there = Self::load(data_dir)?;
        if !there.is_some_and(|there| there.is(old)) {
            let text = "the identity on disk is another one by now, which stays: this gateway was \
                        enrolled anew; restart the agent to use that";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.write(data_dir)
    }

    /// Whether both show the same certificate, with the same key.
    fn is(&self, other: &Self) -> bool {
        self.key == other.key && self.enrolled.certificate == other.enrolled.certificate
    }

    fn write(&self, data_dir: &Path) -> io::Result<()> {
        let bytes = postcard::to_stdvec(self).map_err(io::Error::other)?;
        tls::write_secret(&Self::path(data_dir), &bytes)
    }

    /// The private key, PKCS#8 DER.
    #[must_use]
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The same with a new key and the certificate (DER) for it.
    #[must_use]
    pub(crate) fn renewed(&self, key: Vec<u8>, certificate: Vec<u8>) -> Self {
        let enrolled = Enrolled { certificate, ..self.enrolled.clone() };
        Self { key, enrolled, ..self.clone() }
    }

    /// Where and as whom the uplink connects, without a proxy.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn endpoint(&self, tls: Arc<rustls::ClientConfig>) -> io::Result<Endpoint> {
        let (host, port) = split_endpoint(&self.enrolled.endpoint)?;
        let offline = sync_protocol::wire::Message::encode(&sync_protocol::wire::Presence::Offline)
            .map_err(io::Error::other)?;
        Ok(Endpoint {
            host,
            port,
            route: Route::Direct,
            client_id: self.gateway.clone(),
            login: None,
            keep_alive: mqtt::KEEP_ALIVE,
            subscribe: topics::down(&self.gateway),
            will: Some((topics::presence(&self.gateway), offline)),
            tls,
        })
    }
}

/// Held while the identity is written, which takes no longer than a sync: nobody waits for it.
fn lock(data_dir: &Path) -> io::Result<File> {
    let lock = File::create(data_dir.join("identity.lock"))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            let text = "another process writes the identity right now; try again";
            io::Error::new(io::ErrorKind::ResourceBusy, text)
        }
        TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

/// Splits `host:port`; an IPv6 address stands in brackets.
///
/// # Errors
/// It is neither.
pub fn split_endpoint(text: &str) -> io::Result<(String, u16)> {
    let (host, port) = enroll::split_endpoint(text).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is not host:port"))
    })?;
    Ok((host.to_owned(), port))
}
