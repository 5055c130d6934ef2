//! The boot partition: what the chip, U-Boot and the first boot read.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::board::Board;
use super::layout::PARTITIONS;
use super::parts::Parts;
use super::seed::Seed;
use super::tool::{output, run, tool};
use super::uboot;
use crate::command::project_root;

/// Serial number of the file system: always the same.
const SERIAL: &str = "484f4c4d";

const CONFIG_TXT: &str = "\
# Read by the chip before anything else.
arm_64bit=1
kernel=u-boot.bin
enable_uart=1
upstream_kernel=1
";

const README: &str = "\
This is the boot partition of a Holm gateway.

What lies in holm/ is moved to the data partition at the next boot, and vanishes from here:
  holm/config/agent.toml   configuration, and the files that it names as /etc/holm/NAME
  holm/enroll-token        what `holm gateway add NAME` printed: the gateway joins its control plane
  holm/authorized_keys     public SSH keys: SSH is on while there are any, and off before
  holm/image.conf          STATUS_EVERY_S=60, WATCHDOG=on, HANG_AFTER_S=60
  holm/wifi.conf           the network to join, as wpa_supplicant.conf has it
";

/// Contents of the partition: a path in it and the file that goes there.
#[derive(Debug)]
pub(crate) struct Boot<'a> {
    /// The board.
    pub(crate) board: Board,
    /// Packages.
    pub(crate) parts: &'a Parts,
    /// The kernel, packed.
    pub(crate) kernel: &'a Path,
    /// The initramfs, packed.
    pub(crate) initramfs: &'a Path,
    /// What the first boot takes.
    pub(crate) seed: &'a Seed,
    /// Time of all files.
    pub(crate) epoch: u64,
}

impl Boot<'_> {
    /// Writes the file system into `image`; `work` is an empty folder.
    pub(crate) fn pack(&self, work: &Path, image: &Path) -> Result<()> {
        let files = self.files(work)?;
        std::fs::File::create(image)?.set_len(PARTITIONS[0].bytes)?;
        let mut format = tool("mformat", self.epoch);
        format.arg("-i").arg(image).args(["-F", "-v", "HOLM-BOOT", "-N", SERIAL, "::"]);
        run(&mut format)?;
        for dir in ["a", "b", "holm", "holm/config"] {
            run(tool("mmd", self.epoch).arg("-i").arg(image).arg(format!("::/{dir}")))?;
        }
        for (path, file) in files {
            // -m keeps the time, which is the same for all.
            touch(&file, self.epoch, work)?;
            let staged = work.join("touched");
            let mut copy = tool("mcopy", self.epoch);
            copy.arg("-i").arg(image).args(["-m", "-o"]).arg(&staged).arg(format!("::/{path}"));
            run(&mut copy).with_context(|| format!("{path} of the boot partition"))?;
        }
        Ok(())
    }

    fn files(&self, work: &Path) -> Result<Vec<(String, PathBuf)>> {
        let template = std::fs::read_to_string(project_root().join("cross/image/boot.cmd"))?;
        let script = uboot::boot_scr(&uboot::script(&template, self.board)?, self.epoch)?;
        let mut files = vec![
            ("boot.scr".to_owned(), put(work, "boot.scr", &script)?),
            ("README.txt".to_owned(), put(work, "README.txt", README.as_bytes())?),
        ];
        for slot in ["a", "b"] {
            files.push((format!("{slot}/kernel.gz"), self.kernel.to_owned()));
            files.push((format!("{slot}/initramfs.gz"), self.initramfs.to_owned()));
        }
        for (n, (path, contents)) in self.seed.files.iter().enumerate() {
            files.push((format!("holm/{path}"), put(work, &format!("seed-{n}"), contents)?));
        }
        if self.seed.is_watchdog_off() {
            files.push(("watchdog-off".to_owned(), put(work, "watchdog-off", b"")?));
        }
        if self.board.is_pi() {
            files.extend(self.pi_files(work)?);
        }
        Ok(files)
    }

    fn pi_files(&self, work: &Path) -> Result<Vec<(String, PathBuf)>> {
        let u_boot = self.parts.path("u-boot-rpi", "usr/lib/u-boot/rpi_arm64/u-boot.bin")?;
        let mut files = vec![
            ("u-boot.bin".to_owned(), u_boot),
            ("config.txt".to_owned(), put(work, "config.txt", CONFIG_TXT.as_bytes())?),
        ];
        for name in self.board.firmware() {
            let path = format!("usr/lib/raspi-firmware/{name}");
            files.push(((*name).to_owned(), self.parts.path("raspi-firmware", &path)?));
        }
        files.extend(device_trees(self.parts, self.board)?);
        Ok(files)
    }
}

/// The device trees of a board: name and file.
pub(crate) fn device_trees(parts: &Parts, board: Board) -> Result<Vec<(String, PathBuf)>> {
    let kernel = &parts.kernel()?.name;
    let dir = parts.path(kernel, &format!("usr/lib/{kernel}/broadcom"))?;
    let mut trees = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.starts_with(board.device_trees()) {
            trees.push((name, path));
        }
    }
    trees.sort();
    ensure!(!trees.is_empty(), "{kernel} has no device tree of {}", board.name());
    Ok(trees)
}

fn put(work: &Path, name: &str, contents: &[u8]) -> Result<PathBuf> {
    let path = work.join(name);
    std::fs::write(&path, contents).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// A copy of `file` in `work/touched` that was last written at `epoch`.
fn touch(file: &Path, epoch: u64, work: &Path) -> Result<()> {
    let staged = work.join("touched");
    std::fs::copy(file, &staged).with_context(|| file.display().to_string())?;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(epoch);
    std::fs::File::options().write(true).open(&staged)?.set_modified(time)?;
    Ok(())
}

/// The paths that are in a boot partition, read back from the image.
pub(crate) fn list(image: &Path, at: u64) -> Result<Vec<String>> {
    let mut list = tool("mdir", 0);
    list.arg("-i").arg(format!("{}@@{at}", image.display())).args(["-b", "-/", "::/"]);
    let text = String::from_utf8_lossy(&output(&mut list)?).into_owned();
    let paths = text.lines().filter_map(|line| line.trim().strip_prefix("::/"));
    Ok(paths.map(str::to_owned).collect())
}
