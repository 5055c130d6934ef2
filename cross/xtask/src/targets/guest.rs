//! A launcher for programs of another machine: QEMU's user mode, made known to the kernel within a
//! namespace of its own, so that the agent can start itself (its compiling child) as it does on the
//! real machine, and nothing on this one is changed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::list::{Elf, Guest};

/// Shell script that takes its program's arguments. `$0` of the inner shell is the program; it is
/// replaced by it, so that a signal to the launcher reaches the emulator.
const SCRIPT: &str = r#"#!/bin/sh
# Runs PROGRAM of another machine. The kernel keeps what it is told of in a user namespace
# (Linux 6.7); the emulator is opened now (F), so it needs to be found nowhere else.
set -eu
exec unshare --user --map-root-user --mount sh -euc '
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  printf "%s" "RULE" > /proc/sys/fs/binfmt_misc/register
  LIBRARIES
  SPACE
  exec "$0" "$@"' 'PROGRAM' "$@"
"#;

/// What is started in the place of `program`: itself, or a launcher written to `dir`.
///
/// # Errors
/// The emulator is not installed, or the launcher cannot be written.
pub(crate) fn launcher(guest: &Guest, program: &Path, dir: &Path) -> Result<PathBuf> {
    let Guest::Qemu { program: emulator, libraries, address_bits, elf, .. } = guest else {
        return Ok(program.to_owned());
    };
    let shown = program.to_str().filter(|path| !path.contains('\''));
    let shown = shown.with_context(|| format!("{}: name it otherwise", program.display()))?;
    let libraries = match *libraries {
        "" => String::new(),
        // The shell is loaded already, and the loader of the target looks nowhere else.
        folder => format!("mount --bind {folder} \"$(readlink -f /lib)\""),
    };
    let space = address_bits.map(|bits| format!("export QEMU_RESERVED_VA={:#x}", 1_u64 << bits));
    let script = SCRIPT
        .replace("SPACE", &space.unwrap_or_default())
        .replace("RULE", &rule(&path_of(emulator)?, *elf))
        .replace("LIBRARIES", &libraries)
        .replace("PROGRAM", shown);
    let path = dir.join("agent.sh");
    std::fs::write(&path, script).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The line for `binfmt_misc` that lets the kernel run such programs; `None`: they are this machine's.
///
/// # Errors
/// The emulator is not installed.
pub(crate) fn binfmt(guest: &Guest) -> Result<Option<String>> {
    match guest {
        Guest::Host => Ok(None),
        Guest::Qemu { program, elf, .. } => Ok(Some(rule(&path_of(program)?, *elf))),
    }
}

/// Why this machine cannot run such programs; `None`: it can.
pub(crate) fn why_not(guest: &Guest, launcher: &Path) -> Option<String> {
    let Guest::Qemu { .. } = guest else {
        let same = std::env::consts::ARCH == "x86_64";
        return (!same).then(|| "this machine is another one".to_owned());
    };
    let output = Command::new(launcher).arg("--version").output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "the kernel runs no program by an emulator that is its own namespace's (Linux 6.7, \
             user namespaces): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(error.to_string()),
    }
}

/// A line for `binfmt_misc`: programs whose header begins so are run by the emulator. Of the
/// header's 20 bytes the system (7) and the kind's low bit (16: fixed or not) may be anything.
fn rule(emulator: &Path, elf: Elf) -> String {
    let header =
        [0x7f, b'E', b'L', b'F', elf.class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, elf.machine, 0];
    let mut mask = [0xff; 20];
    (mask[7], mask[16]) = (0, 0xfe);
    let text =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect() };
    format!(":holm:M::{}:{}:{}:OCPF", text(&header), text(&mask), emulator.display())
}

fn path_of(program: &str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!("{program} is not installed: apt-get install qemu-user-static"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_of_headers_of_that_machine() {
        let rule = rule(Path::new("/usr/bin/qemu-aarch64-static"), Elf { class: 2, machine: 0xb7 });
        // As Debian's own registration has it (/usr/lib/binfmt.d/qemu-aarch64.conf).
        let header =
            r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
        let mask =
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
        assert_eq!(rule, format!(":holm:M::{header}:{mask}:/usr/bin/qemu-aarch64-static:OCPF"));
    }

    #[test]
    fn a_launcher_names_emulator_and_program_and_the_host_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let program = Path::new("/built/edge-agent");
        assert_eq!(launcher(&Guest::Host, program, dir.path()).unwrap(), program);
        // `sh` stands for an emulator that is installed.
        let elf = Elf { class: 1, machine: 0x28 };
        let (program_of_guest, libraries, address_bits) = ("sh", "/usr/arm/lib", Some(39));
        let guest =
            Guest::Qemu { program: program_of_guest, libraries, address_bits, elf, parts: &[] };
        let script =
            std::fs::read_to_string(launcher(&guest, program, dir.path()).unwrap()).unwrap();
        assert!(script.contains("'/built/edge-agent' \"$@\""), "{script}");
        assert!(script.contains("mount --bind /usr/arm/lib"), "{script}");
        assert!(script.contains("/sh:OCPF"), "{script}");
        assert!(script.contains("export QEMU_RESERVED_VA=0x8000000000\n"), "{script}");
    }
}
