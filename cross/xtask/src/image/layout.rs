//! Where what lies on the disk.

use anyhow::{Result, ensure};
use edge_core::boot::card::COPIES_AT;

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;
/// Bytes of a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;
/// Signature of the disk (MBR, offset 440), by which the running system finds it.
pub(crate) const DISK_SIGNATURE: [u8; 4] = *b"HOLM";

/// First sectors of the two copies of the boot record.
pub(crate) const RECORD_SECTORS: [u64; 2] = [COPIES_AT[0] / SECTOR, COPIES_AT[1] / SECTOR];

/// A partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    /// What it is for.
    pub(crate) name: &'static str,
    /// Type byte of the table.
    pub(crate) kind: u8,
    /// First byte on the disk.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

/// The partitions. They cannot be changed on a gateway in the field: there is room for roots and
/// kernels to grow. The last one grows to the end of the card at the first boot.
pub(crate) const PARTITIONS: [Partition; 4] = [
    Partition { name: "boot", kind: 0x0c, start: 12 * MIB, bytes: 128 * MIB },
    Partition { name: "root a", kind: 0x83, start: 140 * MIB, bytes: 64 * MIB },
    Partition { name: "root b", kind: 0x83, start: 204 * MIB, bytes: 64 * MIB },
    Partition { name: "data", kind: 0x83, start: 268 * MIB, bytes: 128 * MIB },
];

/// Bytes of an image file.
pub(crate) const IMAGE_BYTES: u64 = 396 * MIB;

/// The master boot record: no code, a signature, four partitions of which the first is bootable.
pub(crate) fn mbr() -> Result<[u8; 512]> {
    let mut sector = [0; 512];
    sector[440..444].copy_from_slice(&DISK_SIGNATURE);
    for (n, partition) in PARTITIONS.iter().enumerate() {
        let entry = &mut sector[446 + 16 * n..446 + 16 * (n + 1)];
        entry[0] = if n == 0 { 0x80 } else { 0 };
        // Cylinders, heads and sectors say nothing: everybody goes by the sector numbers below.
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[4] = partition.kind;
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&u32::try_from(partition.start / SECTOR)?.to_le_bytes());
        entry[12..16].copy_from_slice(&u32::try_from(partition.bytes / SECTOR)?.to_le_bytes());
    }
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    Ok(sector)
}

/// That contents fit the partition that they are for.
pub(crate) fn check_fits(partition: &Partition, bytes: u64) -> Result<()> {
    ensure!(
        bytes <= partition.bytes,
        "{} has {bytes} bytes, the partition {} is {} MiB",
        partition.name,
        partition.name,
        partition.bytes / MIB
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{IMAGE_BYTES, MIB, PARTITIONS, RECORD_SECTORS, SECTOR, mbr};

    #[test]
    fn partitions_follow_each_other_and_leave_the_boot_record_alone() {
        let mut free_from = (RECORD_SECTORS[1] + 1) * SECTOR;
        for partition in PARTITIONS {
            assert!(partition.start >= free_from && partition.start.is_multiple_of(4 * MIB));
            free_from = partition.start + partition.bytes;
        }
        assert_eq!(free_from, IMAGE_BYTES);
    }

    #[test]
    fn the_table_names_sectors_and_is_marked() {
        let sector = mbr().expect("small numbers");
        assert_eq!(sector[446], 0x80);
        assert_eq!(sector[454..458], 24_576_u32.to_le_bytes());
        assert_eq!(sector[494 + 4], 0x83);
        assert_eq!(sector[510..], [0x55, 0xaa]);
    }
}
