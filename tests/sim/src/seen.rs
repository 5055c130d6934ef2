//! The closed set of what oracles are told. They learn of the simulation in no other way.

use edge_agent::agent::stepped::Process;
use edge_agent::store::Batch;
use edge_broker::broker;
use edge_core::event::CoreEvent;
use edge_core::id::{AttemptId, BatchSeq, Digest, FunctionId, JobId, LaneKey};
use edge_core::status::Status;
use edge_core::time::{Millis, Now};

use crate::oracle::Rows;
use crate::payload::MessageNo;
use crate::plan::Bounds;
use crate::rest::Rest;
use crate::time::Time;

/// One thing that happened.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The store was opened; nothing was done with it yet. Anew after each failure.
    Opened {
        /// What is in it.
        found: &'a Rows,
        /// The last batch in it.
        last: BatchSeq,
    },
    /// The process is gone, or its store has failed.
    Died,
    /// A batch is in the store for good: its commit returned, or a start found it.
    Durable(&'a Batch),
    /// Something happened in the core.
    Core(&'a CoreEvent),
    /// An attempt was handed to a worker.
    Run {
        /// The jobs, in order.
        jobs: &'a [JobId],
        /// The attempt.
        attempt: AttemptId,
        /// The function.
        function: &'a FunctionId,
        /// Its lane; without order that of its first job.
        lane: &'a LaneKey,
        /// The revision that runs.
        revision: Digest,
    },
    /// An attempt was handed back.
    Ran {
        /// The jobs, in order.
        jobs: &'a [JobId],
        /// The attempt.
        attempt: AttemptId,
    },
    /// The control plane has a revision to offer.
    Built {
        /// Which.
        revision: Digest,
        /// Its author is known to the gateway.
        is_signed: bool,
    },
    /// A device published for the first time.
    Published(&'a Sent),
    /// The gateway lets an ack of a publish go (PUBACK, or PUBREC for `QoS` 2).
    Acked {
        /// Of which message.
        no: MessageNo,
        /// Bytes that hold the message or what became of it were synced.
        is_durable: bool,
    },
    /// A device, whose session was kept all the time, received what a function published.
    Echo {
        /// Of which message.
        no: MessageNo,
    },
    /// The control plane has stored a stream up to here, and said so.
    Receipted {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// The control plane stored a record for the first time.
    Stored {
        /// Stream.
        stream: u8,
        /// First position it stands for.
        first: u64,
        /// Position.
        seq: u64,
        /// The process run that wrote it.
        epoch: u64,
        /// It stands for records that were dropped.
        is_tombstone: bool,
    },
    /// What the loop takes the time to be, after a turn and before what the turn did is told.
    Clock(Clock),
    /// The control plane stored records of another machine with this one's identity.
    Cloned {
        /// Stream.
        stream: u8,
        /// First position.
        first: u64,
        /// Last position.
        seq: u64,
    },
    /// The link to the control plane is there, or no longer.
    Link {
        /// Which.
        is_up: bool,
    },
    /// The disk works again, or no longer.
    Disk(DiskState),
    /// A turn of the loop is over.
    Turned {
        /// The core, counted.
        core: &'a Status,
        /// The broker, counted.
        broker: &'a broker::Status,
        /// Its bounds.
        limits: &'a broker::Limits,
        /// What the gateway was told to keep to.
        bounds: &'a Bounds,
        /// Turns in a row that nothing from outside began.
        idle_turns: u32,
        /// Calls over the seams in this turn.
        calls: u32,
    },
    /// Faults are over and everybody was given the time to come to rest.
    Rest(&'a Rest),
}

/// What a disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// Everything.
    Good,
    /// Little more.
    Full,
    /// Nothing.
    ReadOnly,
}

/// What a gateway takes the time to be, and what it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// The process run.
    pub epoch: u64,
    /// Gateway time and label.
    pub now: Now,
    /// Milliseconds since 1970.
    pub true_ms: u64,
}

impl Clock {
    /// What a gateway takes the time to be; `None` where it does not run.
    #[must_use]
    pub fn of(process: &Process, time: &Time) -> Option<Self> {
        let (now, epoch) = (process.now()?, process.epoch()?);
        Some(Self { epoch, now, true_ms: time.true_wall_ms() })
    }

    /// What it took the time to be later, at the latest, when it came to an end.
    #[must_use]
    pub fn later(self, time: &Time) -> Self {
        let true_ms = time.true_wall_ms();
        let passed_ms = true_ms - self.true_ms;
        let mut now = self.now;
        now.at = now.at + Millis(passed_ms + 1);
        now.wall.unix_ms += passed_ms;
        Self { epoch: self.epoch, now, true_ms }
    }
}

/// A publish of a device.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which message.
    pub no: MessageNo,
    /// Where.
    pub topic: String,
    /// How often it may be worked on.
    pub promise: Promise,
    /// The device has a session that is kept, and is subscribed to what comes of it.
    pub wants_echo: bool,
}

/// What the gateway owes a message once it is acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Nothing: `QoS` 0.
    None,
    /// At least once: `QoS` 1 without a message id.
    AtLeastOnce,
    /// Once: a message id, or `QoS` 2 within one session.
    Once,
}

impl Seen<'_> {
    /// For the trace and the hash of a run; `None` for what comes too often to tell anything.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Self::Turned { .. } | Self::Clock(_) => return None,
            Self::Opened { found, last } => {
                format!(
                    "Opened at {last:?}: {} jobs, {} records",
                    found.jobs.len(),
                    found.outbox.len()
                )
            }
            Self::Durable(batch) => {
                let (seq, time, ops) = (batch.seq, batch.gateway_time, batch.ops.len());
                format!("Durable {seq:?} of {time:?}: {ops} operations")
            }
            seen => format!("{seen:?}"),
        })
    }
}
