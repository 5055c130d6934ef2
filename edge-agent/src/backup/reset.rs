//! `edge-agent reset`: a data folder as on the first day.
//!
//! The identity goes first, then the store by one rename, then the rest. Cut off in between, the
//! gateway starts with an empty store or does not know who it is; a second reset finishes.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use backup_archive::parts::{PARTS, Part, STORE, STORE_GONE};
use serde::Serialize;

use super::hold::Hold;
use super::{BackupError, io_error};

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Emptied {
    /// What was deleted.
    pub deleted: Vec<String>,
    /// What is in the folder and is not the agent's; it stays.
    pub left: Vec<String>,
}

/// Deletes what an agent keeps in a folder; `socket` is where it would answer.
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
    let _hold = Hold::take(data_dir, socket)?;
    let mut emptied = Emptied::default();
    for part in PARTS.iter().filter(|part| part.is_identity && !keep_identity) {
        delete(data_dir, part, &mut emptied)?;
    }
    sync(data_dir)?;
    let gone = data_dir.join(STORE_GONE);
    delete_folder(&gone)?;
    fs::rename(&store, &gone).map_err(io_error("moving", &store))?;
    sync(data_dir)?;
    emptied.deleted.push(STORE.to_owned());
    // An agent that is started now is kept out as well, until all is gone.
    let _new_hold = Hold::of_store(data_dir, STORE)?;
    let rest = |part: &&Part| !part.is_identity && part.name != STORE;
    for part in PARTS.iter().filter(rest) {
        delete(data_dir, part, &mut emptied)?;
    }
    emptied.deleted.retain(|name| name != STORE_GONE);
    emptied.deleted.sort();
    sync(data_dir)?;
    emptied.left = others(data_dir, keep_identity)?;
    Ok(emptied)
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
