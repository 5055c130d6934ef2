//! Running the tools that an image is made with: quietly and reproducibly.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup::Part;

/// What an image is made with.
pub(crate) const TOOLS: &[Part] = &[
    Part { program: "mformat", package: "mtools", suite: "image" },
    Part { program: "mksquashfs", package: "squashfs-tools", suite: "image" },
    Part { program: "mkfs.ext4", package: "e2fsprogs", suite: "image" },
    Part { program: "xz", package: "xz-utils", suite: "image" },
];

/// A tool that finds what Debian keeps in `sbin`, and writes the same bytes in every time zone.
pub(crate) fn tool(name: &str, epoch: u64) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.env("SOURCE_DATE_EPOCH", epoch.to_string()).env("TZ", "UTC").env("LC_ALL", "C");
    command.env("E2FSPROGS_FAKE_TIME", epoch.to_string()).env("MTOOLS_SKIP_CHECK", "1");
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end and gives what it printed; a failure says what it said.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("could not start {name}"))?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let (said, errors) = (text(&output.stdout), text(&output.stderr));
        bail!("`{name} {}` failed: {said}{errors}", words.join(" "));
    }
    Ok(output.stdout)
}

/// Runs it to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Compresses a file as the kernel and U-Boot read it, without name and time.
pub(crate) fn gzip(from: &Path, to: &Path) -> Result<()> {
    let mut gzip = tool("gzip", 0);
    let packed = output(gzip.args(["-9", "-n", "-c"]).arg(from))?;
    std::fs::write(to, packed).with_context(|| to.display().to_string())
}
