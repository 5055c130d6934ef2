//! Segment files of the journal: names, header, and what a header says about its file.
//!
//! A segment is a file `journal-NN.seg` of fixed size, written full of zeros when the store is
//! made and used again and again. Each use is a *life* with a number one above the last; the
//! header of a life is durable before its first record is written.
//!
//! ```text
//! offset size  little-endian
//!      0    8  magic "HOLMJRNL"
//!      8    2  format of the journal (1)
//!     10    2  format of the core's rows
//!     12    2  format of the broker's rows
//!     14    2  format of the ledger's rows
//!     16    8  identity of the store, random
//!     24    8  number of this life, from 1
//!     32    8  number of the first batch of this life
//!     40    4  CRC32C of bytes 0..40
//!     44   20  zero
//!     64       records, see `record`
//! ```

use super::error::OpenError;
use super::op::LEDGER_FORMAT;

/// Where records begin.
pub(super) const HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"HOLMJRNL";
const CRC_AT: usize = 40;

/// Version of the journal's layout.
pub(super) const JOURNAL_FORMAT: u16 = 2;

/// Versions of everything in the store.
pub(super) const FORMATS: [u16; 4] =
    [JOURNAL_FORMAT, edge_core::op::FORMAT, edge_broker::broker::op::FORMAT, LEDGER_FORMAT];

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store_id: u64,
    /// Number of this life.
    pub(super) number: u64,
    /// Its first batch.
    pub(super) first: u64,
}

/// What stands where a header belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Never used.
    Blank,
    /// A life of this store.
    Life(Header),
    /// The mark of a segment, but the rest is torn: a crash while a life began.
    Torn,
}

pub(super) fn file_name(slot: usize) -> String {
    format!("journal-{slot:02}.seg")
}

/// Whether a file is called as a segment.
pub(crate) fn is_file_name(name: &str) -> bool {
    name.starts_with("journal-") && name.ends_with(".seg")
}

pub(super) fn text(formats: [u16; 4]) -> String {
    let [journal, core, broker, ledger] = formats;
    format!("{journal}.{core}.{broker}.{ledger}")
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        for (at, format) in [8, 10, 12, 14].into_iter().zip(FORMATS) {
            out[at..at + 2].copy_from_slice(&format.to_le_bytes());
        }
        out[16..24].copy_from_slice(&self.store_id.to_le_bytes());
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

/// Judges the first bytes of a segment file of the store `store_id`.
pub(super) fn judge(
    file: &str,
    bytes: &[u8; HEADER_BYTES],
    store_id: u64,
) -> Result<Found, OpenError> {
    let found = read(file, bytes)?;
    if let Found::Life(header) = found
        && header.store_id != store_id
    {
        let why = "it was written by another store";
        return Err(OpenError::Foreign { file: file.into(), why });
    }
    Ok(found)
}

/// The same for a segment of any store.
pub(super) fn read(file: &str, bytes: &[u8; HEADER_BYTES]) -> Result<Found, OpenError> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Found::Blank);
    }
    if &bytes[..8] != MAGIC {
        let why = "it is not a segment of a journal";
        return Err(OpenError::Foreign { file: file.into(), why });
    }
    let crc = u32::from_le_bytes([bytes[40], bytes[41], bytes[42], bytes[43]]);
    if crc != crc32c::crc32c(&bytes[..CRC_AT]) {
        return Ok(Found::Torn);
    }
    let formats = [8, 10, 12, 14].map(|at| u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    if formats != FORMATS {
        return Err(OpenError::OtherFormat {
            file: file.into(),
            found: text(formats),
            known: text(FORMATS),
        });
    }
    Ok(Found::Life(Header {
        store_id: u64_at(bytes, 16),
        number: u64_at(bytes, 24),
        first: u64_at(bytes, 32),
    }))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIFE: Header = Header { store_id: 7, number: 3, first: 40 };

    /// Who raises a format raises [`super::super::FORMAT`], adds a line here, and sees to it that the data of
    /// the line before can be read.
    #[test]
    fn the_number_of_the_format_goes_up_with_any_of_them() {
        let numbers = [(1, [2, 2, 2, 1])];
        assert_eq!(numbers.last(), Some(&(super::super::FORMAT, FORMATS)));
    }

    #[test]
    fn a_header_is_known_again() {
        let found = judge("x", &LIFE.encode(), 7).expect("ours");
        assert_eq!(found, Found::Life(LIFE));
        assert_eq!(judge("x", &[0; HEADER_BYTES], 7).expect("blank"), Found::Blank);
    }

    #[test]
    fn another_store_and_another_format_are_refused() {
        assert!(matches!(judge("x", &LIFE.encode(), 8), Err(OpenError::Foreign { .. })));
        let mut newer = LIFE.encode();
        newer[8] = 9;
        let crc = crc32c::crc32c(&newer[..CRC_AT]);
        newer[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(judge("x", &newer, 7), Err(OpenError::OtherFormat { .. })));
    }

    proptest! {
        #[test]
        fn no_changed_byte_passes_for_a_life(at in 0_usize..44, with in 1_u8..) {
            let mut bytes = LIFE.encode();
            bytes[at] ^= with;
            prop_assert!(!matches!(judge("x", &bytes, 7), Ok(Found::Life(_))));
        }
    }
}
