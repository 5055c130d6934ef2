//! Counters of a store, for status and tests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use edge_core::id::BatchSeq;

/// A snapshot. Counts are since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Batches committed.
    pub batches: u64,
    /// Syncs of the journal.
    pub syncs: u64,
    /// The last batch covered by a sync.
    pub synced: BatchSeq,
    /// Bytes written to the journal.
    pub journal_bytes: u64,
    /// Bytes that are handed to the device: whole blocks of 4 KiB, of the journal and of redb. The
    /// file system adds its own book-keeping: 6 % at 20 messages a second that are written at once, and
    /// up to 70 % at one a second (ext4, counted at a loop device). The system's count for a process,
    /// `/proc/self/io`, can be fifteen times as much: it counts a page cache folio of 64 KiB where only one
    /// block of it is written.
    pub disk_bytes: u64,
    /// Journal bytes that the next checkpoint will release.
    pub journal_bytes_pending: u64,
    /// Bytes redb wrote.
    pub checkpoint_bytes: u64,
    /// Checkpoints done.
    pub checkpoints: u64,
    /// The last batch in the checkpoint.
    pub checkpointed: BatchSeq,
    /// Receipted outbox rows deleted in redb.
    pub purged_rows: u64,
    /// Duration of the last commit in microseconds.
    pub commit_us_last: u64,
    /// Duration of the longest commit in microseconds.
    pub commit_us_max: u64,
    /// Commits that had to wait for a checkpoint.
    pub waits: u64,
    /// Keys and values in redb, in bytes.
    pub live_bytes: u64,
    /// Estimated memory of the rows that are not in redb yet, in bytes.
    pub memory_bytes: u64,
    /// The last checkpoint found the disk full.
    pub disk_full: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) batches: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) journal_bytes: AtomicU64,
    /// Bytes of the blocks that a journal write touches.
    pub(super) journal_block_bytes: AtomicU64,
    /// `journal_bytes` when the last checkpoint began.
    pub(super) journal_mark: AtomicU64,
    pub(super) checkpoint_bytes: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) purged_rows: AtomicU64,
    pub(super) commit_us_last: AtomicU64,
    pub(super) commit_us_max: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) live_bytes: AtomicU64,
    /// redb met a full disk since this was last cleared.
    pub(super) base_full: AtomicBool,
}

/// All counters are statistics or are handed over under a lock: relaxed order suffices.
const ORDER: Ordering = Ordering::Relaxed;

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, ORDER);
}

pub(super) fn set(counter: &AtomicU64, n: u64) {
    counter.store(n, ORDER);
}

pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(ORDER)
}

impl Counters {
    pub(super) fn journal_bytes_pending(&self) -> u64 {
        get(&self.journal_bytes).saturating_sub(get(&self.journal_mark))
    }

    pub(super) fn commit_took(&self, us: u64) {
        set(&self.commit_us_last, us);
        self.commit_us_max.fetch_max(us, ORDER);
    }
}
