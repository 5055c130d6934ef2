//! The closed set of things worth telling: logs, metrics and the tests' oracles read this stream
//! and no other.

use crate::claim::ClaimError;
use crate::effect::RefusedReason;
use crate::id::{
    AttemptId, DeliveryId, DeviceId, Digest, EventId, FunctionId, JobId, MessageId, RecordSeq,
    StreamId, TriggerId,
};
use crate::op::{DeadReason, DropReason};
use crate::time::Millis;
use crate::topic::Topic;

/// Why an event lost its place at a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShedReason {
    /// It came last (`shed-newest`, or nothing to hold back).
    Newest,
    /// It had waited longest (`shed-oldest`).
    Oldest,
    /// A newer event of its lane took its place (`latest-per-key`).
    Replaced,
    /// Its delivery was held as long as allowed (`hold`).
    HeldTooLong,
}

/// Something that happened in the core.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the ids that the variant's sentence names")]
pub enum CoreEvent {
    /// An event got a job.
    Admitted { job: JobId, function: FunctionId, trigger: TriggerId, event: EventId },
    /// An event has no key for the order that its function asks for.
    Keyless { function: FunctionId, event: EventId },
    /// No trigger wants this message.
    Unrouted { topic: Topic },
    /// A message matches the trigger's topics, but none of its patterns; `not_json`: one might
    /// have matched, but the payload cannot be read as JSON.
    Filtered { trigger: TriggerId, not_json: bool },
    /// A message id came again.
    Repeat { id: MessageId },
    /// A message id came that is too old to tell whether it came before; it runs.
    BelowWindow { id: MessageId },
    /// The ids of a device were forgotten to make room.
    DeviceForgotten { device: DeviceId },
    /// A delivery waits for room at `function`, or behind an earlier one in its lane.
    Held { delivery: DeliveryId, function: FunctionId },
    /// A message of a client claims what is not so; no function and no subscriber gets it.
    FalseClaim { client: DeviceId, topic: Topic, claim: ClaimError },
    /// A delivery was not taken.
    Refused { delivery: DeliveryId, reason: RefusedReason },
    /// An event lost its place at a full queue.
    Shed { function: FunctionId, event: EventId, message_id: Option<MessageId>, reason: ShedReason },
    /// A batch starts, named by its first job; its events follow, one by one.
    BatchStarted { job: JobId, attempt: AttemptId, function: FunctionId, size: u16 },
    /// A batch faulted; its events go again in batches of `size` at most.
    BatchHalved { job: JobId, attempt: AttemptId, function: FunctionId, size: u16, error: String },
    /// An attempt starts, with this job in it.
    Started { job: JobId, attempt: AttemptId, function: FunctionId, revision: Digest },
    /// A job is done.
    Done { job: JobId, function: FunctionId, event: EventId, message_id: Option<MessageId> },
    /// An attempt failed; the job waits for the next one.
    Retrying { job: JobId, function: FunctionId, not_before: Millis, error: String },
    /// An event was given up.
    DeadLettered {
        function: FunctionId,
        event: EventId,
        message_id: Option<MessageId>,
        reason: DeadReason,
        error: String,
    },
    /// A dead letter made room for a newer one.
    DeadLetterPushedOut { function: FunctionId, event: EventId },
    /// A dead letter was taken up again as `job`.
    Redriven { job: JobId, function: FunctionId, event: EventId },
    /// A dead letter stays one.
    RedriveRefused { function: FunctionId, event: EventId, reason: RedriveRefusal },
    /// A dead letter was forgotten on request.
    Purged { function: FunctionId, event: EventId },
    /// An outcome of an attempt that is not running; nothing of it was applied (A4).
    StaleOutcome { job: JobId, attempt: AttemptId },
    /// A breadcrumb of a run that is accounted for.
    StaleBreadcrumb { job: JobId, run: u32 },
    /// The process died during this job's attempt.
    CrashCounted { job: JobId, function: FunctionId, crashes: u8 },
    /// An outcome of a revision that has failed its probation; the event stays where it was.
    OutcomeDiscarded { job: JobId, function: FunctionId },
    /// A function faulted too often in a row; `again`: in its first try after a pause.
    FunctionPaused { function: FunctionId, faults: u32, until: Millis, again: bool },
    /// A paused function gets one try.
    FunctionProbing { function: FunctionId },
    /// A paused function works again, or is another revision, or is to go on.
    FunctionResumed { function: FunctionId },
    /// A function starts nothing until `on` has worked off what it was sent (at most the hold
    /// time).
    FunctionChoked { function: FunctionId, on: FunctionId },
    /// The process kept dying; from now on attempts start again.
    SafeModeLeft,
    /// A revision is live.
    Activated { app: String, revision: Digest, on_probation: bool },
    /// An app is gone.
    Deactivated { app: String },
    /// Records were given up.
    OutboxDropped {
        stream: StreamId,
        from: RecordSeq,
        to: RecordSeq,
        records: u64,
        bytes: u64,
        reason: DropReason,
    },
    /// A record goes again at another position: the control plane holds another one at its own.
    Renumbered { stream: StreamId, from: RecordSeq, to: RecordSeq },
    /// A receipt freed records.
    ReceiptTaken { stream: StreamId, seq: RecordSeq },
    /// A receipt for what was never written.
    ReceiptRefused { stream: StreamId, seq: RecordSeq, newest: RecordSeq },
    /// A schedule slot came.
    SlotFired { trigger: TriggerId, slot_s: u64 },
    /// At least one slot passed while nobody could act on it.
    SlotsMissed { trigger: TriggerId, last_s: u64 },
    /// The wall clock is far behind the last used slot; the mark was taken back.
    ClockBehindMark { trigger: TriggerId, mark_s: u64, now_s: u64 },
}

/// Why a dead letter was not taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedriveRefusal {
    /// There is no such letter (any more).
    #[error("it is no longer there")]
    Unknown,
    /// Its function or trigger is not deployed.
    #[error("its function or trigger is not deployed: deploy it, or purge the letter")]
    FunctionGone,
    /// The function's queue has no room: try later.
    #[error("the queue of its function is full: try again when it has worked some off")]
    Full,
    /// The gateway is stopping.
    #[error("the gateway is stopping: try again after the restart")]
    Stopping,
}
