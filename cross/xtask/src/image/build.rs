//! The steps from packages to a card image.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use edge_core::boot::Version;
use serde_json::Value;
use system_tests::ledger;

use super::board::{Board, SERIAL_MODULES};
use super::boot::{Boot, device_trees};
use super::layout::{IMAGE_BYTES, PARTITIONS};
use super::modules::Modules;
use super::parts::{Parts, Versions};
use super::root::{self, Contents, Root};
use super::seed::Seed;
use super::{disk, system, tool, wifi};
use crate::setup;
use crate::steps::Steps;

/// What is to be built.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The board.
    pub(crate) board: Board,
    /// The agent for arm64.
    pub(crate) agent: PathBuf,
    /// What the first boot takes.
    pub(crate) seed: Seed,
    /// The image file.
    pub(crate) out: PathBuf,
    /// Where packages are kept.
    pub(crate) parts: PathBuf,
    /// Which versions of them.
    pub(crate) versions: Versions,
    /// What the system calls itself.
    pub(crate) version: Version,
    /// Seconds since 1970 that pass for the time of the build; `None`: now, or `SOURCE_DATE_EPOCH`.
    pub(crate) built_at: Option<u64>,
}

/// What was built.
#[derive(Debug)]
pub(crate) struct Built {
    /// The image.
    pub(crate) image: PathBuf,
    /// For which board.
    pub(crate) board: Board,
    /// The same system as an update.
    pub(crate) system: PathBuf,
    /// Name of the gateway that it becomes.
    pub(crate) gateway: String,
    /// The boot loader for QEMU, which does not read it from the card as a board does.
    pub(crate) u_boot: Option<PathBuf>,
    /// The device tree that QEMU's raspi3b is given.
    pub(crate) device_tree: Option<PathBuf>,
    /// Packages and their licences.
    pub(crate) licences: PathBuf,
    /// The same as data.
    pub(crate) packages: Value,
    /// Version of the kernel.
    pub(crate) kernel: String,
    /// Digest of the image.
    pub(crate) sha256: String,
    /// Sizes of parts, in bytes.
    pub(crate) sizes: Vec<(String, u64)>,
    /// Steps, with the time that each took.
    pub(crate) steps: Vec<(String, Duration)>,
}

/// Builds an image.
pub(crate) fn build(request: &Request) -> Result<Built> {
    super::tools()?;
    root::check_agent(&request.agent)?;
    let epoch = request.built_at.map_or_else(epoch, Ok)?;
    let mut steps = Steps::default();
    let parts =
        steps.step("packages", || Parts::fetch(&request.parts, request.board, request.versions))?;
    let work = Work::new(&request.out.with_extension("work"))?;
    let work = &work.0;
    let fresh = |name: &str| setup::empty_dir(&work.join(name));
    let made = parts.made()?;

    let kernel = made.join("kernel.gz");
    if !kernel.is_file() {
        steps.step("kernel", || pack_kernel(&parts, &kernel))?;
    }
    let initramfs = fresh("files")?.join("initramfs.gz");
    steps.step("initramfs", || pack_initramfs(&parts, request.board, &initramfs))?;
    let squashfs = work.join("root.squashfs");
    let kernel_version = parts.kernel_version()?;
    steps.step("root", || {
        let (board, version) = (request.board.name(), request.version);
        let drivers = drivers(&parts, request.board)?;
        let root =
            Root { parts: &parts, agent: &request.agent, drivers, built: epoch, board, version };
        root.pack(&fresh("root")?, &squashfs)
    })?;
    let system = request.out.with_extension("system");
    steps.step("system", || {
        let parts = [squashfs.as_path(), kernel.as_path(), initramfs.as_path()];
        system::pack(request.board.name(), request.version, parts, &system)
    })?;
    let boot_image = work.join("boot.vfat");
    steps.step("boot partition", || {
        let boot = Boot {
            board: request.board,
            parts: &parts,
            kernel: &kernel,
            initramfs: &initramfs,
            seed: &request.seed,
            epoch,
        };
        boot.pack(&fresh("boot")?, &boot_image)
    })?;
    let data = work.join("data.ext4");
    steps.step("data partition", || disk::data(&data, epoch))?;
    steps.step("image", || disk::assemble(&request.out, &boot_image, &squashfs, &data))?;
    steps.step("check", || disk::check(&request.out, request.board))?;
    let licences = request.out.with_extension("licences.txt");
    std::fs::write(&licences, parts.licences()?)?;
    let sha256 = ledger::hash(&std::fs::read(&request.out)?);
    let mut sizes = vec![("agent".to_owned(), request.agent.metadata()?.len())];
    for (name, file) in [("kernel", &kernel), ("initramfs", &initramfs), ("root", &squashfs)] {
        sizes.push((name.to_owned(), file.metadata()?.len()));
    }
    sizes.push(("image".to_owned(), IMAGE_BYTES));
    let (u_boot, device_tree) = for_qemu(&parts, request)?;
    Ok(Built {
        image: request.out.clone(),
        board: request.board,
        system,
        gateway: request.seed.gateway.clone(),
        u_boot,
        device_tree,
        licences,
        packages: parts.to_json(),
        kernel: kernel_version,
        sha256,
        sizes,
        steps: steps.into_inner(),
    })
}

/// Where an image is put together: a folder of the user's alone, since token and passphrase lie in it, and gone
/// with this.
struct Work(PathBuf);

impl Work {
    fn new(dir: &Path) -> Result<Self> {
        let dir = setup::empty_dir(dir)?;
        std::fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        Ok(Self(dir))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// The time that everything bears: now, or what is to be reproduced.
fn epoch() -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}")),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}

fn pack_kernel(parts: &Parts, to: &Path) -> Result<()> {
    let version = parts.kernel_version()?;
    let kernel = parts.path(&parts.kernel()?.name, &format!("boot/vmlinuz-{version}"))?;
    // A build that is cut off leaves no half of it under the name that counts.
    let partial = to.with_extension("partial");
    tool::gzip(&kernel, &partial)?;
    std::fs::rename(&partial, to)?;
    Ok(())
}

fn modules(parts: &Parts) -> Result<Modules> {
    let version = parts.kernel_version()?;
    let dir = parts.path(&parts.kernel()?.name, &format!("usr/lib/modules/{version}"))?;
    Modules::open(&dir)
}

fn drivers(parts: &Parts, board: Board) -> Result<Vec<Contents>> {
    let modules = modules(parts)?;
    let mut files = wifi::firmware(parts, board.is_pi())?;
    files.extend(root::module_set("wifi", modules.closure(board.wifi_modules())?));
    files.extend(root::module_set("serial", modules.closure(SERIAL_MODULES)?));
    Ok(files)
}

fn pack_initramfs(parts: &Parts, board: Board, to: &Path) -> Result<()> {
    let modules = modules(parts)?.closure(&board.modules())?;
    let archive = to.with_extension("cpio");
    std::fs::write(&archive, root::initramfs(parts, &modules)?)?;
    tool::gzip(&archive, to)
}

/// Copies of boot loader and device tree beside the image, of boards that QEMU has.
fn for_qemu(parts: &Parts, request: &Request) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
    let (u_boot, tree) = match request.board {
        Board::Virt => (parts.path("u-boot-qemu", "usr/lib/u-boot/qemu_arm64/u-boot.bin")?, None),
        Board::Rpi3 => {
            let trees = device_trees(parts, Board::Rpi3)?;
            let tree = trees.into_iter().find(|(name, _)| name == "bcm2837-rpi-3-b.dtb");
            let u_boot = parts.path("u-boot-rpi", "usr/lib/u-boot/rpi_arm64/u-boot.bin")?;
            (u_boot, tree.map(|(_, path)| path))
        }
        Board::Zero2w | Board::Rpi4 => return Ok((None, None)),
    };
    let copy = |from: &Path, end: &str| {
        let to = request.out.with_extension(end);
        std::fs::copy(from, &to).with_context(|| to.display().to_string())?;
        Ok::<_, anyhow::Error>(to)
    };
    let tree = tree.map(|tree| copy(&tree, "dtb")).transpose()?;
    Ok((Some(copy(&u_boot, "u-boot.bin")?), tree))
}

impl Built {
    /// Sizes and times.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<16}{value:>12}");
        };
        for (name, bytes) in &self.sizes {
            line(name, disk::mib(*bytes));
        }
        for partition in PARTITIONS {
            line(&format!("  {}", partition.name), disk::mib(partition.bytes));
        }
        for (name, took) in &self.steps {
            line(name, format!("{:.1} s", took.as_secs_f64()));
        }
        let whole: Duration = self.steps.iter().map(|(_, took)| took).sum();
        line("all steps", format!("{:.1} s", whole.as_secs_f64()));
        text
    }
}
