//! Boot parts from Debian's packages: fetched by a private apt, which leaves the host's alone,
//! unpacked, and recorded with versions, digests and licences.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::apt::{Apt, SUITE, file_name, is_unpacked, unpacked};
use super::board::Board;

/// Packages that every image has files of: commands, file system tools, SSH, Wi-Fi, their libraries.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "e2fsprogs",
    "dropbear-bin",
    "wpasupplicant",
    "wireless-regdb",
    "libc6",
    "libblkid1",
    "libcap2",
    "libcom-err2",
    "libcrypt1",
    "libdbus-1-3",
    "libext2fs2t64",
    "libgmp10",
    "libnl-3-200",
    "libnl-genl-3-200",
    "libnl-route-3-200",
    "libpcsclite1",
    "libssl3t64",
    "libsystemd0",
    "libtomcrypt1",
    "libtommath1",
    "libuuid1",
    "libzstd1",
    "zlib1g",
];

/// Those of a board.
fn boot_packages(board: Board) -> &'static [&'static str] {
    if board.is_pi() {
        &["u-boot-rpi", "raspi-firmware", "firmware-brcm80211"]
    } else {
        &["u-boot-qemu"]
    }
}

/// A package that is in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// SHA-256 of the file, which apt checked against Debian's signature.
    pub(crate) sha256: String,
}

/// What was fetched and unpacked.
#[derive(Debug)]
pub(crate) struct Parts {
    dir: PathBuf,
    /// The packages.
    pub(crate) packages: Vec<Package>,
}

/// Which versions are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Those that were fetched before; the newest where none was.
    AsBefore,
    /// The newest of the release.
    Newest,
}

impl Parts {
    /// Fetches and unpacks what is missing in `dir`.
    pub(crate) fn fetch(dir: &Path, board: Board, versions: Versions) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let dir = std::fs::canonicalize(dir)?;
        let list = dir.join(format!("{}.json", if board.is_pi() { "pi" } else { "virt" }));
        if versions == Versions::AsBefore
            && let Some(parts) = Self::of_before(&dir, &list, board)
        {
            return Ok(parts);
        }
        let apt = Apt::new(&dir, "arm64")?;
        apt.update()?;
        let kernel = apt.kernel("linux-image-arm64")?;
        let names = PACKAGES.iter().chain(boot_packages(board)).copied();
        let mut packages = Vec::new();
        for name in names.chain([kernel.as_str()]) {
            packages.push(apt.download(name)?);
        }
        let parts = Self { dir, packages };
        std::fs::write(&list, serde_json::to_vec_pretty(&parts.to_json())?)?;
        Ok(parts)
    }

    /// `None` where something is missing or is not what it was.
    fn of_before(dir: &Path, list: &Path, board: Board) -> Option<Self> {
        let value: Value = serde_json::from_slice(&std::fs::read(list).ok()?).ok()?;
        let packages = value.as_array()?.iter().map(|row| {
            let text = |key: &str| row[key].as_str().map(str::to_owned);
            Some(Package {
                name: text("package")?,
                version: text("version")?,
                sha256: text("sha256")?,
            })
        });
        let packages: Vec<_> = packages.collect::<Option<_>>()?;
        let whole = |package: &Package| is_unpacked(dir, package);
        // A newer image may need packages that the last one did not.
        let has = |name: &&str| packages.iter().any(|package| package.name == **name);
        let is_complete = PACKAGES.iter().chain(boot_packages(board)).all(has);
        (is_complete && packages.iter().all(whole)).then(|| Self { dir: dir.to_owned(), packages })
    }

    /// The packages as they are recorded.
    pub(crate) fn to_json(&self) -> Value {
        let rows = self.packages.iter().map(|package| {
            let Package { name, version, sha256 } = package;
            json!({ "package": name, "version": version, "sha256": sha256 })
        });
        Value::Array(rows.collect())
    }

    /// A file or folder of a package.
    pub(crate) fn path(&self, package: &str, path: &str) -> Result<PathBuf> {
        let found = self.packages.iter().find(|found| found.name == package);
        let found = found.with_context(|| format!("no package {package}"))?;
        let file = unpacked(&self.dir, found).join(path);
        ensure!(file.exists(), "{package} {} has no {path}", found.version);
        Ok(file)
    }

    /// The package of the kernel.
    pub(crate) fn kernel(&self) -> Result<&Package> {
        let found = self.packages.iter().find(|package| package.name.starts_with("linux-image-"));
        found.context("no kernel among the packages")
    }

    /// Its version as the kernel itself tells it: the name of the folder of modules.
    pub(crate) fn kernel_version(&self) -> Result<String> {
        let name = &self.kernel()?.name;
        Ok(name.trim_start_matches("linux-image-").to_owned())
    }

    /// Where what is made of these parts is kept from build to build.
    pub(crate) fn made(&self) -> Result<PathBuf> {
        let kernel = self.kernel()?;
        let dir = self.dir.join("made").join(file_name(kernel));
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Packages, versions, digests and licences as a text, with the licences' full texts.
    pub(crate) fn licences(&self) -> Result<String> {
        let mut table = format!(
            "Parts of this image that come from Debian {SUITE}. Their source is Debian's source\n\
             package of the same version (`apt-get source PACKAGE=VERSION`).\n\n"
        );
        let mut texts = String::new();
        for package in &self.packages {
            let Package { name, version, sha256 } = package;
            let path = self.path(name, &format!("usr/share/doc/{name}/copyright"))?;
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            writeln!(table, "{name} {version}\n  sha256 {sha256}\n  {}", short(&text))?;
            writeln!(texts, "\n{}\n{name} {version}\n{0}\n\n{text}", "=".repeat(72))?;
        }
        Ok(table + &texts)
    }
}

/// The licences that a machine-readable copyright file names.
fn short(copyright: &str) -> String {
    let named = copyright.lines().filter_map(|line| line.strip_prefix("License:"));
    let named: BTreeSet<_> = named.map(str::trim).filter(|name| !name.is_empty()).collect();
    if named.is_empty() {
        return "licence: see its text below".to_owned();
    }
    format!("licences: {}", named.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn licences_are_named_once() {
        let text = "Files: *\nLicense: MIT\n\nFiles: a\nLicense: GPL-2\n\nLicense: MIT\n text\n";
        assert_eq!(short(text), "licences: GPL-2, MIT");
        assert!(short("This is BSD.\n").contains("below"));
    }
}
