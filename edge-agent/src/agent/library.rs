//! Signed manifests and components, named by their digest.
//!
//! A file is in the library only when its digest was checked; what is being fetched or half
//! written is elsewhere (`partial/`). A file of the library is never written in place.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sync_protocol::id::Digest;

/// Where the files are.
pub trait Shelf: Send + Sync {
    /// Whether a file is there.
    fn has(&self, digest: Digest) -> bool;

    /// Reads a file.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    fn read(&self, digest: Digest) -> io::Result<Vec<u8>>;

    /// Adds a file that is not there; it is durable and whole afterwards.
    ///
    /// # Errors
    /// The disk refuses.
    fn add(&self, digest: Digest, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// It is not there or stays.
    fn remove(&self, digest: Digest) -> io::Result<()>;

    /// Removes everything else; a file that cannot be removed is left.
    ///
    /// # Errors
    /// The files cannot be listed.
    fn keep_only(&self, keep: &BTreeSet<Digest>) -> io::Result<()>;

    /// Reads what the uplink fetched to `path`, and removes it there.
    ///
    /// # Errors
    /// It cannot be read or removed.
    fn take_fetched(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The library of a gateway.
#[derive(Clone)]
pub(super) struct Library(Arc<dyn Shelf>);

impl Library {
    /// A library of what stands on a shelf.
    #[must_use]
    pub(super) fn new(shelf: Arc<dyn Shelf>) -> Self {
        Self(shelf)
    }

    /// Whether a file is there.
    #[must_use]
    pub(super) fn has(&self, digest: Digest) -> bool {
        self.0.has(digest)
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
        let bytes = self.0.read(digest)?;
        if digest_of(&bytes) == Some(digest) {
            return Ok(bytes);
        }
        self.0.remove(digest)?;
        let text = format!("{digest} was damaged on disk and is removed");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// Adds bytes whose digest was checked by the caller.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn add(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        if self.has(digest) { Ok(()) } else { self.0.add(digest, bytes) }
    }

    /// Removes everything else.
    ///
    /// # Errors
    /// The files cannot be listed.
    pub(super) fn keep_only(&self, keep: &BTreeSet<Digest>) -> io::Result<()> {
        self.0.keep_only(keep)
    }

    /// Reads what the uplink fetched to `path`, and removes it there.
    ///
    /// # Errors
    /// It cannot be read or removed.
    pub(super) fn take_fetched(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.take_fetched(path)
    }
}

/// A folder of files.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("library");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }
}

impl Shelf for Folder {
    fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    fn read(&self, digest: Digest) -> io::Result<Vec<u8>> {
        fs::read(self.path(digest))
    }

    fn add(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let next = self.dir.join(format!("{digest}.new"));
        let mut file = fs::File::create(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, self.path(digest))?;
        fs::File::open(&self.dir)?.sync_all()
    }

    fn remove(&self, digest: Digest) -> io::Result<()> {
        fs::remove_file(self.path(digest))
    }

    fn keep_only(&self, keep: &BTreeSet<Digest>) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !digest.is_some_and(|digest| keep.contains(&digest)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn take_fetched(&self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = fs::read(path)?;
        fs::remove_file(path)?;
        Ok(bytes)
    }
}
