//! What an attempt came to. A function's failure is a value ([`Fault`]), never a host error.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::message::{Properties, QoS};
use crate::topic::Topic;

/// Result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The function returned ok: everything it collected is to be committed at once.
    Done(Outputs),
    /// The function returned ok for a batch, of which some events may have failed.
    BatchDone(BatchOutputs),
    /// The function asked for another attempt.
    Retry {
        /// Its words.
        reason: String,
    },
    /// The function refuses the event for good.
    Reject {
        /// Its words.
        reason: String,
    },
    /// The sandbox stopped it.
    Fault(Fault),
}

/// What a function collected through host calls. Nothing of it is visible before the commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Local publishes, in order.
    pub publishes: Vec<Publish>,
    /// State changes in its lane, in order; a later change of a key wins.
    pub state: Vec<StateChange>,
    /// Telemetry records, in order.
    pub records: Vec<Record>,
}

impl Outputs {
    /// Adds what was collected later.
    pub fn append(&mut self, mut later: Self) {
        self.publishes.append(&mut later.publishes);
        self.state.append(&mut later.state);
        self.records.append(&mut later.records);
    }
}

/// What a function collected for a batch, and which events it named as failed. Positions count
/// from 0 in [`Work::members`](crate::effect::Work::members).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchOutputs {
    /// In the order in which they were collected; an event may have several, or none.
    pub segments: Vec<Segment>,
    /// In any order. An event that is not named is done.
    pub failures: Vec<ItemFailure>,
}

impl BatchOutputs {
    /// Positions of the events that are done, of so many. In order, none is done behind the first one
    /// that failed.
    #[must_use]
    pub fn done(&self, events: u16, in_order: bool) -> BTreeSet<u16> {
        let failed: BTreeSet<u16> = self.failures.iter().map(|failure| failure.index).collect();
        let end = failed.first().copied().filter(|_| in_order).unwrap_or(events);
        (0..end).filter(|index| !failed.contains(index)).collect()
    }
}

impl Segment {
    /// Whether it takes effect, where these events are done: with its event, or with any of the
    /// batch.
    #[must_use]
    pub fn takes_effect(&self, done: &BTreeSet<u16>) -> bool {
        self.of.map_or(!done.is_empty(), |of| done.contains(&of))
    }
}

/// What was collected for one event of a batch, or for all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Position of the event; `None`: the batch as a whole.
    pub of: Option<u16>,
    /// What.
    pub outputs: Outputs,
}

/// An event of a batch that failed, by the function's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemFailure {
    /// Position of the event.
    pub index: u16,
    /// What becomes of it.
    pub kind: ItemFailureKind,
    /// The function's words.
    pub reason: String,
}

/// What becomes of an event that failed in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFailureKind {
    /// Another attempt, as [`Outcome::Retry`].
    Retry,
    /// None, as [`Outcome::Reject`].
    Reject,
}

/// A local publish of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where; within the function's grants.
    pub topic: Topic,
    /// What.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// Whether it becomes the retained message of the topic.
    pub retain: bool,
    /// Content type and user properties.
    pub properties: Properties,
}

/// A change of one state key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The function's key.
    pub key: String,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
}

/// A telemetry record of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Series name.
    pub name: String,
    /// The record.
    pub payload: Bytes,
    /// Its media type.
    pub content_type: String,
}

/// Why the sandbox stopped an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// For people: the limit and the setting that raises it, or the trap with the function's own
    /// symbols. At most 4 KiB.
    pub message: String,
}

/// Kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FaultKind {
    /// The code trapped (panic, out of bounds, division by zero).
    Trap,
    /// It ran longer than its time limit.
    Timeout,
    /// It asked for more memory than its limit.
    Memory,
    /// It recursed deeper than its stack.
    Stack,
    /// It published, logged, recorded or stored more than its limits.
    Outputs,
    /// It called what its manifest does not grant.
    Denied,
    /// The process died during the attempt.
    Crashed,
    /// The host could not run it (an artifact that does not load).
    Host,
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Outputs => "outputs",
            Self::Denied => "denied",
            Self::Crashed => "crashed",
            Self::Host => "host",
        })
    }
}
