//! Reading a backup: once through all of it without writing anything, and once more to unpack it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use backup_archive::seal::{self, Broken};
use backup_archive::{Manifest, parts, walk};

use super::{BackupError, io_error};

type Trouble = backup_archive::Trouble<BackupError>;

/// A backup that was read to its end and found whole.
#[derive(Debug)]
pub(super) struct Whole<'f> {
    path: &'f Path,
    file: File,
    body: u64,
    pub(super) manifest: Manifest,
}

/// Reads all of a backup and writes nothing.
pub(super) fn inspect(path: &Path) -> Result<Whole<'_>, BackupError> {
    let mut file = File::open(path).map_err(io_error("opening", path))?;
    let body = seal::verify(&mut file).map_err(|broken| match broken {
        Broken::Io(error) => io_error("reading", path)(error),
        Broken::Why(why) => damaged(path, why),
    })?;
    let manifest = walk(&mut file, body, |_, from| Ok(seal::copy(from, &mut io::sink())?));
    let manifest = manifest.map_err(|trouble| blame(path, trouble))?;
    if !crate::settings::is_name(&manifest.gateway) {
        return Err(damaged(path, "the name of its gateway is none"));
    }
    Ok(Whole { path, file, body, manifest })
}

fn damaged(file: &Path, why: impl Into<String>) -> BackupError {
    BackupError::Damaged { file: file.to_owned(), why: why.into() }
}

fn blame(path: &Path, trouble: Trouble) -> BackupError {
    match trouble {
        Trouble::Archive(why) => damaged(path, why),
        Trouble::Target(error) => error,
    }
}

impl Whole<'_> {
    /// Unpacks to an empty folder all files that `wanted` wants, and checks them again: the file may
    /// have been changed since it was inspected. Everything is durable when this returns.
    pub(super) fn unpack(
        &mut self,
        to: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), BackupError> {
        let again = walk(&mut self.file, self.body, |path, from| {
            if !wanted(path) {
                return Ok(seal::copy(from, &mut io::sink())?);
            }
            write_file(&to.join(path), from)
        });
        let again = again.map_err(|trouble| blame(self.path, trouble))?;
        if again != self.manifest {
            return Err(damaged(self.path, "somebody changed it while it was read"));
        }
        sync_folders(to)
    }
}

fn write_file(to: &Path, from: &mut dyn Read) -> Result<u64, Trouble> {
    let refused = |error| Trouble::Target(io_error("writing", to)(error));
    if let Some(folder) = to.parent()
        && !folder.is_dir()
    {
        fs::DirBuilder::new().mode(0o700).create(folder).map_err(refused)?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut file = Noted { file: file.map_err(refused)?, error: None };
    match seal::copy(from, &mut file) {
        Ok(bytes) => file.file.sync_all().map(|()| bytes).map_err(refused),
        Err(error) => Err(match file.error.take() {
            Some(error) => refused(error),
            None => Trouble::from(error),
        }),
    }
}

/// Remembers that it was the target that failed.
struct Noted {
    file: File,
    error: Option<io::Error>,
}

impl Write for Noted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The folder and those in it.
fn sync_folders(dir: &Path) -> Result<(), BackupError> {
    let sync = |at: &Path| {
        File::open(at).and_then(|open| open.sync_all()).map_err(io_error("syncing", at))
    };
    for part in parts::PARTS.iter().filter(|part| part.is_folder) {
        let at = dir.join(part.name);
        if at.is_dir() {
            sync(&at)?;
        }
    }
    sync(dir)
}
