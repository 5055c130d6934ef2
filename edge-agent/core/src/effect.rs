//! What the core wants done. The loop carries effects out in order, all of one call in one turn.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::claim::ClaimError;
use crate::event::CoreEvent;
use crate::id::{AttemptId, DeliveryId, Digest, FunctionId, JobId, LaneKey, RecordSeq, StreamId};
use crate::message::Message;
use crate::op::{CoreOp, Event};
use crate::release::{Durability, StateScope};

/// How soon a batch that holds this must be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Pace {
    /// Somebody waits: as soon as the store is idle.
    Prompt,
    /// Somebody waits who can spare 100 ms.
    Thrifty,
    /// Nobody waits: never a commit of its own within 5 s.
    Lazy,
}

impl From<Durability> for Pace {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Prompt => Self::Prompt,
            Durability::Thrifty => Self::Thrifty,
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Into the open batch (and, applied, into the store's overlay).
    Op(CoreOp, Pace),
    /// The answer to a delivery. `Accepted` and `Shed`: the loop now lets the broker fan the
    /// message out to sessions (rows of the same open batch), then settles the token with the
    /// open batch. `Duplicate`: it settles only. `Refused`: it settles with the reason.
    Settle {
        /// Which.
        delivery: DeliveryId,
        /// The answer.
        verdict: Verdict,
        /// How soon the ack is wanted.
        pace: Pace,
    },
    /// Hand an attempt to a worker. There are never more than
    /// [`Settings::worker_slots`](crate::core::Settings) open.
    Start(Box<Attempt>),
    /// Let the broker fan out what a function published, in the open batch. Triggers that match
    /// it have their jobs already.
    Publish(Arc<Message>, Pace),
    /// A revision proved itself.
    ProbationPassed {
        /// The app.
        app: String,
        /// The revision.
        revision: Digest,
    },
    /// A revision failed its probation. The app starts nothing until another revision is
    /// activated; outcomes of attempts still running are discarded and their events kept.
    ProbationFailed {
        /// The app.
        app: String,
        /// The revision.
        revision: Digest,
        /// For people.
        reason: String,
    },
    /// No attempt of the app is running and none will start: it may be swapped.
    Quiesced {
        /// The app.
        app: String,
    },
    /// The outbox has news.
    OutboxGrew {
        /// Where.
        stream: StreamId,
        /// Its newest position; readable once the open batch is durable.
        newest: RecordSeq,
    },
    /// Tell what stands at these positions, with
    /// [`Input::RunRead`](crate::input::Input::RunRead): some of it has outlived its time to live.
    ReadRun {
        /// Stream.
        stream: StreamId,
        /// First position; names the run.
        first: RecordSeq,
        /// Last position.
        last: RecordSeq,
    },
    /// After [`Input::Stop`](crate::input::Input::Stop): no attempt is running.
    Idle,
    /// For logs, metrics and the tests' oracles.
    Event(CoreEvent),
}

/// The answer to a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every function it woke has its job (none, where nothing matched).
    Accepted {
        /// Jobs made.
        jobs: u16,
    },
    /// Its message id was seen before; the first copy is in this batch or an earlier one.
    Duplicate,
    /// At least one function had no room, and by its policy this event is a dead letter. The
    /// message is acked like an accepted one.
    Shed {
        /// Jobs made nevertheless.
        jobs: u16,
        /// Functions that did not get it.
        shed: u16,
    },
    /// It was not taken. Nothing is stored.
    Refused {
        /// Why.
        reason: RefusedReason,
    },
}

/// Why a delivery was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// The gateway is stopping; the client sends it again after the restart.
    Stopping,
    /// It claims what is not so; sent again, it is refused again.
    Claim(ClaimError),
}

/// One run of a job, or of a batch of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The attempt: goes back in [`Input::Finished`](crate::input::Input::Finished), with the
    /// first job.
    pub attempt: AttemptId,
    /// Number of this run of the first job, for the worker's breadcrumb. It survives restarts.
    pub run: u32,
    /// It must not begin before all that was decided until now is durable, or a crash during it
    /// could not be counted: the process died during an earlier attempt of this job, or it is a
    /// batch, which waits as its trigger's durability says.
    pub after_durable: Option<Pace>,
    /// The function.
    pub function: FunctionId,
    /// The live revision.
    pub revision: Digest,
    /// Whether the function owns state, and how it is keyed.
    pub state: StateScope,
    /// The copy of the state it works on.
    pub state_version: u32,
    /// The lane whose keys it owns; of a batch without order, the lane of its first job.
    pub lane: LaneKey,
    /// The input.
    pub work: Work,
}

impl Attempt {
    /// The job, of a batch the first one: names the attempt together with its id.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.work.first().job
    }
}

/// What a function is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// An event.
    One(Member),
    /// Events of one batch trigger; never none. With order they are neighbours in their lane, in
    /// order of arrival; without, in order of arrival.
    Batch(Vec<Member>),
}

/// An event in an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its job.
    pub job: JobId,
    /// What the function is told: 1 for the first attempt that counts.
    pub tries: u8,
    /// The event.
    pub event: Arc<Event>,
}

impl Work {
    /// The events, in the order in which an outcome names them.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        match self {
            Self::One(member) => std::slice::from_ref(member),
            Self::Batch(members) => members,
        }
    }

    /// The first event.
    #[must_use]
    pub fn first(&self) -> &Member {
        self.members().first().expect("invariant: a batch has a member")
    }
}
