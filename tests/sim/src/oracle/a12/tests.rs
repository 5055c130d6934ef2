//! It can say no to each of its points.

use edge_core::id::{
    AttemptId, BatchSeq, Digest, Epoch, EventId, FunctionId, LaneKey, RecordSeq, StreamId,
};
use edge_core::op::{OutboxRecord, Progress};
use edge_core::time::{Now, WallTime};

use super::*;

const TRUE_MS: u64 = 1_800_000_000_000;

fn clock(at: u64, unix_ms: u64, quality: ClockQuality) -> Clock {
    let now = Now { at: Millis(at), wall: WallTime { unix_ms, quality } };
    Clock { epoch: 7, now, true_ms: TRUE_MS + at }
}

fn batch(ops: Vec<CoreOp>) -> Batch {
    let ops = ops.into_iter().map(Op::Core).collect();
    Batch { seq: BatchSeq(1), gateway_time: Millis(1), ops }
}

fn told(all: &[Seen<'_>]) -> Result<(), String> {
    let mut oracle = A12::default();
    all.iter().try_for_each(|seen| oracle.see(seen))
}

#[test]
fn labels_that_lie_are_found() {
    let synced = |at: u64, off: i64| {
        let unix_ms = (TRUE_MS + at).saturating_add_signed(off);
        Seen::Clock(clock(at, unix_ms, ClockQuality::Synced))
    };
    assert!(told(&[synced(0, 0), synced(5, -9_000)]).is_ok());
    assert!(told(&[synced(0, 0), synced(5, 86_400_000)]).is_err());
    let unsynced = |at, unix_ms| Seen::Clock(clock(at, unix_ms, ClockQuality::Unsynced));
    assert!(told(&[unsynced(0, 50), unsynced(60_000, 60_050)]).is_ok());
    assert!(told(&[unsynced(0, 50), unsynced(60_000, 90_050)]).is_err(), "it followed a jump");
}

#[test]
fn a_wrong_correction_is_found() {
    let said = |true_ms| {
        let report = Report::Clock { epoch: 7, shown_ms: 1_000, true_ms };
        batch(vec![CoreOp::AppendOutbox(Box::new(OutboxRecord {
            stream: StreamId::URGENT,
            seq: RecordSeq(1),
            epoch: Epoch(8),
            body: RecordBody::Report(report.to_bytes().into()),
            time: WallTime::default(),
            expires: None,
        }))])
    };
    let unsynced = Seen::Clock(clock(0, 50, ClockQuality::Unsynced));
    assert!(told(&[unsynced, Seen::Durable(&said(TRUE_MS + 950))]).is_ok());
    let unsynced = Seen::Clock(clock(0, 50, ClockQuality::Unsynced));
    assert!(told(&[unsynced, Seen::Durable(&said(TRUE_MS + 60_000))]).is_err());
}

#[test]
fn an_early_retry_and_a_wrong_age_are_found() {
    let progress = Progress { not_before: Millis(5_000), ..Progress::default() };
    let waits = batch(vec![CoreOp::UpdateJob { job: JobId(1), progress }]);
    let function = FunctionId::new("sim/count");
    let run = |at| {
        let now = Seen::Clock(clock(at, TRUE_MS + at, ClockQuality::Synced));
        let run = Seen::Run {
            jobs: &[JobId(1)],
            attempt: AttemptId(1),
            function: &function,
            lane: &LaneKey::Function,
            revision: Digest([0; 32]),
        };
        told(&[Seen::Durable(&waits), now, run])
    };
    assert!(run(5_000).is_ok());
    assert!(run(4_999).is_err());
    let too_old = CoreEvent::DeadLettered {
        function: function.clone(),
        event: EventId { epoch: Epoch(1), n: 1 },
        message_id: None,
        reason: DeadReason::TooOld,
        error: String::new(),
    };
    assert!(told(&[Seen::Core(&too_old)]).is_err());
}

#[test]
fn a_burst_of_cron_and_a_slot_twice_are_found() {
    let trigger = TriggerId::new(CRON);
    let slot = |at_s: u64, slot_s| {
        let event = CoreEvent::SlotFired { trigger: trigger.clone(), slot_s };
        (clock(at_s * 1_000, TRUE_MS + at_s * 1_000, ClockQuality::Synced), event)
    };
    let fires = |slots: &[(Clock, CoreEvent)]| {
        let mut oracle = A12::default();
        slots.iter().try_for_each(|(clock, event)| {
            oracle.see(&Seen::Clock(*clock))?;
            oracle.see(&Seen::Core(event))
        })
    };
    assert!(fires(&[slot(0, 0), slot(60, 60), slot(120, 120)]).is_ok());
    assert!(fires(&[slot(0, 0), slot(1, 60), slot(2, 120)]).is_err());
    let mark = |slot_s| batch(vec![CoreOp::PutScheduleMark { trigger: trigger.clone(), slot_s }]);
    let now_s = TRUE_MS / 1_000;
    let now = || Seen::Clock(clock(0, TRUE_MS, ClockQuality::Synced));
    let (first, again) = (mark(now_s - 60), mark(now_s));
    assert!(told(&[now(), Seen::Durable(&first), Seen::Durable(&again)]).is_ok());
    assert!(told(&[now(), Seen::Durable(&again), Seen::Durable(&again)]).is_err());
    assert!(told(&[now(), Seen::Durable(&mark(now_s + 3_600))]).is_err(), "it is not yet");
    let behind = CoreEvent::ClockBehindMark { trigger: trigger.clone(), mark_s: 9, now_s: 5 };
    assert!(told(&[Seen::Core(&behind)]).is_err());
}
