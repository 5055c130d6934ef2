//! What the tasks need beyond rustup, git and a C compiler, and how it gets here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::command::{cargo, project_root, run, succeeds};

const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Arguments of cargo that build the agent with planted bugs and ends. As a part of the workspace:
/// on its own the package would need other features of its dependencies, and all of them would be
/// built again.
const PLANTED: &[&str] =
    &["build", "--workspace", "--features", "edge-agent/plant", "--bin", "edge-agent-planted"];

/// Which agent a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// The one that users get.
    Shipped,
    /// The test-only one with planted bugs and ends.
    Planted,
}

impl Agent {
    /// The planted one where it is wanted.
    pub(crate) fn planted_if(planted: bool) -> Self {
        if planted { Self::Planted } else { Self::Shipped }
    }

    /// Its program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Shipped => "edge-agent",
            Self::Planted => "edge-agent-planted",
        }
    }
}

/// Builds what real processes are made of, in the profile of the tests.
pub(crate) fn programs(agent: Agent) -> Result<()> {
    wasm_target()?;
    eprintln!("building first: about 10 minutes on 2 cores the first time, seconds afterwards");
    run(cargo(&["build", "--workspace", "--bins"]))?;
    if agent == Agent::Planted {
        run(cargo(PLANTED))?;
    }
    Ok(())
}

/// The seed that was asked for, or one by the clock.
pub(crate) fn seed(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs())
    })
}

/// A folder below the root of the checkout, without what a run before left in it.
pub(crate) fn empty_dir(dir: &Path) -> Result<PathBuf> {
    let dir = project_root().join(dir);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// Installs the Rust target of functions where it is missing.
pub(crate) fn wasm_target() -> Result<()> {
    rust_target(WASM_TARGET)
}

/// Installs a Rust target where it is missing. One at a time: of several rustup installs none where
/// one cannot be had.
pub(crate) fn rust_target(triple: &str) -> Result<()> {
    let output = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output()
        .context("rustup is needed: see https://rustup.rs")?;
    if String::from_utf8_lossy(&output.stdout).lines().any(|line| line == triple) {
        return Ok(());
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add", triple]);
    run(command)
}

/// A program of a Debian package that some suites want.
#[derive(Debug)]
pub(crate) struct Part {
    /// The program; or the absolute path of another file.
    pub(crate) program: &'static str,
    /// The package that has it.
    pub(crate) package: &'static str,
    /// The test target that is skipped without it, or the task that cannot do without.
    pub(crate) suite: &'static str,
}

/// Parts of suites that need a peer.
pub(crate) const PARTS: &[Part] = &[
    Part { program: "mosquitto_pub", package: "mosquitto-clients", suite: "mosquitto" },
    Part { program: "mosquitto", package: "mosquitto", suite: "mosquitto" },
    RECORDER,
    EMULATOR,
    CROSS_COMPILER,
    MAKE,
];

/// Emulates the microcontrollers of the devices.
const EMULATOR: Part =
    Part { program: "qemu-system-arm", package: "qemu-system-arm", suite: "devices" };

/// Compiles the firmware in C; linked without one it needs no C library.
const CROSS_COMPILER: Part =
    Part { program: "arm-none-eabi-gcc", package: "gcc-arm-none-eabi", suite: "devices" };

/// Builds it.
const MAKE: Part = Part { program: "make", package: "make", suite: "devices" };

/// Records block writes for the crash replay.
const RECORDER: Part =
    Part { program: "qemu-storage-daemon", package: "qemu-utils", suite: "crash-replay" };

/// What `cargo xtask devices` needs.
pub(crate) const DEVICES: &[Part] = &[EMULATOR, CROSS_COMPILER, MAKE];

/// What it needs without the firmware in C.
pub(crate) const EMULATED: &[Part] = &[EMULATOR];

/// What it needs to build the firmware in C.
pub(crate) const IN_C: &[Part] = &[CROSS_COMPILER, MAKE];

/// What `cargo xtask gateway-vm` needs beside what images are made with.
pub(crate) const GATEWAY_VM: &[Part] =
    &[Part { program: "qemu-system-aarch64", package: "qemu-system-arm", suite: "gateway-vm" }];

/// What `cargo xtask crash-replay` needs.
pub(crate) const REPLAY: &[Part] =
    &[RECORDER, Part { program: "mkfs.ext4", package: "e2fsprogs", suite: "crash-replay" }];

/// The broker that the benchmark measures against.
pub(crate) const MOSQUITTO: Part =
    Part { program: "mosquitto", package: "mosquitto", suite: "bench pipeline" };

impl Part {
    /// Whether the program is in a folder of programs. (An absolute path replaces the folder.)
    pub(crate) fn is_here(&self) -> bool {
        let found = |path: &str| std::path::Path::new(path).join(self.program).is_file();
        let path = std::env::var("PATH").unwrap_or_default();
        path.split(':').chain(["/usr/sbin", "/sbin"]).any(found)
    }
}

/// The one line that installs all missing parts.
pub(crate) fn apt_line(missing: &[&Part]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    let words = wanted_of_apt(missing, &release());
    format!("{sudo}apt-get install -y --no-install-recommends {}", words.join(" "))
}

/// What `apt-get install` is asked for. An emulator and the utilities beside it must be of one
/// release: with utilities from backports apt would refuse it, or remove them.
fn wanted_of_apt(missing: &[&Part], release: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for part in missing {
        // One package may have several parts.
        if !words.iter().any(|word| word == part.package) {
            words.push(part.package.to_owned());
        }
    }
    if missing.iter().any(|part| part.program == EMULATOR.program) && !release.is_empty() {
        words.retain(|word| word != RECORDER.package);
        words.push(format!("{}/{release}", RECORDER.package));
        words.push("--allow-downgrades".to_owned());
    }
    words
}

/// The name of the distribution's release, such as `bookworm`; empty where it has none.
fn release() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

/// Says how to install what is missing of `parts`, and does it as root or where it was asked to;
/// returns what is missing then.
pub(crate) fn offer(
    parts: impl IntoIterator<Item = &'static Part>,
    asked: bool,
) -> Result<Vec<&'static Part>> {
    let parts: Vec<_> = parts.into_iter().collect();
    let missing = || parts.iter().copied().filter(|part| !part.is_here()).collect::<Vec<_>>();
    let wanted = missing();
    if !wanted.is_empty() {
        println!("wanted: {}", apt_line(&wanted));
        if has_apt() && (asked || is_root()) {
            install(&wanted)?;
        }
    }
    Ok(missing())
}

/// Installs missing parts (needs root).
pub(crate) fn install(missing: &[&Part]) -> Result<()> {
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    run(update)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]);
    install.args(wanted_of_apt(missing, &release()));
    install.env("DEBIAN_FRONTEND", "noninteractive");
    run(install)
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    let mut command = Command::new("id");
    command.arg("-u");
    succeeds_with(command, "0")
}

fn succeeds_with(mut command: Command, wanted: &str) -> bool {
    command.output().is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim() == wanted)
}

/// Whether apt-get is there at all.
pub(crate) fn has_apt() -> bool {
    let mut command = Command::new("apt-get");
    command.arg("--version");
    succeeds(command)
}

#[cfg(test)]
mod tests {
    use super::{EMULATOR, MOSQUITTO, RECORDER, wanted_of_apt};

    #[test]
    fn the_emulator_comes_with_the_utilities_of_its_own_release() {
        let pinned = ["qemu-system-arm", "qemu-utils/bookworm", "--allow-downgrades"];
        assert_eq!(wanted_of_apt(&[&EMULATOR], "bookworm"), pinned);
        assert_eq!(wanted_of_apt(&[&RECORDER, &EMULATOR], "bookworm"), pinned);
        let others = ["mosquitto", "qemu-utils"];
        assert_eq!(wanted_of_apt(&[&MOSQUITTO, &RECORDER], "bookworm"), others);
        let unpinned = ["qemu-system-arm", "qemu-utils"];
        assert_eq!(wanted_of_apt(&[&EMULATOR, &RECORDER], ""), unpinned);
    }
}
