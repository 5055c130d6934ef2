//! Files that hold secrets: only their owner may read them, and a reader never sees half of one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::failure::{Done, Failure};

/// Writes `bytes` to `path` with mode 0600, through a temporary file beside it.
///
/// # Errors
/// The folder cannot be made or the file not be written.
pub fn write(path: &Path, bytes: &[u8]) -> Done {
    Staged::new(path, bytes)?.keep()
}

/// A file that is written, but not in its place yet: [`Staged::keep`] puts it there, else it goes.
#[derive(Debug)]
pub struct Staged {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Staged {
    /// Writes `bytes` beside `path`, with mode 0600.
    ///
    /// # Errors
    /// The folder cannot be made or the file not be written.
    pub fn new(path: &Path, bytes: &[u8]) -> Done<Self> {
        let failed = |error: io::Error| Failure::file("write", path, &error);
        let dir = folder(path);
        fs::create_dir_all(dir).map_err(|error| Failure::file("make", dir, &error))?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(failed)?;
        let mut staged = Self { file, temporary: temporary.into(), path: path.to_owned() };
        staged.file.write_all(bytes).map_err(failed)?;
        Ok(staged)
    }

    /// Gives it the owner and group of its folder, as far as this process may: root, who installs
    /// a gateway, does so for the user that the agent runs as.
    ///
    /// # Errors
    /// The system refuses for another reason than missing rights.
    pub fn owned_by_folder(self) -> Done<Self> {
        let given = fs::metadata(folder(&self.path)).and_then(|like| self.give_to(&like));
        match given {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                Err(Failure::file("give away", &self.path, &error))
            }
            Ok(()) | Err(_) => Ok(self),
        }
    }

    /// Gives it owner, group and mode of another file.
    ///
    /// # Errors
    /// The system refuses.
    pub fn with_rights_of(self, like: &Metadata) -> Done<Self> {
        self.give_to(like)
            .and_then(|()| self.file.set_permissions(like.permissions()))
            .map_err(|error| Failure::file("keep owner and mode of", &self.path, &error))?;
        Ok(self)
    }

    /// Lets everybody read it: it holds no secret.
    ///
    /// # Errors
    /// The system refuses.
    pub fn public(self) -> Done<Self> {
        self.file
            .set_permissions(fs::Permissions::from_mode(0o644))
            .map_err(|error| Failure::file("write", &self.path, &error))?;
        Ok(self)
    }

    fn give_to(&self, like: &Metadata) -> io::Result<()> {
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) == (like.uid(), like.gid()) {
            return Ok(());
        }
        fchown(&self.file, Some(like.uid()), Some(like.gid()))
    }

    /// Puts it in its place, for good.
    ///
    /// # Errors
    /// The system refuses.
    pub fn keep(self) -> Done {
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .map_err(|error| Failure::file("write", &self.path, &error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once in its place there is none; else what failed says more than this could.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    }
}

/// What to say when others may read a secret file; `None` where they may not.
#[must_use]
pub fn complaint(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let path = path.display();
    (mode & 0o077 != 0).then(|| format!("others may read {path}: run `chmod 600 {path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/secret");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(complaint(&path), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(complaint(&path).unwrap().contains("chmod 600"));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn a_file_that_is_not_kept_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write(&path, b"one").unwrap();
        drop(Staged::new(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no leftovers");
    }
}
