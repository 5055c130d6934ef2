//! Who this control plane is: its directory, certificate authorities, certificates and secrets.
//!
//! Layout of the directory:
//!
//! | file | what |
//! |---|---|
//! | `cloud.toml` | instance id, names and addresses; no secret |
//! | `cloud.db` | the database |
//! | `blobs/` | artifacts by digest |
//! | `tls/gateway-ca.pem`, `.key` | signs gateways and this server; gateways pin it |
//! | `tls/device-ca.pem`, `.key` | signs devices; a gateway's key can never pass for a device's |
//! | `tls/server.pem`, `.key` | the server's own certificate, renewed at start when it is old |
//!
//! Invariants: private keys have mode 0600 from their first byte; bearer tokens are kept as
//! hashes only; the author's private key is never in this directory.

mod ca;
mod files;
mod init;
mod late;
mod settings;
mod tls;

pub use init::{InitOptions, InitReport, init};
pub use settings::Settings;

pub(crate) use ca::{Authority, IssueError, is_gateway_worn, series_of};
pub(crate) use files::sync_folder;
pub(crate) use tls::TlsFiles;

use std::path::PathBuf;

use ring::rand::{SecureRandom as _, SystemRandom};

/// Why the directory cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is a control plane already.
    #[error("{0} holds a control plane already; choose another directory")]
    Exists(PathBuf),
    /// There is none.
    #[error("{0} holds no control plane; make one with `holm cloud init`")]
    Missing(PathBuf),
    /// `cloud.toml` cannot be understood.
    #[error("{path}: {error}")]
    Settings {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// A certificate cannot be made or used.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The author key cannot be made.
    #[error(transparent)]
    Key(#[from] sync_protocol::revision::KeyError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Entropy,
    /// The database.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IdentityError::Entropy)?;
    Ok(bytes)
}
