//! Goal: whatever is done in whatever order, with closes and kills in between, the store holds what
//! a plain map holds. Method: random scripts, run against both.

use std::collections::BTreeMap;

use edge_core::op::DropReason;
use proptest::prelude::*;

use super::*;

const STREAMS: [StreamId; 2] = [StreamId::URGENT, StreamId::BULK];

#[derive(Clone, Debug)]
enum Act {
    Put(u8, u16),
    Delete(u8),
    DropState(bool),
    Admit,
    Update(u8),
    Finish(u8),
    Append(bool, u16),
    Ack(bool, u8),
    DropRun(bool, u8),
    Commit,
    Checkpoint,
    Close,
    Kill,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (any::<u8>(), 0..2_000_u16).prop_map(|(key, len)| Act::Put(key % 24, len)),
        // Longer than a segment.
        1 => any::<u8>().prop_map(|key| Act::Put(key % 24, 20_000)),
        2 => any::<u8>().prop_map(|key| Act::Delete(key % 24)),
        1 => any::<bool>().prop_map(Act::DropState),
        3 => Just(Act::Admit),
        2 => any::<u8>().prop_map(Act::Update),
        3 => any::<u8>().prop_map(Act::Finish),
        6 => (any::<bool>(), 0..800_u16).prop_map(|(stream, len)| Act::Append(stream, len)),
        2 => (any::<bool>(), any::<u8>()).prop_map(|(stream, part)| Act::Ack(stream, part)),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(stream, part)| Act::DropRun(stream, part)),
        8 => Just(Act::Commit),
        1 => Just(Act::Checkpoint),
        1 => Just(Act::Close),
        1 => Just(Act::Kill),
    ];
    proptest::collection::vec(act, 1..160)
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    state: BTreeMap<(u32, String), Bytes>,
    jobs: BTreeMap<u64, u8>,
    outbox: [BTreeMap<u64, OutboxRecord>; 2],
    last: [u64; 2],
    acked: [u64; 2],
}

impl Model {
    fn nth_job(&self, n: u8) -> Option<u64> {
        let n = usize::from(n).checked_rem(self.jobs.len())?;
        self.jobs.keys().nth(n).copied()
    }

    /// What the act does, in both worlds.
    fn act(&mut self, act: &Act, next_job: &mut u64) -> Vec<Op> {
        match *act {
            Act::Put(key, len) => {
                let value = Bytes::from(vec![key; usize::from(len)]);
                let at = (version(key), key.to_string());
                self.state.insert(at.clone(), value.clone());
                vec![Op::Core(CoreOp::PutState { key: versioned(&at), value })]
            }
            Act::Delete(key) => {
                let at = (version(key), key.to_string());
                self.state.remove(&at);
                vec![Op::Core(CoreOp::DeleteState { key: versioned(&at) })]
            }
            Act::DropState(first) => {
                let state_version = u32::from(first);
                self.state.retain(|(version, _), _| *version != state_version);
                vec![Op::Core(CoreOp::DropState { function: function(), state_version })]
            }
            Act::Admit => {
                *next_job += 1;
                self.jobs.insert(*next_job, 0);
                vec![admit(*next_job)]
            }
            Act::Update(n) => self.nth_job(n).map_or_else(Vec::new, |id| {
                self.jobs.insert(id, n);
                vec![update(id, n)]
            }),
            Act::Finish(n) => self.nth_job(n).map_or_else(Vec::new, |id| {
                self.jobs.remove(&id);
                vec![finish(id)]
            }),
            Act::Append(stream, len) => {
                let (s, i) = (STREAMS[usize::from(stream)], usize::from(stream));
                self.last[i] += 1;
                let record = record(s, self.last[i], usize::from(len));
                self.outbox[i].insert(self.last[i], record.clone());
                vec![Op::Core(CoreOp::AppendOutbox(Box::new(record)))]
            }
            Act::Ack(stream, part) => self.ack(usize::from(stream), part),
            Act::DropRun(stream, part) => self.drop_run(usize::from(stream), part),
            Act::Commit | Act::Checkpoint | Act::Close | Act::Kill => Vec::new(),
        }
    }

    fn ack(&mut self, i: usize, part: u8) -> Vec<Op> {
        let to = self.acked[i] + (self.last[i] - self.acked[i]) * u64::from(part) / 255;
        self.acked[i] = to;
        self.outbox[i].retain(|seq, _| *seq > to);
        vec![ack(STREAMS[i], to)]
    }

    fn drop_run(&mut self, i: usize, part: u8) -> Vec<Op> {
        let live: Vec<u64> = self.outbox[i].keys().copied().collect();
        if live.len() < 2 {
            return Vec::new();
        }
        let from = usize::from(part) % (live.len() - 1);
        let to = from + 1 + usize::from(part) % (live.len() - 1 - from);
        let (from, to) = (RecordSeq(live[from]), RecordSeq(live[to]));
        let reason = DropReason::Full;
        let body = RecordBody::Tombstone { from, to, reason };
        let tombstone = OutboxRecord { body, ..record(STREAMS[i], to.0, 0) };
        self.outbox[i].retain(|seq, _| *seq < from.0 || *seq > to.0);
        self.outbox[i].insert(to.0, tombstone.clone());
        vec![
            Op::Core(CoreOp::DropOutbox { stream: STREAMS[i], from, to, reason }),
            Op::Core(CoreOp::AppendOutbox(Box::new(tombstone))),
        ]
    }
}

fn version(key: u8) -> u32 {
    u32::from(key % 2)
}

fn versioned((state_version, key): &(u32, String)) -> StateKey {
    StateKey { state_version: *state_version, ..state_key(key) }
}

/// The store holds the applied model, and of the outbox the durable one.
fn check(rig: &Rig, applied: &Model, durable: &Model) {
    for key in 0..24_u8 {
        let at = (version(key), key.to_string());
        let value = rig.reader.state_get(&versioned(&at)).unwrap();
        assert_eq!(value.as_ref(), applied.state.get(&at), "{at:?}");
    }
    for version in 0..2 {
        for page in [3, 100] {
            let mut rows = Vec::new();
            loop {
                let prefix = versioned(&(version, String::new()));
                let after = rows.last().map(|(key, _): &(String, Bytes)| key.clone());
                let more = rig.reader.state_scan(&prefix, after.as_deref(), page, 1_500).unwrap();
                if more.is_empty() {
                    break;
                }
                rows.extend(more);
            }
            let expected =
                applied.state.range((version, String::new())..(version + 1, String::new()));
            let expected: Vec<_> = expected.map(|((_, k), v)| (k.clone(), v.clone())).collect();
            assert_eq!(rows, expected);
        }
    }
    let jobs = rig.reader.core_rows().unwrap().jobs;
    let jobs: BTreeMap<u64, u8> =
        jobs.iter().map(|job| (job.id.0, job.progress.attempts)).collect();
    assert_eq!(jobs, applied.jobs);
    for (i, stream) in STREAMS.into_iter().enumerate() {
        for from in [1, durable.acked[i] + 1, durable.last[i] / 2] {
            let read = rig.reader.outbox_read(stream, RecordSeq(from), usize::MAX, usize::MAX);
            let expected: Vec<_> =
                durable.outbox[i].range(from..).map(|(_, r)| r.clone()).collect();
            assert_eq!(read.unwrap(), expected);
        }
    }
}

fn run(acts: &[Act]) {
    let mut dir = tempfile::tempdir().unwrap();
    let settings = || Settings { purge_rows_max: 7, ..small() };
    let mut rig = Rig::with(dir.path(), settings());
    let (mut applied, mut durable) = (Model::default(), Model::default());
    let mut open = Vec::new();
    let mut next_job = 0;
    for act in acts {
        let ops = applied.act(act, &mut next_job);
        rig.apply(&ops);
        open.extend(ops);
        match act {
            Act::Commit => {
                rig.commit_applied(std::mem::take(&mut open)).unwrap();
                durable = applied.clone();
            }
            Act::Checkpoint => rig.store.checkpoint().unwrap(),
            Act::Close | Act::Kill => {
                if matches!(act, Act::Kill) {
                    let copy = tempfile::tempdir().unwrap();
                    copy_dir(dir.path(), copy.path());
                    dir = copy;
                }
                drop(rig);
                rig = Rig::with(dir.path(), settings());
                open.clear();
                applied = durable.clone();
            }
            _ => continue,
        }
        check(&rig, &applied, &durable);
    }
    check(&rig, &applied, &durable);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map_that_survives(acts in acts()) {
        run(&acts);
    }
}
