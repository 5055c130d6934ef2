//! Files that survive a power cut: written aside, synced, renamed, and the folder synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::IdentityError;

/// Mode of secrets.
pub(super) const SECRET: u32 = 0o600;
/// Mode of everything else.
pub(super) const PUBLIC: u32 = 0o644;

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = PathBuf::from(path);
    move |source| IdentityError::File { path, source }
}

/// Writes a file that must not be there yet; it has its mode from the first byte.
pub(super) fn create(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(at(path))
}

/// Replaces a file.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(&aside)(error)),
    }
    create(&aside, text, mode)?;
    fs::rename(&aside, path).map_err(at(path))?;
    match path.parent() {
        Some(folder) => sync_folder(folder).map_err(at(folder)),
        None => Ok(()),
    }
}

pub(super) fn read(path: &Path) -> Result<String, IdentityError> {
    fs::read_to_string(path).map_err(at(path))
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
