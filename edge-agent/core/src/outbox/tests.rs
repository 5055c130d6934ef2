//! Positions, bounds and receipts against a store that only applies operations.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::{DeviceId, EventId, FunctionId};
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
}

impl Store {
    fn apply(&mut self, op: CoreOp) {
        match op {
            CoreOp::AppendOutbox(record) => {
                let key = (record.stream, record.seq);
                let top = self.appended.entry(record.stream).or_default();
                match record.body {
                    RecordBody::Tombstone { .. } => *top = record.seq.0.max(*top),
                    _ => {
                        *top += 1;
                        assert_eq!(record.seq.0, *top, "positions grow by one");
                    }
                }
                assert!(self.records.insert(key, *record).is_none(), "a position is used once");
            }
            CoreOp::AckOutboxTo { stream, seq } => {
                let before = self.stored_to.insert(stream, seq).unwrap_or_default();
                assert!(seq > before, "monotone");
                self.remove(stream, RecordSeq(0), seq);
            }
            CoreOp::DropOutbox { stream, from, to, .. } => self.remove(stream, from, to),
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

    fn rows(&self) -> Vec<OutboxRows> {
        let of = |stream: StreamId| {
            let chunks: Vec<_> =
                self.chunks.iter().filter(|((s, _), _)| *s == stream).map(|(_, c)| *c).collect();
            let above = chunks.iter().map(|c| c.last).max().unwrap_or_default();
            let tail = self
                .records
                .values()
                .filter(|r| r.stream == stream && r.seq > above)
                .map(|r| (r.seq, r.cost_bytes()))
                .collect();
            let stored_to = self.stored_to.get(&stream).copied().unwrap_or_default();
            OutboxRows { stream, stored_to, chunks, tail }
        };
        StreamId::ALL.into_iter().map(of).collect()
    }

    /// Every position above what is stored is a record or covered by a tombstone, once.
    fn check_no_gap(&self, outbox: &Outbox) {
        for stream in &outbox.streams {
            let mut next = self.stored_to.get(&stream.id).copied().unwrap_or_default().next();
            for record in self.records.values().filter(|r| r.stream == stream.id) {
                match record.body {
                    RecordBody::Tombstone { from, to, .. } => {
                        assert!(from <= next && to == record.seq, "{from:?}..{to:?} at {next:?}");
                    }
                    _ => assert_eq!(record.seq, next),
                }
                next = record.seq.next();
            }
            assert_eq!(next, stream.newest.next(), "{:?}", stream.id);
        }
    }
}

fn turn<R>(store: &mut Store, run: impl FnOnce(&mut Turn<'_>) -> R) -> R {
    let mut out = Vec::new();
    let mut turn = Turn::new(Now::default(), Counters::default(), &mut out);
    let result = run(&mut turn);
    for effect in out {
        match effect {
            Effect::Op(op, _) => store.apply(op),
            Effect::Event(CoreEvent::ReceiptRefused { .. }) => store.refused += 1,
            _ => {}
        }
    }
    result
}

fn telemetry(bytes: usize) -> RecordBody {
    RecordBody::Telemetry {
        function: FunctionId::new("a/f"),
        event: EventId { epoch: Epoch(1), n: 1 },
        device: Some(DeviceId::new("d")),
        name: "t".to_owned(),
        payload: Bytes::from(vec![0; bytes]),
        content_type: String::new(),
    }
}

fn append(outbox: &mut Outbox, store: &mut Store, stream: StreamId, bytes: usize) {
    turn(store, |turn| outbox.append(stream, telemetry(bytes), Pace::Prompt, turn));
}

#[test]
fn the_least_urgent_and_oldest_goes_first_and_leaves_one_tombstone() {
    let mut store = Store::default();
    let mut outbox = Outbox::restore(Epoch(1), 100_000, Vec::new());
    append(&mut outbox, &mut store, StreamId::URGENT, 900);
    append(&mut outbox, &mut store, StreamId::NORMAL, 900);
    for _ in 0..2_000 {
        append(&mut outbox, &mut store, StreamId::BULK, 100);
    }
    let stones: Vec<_> = store
        .records
        .values()
        .filter_map(|r| match r.body {
            RecordBody::Tombstone { from, to, .. } => Some((r.stream, from, to)),
            _ => None,
        })
        .collect();
    let [(StreamId::BULK, RecordSeq(1), to)] = stones[..] else { panic!("{stones:?}") };
    assert!(to.0 > 1_000 && to.0 % CHUNK_RECORDS == 0, "{to:?}");
    assert_eq!(store.records.keys().filter(|(s, _)| *s != StreamId::BULK).count(), 2);
    store.check_no_gap(&outbox);
}

#[test]
fn a_receipt_for_what_was_never_written_changes_nothing() {
    let mut store = Store::default();
    let mut outbox = Outbox::restore(Epoch(1), 100_000, Vec::new());
    append(&mut outbox, &mut store, StreamId::NORMAL, 10);
    turn(&mut store, |turn| outbox.receipt(StreamId::NORMAL, RecordSeq(2), turn));
    turn(&mut store, |turn| outbox.receipt(StreamId::URGENT, RecordSeq(1), turn));
    turn(&mut store, |turn| outbox.receipt(StreamId(77), RecordSeq(u64::MAX), turn));
    assert_eq!((store.refused, store.records.len()), (3, 1));
    turn(&mut store, |turn| outbox.receipt(StreamId::NORMAL, RecordSeq(1), turn));
    turn(&mut store, |turn| outbox.receipt(StreamId::NORMAL, RecordSeq(1), turn));
    assert_eq!((store.refused, store.records.len(), outbox.bytes), (3, 0, 0));
}

#[test]
fn positions_go_on_after_a_restart_with_nothing_left() {
    let mut store = Store::default();
    let mut outbox = Outbox::restore(Epoch(1), 100_000, Vec::new());
    append(&mut outbox, &mut store, StreamId::NORMAL, 10);
    turn(&mut store, |turn| outbox.receipt(StreamId::NORMAL, RecordSeq(1), turn));
    let mut outbox = Outbox::restore(Epoch(2), 100_000, store.rows());
    append(&mut outbox, &mut store, StreamId::NORMAL, 10);
    assert!(store.records.contains_key(&(StreamId::NORMAL, RecordSeq(2))));
}

#[test]
fn a_stream_goes_on_after_what_another_life_of_the_store_wrote() {
    let mut store = Store::default();
    let mut outbox = Outbox::restore(Epoch(1), 100_000, Vec::new());
    for _ in 0..3 {
        append(&mut outbox, &mut store, StreamId::NORMAL, 10);
    }
    turn(&mut store, |turn| outbox.go_on_after(StreamId::NORMAL, RecordSeq(7), turn));
    store.check_no_gap(&outbox);
    let skipped = &store.records[&(StreamId::NORMAL, RecordSeq(7))];
    let expected =
        RecordBody::Tombstone { from: RecordSeq(4), to: RecordSeq(7), reason: DropReason::Skipped };
    assert_eq!(skipped.body, expected);
    assert_eq!(store.records.len(), 4, "what was written here waits for its own receipts");
    let mut outbox = Outbox::restore(Epoch(2), 100_000, store.rows());
    assert_eq!(outbox.streams[1].newest, RecordSeq(7), "over a restart too");
    turn(&mut store, |turn| outbox.go_on_after(StreamId::NORMAL, RecordSeq(7), turn));
    turn(&mut store, |turn| outbox.go_on_after(StreamId::NORMAL, RecordSeq(2), turn));
    assert_eq!(store.records.len(), 4, "a position that was written here is no receipt");
    let beyond = RecordSeq(7 + SKIP_MAX + 1);
    turn(&mut store, |turn| outbox.go_on_after(StreamId::NORMAL, beyond, turn));
    assert_eq!((store.refused, outbox.streams[1].newest), (1, RecordSeq(7)), "beyond reason");
    for by in 1..100 {
        turn(&mut store, |turn| outbox.go_on_after(StreamId::BULK, RecordSeq(by), turn));
    }
    assert_eq!(outbox.streams[2].chunks.len(), TOMBSTONES_MERGED_MAX, "a bound for that too");
}

#[derive(Clone, Debug)]
enum Action {
    Append(u8, usize, u16),
    Skip(u8, u64),
    Receipt(u8, u64),
    Restart,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (0..3u8, 0..2_000usize, 1..300u16).prop_map(|(s, b, n)| Action::Append(s, b, n)),
        4 => (0..3u8, 0..110u64).prop_map(|(s, percent)| Action::Receipt(s, percent)),
        1 => (0..3u8, 0..500u64).prop_map(|(s, by)| Action::Skip(s, by)),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn bounded_gapless_and_the_same_after_a_restart(actions in actions()) {
        const BYTES_MAX: u64 = 200_000;
        let mut store = Store::default();
        let mut outbox = Outbox::restore(Epoch(1), BYTES_MAX, Vec::new());
        for action in actions {
            match action {
                Action::Append(stream, bytes, times) => for _ in 0..times {
                    append(&mut outbox, &mut store, StreamId(stream), bytes);
                    prop_assert!(outbox.bytes <= BYTES_MAX);
                    prop_assert!(store.bytes() <= outbox.bytes, "counts what is live");
                },
                Action::Receipt(stream, percent) => {
                    let newest = outbox.streams[usize::from(stream)].newest.0;
                    let seq = RecordSeq(newest * percent / 100);
                    turn(&mut store, |turn| outbox.receipt(StreamId(stream), seq, turn));
                }
                Action::Skip(stream, by) => {
                    let seq = RecordSeq(outbox.streams[usize::from(stream)].newest.0 + by);
                    turn(&mut store, |turn| outbox.go_on_after(StreamId(stream), seq, turn));
                }
                Action::Restart => {
                    let old: Vec<_> = outbox.streams.iter().map(|s| s.newest).collect();
                    outbox = Outbox::restore(Epoch(2), BYTES_MAX, store.rows());
                    let new: Vec<_> = outbox.streams.iter().map(|s| s.newest).collect();
                    prop_assert_eq!(old, new);
                }
            }
            store.check_no_gap(&outbox);
        }
        for stream in StreamId::ALL {
            let newest = outbox.streams[usize::from(stream.0)].newest;
            turn(&mut store, |turn| outbox.receipt(stream, newest, turn));
        }
        prop_assert!(store.records.is_empty() && store.chunks.is_empty());
        prop_assert_eq!(outbox.bytes, 0);
    }
}
