//! Folders that packages are made from: files with their modes, all of one time, and the tools that
//! pack them. Whoever packs, whenever and wherever, gets the same bytes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sync_protocol::Digest;

use crate::command::run;

/// A folder that becomes a package.
#[derive(Debug)]
pub(crate) struct Stage {
    root: PathBuf,
    /// Seconds since 1970 that all its files are from (`SOURCE_DATE_EPOCH`).
    epoch: u64,
}

impl Stage {
    /// An empty one at `root`; what was there is removed.
    pub(crate) fn new(root: &Path, epoch: u64) -> Result<Self> {
        if root.exists() {
            std::fs::remove_dir_all(root).with_context(|| root.display().to_string())?;
        }
        make_dir(root)?;
        Ok(Self { root: root.to_owned(), epoch })
    }

    /// Its folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts a file into it, and the folders above.
    pub(crate) fn put(&self, path: &str, mode: u32, contents: &[u8]) -> Result<()> {
        let file = self.root.join(path);
        self.dirs(Path::new(path).parent().context("a file lies in a folder")?)?;
        std::fs::write(&file, contents).with_context(|| file.display().to_string())?;
        // Whatever the umask of this process.
        std::fs::set_permissions(&file, Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Makes a folder and those above, each open to all.
    pub(crate) fn dirs(&self, path: &Path) -> Result<()> {
        let mut dir = self.root.clone();
        for part in path.components() {
            dir.push(part);
            if !dir.is_dir() {
                make_dir(&dir)?;
            }
        }
        Ok(())
    }

    /// A `.tar.gz` of it, of files that belong to root.
    pub(crate) fn tar_gz(&self, to: &Path) -> Result<()> {
        let tar = to.with_extension("");
        self.tar(&tar, "0")?;
        gzip(&tar)
    }

    /// A `.tar` of it, of files that belong to this user (a number).
    pub(crate) fn tar(&self, to: &Path, owner: &str) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--format=ustar", "--sort=name", "--numeric-owner"]);
        tar.arg(format!("--owner={owner}")).arg(format!("--group={owner}"));
        tar.arg(format!("--mtime=@{}", self.epoch));
        tar.arg("--file").arg(to).arg("--directory").arg(&self.root).arg(".");
        run(tar)
    }

    /// A Debian package of it.
    pub(crate) fn deb(&self, to: &Path) -> Result<()> {
        let mut deb = Command::new("dpkg-deb");
        deb.args(["--root-owner-group", "-Zxz", "--build"]).arg(&self.root).arg(to);
        // dpkg-deb takes it for its own times, and for those of files that are newer.
        deb.env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        run(deb)
    }
}

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    Ok(())
}

/// Replaces a file by `FILE.gz`, which holds neither its name nor its time.
pub(crate) fn gzip(file: &Path) -> Result<()> {
    let mut gzip = Command::new("gzip");
    gzip.args(["--force", "--no-name", "-9"]).arg(file);
    run(gzip)
}

/// SHA-256 of a file, in hexadecimal digits, and its length in bytes.
pub(crate) fn digest(file: &Path) -> Result<(String, u64)> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    Ok((Digest::of(&bytes).to_string(), bytes.len() as u64))
}
