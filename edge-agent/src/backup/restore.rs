//! `edge-agent restore`: a backup becomes a data folder.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::place::{Place, Placed};
use super::save::is_identity;
use super::{BackupError, read};

/// Space that a restore leaves free: the agent makes its reserve of 2 MiB, logs and such at once.
const SPARE_BYTES: u64 = 8 << 20;

/// How to restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Onto another machine, which takes the place of the old one: without its identity. The
    /// enrolment of the new one makes the certificate of the old one void.
    pub as_replacement: bool,
    /// In the place of another gateway's data, which are kept beside it.
    pub force: bool,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// Name of the gateway that was backed up.
    pub gateway: String,
    /// Version of the agent that made the backup.
    pub agent: String,
    /// When, by the clock of that machine, in seconds since 1970.
    pub made_unix_s: u64,
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the gateway is the one that it was; else it has to be enrolled.
    pub identity: bool,
    /// Where the data are that were there before.
    pub before: Option<PathBuf>,
    /// Where a whole folder is that an earlier restore had left when it was cut off: the data of
    /// before, or another copy of a backup.
    pub left_over: Option<PathBuf>,
}

/// Restores a backup to `target`.
///
/// # Errors
/// See [`BackupError`]; but for [`BackupError::Placed`] the target is as it was.
pub fn restore(file: &Path, target: &Path, options: Options) -> Result<Restored, BackupError> {
    restore_to(file, target, options, Place::free_bytes)
}

/// The same on a disk that has so much room.
pub(super) fn restore_to(
    file: &Path,
    target: &Path,
    options: Options,
    free_bytes: impl Fn(&Place) -> Result<u64, BackupError>,
) -> Result<Restored, BackupError> {
    let mut whole = read::inspect(file)?;
    let place = Place::judge(target, options.force)?;
    let manifest = whole.manifest.clone();
    let wanted = |path: &str| !(options.as_replacement && is_identity(path));
    // First: it makes the room that a restore which was cut off has taken.
    let left_over = place.begin()?;
    let (needed, free) = (manifest.bytes().saturating_add(SPARE_BYTES), free_bytes(&place)?);
    if free < needed {
        place.give_up();
        return Err(BackupError::Refused(format!(
            "restoring takes {needed} bytes and {free} are free: make room on the disk of {}",
            target.display()
        )));
    }
    whole.unpack(place.folder(), wanted).inspect_err(|_| place.give_up())?;
    let Placed { before } = place.take()?;
    let files: Vec<_> = manifest.files.iter().filter(|(path, _)| wanted(path)).collect();
    Ok(Restored {
        files: files.len(),
        bytes: files.iter().map(|(_, file)| file.bytes).sum(),
        identity: files.iter().any(|(path, _)| is_identity(path)),
        gateway: manifest.gateway,
        agent: manifest.agent,
        made_unix_s: manifest.made_unix_s,
        before,
        left_over,
    })
}
