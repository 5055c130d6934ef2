//! Reads the log of the recorder.
//!
//! The format is that of the kernel's `dm-log-writes` target: a super block, then entries of a head
//! (sector, number of sectors, flags, length) in a sector of its own and the data behind it. All
//! numbers are little-endian.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::card::{Milestone, Note, Part};
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
    /// The gateway of a card had come so far.
    Reached(Milestone),
}

/// Whose log it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disk<'a> {
    /// A file system, and behind it, from this byte on, notes of clients.
    Noted(u64),
    /// A card, of which one part counts; notes were taken beside it.
    Card(Part, &'a [Note]),
}

/// The log.
#[derive(Debug, Default)]
pub(super) struct Log {
    bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Log {
    /// Takes a log apart.
    pub(super) fn read(bytes: Vec<u8>, disk: Disk) -> Result<Self> {
        ensure!(number(&bytes, 0)? == MAGIC, "this is no log of block writes");
        ensure!(number(&bytes, 8)? == VERSION, "the log has a version that is not known here");
        let count = number(&bytes, 16)?;
        let sector = number(&bytes, 24)? & u64::from(u32::MAX);
        ensure!(sector == SECTOR_BYTES as u64, "the log has sectors of {sector} bytes");
        let mut notes = match disk {
            Disk::Noted(_) => [].iter(),
            Disk::Card(_, notes) => notes.iter(),
        }
        .peekable();
        let mut entries = Vec::new();
        let mut at = SECTOR_BYTES;
        for n in 0..count {
            // A log that was so long has every entry that begins before that.
            while let Some(note) = notes.next_if(|note| note.log_bytes <= at as u64) {
                entries.push(note.entry());
            }
            let (entry, end) = entry(&bytes, at, disk)
                .with_context(|| format!("entry {n} of {count} of the log, at byte {at}"))?;
            entries.extend(entry);
            at = end;
        }
        entries.extend(notes.map(Note::entry));
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
fn entry(bytes: &[u8], at: usize, disk: Disk) -> Result<(Option<Entry>, usize)> {
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
    let part = match disk {
        Disk::Noted(from) if offset >= from => {
            let marks = witness::decode(written).context("a note that is none")?;
            return Ok((Some(Entry::Witness(marks)), data.end));
        }
        Disk::Noted(from) => Part { start: 0, bytes: from },
        Disk::Card(part, _) => part,
    };
    let end = offset + len as u64;
    let outside = end <= part.start || offset >= part.start + part.bytes;
    let entry = if outside {
        None
    } else {
        let inside = offset >= part.start && end <= part.start + part.bytes;
        ensure!(inside, "a write reaches over an end of its part of the disk");
        Some(Entry::Write { offset: offset - part.start, data: data.clone() })
    };
    Ok((entry, data.end))
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
        let log = Log::read(bytes, Disk::Noted(1 << 20)).unwrap();
        let [Entry::Write { offset: 2_048, data: range }, Entry::Flush] = &log.entries[..] else {
            panic!("{:?}", log.entries);
        };
        assert_eq!((log.data(range), log.flushes()), (&data[..], vec![1]));
        // The same bytes where notes are expected are none.
        assert!(Log::read(made(&[Some((4, data))]), Disk::Noted(2_048)).is_err());
    }

    #[test]
    fn what_is_no_log_or_is_cut_short_is_refused() {
        let whole = made(&[Some((0, vec![1; SECTOR_BYTES])), None]);
        assert!(Log::read(whole[..SECTOR_BYTES * 2].to_vec(), Disk::Noted(1 << 20)).is_err());
        assert!(Log::read(Vec::new(), Disk::Noted(0)).is_err());
        let mut discard = whole;
        discard[SECTOR_BYTES + 16] = 4;
        assert!(Log::read(discard, Disk::Noted(1 << 20)).is_err());
    }
}
