//! The boot record of a card image: what its boot loader goes by.
//!
//! It lies twice on the card, 512 bytes each, outside of all partitions; always the older copy is written
//! over. `cross/image/boot.cmd` says how it lies in its bytes, and reads and writes it as well.

use serde::{Deserialize, Serialize};

use super::Slot;

/// Where the two copies begin, in bytes. They are 4 MiB apart and away from the partitions: what a
/// memory card erases at once is not more than that.
pub const COPIES_AT: [u64; 2] = [4 << 20, 8 << 20];
/// Bytes of a copy.
pub const COPY_BYTES: usize = 512;
/// Starts that a system on trial gets.
pub const TRIES: u32 = 2;

const MAGIC: [u8; 4] = *b"HOLM";
const FORMAT: u32 = 1;
const SUM_AT: usize = 504;

/// What a copy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// Of two copies the one with the greater generation counts.
    pub generation: u32,
    /// The slot that is known to be good.
    pub good: Slot,
    /// Tries left for the other slot; `None`: it is not on trial.
    pub trial: Option<u32>,
}

/// A checksum in both orders of its bytes: U-Boot writes it in one or the other.
fn both(first: u32, second: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_be_bytes());
    bytes[4..].copy_from_slice(&second.to_be_bytes());
    bytes
}

impl BootRecord {
    /// That of a fresh image: slot a, no trial.
    pub const FRESH: Self = Self { generation: 1, good: Slot::A, trial: None };

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; COPY_BYTES] {
        let mut sector = [0; COPY_BYTES];
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

    /// What a copy says; `None` if it is torn, damaged or of another format.
    #[must_use]
    pub fn decode(sector: &[u8; COPY_BYTES]) -> Option<Self> {
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

    /// The newer of two copies, and which one it is.
    #[must_use]
    pub fn newest(copies: &[[u8; COPY_BYTES]; 2]) -> Option<(Self, usize)> {
        let whole = copies.iter().enumerate();
        let whole = whole.filter_map(|(n, copy)| Some((Self::decode(copy)?, n)));
        whole.max_by_key(|(record, _)| record.generation)
    }

    /// The record that follows, with this trial of the other slot.
    #[must_use]
    pub const fn with_trial(self, trial: Option<u32>) -> Self {
        Self { generation: self.generation.wrapping_add(1), good: self.good, trial }
    }
}

/// The CRC-32 of U-Boot and of Ethernet (IEEE 802.3, reflected).
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{BootRecord, Slot, crc32};

    #[test]
    fn the_checksum_is_the_one_that_everybody_knows() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
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
        let new = old.with_trial(Some(1));
        assert_eq!(BootRecord::newest(&[old.encode(), new.encode()]), Some((new, 1)));
        assert_eq!(BootRecord::newest(&[new.encode(), old.encode()]), Some((new, 0)));
        let mut torn = new.encode();
        torn[8] = 3;
        assert_eq!(BootRecord::newest(&[old.encode(), torn]), Some((old, 0)));
        assert_eq!(BootRecord::newest(&[[0; 512], [0xff; 512]]), None);
    }
}
