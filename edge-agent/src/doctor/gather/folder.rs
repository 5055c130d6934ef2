//! The data folder: its disk, what is in it, and who may do what.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use backup_archive::parts::{PARTS, STORE, STORE_GONE};

use crate::doctor::facts::{Access, Disk, FileFact, FileKind, Sizes};
use crate::settings::Settings;

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

/// Files of a folder with what is known of them; none where it cannot be listed.
fn entries(dir: &Path) -> Vec<(String, Metadata)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let entries = entries.take(ENTRIES_MAX).filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, entry.metadata().ok()?))
        })
        .collect()
}

fn is_segment(name: &str) -> bool {
    name.starts_with("journal-") && name.ends_with(".seg")
}

/// When the journal was last written, in seconds since 1970.
pub(super) fn written_unix_s(data: &Path) -> Option<u64> {
    let segments = entries(&data.join(STORE)).into_iter().filter(|(name, _)| is_segment(name));
    let written = segments.filter_map(|(_, file)| file.modified().ok());
    let since = written.max()?.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

pub(super) fn sizes(data: &Path, store_bytes_max: u64) -> Sizes {
    let store = entries(&data.join(STORE));
    let of = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        store.iter().filter(|(name, _)| wanted(name)).map(|(_, file)| file.len()).sum()
    };
    let all = |folder: &str| -> u64 {
        entries(&data.join(folder)).iter().map(|(_, file)| file.len()).sum()
    };
    Sizes {
        journal_bytes: of(&is_segment),
        checkpoint_bytes: of(&|name| name == "checkpoint.redb"),
        ballast_bytes: of(&|name| name == "ballast"),
        has_store: store.iter().any(|(name, _)| is_segment(name) || name == "checkpoint.redb"),
        library_bytes: all("library"),
        compiled_bytes: all("compiled"),
        store_bytes_max,
        is_half_reset: data.join(STORE_GONE).exists(),
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
        }),
    };
    Some(FileFact { path: path.display().to_string(), kind, access })
}

fn is_writable(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(path, Access::WRITE_OK).is_ok()
}
