//! Reading, and the applied view.

use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::{BatchSeq, RecordSeq, StreamId};
use edge_core::op::{OutboxRecord, StateKey};

use super::error::ReadError;
use super::memtable::Generation;
use super::op::{self, Change, Op};
use super::scan::{Span, View};
use super::shared::Shared;
use super::stats::Stats;
use super::table::{KeyBuf, KeyReader, Table};

/// Makes operations visible to readers before they are durable. There is one; it belongs to the
/// loop.
pub struct Overlay {
    shared: Arc<Shared>,
    /// Reused between calls.
    changes: Vec<Change>,
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overlay")
    }
}

impl Overlay {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, changes: Vec::new() }
    }

    /// Adds an operation of the open batch `seq`. Call it for every operation, in order, before
    /// the batch is committed; numbers never go down.
    ///
    /// # Panics
    /// Where `seq` is the number of a batch that is durable or lies before the open one.
    pub fn apply(&mut self, seq: BatchSeq, op: &Op) {
        let mut mem = self.shared.mem_mut();
        assert!(seq > mem.durable, "{seq:?} is durable already");
        op.changes(&mut mem.positions, &mut self.changes);
        let last = mem.pending.back().map_or(mem.durable, |(last, _)| *last);
        assert!(seq >= last, "{seq:?} comes after {last:?}");
        if seq > last {
            mem.pending.push_back((seq, Arc::new(Generation::new(seq))));
        }
        let open = mem.pending.back_mut().and_then(|(_, rows)| Arc::get_mut(rows));
        let rows = open.expect("invariant: the open batch is not being committed");
        for change in self.changes.drain(..) {
            rows.apply(change);
        }
    }

    /// A reader of the same store.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }
}

/// Reads rows, from any thread. Cheap to clone. After the store has closed every read is
/// [`ReadError::Closed`].
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    /// A state value as applied: every outcome sequenced so far, durable or not.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn state_get(&self, key: &StateKey) -> Result<Option<Bytes>, ReadError> {
        self.shared.get(Table::State, &op::state_key(key))
    }

    /// Keys and values of one lane whose key begins with that of `prefix` and is greater than
    /// `after`, in order, as applied; at most `rows_max` rows and about `bytes_max` bytes.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn state_scan(
        &self,
        prefix: &StateKey,
        after: Option<&str>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(String, Bytes)>, ReadError> {
        let (mut start, end) = op::state_lane(prefix).tail(prefix.key.as_bytes()).prefix();
        if let Some(after) = after {
            let behind = op::state_lane(prefix).tail(after.as_bytes()).u8(0).key();
            start = start.max(behind);
        }
        let span = Span { table: Table::State, start, end };
        let rows = self.shared.scan(&span, View::Applied, rows_max, bytes_max)?;
        let lane_len = op::state_lane(prefix).key().len();
        rows.into_iter()
            .map(|(key, value)| {
                let key = key.get(lane_len..).unwrap_or_default();
                let key = KeyReader::new(key).tail_text().ok_or(row_error(Table::State))?;
                Ok((key, value))
            })
            .collect()
    }

    /// Records of a stream from `from` on, in order, durable ones only; about `bytes_max` bytes,
    /// but at least one record if there is one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn outbox_read(
        &self,
        stream: StreamId,
        from: RecordSeq,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<OutboxRecord>, ReadError> {
        let start = op::outbox_key(stream, from);
        let (_, end) = KeyBuf::new().u8(stream.0).prefix();
        let span = Span { table: Table::Outbox, start, end };
        let rows = self.shared.scan(&span, View::Durable, rows_max, bytes_max)?;
        rows.iter().map(|(_, value)| decode(Table::Outbox, value)).collect()
    }

    /// A row of the reconciler, as applied.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn ledger_get(&self, name: &str) -> Result<Option<Bytes>, ReadError> {
        self.shared.get(Table::Ledger, name.as_bytes())
    }

    /// Bytes the store may still take before its ceiling; 0 while the disk is full. At 0 refuse
    /// what is new and commit only what frees space, and outcomes of what was admitted.
    #[must_use]
    pub fn headroom_bytes(&self) -> u64 {
        self.shared.headroom_bytes()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

pub(super) fn row_error(table: Table) -> ReadError {
    ReadError::Row { table: table.name() }
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(
    table: Table,
    row: &[u8],
) -> Result<T, ReadError> {
    postcard::from_bytes(row).map_err(|_| row_error(table))
}
