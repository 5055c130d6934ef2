//! Where a restored folder goes: filled beside the target, then into its place by one rename.
//!
//! Beside the target `X` stand, while a restore is under way or where one was cut off:
//!
//! | folder | what it is |
//! |---|---|
//! | `.X.restoring` | a backup that is unpacked, or a part of one: worth nothing |
//! | `.X.restored` | whole: the backup just before the exchange, the data of before just behind it |
//! | `X.before-restore`, `X.before-restore-1`, ... | data of before, for people to delete |
//!
//! A folder is called `.X.restored` once all of it is durable, then changes places with `X`, then is
//! called `X.before-restore`. Where a target is named by a link, `X` is the folder that it leads to. Which side of the exchange a power cut fell on cannot be told from the
//! names, so what is called `.X.restored` is never deleted ([`leftovers`]).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use backup_archive::parts::{PARTS, STORE};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::hold::Hold;
use super::{BackupError, io_error};

/// Old folders that are kept beside each other.
const KEPT_MAX: u32 = 100;

/// A target, and the folders beside it.
#[derive(Debug)]
pub(super) struct Place {
    target: PathBuf,
    parent: PathBuf,
    half: PathBuf,
    whole: PathBuf,
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

/// What becomes of a folder that an earlier restore left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leftover {
    /// There is none.
    None,
    /// It is worth nothing.
    Delete,
    /// It may be the only whole copy of something: it gets a name that people see.
    Keep,
}

/// What becomes of `.X.restoring` and of `.X.restored`, by whether they are there.
fn leftovers(half: bool, whole: bool) -> (Leftover, Leftover) {
    let of = |there, then| if there { then } else { Leftover::None };
    (of(half, Leftover::Delete), of(whole, Leftover::Keep))
}

/// The backup is in its place.
#[derive(Debug)]
pub(super) struct Placed {
    /// Where the data of before are, if there were any.
    pub(super) before: Option<PathBuf>,
}

impl Place {
    /// Judges a target; nothing is changed.
    pub(super) fn judge(target: &Path, force: bool) -> Result<Self, BackupError> {
        let refused = |text: String| Err(BackupError::Refused(text));
        let shown = target.display();
        let target = real(target)?;
        let parent = folder_of(&target)?.to_owned();
        let there = match target.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
            Err(error) => return Err(io_error("looking at", &target)(error)),
            Ok(data) if !data.is_dir() => {
                return refused(format!("{shown} is not a folder: name another one"));
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
        let (half, whole) = (beside(&target, RESTORING), beside(&target, RESTORED));
        Ok(Self { target, parent, half, whole, there })
    }

    /// Makes the folder beside the target, empty. What restores that were cut off left there goes, or
    /// gets a name; that name is returned.
    pub(super) fn begin(&self) -> Result<Option<PathBuf>, BackupError> {
        let (half, whole) = leftovers(is_there(&self.half)?, is_there(&self.whole)?);
        let kept = match whole {
            Leftover::None | Leftover::Delete => None,
            Leftover::Keep => Some(self.keep()?),
        };
        sync(&self.parent).map_err(io_error("syncing", &self.parent))?;
        if half != Leftover::None {
            fs::remove_dir_all(&self.half).map_err(io_error("removing", &self.half))?;
        }
        // Found out now rather than when it is needed.
        free_name(&self.target)?;
        let made = DirBuilder::new().mode(0o700).create(&self.half);
        made.map_err(io_error("making", &self.half))?;
        Ok(kept)
    }

    /// The folder to fill.
    pub(super) fn folder(&self) -> &Path {
        &self.half
    }

    /// Bytes that are free where it will be.
    pub(super) fn free_bytes(&self) -> Result<u64, BackupError> {
        let disk = rustix::fs::statvfs(&self.parent).map_err(io::Error::from);
        let disk = disk.map_err(io_error("looking at the disk of", &self.parent))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Removes the folder that was filled; the target is as it was.
    pub(super) fn give_up(&self) {
        // Whoever restores again removes it first.
        let _ = fs::remove_dir_all(&self.half);
    }

    /// Puts the filled folder, which is durable, into its place.
    ///
    /// # Errors
    /// [`BackupError::Placed`] where that is done and what comes behind it fails; else the target is
    /// as it was, and nothing is left beside it.
    pub(super) fn take(&self) -> Result<Placed, BackupError> {
        self.arrive().inspect_err(|_| self.give_up())?;
        self.settle()
    }

    /// The folder is in its place.
    fn arrive(&self) -> Result<(), BackupError> {
        if let There::Empty(data) | There::Data(data, _) = &self.there {
            adopt(&self.half, data)?;
        }
        match self.there {
            // In the place of an empty folder too, and of no other.
            There::Nothing | There::Empty(_) => {
                fs::rename(&self.half, &self.target).map_err(io_error("naming", &self.target))
            }
            There::Data(..) => {
                self.call_whole()?;
                self.exchange().inspect_err(|_| {
                    // Nobody's only copy: it was unpacked by this process.
                    let _ = fs::rename(&self.whole, &self.half);
                })
            }
        }
    }

    /// From here on it is not deleted.
    fn call_whole(&self) -> Result<(), BackupError> {
        fs::rename(&self.half, &self.whole).map_err(io_error("naming", &self.whole))?;
        sync(&self.parent).map_err(io_error("syncing", &self.parent)).inspect_err(|_| {
            let _ = fs::rename(&self.whole, &self.half);
        })
    }

    fn exchange(&self) -> Result<(), BackupError> {
        let swapped = renameat_with(CWD, &self.whole, CWD, &self.target, RenameFlags::EXCHANGE);
        swapped.map_err(|error| {
            let what = format!(
                "this file system cannot exchange two folders: move {} away by hand and restore again",
                self.target.display()
            );
            BackupError::Io { what, source: error.into() }
        })
    }

    /// What comes behind the arrival.
    fn settle(&self) -> Result<Placed, BackupError> {
        let mut before = matches!(self.there, There::Data(..)).then(|| self.whole.clone());
        let failed = |what, before: Option<PathBuf>, source| BackupError::Placed {
            target: self.target.clone(),
            before,
            what,
            source,
        };
        // Before the old one has another name: by the one that it has it is known.
        sync(&self.parent)
            .map_err(|source| failed("syncing its folder", before.clone(), source))?;
        if before.is_some() {
            let naming = |error| failed("naming what was there", before.clone(), error);
            let kept = self.keep().map_err(|error| naming(io::Error::other(error)))?;
            before = Some(kept);
            sync(&self.parent)
                .map_err(|source| failed("syncing its folder", before.clone(), source))?;
        }
        Ok(Placed { before })
    }

    /// Gives what is whole and beside the target a name that people see.
    fn keep(&self) -> Result<PathBuf, BackupError> {
        let kept = free_name(&self.target)?;
        fs::rename(&self.whole, &kept).map_err(io_error("naming", &kept))?;
        Ok(kept)
    }
}

/// Where a target is: what its name leads to, if that is a link. The link stays as it is.
fn real(target: &Path) -> Result<PathBuf, BackupError> {
    let absolute = std::path::absolute(target).map_err(io_error("looking for", target))?;
    let parent = folder_of(&absolute)?;
    let parent = parent.canonicalize().map_err(io_error("looking for", parent))?;
    let named = parent.join(absolute.file_name().unwrap_or_default());
    let Ok(to) = fs::read_link(&named) else { return Ok(named) };
    named.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BackupError::Refused(format!(
            "{} is a link to {}, which is not there: make that folder, or name another one",
            target.display(),
            to.display()
        )),
        _ => io_error("looking for", &named)(error),
    })
}

/// The folder that a target is in.
fn folder_of(target: &Path) -> Result<&Path, BackupError> {
    target.parent().filter(|_| target.file_name().is_some()).ok_or_else(|| {
        let shown = target.display();
        BackupError::Refused(format!(
            "{shown} cannot be a gateway's folder: name one within a folder"
        ))
    })
}

/// How a folder beside a target ends that is being filled.
const RESTORING: &str = "restoring";
/// How a whole folder beside a target ends.
const RESTORED: &str = "restored";

/// A folder beside a target while a restore is under way.
fn beside(target: &Path, what: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{what}"))
}

/// What a restore to `target` that was cut off around the exchange left, if it is there.
pub(crate) fn cut_off(target: &Path) -> Option<PathBuf> {
    let whole = beside(&real(target).ok()?, RESTORED);
    whole.symlink_metadata().is_ok().then_some(whole)
}

/// What a restore to `target` that was cut off while it filled a folder left, if it is there: a part of a
/// backup, which may hold the private key. One that is under way has it too.
pub(crate) fn half_of(target: &Path) -> Option<PathBuf> {
    let half = beside(&real(target).ok()?, RESTORING);
    half.symlink_metadata().is_ok().then_some(half)
}

fn is_there(path: &Path) -> Result<bool, BackupError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("looking at", path)(error)),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all())
}

/// A name beside a target that nothing has yet.
fn free_name(target: &Path) -> Result<PathBuf, BackupError> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    for n in 0..KEPT_MAX {
        let end = if n == 0 { String::new() } else { format!("-{n}") };
        let free = target.with_file_name(format!("{name}.before-restore{end}"));
        if !is_there(&free)? {
            return Ok(free);
        }
    }
    let text = format!(
        "{KEPT_MAX} folders are kept as {name}.before-restore: delete those that nobody needs"
    );
    Err(BackupError::Refused(text))
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

#[cfg(test)]
mod tests;
