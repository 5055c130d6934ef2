//! The closed list of store operations of the core, and the rows they write.
//!
//! A batch holds operations in order; a crash keeps a prefix of batches. Rows are
//! postcard-encoded: a change of shape here is a change of the on-disk format and raises
//! [`FORMAT`].

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{
    DeviceId, Digest, Epoch, EventId, FunctionId, JobId, LaneKey, MessageId, RecordSeq, StreamId,
    TriggerId,
};
use crate::message::Properties;
use crate::time::{Millis, WallTime};

/// Version of the rows below, stored beside them; a store of another version is refused.
pub const FORMAT: u16 = 2;

/// What a function is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The same for every attempt.
    pub id: EventId,
    /// The trigger that matched.
    pub trigger: TriggerId,
    /// Topic of the message; empty for a schedule.
    pub topic: String,
    /// Payload of the message.
    pub payload: Bytes,
    /// Passed-on MQTT properties.
    pub properties: Properties,
    /// The device on whose behalf it runs.
    pub device: Option<DeviceId>,
    /// Identity of the device's message, where it has one.
    pub message_id: Option<MessageId>,
    /// Wall label of admission (for a schedule: the slot).
    pub time: WallTime,
    /// Functions between the first message and this event.
    pub hops: u8,
    /// Its message id lies below the dedupe window: it may have been worked on before.
    pub maybe_repeat: bool,
}

/// An admitted event waiting for or in work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Order of admission.
    pub id: JobId,
    /// The function to run.
    pub function: FunctionId,
    /// Its order and state domain.
    pub lane: LaneKey,
    /// The input.
    pub event: Arc<Event>,
    /// Gateway time of admission; the maximum age counts from here.
    pub admitted_at: Millis,
    /// Progress over its attempts.
    pub progress: Progress,
    /// Wall label of admission, for triggers whose events age by the wall clock.
    pub admitted_wall: WallTime,
}

/// What is known of a job's attempts so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Attempts that counted.
    pub attempts: u8,
    /// Attempts during which the process died.
    pub crashes: u8,
    /// Attempts that are accounted for in this row, counted or not. A breadcrumb of a run at or
    /// below this number is old news.
    pub runs: u32,
    /// Not to be started before this gateway time.
    pub not_before: Millis,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// A record on its way to the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRecord {
    /// Priority class.
    pub stream: StreamId,
    /// Position in the stream.
    pub seq: RecordSeq,
    /// The process run that wrote it.
    pub epoch: Epoch,
    /// What it says.
    pub body: RecordBody,
    /// Wall label of the commit.
    pub time: WallTime,
    /// Gateway time at which it outlives its time to live, where it has one.
    pub expires: Option<Millis>,
}

/// What an outbox record without contents (a tombstone) counts for: keys and framing.
pub const RECORD_OVERHEAD_BYTES: u64 = 96;

impl OutboxRecord {
    /// What the record counts for against the outbox's bound, in bytes: its contents and
    /// [`RECORD_OVERHEAD_BYTES`].
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        self.body.cost_bytes()
    }
}

impl Event {
    /// A number that a repeat of the same message has as well; others rarely have it.
    ///
    /// FNV-1a over its topic, its device, and the size and first bytes of its payload: it is made
    /// for every attempt, and must cost little also for a large one.
    #[must_use]
    pub fn likeness(&self) -> u64 {
        const PAYLOAD_BYTES: usize = 256;
        let size = self.payload.len().to_le_bytes();
        let device = self.device.as_ref().map_or("", |device| device.as_str());
        let payload = &self.payload[..self.payload.len().min(PAYLOAD_BYTES)];
        let parts = [self.topic.as_bytes(), &[0], device.as_bytes(), &size, payload];
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, step)
    }

    /// Bytes the event counts for against memory and queue bounds.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        const OVERHEAD: usize = 128;
        let user: usize = self.properties.user.iter().map(|(k, v)| k.len() + v.len()).sum();
        self.payload.len() + self.topic.len() + user + OVERHEAD
    }
}

/// Contents of an outbox record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordBody {
    /// Recorded by a function.
    Telemetry {
        /// The function.
        function: FunctionId,
        /// The event it worked on.
        event: EventId,
        /// The device of the event.
        device: Option<DeviceId>,
        /// Series name chosen by the function.
        name: String,
        /// The record, in the function's own encoding.
        payload: Bytes,
        /// Its media type.
        content_type: String,
    },
    /// An event that was given up.
    DeadLetter(DeadLetter),
    /// Something the gateway reports (deployments, alarms): encoded by the sync protocol.
    Report(Bytes),
    /// Records `from..=seq` were dropped by policy; this stands in their place.
    Tombstone {
        /// First dropped position.
        from: RecordSeq,
        /// Last dropped position.
        to: RecordSeq,
        /// Which policy.
        reason: DropReason,
    },
}

impl RecordBody {
    /// See [`OutboxRecord::cost_bytes`].
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        let body = match self {
            RecordBody::Telemetry { function, device, name, payload, content_type, .. } => {
                let device = device.as_ref().map_or(0, |device| device.as_str().len());
                function.as_str().len() + device + name.len() + payload.len() + content_type.len()
            }
            RecordBody::DeadLetter(letter) => letter.event.cost_bytes() + letter.error.len(),
            RecordBody::Report(body) => body.len(),
            RecordBody::Tombstone { .. } => 0,
        };
        body as u64 + RECORD_OVERHEAD_BYTES
    }
}

/// Why records of the outbox were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DropReason {
    /// The outbox was at its bound.
    Full,
    /// The record outlived its time to live.
    Expired,
    /// An operator asked.
    Purged,
    /// Nothing was there: the control plane holds these positions from another life of this
    /// store, and the stream goes on after them; or the record stands further on, at a position
    /// of its own.
    Skipped,
    /// It came last, found no room, and was not to make any.
    Newest,
    /// A newer value of its series and device took its place (`latest-per-key`).
    Replaced,
}

/// Why a job ended without being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadReason {
    /// All attempts failed.
    AttemptsExhausted,
    /// It outlived the maximum age of its trigger.
    TooOld,
    /// The function rejected it.
    Rejected,
    /// The process died twice while working on it.
    Crashed,
    /// More than the allowed number of functions in a row.
    Loop,
    /// Shed at a full queue by the trigger's policy.
    Shed,
    /// Its function is no longer deployed.
    FunctionGone,
}

/// An event that was given up, with why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The function that was to work on it.
    pub function: FunctionId,
    /// The event.
    pub event: Arc<Event>,
    /// Why it was given up.
    pub reason: DeadReason,
    /// Text of the last error, empty where there was none.
    pub error: String,
    /// Attempts made.
    pub attempts: u8,
    /// Gateway time at which it was given up; the oldest is pushed out first.
    pub at: Millis,
    /// Wall label of the same moment.
    pub time: WallTime,
}

/// 64 sequence numbers seen from one boot of one device (DESIGN: repeats, case a). A device's
/// window is at most 17 such rows a boot; a message changes one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupeRow {
    /// Whose. First part of the row's key.
    pub device: DeviceId,
    /// The boot id. Second part of the row's key.
    pub boot: u64,
    /// `sequence / 64`. Last part of the row's key.
    pub block: u64,
    /// Which boot of the device this is, counted by the gateway: a higher one was heard later.
    pub order: u32,
    /// Bit `i` set: sequence `64 * block + i` was seen.
    pub bits: u64,
}

/// A run of consecutive outbox records of one stream: what must be known of them to drop them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxChunk {
    /// First position; part of the row's key.
    pub first: RecordSeq,
    /// Last position.
    pub last: RecordSeq,
    /// What its live records cost ([`OutboxRecord::cost_bytes`]).
    pub bytes: u64,
    /// Why its records are gone, where they are; the tombstone at `last` stands for all of them.
    pub dropped: Option<DropReason>,
    /// Positions of which the record is gone, while others of the run are live: first and last of
    /// each range, ascending.
    pub gone: Vec<(RecordSeq, RecordSeq)>,
    /// Where records have a time to live.
    pub expiry: Option<RunExpiry>,
    /// Its records, those that are stored by now included, by what they are ([`crate::outbox::RecordSummary::label`]).
    pub tally: Vec<(Arc<str>, u64)>,
}

/// When the records of a run outlive their time to live. All in gateway time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunExpiry {
    /// When to look which of them have.
    pub look_at: Millis,
    /// How long an expired record may wait for others, so that one look finds many.
    pub grace: Millis,
    /// When all of them have; `None` where some never will.
    pub all_at: Option<Millis>,
}

/// How a revision on probation does. Survives a crash of the process, which it may have caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbationMark {
    /// The app; the row's key.
    pub app: String,
    /// The revision on probation.
    pub revision: Digest,
    /// Gateway time at which it went live.
    pub since: Millis,
    /// Attempts that ended well.
    pub successes: u32,
    /// Faults.
    pub faults: u32,
    /// Crashes of the process during its attempts.
    pub crashes: u32,
    /// Why it failed, once it has: it starts nothing more.
    pub failed: Option<String>,
}

/// A function that is paused because it faulted again and again. Survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRow {
    /// The function; the row's key.
    pub function: FunctionId,
    /// The revision that faulted: another one is not paused.
    pub revision: Digest,
    /// Events that faulted, and failed tries since.
    pub faults: u32,
    /// Gateway time of the next try.
    pub until: Millis,
    /// Length of this pause; the next one is twice as long.
    pub length: Millis,
}

/// A key of a function's state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StateKey {
    /// Owner.
    pub function: FunctionId,
    /// Version of the state's shape; each version is a copy of its own.
    pub state_version: u32,
    /// Lane the key belongs to.
    pub lane: LaneKey,
    /// The function's own key.
    pub key: String,
}

/// One operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoreOp {
    /// A job enters the queue.
    AdmitJob(Box<Job>),
    /// A job goes on after a failed attempt.
    UpdateJob {
        /// Which.
        job: JobId,
        /// Its new progress.
        progress: Progress,
    },
    /// A job ended: done, dead-lettered or shed.
    FinishJob {
        /// Which.
        job: JobId,
    },
    /// A state value.
    PutState {
        /// Where.
        key: StateKey,
        /// What.
        value: Bytes,
    },
    /// A state value goes.
    DeleteState {
        /// Where.
        key: StateKey,
    },
    /// All state of one version of a function goes.
    DropState {
        /// Owner.
        function: FunctionId,
        /// Which copy.
        state_version: u32,
    },
    /// A record enters the outbox.
    AppendOutbox(Box<OutboxRecord>),
    /// The control plane has stored everything up to `seq`.
    AckOutboxTo {
        /// Stream.
        stream: StreamId,
        /// Highest contiguous position stored there.
        seq: RecordSeq,
    },
    /// Records `from..=to` are given up; the tombstone stands at position `to`.
    DropOutbox {
        /// Stream.
        stream: StreamId,
        /// First dropped position.
        from: RecordSeq,
        /// Last dropped position, replaced by the tombstone.
        to: RecordSeq,
        /// Why.
        reason: DropReason,
    },
    /// A record run was closed, or shrank to a tombstone.
    PutOutboxChunk {
        /// Stream; first part of the key.
        stream: StreamId,
        /// The run; its `first` is the rest of the key.
        chunk: OutboxChunk,
    },
    /// A record run is gone (stored by the control plane, or merged into a tombstone).
    DeleteOutboxChunk {
        /// Stream.
        stream: StreamId,
        /// The run's first position.
        first: RecordSeq,
    },
    /// 64 numbers of one window.
    PutDedupe(DedupeRow),
    /// Parts of one boot's window that nothing asks for any more.
    DeleteDedupe {
        /// Whose.
        device: DeviceId,
        /// Which boot.
        boot: u64,
        /// Which blocks, at most 18.
        blocks: Vec<u64>,
    },
    /// An event was given up.
    PutDeadLetter(Box<DeadLetter>),
    /// A dead letter was redriven, purged or pushed out by a newer one.
    DeleteDeadLetter {
        /// Whose.
        function: FunctionId,
        /// Which.
        event: EventId,
    },
    /// How a revision on probation does.
    PutProbation(Box<ProbationMark>),
    /// The probation of an app is over.
    DeleteProbation {
        /// The app.
        app: String,
    },
    /// A schedule slot was used.
    PutScheduleMark {
        /// The trigger.
        trigger: TriggerId,
        /// The slot, in seconds on the schedule's clock.
        slot_s: u64,
    },
    /// A function is paused, or paused again.
    PutPause(Box<PauseRow>),
    /// The pause of a function is over.
    DeletePause {
        /// Which.
        function: FunctionId,
    },
    /// One row of the outbox goes: another one, or a tombstone, stands for its position.
    DeleteOutbox {
        /// Stream.
        stream: StreamId,
        /// Position.
        seq: RecordSeq,
    },
}
