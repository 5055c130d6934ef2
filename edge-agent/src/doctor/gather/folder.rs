//! The data folder: its disk, what is in it, and who may do what.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use backup_archive::parts::{PARTS, STORE};

use super::trust::trouble;
use crate::doctor::facts::{Access, Disk, FileFact, FileKind, HalfReset, Heads, Sizes, Trouble};
use crate::settings::Settings;
use crate::store::{self, OpenError, is_segment};

/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 20_000;

/// The disk under the folder, or under the nearest one above that is there.
pub(super) fn disk(data: &Path) -> Disk {
    let there = data.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("."));
    match rustix::fs::statvfs(there) {
        Ok(disk) => Disk {
            unknown: None,
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            all_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            free_files: (disk.f_files > 0).then_some(disk.f_favail),
        },
        Err(error) => {
            let error = io::Error::from(error);
            Disk { unknown: Some(format!("{}: {error}", there.display())), ..Disk::default() }
        }
    }
}

/// Files of a folder with what is known of them; none where there is no folder.
fn entries(dir: &Path) -> io::Result<Vec<(String, Metadata)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries.take(ENTRIES_MAX) {
        let entry = entry?;
        match entry.metadata() {
            // Deleted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => found.push((entry.file_name().to_string_lossy().into_owned(), file?)),
        }
    }
    Ok(found)
}

/// When the journal was last written, in seconds since 1970.
pub(super) fn written_unix_s(data: &Path) -> Option<u64> {
    let store = entries(&data.join(STORE)).ok()?;
    let segments = store.into_iter().filter(|(name, _)| is_segment(name));
    let written = segments.filter_map(|(_, file)| file.modified().ok());
    let since = written.max()?.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// The files of the store are looked into where no agent has them open.
pub(super) fn sizes(data: &Path, store_bytes_max: u64, is_down: bool) -> Sizes {
    let mut unlisted = None;
    let mut list = |folder: &str| {
        let at = data.join(folder);
        entries(&at).unwrap_or_else(|error| {
            unlisted.get_or_insert_with(|| trouble(&at.display().to_string(), &error));
            Vec::new()
        })
    };
    let store = list(STORE);
    let of = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        store.iter().filter(|(name, _)| wanted(name)).map(|(_, file)| file.len()).sum()
    };
    let mut all = |folder: &str| -> u64 { list(folder).iter().map(|(_, file)| file.len()).sum() };
    let (library_bytes, compiled_bytes) = (all("library"), all("compiled"));
    Sizes {
        unlisted,
        journal_bytes: of(&is_segment),
        checkpoint_bytes: of(&|name| name == "checkpoint.redb"),
        ballast_bytes: of(&|name| name == "ballast"),
        has_store: store.iter().any(|(name, _)| is_segment(name) || name == "checkpoint.redb"),
        library_bytes,
        compiled_bytes,
        store_bytes_max,
        // What cannot be looked at here cannot be listed either.
        half_reset: HalfReset::find(data).ok().flatten(),
        heads: if is_down { heads(&data.join(STORE)) } else { Heads::Unseen },
    }
}

fn heads(store: &Path) -> Heads {
    match store::check_heads(store) {
        Ok(()) => Heads::Good,
        Err(OpenError::Io { step, source }) => Heads::Bad(trouble(&step, &source)),
        Err(error) => Heads::Bad(Trouble::Wrong(error.to_string())),
    }
}

/// Everything whose permissions matter and that is there.
pub(super) fn files(settings: &Settings) -> Vec<FileFact> {
    let data = &settings.data_dir;
    let mut wanted: Vec<(PathBuf, FileKind)> = vec![(data.clone(), FileKind::Data)];
    for part in PARTS {
        let kind = if part.is_identity { FileKind::Secret } else { FileKind::Owned };
        wanted.push((data.join(part.name), kind));
    }
    wanted.push((data.join("store/checkpoint.redb"), FileKind::Owned));
    wanted.push((data.join("store/lock"), FileKind::Owned));
    wanted.push((data.join("compiled/artifact.key"), FileKind::Secret));
    let keys = settings.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    wanted.extend(keys.map(|tls| (tls.key.clone(), FileKind::Key)));
    wanted.into_iter().filter_map(|(path, kind)| fact(&path, kind)).collect()
}

/// `None` where there is no such file: whoever needs it says so itself.
fn fact(path: &Path, kind: FileKind) -> Option<FileFact> {
    let access = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
        Ok(file) => Ok(Access {
            mode: file.mode() & 0o7777,
            writable: is_writable(path),
            owner: file.uid(),
            is_own: [0, file.uid()].contains(&rustix::process::geteuid().as_raw()),
        }),
    };
    Some(FileFact { path: path.display().to_string(), kind, access })
}

fn is_writable(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(path, Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listed_is_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        let none = sizes(data, 1, true);
        assert!(none.unlisted.is_none() && !none.has_store && matches!(none.heads, Heads::Good));
        fs::write(data.join("library"), "no folder").unwrap();
        let odd = sizes(data, 1, true);
        assert!(matches!(&odd.unlisted, Some(Trouble::Wrong(why)) if why.contains("library")));
    }

    #[test]
    fn a_store_is_looked_into_unless_an_agent_may_have_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        fs::create_dir(data.join(STORE)).unwrap();
        fs::write(data.join("store/checkpoint.redb"), vec![7; 5_000]).unwrap();
        let bad = sizes(data, 1, true).heads;
        assert!(matches!(&bad, Heads::Bad(Trouble::Wrong(why)) if why.contains("redb")), "{bad:?}");
        assert!(matches!(sizes(data, 1, false).heads, Heads::Unseen));
        // A reset that was cut off, and one that another store was made behind.
        fs::rename(data.join(STORE), data.join("store.reset")).unwrap();
        let half = sizes(data, 1, true).half_reset;
        assert_eq!(half, Some(HalfReset::Pending { keep_identity: true }));
        fs::create_dir(data.join(STORE)).unwrap();
        fs::write(data.join("store/journal-00.seg"), "").unwrap();
        assert_eq!(sizes(data, 1, true).half_reset, Some(HalfReset::Rest));
    }
}
