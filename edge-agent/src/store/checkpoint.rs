//! Moves rows from memory to redb, in one transaction for all batches since the last time.
//!
//! # Invariants
//! - A checkpoint holds whole batches, and only durable ones, but for one that is longer than a
//!   segment: the checkpoint is what makes it durable (`commit`).
//! - Rows leave memory only after redb's commit is durable.
//! - Ranges of the outbox are noted as dead and deleted piece by piece, at most `purge_rows_max`
//!   rows a transaction: a receipt for five million records stalls nobody.
//!
//! # A full disk
//! redb copies what it changes, so that even a delete needs space, and a handle that met a full
//! disk is of no more use. Then: give up the ballast, open the file again, commit deletes alone
//! until nothing is left to delete, take the ballast back, and only then try once more: rows never
//! eat the ballast. (To delete first is safe: a start rolls forward from the last whole checkpoint,
//! and every change is absolute.) If that fails too the rows stay in memory and the journal, and
//! the next try comes a little later, with what was committed since; only when the journal is full
//! as well has the store failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use edge_core::id::BatchSeq;
use redb::{Table as RedbTable, WriteTransaction};

use super::Point;
use super::ballast::Ballast;
use super::base::{self, Meta, definition};
use super::disk::Disk;
use super::error::StoreError;
use super::memtable::Generation;
use super::ranges::RangeSet;
use super::shared::{Key, Shared};
use super::stats::{add, set};
use super::table::{Table, successor};

/// Rows deleted in one transaction when the disk is full: few, so that it needs few pages.
const FULL_PURGE_ROWS: usize = 1_000;
/// Transactions of that kind in one try.
const FULL_PURGE_ROUNDS: usize = 50;
/// Pause before more dead rows are deleted, or before the next try on a full disk.
const PAUSE: Duration = Duration::from_secs(1);
/// The next try on a full disk where nothing was deleted meanwhile and no space is seen: each costs
/// some writing.
const FULL_INTERVAL: Duration = Duration::from_secs(30);

/// Who writes to redb. One at a time.
pub(super) struct Checkpointer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) ballast: Ballast,
    /// As committed.
    pub(super) meta: Meta,
    pub(super) dead: RangeSet,
}

/// What went wrong with a checkpoint.
#[derive(Debug)]
enum Failure {
    Full,
    Redb(redb::Error),
}

impl Checkpointer {
    /// Runs until the store closes.
    pub(super) fn run(&mut self) {
        let _guard = PanicGuard(Arc::clone(&self.shared));
        let mut last = Instant::now();
        loop {
            let interval = self.shared.settings.checkpoint_interval;
            let mut state = self.shared.state();
            let patience = if state.disk_full {
                PAUSE
            } else if self.dead.is_empty() {
                interval.saturating_sub(last.elapsed())
            } else {
                PAUSE.min(interval.saturating_sub(last.elapsed()))
            };
            if !state.stopping && (state.disk_full || !state.wanted) {
                state = self.shared.wait(state, patience);
            }
            if state.stopping || state.failed.is_some() {
                return;
            }
            let (wanted, full) = (state.wanted, state.disk_full);
            drop(state);
            let due = if full {
                let since = last.elapsed();
                let hope = wanted || self.shared.mem().active.has_deletes() || self.sees_space();
                since >= FULL_INTERVAL || (since >= PAUSE && hope)
            } else {
                wanted || last.elapsed() >= interval
            };
            if due {
                last = Instant::now();
                // The outcome stands in the state, where the committer sees it.
                let _ = self.checkpoint();
            } else if !full && !self.dead.is_empty() {
                self.purge_more();
            }
        }
    }

    /// Whether the disk has room for the rows in memory, redb's copies of what they change, and the
    /// ballast.
    fn sees_space(&self) -> bool {
        let rows = self.shared.memory_bytes().saturating_mul(2);
        let needed = rows + self.shared.settings.ballast_bytes;
        self.disk.free_bytes().is_ok_and(|free| free > needed)
    }

    /// Deletes one more piece of the dead rows.
    fn purge_more(&mut self) {
        let budget = self.shared.settings.purge_rows_max;
        match self.transact(budget, |_, _, _| Ok(())) {
            Ok(()) => self.shared.mem_mut().dead = Arc::new(self.dead.clone()),
            // The next checkpoint meets the same, and knows what to do.
            Err(_) => self.shared.state().wanted = true,
        }
    }

    /// One checkpoint of everything durable, or one more piece of the dead rows.
    pub(super) fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.shared.update(|state| state.wanted = false);
        self.shared.settings.reach(Point::BeforeCheckpoint);
        let frozen = self.freeze();
        let result = if frozen.upto.0 == self.meta.seq && frozen.is_empty() && self.dead.is_empty()
        {
            self.publish(frozen.upto);
            Ok(())
        } else {
            self.write(&frozen)
        };
        let result = match result {
            Ok(()) => {
                self.restore_ballast();
                Ok(())
            }
            Err(Failure::Full) => {
                tracing::warn!("the disk is full: no checkpoint was possible");
                Err(StoreError::DiskFull)
            }
            Err(Failure::Redb(error)) => {
                tracing::error!(%error, "the checkpoint failed");
                Err(StoreError::Checkpoint(error.to_string().into()))
            }
        };
        self.shared.update(|state| {
            state.tries += 1;
            state.disk_full =
                matches!(result, Err(StoreError::DiskFull)) || !self.ballast.is_enough();
            if let Err(error @ StoreError::Checkpoint(_)) = &result {
                state.failed = Some(error.clone());
            }
        });
        result
    }

    /// The generation to move. One left from a try that failed takes in what came since: a row
    /// that was deleted meanwhile then needs no space.
    fn freeze(&self) -> Arc<Generation> {
        let _whole_batches = self.shared.absorbing();
        let mut mem = self.shared.mem_mut();
        let upto = mem.active.upto;
        let active = std::mem::replace(&mut mem.active, Generation::new(upto));
        let frozen = match mem.frozen.take().map(Arc::unwrap_or_clone) {
            Some(mut left) => {
                left.absorb(&active);
                left
            }
            None => active,
        };
        let frozen = Arc::new(frozen);
        mem.frozen = Some(Arc::clone(&frozen));
        let written = super::stats::get(&self.shared.counters.journal_bytes);
        set(&self.shared.counters.journal_mark, written);
        frozen
    }

    fn write(&mut self, frozen: &Generation) -> Result<(), Failure> {
        let in_one_piece = self.shared.state().in_one_piece;
        match self.write_all(frozen) {
            // To delete first would break the batch up that is in no journal.
            Err(Failure::Full) if in_one_piece => {
                self.reopen()?;
                return Err(Failure::Full);
            }
            Err(Failure::Full) => self.write_on_full_disk(frozen)?,
            other => other?,
        }
        self.shared.settings.reach(Point::AfterCheckpointCommit);
        self.publish(frozen.upto);
        add(&self.shared.counters.checkpoints, 1);
        Ok(())
    }

    fn restore_ballast(&mut self) {
        if let Err(error) = self.ballast.restore() {
            tracing::warn!(%error, "the ballast file could not be written");
        }
    }

    fn write_all(&mut self, frozen: &Generation) -> Result<(), Failure> {
        let time = self.shared.state().durable_time;
        let budget = self.shared.settings.purge_rows_max;
        self.transact(budget, |txn, meta, dead| {
            apply_ranges(txn, frozen, meta, dead)?;
            apply_rows(txn, frozen, meta, dead, true)?;
            meta.seq = frozen.upto.0;
            meta.gateway_time = time.0;
            Ok(())
        })
    }

    fn write_on_full_disk(&mut self, frozen: &Generation) -> Result<(), Failure> {
        self.reopen()?;
        if !frozen.has_deletes() && self.dead.is_empty() {
            return Err(Failure::Full);
        }
        tracing::warn!("the disk is full: giving up the ballast to delete rows");
        if let Err(error) = self.ballast.release() {
            tracing::warn!(%error, "the ballast file could not be removed");
        }
        let result = self.delete_then_write(frozen);
        if let Err(Failure::Full) = result {
            // The handle is of no more use; readers need one that is.
            self.reopen()?;
        }
        result
    }

    fn delete_then_write(&mut self, frozen: &Generation) -> Result<(), Failure> {
        self.transact(FULL_PURGE_ROWS, |txn, meta, dead| {
            apply_ranges(txn, frozen, meta, dead)?;
            apply_rows(txn, frozen, meta, dead, false)
        })?;
        for _ in 0..FULL_PURGE_ROUNDS {
            if self.dead.is_empty() {
                break;
            }
            self.transact(FULL_PURGE_ROWS, |_, _, _| Ok(()))?;
        }
        // redb uses freed pages again only after one more commit.
        self.transact(0, |_, _, _| Ok(()))?;
        self.restore_ballast();
        if self.ballast.is_enough() { self.write_all(frozen) } else { Err(Failure::Full) }
    }

    fn reopen(&self) -> Result<(), Failure> {
        let mut base = self.shared.base_mut();
        *base = None;
        let cache_bytes = self.shared.settings.cache_bytes;
        match base::open(&*self.disk, cache_bytes, &self.shared.counters) {
            Ok(Some((db, _))) => {
                *base = Some(db);
                Ok(())
            }
            Ok(None) => Err(Failure::Redb(redb::Error::DatabaseClosed)),
            Err(super::OpenError::DiskFull) => Err(Failure::Full),
            Err(super::OpenError::Checkpoint { source }) => Err(Failure::Redb(*source)),
            Err(other) => Err(Failure::Redb(redb::Error::Corrupted(other.to_string()))),
        }
    }

    /// One transaction; deletes up to `purge_rows` dead rows as well. Nothing of `self` changes
    /// unless it commits.
    fn transact(
        &mut self,
        purge_rows: usize,
        work: impl FnOnce(&WriteTransaction, &mut Meta, &mut RangeSet) -> Result<(), redb::Error>,
    ) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        counters.base_full.store(false, Ordering::Relaxed);
        let mut meta = self.meta.clone();
        let mut dead = self.dead.clone();
        let run = || -> Result<usize, redb::Error> {
            let base = shared.base();
            let db = base.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let txn = base::begin(db)?;
            work(&txn, &mut meta, &mut dead)?;
            let purged = purge(&txn, &mut meta, &mut dead, purge_rows)?;
            meta.dead = dead.iter().map(|(start, end)| (start.into(), end.into())).collect();
            meta.put(&txn)?;
            shared.settings.reach(Point::BeforeCheckpointCommit);
            txn.commit()?;
            Ok(purged)
        };
        match run() {
            Ok(purged) => {
                self.meta = meta;
                self.dead = dead;
                add(&counters.purged_rows, purged as u64);
                set(&counters.live_bytes, self.meta.live_bytes);
                Ok(())
            }
            Err(_) if counters.base_full.load(Ordering::Relaxed) => Err(Failure::Full),
            Err(error) => Err(Failure::Redb(error)),
        }
    }

    /// From here on reads find the rows in redb.
    fn publish(&self, upto: BatchSeq) {
        let frozen = {
            let mut mem = self.shared.mem_mut();
            mem.dead = Arc::new(self.dead.clone());
            mem.frozen.take()
        };
        // Thousands of rows: not under the lock.
        drop(frozen);
        self.shared.update(|state| state.checkpointed = upto);
    }
}

/// Whoever waits for a checkpoint that panics must not wait for ever.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = StoreError::Checkpoint("its thread panicked".into());
            self.0.update(|state| state.failed = Some(error));
        }
    }
}

type Rows<'txn> = RedbTable<'txn, &'static [u8], &'static [u8]>;

fn bounds<'a>(
    start: &'a [u8],
    end: &'a [u8],
) -> (std::ops::Bound<&'a [u8]>, std::ops::Bound<&'a [u8]>) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    (Included(start), if end.is_empty() { Unbounded } else { Excluded(end) })
}

/// Deletes the ranges of a generation; those of the outbox become dead.
fn apply_ranges(
    txn: &WriteTransaction,
    rows: &Generation,
    meta: &mut Meta,
    dead: &mut RangeSet,
) -> Result<(), redb::Error> {
    for table in Table::ALL {
        let gone = &rows.table(table).gone;
        if gone.is_empty() {
            continue;
        }
        if table == Table::Outbox {
            for (start, end) in gone.iter() {
                dead.insert(start.into(), end.into());
            }
            continue;
        }
        let mut open = txn.open_table(definition(table))?;
        for (start, end) in gone.iter() {
            delete_range(&mut open, start, end, usize::MAX, meta)?;
        }
    }
    Ok(())
}

/// Writes the rows of a generation, or only its deletes.
fn apply_rows(
    txn: &WriteTransaction,
    rows: &Generation,
    meta: &mut Meta,
    dead: &mut RangeSet,
    puts: bool,
) -> Result<(), redb::Error> {
    for table in Table::ALL {
        let rows = &rows.table(table).rows;
        if rows.is_empty() {
            continue;
        }
        let mut open = txn.open_table(definition(table))?;
        for (key, entry) in rows {
            let old = match &entry.value {
                Some(value) if puts => {
                    meta.live_bytes += (key.len() + value.len()) as u64;
                    if table == Table::Outbox {
                        revive(&mut open, key, meta, dead)?;
                    }
                    open.insert(&**key, &**value)?.map(|old| old.value().len())
                }
                Some(_) => None,
                None => open.remove(&**key)?.map(|old| old.value().len()),
            };
            forget(meta, old.map(|value| key.len() + value));
        }
    }
    Ok(())
}

/// A record is written where an older one is dead (a tombstone): only the key itself comes alive.
fn revive(
    open: &mut Rows<'_>,
    key: &[u8],
    meta: &mut Meta,
    dead: &mut RangeSet,
) -> Result<(), redb::Error> {
    if dead.contains(key) {
        let old = open.remove(key)?.map(|old| old.value().len());
        forget(meta, old.map(|value| key.len() + value));
        dead.carve(key, &successor(key));
    }
    Ok(())
}

fn forget(meta: &mut Meta, bytes: Option<usize>) {
    meta.live_bytes = meta.live_bytes.saturating_sub(bytes.unwrap_or(0) as u64);
}

/// Deletes dead rows of the outbox, at most `rows_max`.
fn purge(
    txn: &WriteTransaction,
    meta: &mut Meta,
    dead: &mut RangeSet,
    rows_max: usize,
) -> Result<usize, redb::Error> {
    let mut purged = 0;
    if dead.is_empty() {
        return Ok(0);
    }
    let mut open = txn.open_table(definition(Table::Outbox))?;
    while purged < rows_max
        && let Some((start, end)) = dead.pop()
    {
        let left = rows_max - purged;
        let (deleted, last) = delete_range(&mut open, &start, &end, left, meta)?;
        purged += deleted;
        if let Some(last) = last.filter(|_| deleted == left) {
            dead.insert(successor(&last), end);
        }
    }
    Ok(purged)
}

/// Deletes at most `rows_max` rows of a range, in order. Returns how many and the last one's key.
fn delete_range(
    open: &mut Rows<'_>,
    start: &[u8],
    end: &[u8],
    rows_max: usize,
    meta: &mut Meta,
) -> Result<(usize, Option<Key>), redb::Error> {
    let mut deleted = 0;
    let mut last = None;
    for row in open.extract_from_if::<&[u8], _>(bounds(start, end), |_, _| true)?.take(rows_max) {
        let (key, value) = row?;
        forget(meta, Some(key.value().len() + value.value().len()));
        deleted += 1;
        last = Some(key.value().into());
    }
    Ok((deleted, last))
}
