//! Files that hold secrets: only their owner may read them, and a reader never sees half of one.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use crate::failure::{Done, Failure};

/// Writes `bytes` to `path` with mode 0600, through a temporary file beside it.
///
/// # Errors
/// The folder cannot be made or the file not be written.
pub fn write(path: &Path, bytes: &[u8]) -> Done {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    };
    fs::create_dir_all(dir).map_err(|error| Failure::file("make", dir, &error))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = Path::new(&temporary);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(temporary).map_err(failed)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(temporary, path));
    if written.is_err() {
        // The failure below says more than a second one about the leftover would.
        let _ = fs::remove_file(temporary);
    }
    written.map_err(failed)
}

/// What to say when others may read a secret file; `None` where they may not.
#[must_use]
pub fn complaint(path: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path).ok()?.permissions().mode();
        if mode & 0o077 != 0 {
            let path = path.display();
            return Some(format!("others may read {path}: run `chmod 600 {path}`"));
        }
    }
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
}
