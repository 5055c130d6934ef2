//! The one write method: a batch into the journal, one sync, then into the rows that a checkpoint
//! may take.
//!
//! # A batch longer than a segment
//! Everything before it is checkpointed first. Then the journal gets an announcement, and the rows
//! go to redb in one transaction; the batch is committed when that is. A start that finds the
//! announcement, and not the batch in the checkpoint, cuts it off: nobody was told of it. On a full
//! disk nothing is deleted ahead of the rest, since half of the batch would then be there.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edge_core::id::BatchSeq;

use super::checkpoint::Checkpointer;
use super::error::StoreError;
use super::journal::Journal;
use super::shared::Shared;
use super::stats::{Counters, add, get};
use super::table::Table;
use super::{Batch, Point, Store, record};

/// Rows that move under one hold of the lock; readers and the loop get in between.
const ABSORB_ROWS: usize = 512;
/// A checkpoint is asked for when no more segments than this are free.
const FREE_SEGMENTS_LOW: usize = 1;
/// How often a waiting commit looks again. It is woken up anyway.
const WAIT: Duration = Duration::from_secs(1);
/// Encode buffers larger than this are not kept.
const BUFFER_KEPT_BYTES: usize = 256 << 10;

/// The store of a directory. Dropping it closes it: readers get
/// [`ReadError::Closed`](super::ReadError::Closed) and the directory is free.
pub struct JournalStore {
    shared: Arc<Shared>,
    journal: Journal,
    checkpointer: Arc<Mutex<Checkpointer>>,
    thread: Option<JoinHandle<()>>,
    last: BatchSeq,
    failed: bool,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for JournalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalStore").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Store for JournalStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let begun = Instant::now();
        let result = self.try_commit(batch);
        self.failed = result.as_ref().is_err_and(|error| !error.is_harmless());
        let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.counters.commit_took(us);
        result
    }
}

impl JournalStore {
    pub(super) fn new(
        shared: Arc<Shared>,
        journal: Journal,
        checkpointer: Checkpointer,
        last: BatchSeq,
    ) -> std::io::Result<Self> {
        let background = shared.settings.background;
        let checkpointer = Arc::new(Mutex::new(checkpointer));
        let mut store = Self {
            shared,
            journal,
            checkpointer,
            thread: None,
            last,
            failed: false,
            buffer: Vec::new(),
        };
        if background {
            let checkpointer = Arc::clone(&store.checkpointer);
            let run = move || checkpointer.lock().unwrap_or_else(PoisonError::into_inner).run();
            store.thread = Some(std::thread::Builder::new().name("checkpoint".into()).spawn(run)?);
        }
        Ok(store)
    }

    /// The longest encoded batch that costs no checkpoint. An operation takes little more than its
    /// contents.
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        self.journal.batch_bytes_max()
    }

    /// A reader of this store.
    #[must_use]
    pub fn reader(&self) -> super::Reader {
        super::Reader { shared: Arc::clone(&self.shared) }
    }

    /// Moves everything durable to redb, or asks the checkpoint thread to.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], after which the store goes on; else the store has failed.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        if self.thread.is_some() {
            self.shared.update(|state| state.wanted = true);
            return Ok(());
        }
        self.checkpointer.lock().unwrap_or_else(PoisonError::into_inner).checkpoint()
    }

    fn try_commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        if let Some(error) = shared.state().failed.clone() {
            return Err(error);
        }
        if batch.seq != self.last.next() {
            return Err(StoreError::OutOfOrder { expected: self.last.next(), got: batch.seq });
        }
        let mut record = std::mem::take(&mut self.buffer);
        record::encode(batch, &mut record);
        let is_long = record.len() > self.journal.batch_bytes_max();
        if is_long {
            // What came before must not wait for it, nor share its transaction.
            self.wait_for_checkpoint(|store, upto| upto == store.last)?;
            shared.update(|state| state.in_one_piece = true);
            record::encode_elsewhere(batch.seq, &mut record);
        }
        shared.settings.reach(Point::BeforeAppend);
        self.make_room(batch.seq, record.len())?;
        self.append(batch.seq, &mut record)?;
        self.last = batch.seq;
        add(&shared.counters.batches, 1);
        self.absorb(batch);
        if is_long {
            self.wait_for_checkpoint(|store, upto| upto == store.last)?;
            shared.update(|state| state.in_one_piece = false);
        } else {
            self.want_checkpoint()?;
        }
        if record.capacity() <= BUFFER_KEPT_BYTES {
            self.buffer = record;
        }
        Ok(())
    }

    fn append(&mut self, seq: BatchSeq, record: &mut [u8]) -> Result<(), StoreError> {
        let Counters { journal_bytes, journal_block_bytes, syncs, .. } = &*self.shared.counters;
        let blocks = self.journal.write(seq.0, record);
        add(journal_block_bytes, blocks.map_err(StoreError::io("writing to the journal"))?);
        add(journal_bytes, record.len() as u64);
        self.shared.settings.reach(Point::AfterAppend);
        self.journal.sync().map_err(StoreError::io("syncing the journal"))?;
        add(syncs, 1);
        self.shared.settings.reach(Point::AfterSync);
        Ok(())
    }

    /// Sees to it that the current segment has room.
    fn make_room(&mut self, seq: BatchSeq, record_bytes: usize) -> Result<(), StoreError> {
        if self.journal.has_room(record_bytes) {
            return Ok(());
        }
        self.journal.release(self.shared.state().checkpointed.0);
        if self.journal.free_segments() == 0 {
            self.wait_for_segment()?;
        }
        self.shared.settings.reach(Point::BeforeRecycle);
        let advanced =
            self.journal.advance(seq.0).map_err(StoreError::io("beginning a journal segment"))?;
        assert!(advanced, "a segment was free");
        add(&self.shared.counters.syncs, 1);
        self.shared.settings.reach(Point::AfterRecycle);
        Ok(())
    }

    /// Back-pressure: the journal is full until the checkpoint is done.
    fn wait_for_segment(&mut self) -> Result<(), StoreError> {
        add(&self.shared.counters.waits, 1);
        self.wait_for_checkpoint(|store, upto| {
            store.journal.release(upto.0);
            store.journal.free_segments() > 0
        })
    }

    /// Asks for checkpoints until they have come far enough.
    fn wait_for_checkpoint(
        &mut self,
        mut is_enough: impl FnMut(&mut Self, BatchSeq) -> bool,
    ) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let tries = shared.state().tries;
        loop {
            self.checkpoint()?;
            let mut state = shared.state();
            if state.wanted {
                state = shared.wait(state, WAIT);
            }
            if let Some(error) = state.failed.clone() {
                return Err(error);
            }
            let (checkpointed, full, tried) = (state.checkpointed, state.disk_full, state.tries);
            drop(state);
            if is_enough(self, checkpointed) {
                return Ok(());
            }
            // One try may have begun before the last batches were durable; the next has them all.
            if full && tried > tries + 1 {
                return Err(StoreError::DiskFull);
            }
        }
    }

    /// The batch joins the rows that a checkpoint may take.
    fn absorb(&self, batch: &Batch) {
        let shared = &self.shared;
        shared.state().durable_time = batch.gateway_time;
        let _whole = shared.absorbing();
        let rows = {
            let mut mem = shared.mem_mut();
            mem.durable = batch.seq;
            match mem.pending.front() {
                // It stays in place for readers until all of it is in `active`.
                Some((seq, rows)) if *seq == batch.seq => Arc::clone(rows),
                _ => {
                    mem.active.upto = batch.seq;
                    return;
                }
            }
        };
        for (table, start, end) in rows.ranges() {
            while !shared.mem_mut().active.absorb_range(table, start, end, ABSORB_ROWS) {}
        }
        let mut at: Option<(Table, Box<[u8]>)> = None;
        loop {
            let mut mem = shared.mem_mut();
            let after = at.as_ref().map(|(table, key)| (*table, &**key));
            let mut count = 0;
            let mut last = None;
            for (table, key, entry) in rows.rows_after(after).take(ABSORB_ROWS) {
                mem.active.absorb_row(table, key, entry);
                count += 1;
                last = Some((table, key));
            }
            if count < ABSORB_ROWS {
                mem.active.upto = batch.seq;
                mem.pending.pop_front();
                return;
            }
            at = last.map(|(table, key)| (table, key.into()));
        }
    }

    fn want_checkpoint(&mut self) -> Result<(), StoreError> {
        let checkpointed = self.shared.state().checkpointed;
        self.journal.release(checkpointed.0);
        let settings = &self.shared.settings;
        let memory = self.shared.mem().active.bytes() as u64;
        let due = self.shared.counters.journal_bytes_pending() >= settings.checkpoint_bytes
            || memory >= settings.checkpoint_bytes.saturating_mul(2)
            || self.journal.free_segments() <= FREE_SEGMENTS_LOW;
        let state = self.shared.state();
        // On a full disk the checkpoint thread tries by itself, now and then.
        if !due || state.wanted || (state.disk_full && self.thread.is_some()) {
            return Ok(());
        }
        drop(state);
        match self.checkpoint() {
            // There is still room in the journal, or the next commit says that there is none.
            Err(StoreError::DiskFull) => Ok(()),
            other => other,
        }
    }
}

impl Drop for JournalStore {
    fn drop(&mut self) {
        self.shared.update(|state| state.stopping = true);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the panic hook; closing goes on.
            let _ = thread.join();
        }
        *self.shared.base_mut() = None;
        let committed = get(&self.shared.counters.batches);
        tracing::debug!(committed, last = self.last.0, "the store is closed");
    }
}
