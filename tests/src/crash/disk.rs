//! A small real file system that fills up or breaks: ext4 in a file, over a loop device. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// A mounted file system. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    image: PathBuf,
    dir: PathBuf,
}

/// Why no small file system can be mounted here; `None` where it can be tried.
#[must_use]
pub fn why_no_small_disk() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output();
    let root = id.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim() == "0");
    (!root).then_some("only root can mount a small file system")
}

impl SmallDisk {
    /// Makes a file system of `bytes` in the file `image` and mounts it on `dir`.
    ///
    /// # Errors
    /// There is no mkfs.ext4 or no loop device, or the mount is not allowed.
    pub fn mount(image: &Path, dir: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        std::fs::File::create(image)?.set_len(bytes)?;
        // Whole from the start: what the kernel zeroes behind the mount would be counted as wear.
        let whole = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).args(whole).arg(image))?;
        let disk = Self { image: image.to_owned(), dir: dir.to_owned() };
        disk.attach()?;
        Ok(disk)
    }

    fn attach(&self) -> Result<()> {
        // As Raspberry Pi OS and Debian mount their root.
        let options = ["-o", "loop,errors=remount-ro"];
        run(Command::new("mount").args(options).arg(&self.image).arg(&self.dir))
    }

    /// The kernel finds an error on the disk: from now on nothing of it can be written.
    ///
    /// # Errors
    /// The kernel cannot be told to (Linux before 5.1).
    pub fn turn_read_only(&self) -> Result<()> {
        let mut findmnt = Command::new("findmnt");
        let output =
            findmnt.args(["-n", "-o", "SOURCE"]).arg(&self.dir).output().context("findmnt")?;
        let device = String::from_utf8_lossy(&output.stdout);
        let name = device.trim().rsplit('/').next().unwrap_or_default();
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(&trigger, "1").with_context(|| trigger.clone())
    }

    /// Checks the disk and mounts it again. Nobody may have a file of it open.
    ///
    /// # Errors
    /// It is in use, or cannot be mended.
    pub fn repair(&self) -> Result<()> {
        run(Command::new("umount").arg(&self.dir))?;
        let mut check = Command::new("e2fsck");
        let output = check.arg("-fy").arg(&self.image).output().context("e2fsck")?;
        // 1: there were errors, and all are mended.
        ensure!(output.status.code().is_some_and(|code| code <= 1), "e2fsck: {output:?}");
        self.attach()
    }

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// `df` does not tell.
    pub fn free_bytes(&self) -> Result<u64> {
        let mut df = Command::new("df");
        let output = df.args(["--output=avail", "-B1"]).arg(&self.dir).output().context("df")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let bytes = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
        bytes.with_context(|| format!("df printed {text:?}"))
    }

    /// Somebody else fills the disk but for `left` bytes.
    ///
    /// # Errors
    /// The disk refuses before that.
    pub fn fill(&self, left: u64) -> Result<()> {
        let bytes = self.free_bytes()?.saturating_sub(left);
        let name = format!("hog-{bytes}");
        let path = self.dir.join(name);
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "bs=64K", "conv=fsync", "status=none"]);
        dd.arg(format!("of={}", path.display())).arg(format!("count={}", bytes >> 16));
        run(&mut dd)
    }

    /// What somebody else had filled it with goes.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn clear(&self) -> Result<()> {
        let mut cleared = 0;
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("hog-") {
                std::fs::remove_file(entry.path())?;
                cleared += 1;
            }
        }
        ensure!(cleared > 0, "the disk was not filled");
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whatever still has a file open ends with the test.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
