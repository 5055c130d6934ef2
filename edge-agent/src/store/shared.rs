//! What the committer, the checkpoint, the loop and the readers share, and the order of locks.
//!
//! Locks are taken in this order, and none is held over disk I/O but `base`, `checkpointer` and
//! `absorbing`: checkpointer, absorbing, base, mem, state.

use std::collections::VecDeque;
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use edge_core::id::BatchSeq;
use edge_core::time::Millis;
use redb::Database;

use super::Settings;
use super::error::StoreError;
use super::memtable::Generation;
use super::op::Positions;
use super::ranges::RangeSet;
use super::stats::{Counters, Stats, get};

/// A row's key.
pub(super) type Key = Box<[u8]>;

/// All that is shared.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) counters: Arc<Counters>,
    /// `None` once closed. Written only to replace a handle that met a full disk.
    base: RwLock<Option<Database>>,
    mem: RwLock<Mem>,
    state: Mutex<State>,
    /// Something in `state` changed.
    changed: Condvar,
    /// Held while a durable batch moves into the active generation, and while that is frozen: a
    /// frozen generation holds whole batches.
    absorbing: Mutex<()>,
}

/// Rows that are not in redb.
pub(super) struct Mem {
    /// Batches that are not durable or not absorbed yet, oldest first. The committer shares the one
    /// it absorbs.
    pub(super) pending: VecDeque<(BatchSeq, Arc<Generation>)>,
    pub(super) active: Generation,
    pub(super) frozen: Option<Arc<Generation>>,
    /// Outbox keys whose rows in redb are deleted.
    pub(super) dead: Arc<RangeSet>,
    /// As applied.
    pub(super) positions: Positions,
    /// The last durable batch.
    pub(super) durable: BatchSeq,
}

/// Progress, and what the threads want of each other.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) durable_time: Millis,
    pub(super) checkpointed: BatchSeq,
    /// Somebody asks for a checkpoint.
    pub(super) wanted: bool,
    /// Rows that stand nowhere else are among those to move: in one transaction, or not at all.
    pub(super) in_one_piece: bool,
    /// Checkpoints tried, for whoever waits for the outcome of the next.
    pub(super) tries: u64,
    /// The last one found the disk full.
    pub(super) disk_full: bool,
    pub(super) failed: Option<StoreError>,
    pub(super) stopping: bool,
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        counters: Arc<Counters>,
        db: Database,
        mem: Mem,
        state: State,
    ) -> Self {
        Self {
            settings,
            counters,
            base: RwLock::new(Some(db)),
            mem: RwLock::new(mem),
            state: Mutex::new(state),
            changed: Condvar::new(),
            absorbing: Mutex::new(()),
        }
    }

    // A panic while one of these locks is held aborts or ends the store; what they guard is never
    // half changed in a way that another thread could see, so poison is passed over.

    pub(super) fn base(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.base.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn base_mut(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.base.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn mem(&self) -> RwLockReadGuard<'_, Mem> {
        self.mem.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn mem_mut(&self) -> RwLockWriteGuard<'_, Mem> {
        self.mem.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn absorbing(&self) -> MutexGuard<'_, ()> {
        self.absorbing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state changes, or the time is over.
    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        timeout: std::time::Duration,
    ) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Changes the state and wakes all who wait for it.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    pub(super) fn headroom_bytes(&self) -> u64 {
        if self.state().disk_full {
            return 0;
        }
        let used = get(&self.counters.live_bytes) + self.memory_bytes();
        self.settings.store_bytes_max.saturating_sub(used)
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let mem = self.mem();
        let pending: usize = mem.pending.iter().map(|(_, rows)| rows.bytes()).sum();
        let frozen = mem.frozen.as_ref().map_or(0, |rows| rows.bytes());
        (pending + mem.active.bytes() + frozen) as u64
    }

    pub(super) fn stats(&self) -> Stats {
        let synced = self.mem().durable;
        let memory_bytes = self.memory_bytes();
        let state = self.state();
        let counters = &self.counters;
        Stats {
            batches: get(&counters.batches),
            syncs: get(&counters.syncs),
            synced,
            journal_bytes: get(&counters.journal_bytes),
            disk_bytes: get(&counters.journal_block_bytes) + get(&counters.checkpoint_bytes),
            journal_bytes_pending: counters.journal_bytes_pending(),
            checkpoint_bytes: get(&counters.checkpoint_bytes),
            checkpoints: get(&counters.checkpoints),
            checkpointed: state.checkpointed,
            purged_rows: get(&counters.purged_rows),
            commit_us_last: get(&counters.commit_us_last),
            commit_us_max: get(&counters.commit_us_max),
            waits: get(&counters.waits),
            live_bytes: get(&counters.live_bytes),
            memory_bytes,
            disk_full: state.disk_full,
        }
    }
}
