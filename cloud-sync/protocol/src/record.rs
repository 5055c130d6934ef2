//! Records: what a gateway keeps until the control plane has stored it.
//!
//! A record has a position (stream, sequence). Positions start at 1, grow by one and are never
//! reused; a tombstone at position `to` stands for all of `from..=to`. The epoch tells two lives
//! of one store apart: the same position under another epoch is an alarm, not a duplicate.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, EventId};
use crate::limits::{LABEL_BYTES_MAX, POSITION_MAX, RECORD_PAYLOAD_BYTES_MAX, TEXT_BYTES_MAX};
use crate::wire::WireError;

/// A wall-clock label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970-01-01T00:00:00Z, as the gateway's clock said.
    pub unix_ms: u64,
    /// What that clock is worth.
    pub quality: Quality,
}

/// What the clock of a stamp is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quality {
    /// Nobody had vouched for it. [`Report::Clock`] of the record's process run corrects it.
    #[default]
    Unsynced,
    /// Somebody vouched for it.
    Synced,
    /// Nobody ever will: it is the clock of another process run than the one that the record stands
    /// under, and that run ended before anybody vouched. No report corrects it.
    Unknown,
}

/// One record of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position; for a tombstone the last position it stands for.
    pub seq: u64,
    /// The process run that wrote it.
    pub epoch: u64,
    /// When it was committed.
    pub time: Stamp,
    /// What it says.
    pub body: RecordBody,
}

/// Contents of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordBody {
    /// Recorded by a function.
    Telemetry(Telemetry),
    /// An event that was given up.
    DeadLetter(DeadLetter),
    /// Something the gateway itself reports.
    Report(Report),
    /// Records were dropped by policy; this stands in their place.
    Tombstone(Tombstone),
}

/// A record of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// `app/function`.
    pub function: String,
    /// The event it worked on.
    pub event: EventId,
    /// The device of the event.
    pub device: Option<String>,
    /// Series name chosen by the function.
    pub name: String,
    /// Media type of the payload.
    pub content_type: String,
    /// The record, in the function's own encoding.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// An event that was given up, with why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// `app/function` that was to work on it.
    pub function: String,
    /// `app/trigger` that matched.
    pub trigger: String,
    /// The event.
    pub event: EventId,
    /// Topic of the message; empty for a schedule.
    pub topic: String,
    /// The device of the event.
    pub device: Option<String>,
    /// The device's own message id: boot and sequence.
    pub message: Option<(u64, u64)>,
    /// Why it was given up.
    pub reason: DeadReason,
    /// Text of the last error, empty where there was none.
    pub error: String,
    /// Attempts made.
    pub attempts: u8,
    /// Length of the payload before it was cut to fit here.
    pub payload_bytes: u64,
    /// The payload, or its beginning.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// Why an event ended without being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadReason {
    /// All attempts failed.
    AttemptsExhausted,
    /// It outlived the maximum age of its trigger.
    TooOld,
    /// The function rejected it.
    Rejected,
    /// The process died while working on it, again and again.
    Crashed,
    /// Too many functions in a row.
    Loop,
    /// Shed at a full queue by the trigger's policy.
    Shed,
    /// Its function is no longer deployed.
    FunctionGone,
}

impl DeadReason {
    /// Stable text, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::TooOld => "too-old",
            Self::Rejected => "rejected",
            Self::Crashed => "crashed",
            Self::Loop => "loop",
            Self::Shed => "shed",
            Self::FunctionGone => "function-gone",
        }
    }
}

/// Something the gateway reports durably, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A step of a deployment that people will ask about later.
    Deployment {
        /// Which app.
        app: String,
        /// Which revision.
        revision: Digest,
        /// The generation that asked for it.
        generation: u64,
        /// What became of it.
        phase: Phase,
        /// Why, for people; empty where there is nothing to say.
        reason: String,
    },
    /// Something an operator should see.
    Notice {
        /// Stable code, kebab-case.
        code: String,
        /// For people.
        text: String,
    },
    /// What time it was during a process run whose clock nobody had vouched for. It corrects every
    /// stamp of that run that is [`Quality::Unsynced`], whether it is stored before or after this.
    Clock {
        /// The process run; not always the one that writes this.
        epoch: u64,
        /// Milliseconds since 1970 that its clock showed at a moment.
        shown_ms: u64,
        /// What it was at that moment.
        true_ms: u64,
    },
    /// How far a device is with an image that the gateway offers it.
    Firmware {
        /// The device.
        device: String,
        /// The app whose image it is.
        app: String,
        /// Version of the image.
        version: u32,
        /// How far it is.
        stage: FirmwareStage,
        /// Why it was declined or taken back; empty otherwise.
        reason: String,
    },
}

impl Report {
    /// The bytes in which a gateway keeps a report until it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("invariant: strings and numbers always serialise")
    }

    /// Reads what [`Report::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        crate::wire::from_postcard(bytes)
    }
}

/// How far a device is with an image: what it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareStage {
    /// It fetches it.
    Fetching,
    /// It is whole and verified, and will be started.
    Verified,
    /// It runs and has reached the gateway: it stays.
    Confirmed,
    /// The device will not take it.
    Declined,
    /// It was started and did not confirm; the former image runs again.
    TakenBack,
}

impl FirmwareStage {
    /// Stable text, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Verified => "verified",
            Self::Confirmed => "confirmed",
            Self::Declined => "declined",
            Self::TakenBack => "taken-back",
        }
    }
}

/// How far a gateway is with a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It asks for chunks.
    Fetching,
    /// It checks digests, signature and floor.
    Verifying,
    /// It compiles and waits for running attempts.
    Preparing,
    /// It is live and watched.
    Probation,
    /// It is live and good.
    Live,
    /// It was refused before it went live.
    Failed,
    /// It was live, was not good, and the last good one is back.
    TakenBack,
}

impl Phase {
    /// Stable text, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Verifying => "verifying",
            Self::Preparing => "preparing",
            Self::Probation => "probation",
            Self::Live => "live",
            Self::Failed => "failed",
            Self::TakenBack => "taken-back",
        }
    }

    /// Whether the gateway goes no further without a new generation.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Live | Self::Failed | Self::TakenBack)
    }
}

/// Stands for dropped records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// First dropped position; the last is the record's own.
    pub from: u64,
    /// Which policy.
    pub reason: DropReason,
}

/// Why records were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// The outbox was at its bound.
    Full,
    /// The record outlived its time to live.
    Expired,
    /// An operator asked.
    Purged,
    /// The stream went on after positions that the control plane held from another life of the
    /// gateway's store, or the record stands further on, at a position of its own.
    Skipped,
    /// The record came last, found no room, and was not to make any.
    Newest,
    /// A newer value of its series and device took its place.
    Replaced,
}

impl DropReason {
    /// Stable text, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Expired => "expired",
            Self::Purged => "purged",
            Self::Skipped => "skipped",
            Self::Newest => "newest",
            Self::Replaced => "replaced",
        }
    }
}

impl Record {
    /// The first position it stands for: its own, or where its tombstone begins.
    #[must_use]
    pub fn first(&self) -> u64 {
        match &self.body {
            RecordBody::Tombstone(tombstone) => tombstone.from,
            RecordBody::Telemetry(_) | RecordBody::DeadLetter(_) | RecordBody::Report(_) => {
                self.seq
            }
        }
    }

    /// Bytes of this record on the wire: who fills a message adds these up.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        postcard::experimental::serialized_size(self)
            .expect("invariant: strings and numbers always serialise")
    }

    /// Checks the bounds of one record.
    ///
    /// # Errors
    /// [`WireError::Bound`] names the first bound it breaks.
    pub fn check(&self) -> Result<(), WireError> {
        let text = |what, text: &str, max| WireError::at_most(what, text.len(), max);
        if self.seq == 0 || self.first() == 0 || self.first() > self.seq || self.seq > POSITION_MAX
        {
            return Err(WireError::Positions { first: self.first(), last: self.seq });
        }
        match &self.body {
            RecordBody::Telemetry(body) => {
                text("function name", &body.function, LABEL_BYTES_MAX)?;
                text("device", body.device.as_deref().unwrap_or_default(), LABEL_BYTES_MAX)?;
                text("series name", &body.name, LABEL_BYTES_MAX)?;
                text("content type", &body.content_type, LABEL_BYTES_MAX)?;
                WireError::at_most("payload", body.payload.len(), RECORD_PAYLOAD_BYTES_MAX)
            }
            RecordBody::DeadLetter(body) => {
                text("function name", &body.function, LABEL_BYTES_MAX)?;
                text("trigger name", &body.trigger, LABEL_BYTES_MAX)?;
                text("topic", &body.topic, usize::from(u16::MAX))?;
                text("device", body.device.as_deref().unwrap_or_default(), LABEL_BYTES_MAX)?;
                text("error", &body.error, TEXT_BYTES_MAX)?;
                WireError::at_most("payload", body.payload.len(), RECORD_PAYLOAD_BYTES_MAX)
            }
            RecordBody::Report(Report::Deployment { app, reason, .. }) => {
                text("app name", app, LABEL_BYTES_MAX)?;
                text("reason", reason, TEXT_BYTES_MAX)
            }
            RecordBody::Report(Report::Notice { code, text: words }) => {
                text("code", code, LABEL_BYTES_MAX)?;
                text("text", words, TEXT_BYTES_MAX)
            }
            RecordBody::Report(Report::Clock { .. }) => Ok(()),
            RecordBody::Report(Report::Firmware { device, app, reason, .. }) => {
                text("device", device, LABEL_BYTES_MAX)?;
                text("app name", app, LABEL_BYTES_MAX)?;
                text("reason", reason, TEXT_BYTES_MAX)
            }
            RecordBody::Tombstone(_) => Ok(()),
        }
    }
}
