//! A stream of last values: of one series and device only the newest record counts.
//!
//! # Invariants
//! - At most one live record for each series and device, and [`LATEST_KEYS_MAX`] in all; over that
//!   the oldest is dropped.
//! - Every other position above `stored_to` is covered by a tombstone; those that touch and have one
//!   reason are one. So there are about as many tombstones as live records, however often values
//!   change.
//! - Everything is indexed in memory, and read from the rows at start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::OutboxRows;
use crate::id::{DeviceId, RecordSeq, StreamId};
use crate::op::{DropReason, OutboxRecord, RECORD_OVERHEAD_BYTES};
use crate::time::Millis;

use super::drops::Drops;
use super::pen::{Given, Pen};
use super::runs::SKIPS_MAX;
use super::summary::RecordSummary;
use super::{Entry, Head, Stream};

/// Last values that wait at once.
pub const LATEST_KEYS_MAX: usize = 10_000;

type Key = (Arc<str>, Option<DeviceId>);

#[derive(Debug)]
struct Value {
    key: Key,
    cost_bytes: u64,
    expires: Option<Millis>,
}

/// The stream.
#[derive(Debug)]
pub(super) struct Latest {
    head: Head,
    values: BTreeMap<RecordSeq, Value>,
    by_key: BTreeMap<Key, RecordSeq>,
    /// By their last position: the first one, and why.
    stones: BTreeMap<RecordSeq, (RecordSeq, DropReason)>,
    expiries: BTreeSet<(Millis, RecordSeq)>,
}

impl Latest {
    pub(super) fn restore(rows: Option<OutboxRows>, drops: &mut Drops) -> Self {
        let mut latest = Self {
            head: Head::new(StreamId::LATEST),
            values: BTreeMap::new(),
            by_key: BTreeMap::new(),
            stones: BTreeMap::new(),
            expiries: BTreeSet::new(),
        };
        let Some(rows) = rows else { return latest };
        latest.head.stored_to = rows.stored_to;
        latest.head.newest = rows.stored_to;
        let mut tail = rows.tail;
        tail.sort_unstable_by_key(|row| row.seq);
        for row in tail.into_iter().filter(|row| row.seq > rows.stored_to) {
            latest.head.newest = row.seq;
            match row.dropped {
                Some(reason) => {
                    latest.stones.insert(row.seq, (row.from, reason));
                    latest.head.bytes += row.cost_bytes;
                }
                None => {
                    let RecordSummary { seq, cost_bytes, expires, .. } = row;
                    let key = (drops.label(&row.label), row.device);
                    latest.insert(seq, Value { key, cost_bytes, expires });
                }
            }
        }
        latest
    }

    fn insert(&mut self, seq: RecordSeq, value: Value) {
        self.head.bytes += value.cost_bytes;
        self.expiries.extend(value.expires.map(|at| (at, seq)));
        self.by_key.insert(value.key.clone(), seq);
        self.values.insert(seq, value);
    }

    fn forget(&mut self, seq: RecordSeq) -> Option<Value> {
        let value = self.values.remove(&seq)?;
        self.head.bytes -= value.cost_bytes;
        if let Some(at) = value.expires {
            self.expiries.remove(&(at, seq));
        }
        if self.by_key.get(&value.key) == Some(&seq) {
            self.by_key.remove(&value.key);
        }
        Some(value)
    }

    /// A tombstone takes the place of a live record.
    fn drop_at(&mut self, seq: RecordSeq, reason: DropReason, pen: &mut Pen<'_, '_>) {
        let Some(value) = self.forget(seq) else { return };
        let (stream, bytes) = (self.head.id, value.cost_bytes);
        if reason != DropReason::Skipped {
            let given = Given { stream, from: seq, to: seq, bytes, reason };
            pen.given_up(given, 1, &[(value.key.0, 1)]);
        }
        self.put_stone(seq, seq, reason, pen);
    }

    /// Writes a tombstone, merged with those that it touches.
    fn put_stone(
        &mut self,
        mut from: RecordSeq,
        mut to: RecordSeq,
        reason: DropReason,
        pen: &mut Pen<'_, '_>,
    ) {
        let stream = self.head.id;
        let left = self.stones.range(..from).next_back().map(|(to, stone)| (*to, *stone));
        if let Some((left_to, (left_from, why))) = left
            && left_to.next() == from
            && why == reason
        {
            from = left_from.max(self.head.lowest());
            self.remove_stone(left_to);
            pen.erase(stream, left_to);
        }
        let right = self.stones.range(to..).next().map(|(to, stone)| (*to, *stone));
        if let Some((right_to, (right_from, why))) = right
            && to.next() == right_from
            && why == reason
        {
            self.remove_stone(right_to);
            pen.erase(stream, to);
            to = right_to;
        }
        self.head.bytes += pen.stone(stream, from, to, reason);
        self.stones.insert(to, (from, reason));
    }

    fn remove_stone(&mut self, to: RecordSeq) {
        if self.stones.remove(&to).is_some() {
            self.head.bytes -= RECORD_OVERHEAD_BYTES;
        }
    }
}

impl Stream for Latest {
    fn head(&self) -> &Head {
        &self.head
    }

    fn records(&self) -> u64 {
        (self.values.len() + self.stones.len()) as u64
    }

    fn append(&mut self, entry: Entry, pen: &mut Pen<'_, '_>) {
        let seq = self.head.newest.next();
        let key = (Arc::clone(&entry.label), entry.device.clone());
        let expires = entry.expires;
        let cost_bytes = pen.write(self.head.id, seq, entry);
        self.head.newest = seq;
        let before = self.by_key.get(&key).copied();
        self.insert(seq, Value { key, cost_bytes, expires });
        if let Some(before) = before {
            self.drop_at(before, DropReason::Replaced, pen);
        } else if self.values.len() > LATEST_KEYS_MAX {
            self.drop_oldest(pen);
        }
    }

    fn refuse(&mut self, entry: &Entry, pen: &mut Pen<'_, '_>) {
        let (seq, reason) = (self.head.newest.next(), DropReason::Newest);
        let bytes = entry.body.cost_bytes();
        let given = Given { stream: self.head.id, from: seq, to: seq, bytes, reason };
        pen.given_up(given, 1, &[(Arc::clone(&entry.label), 1)]);
        self.head.newest = seq;
        self.put_stone(seq, seq, reason, pen);
    }

    fn drop_oldest(&mut self, pen: &mut Pen<'_, '_>) -> bool {
        let Some(oldest) = self.values.keys().next().copied() else { return false };
        self.drop_at(oldest, DropReason::Full, pen);
        true
    }

    fn stored(&mut self, seq: RecordSeq, _pen: &mut Pen<'_, '_>) {
        assert!(seq > self.head.stored_to && seq <= self.head.newest, "a receipt is checked first");
        self.head.stored_to = seq;
        while let Some(first) = self.values.keys().next().copied().filter(|first| *first <= seq) {
            self.forget(first);
        }
        while let Some(first) = self.stones.keys().next().copied().filter(|to| *to <= seq) {
            self.remove_stone(first);
        }
    }

    fn skip(&mut self, to: RecordSeq, pen: &mut Pen<'_, '_>) -> bool {
        let reason = DropReason::Skipped;
        let skips = self.stones.values().filter(|(_, why)| *why == reason).count();
        if skips >= SKIPS_MAX {
            return false;
        }
        let from = self.head.newest.next();
        self.head.newest = to;
        self.put_stone(from, to, reason, pen);
        true
    }

    fn moved(&mut self, record: &OutboxRecord, pen: &mut Pen<'_, '_>) -> bool {
        let is_here = self.values.contains_key(&record.seq);
        self.drop_at(record.seq, DropReason::Skipped, pen);
        is_here
    }

    fn frees(&self, entry: &Entry) -> u64 {
        let key = (Arc::clone(&entry.label), entry.device.clone());
        let before = self.by_key.get(&key).and_then(|seq| self.values.get(seq));
        before.map_or(0, |value| value.cost_bytes - RECORD_OVERHEAD_BYTES)
    }

    fn expire(&mut self, pen: &mut Pen<'_, '_>) {
        let now = pen.now();
        while let Some((_, seq)) = self.expiries.first().copied().filter(|(at, _)| *at <= now) {
            self.drop_at(seq, DropReason::Expired, pen);
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.expiries.first().map(|(at, _)| *at)
    }

    fn run_read(&mut self, _first: RecordSeq, _rows: &[RecordSummary], _pen: &mut Pen<'_, '_>) {}
}
