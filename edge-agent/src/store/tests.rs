//! Tests on real files. `background` is off in most of them, so that checkpoints happen where the
//! test says.

mod cost;
mod crash;
mod damage;
mod faults;
mod full;
mod heads;
mod model;
mod outbox;
mod reading;
mod threads;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::{
    BatchSeq, DeviceId, Epoch, EventId, FunctionId, JobId, LaneKey, RecordSeq, StreamId, TriggerId,
};
use edge_core::message::Properties;
use edge_core::op::{CoreOp, Event, Job, OutboxRecord, Progress, RecordBody, StateKey};
use edge_core::time::{Millis, WallTime};

use super::{
    Batch, JournalStore, Op, Opened, Overlay, Reader, Recovered, Settings, Store, check_heads, open,
};

/// Small enough that segments are recycled and checkpoints happen all the time.
fn small() -> Settings {
    Settings {
        segment_bytes: 16 << 10,
        segments: 4,
        checkpoint_bytes: 24 << 10,
        ballast_bytes: 64 << 10,
        cache_bytes: 1 << 20,
        new_store_id: 0x5eed,
        background: false,
        ..Settings::default()
    }
}

/// An open store and what a loop would know.
struct Rig {
    store: JournalStore,
    overlay: Overlay,
    reader: Reader,
    recovered: Recovered,
    next: BatchSeq,
}

impl Rig {
    fn open(dir: &Path) -> Self {
        Self::with(dir, small())
    }

    fn with(dir: &Path, settings: Settings) -> Self {
        let looked = check_heads(dir);
        let rig = Self::from(open(dir, settings).expect("the store opens"));
        looked.expect("what opens looks well from outside");
        rig
    }

    fn from(opened: Opened) -> Self {
        let Opened { store, overlay, reader, recovered } = opened;
        Self { store, overlay, reader, recovered, next: recovered.last.next() }
    }

    fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            self.overlay.apply(self.next, op);
        }
    }

    /// Commits operations that were applied before.
    fn commit_applied(&mut self, ops: Vec<Op>) -> Result<BatchSeq, super::StoreError> {
        let seq = self.next;
        self.store.commit(&Batch { seq, gateway_time: Millis(seq.0 * 10), ops })?;
        self.next = seq.next();
        Ok(seq)
    }

    fn try_commit(&mut self, ops: Vec<Op>) -> Result<BatchSeq, super::StoreError> {
        self.apply(&ops);
        self.commit_applied(ops)
    }

    fn commit(&mut self, ops: Vec<Op>) -> BatchSeq {
        self.try_commit(ops).expect("the batch is committed")
    }

    fn state(&self, key: &str) -> Option<Bytes> {
        self.reader.state_get(&state_key(key)).expect("the store reads")
    }
}

fn function() -> FunctionId {
    FunctionId::new("app/f")
}

fn state_key(key: &str) -> StateKey {
    let lane = LaneKey::Device(DeviceId::new("device"));
    StateKey { function: function(), state_version: 1, lane, key: key.into() }
}

fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Core(CoreOp::PutState { key: state_key(key), value: value.into() })
}

fn delete(key: &str) -> Op {
    Op::Core(CoreOp::DeleteState { key: state_key(key) })
}

fn event(n: u64) -> EventId {
    EventId { epoch: Epoch(1), n }
}

fn job(id: u64) -> Job {
    let event = Event {
        id: event(id),
        trigger: TriggerId::new("app/t"),
        topic: "a/b".into(),
        payload: Bytes::from(vec![7; 40]),
        properties: Properties::default(),
        device: None,
        message_id: None,
        time: WallTime::default(),
        hops: 0,
        maybe_repeat: false,
    };
    Job {
        id: JobId(id),
        function: function(),
        lane: LaneKey::Function,
        event: Arc::new(event),
        admitted_at: Millis(id),
        progress: Progress::default(),
        admitted_wall: WallTime::default(),
    }
}

fn admit(id: u64) -> Op {
    Op::Core(CoreOp::AdmitJob(Box::new(job(id))))
}

fn update(id: u64, attempts: u8) -> Op {
    let progress = Progress { attempts, ..Progress::default() };
    Op::Core(CoreOp::UpdateJob { job: JobId(id), progress })
}

fn finish(id: u64) -> Op {
    Op::Core(CoreOp::FinishJob { job: JobId(id) })
}

fn record(stream: StreamId, seq: u64, bytes: usize) -> OutboxRecord {
    let body = RecordBody::Report(Bytes::from(vec![byte(seq); bytes]));
    let (seq, epoch, time) = (RecordSeq(seq), Epoch(1), WallTime::default());
    OutboxRecord { stream, seq, epoch, body, time, expires: None }
}

fn append(stream: StreamId, seq: u64, bytes: usize) -> Op {
    Op::Core(CoreOp::AppendOutbox(Box::new(record(stream, seq, bytes))))
}

fn ack(stream: StreamId, seq: u64) -> Op {
    Op::Core(CoreOp::AckOutboxTo { stream, seq: RecordSeq(seq) })
}

/// A byte that tells neighbouring numbers apart.
fn byte(n: u64) -> u8 {
    n.to_le_bytes()[0]
}

/// Copies the files of a store as they are in the page cache: what a start after SIGKILL finds.
fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the copy's directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}
