//! A stream of records that all count, kept in runs.
//!
//! # Invariants
//! - Runs of up to [`CHUNK_RECORDS`] rows or [`CHUNK_BYTES`] bytes are indexed by a row of the
//!   store, so that neither a drop nor a start scans the records. The last one may be open: it has
//!   no row yet. A run counts in full until all of it is stored.
//! - A run of which all is dropped is one tombstone; neighbours that were dropped for one reason
//!   are one.
//! - A record that is dropped within a run leaves a tombstone in its place, merged with its
//!   neighbours of the same reason.
//!
//! # Time to live
//! The index knows when the first record of a run expires. Once that is long enough ago (its grace)
//! the rows are asked for, and those that have expired are dropped; where all have, nothing is read.

mod chunk;
mod expiry;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::core::OutboxRows;
use crate::deadline::Deadlines;
use crate::id::{RecordSeq, StreamId};
use crate::op::{DropReason, OutboxChunk, OutboxRecord, RECORD_OVERHEAD_BYTES, RunExpiry};
use crate::time::Millis;

use super::drops::Drops;
use super::pen::{Given, Pen};
use super::summary::RecordSummary;
use super::{Entry, GRACE_MIN, Head, Stream};
use chunk::{add_gone, add_to, dropped, live, take_from};
use expiry::expiry_with;

/// Records at which a run of the index is closed.
pub const CHUNK_RECORDS: u64 = 256;
/// Bytes at which a run of the index is closed.
pub const CHUNK_BYTES: u64 = 1 << 20;
/// Times that a stream may be moved on with nothing written between.
pub(super) const SKIPS_MAX: usize = 16;
/// Dropped runs that may stand before the oldest run that has records; then they become one.
const DROPPED_FRONT_MAX: usize = 64;
/// After so long a run is asked for again.
const ASK_AGAIN_AFTER: Millis = Millis(10_000);

/// The stream.
#[derive(Debug)]
pub(super) struct Runs {
    head: Head,
    /// Oldest first.
    chunks: VecDeque<OutboxChunk>,
    /// The last run has no row in the store yet.
    open: bool,
    open_rows: u64,
    /// The last row of the open run, where it is a tombstone.
    tail: Option<(RecordSeq, DropReason)>,
    /// Runs to look at, by their first position.
    due: Deadlines<RecordSeq>,
}

impl Runs {
    /// Takes the rows of the store; odd ones (a lazy delete that was lost) are passed over.
    pub(super) fn restore(id: StreamId, rows: Option<OutboxRows>, drops: &mut Drops) -> Self {
        let mut runs = Self {
            head: Head::new(id),
            chunks: VecDeque::new(),
            open: false,
            open_rows: 0,
            tail: None,
            due: Deadlines::new(),
        };
        let Some(rows) = rows else { return runs };
        runs.head.stored_to = rows.stored_to;
        runs.head.newest = rows.stored_to;
        let mut chunks = rows.chunks;
        chunks.sort_by_key(|chunk| chunk.first);
        for mut chunk in chunks {
            let follows = runs.chunks.back().is_none_or(|before| before.last < chunk.first);
            if chunk.last > rows.stored_to && chunk.first <= chunk.last && follows {
                for (label, _) in &mut chunk.tally {
                    *label = drops.label(label);
                }
                runs.head.newest = chunk.last;
                runs.head.bytes += chunk.bytes;
                runs.watch(chunk.first, chunk.expiry);
                runs.chunks.push_back(chunk);
            }
        }
        let mut tail = rows.tail;
        tail.sort_unstable_by_key(|row| row.seq);
        for mut row in tail {
            if row.seq > runs.head.newest {
                row.label = drops.label(&row.label);
                runs.push(&row, GRACE_MIN);
            }
        }
        runs
    }

    /// Adds a row behind all others, to the open run.
    fn push(&mut self, row: &RecordSummary, grace: Millis) {
        if !self.open {
            self.chunks.push_back(OutboxChunk {
                first: row.from,
                last: row.seq,
                bytes: 0,
                dropped: None,
                gone: Vec::new(),
                expiry: None,
                tally: Vec::new(),
            });
            (self.open, self.open_rows) = (true, 0);
        }
        self.open_rows += 1;
        self.head.newest = row.seq;
        self.head.bytes += row.cost_bytes;
        self.tail = row.dropped.map(|reason| (row.from, reason));
        let chunk = self.chunks.back_mut().expect("invariant: there is an open run");
        chunk.last = row.seq;
        chunk.bytes += row.cost_bytes;
        if row.dropped.is_some() {
            add_gone(&mut chunk.gone, row.from, row.seq);
        } else {
            let before = chunk.expiry;
            chunk.expiry = expiry_with(chunk, row.expires, grace);
            add_to(&mut chunk.tally, &row.label);
            let (first, expiry) = (chunk.first, chunk.expiry);
            if expiry != before {
                self.watch(first, expiry);
            }
        }
    }

    fn watch(&mut self, first: RecordSeq, expiry: Option<RunExpiry>) {
        if let Some(expiry) = expiry {
            self.due.set(first, expiry.look_at);
        }
    }

    fn close_if_long(&mut self, pen: &mut Pen<'_, '_>) {
        let Some(chunk) = self.chunks.back().filter(|_| self.open) else { return };
        if self.open_rows >= CHUNK_RECORDS || chunk.bytes >= CHUNK_BYTES {
            pen.put_chunk(self.head.id, chunk);
            self.closed();
        }
    }

    fn closed(&mut self) {
        self.open = false;
        self.tail = None;
    }

    fn is_open(&self, index: usize) -> bool {
        self.open && index + 1 == self.chunks.len()
    }

    fn at(&self, first: RecordSeq) -> Option<usize> {
        self.chunks.binary_search_by_key(&first, |chunk| chunk.first).ok()
    }

    fn holding(&self, seq: RecordSeq) -> Option<usize> {
        let index = self.chunks.partition_point(|chunk| chunk.last < seq);
        self.chunks.get(index).filter(|chunk| chunk.first <= seq).map(|_| index)
    }

    /// Index of the oldest run that can be dropped.
    fn droppable(&self) -> Option<usize> {
        // A run of one row may be no bigger than its tombstone.
        let full = |c: &OutboxChunk| c.dropped.is_none() && c.bytes > RECORD_OVERHEAD_BYTES;
        self.chunks.iter().position(full)
    }

    /// Gives up a run, and with it neighbours that were given up for the same reason.
    fn give_up(&mut self, index: usize, reason: DropReason, pen: &mut Pen<'_, '_>) {
        let chunk = &self.chunks[index];
        let (from, to, bytes) = (chunk.first.max(self.head.lowest()), chunk.last, chunk.bytes);
        let records = live(chunk, self.head.lowest());
        let given = Given { stream: self.head.id, from, to, bytes, reason };
        pen.given_up(given, records, &chunk.tally);
        let same = |index: usize| self.chunks.get(index).is_some_and(|c| c.dropped == Some(reason));
        let first = if index > 0 && same(index - 1) { index - 1 } else { index };
        let last = if same(index + 1) { index + 1 } else { index };
        self.fold(first, last, reason, pen);
    }

    /// Makes one tombstone of some runs.
    fn fold(&mut self, first: usize, last: usize, reason: DropReason, pen: &mut Pen<'_, '_>) {
        let stream = self.head.id;
        let from = self.chunks[first].first.max(self.head.lowest());
        let to = self.chunks[last].last;
        let before = self.head.bytes;
        for index in first..=last {
            let has_row = !self.is_open(index);
            let chunk = &self.chunks[index];
            self.head.bytes -= chunk.bytes;
            self.due.clear(&chunk.first);
            if has_row {
                pen.delete_chunk(stream, chunk.first);
            }
        }
        if self.is_open(last) {
            self.closed();
        }
        self.chunks.drain(first..=last);
        pen.erase_run(Given { stream, from, to, bytes: 0, reason });
        let bytes = pen.stone(stream, from, to, reason);
        let chunk = dropped(from, to, bytes, reason);
        pen.put_chunk(stream, &chunk);
        self.chunks.insert(first, chunk);
        self.head.bytes += bytes;
        assert!(self.head.bytes <= before, "a drop frees bytes");
    }

    /// The last tombstone stands for one more position.
    fn extend_tail(&mut self, seq: RecordSeq, pen: &mut Pen<'_, '_>) -> bool {
        let (stream, lowest, reason) = (self.head.id, self.head.lowest(), DropReason::Newest);
        let Some(chunk) = self.chunks.back_mut() else { return false };
        let Some((from, DropReason::Newest)) = self.tail else { return false };
        pen.erase(stream, chunk.last);
        pen.stone(stream, from.max(lowest), seq, reason);
        chunk.last = seq;
        add_gone(&mut chunk.gone, seq, seq);
        true
    }
}

impl Stream for Runs {
    fn head(&self) -> &Head {
        &self.head
    }

    fn records(&self) -> u64 {
        let lowest = self.head.lowest();
        self.chunks.iter().map(|chunk| live(chunk, lowest).max(1)).sum()
    }

    fn append(&mut self, entry: Entry, pen: &mut Pen<'_, '_>) {
        let seq = self.head.newest.next();
        let (label, expires, grace) = (Arc::clone(&entry.label), entry.expires, entry.grace);
        let cost_bytes = pen.write(self.head.id, seq, entry);
        let row = RecordSummary {
            seq,
            from: seq,
            dropped: None,
            cost_bytes,
            label,
            device: None,
            expires,
        };
        self.push(&row, grace);
        self.close_if_long(pen);
    }

    fn refuse(&mut self, entry: &Entry, pen: &mut Pen<'_, '_>) {
        let (seq, stream, reason) = (self.head.newest.next(), self.head.id, DropReason::Newest);
        let given = Given { stream, from: seq, to: seq, bytes: entry.body.cost_bytes(), reason };
        pen.given_up(given, 1, &[(Arc::clone(&entry.label), 1)]);
        if !self.extend_tail(seq, pen) {
            let cost_bytes = pen.stone(stream, seq, seq, reason);
            self.push(
                &RecordSummary {
                    seq,
                    from: seq,
                    dropped: Some(reason),
                    cost_bytes,
                    label: "".into(),
                    device: None,
                    expires: None,
                },
                GRACE_MIN,
            );
        }
        self.head.newest = seq;
    }

    fn drop_oldest(&mut self, pen: &mut Pen<'_, '_>) -> bool {
        let reason = DropReason::Full;
        match self.droppable() {
            Some(index) if index > DROPPED_FRONT_MAX => {
                self.fold(0, index - 1, reason, pen);
                self.give_up(1, reason, pen);
            }
            Some(index) => self.give_up(index, reason, pen),
            // Nothing but tombstones: one will do.
            None if self.chunks.len() > 1 => self.fold(0, self.chunks.len() - 1, reason, pen),
            None => return false,
        }
        true
    }

    fn stored(&mut self, seq: RecordSeq, pen: &mut Pen<'_, '_>) {
        assert!(seq > self.head.stored_to && seq <= self.head.newest, "a receipt is checked first");
        self.head.stored_to = seq;
        while self.chunks.front().is_some_and(|chunk| chunk.last <= seq) {
            let was_open = self.is_open(0);
            let Some(chunk) = self.chunks.pop_front() else { return };
            self.head.bytes -= chunk.bytes;
            self.due.clear(&chunk.first);
            if was_open {
                self.closed();
            } else {
                pen.delete_chunk(self.head.id, chunk.first);
            }
        }
    }

    fn skip(&mut self, to: RecordSeq, pen: &mut Pen<'_, '_>) -> bool {
        let (stream, reason) = (self.head.id, DropReason::Skipped);
        let last = self.chunks.iter().rev().take(SKIPS_MAX);
        if last.filter(|chunk| chunk.dropped == Some(reason)).count() == SKIPS_MAX {
            return false;
        }
        if let Some(chunk) = self.chunks.back().filter(|_| self.open) {
            pen.put_chunk(stream, chunk);
        }
        self.closed();
        let from = self.head.newest.next();
        let bytes = pen.stone(stream, from, to, reason);
        let chunk = dropped(from, to, bytes, reason);
        pen.put_chunk(stream, &chunk);
        self.chunks.push_back(chunk);
        self.head.newest = to;
        self.head.bytes += bytes;
        true
    }

    fn moved(&mut self, record: &OutboxRecord, pen: &mut Pen<'_, '_>) -> bool {
        let index = self.holding(record.seq);
        let Some(index) = index.filter(|at| self.chunks[*at].dropped.is_none()) else {
            return false;
        };
        let stream = self.head.id;
        pen.stone(stream, record.seq, record.seq, DropReason::Skipped);
        let label = pen.label(&RecordSummary::of(record).label);
        let chunk = &mut self.chunks[index];
        add_gone(&mut chunk.gone, record.seq, record.seq);
        take_from(&mut chunk.tally, &[(label, 1)]);
        if self.is_open(index) {
            self.tail = None;
        } else {
            pen.put_chunk(stream, &self.chunks[index]);
        }
        true
    }

    fn frees(&self, _entry: &Entry) -> u64 {
        0
    }

    fn expire(&mut self, pen: &mut Pen<'_, '_>) {
        let now = pen.now();
        while let Some(first) = self.due.pop_due(now) {
            let Some(index) = self.at(first) else { continue };
            let chunk = &self.chunks[index];
            let Some(expiry) = chunk.expiry else { continue };
            if expiry.all_at.is_some_and(|at| at <= now) {
                self.give_up(index, DropReason::Expired, pen);
            } else {
                pen.ask_run(self.head.id, first, chunk.last);
                self.due.set(first, now + ASK_AGAIN_AFTER);
            }
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.due.first()
    }

    fn run_read(&mut self, first: RecordSeq, rows: &[RecordSummary], pen: &mut Pen<'_, '_>) {
        let Some(index) = self.at(first) else { return };
        let chunk = &self.chunks[index];
        let is_whole = rows.last().is_some_and(|row| row.seq == chunk.last);
        if is_whole && chunk.dropped.is_none() && chunk.expiry.is_some() {
            self.drop_expired(index, rows, pen);
        }
    }
}
