//! Each oracle can say no: what it exists for is shown to it.

use std::sync::Arc;

use bytes::Bytes;
use edge_agent::store::{Batch, Op};
use edge_core::event::CoreEvent;
use edge_core::id::{
    AttemptId, BatchSeq, DeviceId, Digest, Epoch, EventId, FunctionId, JobId, LaneKey, RecordSeq,
    StreamId, TriggerId,
};
use edge_core::message::Properties;
use edge_core::op::{CoreOp, Event, Job, OutboxRecord, Progress, RecordBody, StateKey};
use edge_core::status::Status;
use edge_core::time::{Millis, WallTime};

use super::*;
use crate::function::{CHAIN, Chain};
use crate::payload::{self, Wish};
use crate::plan::Bounds;
use crate::rest::Rest;
use crate::seen::{Promise, Sent};

const COUNT: &str = "sim/count";
const RELAY: &str = "sim/relay";
const TALLY: &str = "sim/tally";

/// Tells an oracle all of it; what it says last.
fn told(mut oracle: impl Oracle, all: &[Seen<'_>]) -> Result<(), String> {
    let (last, before) = all.split_last().unwrap();
    for seen in before {
        oracle.see(seen)?;
    }
    oracle.see(last)
}

fn batch(seq: u64, ops: Vec<CoreOp>) -> Batch {
    let ops = ops.into_iter().map(Op::Core).collect();
    Batch { seq: BatchSeq(seq), gateway_time: Millis(seq), ops }
}

fn event_id(n: u64) -> EventId {
    EventId { epoch: Epoch(1), n }
}

fn job(id: u64, function: &str, no: u64) -> CoreOp {
    CoreOp::AdmitJob(Box::new(Job {
        id: JobId(id),
        function: FunctionId::new(function),
        lane: LaneKey::Device(DeviceId::new("d0")),
        event: Arc::new(Event {
            id: event_id(id),
            trigger: TriggerId::new("sim/count"),
            topic: "in/d0/1".to_owned(),
            payload: payload::encode(no, Wish::Work, 0),
            properties: Properties::default(),
            device: Some(DeviceId::new("d0")),
            message_id: None,
            time: WallTime::default(),
            hops: 0,
            maybe_repeat: false,
        }),
        admitted_at: Millis(0),
        admitted_wall: WallTime::default(),
        progress: Progress::default(),
    }))
}

fn record(seq: u64, event: u64, no: u64) -> CoreOp {
    record_of(COUNT, seq, event, no)
}

fn record_of(function: &str, seq: u64, event: u64, no: u64) -> CoreOp {
    CoreOp::AppendOutbox(Box::new(OutboxRecord {
        stream: StreamId::NORMAL,
        seq: RecordSeq(seq),
        epoch: Epoch(1),
        expires: None,
        body: RecordBody::Telemetry {
            function: FunctionId::new(function),
            event: event_id(event),
            device: Some(DeviceId::new("d0")),
            name: "seen".to_owned(),
            payload: payload::encode(no, Wish::Work, 0),
            content_type: String::new(),
        },
        time: WallTime::default(),
    }))
}

fn state(chain: Chain) -> CoreOp {
    let key = StateKey {
        function: FunctionId::new(COUNT),
        state_version: 1,
        lane: LaneKey::Device(DeviceId::new("d0")),
        key: CHAIN.to_owned(),
    };
    CoreOp::PutState { key, value: chain.to_bytes() }
}

fn sent(no: u64, promise: Promise) -> Sent {
    Sent { no, topic: format!("in/d0/{no}"), promise, wants_echo: false }
}

fn rest() -> Rest {
    Rest { generation: 1, reported: Some((1, Vec::new())), restless: Vec::new() }
}

#[test]
fn a1_wants_the_bytes_on_the_disk() {
    let acked = |is_durable| Seen::Acked { no: 1, is_durable };
    assert!(told(a1::A1::default(), &[acked(true)]).is_ok());
    assert!(told(a1::A1::default(), &[acked(false)]).is_err());
    let stored = Seen::Stored { stream: 1, first: 1, seq: 1, epoch: 1, is_tombstone: false };
    assert!(told(a1::A1::default(), &[stored]).is_err(), "no batch holds it");
}

#[test]
fn a2_wants_an_end_for_every_ack_and_a_receipt_for_every_delete() {
    let (sent, rest) = (sent(1, Promise::Once), rest());
    let acked = || vec![Seen::Published(&sent), Seen::Acked { no: 1, is_durable: true }];
    let mut lost = acked();
    lost.push(Seen::Rest(&rest));
    assert!(told(a2::A2::default(), &lost).is_err());
    let seq = RecordSeq(1);
    let delete = batch(1, vec![CoreOp::AckOutboxTo { stream: StreamId::NORMAL, seq }]);
    assert!(told(a2::A2::default(), &[Seen::Durable(&delete)]).is_err());
    let receipted = Seen::Receipted { stream: 1, seq: 1 };
    assert!(told(a2::A2::default(), &[receipted, Seen::Durable(&delete)]).is_ok());
}

#[test]
fn a3_wants_one_batch_and_once() {
    let whole = |seq| batch(seq, vec![record(seq, seq, 7), job(100 + seq, RELAY, 7)]);
    let (one, two) = (whole(1), whole(2));
    let sent = sent(7, Promise::Once);
    let ok = [Seen::Published(&sent), Seen::Durable(&one)];
    assert!(told(a3::A3::default(), &ok).is_ok());
    let twice = [Seen::Published(&sent), Seen::Durable(&one), Seen::Durable(&two)];
    assert!(told(a3::A3::default(), &twice).is_err());
    let half = batch(1, vec![record(1, 1, 7)]);
    assert!(told(a3::A3::default(), &[Seen::Durable(&half)]).is_err());
    let admitted = batch(1, vec![job(1, COUNT, 7)]);
    let unfinished = batch(2, vec![record(1, 1, 7), job(101, RELAY, 7)]);
    let all = [Seen::Durable(&admitted), Seen::Durable(&unfinished)];
    assert!(told(a3::A3::default(), &all).is_err());
    let (found, last) = (Rows::default(), BatchSeq(1));
    let lost = [Seen::Durable(&admitted), Seen::Opened { found: &found, last }];
    assert!(told(a3::A3::default(), &lost).is_err());
}

#[test]
fn a4_and_a5_want_the_live_attempt_and_the_order_of_the_lane() {
    let function = FunctionId::new(COUNT);
    let lane = LaneKey::Function;
    let done = |job| CoreEvent::Done {
        job: JobId(job),
        function: function.clone(),
        event: event_id(job),
        message_id: None,
    };
    let jobs: Vec<JobId> = (0..4).map(JobId).collect();
    let run = |job: usize| Seen::Run {
        jobs: &jobs[job..=job],
        attempt: AttemptId(job as u64),
        function: &function,
        lane: &lane,
        revision: Digest([1; 32]),
    };
    let ran = |job: usize| Seen::Ran { jobs: &jobs[job..=job], attempt: AttemptId(job as u64) };
    let (one, two) = (done(1), done(2));
    assert!(told(a4::A4::default(), &[Seen::Core(&one)]).is_err(), "nothing was started");
    assert!(told(a5::A5::default(), &[run(1), run(2)]).is_err(), "two at a time");
    let in_order = [run(1), ran(1), Seen::Core(&one), run(2), ran(2), Seen::Core(&two)];
    assert!(told(a5::A5::default(), &in_order).is_ok());
    let turned = [run(2), ran(2), Seen::Core(&two), run(1), ran(1), Seen::Core(&one)];
    assert!(told(a5::A5::default(), &turned).is_err());
    assert!(told(a8::A8::default(), &[run(1)]).is_err(), "signed by nobody");
}

#[test]
fn a5_wants_no_event_done_while_an_earlier_one_is_not() {
    let admitted = batch(1, vec![job(1, COUNT, 7), job(2, COUNT, 8)]);
    let finish = |job| CoreOp::FinishJob { job: JobId(job) };
    let passed = batch(2, vec![finish(2), record(1, 2, 8)]);
    let both = batch(2, vec![finish(1), finish(2), record(1, 1, 7), record(2, 2, 8)]);
    let all = [Seen::Durable(&admitted), Seen::Durable(&passed)];
    assert!(told(a5::A5::default(), &all).is_err());
    let all = [Seen::Durable(&admitted), Seen::Durable(&both)];
    assert!(told(a5::A5::default(), &all).is_ok());
}

#[test]
fn a3_wants_all_that_an_attempt_finished_in_one_batch() {
    let function = FunctionId::new(TALLY);
    let revision = Digest([1; 32]);
    let started = |job| CoreEvent::Started {
        job: JobId(job),
        attempt: AttemptId(9),
        function: function.clone(),
        revision,
    };
    let done = |job| CoreEvent::Done {
        job: JobId(job),
        function: function.clone(),
        event: event_id(job),
        message_id: None,
    };
    let events = [started(1), started(2), done(1), done(2)];
    let record = |seq| record_of(TALLY, seq, seq, seq);
    let halves = [batch(1, vec![record(1)]), batch(2, vec![record(2)])];
    let whole = batch(1, vec![record(1), record(2)]);
    let with = |batches: &[Batch]| {
        let events = events.iter().map(Seen::Core);
        let all: Vec<Seen<'_>> = events.chain(batches.iter().map(Seen::Durable)).collect();
        told(a3::A3::default(), &all)
    };
    assert!(with(&halves).is_err());
    assert!(with(&[whole]).is_ok());
}

#[test]
fn a6_and_a9_want_their_bounds() {
    let (limits, broker) = (edge_broker::Limits::default(), edge_broker::Status::default());
    let bounds = Bounds::default();
    let turned = |core, idle_turns, calls| Seen::Turned {
        core,
        broker: &broker,
        limits: &limits,
        bounds: &bounds,
        idle_turns,
        calls,
    };
    let (well, full) = (Status::default(), Status { jobs: 1_000, ..Status::default() });
    assert!(told(a6::A6, &[turned(&well, 0, 0)]).is_ok());
    assert!(told(a6::A6, &[turned(&full, 0, 0)]).is_err());
    assert!(told(a9::A9, &[turned(&well, 10, 10)]).is_ok());
    assert!(told(a9::A9, &[turned(&well, 10_000, 10)]).is_err());
    assert!(told(a9::A9, &[turned(&well, 0, 1_000_000)]).is_err());
}

#[test]
fn a7_wants_the_generation_and_rest() {
    assert!(told(a7::A7, &[Seen::Rest(&rest())]).is_ok());
    let other = Rest { generation: 2, ..rest() };
    assert!(told(a7::A7, &[Seen::Rest(&other)]).is_err());
    let restless = Rest { restless: vec!["1 jobs".to_owned()], ..rest() };
    assert!(told(a7::A7, &[Seen::Rest(&restless)]).is_err());
}

#[test]
fn a11_wants_the_state_of_a_serial_run() {
    let chain = Chain::default().and(7);
    let one = batch(1, vec![record(1, 1, 7), state(chain)]);
    let two = batch(2, vec![record(2, 2, 8), record(3, 3, 9), state(chain.and(8).and(9))]);
    assert!(told(a11::A11::default(), &[Seen::Durable(&one), Seen::Durable(&two)]).is_ok());
    assert!(told(a11::A11::default(), &[Seen::Durable(&two)]).is_err(), "one is missing");
    let swapped = batch(2, vec![record(2, 2, 8), record(3, 3, 9), state(chain.and(9).and(8))]);
    let all = [Seen::Durable(&one), Seen::Durable(&swapped)];
    assert!(told(a11::A11::default(), &all).is_err());
    let stateless = batch(1, vec![record(1, 1, 7)]);
    assert!(told(a11::A11::default(), &[Seen::Durable(&stateless)]).is_err());
    assert_eq!(Chain::of(&Bytes::from_static(b"?")), None);
}
