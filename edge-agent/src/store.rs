//! The store of the gateway: what was committed is there after any crash, and nothing else is.
//!
//! # Invariants
//! - `commit` returns `Ok` only after one `fdatasync` that covers the batch. There is no other way
//!   to write.
//! - Batches become durable in the order of their [`BatchSeq`], without gaps: a crash keeps a
//!   prefix. An unacknowledged last batch may be kept or lost, never half kept.
//! - Bytes of a previous life of a recycled segment are never taken for new ones.
//! - What is missing, foreign, newer or damaged is refused at start with a word on what to do. It
//!   is never skipped.
//! - After a failed write or sync the store takes nothing more: drop it and open it again. An EIO
//!   from a sync is never retried on the same handle, because the kernel has already marked the
//!   pages clean.
//!
//! # Limits
//! - Journal: `segments` files of `segment_bytes` (5 of 4 MiB), allocated and zero-filled when the
//!   store is made; an append never needs new space. A batch fits in one segment.
//! - The checkpoint thread moves rows to redb at 8 MiB of journal or after 60 s. With no free
//!   segment left, `commit` waits for it ([`Stats::waits`]).
//! - Memory: rows since the checkpoint, so about twice the journal, and redb's cache (8 MiB).
//!
//! # Shape
//! An [`Op`] becomes row changes ([`op`]) on ordered tables ([`table`]). A row is looked for in the
//! batches that are not durable yet, newest first, then in the rows since the checkpoint began
//! (active), then in those being checkpointed (frozen), then in redb.
//!
//! ```text
//! loop:   Overlay::apply(seq, op) -> pending[seq]          read by functions at once
//! thread: Store::commit(batch)    -> journal, fdatasync -> pending[seq] joins active
//! thread: checkpoint              -> active becomes frozen -> redb commit -> segments recycled
//! ```
//!
//! Start: open redb, roll the journal forward into it, begin with a free journal.

mod ballast;
mod base;
mod checkpoint;
mod commit;
pub mod disk;
mod error;
mod heads;
mod journal;
mod memtable;
pub mod op;
mod open;
mod ranges;
mod reader;
mod record;
mod replay;
mod rows;
mod scan;
mod segment;
mod shared;
mod stats;
pub mod sync_check;
pub mod table;
pub mod thread;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use edge_core::boot::Formats;
use edge_core::id::BatchSeq;
use edge_core::time::Millis;

pub use commit::JournalStore;
pub use error::{OpenError, ReadError, StoreError};
pub use heads::{check_heads, is_made};
pub use op::{LedgerOp, Op};
pub use open::{Opened, open, open_on};
pub use reader::{Overlay, Reader};
pub use rows::StateRow;
pub(crate) use segment::is_file_name as is_segment;
pub use stats::Stats;
pub use thread::{Completion, NotTaken, StoreThread};

/// Number of the format of all that a store holds. It goes up by one with any of the formats in it; the
/// agent of the number before must have read both (`docs/agent-updates.md`).
pub const FORMAT: u32 = 1;

/// Formats that this program can go on with.
pub const FORMATS_KNOWN: Formats = Formats { reads: FORMAT, writes: FORMAT };

/// What becomes durable together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its number: one more than the batch before it.
    pub seq: BatchSeq,
    /// Gateway time at sealing; recovered at the next start.
    pub gateway_time: Millis,
    /// What it does, in order. Every operation was given to [`Overlay::apply`] before.
    pub ops: Vec<Op>,
}

/// The one way to write.
pub trait Store: Send {
    /// Makes the batch durable; blocks until the disk says so.
    ///
    /// A batch may have any length; one longer than a segment costs a checkpoint.
    ///
    /// After an error other than [`StoreError::OutOfOrder`] the store takes nothing more: drop it and
    /// open it again.
    ///
    /// # Errors
    /// [`StoreError`]; the batch may then be durable or not, and the next start tells.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;
}

/// A named moment at which a test may kill the process or copy its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The batch is encoded, nothing is written.
    BeforeAppend,
    /// The batch is written, not synced.
    AfterAppend,
    /// The batch is durable; nobody has been told.
    AfterSync,
    /// A checkpoint is about to begin.
    BeforeCheckpoint,
    /// All rows are in redb's transaction, which is not committed.
    BeforeCheckpointCommit,
    /// redb has committed; the journal still holds the batches.
    AfterCheckpointCommit,
    /// A segment is about to be given its next life.
    BeforeRecycle,
    /// The segment's new header is durable, with no batch in it.
    AfterRecycle,
}

/// Called at every [`Point`]; may well never return.
pub type Hook = Arc<dyn Fn(Point) + Send + Sync>;

/// How many segments a journal can have.
const SEGMENTS: RangeInclusive<u16> = 3..=99;

/// Settings of a store.
#[derive(Clone)]
pub struct Settings {
    /// Size of a journal segment in bytes, at least 16 KiB. Fixed when the store is made.
    pub segment_bytes: u32,
    /// How many segments, at least 3. Fixed when the store is made.
    pub segments: u16,
    /// Journal bytes (or bytes of rows in memory) after which a checkpoint begins.
    pub checkpoint_bytes: u64,
    /// Time after which a checkpoint begins.
    pub checkpoint_interval: Duration,
    /// redb's cache in bytes.
    pub cache_bytes: usize,
    /// Space kept back so that deletes can commit on a full disk, in bytes; 0 for none.
    pub ballast_bytes: u64,
    /// Ceiling on keys and values in bytes; see [`Reader::headroom_bytes`].
    pub store_bytes_max: u64,
    /// Outbox rows deleted in one transaction, at most; more receipted rows wait for the next.
    pub purge_rows_max: usize,
    /// Random number that becomes the identity of the store if it has to be made.
    pub new_store_id: u64,
    /// Whether checkpoints run on a thread of their own. `false` runs them inside `commit` and
    /// [`JournalStore::checkpoint`], for tests and simulation.
    pub background: bool,
    /// For tests; `None` in production.
    pub hook: Option<Hook>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 4 << 20,
            segments: 5,
            checkpoint_bytes: 8 << 20,
            checkpoint_interval: Duration::from_secs(60),
            cache_bytes: 8 << 20,
            ballast_bytes: 2 << 20,
            store_bytes_max: 2 << 30,
            purge_rows_max: 20_000,
            new_store_id: 0,
            background: true,
            hook: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("segment_bytes", &self.segment_bytes)
            .field("segments", &self.segments)
            .field("checkpoint_bytes", &self.checkpoint_bytes)
            .field("checkpoint_interval", &self.checkpoint_interval)
            .field("store_bytes_max", &self.store_bytes_max)
            .field("background", &self.background)
            .finish_non_exhaustive()
    }
}

impl Settings {
    fn reach(&self, point: Point) {
        if let Some(hook) = &self.hook {
            hook(point);
        }
    }
}

/// What the store remembers at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The last durable batch; the next one has the number after it.
    pub last: BatchSeq,
    /// Gateway time of that batch.
    pub gateway_time: Millis,
    /// The store was made just now.
    pub created: bool,
    /// Batches rolled forward from the journal.
    pub replayed_batches: u64,
    /// Bytes of a batch that was being written when the process or the power went: it was never
    /// acknowledged and is gone.
    pub torn_bytes: u64,
}

#[cfg(test)]
mod tests;
