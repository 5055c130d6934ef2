//! Where a restored folder goes: beside the target first, then into its place by one rename.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::hold::Hold;
use super::parts::{PARTS, STORE};
use super::{BackupError, io_error};

/// Old folders that are kept beside each other.
const KEPT_MAX: u32 = 100;

/// A target, and the folder beside it that is filled.
#[derive(Debug)]
pub(super) struct Place {
    target: PathBuf,
    parent: PathBuf,
    next: PathBuf,
    there: There,
}

/// What is at the target.
#[derive(Debug)]
enum There {
    Nothing,
    Empty(fs::Metadata),
    /// A gateway's data, which no agent uses.
    Data(fs::Metadata, #[expect(dead_code, reason = "held for its lock")] Hold),
}

impl Place {
    /// Judges a target; nothing is changed.
    pub(super) fn judge(target: &Path, force: bool) -> Result<Self, BackupError> {
        let refused = |text: String| Err(BackupError::Refused(text));
        let shown = target.display();
        let target = std::path::absolute(target).map_err(io_error("looking for", target))?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return refused(format!(
                "{shown} cannot be a gateway's folder: name one within a folder"
            ));
        };
        let parent = parent.canonicalize().map_err(io_error("looking for", parent))?;
        let target = parent.join(name);
        let there = match target.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
            Err(error) => return Err(io_error("looking at", &target)(error)),
            Ok(data) if !data.is_dir() => {
                return refused(format!("{shown} is not a folder: name the folder itself"));
            }
            Ok(data) if is_mount(&parent, &data)? => {
                return refused(format!(
                    "{shown} is a mount point, which cannot be replaced as a whole: name a folder in \
                     it, and let `data_dir` say so"
                ));
            }
            Ok(data) if is_empty(&target)? => There::Empty(data),
            Ok(_) if !force => {
                return refused(format!(
                    "{shown} is not empty: name another folder, or put the backup in its place with \
                     --force, which keeps the old one beside it"
                ));
            }
            Ok(data) => {
                check_is_data(&target)?;
                There::Data(data, Hold::take(&target, &target.join("control.sock"))?)
            }
        };
        let next = parent.join(format!(".{}.restoring", name.to_string_lossy()));
        Ok(Self { target, parent, next, there })
    }

    /// Makes the folder beside the target, empty; what a restore that was cut off left there goes.
    pub(super) fn begin(&self) -> Result<&Path, BackupError> {
        match fs::remove_dir_all(&self.next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("removing", &self.next)(error));
            }
            _ => {}
        }
        let made = DirBuilder::new().mode(0o700).create(&self.next);
        made.map_err(io_error("making", &self.next))?;
        Ok(&self.next)
    }

    /// Bytes that are free where it will be.
    pub(super) fn free_bytes(&self) -> Result<u64, BackupError> {
        let disk = rustix::fs::statvfs(&self.parent).map_err(io::Error::from);
        let disk = disk.map_err(io_error("looking at the disk of", &self.parent))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Removes the folder beside the target.
    pub(super) fn give_up(&self) {
        // Whoever restores again removes it first.
        let _ = fs::remove_dir_all(&self.next);
    }

    /// Puts the filled folder into its place. Returns where the old one is now, if there was one
    /// with something in it.
    pub(super) fn take(self) -> Result<Option<PathBuf>, BackupError> {
        let naming = io_error("naming", &self.target);
        if let There::Empty(data) | There::Data(data, _) = &self.there {
            adopt(&self.next, data)?;
        }
        let kept = match self.there {
            There::Nothing | There::Empty(_) => {
                // In the place of an empty folder too, and of no other.
                fs::rename(&self.next, &self.target).map_err(naming)?;
                None
            }
            There::Data(..) => {
                let swapped =
                    renameat_with(CWD, &self.next, CWD, &self.target, RenameFlags::EXCHANGE);
                swapped.map_err(|error| {
                    let what = format!(
                        "this file system cannot exchange two folders: move {} away by hand and \
                         restore again",
                        self.target.display()
                    );
                    BackupError::Io { what, source: error.into() }
                })?;
                Some(keep(&self.next, &self.target)?)
            }
        };
        let synced = File::open(&self.parent).and_then(|dir| dir.sync_all());
        synced.map_err(io_error("syncing", &self.parent))?;
        Ok(kept)
    }
}

fn is_mount(parent: &Path, data: &fs::Metadata) -> Result<bool, BackupError> {
    let above = parent.metadata().map_err(io_error("looking at", parent))?;
    Ok(above.dev() != data.dev())
}

fn is_empty(dir: &Path) -> Result<bool, BackupError> {
    let mut entries = fs::read_dir(dir).map_err(io_error("listing", dir))?;
    Ok(entries.next().is_none())
}

/// A folder that is no gateway's is not replaced, whatever is said.
fn check_is_data(dir: &Path) -> Result<(), BackupError> {
    let known = PARTS.iter().any(|part| {
        (part.name == STORE || part.is_identity) && dir.join(part.name).symlink_metadata().is_ok()
    });
    if known {
        return Ok(());
    }
    let text = format!("{} is not a gateway's folder: name another one", dir.display());
    Err(BackupError::Refused(text))
}

/// Mode and owner of the folder that was there. Another owner's can be given by root only.
fn adopt(next: &Path, like: &fs::Metadata) -> Result<(), BackupError> {
    let mode = fs::Permissions::from_mode(like.mode() & 0o777);
    fs::set_permissions(next, mode).map_err(io_error("setting the mode of", next))?;
    let own = next.metadata().map_err(io_error("looking at", next))?;
    if (own.uid(), own.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    let mut folders = vec![next.to_owned()];
    // Two levels: what was unpacked.
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(io_error("listing", &folder))? {
            let at = entry.map_err(io_error("listing", &folder))?.path();
            if at.is_dir() {
                folders.push(at);
            } else {
                give(&at, like)?;
            }
        }
        give(&folder, like)?;
    }
    Ok(())
}

/// Gives a file or folder to the owner of another one.
pub(super) fn give(at: &Path, like: &fs::Metadata) -> Result<(), BackupError> {
    let given = std::os::unix::fs::lchown(at, Some(like.uid()), Some(like.gid()));
    given.map_err(io_error("giving to the agent's user", at))
}

/// Names the old folder so that nobody takes it for a restore that was cut off.
fn keep(old: &Path, target: &Path) -> Result<PathBuf, BackupError> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for n in 0..KEPT_MAX {
        let end = if n == 0 { String::new() } else { format!("-{n}") };
        let kept = target.with_file_name(format!("{name}.before-restore{end}"));
        if kept.symlink_metadata().is_err() {
            fs::rename(old, &kept).map_err(io_error("naming", &kept))?;
            return Ok(kept);
        }
    }
    Ok(old.to_owned())
}
