//! Boot parts from Debian's packages: fetched by a private apt, which leaves the host's alone,
//! unpacked, and recorded with versions, digests and licences.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use system_tests::ledger;

use super::board::Board;
use super::tool::{output, run, tool};

/// The release of Debian that the parts come from.
const SUITE: &str = "trixie";
/// Where its packages are, unless `HOLM_DEBIAN_MIRROR` names another mirror.
const MIRROR: &str = "http://deb.debian.org/debian";
/// Debian's keys, by which apt checks what a mirror gives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The package that depends on the newest kernel.
const KERNEL: &str = "linux-image-arm64";

/// Packages that every image has files of: commands, file system tools, SSH, their libraries.
const PACKAGES: &[&str] = &[
    "busybox-static", "e2fsprogs", "dropbear-bin", "libc6", "libblkid1", "libcom-err2",
    "libcrypt1", "libext2fs2t64", "libgmp10", "libtomcrypt1", "libtommath1", "libuuid1", "zlib1g",
];

/// Those of a board.
fn boot_packages(board: Board) -> &'static [&'static str] {
    if board.is_pi() { &["u-boot-rpi", "raspi-firmware"] } else { &["u-boot-qemu"] }
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
            && let Some(parts) = Self::of_before(&dir, &list)
        {
            return Ok(parts);
        }
        let apt = Apt::new(&dir)?;
        apt.update()?;
        let kernel = apt.kernel()?;
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
    fn of_before(dir: &Path, list: &Path) -> Option<Self> {
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
        let whole = |package: &Package| unpacked(dir, package).join(DONE).is_file();
        packages.iter().all(whole).then(|| Self { dir: dir.to_owned(), packages })
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

/// Lies in the folder of a package that is wholly unpacked.
const DONE: &str = ".unpacked";

fn file_name(package: &Package) -> String {
    format!("{}_{}", package.name, package.version.replace([':', '/'], "_"))
}

fn unpacked(dir: &Path, package: &Package) -> PathBuf {
    dir.join("unpacked").join(file_name(package))
}

/// An apt with lists, cache and status of its own, for arm64.
#[derive(Debug)]
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new(dir: &Path) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "the boot parts come from Debian's packages, checked by {KEYRING}, which is not here; \
             install debian-archive-keyring, or build the image on Debian"
        );
        for folder in ["lists/partial", "archives/partial", "unpacked"] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        let mirror = std::env::var("HOLM_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
        let source = format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main non-free-firmware\n");
        std::fs::write(dir.join("sources.list"), source)?;
        // Nothing counts as installed.
        std::fs::write(dir.join("status"), "")?;
        let place = dir.display();
        let config = format!(
            "Dir::State \"{place}\";\nDir::State::lists \"{place}/lists\";\n\
             Dir::State::status \"{place}/status\";\nDir::Cache \"{place}\";\n\
             Dir::Cache::archives \"{place}/archives\";\n\
             Dir::Etc::sourcelist \"{place}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             APT::Architecture \"arm64\";\nAPT::Architectures {{ \"arm64\"; }};\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\nAcquire::Retries \"3\";\n\
             Acquire::http::Timeout \"60\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        std::fs::write(dir.join("apt.conf"), config)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = tool(program, 0);
        command.env("APT_CONFIG", self.dir.join("apt.conf"));
        command.current_dir(self.dir.join("archives"));
        command
    }

    fn update(&self) -> Result<()> {
        let updated = run(self.command("apt-get").args(["update", "-q", "--error-on=any"]));
        updated.context("Debian's package lists; `HOLM_DEBIAN_MIRROR` names another mirror")
    }

    /// The newest kernel.
    fn kernel(&self) -> Result<String> {
        let shown = self.show(KERNEL)?;
        let depends = field(&shown, "Depends").context("no Depends")?;
        let name = depends.split([' ', ',']).next().unwrap_or_default();
        ensure!(name.starts_with("linux-image-"), "{KERNEL} depends on {depends:?}");
        Ok(name.to_owned())
    }

    fn show(&self, package: &str) -> Result<String> {
        let shown = output(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        Ok(String::from_utf8_lossy(&shown).into_owned())
    }

    /// The newest version, fetched and unpacked.
    fn download(&self, name: &str) -> Result<Package> {
        let shown = self.show(name)?;
        let value = |key: &str| {
            field(&shown, key).with_context(|| format!("{name}: no {key} in the package list"))
        };
        let (version, sha256) = (value("Version")?.to_owned(), value("SHA256")?.to_owned());
        let architecture = value("Architecture")?;
        let package = Package { name: name.to_owned(), version, sha256 };
        let file = format!(
            "{name}_{}_{architecture}.deb",
            package.version.replace(':', "%3a")
        );
        let file = self.dir.join("archives").join(file);
        if !is_whole(&file, &package.sha256) {
            let wanted = format!("{name}={}", package.version);
            run(self.command("apt-get").args(["download", "-q", &wanted]))?;
            ensure!(is_whole(&file, &package.sha256), "{}: not what was asked for", file.display());
        }
        self.unpack(&file, &package)?;
        Ok(package)
    }

    fn unpack(&self, file: &Path, package: &Package) -> Result<()> {
        let dir = unpacked(&self.dir, package);
        if dir.join(DONE).is_file() {
            return Ok(());
        }
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
        run(tool("dpkg-deb", 0).arg("-x").arg(file).arg(&dir))?;
        std::fs::write(dir.join(DONE), "")?;
        Ok(())
    }
}

fn is_whole(file: &Path, sha256: &str) -> bool {
    std::fs::read(file).is_ok_and(|bytes| ledger::hash(&bytes) == sha256)
}

/// A field of a control file.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// Whether parts can be fetched here.
pub(crate) fn check_host() -> Result<()> {
    for program in ["apt-get", "dpkg-deb"] {
        if !crate::command::succeeds_words(program, &["--version"]) {
            bail!("{program} is missing: the boot parts come from Debian's packages; build on Debian or Ubuntu");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{field, short};

    #[test]
    fn fields_of_a_package_are_read() {
        let text = "Package: x\nVersion: 1:2-3\nDepends: linux-image-6 (= 1), y\n";
        assert_eq!(field(text, "Version"), Some("1:2-3"));
        assert_eq!(field(text, "SHA256"), None);
    }

    #[test]
    fn licences_are_named_once() {
        let text = "Files: *\nLicense: MIT\n\nFiles: a\nLicense: GPL-2\n\nLicense: MIT\n text\n";
        assert_eq!(short(text), "licences: GPL-2, MIT");
        assert!(short("This is BSD.\n").contains("below"));
    }
}
