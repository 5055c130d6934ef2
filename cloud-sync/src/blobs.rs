//! Artifacts on disk, named by their SHA-256.
//!
//! Invariants: a file under its final name is complete and was synced; it is never changed. What
//! is read is a slice of the file; who needs it whole verifies it (gateways do).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sync_protocol::Digest;

use crate::identity::sync_folder;

/// The blob store.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    aside: AtomicU64,
}

impl Blobs {
    /// Opens the store and removes what an interrupted upload left.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let asides = folder.join("new");
        fs::create_dir_all(&asides)?;
        for file in fs::read_dir(&asides)? {
            fs::remove_file(file?.path())?;
        }
        Ok(Self { folder: folder.to_owned(), aside: AtomicU64::new(0) })
    }

    /// Keeps `bytes` under their digest; does nothing when they are there.
    ///
    /// # Errors
    /// What the file system says; then nothing is kept.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        if path.exists() {
            return Ok(());
        }
        let n = self.aside.fetch_add(1, Ordering::Relaxed);
        let aside = self.folder.join("new").join(format!("{}-{n}", std::process::id()));
        let written = write_synced(&aside, bytes).and_then(|()| self.take_up(&aside, &path));
        if written.is_err() {
            // Best effort: what stays is removed at the next start.
            let _ = fs::remove_file(&aside);
        }
        written
    }

    fn take_up(&self, aside: &Path, path: &Path) -> io::Result<()> {
        let Some(folder) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
        fs::create_dir_all(folder)?;
        fs::rename(aside, path)?;
        sync_folder(folder)?;
        sync_folder(&self.folder)
    }

    /// Up to `len` bytes from `offset`; fewer only at the end.
    ///
    /// # Errors
    /// What the file system says, also when there is no such artifact.
    pub(crate) fn read(&self, digest: &Digest, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(digest))?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(name)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_kept_and_read_in_slices() {
        let temp = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(temp.path()).unwrap();
        let digest = Digest::of(b"0123456789");
        assert!(blobs.read(&digest, 0, 1).is_err());
        blobs.put(&digest, b"0123456789").unwrap();
        blobs.put(&digest, b"0123456789").unwrap();
        assert_eq!(blobs.read(&digest, 0, 4).unwrap(), b"0123");
        assert_eq!(blobs.read(&digest, 8, 64).unwrap(), b"89");
        assert_eq!(blobs.read(&digest, 10, 64).unwrap(), b"");
        assert_eq!(blobs.read(&digest, u64::MAX, 64).unwrap(), b"");
    }

    #[test]
    fn what_an_interrupted_upload_left_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        drop(Blobs::open(temp.path()).unwrap());
        let rest = temp.path().join("new/1-0");
        fs::write(&rest, b"half").unwrap();
        Blobs::open(temp.path()).unwrap();
        assert!(!rest.exists());
    }
}
