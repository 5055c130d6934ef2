//! Signed manifests and components on disk, named by their digest.
//!
//! A file is in the library only when its digest was checked; what is being fetched or half
//! written is elsewhere (`partial/`). A file of the library is never written in place.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sync_protocol::id::Digest;

/// The library of a gateway.
#[derive(Clone, Debug)]
pub(super) struct Library {
    dir: PathBuf,
}

impl Library {
    /// Opens or makes the library.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("library");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    /// Whether a file is there.
    #[must_use]
    pub(super) fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Reads a file and checks its digest again: a card forgets.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is damaged (then it is removed, to be fetched again).
    pub(super) fn read(
        &self,
        digest: Digest,
        digest_of: impl Fn(&[u8]) -> Option<Digest>,
    ) -> io::Result<Vec<u8>> {
        let path = self.path(digest);
        let bytes = fs::read(&path)?;
        if digest_of(&bytes) == Some(digest) {
            return Ok(bytes);
        }
        fs::remove_file(&path)?;
        let text = format!("{digest} was damaged on disk and is removed");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// Adds bytes whose digest was checked by the caller.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn add(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        if self.has(digest) {
            return Ok(());
        }
        let next = self.dir.join(format!("{digest}.new"));
        let mut file = fs::File::create(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, self.path(digest))?;
        fs::File::open(&self.dir)?.sync_all()
    }

    /// Removes everything else.
    ///
    /// # Errors
    /// The folder cannot be read; a file that cannot be removed is left.
    pub(super) fn keep_only(&self, keep: &BTreeSet<Digest>) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !digest.is_some_and(|digest| keep.contains(&digest)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}
