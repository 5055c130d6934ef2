//! Tries the Debian package and `install.sh` out: in a copy of this system that is thrown away, with
//! systemd as process 1. The program in it is the one that tests use; those that are shipped run in
//! `cargo xtask targets`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sync_protocol::SigningKey;

use super::release::{self, Content, Release};
use super::{PARTS, deb, sums};
use crate::command::{built, project_root, run as run_command};
use crate::setup::{self, Part};
use crate::targets::app::App;
use crate::targets::list::TARGETS;

/// Longest that all of it may take: it waits for two starts and a watchdog.
const SECONDS_MAX: &str = "240";

const SYSTEMD: &str = "/lib/systemd/systemd";
const NEEDED: &[Part] = &[
    Part { program: SYSTEMD, package: "systemd", suite: "packages --try" },
    Part { program: "strip", package: "binutils", suite: "packages --try" },
    Part { program: "unshare", package: "util-linux", suite: "packages --try" },
    Part { program: "openssl", package: "openssl", suite: "packages --try" },
    Part { program: "findmnt", package: "mount", suite: "packages --try" },
    Part { program: "ip", package: "iproute2", suite: "packages --try" },
    Part { program: "ps", package: "procps", suite: "packages --try" },
];

/// Installs, runs, hangs, upgrades, removes and purges.
///
/// # Errors
/// Something is not as it has to be, or it cannot be tried here.
pub(crate) fn run(dir: &Path, install: bool) -> Result<()> {
    let missing = setup::offer(PARTS.iter().chain(NEEDED), install)?;
    if !missing.is_empty() {
        bail!("missing: {}", setup::apt_line(&missing));
    }
    if !setup::is_root() {
        bail!("only root can start another systemd: sudo -E cargo xtask packages --try");
    }
    let app = App::build(dir, false)?;
    let folder = dir.join("try");
    std::fs::create_dir_all(&folder)?;
    let content = Content { agent: stripped(dir)?, sbom: Vec::new() };
    // Two versions of one program: what dpkg does at an upgrade does not depend on what is in it.
    for (version, name) in [("0.0.1", "old.deb"), ("0.0.2", "new.deb")] {
        let package = deb::build(&release(dir, dir, version)?, &content, &arch()?, "libc6")?;
        std::fs::rename(package, folder.join(name))?;
    }
    let tarballs = folder.join("release");
    std::fs::create_dir_all(&tarballs)?;
    signed_tarball(&release(dir, &tarballs, "0.0.3")?, &content)?;
    std::fs::copy(&app.bundle, folder.join("counter.holm"))?;
    std::fs::write(folder.join("author.key"), &app.author)?;
    let scripts = project_root().join("cross/packages");
    std::fs::copy(scripts.join("try.sh"), folder.join("try.sh"))?;
    let mut command = Command::new("bash");
    command.arg(scripts.join("throwaway.sh")).arg(&folder).arg(SECONDS_MAX);
    run_command(command).with_context(|| format!("see {}/boot.log", folder.display()))
}

fn release(dir: &Path, out: &Path, version: &str) -> Result<Release> {
    Ok(Release {
        version: version.to_owned(),
        epoch: release::epoch()?,
        out: out.to_owned(),
        scratch: dir.join("work"),
        key: Some(SigningKey::generate()?),
    })
}

/// The tarball that `install.sh` takes on this machine, whatever is in it.
fn signed_tarball(release: &Release, content: &Content) -> Result<()> {
    let machine = std::env::consts::ARCH;
    let target = TARGETS.iter().find(|target| target.machine == machine);
    super::tarball(release, target.with_context(|| format!("no target for {machine}"))?, content)?;
    sums::installer(release)?;
    sums::write_sums(release)
}

/// The agent that tests use, without what is only for a debugger.
fn stripped(dir: &Path) -> Result<Vec<u8>> {
    let stripped = dir.join("edge-agent");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(built("edge-agent")?);
    run_command(strip)?;
    std::fs::read(&stripped).with_context(|| stripped.display().to_string())
}

/// Debian's name of this machine's architecture.
fn arch() -> Result<String> {
    let output = Command::new("dpkg").arg("--print-architecture").output().context("dpkg")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
