//! The block device below a folder: what the system counts of it in `/sys`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sync_protocol::id::Digest;

use super::seams::{BlockCount, BlockDevice};
use crate::runtime::boot_id;

/// Where the system lists block devices by number.
const DEVICES: &str = "/sys/dev/block";
/// The unit of its counts, whatever the device's own is.
const SECTOR_BYTES: u64 = 512;
/// Sectors written: the seventh number of `stat`.
const WRITTEN_AT: usize = 6;
/// What tells one device from another of its kind: of cards, of NVMe (its own, and as SCSI has them), of disks
/// (`sd`), of virtio; and what stands on several devices.
const NAMES: [&str; 6] =
    ["device/cid", "device/serial", "wwid", "device/wwid", "serial", "dm/uuid"];
/// Layers that are looked through, such as encryption on a volume of a group.
const LAYERS_MAX: usize = 8;

/// A device that the system counts.
#[derive(Debug)]
pub(super) struct SystemBlockDevice {
    dir: PathBuf,
    identity: u64,
    boot: u64,
}

impl SystemBlockDevice {
    /// The one that holds `folder`; `None` where the file system has none of its own, or the system
    /// does not show it.
    pub(super) fn below(folder: &Path) -> Option<Self> {
        let number = fs::metadata(folder).ok()?.dev();
        Self::listed(Path::new(DEVICES), number, &boot_id())
    }

    fn listed(devices: &Path, number: u64, boot: &str) -> Option<Self> {
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let mut dir = devices.join(format!("{major}:{minor}")).canonicalize().ok()?;
        // It is the card that wears out, whichever of its partitions is written to, and through whatever.
        for _ in 0..LAYERS_MAX {
            let Some(below) = only_below(&dir) else { break };
            dir = below;
        }
        if dir.join("partition").exists() {
            dir = dir.parent()?.to_owned();
        }
        let read = |name: &&str| fs::read(dir.join(name)).ok();
        // Those of virtual machines are there, and empty.
        let name = NAMES.iter().filter_map(read).find(|name| !name.trim_ascii().is_empty());
        let size = fs::read(dir.join("size")).ok()?;
        let identity = short(&[name.unwrap_or_default(), size].concat());
        let device = Self { dir, identity, boot: short(boot.as_bytes()) };
        device.count().is_some().then_some(device)
    }

    fn number(&self, file: &str, at: usize) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.split_ascii_whitespace().nth(at)?.parse().ok()
    }
}

impl BlockDevice for SystemBlockDevice {
    fn count(&self) -> Option<BlockCount> {
        let bytes = |sectors: u64| sectors.saturating_mul(SECTOR_BYTES);
        Some(BlockCount {
            identity: self.identity,
            boot: self.boot,
            written_bytes: bytes(self.number("stat", WRITTEN_AT)?),
            size_bytes: bytes(self.number("size", 0)?),
        })
    }
}

/// The one device that another one stands on, as LUKS does; `None`: it stands on none, or on several.
fn only_below(dir: &Path) -> Option<PathBuf> {
    let mut below = fs::read_dir(dir.join("slaves")).ok()?.flatten();
    let first = below.next()?;
    if below.next().is_some() { None } else { first.path().canonicalize().ok() }
}

fn short(bytes: &[u8]) -> u64 {
    let Digest(digest) = Digest::of(bytes);
    digest.iter().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const STAT: &str =
        "   15706       29   589136     3811    57530    10859  1970678    51094 0 44384 87928\n";

    fn devices() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let card = sys.path().join("mmcblk0");
        fs::create_dir_all(card.join("device")).unwrap();
        fs::create_dir_all(card.join("mmcblk0p4")).unwrap();
        fs::write(card.join("device/cid"), "27504853443332477630\n").unwrap();
        fs::write(card.join("size"), "62333952\n").unwrap();
        fs::write(card.join("stat"), STAT).unwrap();
        fs::write(card.join("mmcblk0p4/partition"), "4\n").unwrap();
        fs::write(card.join("mmcblk0p4/size"), "2048\n").unwrap();
        fs::write(card.join("mmcblk0p4/stat"), "0 0 0 0 0 0 8 0 0 0 0\n").unwrap();
        symlink(card.join("mmcblk0p4"), sys.path().join("179:4")).unwrap();
        sys
    }

    fn count(sys: &tempfile::TempDir, number: u64) -> BlockCount {
        let device = SystemBlockDevice::listed(sys.path(), number, "boot").unwrap();
        device.count().unwrap()
    }

    /// A volume on others: device 253:`minor`.
    fn volume(sys: &tempfile::TempDir, minor: u32, uuid: &str, below: &[&str]) -> u64 {
        let dir = sys.path().join(format!("dm-{minor}"));
        fs::create_dir_all(dir.join("slaves")).unwrap();
        fs::create_dir_all(dir.join("dm")).unwrap();
        for name in below {
            let to = sys.path().join(name);
            symlink(&to, dir.join("slaves").join(to.file_name().unwrap())).unwrap();
        }
        fs::write(dir.join("dm/uuid"), uuid).unwrap();
        fs::write(dir.join("size"), "2000\n").unwrap();
        fs::write(dir.join("stat"), "0 0 0 0 0 0 5 0 0 0 0\n").unwrap();
        symlink(&dir, sys.path().join(format!("253:{minor}"))).unwrap();
        rustix::fs::makedev(253, minor)
    }

    #[test]
    fn an_encrypted_volume_is_counted_at_its_card() {
        let sys = devices();
        let card = count(&sys, rustix::fs::makedev(179, 4));
        let luks = volume(&sys, 0, "CRYPT-LUKS2-1", &["mmcblk0/mmcblk0p4"]);
        assert_eq!(count(&sys, luks), card);
        let on_luks = volume(&sys, 1, "LVM-1", &["dm-0"]);
        assert_eq!(count(&sys, on_luks), card);
        // One on several is no card: it is counted by itself.
        let wide = count(&sys, volume(&sys, 2, "LVM-2", &["dm-0", "mmcblk0/mmcblk0p4"]));
        assert_eq!(wide.written_bytes, 5 * 512);
        let other = count(&sys, volume(&sys, 3, "LVM-3", &["dm-0", "mmcblk0/mmcblk0p4"]));
        assert_ne!(wide.identity, other.identity);
    }

    #[test]
    fn disks_have_names_too() {
        for name in ["device/wwid", "serial"] {
            let sys = devices();
            let number = rustix::fs::makedev(179, 4);
            let disk = sys.path().join("mmcblk0");
            fs::remove_file(disk.join("device/cid")).unwrap();
            let named = |text: &str| {
                fs::write(disk.join(name), text).unwrap();
                count(&sys, number).identity
            };
            assert_ne!(named("naa.5002538f\n"), named("naa.5002538e\n"), "{name}");
        }
    }

    #[test]
    fn a_partition_is_counted_at_its_card() {
        let sys = devices();
        let number = rustix::fs::makedev(179, 4);
        let device = SystemBlockDevice::listed(sys.path(), number, "boot").unwrap();
        let count = device.count().unwrap();
        assert_eq!(count.written_bytes, 1_970_678 * 512);
        assert_eq!(count.size_bytes, 62_333_952 * 512);
        // Another card of the same size in the same slot, another boot.
        fs::write(sys.path().join("mmcblk0/device/cid"), "other\n").unwrap();
        let other = SystemBlockDevice::listed(sys.path(), number, "later").unwrap();
        let other = other.count().unwrap();
        assert!(other.identity != count.identity && other.boot != count.boot);
        assert!(SystemBlockDevice::listed(sys.path(), number + 1, "boot").is_none());
    }
}
