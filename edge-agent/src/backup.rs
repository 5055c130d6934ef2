//! Backup, restore and factory reset of the data folder of a gateway that is stopped.
//!
//! The file is read and judged by [`backup_archive`].
//!
//! # Invariants
//! - Nothing here works on the folder of an agent that runs: the lock is the one that the agent
//!   takes ([`hold`]).
//! - A restore changes nothing at its target before the whole archive was read and found whole, and
//!   then in one rename: a power cut leaves the old folder or the new one.
//! - The only whole copy of data is never deleted, wherever a restore is cut off ([`place`]).
//! - A reset that was cut off is finished as it was meant, and touches nothing that was made since
//!   ([`mod@reset`]).
//! - A store that an agent could not open becomes no backup.
//! - A restored store never continues the process run that wrote it: runs are drawn anew at each
//!   start, and a breadcrumb of the run before is one of a boot before.

mod hold;
mod place;
mod read;
mod reset;
mod restore;
mod save;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use place::{cut_off, half_of};
pub use reset::{Emptied, HalfReset, finish_reset, reset};
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
    /// The backup is in its place, and the system refused what comes behind that.
    #[error(
        "the backup is in its place, {target}{}; but {what}: {source}. Look whether the disk is well \
         before the agent is started",
        kept(.before.as_deref())
    )]
    Placed {
        /// Where it is.
        target: PathBuf,
        /// Where the data of before are, if there were any.
        before: Option<PathBuf>,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
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

fn kept(before: Option<&Path>) -> String {
    let told = |before: &Path| format!(", and what was there is in {}", before.display());
    before.map(told).unwrap_or_default()
}

/// The system refused to do something with a path.
fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let what = format!("{what} {}", path.display());
    move |source| BackupError::Io { what, source }
}

#[cfg(test)]
mod tests;
