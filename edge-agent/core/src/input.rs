//! What the core is told. It learns of the world in no other way.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{AttemptId, DeliveryId, Digest, EventId, FunctionId, JobId, RecordSeq, StreamId};
use crate::message::Message;
use crate::op::{DeadLetter, OutboxRecord};
use crate::outbox::RecordSummary;
use crate::outcome::Outcome;
use crate::release::{ProbationPolicy, Release};

/// Whether a delivery can wait for room in a function's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patience {
    /// Its ack may be held back (`QoS` 1 and 2 of a client).
    #[default]
    Holdable,
    /// There is no ack to hold back (`QoS` 0): what finds no room is shed at once.
    Immediate,
}

/// An attempt during which the process died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crumb {
    /// Which job; of a batch the first one.
    pub job: JobId,
    /// Its event; another event under this job number: the job of this one never became durable.
    pub event: EventId,
    /// [`Attempt::run`](crate::effect::Attempt::run) of the attempt.
    pub run: u32,
    /// The function that ran.
    pub function: FunctionId,
    /// [`Event::likeness`](crate::op::Event::likeness) of the event.
    pub likeness: u64,
    /// No other attempt was in work when the process died.
    pub alone: bool,
    /// The attempt was one of a batch of more than one event: any of them may be to blame.
    pub batched: bool,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client published. Answered by exactly one [`Effect::Settle`](crate::effect::Effect),
    /// in this call or a later one.
    Delivered {
        /// Under which the answer comes back.
        delivery: DeliveryId,
        /// What was published.
        message: Arc<Message>,
        /// Whether the answer may wait.
        patience: Patience,
    },
    /// A message of nobody's turn: a will that fired. No answer; what finds no room is shed.
    WillFired {
        /// The will.
        message: Arc<Message>,
    },
    /// A worker is done with an attempt.
    Finished {
        /// Which job; of a batch the first one.
        job: JobId,
        /// Which attempt; not the running one: ignored, with an event (A4).
        attempt: AttemptId,
        /// What it came to.
        outcome: Outcome,
        /// Wall time in microseconds for which it had a worker: its part in the sharing.
        ran_us: u64,
    },
    /// A worker's breadcrumb from before the start: the process died during this attempt.
    Crashed(Crumb),
    /// All apps that were live are active and all breadcrumbs are told: attempts may start.
    /// Until then jobs of functions that are not active wait; now they are given up.
    Started,
    /// A revision goes live, in place of the app's former one. The app must be quiet: never
    /// active, or [`Effect::Quiesced`](crate::effect::Effect) was answered.
    Activate {
        /// The revision.
        release: Arc<Release>,
        /// Set while it has to prove itself.
        probation: Option<ProbationPolicy>,
    },
    /// A revision on probation is kept: what a held probation waited for has come.
    EndProbation {
        /// Its app.
        app: String,
        /// Which; another one of the app stays as it is.
        revision: Digest,
    },
    /// An app goes; its waiting events are given up. The app must be quiet.
    Deactivate {
        /// Which.
        app: String,
    },
    /// Start no more attempts of an app; answered by
    /// [`Effect::Quiesced`](crate::effect::Effect) when the running ones have ended.
    Quiesce {
        /// Which.
        app: String,
    },
    /// The swap was called off: go on as before.
    Resume {
        /// Which.
        app: String,
    },
    /// An operator says that a paused function is to go on.
    ResumeFunction {
        /// Which; one that is not paused goes on anyway.
        function: FunctionId,
    },
    /// The process has lived for long enough, or an operator says that functions may run.
    LeaveSafeMode,
    /// The control plane has stored everything of a stream up to `seq`.
    Receipt {
        /// Stream.
        stream: StreamId,
        /// Highest contiguous position stored.
        seq: RecordSeq,
    },
    /// On connect: the control plane holds positions beyond what this store ever wrote (the store
    /// is an older copy). The stream goes on after them; a tombstone tells of the skip. This is no
    /// receipt.
    GoOnAfter {
        /// Stream.
        stream: StreamId,
        /// Highest position stored there.
        seq: RecordSeq,
    },
    /// Answer to [`Effect::ReadRun`](crate::effect::Effect): the rows as they are applied. Where
    /// the store cannot be read there is none; the core asks again.
    RunRead {
        /// Stream.
        stream: StreamId,
        /// First position of the run.
        first: RecordSeq,
        /// Its rows, in order; those that are receipted may be missing.
        rows: Vec<RecordSummary>,
    },
    /// The control plane holds other records at the positions of these: they go again at positions
    /// of their own. The loop reads them from the store, as they are applied.
    Renumber {
        /// The records.
        records: Vec<OutboxRecord>,
    },
    /// The gateway itself has something to tell the control plane.
    Report {
        /// Priority class.
        stream: StreamId,
        /// Encoded by the sync protocol.
        body: Bytes,
    },
    /// Try a dead letter again as a new job. The loop reads the letter from the store.
    Redrive {
        /// The letter.
        letter: Box<DeadLetter>,
    },
    /// Forget a dead letter.
    PurgeDeadLetter {
        /// Its function.
        function: FunctionId,
        /// Its event.
        event: EventId,
    },
    /// The store has no room any more, or has some again: until then schedules make no events.
    /// (Deliveries wait in the loop.)
    Room {
        /// Whether there is none.
        full: bool,
    },
    /// Take nothing more and start nothing more: deliveries are refused from now on, and
    /// [`Effect::Idle`](crate::effect::Effect) follows when no attempt is running.
    Stop,
    /// Time passed, or the wall clock was set or synced: do what is due.
    Tick,
}
