//! Where what lies on the disk, and the boot record of the slots.

use anyhow::{Result, ensure};

use super::crc32::crc32;

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;
/// Bytes of a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;
/// Signature of the disk (MBR, offset 440), by which the running system finds it.
pub(crate) const DISK_SIGNATURE: [u8; 4] = *b"HOLM";

/// First sectors of the two copies of the boot record. They are 4 MiB apart and away from the
/// partitions: what a memory card erases at once is not more than that.
pub(crate) const RECORD_SECTORS: [u64; 2] = [4 * MIB / SECTOR, 8 * MIB / SECTOR];

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

/// A slot for a system: kernel, initramfs and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Partition 2, folder `a` of partition 1.
    A,
    /// Partition 3, folder `b`.
    B,
}

impl Slot {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What the boot loader goes by. `cross/image/boot.cmd` says how it lies in its 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BootRecord {
    /// Of two copies the one with the greater generation counts.
    pub(crate) generation: u32,
    /// The slot that is known to be good.
    pub(crate) good: Slot,
    /// Tries left for the other slot; `None`: it is not on trial.
    pub(crate) trial: Option<u32>,
}

const MAGIC: [u8; 4] = *b"HOLM";
const FORMAT: u32 = 1;
const SUM_AT: usize = 504;

/// A checksum in both orders of its bytes: U-Boot writes it in one or the other.
fn both(first: u32, second: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_be_bytes());
    bytes[4..].copy_from_slice(&second.to_be_bytes());
    bytes
}

impl BootRecord {
    /// That of a fresh image: slot a, no trial.
    pub(crate) const FRESH: Self = Self { generation: 1, good: Slot::A, trial: None };

    /// Its sector.
    pub(crate) fn encode(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        sector[..4].copy_from_slice(&MAGIC);
        let numbers = [
            FORMAT,
            self.generation,
            u32::from(self.good == Slot::B),
            u32::from(self.trial.is_some()),
            self.trial.unwrap_or_default(),
        ];
        for (n, number) in numbers.iter().enumerate() {
            sector[4 + 4 * n..8 + 4 * n].copy_from_slice(&number.to_le_bytes());
        }
        let sum = crc32(&sector[..SUM_AT]);
        sector[SUM_AT..].copy_from_slice(&both(sum, sum.swap_bytes()));
        sector
    }

    /// What a sector says; `None` if it is torn, damaged or of another format.
    pub(crate) fn decode(sector: &[u8; 512]) -> Option<Self> {
        let number = |at: usize| {
            sector.get(at..at + 4)?.try_into().ok().map(|bytes: [u8; 4]| u32::from_le_bytes(bytes))
        };
        let sum = crc32(&sector[..SUM_AT]);
        let sums = [both(sum, sum.swap_bytes()), both(sum.swap_bytes(), sum)];
        let whole = sums.iter().any(|sums| sums[..] == sector[SUM_AT..]);
        if sector[..4] != MAGIC || !whole || number(4)? != FORMAT {
            return None;
        }
        let good = match number(12)? {
            0 => Slot::A,
            1 => Slot::B,
            _ => return None,
        };
        let trial = (number(16)? == 1).then_some(number(20)?);
        Some(Self { generation: number(8)?, good, trial })
    }

    /// The newer of two copies.
    pub(crate) fn newest(copies: &[[u8; 512]; 2]) -> Option<Self> {
        copies.iter().filter_map(Self::decode).max_by_key(|record| record.generation)
    }
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
    use super::{BootRecord, IMAGE_BYTES, MIB, PARTITIONS, RECORD_SECTORS, SECTOR, Slot, mbr};

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

    #[test]
    fn a_record_is_read_back_and_a_torn_one_is_not() {
        let record = BootRecord { generation: 7, good: Slot::B, trial: Some(2) };
        let sector = record.encode();
        assert_eq!(BootRecord::decode(&sector), Some(record));
        for at in [0, 4, 8, 12, 16, 20, 100, 511] {
            let mut torn = sector;
            torn[at] ^= 1;
            assert_eq!(BootRecord::decode(&torn), None, "byte {at}");
        }
    }

    #[test]
    fn a_checksum_counts_in_either_order() {
        let record = BootRecord { generation: 9, good: Slot::A, trial: Some(1) };
        let mut sector = record.encode();
        let (first, second) = sector[504..].split_at_mut(4);
        first.swap_with_slice(second);
        assert_eq!(BootRecord::decode(&sector), Some(record));
    }

    #[test]
    fn the_newest_whole_copy_counts() {
        let old = BootRecord::FRESH;
        let new = BootRecord { generation: 2, trial: Some(1), ..old };
        assert_eq!(BootRecord::newest(&[old.encode(), new.encode()]), Some(new));
        assert_eq!(BootRecord::newest(&[new.encode(), old.encode()]), Some(new));
        let mut torn = new.encode();
        torn[8] = 3;
        assert_eq!(BootRecord::newest(&[old.encode(), torn]), Some(old));
        assert_eq!(BootRecord::newest(&[[0; 512], [0xff; 512]]), None);
    }
}
