//! Backup, restore and factory reset of the data folder of a gateway that is stopped.
//!
//! # The archive
//! A gzipped tar with a trailer behind it ([`seal`]): the files, and last a manifest with path,
//! size and SHA-256 of each ([`manifest`]). `tar tzf` lists it.
//!
//! # Invariants
//! - Nothing here works on the folder of an agent that runs: the lock is the one that the agent
//!   takes ([`hold`]).
//! - A restore changes nothing at its target before the whole archive was read and found whole, and
//!   then in one rename: a power cut leaves the old folder or the new one.
//! - What an archive may hold is a closed list ([`parts`]); a path, a kind or a size that a backup
//!   does not make is refused, whoever wrote the archive.
//! - A restored store never continues the process run that wrote it: runs are drawn anew at each
//!   start, and a breadcrumb of the run before is one of a boot before.

mod hold;
mod manifest;
pub(crate) mod parts;
mod place;
mod read;
mod reset;
mod restore;
mod save;
mod seal;

use std::io;
use std::path::{Path, PathBuf};

pub use manifest::{Manifest, Saved};
pub use reset::{Emptied, reset};
pub use restore::{Options, Restored, restore};
pub use save::{BackedUp, back_up};

/// Why nothing was backed up, restored or deleted.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// An agent uses the folder.
    #[error("an agent uses {0}: stop it first (`systemctl stop edge-agent`)")]
    Running(PathBuf),
    /// The request cannot be carried out; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// The file is no backup, or not whole.
    #[error("{file} is not a whole backup: {why}. Nothing was changed; take another copy of it")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        source: io::Error,
    },
}

/// The system refused to do something with a path.
fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let what = format!("{what} {}", path.display());
    move |source| BackupError::Io { what, source }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
