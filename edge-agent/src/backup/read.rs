//! Reading a backup: once through all of it without writing anything, and once more to unpack it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

use super::manifest::{self, Manifest, Saved};
use super::seal::{self, Broken, Hashed};
use super::{BackupError, hex, io_error, parts};

/// A backup that was read to its end and found whole.
#[derive(Debug)]
pub(super) struct Whole<'f> {
    path: &'f Path,
    file: File,
    body: u64,
    pub(super) manifest: Manifest,
}

/// What is wrong while an archive is read.
enum Trouble {
    /// With the archive.
    Archive(String),
    /// With what it is unpacked to.
    Target(BackupError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Archive(error.to_string())
    }
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

/// Goes through the entries. `each` takes the contents of one and says how many bytes that were.
fn walk(
    file: &mut File,
    body: u64,
    mut each: impl FnMut(&str, &mut dyn Read) -> Result<u64, Trouble>,
) -> Result<Manifest, Trouble> {
    file.rewind()?;
    let mut archive = Archive::new(GzDecoder::new(io::BufReader::new((&*file).take(body))));
    let mut found = BTreeMap::new();
    let mut manifest = None;
    // Raw: long names and extended headers are kinds of entries that a backup does not make.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let path = path_of(&entry)?;
        if manifest.is_some() {
            return Err(Trouble::Archive(format!("{path:?} stands behind the manifest")));
        }
        if path == manifest::NAME {
            manifest = Some(read_manifest(&mut entry, &found)?);
            continue;
        }
        check(&entry, &path, found.len())?;
        let bytes = entry.size();
        let mut hashed = Hashed::new(&mut entry);
        let read = each(&path, &mut hashed)?;
        let (_, _, hash) = hashed.finish();
        if read != bytes {
            return Err(Trouble::Archive(format!("{path:?} is cut short")));
        }
        if found.insert(path.clone(), Saved { bytes, sha256: hex(&hash) }).is_some() {
            return Err(Trouble::Archive(format!("{path:?} stands in it twice")));
        }
    }
    manifest.ok_or_else(|| Trouble::Archive("it has no manifest".to_owned()))
}

fn path_of(entry: &Entry<'_, impl Read>) -> Result<String, Trouble> {
    let path = String::from_utf8(entry.path_bytes().into_owned());
    let path = path.map_err(|_| Trouble::Archive("a path is not UTF-8".to_owned()))?;
    let kind = entry.header().entry_type();
    if kind != EntryType::Regular {
        let why = format!("{path:?} is not an ordinary file ({kind:?})");
        return Err(Trouble::Archive(why));
    }
    Ok(path)
}

fn check(entry: &Entry<'_, impl Read>, path: &str, before: usize) -> Result<(), Trouble> {
    if parts::of_path(path).is_none() {
        return Err(Trouble::Archive(format!("{path:?} belongs to no backup")));
    }
    if entry.size() > manifest::FILE_BYTES_MAX {
        return Err(Trouble::Archive(format!("{path:?} is larger than any file of a gateway")));
    }
    if before >= manifest::FILES_MAX {
        return Err(Trouble::Archive(format!("it has over {} files", manifest::FILES_MAX)));
    }
    Ok(())
}

fn read_manifest(
    entry: &mut Entry<'_, impl Read>,
    found: &BTreeMap<String, Saved>,
) -> Result<Manifest, Trouble> {
    if entry.size() > manifest::BYTES_MAX {
        return Err(Trouble::Archive("its manifest is too long".to_owned()));
    }
    let mut text = Vec::new();
    entry.take(manifest::BYTES_MAX).read_to_end(&mut text)?;
    Manifest::judge(&text, found).map_err(Trouble::Archive)
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
