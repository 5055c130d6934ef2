//! The durable queue of what must leave the gateway: positions, bounds and policies. The records
//! themselves are in the store only.
//!
//! # Invariants
//! - A stream's positions grow by one and are never used again, over restarts too.
//! - Every position above `stored_to` is a record, or a tombstone stands for it: one in its place, or
//!   one that covers several. Tombstones are sent and receipted like records.
//! - Live bytes over all streams stay within `outbox_bytes_max`; tombstones count as well.
//! - `stored_to` only grows and never passes what was appended, whatever a receipt says.
//!
//! # Who goes when it is full
//! 1. Records of the least urgent stream that has some, the oldest first, down to the newcomer's own
//!    stream. Records of a more urgent stream never make room.
//! 2. A newcomer with [`SeriesFull::DropNewest`] takes no room from its own stream.
//! 3. A newcomer that still has no room is dropped itself, and a tombstone takes its position.
//!
//! # Shape
//! Streams of records that all count are kept in runs ([`runs`]); last values, of which only the
//! newest counts, one by one ([`latest`]). Dropped records are counted by reason and label
//! ([`drops`]).

mod drops;
mod latest;
mod pen;
mod runs;
mod summary;

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::OutboxRows;
use crate::effect::{Effect, Pace};
use crate::event::CoreEvent;
use crate::id::{DeviceId, Epoch, RecordSeq, StreamId};
use crate::op::{CoreOp, DeadLetter, DropReason, OutboxRecord, RECORD_OVERHEAD_BYTES, RecordBody};
use crate::release::{SeriesFull, SeriesPolicy};
use crate::status::{DropStatus, StreamStatus};
use crate::time::{Millis, WallTime};
use crate::turn::Turn;

use drops::Drops;
use latest::Latest;
use pen::Pen;
use runs::Runs;

pub use latest::LATEST_KEYS_MAX;
pub use runs::{CHUNK_BYTES, CHUNK_RECORDS};
pub use summary::RecordSummary;

/// Positions that a stream may be moved on by the control plane: no more than any gateway writes
/// in its life, and far from the end of the numbers.
pub const SKIP_MAX: u64 = 1 << 40;

/// Kept free of records, for tombstones that nothing can make room for: each stream may have one
/// for what found no room, and one for each time it was moved on.
const TOMBSTONES_BYTES: u64 = 4 * (runs::SKIPS_MAX as u64 + 1) * RECORD_OVERHEAD_BYTES;

/// Longest time that an expired record waits for others, and shortest.
const GRACE_MAX: Millis = Millis(300_000);
const GRACE_MIN: Millis = Millis(1_000);

/// Where a stream stands.
#[derive(Clone, Copy, Debug)]
struct Head {
    id: StreamId,
    stored_to: RecordSeq,
    newest: RecordSeq,
    bytes: u64,
}

impl Head {
    fn new(id: StreamId) -> Self {
        Self { id, stored_to: RecordSeq(0), newest: RecordSeq(0), bytes: 0 }
    }

    /// The first position that is not stored yet.
    fn lowest(&self) -> RecordSeq {
        self.stored_to.next()
    }
}

/// What enters a stream.
#[derive(Clone, Debug)]
struct Entry {
    body: RecordBody,
    label: Arc<str>,
    device: Option<DeviceId>,
    /// `None`: now.
    time: Option<WallTime>,
    expires: Option<Millis>,
    grace: Millis,
}

/// One stream: it keeps its own index and writes its own rows.
trait Stream: Debug + Send {
    fn head(&self) -> &Head;
    /// Rows that are still to be sent; a dropped run is one.
    fn records(&self) -> u64;
    /// Takes a record; there is room for it.
    fn append(&mut self, entry: Entry, pen: &mut Pen<'_, '_>);
    /// Gives its next position to a record that is dropped at once.
    fn refuse(&mut self, entry: &Entry, pen: &mut Pen<'_, '_>);
    /// Makes room; false where it has no records.
    fn drop_oldest(&mut self, pen: &mut Pen<'_, '_>) -> bool;
    /// Everything up to `seq` is stored. `seq` is above `stored_to` and was written.
    fn stored(&mut self, seq: RecordSeq, pen: &mut Pen<'_, '_>);
    /// Moves on to `to`, which is above `newest`; false where it was moved on too often.
    fn skip(&mut self, to: RecordSeq, pen: &mut Pen<'_, '_>) -> bool;
    /// A tombstone takes the place of a record that is written anew at another position. False
    /// where that record is not here (any more).
    fn moved(&mut self, record: &OutboxRecord, pen: &mut Pen<'_, '_>) -> bool;
    /// Bytes that [`Stream::append`] of this entry would free.
    fn frees(&self, entry: &Entry) -> u64;
    /// Drops what has outlived its time to live, as far as that is known.
    fn expire(&mut self, pen: &mut Pen<'_, '_>);
    fn next_deadline(&self) -> Option<Millis>;
    /// What stands in a run.
    fn run_read(&mut self, first: RecordSeq, rows: &[RecordSummary], pen: &mut Pen<'_, '_>);
}

/// All streams.
#[derive(Debug)]
pub(crate) struct Outbox {
    epoch: Epoch,
    bytes_max: u64,
    /// In the order of [`StreamId::ALL`].
    streams: [Box<dyn Stream>; 4],
    told: [RecordSeq; 4],
    drops: Drops,
}

impl Outbox {
    pub(crate) fn restore(epoch: Epoch, bytes_max: u64, rows: Vec<OutboxRows>) -> Self {
        let mut drops = Drops::default();
        let mut by_rank = StreamId::ALL.map(|_| None);
        for rows in rows {
            if StreamId::ALL.contains(&rows.stream) {
                let rank = rows.stream.rank();
                by_rank[rank] = Some(rows);
            }
        }
        let mut rows = by_rank.into_iter();
        let streams = StreamId::ALL.map(|id| -> Box<dyn Stream> {
            let rows = rows.next().flatten();
            if id == StreamId::LATEST {
                Box::new(Latest::restore(rows, &mut drops))
            } else {
                Box::new(Runs::restore(id, rows, &mut drops))
            }
        });
        let told = std::array::from_fn(|rank| streams[rank].head().newest);
        Self { epoch, bytes_max, streams, told, drops }
    }

    /// A record of a function.
    pub(crate) fn append_series(
        &mut self,
        policy: SeriesPolicy,
        body: RecordBody,
        pace: Pace,
        turn: &mut Turn<'_>,
    ) {
        let expires = policy.ttl.map(|ttl| turn.at() + ttl);
        let grace =
            policy.ttl.map_or(GRACE_MIN, |ttl| Millis(ttl.0 / 16).clamp(GRACE_MIN, GRACE_MAX));
        let entry = Entry { expires, grace, ..self.entry(body) };
        self.append(policy.stream, entry, policy.when_full, pace, turn);
    }

    /// A dead letter on its way to the control plane.
    pub(crate) fn append_letter(&mut self, letter: DeadLetter, urgent: bool, turn: &mut Turn<'_>) {
        let stream = if urgent { StreamId::URGENT } else { StreamId::BULK };
        let entry = self.entry(RecordBody::DeadLetter(letter));
        self.append(stream, entry, SeriesFull::DropOldest, Pace::Prompt, turn);
    }

    /// A report of the gateway.
    pub(crate) fn append_report(&mut self, stream: StreamId, body: Bytes, turn: &mut Turn<'_>) {
        let entry = self.entry(RecordBody::Report(body));
        self.append(stream, entry, SeriesFull::DropOldest, Pace::Prompt, turn);
    }

    /// The control plane holds another record at the position of this one: it goes again at a
    /// position of its own, with its time and its age.
    pub(crate) fn renumber(&mut self, record: OutboxRecord, turn: &mut Turn<'_>) {
        let (stream, from) = (record.stream, record.seq);
        let rank = stream.rank();
        if from < self.streams[rank].head().lowest() || from > self.streams[rank].head().newest {
            return;
        }
        if matches!(record.body, RecordBody::Tombstone { .. }) {
            return;
        }
        let mut pen = Pen::new(self.epoch, Pace::Prompt, turn, &mut self.drops);
        if !self.streams[rank].moved(&record, &mut pen) {
            return;
        }
        let (time, expires) = (Some(record.time), record.expires);
        let entry = Entry { time, expires, ..self.entry(record.body) };
        self.append(stream, entry, SeriesFull::DropOldest, Pace::Prompt, turn);
        let to = self.streams[rank].head().newest;
        turn.event(CoreEvent::Renumbered { stream, from, to });
    }

    /// The control plane says that it has stored everything up to `seq`.
    pub(crate) fn receipt(&mut self, stream: StreamId, seq: RecordSeq, turn: &mut Turn<'_>) {
        let known = StreamId::ALL.contains(&stream);
        let head = *self.streams[stream.rank()].head();
        let newest = if known { head.newest } else { RecordSeq(0) };
        if seq > newest {
            turn.event(CoreEvent::ReceiptRefused { stream, seq, newest });
            return;
        }
        if seq <= head.stored_to {
            return;
        }
        let mut pen = Pen::new(self.epoch, Pace::Lazy, turn, &mut self.drops);
        self.streams[stream.rank()].stored(seq, &mut pen);
        turn.op(CoreOp::AckOutboxTo { stream, seq }, Pace::Lazy);
        turn.event(CoreEvent::ReceiptTaken { stream, seq });
    }

    /// The control plane holds positions up to `seq`. Those beyond what was ever written here come
    /// from another life of this store (an older copy was put back): the stream goes on after
    /// them, with a tombstone for what is not here. No receipt for what was written here, not even
    /// while this was under way: those records are not the ones that the control plane holds.
    pub(crate) fn go_on_after(&mut self, stream: StreamId, seq: RecordSeq, turn: &mut Turn<'_>) {
        if !StreamId::ALL.contains(&stream) {
            return;
        }
        let newest = self.streams[stream.rank()].head().newest;
        if seq <= newest {
            return;
        }
        let mut pen = Pen::new(self.epoch, Pace::Prompt, turn, &mut self.drops);
        if seq.0 - newest.0 > SKIP_MAX || !self.streams[stream.rank()].skip(seq, &mut pen) {
            turn.event(CoreEvent::ReceiptRefused { stream, seq, newest });
            return;
        }
        let (from, reason) = (newest.next(), DropReason::Skipped);
        turn.event(CoreEvent::OutboxDropped {
            stream,
            from,
            to: seq,
            records: 0,
            bytes: 0,
            reason,
        });
    }

    /// Drops what has outlived its time to live, and what is over the bound.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>) {
        let mut pen = Pen::new(self.epoch, Pace::Lazy, turn, &mut self.drops);
        for stream in &mut self.streams {
            stream.expire(&mut pen);
        }
        // After a start with a smaller bound.
        while self.bytes() > self.bytes_max {
            let mut pen = Pen::new(self.epoch, Pace::Lazy, turn, &mut self.drops);
            if !self.streams.iter_mut().rev().any(|stream| stream.drop_oldest(&mut pen)) {
                break;
            }
        }
    }

    /// When [`Outbox::expire`] is wanted.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.streams.iter().filter_map(|stream| stream.next_deadline()).min()
    }

    /// What stands in a run that was asked for.
    pub(crate) fn run_read(
        &mut self,
        stream: StreamId,
        first: RecordSeq,
        rows: &[RecordSummary],
        turn: &mut Turn<'_>,
    ) {
        let mut pen = Pen::new(self.epoch, Pace::Lazy, turn, &mut self.drops);
        self.streams[stream.rank()].run_read(first, rows, &mut pen);
    }

    /// Tells which streams grew since the last call.
    pub(crate) fn announce(&mut self, turn: &mut Turn<'_>) {
        for (stream, told) in self.streams.iter().zip(&mut self.told) {
            let Head { id, newest, .. } = *stream.head();
            if newest > *told {
                *told = newest;
                turn.effect(Effect::OutboxGrew { stream: id, newest });
            }
        }
    }

    /// In the order of [`StreamId::ALL`].
    pub(crate) fn status(&self) -> Vec<StreamStatus> {
        let status = |stream: &dyn Stream| {
            let Head { id, stored_to, newest, bytes } = *stream.head();
            StreamStatus { stream: id, stored_to, newest, records: stream.records(), bytes }
        };
        self.streams.iter().map(|stream| status(&**stream)).collect()
    }

    /// What was dropped since the start of the process.
    pub(crate) fn drops(&self) -> Vec<DropStatus> {
        self.drops.status()
    }

    fn bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.head().bytes).sum()
    }

    fn entry(&mut self, body: RecordBody) -> Entry {
        let label = self.drops.label(&summary::label(&body));
        let device = summary::device(&body).cloned();
        Entry { body, label, device, time: None, expires: None, grace: GRACE_MIN }
    }

    fn append(
        &mut self,
        stream: StreamId,
        entry: Entry,
        when_full: SeriesFull,
        pace: Pace,
        turn: &mut Turn<'_>,
    ) {
        let rank = stream.rank();
        let cost = entry.body.cost_bytes().saturating_sub(self.streams[rank].frees(&entry));
        let from = if when_full == SeriesFull::DropNewest { rank + 1 } else { rank };
        let mut pen = Pen::new(self.epoch, pace, turn, &mut self.drops);
        let (streams, bytes_max) = (&mut self.streams, self.bytes_max);
        if make_room(streams, bytes_max, cost, from, &mut pen) {
            streams[rank].append(entry, &mut pen);
        } else {
            // Its tombstone takes what is kept for tombstones, one for each stream: the next record
            // needs room for itself and for that.
            streams[rank].refuse(&entry, &mut pen);
        }
        assert!(self.bytes() <= self.bytes_max.max(TOMBSTONES_BYTES), "the outbox has a bound");
    }
}

/// Drops records of the streams from `from` on, least urgent first, until `cost` bytes fit. Drops
/// nothing where that cannot be.
fn make_room(
    streams: &mut [Box<dyn Stream>],
    bytes_max: u64,
    cost: u64,
    from: usize,
    pen: &mut Pen<'_, '_>,
) -> bool {
    let room = bytes_max.saturating_sub(TOMBSTONES_BYTES);
    let kept: u64 = streams[..from].iter().map(|stream| stream.head().bytes).sum();
    if kept + cost > room {
        return false;
    }
    let bytes =
        |streams: &[Box<dyn Stream>]| streams.iter().map(|stream| stream.head().bytes).sum::<u64>();
    while bytes(streams) + cost > room {
        let dropped = streams[from..].iter_mut().rev().any(|stream| stream.drop_oldest(pen));
        if !dropped {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
