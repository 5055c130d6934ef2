//! Positions, bounds, policies and receipts against a store that only applies operations, and
//! against a plain list of records.

mod model;

use std::collections::BTreeMap;

use super::*;
use crate::id::{EventId, FunctionId};
use crate::op::OutboxChunk;
use crate::status::Counters;
use crate::time::Now;

/// What a store makes of the operations.
#[derive(Clone, Default)]
struct Store {
    records: BTreeMap<(StreamId, RecordSeq), OutboxRecord>,
    chunks: BTreeMap<(StreamId, RecordSeq), OutboxChunk>,
    stored_to: BTreeMap<StreamId, RecordSeq>,
    /// The highest position ever appended.
    appended: BTreeMap<StreamId, u64>,
    refused: u32,
    asked: Vec<(StreamId, RecordSeq, RecordSeq)>,
}

impl Store {
    fn apply(&mut self, op: CoreOp) {
        match op {
            CoreOp::AppendOutbox(record) => {
                let key = (record.stream, record.seq);
                let top = self.appended.entry(record.stream).or_default();
                if let RecordBody::Tombstone { .. } = record.body {
                    *top = record.seq.0.max(*top);
                    self.records.insert(key, *record);
                } else {
                    *top += 1;
                    assert_eq!(record.seq.0, *top, "positions grow by one");
                    assert!(self.records.insert(key, *record).is_none(), "used once");
                }
            }
            CoreOp::AckOutboxTo { stream, seq } => {
                let before = self.stored_to.insert(stream, seq).unwrap_or_default();
                assert!(seq > before, "monotone");
                self.remove(stream, RecordSeq(0), seq);
            }
            CoreOp::DropOutbox { stream, from, to, .. } => self.remove(stream, from, to),
            CoreOp::DeleteOutbox { stream, seq } => {
                assert!(self.records.remove(&(stream, seq)).is_some(), "deletes what is there");
            }
            CoreOp::PutOutboxChunk { stream, chunk } => {
                self.chunks.insert((stream, chunk.first), chunk);
            }
            CoreOp::DeleteOutboxChunk { stream, first } => {
                assert!(self.chunks.remove(&(stream, first)).is_some(), "deletes what is there");
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn remove(&mut self, stream: StreamId, from: RecordSeq, to: RecordSeq) {
        self.records.retain(|(s, seq), _| *s != stream || *seq < from || *seq > to);
    }

    fn bytes(&self) -> u64 {
        self.records.values().map(OutboxRecord::cost_bytes).sum()
    }

    fn summaries(&self, stream: StreamId, from: RecordSeq, to: RecordSeq) -> Vec<RecordSummary> {
        let rows = self.records.range((stream, from)..=(stream, to));
        rows.map(|(_, record)| RecordSummary::of(record)).collect()
    }

    fn rows(&self) -> Vec<OutboxRows> {
        let of = |stream: StreamId| {
            let chunks = self.chunks.iter().filter(|((s, _), _)| *s == stream);
            let chunks: Vec<_> = chunks.map(|(_, chunk)| chunk.clone()).collect();
            let above = chunks.iter().map(|c| c.last).max().unwrap_or_default();
            let tail = self.summaries(stream, above.next(), RecordSeq(u64::MAX));
            let stored_to = self.stored_to.get(&stream).copied().unwrap_or_default();
            OutboxRows { stream, stored_to, chunks, tail }
        };
        StreamId::ALL.into_iter().map(of).collect()
    }

    fn records_of(&self, stream: StreamId) -> impl Iterator<Item = &OutboxRecord> {
        self.records.values().filter(move |record| record.stream == stream)
    }

    /// Tombstones of a stream: first and last position, and why.
    fn stones(&self, stream: StreamId) -> Vec<(u64, u64, DropReason)> {
        let stone = |record: &OutboxRecord| match record.body {
            RecordBody::Tombstone { from, to, reason } => Some((from.0, to.0, reason)),
            _ => None,
        };
        self.records_of(stream).filter_map(stone).collect()
    }

    /// Every position above what is stored is a record or covered by a tombstone, once.
    fn check_no_gap(&self, outbox: &Outbox) {
        for stream in &outbox.streams {
            let Head { id, newest, .. } = *stream.head();
            let mut next = self.stored_to.get(&id).copied().unwrap_or_default().next();
            for record in self.records_of(id) {
                match record.body {
                    RecordBody::Tombstone { from, to, .. } => {
                        assert!(from <= next && to == record.seq, "{from:?}..{to:?} at {next:?}");
                    }
                    _ => assert_eq!(record.seq, next),
                }
                next = record.seq.next();
            }
            assert_eq!(next, newest.next(), "{id:?}");
        }
    }
}

/// An outbox, its store, and what time it is.
struct Rig {
    outbox: Outbox,
    store: Store,
    now: Millis,
}

impl Rig {
    fn new(bytes_max: u64) -> Self {
        let outbox = Outbox::restore(Epoch(1), bytes_max, Vec::new());
        Self { outbox, store: Store::default(), now: Millis(1) }
    }

    fn turn(&mut self, run: impl FnOnce(&mut Outbox, &mut Turn<'_>)) {
        let mut out = Vec::new();
        let now = Now { at: self.now, ..Now::default() };
        let mut turn = Turn::new(now, Counters::default(), &mut out);
        run(&mut self.outbox, &mut turn);
        for effect in out {
            match effect {
                Effect::Op(op, _) => self.store.apply(op),
                Effect::Event(CoreEvent::ReceiptRefused { .. }) => self.store.refused += 1,
                Effect::ReadRun { stream, first, last } => {
                    self.store.asked.push((stream, first, last));
                }
                _ => {}
            }
        }
    }

    fn append(&mut self, policy: SeriesPolicy, name: &str, device: &str, bytes: usize) {
        let body = telemetry(name, device, bytes);
        self.turn(|outbox, turn| outbox.append_series(policy, body, Pace::Prompt, turn));
    }

    fn plain(&mut self, stream: StreamId, bytes: usize) {
        self.append(SeriesPolicy { stream, ..SeriesPolicy::default() }, "t", "d", bytes);
    }

    fn receipt(&mut self, stream: StreamId, seq: u64) {
        self.turn(|outbox, turn| outbox.receipt(stream, RecordSeq(seq), turn));
    }

    fn go_on_after(&mut self, stream: StreamId, seq: u64) {
        self.turn(|outbox, turn| outbox.go_on_after(stream, RecordSeq(seq), turn));
    }

    /// Time passes; runs that the index asks for are read.
    fn pass(&mut self, by: Millis) {
        self.now = self.now + by;
        self.turn(Outbox::expire);
        for (stream, first, last) in std::mem::take(&mut self.store.asked) {
            let rows = self.store.summaries(stream, first, last);
            self.turn(|outbox, turn| outbox.run_read(stream, first, &rows, turn));
        }
    }

    fn restart(&mut self) {
        let bytes_max = self.outbox.bytes_max;
        self.outbox = Outbox::restore(Epoch(2), bytes_max, self.store.rows());
    }

    fn newest(&self, stream: StreamId) -> u64 {
        self.outbox.streams[stream.rank()].head().newest.0
    }

    fn dropped(&self, reason: DropReason) -> Vec<(String, u64)> {
        let rows = self.outbox.drops().into_iter().filter(|row| row.reason == reason);
        rows.map(|row| (row.label.to_string(), row.records)).collect()
    }
}

fn telemetry(name: &str, device: &str, bytes: usize) -> RecordBody {
    RecordBody::Telemetry {
        function: FunctionId::new("a/f"),
        event: EventId { epoch: Epoch(1), n: 1 },
        device: Some(DeviceId::new(device)),
        name: name.to_owned(),
        payload: Bytes::from(vec![0; bytes]),
        content_type: String::new(),
    }
}

const LATEST: SeriesPolicy =
    SeriesPolicy { stream: StreamId::LATEST, ttl: None, when_full: SeriesFull::DropOldest };
const NEWEST: SeriesPolicy =
    SeriesPolicy { stream: StreamId::NORMAL, ttl: None, when_full: SeriesFull::DropNewest };

#[test]
fn the_least_urgent_and_oldest_goes_first_and_leaves_one_tombstone() {
    let mut rig = Rig::new(100_000);
    rig.plain(StreamId::URGENT, 900);
    rig.plain(StreamId::NORMAL, 900);
    for _ in 0..2_000 {
        rig.plain(StreamId::BULK, 100);
    }
    let [(1, to, DropReason::Full)] = rig.store.stones(StreamId::BULK)[..] else { panic!() };
    assert!(to > 1_000 && to.is_multiple_of(CHUNK_RECORDS), "{to:?}");
    let others = rig.store.records.keys().filter(|(s, _)| *s != StreamId::BULK);
    assert_eq!(others.count(), 2);
    assert_eq!(rig.dropped(DropReason::Full), [("a/f/t".to_owned(), to)]);
    rig.store.check_no_gap(&rig.outbox);
}

#[test]
fn a_less_urgent_record_never_displaces_a_more_urgent_one() {
    let mut rig = Rig::new(50_000);
    while rig.dropped(DropReason::Full).is_empty() {
        rig.plain(StreamId::NORMAL, 1_000);
        if rig.outbox.bytes() > 42_000 {
            break;
        }
    }
    let kept = rig.store.records.len();
    for _ in 0..100 {
        rig.plain(StreamId::BULK, 5_000);
    }
    assert_eq!(rig.store.stones(StreamId::BULK), [(1, 100, DropReason::Newest)]);
    assert_eq!(rig.store.records.len(), kept + 1, "one tombstone for all");
    assert_eq!(rig.dropped(DropReason::Newest), [("a/f/t".to_owned(), 100)]);
    rig.plain(StreamId::URGENT, 5_000);
    assert_eq!(rig.store.stones(StreamId::URGENT), [], "a more urgent one gets room");
    rig.plain(StreamId::URGENT, 500_000);
    assert_eq!(rig.store.stones(StreamId::URGENT).len(), 1, "larger than all: it is not taken");
    rig.store.check_no_gap(&rig.outbox);
}

#[test]
fn drop_newest_keeps_what_is_there() {
    let mut rig = Rig::new(50_000);
    for _ in 0..200 {
        rig.append(NEWEST, "n", "d", 400);
    }
    let [(from, 200, DropReason::Newest)] = rig.store.stones(StreamId::NORMAL)[..] else {
        panic!("{:?}", rig.store.stones(StreamId::NORMAL))
    };
    assert_eq!(rig.dropped(DropReason::Newest), [("a/f/n".to_owned(), 201 - from)]);
    rig.receipt(StreamId::NORMAL, from);
    rig.restart();
    rig.append(NEWEST, "n", "d", 400);
    assert_eq!(rig.store.stones(StreamId::NORMAL), [(from, 200, DropReason::Newest)]);
    assert!(rig.store.records.contains_key(&(StreamId::NORMAL, RecordSeq(201))), "room again");
    rig.store.check_no_gap(&rig.outbox);
}

#[test]
fn of_a_last_value_only_the_newest_counts() {
    let mut rig = Rig::new(100_000);
    for n in 0..1_000 {
        rig.append(LATEST, "level", if n % 10 == 0 { "slow" } else { "fast" }, 100);
        rig.append(LATEST, "other", "fast", 100);
    }
    let live = rig.store.records_of(StreamId::LATEST).count();
    assert!(live <= 7, "three values and what stands between them: {live}");
    let expected = [("a/f/level".to_owned(), 998), ("a/f/other".to_owned(), 999)];
    assert_eq!(rig.dropped(DropReason::Replaced), expected);
    rig.store.check_no_gap(&rig.outbox);
    rig.restart();
    rig.append(LATEST, "level", "slow", 100);
    assert_eq!(rig.dropped(DropReason::Replaced), [("a/f/level".to_owned(), 1)], "known again");
    let newest = rig.newest(StreamId::LATEST);
    rig.receipt(StreamId::LATEST, newest);
    rig.append(LATEST, "level", "slow", 100);
    assert_eq!(rig.dropped(DropReason::Replaced).len(), 1, "what is stored is not dropped");
    rig.store.check_no_gap(&rig.outbox);
}

#[test]
fn records_outlive_their_time_by_no_more_than_the_grace() {
    let mut rig = Rig::new(1_000_000);
    let ttl = Millis::from_secs(160);
    let policy = SeriesPolicy { ttl: Some(ttl), ..SeriesPolicy::default() };
    for n in 0..100 {
        rig.append(policy, "short", "d", 100);
        if n % 4 == 0 {
            rig.plain(StreamId::NORMAL, 100);
        }
        rig.pass(Millis(1_000));
    }
    assert_eq!(rig.dropped(DropReason::Expired), []);
    rig.restart();
    for _ in 0..300 {
        rig.pass(Millis(1_000));
        let now = rig.now;
        for record in rig.store.records_of(StreamId::NORMAL) {
            let late = record.expires.map_or(Millis(0), |at| now.since(at));
            assert!(late <= Millis::from_secs(10), "{late:?}");
        }
        rig.store.check_no_gap(&rig.outbox);
    }
    assert_eq!(rig.dropped(DropReason::Expired), [("a/f/short".to_owned(), 100)]);
    let left = rig.store.records_of(StreamId::NORMAL).filter(|r| r.expires.is_none()).count();
    assert_eq!(left, 25 + rig.store.stones(StreamId::NORMAL).len());
    assert!(rig.store.stones(StreamId::NORMAL).len() <= 26, "neighbours are merged");
}

#[test]
fn a_run_of_which_all_has_expired_goes_unread() {
    let mut rig = Rig::new(1_000_000);
    let policy = SeriesPolicy { ttl: Some(Millis(60_000)), ..SeriesPolicy::default() };
    for _ in 0..300 {
        rig.append(policy, "short", "d", 100);
    }
    rig.now = rig.now + Millis(70_000);
    rig.turn(Outbox::expire);
    assert_eq!(rig.store.asked, []);
    assert_eq!(rig.store.stones(StreamId::NORMAL), [(1, 300, DropReason::Expired)]);
    assert_eq!(rig.dropped(DropReason::Expired), [("a/f/short".to_owned(), 300)]);
    rig.store.check_no_gap(&rig.outbox);
}

#[test]
fn a_receipt_for_what_was_never_written_changes_nothing() {
    let mut rig = Rig::new(100_000);
    rig.plain(StreamId::NORMAL, 10);
    rig.receipt(StreamId::NORMAL, 2);
    rig.receipt(StreamId::URGENT, 1);
    rig.receipt(StreamId(77), u64::MAX);
    assert_eq!((rig.store.refused, rig.store.records.len()), (3, 1));
    rig.receipt(StreamId::NORMAL, 1);
    rig.receipt(StreamId::NORMAL, 1);
    assert_eq!((rig.store.refused, rig.store.records.len(), rig.outbox.bytes()), (3, 0, 0));
}

#[test]
fn positions_go_on_after_a_restart_with_nothing_left() {
    let mut rig = Rig::new(100_000);
    rig.plain(StreamId::NORMAL, 10);
    rig.receipt(StreamId::NORMAL, 1);
    rig.restart();
    rig.plain(StreamId::NORMAL, 10);
    assert!(rig.store.records.contains_key(&(StreamId::NORMAL, RecordSeq(2))));
}

#[test]
fn a_stream_goes_on_after_what_another_life_of_the_store_wrote() {
    let mut rig = Rig::new(100_000);
    for _ in 0..3 {
        rig.plain(StreamId::NORMAL, 10);
    }
    rig.go_on_after(StreamId::NORMAL, 7);
    rig.store.check_no_gap(&rig.outbox);
    assert_eq!(rig.store.stones(StreamId::NORMAL), [(4, 7, DropReason::Skipped)]);
    assert_eq!(rig.store.records.len(), 4, "what was written here waits for its own receipts");
    rig.restart();
    assert_eq!(rig.newest(StreamId::NORMAL), 7, "over a restart too");
    rig.go_on_after(StreamId::NORMAL, 7);
    rig.go_on_after(StreamId::NORMAL, 2);
    assert_eq!(rig.store.records.len(), 4, "a position that was written here is no receipt");
    rig.go_on_after(StreamId::NORMAL, 7 + SKIP_MAX + 1);
    assert_eq!((rig.store.refused, rig.newest(StreamId::NORMAL)), (1, 7), "beyond reason");
    for by in 1..100 {
        rig.go_on_after(StreamId::BULK, by);
        rig.go_on_after(StreamId::LATEST, by);
    }
    assert_eq!(rig.newest(StreamId::BULK), runs::SKIPS_MAX as u64, "a bound for that too");
    assert_eq!(rig.store.stones(StreamId::LATEST), [(1, 99, DropReason::Skipped)]);
}

#[test]
fn a_renumbered_record_stands_once_at_a_position_of_its_own() {
    let mut rig = Rig::new(100_000);
    for n in 0..5 {
        rig.plain(StreamId::NORMAL, 10 + n);
        rig.append(LATEST, "level", if n == 2 { "a" } else { "b" }, 10);
    }
    for (stream, seq) in [(StreamId::NORMAL, 2), (StreamId::LATEST, 3)] {
        let newest = rig.newest(stream);
        let record = rig.store.records[&(stream, RecordSeq(seq))].clone();
        for _ in 0..2 {
            let again = record.clone();
            rig.turn(|outbox, turn| outbox.renumber(again, turn));
            // The second time the store has a tombstone there, but the loop may have read before.
            if stream == StreamId::NORMAL {
                break;
            }
        }
        assert_eq!(rig.newest(stream), newest + 1);
        let copy = &rig.store.records[&(stream, RecordSeq(newest + 1))];
        assert_eq!((&copy.body, copy.time), (&record.body, record.time));
        let why = rig.store.stones(stream).into_iter().find(|(from, ..)| *from == seq);
        assert_eq!(why, Some((seq, seq, DropReason::Skipped)));
    }
    rig.store.check_no_gap(&rig.outbox);
    let stone = rig.store.records[&(StreamId::NORMAL, RecordSeq(2))].clone();
    rig.turn(|outbox, turn| outbox.renumber(stone, turn));
    assert_eq!(rig.newest(StreamId::NORMAL), 6, "a tombstone is not renumbered");
    assert!(rig.outbox.drops().iter().all(|row| row.reason == DropReason::Replaced));
}

#[test]
fn a_start_with_a_smaller_bound_drops_what_is_over_it() {
    let mut rig = Rig::new(1_000_000);
    for _ in 0..1_000 {
        rig.plain(StreamId::URGENT, 300);
        rig.plain(StreamId::BULK, 300);
    }
    rig.outbox = Outbox::restore(Epoch(2), 64_000, rig.store.rows());
    rig.turn(Outbox::expire);
    assert!(rig.outbox.bytes() <= 64_000, "{}", rig.outbox.bytes());
    rig.plain(StreamId::NORMAL, 10);
    rig.store.check_no_gap(&rig.outbox);
    let dropped: u64 = rig.dropped(DropReason::Full).iter().map(|(_, records)| records).sum();
    let left = rig.store.records.values().filter(|record| record.body.cost_bytes() > 300).count();
    assert_eq!(dropped + left as u64, 2_000);
}
