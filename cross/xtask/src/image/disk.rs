//! The whole disk in a file: partition table, boot record, partitions; and the check of it.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use edge_core::boot::card::BootRecord;

use super::board::Board;
use super::boot;
use super::layout::{IMAGE_BYTES, MIB, PARTITIONS, RECORD_SECTORS, SECTOR, check_fits, mbr};
use super::tool::{output, run, tool};

/// Identity of the file system of the data partition, and of its hashes: always the same.
const DATA_UUID: &str = "484f4c4d-0000-4000-8000-000000000004";

/// Makes the data partition: ext4 with a journal that is large enough for the card it grows to.
pub(crate) fn data(image: &Path, epoch: u64) -> Result<()> {
    File::create(image)?.set_len(PARTITIONS[3].bytes)?;
    let mut make = tool("mkfs.ext4", epoch);
    make.args(["-q", "-F", "-b", "4096", "-m", "0", "-J", "size=16", "-L", "holm-data"]);
    make.args(["-U", DATA_UUID, "-E"]);
    make.arg(format!("hash_seed={DATA_UUID},lazy_itable_init=0,lazy_journal_init=0,nodiscard"));
    run(make.arg(image))
}

/// Puts the partitions together; `root` goes into both slots.
pub(crate) fn assemble(out: &Path, boot: &Path, root: &Path, data: &Path) -> Result<()> {
    let mut disk = File::create(out).with_context(|| out.display().to_string())?;
    // Token and passphrase are in it.
    disk.set_permissions(Permissions::from_mode(0o600))?;
    disk.set_len(IMAGE_BYTES)?;
    disk.write_all(&mbr()?)?;
    for sector in RECORD_SECTORS {
        disk.seek(SeekFrom::Start(sector * SECTOR))?;
        disk.write_all(&BootRecord::FRESH.encode())?;
    }
    for (partition, file) in PARTITIONS.iter().zip([boot, root, root, data]) {
        check_fits(partition, file.metadata()?.len())?;
        copy_sparse(&mut disk, partition.start, file)?;
    }
    disk.sync_all()?;
    Ok(())
}

/// A file of the boot partition of an image, by its path there.
pub(crate) fn read_boot_file(image: &Path, path: &str) -> Result<Vec<u8>> {
    output(tool("mtype", 0).arg("-i").arg(boot_partition(image)).arg(format!("::/{path}")))
}

/// Writes a file of the boot partition of an image; its folder is there.
pub(crate) fn write_boot_file(image: &Path, path: &str, contents: &[u8]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(contents)?;
    let mut copy = tool("mcopy", 0);
    copy.arg("-i").arg(boot_partition(image)).arg("-o").arg(file.path());
    run(copy.arg(format!("::/{path}")))
}

/// As mtools name it.
fn boot_partition(image: &Path) -> OsString {
    let mut name = image.as_os_str().to_owned();
    name.push(format!("@@{}", PARTITIONS[0].start));
    name
}

/// Copies what is not zero: the rest of the file has no blocks then.
fn copy_sparse(disk: &mut File, start: u64, from: &Path) -> Result<()> {
    let mut file = File::open(from).with_context(|| from.display().to_string())?;
    let mut block = vec![0; 1 << 20];
    let mut at = start;
    loop {
        let mut filled = 0;
        while filled < block.len() {
            match file.read(&mut block[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        if block[..filled].iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(at))?;
            disk.write_all(&block[..filled])?;
        }
        at += u64::try_from(filled)?;
    }
}

/// Reads both copies of the boot record of a disk.
pub(crate) fn boot_record(image: &Path) -> Result<[[u8; 512]; 2]> {
    let mut disk = File::open(image).with_context(|| image.display().to_string())?;
    let mut copies = [[0; 512]; 2];
    for (copy, sector) in copies.iter_mut().zip(RECORD_SECTORS) {
        disk.seek(SeekFrom::Start(sector * SECTOR))?;
        disk.read_exact(copy)?;
    }
    Ok(copies)
}

/// Writes both copies.
pub(crate) fn set_boot_record(image: &Path, copies: &[[u8; 512]; 2]) -> Result<()> {
    let mut disk = File::options().write(true).open(image)?;
    for (copy, sector) in copies.iter().zip(RECORD_SECTORS) {
        disk.seek(SeekFrom::Start(sector * SECTOR))?;
        disk.write_all(copy)?;
    }
    Ok(())
}

/// Looks at a finished image as the chip, U-Boot and the kernel will: table, boot record, magic
/// numbers of the file systems, and the files that the board boots from.
pub(crate) fn check(image: &Path, board: Board) -> Result<()> {
    let mut disk = File::open(image)?;
    let mut sector = [0; 512];
    disk.read_exact(&mut sector)?;
    ensure!(sector == mbr()?, "the partition table is not what was written");
    let record = BootRecord::newest(&boot_record(image)?).map(|(record, _)| record);
    ensure!(record == Some(BootRecord::FRESH), "the boot record reads {record:?}");
    for (n, at, magic) in
        [(0, 82, b"FAT32".as_slice()), (1, 0, b"hsqs"), (2, 0, b"hsqs"), (3, 1080, &[0x53, 0xef])]
    {
        let partition = &PARTITIONS[n];
        let mut found = vec![0; magic.len()];
        disk.seek(SeekFrom::Start(partition.start + at))?;
        disk.read_exact(&mut found)?;
        ensure!(found == magic, "the partition {} has not its file system", partition.name);
    }
    let files = boot::list(image, PARTITIONS[0].start)?;
    let mut wanted =
        vec!["boot.scr", "a/kernel.gz", "a/initramfs.gz", "b/kernel.gz", "b/initramfs.gz"];
    if board.is_pi() {
        wanted.extend(["u-boot.bin", "config.txt"]);
        wanted.extend(board.firmware());
        let has_tree = files.iter().any(|file| file.starts_with(board.device_trees()));
        ensure!(has_tree, "the boot partition has no device tree of {}", board.name());
    }
    for file in wanted {
        let is_there = files.iter().any(|found| found == file);
        ensure!(is_there, "the boot partition has no {file}; it has {}", files.join(", "));
    }
    Ok(())
}

/// Bytes of a file that really lie on the disk, in MiB.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB)
}
