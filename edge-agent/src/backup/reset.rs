//! `edge-agent reset`: a data folder as on the first day.
//!
//! # Invariants
//! - One rename begins it: of the store, to a name that says what becomes of the identity. Before it
//!   nothing is changed.
//! - What has that name goes last, when everything else is durably gone: as long as it is there beside
//!   no other store the reset was cut off. Whoever uses the folder next finishes it as it was meant
//!   ([`finish_reset`]), before a new store or identity is made.
//! - A store that was made behind it is never touched: then only what the reset left is deleted.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use backup_archive::parts::{PARTS, Part, STORE, STORE_GONE, STORE_GONE_ALL};
use serde::Serialize;

use super::hold::Hold;
use super::{BackupError, io_error};
use crate::store;

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Emptied {
    /// What was deleted.
    pub deleted: Vec<String>,
    /// What is in the folder and is not the agent's; it stays.
    pub left: Vec<String>,
    /// Whether the identity was left.
    pub identity_stays: bool,
    /// Whether this was the rest of a reset that had been cut off.
    pub finished: bool,
}

/// What a reset left that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfReset {
    /// It is to be finished.
    Pending {
        /// The identity stays.
        keep_identity: bool,
    },
    /// The old store only: a new one was made since.
    Rest,
}

impl HalfReset {
    /// What there is in a data folder.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn find(data_dir: &Path) -> io::Result<Option<Self>> {
        let is_there = |name: &str| match data_dir.join(name).symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        let keep_identity = is_there(STORE_GONE)?;
        if !keep_identity && !is_there(STORE_GONE_ALL)? {
            return Ok(None);
        }
        let is_over = store::is_made(&data_dir.join(STORE))?;
        Ok(Some(if is_over { Self::Rest } else { Self::Pending { keep_identity } }))
    }

    fn look(data_dir: &Path) -> Result<Option<Self>, BackupError> {
        Self::find(data_dir).map_err(io_error("looking at", data_dir))
    }
}

/// Deletes what an agent keeps in a folder; `socket` is where it would answer. One that was cut off is
/// finished: the identity goes if that one said so and this one does too.
///
/// # Errors
/// See [`BackupError`].
pub fn reset(data_dir: &Path, socket: &Path, keep_identity: bool) -> Result<Emptied, BackupError> {
    if !data_dir.is_dir() {
        let text = format!("{} is no folder: there is nothing to reset", data_dir.display());
        return Err(BackupError::Refused(text));
    }
    let store = data_dir.join(STORE);
    if store.is_symlink() {
        let text = format!("{} is a link: empty what it leads to, and remove it", store.display());
        return Err(BackupError::Refused(text));
    }
    let hold = Hold::take(data_dir, socket)?;
    match HalfReset::look(data_dir)? {
        Some(HalfReset::Pending { keep_identity: kept }) => {
            if keep_identity && !kept {
                spare_identity(data_dir)?;
            }
            go_on(data_dir, kept || keep_identity, true)
        }
        Some(HalfReset::Rest) => {
            delete_old_store(data_dir)?;
            anew(data_dir, hold, keep_identity)
        }
        None => anew(data_dir, hold, keep_identity),
    }
}

/// Finishes a reset of a folder that was cut off, if one was, before anything is made in it.
///
/// # Errors
/// See [`BackupError`].
pub fn finish_reset(data_dir: &Path) -> Result<Option<Emptied>, BackupError> {
    if HalfReset::look(data_dir)?.is_none() {
        return Ok(None);
    }
    let _hold = Hold::of_store(data_dir, STORE)?;
    // It may be over by now: who held the lock was at it.
    match HalfReset::look(data_dir)? {
        Some(HalfReset::Pending { keep_identity }) => {
            go_on(data_dir, keep_identity, true).map(Some)
        }
        Some(HalfReset::Rest) => {
            // It takes room, and keeps no gateway from its work.
            if let Err(error) = delete_old_store(data_dir) {
                tracing::warn!(%error, "what a reset left stays");
            }
            Ok(None)
        }
        None => Ok(None),
    }
}

fn anew(data_dir: &Path, hold: Hold, keep_identity: bool) -> Result<Emptied, BackupError> {
    begin(data_dir, keep_identity)?;
    // An agent that is started now is kept out as well, until all is gone.
    let _new_hold = Hold::of_store(data_dir, STORE)?;
    drop(hold);
    go_on(data_dir, keep_identity, false)
}

/// From here on it is to be finished.
fn begin(data_dir: &Path, keep_identity: bool) -> Result<(), BackupError> {
    let (store, gone) = (data_dir.join(STORE), data_dir.join(gone(keep_identity)));
    fs::rename(&store, &gone).map_err(io_error("moving", &store))?;
    sync(data_dir)
}

/// One that was begun for the identity as well spares what is left of it.
fn spare_identity(data_dir: &Path) -> Result<(), BackupError> {
    let (from, to) = (data_dir.join(STORE_GONE_ALL), data_dir.join(STORE_GONE));
    fs::rename(&from, &to).map_err(io_error("moving", &from))?;
    sync(data_dir)
}

fn gone(keep_identity: bool) -> &'static str {
    if keep_identity { STORE_GONE } else { STORE_GONE_ALL }
}

/// What comes behind [`begin`]; each step is durable before the next one.
fn go_on(data_dir: &Path, keep_identity: bool, finished: bool) -> Result<Emptied, BackupError> {
    let mut emptied = Emptied { finished, identity_stays: keep_identity, ..Emptied::default() };
    emptied.deleted.push(STORE.to_owned());
    for is_identity in [true, false] {
        let is_due = |part: &&Part| part.is_identity == is_identity && !is_store(part);
        for part in PARTS.iter().filter(is_due).filter(|part| !(part.is_identity && keep_identity))
        {
            delete(data_dir, part, &mut emptied)?;
        }
        sync(data_dir)?;
    }
    delete_old_store(data_dir)?;
    emptied.deleted.sort();
    emptied.left = others(data_dir, keep_identity)?;
    Ok(emptied)
}

fn is_store(part: &Part) -> bool {
    [STORE, STORE_GONE, STORE_GONE_ALL].contains(&part.name)
}

/// The last step: its folder goes when all that is in it has gone.
fn delete_old_store(data_dir: &Path) -> Result<(), BackupError> {
    for name in [STORE_GONE_ALL, STORE_GONE] {
        delete_folder(&data_dir.join(name))?;
    }
    sync(data_dir)
}

fn delete(dir: &Path, part: &Part, emptied: &mut Emptied) -> Result<(), BackupError> {
    let at = dir.join(part.name);
    if at.symlink_metadata().is_err() {
        return Ok(());
    }
    if part.is_folder {
        delete_folder(&at)?;
    } else {
        fs::remove_file(&at).map_err(io_error("deleting", &at))?;
    }
    emptied.deleted.push(part.name.to_owned());
    Ok(())
}

fn delete_folder(at: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("deleting", at)(error))
        }
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|open| open.sync_all()).map_err(io_error("syncing", dir))
}

fn others(dir: &Path, keep_identity: bool) -> Result<Vec<String>, BackupError> {
    let own = |name: &str| {
        let kept = |part: &Part| part.name == STORE || (keep_identity && part.is_identity);
        PARTS.iter().any(|part| part.name == name && kept(part))
    };
    let mut left = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("listing", dir))? {
        let name = entry.map_err(io_error("listing", dir))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !own(&name) {
            left.push(name);
        }
    }
    left.sort();
    Ok(left)
}

#[cfg(test)]
mod tests;
