//! What is left of a batch does the same as all that was put into it; and the times of closing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::id::{FunctionId, LaneKey, RecordSeq};
use crate::op::{Event, Job, Progress};
use crate::time::WallTime;

fn job(id: u64) -> Box<Job> {
    let event = Event {
        id: crate::id::EventId { epoch: crate::id::Epoch(1), n: id },
        trigger: TriggerId::new("a/t"),
        topic: "t".to_owned(),
        payload: Bytes::new(),
        properties: crate::message::Properties::default(),
        device: None,
        message_id: None,
        time: WallTime::default(),
        hops: 0,
        maybe_repeat: false,
    };
    Box::new(Job {
        id: JobId(id),
        function: FunctionId::new("a/f"),
        lane: LaneKey::Function,
        event: event.into(),
        admitted_at: Millis(0),
        progress: Progress::default(),
        admitted_wall: WallTime::default(),
    })
}

fn key(n: u8) -> StateKey {
    let function = FunctionId::new("a/f");
    StateKey { function, state_version: 1, lane: LaneKey::Function, key: n.to_string() }
}

fn batch() -> OpenBatch<CoreOp> {
    OpenBatch::new(BatchLimits::default())
}

/// Rows by name, as a store would end up with.
fn apply(rows: &mut BTreeMap<String, String>, op: &CoreOp) {
    match op {
        CoreOp::AdmitJob(job) => {
            rows.insert(format!("job {}", job.id.0), format!("{:?}", job.progress));
        }
        CoreOp::UpdateJob { job, progress } => {
            rows.insert(format!("job {}", job.0), format!("{progress:?}"));
        }
        CoreOp::FinishJob { job } => {
            rows.remove(&format!("job {}", job.0));
        }
        CoreOp::PutState { key, value } => {
            rows.insert(format!("state {key:?}"), format!("{value:?}"));
        }
        CoreOp::DeleteState { key } => {
            rows.remove(&format!("state {key:?}"));
        }
        CoreOp::DropState { .. } => rows.retain(|key, _| !key.starts_with("state")),
        CoreOp::AckOutboxTo { stream, seq } => {
            rows.insert(format!("stored {stream:?}"), format!("{seq:?}"));
        }
        other => panic!("not in this test: {other:?}"),
    }
}

#[derive(Clone, Debug)]
enum Action {
    Admit,
    Update(u64, u8),
    Finish(u64),
    Put(u8, u8),
    Delete(u8),
    Drop,
    Ack(u64),
    Seal,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        3 => Just(Action::Admit),
        2 => (any::<u64>(), any::<u8>()).prop_map(|(job, n)| Action::Update(job, n)),
        3 => any::<u64>().prop_map(Action::Finish),
        3 => (0..3u8, any::<u8>()).prop_map(|(key, value)| Action::Put(key, value)),
        1 => (0..3u8).prop_map(Action::Delete),
        1 => Just(Action::Drop),
        1 => any::<u64>().prop_map(Action::Ack),
        1 => Just(Action::Seal),
    ];
    prop::collection::vec(action, 1..60)
}

fn op_of(action: &Action, live: &mut BTreeSet<u64>, next: &mut u64) -> Option<CoreOp> {
    let pick = |live: &BTreeSet<u64>, n: u64| {
        live.iter().nth(usize::try_from(n).unwrap_or(0) % live.len().max(1)).copied()
    };
    Some(match action {
        Action::Admit => {
            *next += 1;
            live.insert(*next);
            CoreOp::AdmitJob(job(*next))
        }
        Action::Update(n, attempts) => {
            let progress = Progress { attempts: *attempts, ..Progress::default() };
            CoreOp::UpdateJob { job: JobId(pick(live, *n)?), progress }
        }
        Action::Finish(n) => {
            let job = pick(live, *n)?;
            live.remove(&job);
            CoreOp::FinishJob { job: JobId(job) }
        }
        Action::Put(n, value) => {
            CoreOp::PutState { key: key(*n), value: Bytes::from(vec![*value]) }
        }
        Action::Delete(n) => CoreOp::DeleteState { key: key(*n) },
        Action::Drop => CoreOp::DropState { function: FunctionId::new("a/f"), state_version: 1 },
        Action::Ack(seq) => CoreOp::AckOutboxTo { stream: StreamId::NORMAL, seq: RecordSeq(*seq) },
        Action::Seal => return None,
    })
}

proptest! {
    #[test]
    fn what_is_left_does_the_same(actions in actions()) {
        let (mut all, mut left) = (BTreeMap::new(), BTreeMap::new());
        let (mut live, mut next) = (BTreeSet::new(), 0);
        let mut batch = batch();
        for action in actions {
            match op_of(&action, &mut live, &mut next) {
                Some(op) => {
                    apply(&mut all, &op);
                    batch.push(op, Pace::Prompt, Millis(0));
                }
                None => batch.seal(Millis(0)).ops.iter().for_each(|op| apply(&mut left, op)),
            }
        }
        let count = batch.len();
        let sealed = batch.seal(Millis(0));
        prop_assert_eq!(sealed.ops.len(), count);
        sealed.ops.iter().for_each(|op| apply(&mut left, op));
        prop_assert_eq!(all, left);
    }
}

#[test]
fn a_job_that_ends_before_the_seal_leaves_only_its_outcome() {
    let mut batch = batch();
    batch.push(CoreOp::AdmitJob(job(1)), Pace::Prompt, Millis(0));
    let progress = Progress::default();
    batch.push(CoreOp::UpdateJob { job: JobId(1), progress }, Pace::Lazy, Millis(0));
    assert!(!batch.push(CoreOp::FinishJob { job: JobId(1) }, Pace::Prompt, Millis(1)));
    batch.push(CoreOp::PutState { key: key(1), value: Bytes::new() }, Pace::Prompt, Millis(1));
    let sealed = batch.seal(Millis(0));
    assert!(matches!(sealed.ops[..], [CoreOp::PutState { .. }]) && sealed.awaited);
    assert!(batch.push(CoreOp::FinishJob { job: JobId(2) }, Pace::Lazy, Millis(2)));
    assert_eq!(batch.seal(Millis(0)).ops.len(), 1, "an earlier batch admitted this one");
}

#[test]
fn closes_when_idle_and_waits_a_little_for_outcomes() {
    let mut batch = batch();
    assert_eq!(batch.seal_now(true, 1, Millis(10)), Seal::No);
    batch.push(CoreOp::AdmitJob(job(1)), Pace::Prompt, Millis(10));
    assert_eq!(batch.seal_now(false, 1, Millis(99)), Seal::No, "the store is busy");
    assert_eq!(batch.seal_now(true, 1, Millis(10)), Seal::Now);
    batch.started(JobId(1));
    assert_eq!(batch.seal_now(true, 1, Millis(10)), Seal::At(Millis(12)));
    assert_eq!(batch.seal_now(true, 1, Millis(12)), Seal::Now);
    batch.push(CoreOp::FinishJob { job: JobId(1) }, Pace::Prompt, Millis(11));
    assert_eq!(batch.seal_now(true, 1, Millis(11)), Seal::Now, "empty, but its ack waits");
    assert_eq!(batch.seal(Millis(0)), Sealed { ops: vec![], awaited: true });
    batch.started(JobId(7));
    batch.awaited(Pace::Prompt, Millis(20));
    assert_eq!(batch.seal_now(true, 1, Millis(20)), Seal::Now, "a job of an earlier batch");
}

#[test]
fn thrifty_and_lazy_wait_and_ride_along() {
    let mut batch = batch();
    batch.push(CoreOp::FinishJob { job: JobId(9) }, Pace::Lazy, Millis(1_000));
    assert_eq!(batch.seal_now(true, 1, Millis(1_000)), Seal::At(Millis(6_000)));
    batch.push(CoreOp::AdmitJob(job(1)), Pace::Thrifty, Millis(2_000));
    batch.started(JobId(1));
    assert_eq!(batch.seal_now(true, 1, Millis(2_000)), Seal::At(Millis(2_100)));
    batch.stopped(JobId(1));
    batch.awaited(Pace::Prompt, Millis(2_050));
    assert_eq!(batch.seal_now(true, 1, Millis(2_050)), Seal::Now);
    let sealed = batch.seal(Millis(0));
    assert_eq!((sealed.ops.len(), sealed.awaited), (2, true));
    batch.push(CoreOp::FinishJob { job: JobId(3) }, Pace::Lazy, Millis(3_000));
    assert_eq!(batch.seal_now(true, 1, Millis(8_000)), Seal::Now);
    assert!(!batch.seal(Millis(0)).awaited);
}

#[test]
fn in_a_crowd_batches_keep_a_distance() {
    let mut batch = batch();
    let put = CoreOp::PutState { key: key(1), value: Bytes::new() };
    batch.push(put.clone(), Pace::Prompt, Millis(10));
    assert_eq!(batch.seal_now(true, 1_000, Millis(10)), Seal::Now, "none was closed before");
    batch.seal(Millis(10));
    batch.awaited(Pace::Prompt, Millis(10));
    assert_eq!(batch.seal_now(true, 1_000, Millis(10)), Seal::Now, "nothing to write");
    batch.push(put, Pace::Prompt, Millis(10));
    assert_eq!(batch.seal_now(true, 16, Millis(10)), Seal::At(Millis(11)));
    assert_eq!(batch.seal_now(true, 15, Millis(10)), Seal::Now, "no crowd");
    assert_eq!(batch.seal_now(true, 16, Millis(11)), Seal::Now);
}

#[test]
fn flash_rests_between_two_batches_that_write_whoever_waits() {
    let limits = BatchLimits { interval_ms_min: Millis(500), ..BatchLimits::default() };
    let mut batch = OpenBatch::new(limits);
    let put = CoreOp::PutState { key: key(1), value: Bytes::new() };
    batch.push(put.clone(), Pace::Prompt, Millis(10));
    assert_eq!(batch.seal_now(true, 1, Millis(10)), Seal::Now, "none was closed before");
    batch.seal(Millis(10));
    for pace in [Pace::Prompt, Pace::Thrifty] {
        let mut batch = batch.clone();
        batch.push(put.clone(), pace, Millis(11));
        assert_eq!(batch.seal_now(true, 1_000, Millis(400)), Seal::At(Millis(510)), "{pace:?}");
        assert_eq!(batch.seal_now(true, 1, Millis(510)), Seal::Now);
    }
    // Those with nothing to write are closed at once, and nobody waits longer for them.
    batch.awaited(Pace::Prompt, Millis(300));
    assert_eq!(batch.seal_now(true, 1, Millis(300)), Seal::Now);
    batch.seal(Millis(300));
    batch.push(put, Pace::Prompt, Millis(301));
    assert_eq!(batch.seal_now(true, 1, Millis(301)), Seal::At(Millis(510)));
}

#[test]
fn what_rides_along_needs_a_batch_that_is_written_anyway() {
    let mut batch = batch();
    assert!(!batch.will_write());
    batch.push(CoreOp::FinishJob { job: JobId(7) }, Pace::Lazy, Millis(0));
    assert!(!batch.will_write(), "nobody waits");
    batch.awaited(Pace::Thrifty, Millis(0));
    assert!(batch.will_write());
    batch.seal(Millis(0));
    batch.awaited(Pace::Prompt, Millis(0));
    assert!(!batch.will_write(), "an ack that waits for nothing new");
    batch.push(CoreOp::AdmitJob(job(1)), Pace::Prompt, Millis(0));
    assert!(batch.will_write());
    batch.push(CoreOp::FinishJob { job: JobId(1) }, Pace::Prompt, Millis(0));
    assert!(!batch.will_write(), "the job left nothing");
}
