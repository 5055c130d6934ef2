//! The durable queue of what must leave the gateway: positions and bounds. The records
//! themselves are in the store only.
//!
//! # Invariants
//! - A stream's positions grow by one and are never used again, over restarts too.
//! - Live bytes over all streams stay within `outbox_bytes_max`. Room is made by dropping the
//!   oldest run of records of the least urgent stream that has one; a tombstone stands in its
//!   place, merged with the tombstone before it.
//! - `stored_to` only grows and never passes what was appended, whatever a receipt says.
//! - Runs of up to [`CHUNK_RECORDS`] records or [`CHUNK_BYTES`] bytes are indexed by a row of the
//!   store, so that neither a drop nor a start scans the records. A run counts in full until all
//!   of it is stored.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::core::OutboxRows;
use crate::effect::{Effect, Pace};
use crate::event::CoreEvent;
use crate::id::{Epoch, RecordSeq, StreamId};
use crate::op::{
    CoreOp, DeadLetter, DropReason, OutboxChunk, OutboxRecord, RECORD_OVERHEAD_BYTES, RecordBody,
};
use crate::status::StreamStatus;
use crate::turn::Turn;

/// Records at which a run of the index is closed.
pub const CHUNK_RECORDS: u64 = 256;
/// Bytes at which a run of the index is closed.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Tombstones that may stand before the run that is dropped next: one of an earlier drop, and
/// one for each time the stream was moved on.
const TOMBSTONES_MERGED_MAX: usize = 16;
/// Positions that a stream may be moved on by the control plane: no more than any gateway writes
/// in its life, and far from the end of the numbers.
pub const SKIP_MAX: u64 = 1 << 40;

/// All streams.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    epoch: Epoch,
    bytes_max: u64,
    bytes: u64,
    /// Most urgent first, as [`StreamId::ALL`].
    streams: [Stream; 3],
    grew: [bool; 3],
}

#[derive(Clone, Debug)]
struct Stream {
    id: StreamId,
    stored_to: RecordSeq,
    newest: RecordSeq,
    /// Closed runs, oldest first, then the open one if it has records.
    chunks: VecDeque<OutboxChunk>,
    /// The last chunk has no row in the store yet.
    open: bool,
    bytes: u64,
}

impl Outbox {
    pub(crate) fn restore(epoch: Epoch, bytes_max: u64, rows: Vec<OutboxRows>) -> Self {
        let mut streams = StreamId::ALL.map(Stream::new);
        for rows in rows {
            if let Some(stream) = streams.get_mut(usize::from(rows.stream.0)) {
                stream.restore(rows);
            }
        }
        let bytes = streams.iter().map(|stream| stream.bytes).sum();
        Self { epoch, bytes_max, bytes, streams, grew: [false; 3] }
    }

    /// Appends a record; drops old ones first where it has no room.
    pub(crate) fn append(
        &mut self,
        stream: StreamId,
        body: RecordBody,
        pace: Pace,
        turn: &mut Turn<'_>,
    ) {
        let index = index_of(stream);
        let seq = self.streams[index].newest.next();
        let record = self.record(stream, seq, body, turn);
        let cost = record.cost_bytes();
        self.make_room(cost, pace, turn);
        turn.op(CoreOp::AppendOutbox(Box::new(record)), pace);
        self.bytes += cost;
        self.streams[index].append(cost, turn);
        self.grew[index] = true;
    }

    /// A dead letter on its way to the control plane.
    pub(crate) fn append_letter(&mut self, letter: DeadLetter, urgent: bool, turn: &mut Turn<'_>) {
        let stream = if urgent { StreamId::URGENT } else { StreamId::BULK };
        self.append(stream, RecordBody::DeadLetter(letter), Pace::Prompt, turn);
    }

    /// A report of the gateway.
    pub(crate) fn append_report(&mut self, stream: StreamId, body: Bytes, turn: &mut Turn<'_>) {
        let stream = StreamId::ALL[index_of(stream)];
        self.append(stream, RecordBody::Report(body), Pace::Prompt, turn);
    }

    /// The control plane says that it has stored everything up to `seq`.
    pub(crate) fn receipt(&mut self, stream: StreamId, seq: RecordSeq, turn: &mut Turn<'_>) {
        let newest = self.streams.get(usize::from(stream.0)).map_or(RecordSeq(0), |s| s.newest);
        if seq > newest {
            turn.event(CoreEvent::ReceiptRefused { stream, seq, newest });
            return;
        }
        let stream = &mut self.streams[index_of(stream)];
        if seq <= stream.stored_to {
            return;
        }
        let before = stream.bytes;
        stream.stored(seq, turn);
        self.bytes -= before - stream.bytes;
        turn.op(CoreOp::AckOutboxTo { stream: stream.id, seq }, Pace::Lazy);
        turn.event(CoreEvent::ReceiptTaken { stream: stream.id, seq });
    }

    /// The control plane holds positions up to `seq`. Those beyond what was ever written here come
    /// from another life of this store (an older copy was put back): the stream goes on after
    /// them, with a tombstone for what is not here. No receipt for what was written here, not even
    /// while this was under way: those records are not the ones that the control plane holds.
    pub(crate) fn go_on_after(&mut self, stream: StreamId, seq: RecordSeq, turn: &mut Turn<'_>) {
        let Some(index) = StreamId::ALL.iter().position(|id| *id == stream) else { return };
        let newest = self.streams[index].newest;
        if seq <= newest {
            return;
        }
        if seq.0 - newest.0 > SKIP_MAX || self.streams[index].ends_in_skips() {
            turn.event(CoreEvent::ReceiptRefused { stream, seq, newest });
            return;
        }
        let (from, reason) = (newest.next(), DropReason::Skipped);
        let body = RecordBody::Tombstone { from, to: seq, reason };
        let record = self.record(stream, seq, body, turn);
        let bytes = record.cost_bytes();
        let chunk = OutboxChunk { first: from, last: seq, bytes, dropped: true };
        turn.op(CoreOp::AppendOutbox(Box::new(record)), Pace::Prompt);
        self.streams[index].skip(chunk, turn);
        self.bytes += bytes;
        self.grew[index] = true;
        turn.event(CoreEvent::OutboxDropped { stream, from, to: seq, bytes: 0, reason });
    }

    /// Tells which streams grew during this call.
    pub(crate) fn announce(&mut self, turn: &mut Turn<'_>) {
        for (stream, grew) in self.streams.iter().zip(&mut self.grew) {
            if std::mem::take(grew) {
                turn.effect(Effect::OutboxGrew { stream: stream.id, newest: stream.newest });
            }
        }
    }

    pub(crate) fn status(&self) -> Vec<StreamStatus> {
        self.streams.iter().map(Stream::status).collect()
    }

    fn record(
        &self,
        stream: StreamId,
        seq: RecordSeq,
        body: RecordBody,
        turn: &Turn<'_>,
    ) -> OutboxRecord {
        OutboxRecord { stream, seq, epoch: self.epoch, body, time: turn.now.wall }
    }

    fn make_room(&mut self, cost: u64, pace: Pace, turn: &mut Turn<'_>) {
        while self.bytes + cost > self.bytes_max {
            // A record larger than the whole outbox finds it empty, and goes in alone.
            let Some(index) = (0..3).rev().find(|i| self.streams[*i].droppable().is_some()) else {
                return;
            };
            self.drop_oldest(index, pace, turn);
        }
    }

    /// Replaces the oldest run of a stream that still has records, and the tombstone before it,
    /// by one tombstone.
    fn drop_oldest(&mut self, index: usize, pace: Pace, turn: &mut Turn<'_>) {
        let reason = DropReason::Full;
        let before = self.streams[index].bytes;
        let Some(run) = self.streams[index].take_droppable(turn) else { return };
        let stream = self.streams[index].id;
        let Dropped { from, first, to } = run;
        let body = RecordBody::Tombstone { from, to, reason };
        let record = self.record(stream, to, body, turn);
        let chunk =
            OutboxChunk { first: from, last: to, bytes: record.cost_bytes(), dropped: true };
        turn.op(CoreOp::DropOutbox { stream, from, to, reason }, pace);
        turn.op(CoreOp::AppendOutbox(Box::new(record)), pace);
        turn.op(CoreOp::PutOutboxChunk { stream, chunk }, pace);
        self.streams[index].put_tombstone(chunk);
        let after = self.streams[index].bytes;
        assert!(after < before, "a drop frees bytes: {after} < {before}");
        self.bytes -= before - after;
        let bytes = before - after;
        turn.event(CoreEvent::OutboxDropped { stream, from: first, to, bytes, reason });
        self.grew[index] = true;
    }
}

/// A run that was given up.
struct Dropped {
    /// First position of its tombstone: earlier runs may be merged into it.
    from: RecordSeq,
    /// First position of the run itself that was not stored yet.
    first: RecordSeq,
    to: RecordSeq,
}

/// Streams that nobody knows count as the least urgent one.
fn index_of(stream: StreamId) -> usize {
    usize::from(stream.0).min(StreamId::ALL.len() - 1)
}

impl Stream {
    fn new(id: StreamId) -> Self {
        Self {
            id,
            stored_to: RecordSeq(0),
            newest: RecordSeq(0),
            chunks: VecDeque::new(),
            open: false,
            bytes: 0,
        }
    }

    /// Takes the rows of the store; odd ones (a lazy delete that was lost) are passed over.
    fn restore(&mut self, rows: OutboxRows) {
        self.stored_to = rows.stored_to;
        self.newest = rows.stored_to;
        let mut chunks = rows.chunks;
        chunks.sort_by_key(|chunk| chunk.first);
        for chunk in chunks {
            let follows = self.chunks.back().is_none_or(|before| before.last < chunk.first);
            if chunk.last > rows.stored_to && chunk.first <= chunk.last && follows {
                self.newest = chunk.last;
                self.bytes += chunk.bytes;
                self.chunks.push_back(chunk);
            }
        }
        let mut tail = rows.tail;
        tail.sort_unstable();
        for (seq, cost) in tail {
            if seq > self.newest {
                self.push(seq, cost);
                self.newest = seq;
            }
        }
    }

    fn push(&mut self, seq: RecordSeq, cost: u64) {
        self.bytes += cost;
        match self.chunks.back_mut().filter(|_| self.open) {
            Some(chunk) => {
                chunk.last = seq;
                chunk.bytes += cost;
            }
            None => {
                let chunk = OutboxChunk { first: seq, last: seq, bytes: cost, dropped: false };
                self.chunks.push_back(chunk);
                self.open = true;
            }
        }
    }

    /// Whether it was moved on so often with nothing written between that one more tombstone
    /// would stand before the run that is dropped next.
    fn ends_in_skips(&self) -> bool {
        let last = self.chunks.iter().rev().take(TOMBSTONES_MERGED_MAX);
        last.filter(|chunk| chunk.dropped).count() == TOMBSTONES_MERGED_MAX
    }

    /// Moves on to the end of a tombstone.
    fn skip(&mut self, tombstone: OutboxChunk, turn: &mut Turn<'_>) {
        if self.open
            && let Some(chunk) = self.chunks.back().copied()
        {
            turn.op(CoreOp::PutOutboxChunk { stream: self.id, chunk }, Pace::Prompt);
        }
        turn.op(CoreOp::PutOutboxChunk { stream: self.id, chunk: tombstone }, Pace::Prompt);
        self.open = false;
        self.newest = tombstone.last;
        self.bytes += tombstone.bytes;
        self.chunks.push_back(tombstone);
    }

    fn append(&mut self, cost: u64, turn: &mut Turn<'_>) {
        let seq = self.newest.next();
        self.push(seq, cost);
        self.newest = seq;
        let chunk = *self.chunks.back().expect("invariant: just pushed");
        if seq.0 - chunk.first.0 + 1 >= CHUNK_RECORDS || chunk.bytes >= CHUNK_BYTES {
            turn.op(CoreOp::PutOutboxChunk { stream: self.id, chunk }, Pace::Lazy);
            self.open = false;
        }
    }

    fn stored(&mut self, seq: RecordSeq, turn: &mut Turn<'_>) {
        assert!(seq > self.stored_to && seq <= self.newest, "a receipt is checked first");
        self.stored_to = seq;
        while let Some(chunk) = self.chunks.front().copied().filter(|chunk| chunk.last <= seq) {
            self.chunks.pop_front();
            self.bytes -= chunk.bytes;
            if self.chunks.is_empty() && self.open {
                self.open = false;
            } else {
                self.delete_row(chunk.first, turn);
            }
        }
    }

    /// Index of the oldest run that still has its records; tombstones may stand before it.
    fn droppable(&self) -> Option<usize> {
        // A run of one record may be no bigger than its tombstone.
        let full = |c: &OutboxChunk| !c.dropped && c.bytes > RECORD_OVERHEAD_BYTES;
        self.chunks.iter().take(TOMBSTONES_MERGED_MAX + 1).position(full)
    }

    /// Takes the oldest run and the tombstones before it out of the index.
    fn take_droppable(&mut self, turn: &mut Turn<'_>) -> Option<Dropped> {
        let index = self.droppable()?;
        let was_open = self.open && index + 1 == self.chunks.len();
        let lowest = self.stored_to.next();
        let from = self.chunks[0].first.max(lowest);
        let (first, to) = (self.chunks[index].first.max(lowest), self.chunks[index].last);
        for taken in 0..=index {
            let chunk = self.chunks.pop_front()?;
            self.bytes -= chunk.bytes;
            if taken < index || !was_open {
                self.delete_row(chunk.first, turn);
            }
        }
        self.open = self.open && !was_open;
        Some(Dropped { from, first, to })
    }

    fn delete_row(&self, first: RecordSeq, turn: &mut Turn<'_>) {
        turn.op(CoreOp::DeleteOutboxChunk { stream: self.id, first }, Pace::Lazy);
    }

    fn put_tombstone(&mut self, chunk: OutboxChunk) {
        self.bytes += chunk.bytes;
        self.chunks.push_front(chunk);
    }

    fn status(&self) -> StreamStatus {
        let live = |chunk: &OutboxChunk| {
            if chunk.dropped {
                1
            } else {
                chunk.last.0 - chunk.first.0.max(self.stored_to.0 + 1) + 1
            }
        };
        StreamStatus {
            stream: self.id,
            stored_to: self.stored_to,
            newest: self.newest,
            records: self.chunks.iter().map(live).sum(),
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests;
