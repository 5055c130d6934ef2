//! The disk under the benchmark: what file system it is, and how fast it syncs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What is written before each sync.
const BLOCK_BYTES: usize = 4_096;
/// The probe's file; it is written over from the start when it is full.
const FILE_BYTES: u64 = 4 << 20;

/// The file system of a folder.
///
/// # Errors
/// It is in memory, where a sync means nothing, or cannot be told.
pub fn file_system(dir: &Path) -> Result<String> {
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let (kind, source) = mount_of(&mounts, &dir).context("its mount is not listed")?;
    if matches!(kind, "tmpfs" | "ramfs" | "rootfs") {
        bail!(
            "{} is on {kind}, where a sync writes nothing: durability cannot be measured there; \
             choose a folder on a disk with --dir",
            dir.display()
        );
    }
    Ok(format!("{kind} on {source}"))
}

/// Type and source of the mount that a path lies on: the longest, and of equals the last.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<(&'a str, &'a str)> {
    let mount = |line: &'a str| {
        let mut words = line.split(' ');
        let (source, point, kind) = (words.next()?, words.next()?, words.next()?);
        path.starts_with(point).then_some((point.len(), (kind, source)))
    };
    mounts.lines().filter_map(mount).max_by_key(|(len, _)| *len).map(|(_, found)| found)
}

/// Syncs a second: 4 KiB at the end of what was written, then `fdatasync`, as the journal does it
/// in its zero-filled segments.
///
/// # Errors
/// The disk refuses.
pub fn syncs_per_s(dir: &Path, during: Duration) -> Result<f64> {
    let path = dir.join("sync-probe");
    let file = File::create(&path)?;
    let block = [0x5a; BLOCK_BYTES];
    for at in (0..FILE_BYTES).step_by(BLOCK_BYTES) {
        file.write_all_at(&[0; BLOCK_BYTES], at)?;
    }
    file.sync_all()?;
    let (begun, mut syncs, mut at) = (Instant::now(), 0.0, 0);
    while begun.elapsed() < during {
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        syncs += 1.0;
        at = (at + BLOCK_BYTES as u64) % FILE_BYTES;
    }
    let rate = syncs / begun.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
                          /dev/vdb /run/data xfs rw 0 0\ntmpfs /run/data/x tmpfs rw 0 0\n";

    #[test]
    fn the_innermost_mount_counts() {
        let of = |path: &str| mount_of(MOUNTS, Path::new(path));
        assert_eq!(of("/home/a"), Some(("ext4", "/dev/vda")));
        assert_eq!(of("/run/lock"), Some(("tmpfs", "tmpfs")));
        assert_eq!(of("/run/data/holm"), Some(("xfs", "/dev/vdb")));
        assert_eq!(of("/run/database"), Some(("tmpfs", "tmpfs")), "whole names only");
    }

    #[test]
    fn a_folder_in_memory_is_refused() {
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            let err = file_system(shm).expect_err("tmpfs").to_string();
            assert!(err.contains("--dir"), "{err}");
        }
    }

    #[test]
    fn syncs_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(syncs_per_s(dir.path(), Duration::from_millis(50)).unwrap() > 0.0);
    }
}
