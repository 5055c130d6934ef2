//! A private apt for another machine: it fetches and checks packages of Debian, and leaves the host's
//! alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use system_tests::ledger;

use super::parts::Package;
use super::tool::{output, run, tool};

/// The release of Debian that the parts come from.
pub(crate) const SUITE: &str = "trixie";
/// Where its packages are, unless `HOLM_DEBIAN_MIRROR` names another mirror.
const MIRROR: &str = "http://deb.debian.org/debian";

/// Where packages are fetched from.
pub(crate) fn mirror() -> String {
    std::env::var("HOLM_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned())
}

/// Debian's keys, by which apt checks what a mirror gives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Lies in the folder of a package that is wholly unpacked.
const DONE: &str = ".unpacked";

/// Name and version as the name of a file.
pub(crate) fn file_name(package: &Package) -> String {
    format!("{}_{}", package.name, package.version.replace([':', '/'], "_"))
}

/// Where it is unpacked.
pub(crate) fn unpacked(dir: &Path, package: &Package) -> PathBuf {
    dir.join("unpacked").join(file_name(package))
}

/// Whether it is wholly unpacked.
pub(crate) fn is_unpacked(dir: &Path, package: &Package) -> bool {
    unpacked(dir, package).join(DONE).is_file()
}

/// An apt with lists, cache and status of its own.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// One for packages of an architecture that keeps everything in `dir`.
    pub(crate) fn new(dir: &Path, arch: &str) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "the boot parts come from Debian's packages, checked by {KEYRING}, which is not here; \
             install debian-archive-keyring, or build the image on Debian"
        );
        for folder in ["lists/partial", "archives/partial", "unpacked"] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        let source =
            format!("deb [signed-by={KEYRING}] {} {SUITE} main non-free-firmware\n", mirror());
        std::fs::write(dir.join("sources.list"), source)?;
        // Nothing counts as installed.
        std::fs::write(dir.join("status"), "")?;
        let place = dir.display();
        let config = format!(
            "Dir::State \"{place}\";\nDir::State::lists \"{place}/lists\";\n\
             Dir::State::status \"{place}/status\";\nDir::Cache \"{place}\";\n\
             Dir::Cache::archives \"{place}/archives\";\n\
             Dir::Etc::sourcelist \"{place}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
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

    /// Fetches the lists of packages.
    pub(crate) fn update(&self) -> Result<()> {
        let updated = run(self.command("apt-get").args(["update", "-q", "--error-on=any"]));
        updated.context("Debian's package lists; `HOLM_DEBIAN_MIRROR` names another mirror")
    }

    /// The package of the newest kernel; `newest` depends on it.
    pub(crate) fn kernel(&self, newest: &str) -> Result<String> {
        let shown = self.show(newest)?;
        let depends = field(&shown, "Depends").context("no Depends")?;
        let name = depends.split([' ', ',']).next().unwrap_or_default();
        ensure!(name.starts_with("linux-image-"), "{newest} depends on {depends:?}");
        Ok(name.to_owned())
    }

    fn show(&self, package: &str) -> Result<String> {
        let shown = output(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        Ok(String::from_utf8_lossy(&shown).into_owned())
    }

    /// The newest version, fetched and unpacked.
    pub(crate) fn download(&self, name: &str) -> Result<Package> {
        let shown = self.show(name)?;
        let value = |key: &str| {
            field(&shown, key).with_context(|| format!("{name}: no {key} in the package list"))
        };
        let (version, sha256) = (value("Version")?.to_owned(), value("SHA256")?.to_owned());
        let architecture = value("Architecture")?;
        let package = Package { name: name.to_owned(), version, sha256 };
        let file = format!("{name}_{}_{architecture}.deb", package.version.replace(':', "%3a"));
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
            bail!(
                "{program} is missing: the boot parts come from Debian's packages; build on Debian or Ubuntu"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_of_a_package_are_read() {
        let text = "Package: x\nVersion: 1:2-3\nDepends: linux-image-6 (= 1), y\n";
        assert_eq!(field(text, "Version"), Some("1:2-3"));
        assert_eq!(field(text, "SHA256"), None);
    }
}
