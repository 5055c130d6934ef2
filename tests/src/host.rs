//! What the crash replay needs of the host, and what of it must not be left behind: mounts, loop
//! devices, one daemon. Each is a guard that undoes itself when it is dropped, also by a panic.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::wait_for;

/// Programs that are run, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("qemu-storage-daemon", "qemu-utils"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("umount", "mount"),
];
/// From this exit code on e2fsck has left something as it was.
const FSCK_UNMENDED: i32 = 4;
/// How long an unmount may find the file system busy: a process that was just ended lets go.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// Why nothing can be recorded here; `None` where it can be tried.
#[must_use]
pub fn why_not() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can mount file systems".to_owned());
    }
    let device = ["/dev/loop-control", "/dev/fuse"].into_iter().find_map(absent);
    device.or_else(|| PROGRAMS.into_iter().find_map(missing))
}

fn absent(device: &str) -> Option<String> {
    (!Path::new(device).exists()).then(|| format!("there is no {device}"))
}

fn missing((program, package): (&str, &str)) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    let is_here = folders.any(|dir| Path::new(dir).join(program).is_file());
    (!is_here).then(|| format!("{program} is missing (Debian package {package})"))
}

/// Runs a command to its end; returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Looks through the ext4 file system in a file as the image does at each start: first what can be
/// mended without asking, then the rest. Returns whether that was needed.
pub(crate) fn fsck(image: &Path) -> Result<bool> {
    let status = |how: &str| -> Result<i32> {
        let mut fsck = Command::new("e2fsck");
        fsck.arg(how).arg(image).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = fsck.status().context("e2fsck (Debian package e2fsprogs)")?;
        status.code().context("e2fsck was killed")
    };
    if status("-p")? < FSCK_UNMENDED {
        return Ok(false);
    }
    let after = status("-y")?;
    ensure!(after < FSCK_UNMENDED, "e2fsck -y ended with {after}");
    Ok(true)
}

/// A mounted file system. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Mount {
    dir: PathBuf,
}

impl Mount {
    /// Mounts `source`, a block device or an image file, which gets a loop device that goes with
    /// the mount.
    pub(crate) fn ext4(source: &Path, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let is_file = source.metadata()?.is_file();
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", if is_file { "loop" } else { "rw" }]);
        run(mount.arg(source).arg(dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Memory as a file system of at most `bytes`.
    pub(crate) fn memory(dir: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "-o"]).arg(format!("size={bytes}")).arg("none").arg(dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where it is mounted.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Unmounts it, and says so if that is not possible.
    pub(crate) fn unmount(self) -> Result<()> {
        let result = unmount(&self.dir);
        if result.is_ok() {
            std::mem::forget(self);
        }
        result
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if unmount(&self.dir).is_err() {
            // Whatever still has a file open ends with this process.
            let _ = run(Command::new("umount").arg("-l").arg(&self.dir));
        }
    }
}

fn unmount(dir: &Path) -> Result<()> {
    let mut last = None;
    let unmounted =
        wait_for(BUSY_MAX, &format!("{} to be unmounted", dir.display()), || {
            match run(Command::new("umount").arg(dir)) {
                Ok(_) => Ok(Some(())),
                Err(error) => {
                    last = Some(error);
                    Ok(None)
                }
            }
        });
    unmounted.map_err(|late| last.map_or(late, |error| error))
}

/// A loop device over a part of a file. Dropping it gives it back.
///
/// Its I/O is buffered, which for a file of a FUSE daemon means: written through, one request at a
/// time. With direct I/O several are under way at once, and the daemon of QEMU before 10.1 then
/// mixes up their data.
#[derive(Debug)]
pub(crate) struct Loop {
    device: PathBuf,
}

impl Loop {
    /// The first `bytes` of `file`.
    pub(crate) fn over(file: &Path, bytes: u64) -> Result<Self> {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show", "--sizelimit", &bytes.to_string()]);
        Ok(Self { device: run(losetup.arg(file))?.into() })
    }

    /// Its block device.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("losetup").arg("--detach").arg(&self.device)) {
            eprintln!("crash-replay: {} is left: {error:#}", self.device.display());
        }
    }
}

/// Ends what a former run below `dir` left behind, and says what it was. Nobody else works there:
/// the folder is the caller's.
///
/// # Errors
/// It cannot be ended; the message says what was tried.
pub fn clean(dir: &Path) -> Result<Vec<String>> {
    let mut left =
        end_processes(dir, &["edge-agent", "edge-agent-planted", "qemu-system-aarch64"], "KILL")?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let points: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    // The last mounted lies on top. The export goes with its daemon.
    for point in points.iter().rev().filter(|point| !point.is_file()) {
        run(Command::new("umount").arg("-l").arg(point))?;
        left.push(format!("mount {}", point.display()));
    }
    let mut losetup = Command::new("losetup");
    let loops = run(losetup.args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"]))?;
    for line in loops.lines() {
        let mut words = line.split_whitespace();
        let (Some(device), Some(file)) = (words.next(), words.next()) else { continue };
        if Path::new(file).starts_with(dir) {
            run(Command::new("losetup").args(["--detach", device]))?;
            left.push(format!("loop device {device}"));
        }
    }
    left.extend(end_processes(dir, &["qemu-storage-daemon"], "TERM")?);
    Ok(left)
}

/// Ends processes of these programs that were started with a path below `dir`.
fn end_processes(dir: &Path, programs: &[&str], signal: &str) -> Result<Vec<String>> {
    let mut ended = Vec::new();
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let proc_dir = entry?.path();
        let Some(pid) = proc_dir.file_name().and_then(|name| name.to_str()) else { continue };
        let Ok(words) = std::fs::read_to_string(proc_dir.join("cmdline")) else { continue };
        let program = words.split('\0').next().and_then(|word| word.rsplit('/').next());
        let is_ours = program.is_some_and(|program| programs.contains(&program))
            && words.contains(&format!("{}/", dir.display()));
        if is_ours && pid.bytes().all(|byte| byte.is_ascii_digit()) {
            run(Command::new("kill").arg(format!("-{signal}")).arg(pid))?;
            wait_for(BUSY_MAX, &format!("process {pid} of a former run to end"), || {
                // Nobody may have asked for its end yet: then it has no command line.
                let words = std::fs::read(proc_dir.join("cmdline")).unwrap_or_default();
                Ok(words.is_empty().then_some(()))
            })?;
            ended.push(format!("process {pid} ({})", program.unwrap_or_default()));
        }
    }
    Ok(ended)
}

/// Makes an ext4 file system in the first `bytes` of the file `image`. Everything is written now:
/// what the kernel would initialise later would only lengthen the log.
pub(crate) fn mkfs(image: &Path, bytes: u64) -> Result<()> {
    ensure!(bytes.is_multiple_of(1024), "a file system has whole KiB");
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-m", "0", "-b", "4096", "-J", "size=4"]);
    mkfs.args(["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]);
    run(mkfs.arg(image).arg(format!("{}k", bytes / 1024))).map(|_| ())
}
