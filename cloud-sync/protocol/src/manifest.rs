//! The manifest of a revision: what an app is, resolved to the last default, as signed JSON.
//!
//! Invariants:
//! - The bytes are canonical: what [`Manifest::to_bytes`] writes for what they say. So one
//!   meaning has one digest, and nothing hides in repeated keys or spaces.
//! - Unknown fields are refused: a gateway runs nothing that it does not wholly understand.
//! - [`Manifest::problems`] reports every problem at once, each with the path to its field.
//!
//! The policy at a full queue share belongs to the function, not to a trigger, because the share
//! does: several triggers fill one queue.
//!
//! Schedules, event filters and orders are read by the gateway's own parsers, so that an expression
//! means the same to who writes it and to who runs it. The order belongs to the function as well: a lane owns
//! state, and two triggers of one function must not disagree about whose.

mod batch;
mod bounds;
mod firmware;
pub mod update;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use edge_core::order::{OrderError, Ordered};
pub use edge_core::pattern::{EventFilter, PatternProblem};
pub use edge_core::schedule::{Schedule, ScheduleError};

pub use self::batch::{Batch, Woken, woken};
pub use self::bounds::{Limits, Pause};
pub use self::firmware::{DevicePattern, DevicePatternError, Firmware, ImageKind};
pub use self::update::Update;
use crate::id::Digest;
use crate::limits::{AGE_MS_DEFAULT, BACKOFF_MS_DEFAULT, MANIFEST_BYTES_MAX, RETRIES_DEFAULT};

/// Format of the manifest itself.
pub const FORMAT: u32 = 1;

/// An immutable app version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the app.
    pub app: String,
    /// What people call this version, such as `1.4.0`.
    pub version: String,
    /// Grows with each release of the app.
    pub sequence: u64,
    /// Once this revision was accepted, sequences below are refused.
    pub floor: u64,
    /// Functions by name.
    pub functions: BTreeMap<String, Function>,
    /// Triggers by name.
    pub triggers: BTreeMap<String, Trigger>,
    /// Policies of record series by name; others have the defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub records: BTreeMap<String, Series>,
    /// Images for devices by name. Left out of the bytes where there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub firmware: BTreeMap<String, Firmware>,
    /// A version of the gateways' own program. Left out of the bytes where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Update>,
    /// A version of the gateways' whole system, from kernel to root. Left out of the bytes where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Update>,
}

/// What becomes of the records of a series while they wait for the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Who goes first, and who makes room for whom.
    #[serde(default)]
    pub priority: Priority,
    /// Gateway time after which a record is worth nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Which records are dropped.
    #[serde(default)]
    pub drop: SeriesDrop,
}

/// Who goes first, and who makes room for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Before all others, beside alarms and dead letters.
    Urgent,
    /// In between.
    #[default]
    Normal,
    /// After all others.
    Bulk,
}

/// Which records of a series are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeriesDrop {
    /// When the outbox is full, the oldest.
    #[default]
    Oldest,
    /// When the outbox is full, the new one.
    Newest,
    /// Whatever a newer record of the same series and device has overtaken, at any time.
    LatestPerKey,
}

/// A function: a component with limits and capabilities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// SHA-256 of the component.
    pub artifact: Digest,
    /// Its length.
    pub size: u64,
    /// Bounds of one attempt, and of the function.
    #[serde(default)]
    pub limits: Limits,
    /// How state and order are keyed.
    #[serde(default)]
    pub state: StateScope,
    /// Version of the state's shape.
    #[serde(default = "one")]
    pub state_version: u32,
    /// What happens to new events when its share of the queue is full.
    #[serde(default)]
    pub when_full: WhenFull,
    /// What it may do.
    #[serde(default)]
    pub grants: Grants,
    /// What it is configured with.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// By what its events are ordered, where that is not as `state` says: an [`Ordered`]. Left out
    /// of the bytes where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<String>,
    /// When it is paused because it faults. Left out of the bytes where it is the default.
    #[serde(default, skip_serializing_if = "Pause::is_default")]
    pub pause: Pause,
}

impl Function {
    /// Its lanes, if they can be read; `None`: each event is alone in its lane.
    #[must_use]
    pub fn lanes(&self) -> Option<Ordered> {
        self.state.lanes(self.ordered.as_deref())
    }
}

fn one() -> u32 {
    1
}

/// How a function's state and order are keyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateScope {
    /// Per device.
    #[default]
    Device,
    /// One for the whole function.
    Function,
    /// No state; no order either, unless `ordered` says one.
    None,
    /// Per lane of `ordered`.
    Lane,
}

impl StateScope {
    /// The lanes of a function with this `state` and `ordered`, if they can be read; `None`: each
    /// event is alone in its lane.
    #[must_use]
    pub fn lanes(self, ordered: Option<&str>) -> Option<Ordered> {
        match (ordered, self) {
            (Some(text), _) => text.parse().ok(),
            (None, Self::Device) => Some(Ordered::Device),
            (None, Self::Function) => Some(Ordered::Function),
            (None, Self::None | Self::Lane) => None,
        }
    }
}

/// Policy at a full queue share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The ack waits for room for some seconds; then the new event is shed.
    #[default]
    Hold,
    /// The new event is shed.
    ShedNewest,
    /// The oldest waiting event is shed.
    ShedOldest,
    /// A waiting event of the same lane is replaced.
    LatestPerKey,
}

/// What a function may do. Nothing is granted by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Topic filters it may publish to.
    pub publish: Vec<String>,
    /// Telemetry series it may record; `*` stands for all.
    pub record: Vec<String>,
}

/// What wakes a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Name of the function.
    pub function: String,
    /// By what.
    pub source: Source,
    /// What happens when attempts fail.
    #[serde(default)]
    pub retry: Retry,
    /// Where it is told that an event is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Destination>,
    /// Where it is told that an event was given up, in addition to its dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Destination>,
}

/// Where the end of an event is told; at least one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Destination {
    /// A topic, granted to the trigger's function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A function of this app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// A record for the control plane.
    #[serde(skip_serializing_if = "is_false")]
    pub cloud: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Source of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Messages.
    Mqtt(MqttSource),
    /// A schedule.
    Schedule(ScheduleSource),
}

/// Messages on matching topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSource {
    /// Topic filters; a message that matches several wakes the function once.
    pub topics: Vec<String>,
    /// Whether the ack may wait to spare the card.
    #[serde(default)]
    pub durability: Durability,
    /// Whether the function may publish to what wakes it.
    #[serde(default)]
    pub allow_loop: bool,
    /// Patterns, any of which an event must match; none: every event is wanted. The grammar is
    /// that of [`edge_core::pattern`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<serde_json::Value>,
    /// Whether the function gets several events at once. Left out of the bytes where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
}

/// How long the ack of a message may wait for company.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Not at all.
    #[default]
    Prompt,
    /// Up to 100 ms.
    Thrifty,
}

/// Slots of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSource {
    /// `rate(5 minutes)` or `cron(0 6 * * MON)`.
    pub expression: String,
    /// What to do about slots missed without power or clock.
    #[serde(default)]
    pub missed: MissedSlots,
}

/// What to do about missed schedule slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissedSlots {
    /// Forget them.
    #[default]
    Skip,
    /// One event for all of them.
    Once,
}

/// What happens when attempts fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts after the first.
    pub retries_max: u8,
    /// Wait before each retry in milliseconds; the last one repeats.
    pub backoff_ms: Vec<u64>,
    /// Age at which an event is given up, in milliseconds of gateway time.
    pub age_ms_max: u64,
    /// Whether each wait is drawn at random.
    #[serde(skip_serializing_if = "Jitter::is_none")]
    pub jitter: Jitter,
    /// Whether the age also counts on the wall clock, where that was synced at admission and is
    /// now: then time without power counts.
    #[serde(skip_serializing_if = "is_false")]
    pub age_by_wall: bool,
}

/// How a wait before a retry is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Jitter {
    /// The whole wait.
    #[default]
    None,
    /// Evenly between zero and the whole wait.
    Full,
}

impl Jitter {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries_max: RETRIES_DEFAULT,
            backoff_ms: BACKOFF_MS_DEFAULT.to_vec(),
            age_ms_max: AGE_MS_DEFAULT,
            jitter: Jitter::None,
            age_by_wall: false,
        }
    }
}

/// One problem of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path to the field, such as `functions.smooth.limits.time_ms`.
    pub path: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Over [`MANIFEST_BYTES_MAX`].
    #[error("the manifest has {0} bytes, at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not JSON, or not of this shape.
    #[error("the manifest cannot be read: {0}")]
    Json(String),
    /// JSON of the right shape that is not what this version writes.
    #[error("the manifest is not in canonical form; build it again with this version of holm")]
    NotCanonical,
    /// It says things that cannot be.
    #[error("the manifest has {} problem(s):{}", .0.len(), list(.0))]
    Problems(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

impl Manifest {
    /// The canonical bytes: what is signed and digested.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: maps with text keys always serialise")
    }

    /// Reads canonical bytes and checks all that they say.
    ///
    /// # Errors
    /// [`ManifestError`], with all problems at once where it is of the right shape.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong(bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Json(error.to_string()))?;
        let problems = manifest.problems();
        if !problems.is_empty() {
            return Err(ManifestError::Problems(problems));
        }
        if manifest.to_bytes() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    /// All problems of the manifest; none means that it is good.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        validate::problems(self)
    }

    /// The artifacts that it names, each once: digest and length.
    #[must_use]
    pub fn artifacts(&self) -> BTreeMap<Digest, u64> {
        self.parts()
            .chain(files(&self.agent, |_| true))
            .chain(files(&self.system, |_| true))
            .collect()
    }

    /// Those of them that a gateway needs whose agent is built for this target, and whose image is made for
    /// this board (`None`: it is no image).
    #[must_use]
    pub fn artifacts_for(&self, target: &str, board: Option<&str>) -> BTreeMap<Digest, u64> {
        let programs = files(&self.agent, |of| of == target);
        let systems = files(&self.system, |of| Some(of) == board);
        self.parts().chain(programs).chain(systems).collect()
    }

    /// Functions and images.
    fn parts(&self) -> impl Iterator<Item = (Digest, u64)> {
        let functions = self.functions.values().map(|function| (function.artifact, function.size));
        let images = self.firmware.values().map(|firmware| (firmware.artifact, firmware.size));
        functions.chain(images)
    }
}

/// Files of an update for those that are wanted.
fn files<'a>(
    update: &'a Option<Update>,
    is_wanted: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (Digest, u64)> + 'a {
    let files = update.iter().flat_map(|update| &update.programs);
    let wanted = files.filter(move |(of, _)| is_wanted(of));
    wanted.map(|(_, program)| (program.artifact, program.size))
}
