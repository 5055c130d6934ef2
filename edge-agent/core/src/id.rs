//! Typed identities. Numbers are never passed bare between modules.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Number of a batch of the store; batches become durable in this order without gaps.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BatchSeq(pub u64);

impl BatchSeq {
    /// The batch that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A job of this gateway, in order of admission. Reused only after its row is gone.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct JobId(pub u64);

/// One run of a job, unique for the life of the process: an outcome applies only where its
/// attempt is still the running one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct AttemptId(pub u64);

/// A message handed to the core by the broker, whose answer (the ack) is still open. Numbered by
/// the loop, in order of arrival; it keeps the broker's ack token under this number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// 64 random bits drawn at each start of the gateway process (DESIGN: the uplink).
///
/// Two records with one stream and sequence but different epochs come from two lives of a store:
/// a restore or a clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Name of an event for all its attempts, unique over gateways and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId {
    /// The process run that admitted the event.
    pub epoch: Epoch,
    /// Position within that run, from 1.
    pub n: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.epoch, self.n)
    }
}

/// Identity of a publish by a device that numbers its messages (DESIGN: repeats, case a).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// The authenticated device, never a name taken from the payload.
    pub device: DeviceId,
    /// 64 random bits the device draws at each boot.
    pub boot: u64,
    /// Position within the boot.
    pub seq: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}/{}", self.device, self.boot, self.seq)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; who lets it in from outside validates it there.
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// An authenticated device identity (certificate common name or user name).
    DeviceId
}
name_type! {
    /// A function of an app, written `app/function`. The same name in a later revision is the
    /// same function: it keeps its queue and its state.
    FunctionId
}
name_type! {
    /// A trigger of an app, written `app/trigger`.
    TriggerId
}

impl FunctionId {
    /// The app it belongs to: the text before the first `/`.
    #[must_use]
    pub fn app(&self) -> &str {
        app_of(self.as_str())
    }
}

impl TriggerId {
    /// The app it belongs to: the text before the first `/`.
    #[must_use]
    pub fn app(&self) -> &str {
        app_of(self.as_str())
    }
}

fn app_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(app, _)| app)
}

/// The lane of a job: the order and state domain of a key (DESIGN: state and order).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LaneKey {
    /// One lane per device (`state = "device"`); also the gateway itself as the empty device.
    Device(DeviceId),
    /// One lane for the whole function (`state = "function"`).
    Function,
    /// No order and no state (`state = "none"`): each job is alone in its lane.
    Job(JobId),
    /// One lane per key that the function orders by ([`crate::order::Ordered`]).
    Key(Arc<str>),
    /// Events that have no such key, of one function, in one lane.
    Keyless,
}

impl LaneKey {
    /// What people call it: the device or the key, empty where the events have none; `None` where
    /// there is but one lane, or one for each event.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Device(device) => Some(device.as_str()),
            Self::Key(key) => Some(key),
            Self::Keyless => Some(""),
            Self::Function | Self::Job(_) => None,
        }
    }
}

/// A priority class of the outbox; records are in order within their stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u8);

impl StreamId {
    /// Alarms, dead letters and deployment reports: drained first.
    pub const URGENT: Self = Self(0);
    /// Telemetry recorded by functions: the default.
    pub const NORMAL: Self = Self(1);
    /// Logs and whatever may wait.
    pub const BULK: Self = Self(2);
    /// Last values: series of which only the newest record of a device counts.
    pub const LATEST: Self = Self(3);
    /// All classes, most urgent first.
    pub const ALL: [Self; 4] = [Self::URGENT, Self::LATEST, Self::NORMAL, Self::BULK];

    /// Place in the order of urgency, 0 the most urgent. One that nobody knows counts as the least
    /// urgent one.
    #[must_use]
    pub fn rank(self) -> usize {
        let known = Self::ALL.iter().position(|stream| *stream == self);
        known.unwrap_or(Self::ALL.len() - 1)
    }
}

/// Position of a record in its stream, from 1, never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RecordSeq(pub u64);

impl RecordSeq {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// SHA-256 of a revision or an artifact: its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
