//! Artifacts while they are fetched. What is there outlives connections, and on a machine the
//! process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use sync_protocol::id::Digest;

/// Where an artifact is kept while it is fetched; one at a time is open.
pub trait Partial: Send {
    /// Opens an artifact to add to it. Returns how many bytes are there already.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&mut self, digest: Digest) -> io::Result<u64>;

    /// Adds bytes to the open one.
    ///
    /// # Errors
    /// They cannot be written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The open one is complete: it is closed. Returns where it is.
    fn complete(&mut self) -> PathBuf;

    /// Closes the open one, if there is one; its bytes stay.
    fn close(&mut self);
}

/// Files of a folder, named by their digests.
#[derive(Debug)]
pub struct PartialFolder {
    dir: PathBuf,
    open: Option<(PathBuf, File)>,
}

impl PartialFolder {
    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, open: None })
    }
}

impl Partial for PartialFolder {
    fn open(&mut self, digest: Digest) -> io::Result<u64> {
        let path = self.dir.join(digest.to_string());
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let have = file.metadata()?.len();
        self.open = Some((path, file));
        Ok(have)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (_, file) = self.open.as_mut().expect("invariant: opened before");
        file.write_all(bytes)
    }

    fn complete(&mut self) -> PathBuf {
        let (path, _) = self.open.take().expect("invariant: opened before");
        path
    }

    fn close(&mut self) {
        self.open = None;
    }
}
