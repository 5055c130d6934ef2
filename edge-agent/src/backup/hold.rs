//! A data folder that no agent uses, and that none can begin to use.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use backup_archive::parts::STORE;

use super::place::give;
use super::{BackupError, io_error};
use crate::store::disk::{LOCK_FILE, SystemDisk};

/// Holds the lock of the store until dropped. An agent that is started meanwhile says that the
/// store is in use, and ends.
#[derive(Debug)]
pub(super) struct Hold(#[expect(dead_code, reason = "held for its lock")] SystemDisk);

impl Hold {
    /// Takes a folder; `socket` is where its agent would answer. An agent whose store is broken
    /// holds no lock, but it answers.
    ///
    /// # Errors
    /// An agent uses it, or the system refuses.
    pub(super) fn take(data_dir: &Path, socket: &Path) -> Result<Self, BackupError> {
        if UnixStream::connect(socket).is_ok() {
            return Err(BackupError::Running(data_dir.to_owned()));
        }
        Self::of_store(data_dir, STORE)
    }

    /// The same for a store of another name, without a look at the socket.
    ///
    /// # Errors
    /// As [`Hold::take`].
    pub(super) fn of_store(data_dir: &Path, store: &str) -> Result<Self, BackupError> {
        let store = data_dir.join(store);
        let taken = SystemDisk::take(&store).map_err(|error| match error.kind() {
            std::io::ErrorKind::ResourceBusy => BackupError::Running(data_dir.to_owned()),
            _ => io_error("taking", &store)(error),
        })?;
        // What root has made here is for the agent's user, who owns the folder.
        let owner = data_dir.metadata().map_err(io_error("looking at", data_dir))?;
        for at in [store.join(LOCK_FILE), store] {
            let own = at.metadata().map_err(io_error("looking at", &at))?;
            if own.uid() != owner.uid() {
                give(&at, &owner)?;
            }
        }
        Ok(Self(taken))
    }
}
