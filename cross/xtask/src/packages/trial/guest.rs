//! A machine that QEMU emulates, with a small Debian on its disk: made once with mmdebstrap, and as new
//! at each start.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use system_tests::process::{Process, wait_for};

use crate::command::{project_root, run as run_command};
use crate::image::apt::{self, Apt, SUITE};
use crate::image::cpio::Archive;
use crate::image::modules::{Module, Modules};
use crate::image::tool;
use crate::setup::Part;
use crate::steps::Steps;
use crate::targets::guest;
use crate::targets::list::Target;

/// What it takes on this machine.
pub(crate) const NEEDED: &[Part] = &[
    Part { program: "mmdebstrap", package: "mmdebstrap", suite: "packages --test" },
    Part { program: "arch-test", package: "arch-test", suite: "packages --test" },
    Part { program: "mkfs.ext4", package: "e2fsprogs", suite: "packages --test" },
    Part { program: "qemu-system-aarch64", package: "qemu-system-arm", suite: "packages --test" },
    Part { program: "xz", package: "xz-utils", suite: "packages --test" },
];

/// What the Debian has beside what is essential.
const PACKAGES: &[&str] = &["systemd-sysv", "mount", "passwd", "procps", "openssl"];
/// Kernel modules up to its disks.
const MODULES: &[&str] = &["virtio_mmio", "virtio_blk", "virtio-rng", "ext4", "crc32c_generic"];
const MEMORY_MIB: &str = "512";
const ROOT_BYTES: u64 = 1 << 30;
/// Longest that mmdebstrap may take; it configures packages with an emulated processor.
const BOOTSTRAP_SECONDS_MAX: &str = "2400";
/// What its first unit writes to the console last.
const END: &str = "holm-test: ends with ";

/// A kind of machine.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Debian's name of its architecture.
    deb: &'static str,
    emulator: &'static str,
    cpu: &'static str,
    /// The package that depends on the newest kernel.
    kernel: &'static str,
}

const MACHINES: &[Machine] = &[
    Machine {
        deb: "arm64",
        emulator: "qemu-system-aarch64",
        cpu: "cortex-a72",
        kernel: "linux-image-arm64",
    },
    Machine {
        deb: "armhf",
        emulator: "qemu-system-arm",
        cpu: "cortex-a15",
        kernel: "linux-image-armmp",
    },
];

/// The machine that a target's package is for.
pub(crate) fn machine(target: &Target) -> Option<&'static Machine> {
    MACHINES.iter().find(|machine| machine.deb == target.deb)
}

/// A Debian that can be started.
#[derive(Debug)]
pub(crate) struct Debian {
    machine: &'static Machine,
    dir: PathBuf,
}

impl Debian {
    /// The one in `dir`; made there where it is not yet, which takes minutes.
    pub(crate) fn make(machine: &'static Machine, target: &Target, dir: &Path) -> Result<Self> {
        let debian = Self { machine, dir: dir.to_owned() };
        if !debian.file("made").is_file() {
            std::fs::create_dir_all(dir)?;
            eprintln!("a Debian for {}, once; it stays in {}:", machine.deb, dir.display());
            let mut steps = Steps::default();
            steps.step("kernel", || debian.kernel())?;
            let line = guest::binfmt(&target.guest)?.context("it is this machine's own")?;
            debian.bootstrap(&line)?;
            steps.step("disk", || debian.disk())?;
            std::fs::write(debian.file("made"), "")?;
        }
        Ok(debian)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Kernel, and the initramfs with the modules that find the disks.
    fn kernel(&self) -> Result<()> {
        let parts = self.file("parts");
        let apt = Apt::new(&parts, self.machine.deb)?;
        apt.update()?;
        let kernel = apt.download(&apt.kernel(self.machine.kernel)?)?;
        let busybox = apt.download("busybox-static")?;
        let unpacked = apt::unpacked(&parts, &kernel);
        let version = kernel.name.trim_start_matches("linux-image-");
        let modules = Modules::open(&unpacked.join("usr/lib/modules").join(version))?;
        let modules = modules.closure(MODULES)?;
        let busybox = apt::unpacked(&parts, &busybox).join("usr/bin/busybox");
        std::fs::write(self.file("initramfs"), initramfs(&busybox, &modules)?)?;
        let kernel = unpacked.join("boot").join(format!("vmlinuz-{version}"));
        std::fs::copy(&kernel, self.file("kernel"))
            .with_context(|| kernel.display().to_string())?;
        Ok(std::fs::remove_dir_all(parts)?)
    }

    fn bootstrap(&self, line: &str) -> Result<()> {
        let root = self.file("root");
        if root.exists() {
            std::fs::remove_dir_all(&root)?;
        }
        let mut command = Command::new("timeout");
        command.args([BOOTSTRAP_SECONDS_MAX, "bash"]);
        command.arg(project_root().join("cross/packages/bootstrap.sh"));
        command.args([self.machine.deb, SUITE, &apt::mirror(), line]).arg(&root).args(PACKAGES);
        run_command(command)
    }

    /// The disk, with the unit that runs the test.
    fn disk(&self) -> Result<()> {
        let root = self.file("root");
        let units = root.join("etc/systemd/system");
        std::fs::write(
            units.join("holm-test.service"),
            format!(
                "[Service]\nType=oneshot\n\
                 ExecStart=/bin/sh -c \"exec bash /try/test.sh >/dev/console 2>&1\"\n\
                 ExecStopPost=/bin/sh -c \"echo {END}$EXIT_STATUS >/dev/console; \
                 systemctl --force --force poweroff\"\n"
            ),
        )?;
        std::fs::write(
            units.join("holm-test.target"),
            "[Unit]\nRequires=sysinit.target\nWants=holm-test.service\n",
        )?;
        std::fs::create_dir_all(root.join("try"))?;
        make_disk(&root, &self.file("root.ext4"), ROOT_BYTES)?;
        Ok(std::fs::remove_dir_all(root)?)
    }

    /// Starts it with `folder` as `/try`, and waits until `/try/test.sh` has ended. What it says of
    /// its steps is printed.
    ///
    /// # Errors
    /// The test fails, or is not done in time.
    pub(crate) fn run(&self, folder: &Path, within: Duration) -> Result<()> {
        let disk = folder.with_extension("ext4");
        make_disk(folder, &disk, size(folder)? * 5 / 4 + (16 << 20))?;
        let log = folder.with_extension("console.log");
        let mut process = Process::start(self.machine.emulator, self.command(&disk)?, &log)?;
        let mut shown = 0;
        let what = format!("the end of the test, see {}", log.display());
        let end = wait_for(within, &what, || {
            // Asked before the look: what it printed last is there when it has ended.
            let runs = process.is_running();
            let console = console(&log);
            shown = show(&console, shown);
            std::thread::sleep(Duration::from_millis(200));
            let end = console.split(END).nth(1).and_then(|rest| rest.lines().next());
            match end {
                Some(end) if !end.is_empty() => Ok(Some(end.trim().to_owned())),
                _ if !runs => bail!("QEMU ended before the test did, see {}", log.display()),
                _ => Ok(None),
            }
        })?;
        std::fs::remove_file(&disk)?;
        ensure!(end == "0", "test.sh ended with {end}, see {}", log.display());
        Ok(())
    }

    fn command(&self, disk: &Path) -> Result<Command> {
        let mut command = Command::new(self.machine.emulator);
        command.args(["-M", "virt", "-cpu", self.machine.cpu, "-smp", "2", "-m", MEMORY_MIB]);
        command.args(["-display", "none", "-nodefaults", "-serial", "stdio", "-no-reboot"]);
        command.arg("-kernel").arg(self.file("kernel")).arg("-initrd").arg(self.file("initramfs"));
        command.args([
            "-append",
            "console=ttyAMA0 quiet panic=-1 systemd.unit=holm-test.target systemd.show_status=false",
        ]);
        for (name, file) in [("root", &self.file("root.ext4")), ("try", &disk.to_owned())] {
            let file = file.to_str().filter(|path| !path.contains(','));
            let file = file.context("the path is not UTF-8, or has a comma")?;
            // What is written to it is thrown away.
            let drive = format!("file={file},if=none,id={name},format=raw,snapshot=on");
            let device = format!("virtio-blk-device,drive={name},serial={name}");
            command.args(["-drive", &drive, "-device", &device]);
        }
        command.args(["-device", "virtio-rng-device"]);
        Ok(command)
    }
}

/// Prints what the test says of its steps; returns how many whole lines the console has. Those before
/// were shown.
fn show(console: &str, before: usize) -> usize {
    let whole = console.rfind('\n').map_or("", |end| &console[..=end]);
    for line in whole.lines().skip(before) {
        if line.starts_with("ok: ") || line.starts_with("FAILED") {
            println!("{}", line.trim_end());
        }
    }
    whole.lines().count()
}

fn console(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

fn initramfs(busybox: &Path, modules: &[Module]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "modules", "proc", "root", "sys"] {
        archive.directory(dir)?;
    }
    archive.device("dev/console", 5, 1)?;
    archive.copy("bin/busybox", busybox)?;
    archive.link("bin/sh", "busybox")?;
    archive.copy("init", &project_root().join("cross/packages/guest-init"))?;
    let mut order = String::new();
    for module in modules {
        let name = format!("{}.ko", module.name);
        archive.file(&format!("modules/{name}"), &module.contents)?;
        order += &(name + "\n");
    }
    archive.file("modules/order", order.as_bytes())?;
    archive.finish()
}

/// A disk with a file system that has the files of a folder.
fn make_disk(folder: &Path, disk: &Path, bytes: u64) -> Result<()> {
    File::create(disk).with_context(|| disk.display().to_string())?.set_len(bytes)?;
    let mut make = tool::tool("mkfs.ext4", 0);
    tool::run(make.args(["-q", "-F", "-m", "0", "-d"]).arg(folder).arg(disk))
}

fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let facts = entry.metadata()?;
        bytes += if facts.is_dir() { size(&entry.path())? } else { facts.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{MACHINES, machine, show};
    use crate::targets::list::TARGETS;

    #[test]
    fn every_package_of_another_machine_has_one_to_be_tested_in() {
        let others = TARGETS.iter().filter(|it| !it.deb.is_empty() && it.machine != "x86_64");
        assert_eq!(others.filter_map(machine).count(), MACHINES.len());
    }

    #[test]
    fn a_line_of_the_console_counts_when_it_is_whole() {
        assert_eq!(show("[    0.1] noise\r\nok: a\r\nok: b", 1), 2);
        assert_eq!((show("ok: a", 0), show("", 0)), (0, 0));
    }
}
