//! What a stream writes with: rows of the outbox, and words of what was dropped.

use std::sync::Arc;

use crate::effect::{Effect, Pace};
use crate::event::CoreEvent;
use crate::id::{Epoch, RecordSeq, StreamId};
use crate::op::{CoreOp, DropReason, OutboxChunk, OutboxRecord, RecordBody};
use crate::time::Millis;
use crate::turn::Turn;

use super::Entry;
use super::drops::Drops;

/// Writes rows of one turn.
pub(super) struct Pen<'a, 't> {
    epoch: Epoch,
    pace: Pace,
    turn: &'a mut Turn<'t>,
    drops: &'a mut Drops,
}

/// What was given up.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) stream: StreamId,
    pub(super) from: RecordSeq,
    pub(super) to: RecordSeq,
    pub(super) bytes: u64,
    pub(super) reason: DropReason,
}

impl<'a, 't> Pen<'a, 't> {
    pub(super) fn new(
        epoch: Epoch,
        pace: Pace,
        turn: &'a mut Turn<'t>,
        drops: &'a mut Drops,
    ) -> Self {
        Self { epoch, pace, turn, drops }
    }

    pub(super) fn now(&self) -> Millis {
        self.turn.at()
    }

    pub(super) fn label(&mut self, text: &str) -> Arc<str> {
        self.drops.label(text)
    }

    /// Writes a record; returns what it costs.
    pub(super) fn write(&mut self, stream: StreamId, seq: RecordSeq, entry: Entry) -> u64 {
        let time = entry.time.unwrap_or(self.turn.now.wall);
        let Entry { body, expires, .. } = entry;
        self.put(OutboxRecord { stream, seq, epoch: self.epoch, body, time, expires })
    }

    /// Writes a tombstone at `to`; returns what it costs.
    pub(super) fn stone(
        &mut self,
        stream: StreamId,
        from: RecordSeq,
        to: RecordSeq,
        reason: DropReason,
    ) -> u64 {
        assert!(from <= to, "a tombstone stands for something");
        let body = RecordBody::Tombstone { from, to, reason };
        let (epoch, time) = (self.epoch, self.turn.now.wall);
        self.put(OutboxRecord { stream, seq: to, epoch, body, time, expires: None })
    }

    fn put(&mut self, record: OutboxRecord) -> u64 {
        let cost = record.cost_bytes();
        self.turn.op(CoreOp::AppendOutbox(Box::new(record)), self.pace);
        cost
    }

    /// Deletes one row.
    pub(super) fn erase(&mut self, stream: StreamId, seq: RecordSeq) {
        self.turn.op(CoreOp::DeleteOutbox { stream, seq }, self.pace);
    }

    /// Deletes all rows of a run.
    pub(super) fn erase_run(&mut self, given: Given) {
        let Given { stream, from, to, reason, .. } = given;
        self.turn.op(CoreOp::DropOutbox { stream, from, to, reason }, self.pace);
    }

    pub(super) fn put_chunk(&mut self, stream: StreamId, chunk: &OutboxChunk) {
        let chunk = chunk.clone();
        // It rides along with what made it.
        self.turn.op(CoreOp::PutOutboxChunk { stream, chunk }, Pace::Lazy);
    }

    pub(super) fn delete_chunk(&mut self, stream: StreamId, first: RecordSeq) {
        self.turn.op(CoreOp::DeleteOutboxChunk { stream, first }, Pace::Lazy);
    }

    pub(super) fn ask_run(&mut self, stream: StreamId, first: RecordSeq, last: RecordSeq) {
        self.turn.effect(Effect::ReadRun { stream, first, last });
    }

    /// Counts and tells what was given up: `records` of those in the tally.
    pub(super) fn given_up(&mut self, given: Given, records: u64, tally: &[(Arc<str>, u64)]) {
        let Given { stream, from, to, bytes, reason } = given;
        let mut left = records;
        for (label, count) in tally {
            let count = left.min(*count);
            if count > 0 {
                self.drops.count(reason, label, count);
            }
            left -= count;
        }
        if records > 0 {
            self.turn.event(CoreEvent::OutboxDropped { stream, from, to, records, bytes, reason });
        }
    }
}
