//! The read-only root of a slot, and the initramfs that finds it.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use edge_core::boot::Version;

use super::cpio::Archive;
use super::layout::{DISK_SIGNATURE, RECORD_SECTORS};
use super::modules::Module;
use super::parts::Parts;
use super::tool::{run, tool};
use crate::command::project_root;

/// Programs beside busybox: package, path there; the same path in the root.
const PROGRAMS: &[(&str, &str)] = &[
    ("busybox-static", "usr/bin/busybox"),
    ("e2fsprogs", "usr/sbin/e2fsck"),
    ("e2fsprogs", "usr/sbin/resize2fs"),
    ("dropbear-bin", "usr/sbin/dropbear"),
    ("wpasupplicant", "usr/sbin/wpa_supplicant"),
    ("libc6", "usr/lib/ld-linux-aarch64.so.1"),
];

/// Libraries of those programs: package, name in `usr/lib/aarch64-linux-gnu`.
const LIBRARIES: &[(&str, &str)] = &[
    ("libc6", "libc.so.6"),
    ("libc6", "libm.so.6"),
    ("libblkid1", "libblkid.so.1"),
    ("libcap2", "libcap.so.2"),
    ("libcom-err2", "libcom_err.so.2"),
    ("libcrypt1", "libcrypt.so.1"),
    ("libdbus-1-3", "libdbus-1.so.3"),
    ("libext2fs2t64", "libe2p.so.2"),
    ("libext2fs2t64", "libext2fs.so.2"),
    ("libgmp10", "libgmp.so.10"),
    ("libnl-3-200", "libnl-3.so.200"),
    ("libnl-genl-3-200", "libnl-genl-3.so.200"),
    ("libnl-route-3-200", "libnl-route-3.so.200"),
    ("libpcsclite1", "libpcsclite.so.1"),
    ("libssl3t64", "libcrypto.so.3"),
    ("libssl3t64", "libssl.so.3"),
    ("libsystemd0", "libsystemd.so.0"),
    ("libtomcrypt1", "libtomcrypt.so.1"),
    ("libtommath1", "libtommath.so.1"),
    ("libuuid1", "libuuid.so.1"),
    ("libzstd1", "libzstd.so.1"),
    ("zlib1g", "libz.so.1"),
];

/// Folders that things are mounted on.
const FOLDERS: &[&str] = &["boot", "data", "dev", "proc", "run", "sys", "tmp", "var/lib"];

const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("root", "data/root"),
    ("usr/bin/sh", "busybox"),
    ("usr/sbin/init", "../bin/busybox"),
    ("etc/dropbear", "/data/dropbear"),
    ("etc/holm", "/data/holm/etc"),
    ("etc/resolv.conf", "/run/resolv.conf"),
    ("var/lib/holm", "/data/holm/data"),
    ("var/log", "/run/log"),
    ("var/run", "/run"),
];

/// A path in the root, and what is there.
pub(crate) type Contents = (String, Vec<u8>);

/// What goes into the root.
#[derive(Debug)]
pub(crate) struct Root<'a> {
    /// Packages.
    pub(crate) parts: &'a Parts,
    /// The agent for arm64.
    pub(crate) agent: &'a Path,
    /// Drivers that are loaded where they are configured, and their firmware.
    pub(crate) drivers: Vec<Contents>,
    /// Seconds since 1970 that the clock never shows less than.
    pub(crate) built: u64,
    /// The board.
    pub(crate) board: &'a str,
    /// What the system calls itself.
    pub(crate) version: Version,
}

/// A folder of this checkout with files of the image.
fn source(path: &str) -> PathBuf {
    project_root().join("cross/image").join(path)
}

impl Root<'_> {
    /// Writes it into `dir`, an empty folder, and packs it into `image`.
    pub(crate) fn pack(&self, dir: &Path, image: &Path) -> Result<()> {
        self.stage(dir)?;
        squash(dir, image, self.built)
    }

    fn stage(&self, dir: &Path) -> Result<()> {
        copy_tree(&source("root"), dir)?;
        for folder in FOLDERS {
            make_dir(&dir.join(folder))?;
        }
        for (package, path) in PROGRAMS {
            copy(&self.parts.path(package, path)?, &dir.join(path), 0o755)?;
        }
        for (package, name) in LIBRARIES {
            let path = format!("usr/lib/aarch64-linux-gnu/{name}");
            copy(&self.parts.path(package, &path)?, &dir.join(&path), 0o755)?;
        }
        copy(self.agent, &dir.join("usr/bin/edge-agent"), 0o755)?;
        for (path, contents) in &self.drivers {
            let file = dir.join(path);
            make_dir(file.parent().context("a path in the root")?)?;
            std::fs::write(&file, contents).with_context(|| path.clone())?;
            std::fs::set_permissions(&file, Permissions::from_mode(0o644))?;
        }
        for (link, target) in LINKS {
            symlink(target, dir.join(link)).with_context(|| format!("link {link}"))?;
        }
        let slots = dir.join("usr/bin/holm-slot");
        let copies = RECORD_SECTORS.map(|sector| sector.to_string()).join(" ");
        let text = std::fs::read_to_string(&slots)?.replace("@COPIES@", &copies);
        write(&slots, &text)?;
        write(&dir.join("etc/build-time"), &format!("{}\n", self.built))?;
        write(&dir.join("etc/holm-version"), &format!("holm-{}\n", self.version))?;
        write(&dir.join("etc/holm-board"), &format!("{}\n", self.board))?;
        write(&dir.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")
    }
}

fn squash(dir: &Path, image: &Path, epoch: u64) -> Result<()> {
    let mut pack = tool("mksquashfs", epoch);
    pack.arg(dir).arg(image);
    pack.args(["-comp", "zstd", "-noappend", "-quiet", "-no-progress", "-all-root"]);
    pack.args(["-no-xattrs", "-no-exports"]);
    run(&mut pack)
}

/// Packs a root that starts, and hangs before anything of the system runs: nobody is left to restart it but
/// the watchdog. For tests; `dir` is an empty folder.
pub(crate) fn hanging_root(parts: &Parts, dir: &Path, image: &Path) -> Result<()> {
    for folder in ["dev", "proc", "sys", "run", "usr/sbin"] {
        make_dir(&dir.join(folder))?;
    }
    symlink("usr/sbin", dir.join("sbin"))?;
    let busybox = parts.path("busybox-static", "usr/bin/busybox")?;
    copy(&busybox, &dir.join("usr/bin/busybox"), 0o755)?;
    let init = dir.join("usr/sbin/init");
    write(&init, "#!/usr/bin/busybox sh\nwhile /usr/bin/busybox sleep 60; do :; done\n")?;
    std::fs::set_permissions(&init, Permissions::from_mode(0o755))?;
    squash(dir, image, 0)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    // Whatever the umask of who builds.
    std::fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(dir) = to.parent() {
        make_dir(dir)?;
    }
    std::fs::copy(from, to).with_context(|| from.display().to_string())?;
    std::fs::set_permissions(to, Permissions::from_mode(mode))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    make_dir(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            let is_program = entry.metadata()?.permissions().mode() & 0o100 != 0;
            copy(&path, &target, if is_program { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

/// The archive that the kernel starts with: busybox, modules, and the script that finds the root.
pub(crate) fn initramfs(parts: &Parts, modules: &[Module]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "etc", "lib", "lib/modules", "proc", "root", "run", "sys"] {
        archive.directory(dir)?;
    }
    // Until the first program mounts the real /dev.
    archive.device("dev/console", 5, 1)?;
    archive.copy("bin/busybox", &parts.path("busybox-static", "usr/bin/busybox")?)?;
    archive.link("bin/sh", "busybox")?;
    archive.copy("init", &source("initramfs/init"))?;
    archive.copy("lib/watchdog", &source("root/usr/lib/holm/watchdog"))?;
    archive.file("etc/disk-signature", hex(&DISK_SIGNATURE).as_bytes())?;
    let mut order = String::new();
    for module in modules {
        let name = format!("{}.ko", module.name);
        archive.file(&format!("lib/modules/{name}"), &module.contents)?;
        order.push_str(&name);
        order.push('\n');
    }
    archive.file("lib/modules/order", order.as_bytes())?;
    archive.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A set of modules as files of the root, with the order in which they are loaded.
pub(crate) fn module_set(name: &str, modules: Vec<Module>) -> Vec<Contents> {
    let order: String = modules.iter().map(|module| format!("{}.ko\n", module.name)).collect();
    let dir = format!("usr/lib/modules/{name}");
    let files =
        modules.into_iter().map(|module| (format!("{dir}/{}.ko", module.name), module.contents));
    files.chain([(format!("{dir}/order"), order.into_bytes())]).collect()
}

/// That a file is a program for arm64.
pub(crate) fn check_agent(agent: &Path) -> Result<()> {
    let bytes = std::fs::read(agent).with_context(|| {
        format!("{}: the agent for arm64, which `cargo xtask targets` builds", agent.display())
    })?;
    let is_arm64 = bytes.starts_with(b"\x7fELF\x02\x01") && bytes.get(18..20) == Some(&[183, 0]);
    ensure!(is_arm64, "{} is no program for 64-bit ARM", agent.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{check_agent, source};

    #[test]
    fn scripts_are_shell() {
        let mut scripts = vec![source("initramfs/init")];
        for folder in ["root/usr/lib/holm", "root/usr/bin"] {
            let folder = source(folder).read_dir().expect("a folder");
            scripts.extend(folder.map(|entry| entry.expect("a file").path()));
        }
        assert!(scripts.len() > 8, "{scripts:?}");
        for script in scripts {
            let read = Command::new("sh").arg("-n").arg(&script).output().expect("sh");
            let said = String::from_utf8_lossy(&read.stderr);
            assert!(read.status.success(), "{}: {said}", script.display());
        }
    }

    /// A shell that waits has its files under other numbers: it was not found, nor ended, and who came next
    /// could not open the watchdog. `/dev/full` stands for that here.
    #[test]
    fn whoever_feeds_the_watchdog_is_found_and_ended() {
        let feeder = tempfile::NamedTempFile::new().expect("a file");
        let script = format!(
            "pidof() {{ :; }}; . {}; feed 60; pid=$(cat $FEEDER); n=0; \
             until feeds $pid || [ $n -eq 100 ]; do n=$((n + 1)); sleep 0.05; done; \
             feeds $pid || exit 2; sleep 0.2; unfed; ! feeds $pid && ! [ -e $FEEDER ]",
            source("root/usr/lib/holm/watchdog").display()
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env("WATCHDOG_DEVICE", "/dev/full");
        let ended = shell.env("FEEDER", feeder.path()).status().expect("sh");
        assert!(ended.success(), "{ended}");
    }

    /// The keeper writes the time of its turn anew each second: whoever reads it in between finds nothing.
    #[test]
    fn the_watchdog_is_fed_though_the_keeper_is_just_writing() {
        let dir = tempfile::tempdir().expect("a folder");
        let [feeder, turned, turns, go] =
            ["feeder", "turned", "turns", "go"].map(|name| dir.path().join(name));
        std::fs::write(&turned, "").expect("a file");
        // The feeder says each turn, and waits until it may go on. Its end is the end of the pipe.
        let script = format!(
            "up_ms() {{ echo 1000; }}; \
             sleep() {{ if [ $1 = 5 ]; then echo turn >&4; read -r go <&5; else command sleep $1; fi; }}; \
             . {}; mkfifo $TURNS $GO; exec 5<>$GO 6<>$TURNS; feed_on 4>$TURNS; exec 6<$TURNS; \
             for n in 1 2 3 4 5; do read -r turn <&6 || exit 2; [ $n = 5 ] || echo go >&5; done; \
             feeds $(cat $FEEDER); fed=$?; unfed; exit $fed",
            source("root/usr/lib/holm/watchdog").display()
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env("WATCHDOG_DEVICE", "/dev/zero").env("TURNS", turns);
        shell.env("GO", go);
        shell.env("FEEDER", feeder).env("TURNED", turned);
        let ended = shell.status().expect("sh");
        assert!(ended.success(), "{ended}");
    }

    #[test]
    fn a_program_for_another_processor_is_refused() {
        let own = std::env::current_exe().expect("a test has a program");
        if cfg!(target_arch = "x86_64") {
            let error = check_agent(&own).expect_err("it is for x86-64");
            assert!(error.to_string().contains("64-bit ARM"), "{error}");
        }
        assert!(check_agent(std::path::Path::new("/nonexistent")).is_err());
    }
}
