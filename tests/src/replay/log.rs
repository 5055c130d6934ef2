//! Reads the log of the recorder.
//!
//! The format is that of the kernel's `dm-log-writes` target: a super block, then entries of a head
//! (sector, number of sectors, flags, length) in a sector of its own and the data behind it. All
//! numbers are little-endian.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::witness::{self, Mark};

/// What is written as one: a torn write keeps whole sectors.
pub(super) const SECTOR_BYTES: usize = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;

/// Something that was done to the disk, in the order in which it was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Bytes of the file system.
    Write {
        /// Where on the disk.
        offset: u64,
        /// Where in the log.
        data: Range<usize>,
    },
    /// What was written before this is durable.
    Flush,
    /// A client noted what it saw.
    Witness(Vec<Mark>),
}

/// The log.
#[derive(Debug, Default)]
pub(super) struct Log {
    bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Log {
    /// Takes a log apart. What lies at or behind `witness_from` on the disk are notes of clients.
    pub(super) fn read(bytes: Vec<u8>, witness_from: u64) -> Result<Self> {
        ensure!(number(&bytes, 0)? == MAGIC, "this is no log of block writes");
        ensure!(number(&bytes, 8)? == VERSION, "the log has a version that is not known here");
        let count = number(&bytes, 16)?;
        let sector = number(&bytes, 24)? & u64::from(u32::MAX);
        ensure!(sector == SECTOR_BYTES as u64, "the log has sectors of {sector} bytes");
        let mut entries = Vec::new();
        let mut at = SECTOR_BYTES;
        for n in 0..count {
            let (entry, end) = entry(&bytes, at, witness_from)
                .with_context(|| format!("entry {n} of {count} of the log, at byte {at}"))?;
            entries.extend(entry);
            at = end;
        }
        Ok(Self { bytes, entries })
    }

    /// Bytes of a write.
    pub(super) fn data(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// Places of the flushes.
    pub(super) fn flushes(&self) -> Vec<usize> {
        let entries = self.entries.iter().enumerate();
        entries.filter(|(_, entry)| **entry == Entry::Flush).map(|(n, _)| n).collect()
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u64> {
    let eight = bytes.get(at..at + 8).and_then(|eight| eight.first_chunk());
    Ok(u64::from_le_bytes(*eight.context("the log is cut short")?))
}

/// The entry at `at`, and where the next one begins.
fn entry(bytes: &[u8], at: usize, witness_from: u64) -> Result<(Option<Entry>, usize)> {
    let [sector, sectors, flags] =
        [number(bytes, at)?, number(bytes, at + 8)?, number(bytes, at + 16)?];
    let begin = at + SECTOR_BYTES;
    let len = usize::try_from(sectors)?.checked_mul(SECTOR_BYTES).context("its length")?;
    let data = begin..begin.checked_add(len).context("its length")?;
    match (flags, len) {
        (FLUSH, 0) => return Ok((Some(Entry::Flush), begin)),
        (0, 0) => return Ok((None, begin)),
        (0, _) => {}
        _ => bail!("flags {flags} with {sectors} sectors are not expected: what does the disk do?"),
    }
    let written = bytes.get(data.clone()).context("the log is cut short")?;
    let offset = sector.checked_mul(SECTOR_BYTES as u64).context("its place")?;
    let entry = if offset < witness_from {
        ensure!(offset + len as u64 <= witness_from, "a write reaches into the notes");
        Entry::Write { offset, data: data.clone() }
    } else {
        Entry::Witness(witness::decode(written).context("a note that is none")?)
    };
    Ok((Some(entry), data.end))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A log with these entries: a place in sectors and data, or a flush.
    pub(in crate::replay) fn made(entries: &[Option<(u64, Vec<u8>)>]) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR_BYTES];
        let head = [MAGIC, VERSION, entries.len() as u64, SECTOR_BYTES as u64];
        for (n, number) in head.into_iter().enumerate() {
            bytes[n * 8..n * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        for entry in entries {
            let at = bytes.len();
            bytes.resize(at + SECTOR_BYTES, 0);
            let numbers = match entry {
                Some((sector, data)) => [*sector, (data.len() / SECTOR_BYTES) as u64, 0],
                None => [0, 0, FLUSH],
            };
            for (n, number) in numbers.into_iter().enumerate() {
                bytes[at + n * 8..at + n * 8 + 8].copy_from_slice(&number.to_le_bytes());
            }
            bytes.extend(entry.iter().flat_map(|(_, data)| data));
        }
        bytes
    }

    #[test]
    fn writes_flushes_and_notes_are_told_apart() {
        let data = vec![3; 2 * SECTOR_BYTES];
        let bytes = made(&[Some((4, data.clone())), None]);
        let log = Log::read(bytes, 1 << 20).unwrap();
        let [Entry::Write { offset: 2_048, data: range }, Entry::Flush] = &log.entries[..] else {
            panic!("{:?}", log.entries);
        };
        assert_eq!((log.data(range), log.flushes()), (&data[..], vec![1]));
        // The same bytes where notes are expected are none.
        assert!(Log::read(made(&[Some((4, data))]), 2_048).is_err());
    }

    #[test]
    fn what_is_no_log_or_is_cut_short_is_refused() {
        let whole = made(&[Some((0, vec![1; SECTOR_BYTES])), None]);
        assert!(Log::read(whole[..SECTOR_BYTES * 2].to_vec(), 1 << 20).is_err());
        assert!(Log::read(Vec::new(), 0).is_err());
        let mut discard = whole;
        discard[SECTOR_BYTES + 16] = 4;
        assert!(Log::read(discard, 1 << 20).is_err());
    }
}
