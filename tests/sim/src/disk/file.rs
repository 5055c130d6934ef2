//! One file: its live and its durable image, and the writes between them.

use std::collections::BTreeSet;
use std::io;

use super::DiskCounts;
use crate::rng::Rng;

/// What the payloads of simulated messages begin with; an id of 8 bytes (big-endian) follows. Ids
/// in synced bytes are noted, so that an ack can be held against what the disk really keeps.
pub const MARK: &[u8] = b"holm-sim:";

/// A disk writes this much at once.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    ids: BTreeSet<u64>,
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("invariant: simulated files fit into memory")
}

fn write(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

impl File {
    pub(super) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = at(offset);
        let bytes = self.live.get(offset..offset + out.len());
        let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write_at(&mut self, offset: u64, data: &[u8]) {
        write(&mut self.live, at(offset), data);
        self.pending.push(Pending::Write { offset: at(offset), data: data.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.live.resize(at(len), 0);
        self.pending.push(Pending::SetLen(at(len)));
    }

    /// Whether a write with this id is durable, or was: later rows may stand in its place.
    pub(super) fn has_durable(&self, id: u64) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            self.settle(pending);
        }
    }

    fn settle(&mut self, pending: Pending) {
        match pending {
            Pending::Write { offset, data } => {
                self.ids.extend(ids(&data));
                write(&mut self.durable, offset, &data);
            }
            Pending::SetLen(len) => self.durable.resize(len, 0),
        }
    }

    /// What waits is kept or lost; the live image is what is left.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng, counts: &mut DiskCounts) {
        self.cut_power(rng, counts);
    }

    /// What waits is kept, lost or torn.
    pub(super) fn cut_power(&mut self, rng: &mut Rng, counts: &mut DiskCounts) {
        let mut len = self.durable.len();
        let mut writes = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::SetLen(new) if rng.chance(500_000) => len = new,
                Pending::SetLen(_) => {}
                Pending::Write { offset, data } => writes.push((offset, data)),
            }
        }
        self.durable.resize(len, 0);
        writes.sort_by_key(|(offset, _)| *offset);
        for (offset, data) in writes {
            match rng.below(10) {
                0..=3 => self.settle(Pending::Write { offset, data }),
                4..=7 => counts.lost += 1,
                _ => {
                    counts.torn += 1;
                    self.tear(offset, &data, rng);
                }
            }
        }
        self.live.clone_from(&self.durable);
    }

    /// Some of the sectors of a write arrive.
    fn tear(&mut self, offset: usize, data: &[u8], rng: &mut Rng) {
        let mut start = 0;
        while start < data.len() {
            let sector_end = (offset + start) / SECTOR * SECTOR + SECTOR;
            let end = (sector_end - offset).min(data.len());
            if rng.chance(500_000) {
                write(&mut self.durable, offset + start, &data[start..end]);
            }
            start = end;
        }
    }
}

/// Ids behind the marks in `data`.
fn ids(data: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let mut rest = data;
    std::iter::from_fn(move || {
        loop {
            let first = rest.iter().position(|byte| *byte == MARK[0])?;
            rest = &rest[first..];
            if let Some(behind) = rest.strip_prefix(MARK) {
                rest = behind;
                let id = behind.first_chunk()?;
                return Some(u64::from_be_bytes(*id));
            }
            rest = &rest[1..];
        }
    })
}
