//! What the disk holds after a power cut.
//!
//! # Rules
//! - What was completed before the last flush before the cut is there.
//! - Each later write is kept, dropped, or torn (some of its sectors are kept), on its own: a disk
//!   may write its cache back in any order, and the cut leaves some of it. That a later write is
//!   there and an earlier one is not is how a reordering looks.
//! - Of two writes to one sector, the later one wins if both are kept: a cache holds one version.
//! - The write that was under way at the cut had not been completed; it may be there, too.
//! - The block of ext4's superblock is never torn. ext4 changes it in place and without its journal
//!   when it is mounted and unmounted, and has no cure for a half of it but a repair by hand.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::random::Random;

use super::log::{Entry, Log, SECTOR_BYTES};
use super::points::Cut;

/// End of the block that holds the superblock.
const SUPERBLOCK_END: u64 = 4096;
/// Copied as one.
const CHUNK_BYTES: usize = 64 << 10;

/// The durable content of the disk, rolled forward through the log.
pub(super) struct Image {
    bytes: Vec<u8>,
    /// Chunks that are not all zero, or were written to.
    used: BTreeSet<usize>,
    /// Entries of the log that are in it.
    applied: usize,
}

/// Bytes that survived: their place and themselves.
pub(super) type Piece<'a> = (u64, &'a [u8]);

impl Image {
    /// The disk before the log: `bytes`, of the file system alone.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let chunks = bytes.chunks(CHUNK_BYTES).enumerate();
        let used = chunks.filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0));
        let used = used.map(|(n, _)| n).collect();
        Self { bytes, used, applied: 0 }
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Rolls it forward to the last flush before the cut. Cuts must come in order.
    pub(super) fn advance(&mut self, log: &Log, cut: &Cut) {
        self.apply(log, last_flush(log, cut));
    }

    /// Rolls it forward through the first `upto` entries of the log.
    pub(super) fn apply(&mut self, log: &Log, upto: usize) {
        for entry in log.entries.iter().take(upto).skip(self.applied) {
            let Entry::Write { offset, data } = entry else { continue };
            let (begin, data) = (usize::try_from(*offset).unwrap_or(usize::MAX), log.data(data));
            self.bytes[begin..begin + data.len()].copy_from_slice(data);
            self.used.extend(begin / CHUNK_BYTES..=(begin + data.len() - 1) / CHUNK_BYTES);
        }
        self.applied = self.applied.max(upto);
    }

    /// Writes it as a fresh file, with the pieces over it.
    pub(super) fn write(&self, path: &Path, pieces: &[Piece]) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let file = File::create(path)?;
            file.set_len(self.bytes.len() as u64)?;
            for chunk in &self.used {
                let begin = chunk * CHUNK_BYTES;
                let end = self.bytes.len().min(begin + CHUNK_BYTES);
                file.write_all_at(&self.bytes[begin..end], begin as u64)?;
            }
            pieces.iter().try_for_each(|(offset, data)| file.write_all_at(data, *offset))
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

/// The entry behind the last flush before the cut that was done.
fn last_flush(log: &Log, cut: &Cut) -> usize {
    let before = log.entries[..cut.at].iter().enumerate().rev();
    let mut flushes = before.filter(|(_, entry)| **entry == Entry::Flush);
    flushes.nth(cut.flushes_missed).map_or(0, |(place, _)| place + 1)
}

/// How the cut treats what was not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// All of it is there.
    KeepAll,
    /// Nothing of it is there.
    DropAll,
    /// Each write is there or not.
    Some,
    /// Each write is there, not there, or torn.
    Torn,
    /// Only the latest writes are there.
    LatestOnly,
}

/// What survives of the writes between the last flush and the cut.
pub(super) fn survivors<'a>(log: &'a Log, cut: &Cut) -> Vec<Piece<'a>> {
    let mut random = Random::new(cut.seed);
    let moods =
        [Mood::KeepAll, Mood::DropAll, Mood::Some, Mood::Torn, Mood::Torn, Mood::LatestOnly];
    let mood = moods[random.below(moods.len())];
    let write = |entry: &'a Entry| match entry {
        Entry::Write { offset, data } => Some((*offset, log.data(data))),
        _ => None,
    };
    let open: Vec<Piece> =
        log.entries[last_flush(log, cut)..cut.at].iter().filter_map(write).collect();
    let latest = random.below(open.len() + 1);
    let mut pieces = Vec::new();
    for (n, piece) in open.into_iter().enumerate() {
        match mood {
            Mood::KeepAll => pieces.push(piece),
            Mood::DropAll => {}
            Mood::Some if random.one_in(2) => pieces.push(piece),
            Mood::Some => {}
            Mood::Torn => match random.below(3) {
                0 => pieces.push(piece),
                1 => {}
                _ => tear(piece, &mut random, &mut pieces),
            },
            Mood::LatestOnly if n >= latest => pieces.push(piece),
            Mood::LatestOnly => {}
        }
    }
    let under_way = log.entries.get(cut.at).and_then(write).filter(|_| mood != Mood::DropAll);
    if let Some(piece) = under_way {
        tear(piece, &mut random, &mut pieces);
    }
    pieces
}

/// Keeps the first sectors of a write, or each by a coin.
fn tear<'a>((offset, data): Piece<'a>, random: &mut Random, pieces: &mut Vec<Piece<'a>>) {
    if offset < SUPERBLOCK_END {
        if random.one_in(2) {
            pieces.push((offset, data));
        }
        return;
    }
    let sectors = data.len() / SECTOR_BYTES;
    let first = random.below(sectors + 1);
    let by_coin = random.one_in(2);
    for (n, sector) in data.chunks(SECTOR_BYTES).enumerate() {
        let kept = if by_coin { random.one_in(2) } else { n < first };
        if kept {
            pieces.push((offset + (n * SECTOR_BYTES) as u64, sector));
        }
    }
}

#[cfg(test)]
mod tests;
