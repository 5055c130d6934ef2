//! The journal: segments in use, and the one that is appended to.
//!
//! # Invariants
//! - One batch is one write at the end of the current segment, then one `fdatasync`; the next
//!   batch is written only after that.
//! - A segment gets a new life only when the checkpoint holds every batch in it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::error::OpenError;
use super::record;
use super::segment::{self, HEADER_BYTES, Header};

/// Room a batch leaves in a segment for the header.
const SEGMENT_RESERVE: usize = HEADER_BYTES + record::HEADER_BYTES;

/// What a file system writes at least.
const BLOCK_BYTES: usize = 4096;

/// The journal of an open store.
#[derive(Debug)]
pub(super) struct Journal {
    files: Vec<Arc<dyn DiskFile>>,
    segment_bytes: usize,
    store_id: u64,
    next_number: u64,
    current: Option<Current>,
    /// Full segments, oldest first, with the last batch in each.
    full: VecDeque<(usize, u64)>,
    free: VecDeque<usize>,
}

#[derive(Debug)]
struct Current {
    slot: usize,
    life: Header,
    offset: usize,
    /// Last batch written.
    last: u64,
}

/// A journal as it was found, for [`Journal::resume`].
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) files: Vec<Arc<dyn DiskFile>>,
    pub(super) segment_bytes: usize,
    pub(super) store_id: u64,
    /// Highest number of a life so far.
    pub(super) number: u64,
    /// Slots whose batches are not in the checkpoint, oldest first, with the last batch of each.
    pub(super) in_use: Vec<(usize, u64)>,
}

/// Makes blank segment files, durably.
pub(super) fn create(disk: &dyn Disk, slots: usize, segment_bytes: u32) -> io::Result<()> {
    const STEP: usize = 64 << 10;
    let zeros = vec![0; STEP];
    for slot in 0..slots {
        let file = disk.create(&segment::file_name(slot))?;
        let len = u64::from(segment_bytes);
        let mut offset = 0;
        while offset < len {
            // Real zeros: an allocated but unwritten block would cost a metadata commit later.
            let step = (len - offset).min(STEP as u64);
            file.write_at(offset, &zeros[..usize::try_from(step).unwrap_or(STEP)])?;
            offset += step;
        }
        file.sync_data()?;
    }
    disk.sync_dir()
}

/// Opens all segment files of a store.
pub(super) fn open_files(
    disk: &dyn Disk,
    slots: usize,
    segment_bytes: u32,
) -> Result<Vec<Arc<dyn DiskFile>>, OpenError> {
    (0..slots)
        .map(|slot| {
            let name = segment::file_name(slot);
            let file = disk.open(&name).map_err(OpenError::io(format!("opening {name}")))?;
            let file =
                file.ok_or_else(|| OpenError::Damaged { what: format!("{name} is gone") })?;
            let len = file.len().map_err(OpenError::io(format!("reading {name}")))?;
            if len != u64::from(segment_bytes) {
                let what = format!("{name} has {len} bytes instead of {segment_bytes}");
                return Err(OpenError::Damaged { what });
            }
            Ok(file)
        })
        .collect()
}

impl Journal {
    /// Goes on after a start. Always begins a new segment: what was torn at the end of the old
    /// one stays there unread.
    pub(super) fn resume(slots: Slots) -> Self {
        let used: Vec<usize> = slots.in_use.iter().map(|(slot, _)| *slot).collect();
        Self {
            free: (0..slots.files.len()).filter(|slot| !used.contains(slot)).collect(),
            full: slots.in_use.into(),
            files: slots.files,
            segment_bytes: slots.segment_bytes,
            store_id: slots.store_id,
            next_number: slots.number + 1,
            current: None,
        }
    }

    /// The largest encoded batch.
    pub(super) fn batch_bytes_max(&self) -> usize {
        self.segment_bytes - SEGMENT_RESERVE
    }

    /// Whether the current segment has room for an encoded batch.
    pub(super) fn has_room(&self, record_bytes: usize) -> bool {
        self.current.as_ref().is_some_and(|at| at.offset + record_bytes <= self.segment_bytes)
    }

    /// Takes back the segments whose batches are all at or below `checkpointed`.
    pub(super) fn release(&mut self, checkpointed: u64) {
        while let Some(&(slot, last)) = self.full.front()
            && last <= checkpointed
        {
            self.full.pop_front();
            self.free.push_back(slot);
        }
    }

    pub(super) fn free_segments(&self) -> usize {
        self.free.len()
    }

    /// Begins a new life in a free segment, for batches from `first` on. Its header is durable
    /// when this returns. `false`: no segment is free.
    pub(super) fn advance(&mut self, first: u64) -> io::Result<bool> {
        let Some(slot) = self.free.pop_front() else { return Ok(false) };
        let life = Header { store_id: self.store_id, number: self.next_number, first };
        self.next_number += 1;
        let file = &self.files[slot];
        file.write_at(0, &life.encode())?;
        file.sync_data()?;
        let before = self.current.replace(Current { slot, life, offset: HEADER_BYTES, last: 0 });
        if let Some(full) = before {
            self.full.push_back((full.slot, full.last));
        }
        Ok(true)
    }

    /// Writes an encoded batch; [`Self::has_room`] was asked before. Not durable until
    /// [`Self::sync`]. Returns the bytes of the blocks that it touches.
    pub(super) fn write(&mut self, seq: u64, record: &mut [u8]) -> io::Result<u64> {
        let at = self.current.as_mut().expect("invariant: the caller asked for room");
        assert!(at.offset + record.len() <= self.segment_bytes, "a batch stays in its segment");
        record::seal(record, &at.life);
        self.files[at.slot].write_at(at.offset as u64, record)?;
        let first_block = at.offset / BLOCK_BYTES;
        at.offset += record.len();
        at.last = seq;
        let blocks = at.offset.div_ceil(BLOCK_BYTES) - first_block;
        Ok((blocks * BLOCK_BYTES) as u64)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        let at = self.current.as_ref().expect("invariant: a batch was written");
        self.files[at.slot].sync_data()
    }
}
