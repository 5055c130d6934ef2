//! A revision of an app, resolved: what the core needs to route, queue and judge.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::destination::Destinations;
use crate::id::{Digest, FunctionId, StreamId, TriggerId};
use crate::order::Ordered;
use crate::pattern::EventFilter;
use crate::time::Millis;
use crate::topic::TopicFilter;

/// A live or candidate revision of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// App name.
    pub app: String,
    /// Content digest of the revision.
    pub revision: Digest,
    /// Its functions.
    pub functions: Vec<FunctionSpec>,
    /// Its triggers.
    pub triggers: Vec<TriggerSpec>,
    /// Policies of its record series, by name; others have the default.
    pub series: BTreeMap<String, SeriesPolicy>,
}

/// What becomes of the records of one series while they wait for the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesPolicy {
    /// Priority; [`StreamId::LATEST`]: only the newest record of a device counts.
    pub stream: StreamId,
    /// Gateway time after which a record is worth nothing.
    pub ttl: Option<Millis>,
    /// What happens when the outbox is full.
    pub when_full: SeriesFull,
}

impl Default for SeriesPolicy {
    fn default() -> Self {
        Self { stream: StreamId::NORMAL, ttl: None, when_full: SeriesFull::DropOldest }
    }
}

/// What happens when the outbox is full. In either case less urgent records go first, and more
/// urgent ones never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeriesFull {
    /// The oldest of the same priority go.
    #[default]
    DropOldest,
    /// The new one goes.
    DropNewest,
}

/// When a new revision is kept, and when it is taken back (DESIGN: deployments).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbationPolicy {
    /// Faults at which it is taken back.
    pub faults_max: u32,
    /// Crashes of the process during its attempts at which it is taken back.
    pub crashes_max: u32,
    /// Attempts that must end well for it to be kept; `None`: only time counts.
    pub successes: Option<u32>,
    /// Gateway time after which it is kept; `None`: only attempts count.
    pub span: Option<Millis>,
    /// It is told when it would be kept, and stays on probation until
    /// [`Input::EndProbation`](crate::input::Input): somebody else has to agree.
    pub held: bool,
}

impl Default for ProbationPolicy {
    fn default() -> Self {
        Self {
            faults_max: 1,
            crashes_max: 3,
            successes: None,
            span: Some(Millis::from_secs(60)),
            held: false,
        }
    }
}

/// How a function's state and order are keyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateScope {
    /// Keys and order are per device.
    #[default]
    Device,
    /// Keys and order are per function.
    Function,
    /// No state; no order either, unless the function asks for one.
    None,
    /// Keys are per lane of the order that the function asks for.
    Lane,
}

/// One function of a release, as the core sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSpec {
    /// `app/function`.
    pub id: FunctionId,
    /// State domain, and with it the lanes.
    pub state: StateScope,
    /// Version of the state's shape.
    pub state_version: u32,
    /// Attempts in work at once, at most.
    pub concurrency: u16,
    /// What happens to new events when its share of the queue is full.
    pub when_full: WhenFull,
    /// By what its events are ordered, where that is not as `state` says.
    pub ordered: Option<Ordered>,
    /// Of its concurrency, attempts that have a slot of their own.
    pub reserved: u16,
    /// When it is paused.
    pub pause: PausePolicy,
}

/// When a function that faults is paused, and for how long (DESIGN: failure semantics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PausePolicy {
    /// Events in a row that fault; at least 1.
    pub after: u16,
    /// The first pause; it doubles with every failed try.
    pub ms_min: Millis,
    /// The longest pause.
    pub ms_max: Millis,
}

impl Default for PausePolicy {
    fn default() -> Self {
        Self { after: 10, ms_min: Millis::from_secs(5), ms_max: Millis::from_secs(300) }
    }
}

impl FunctionSpec {
    /// Its lanes; `None`: no order, each event is alone in its lane.
    #[must_use]
    pub fn lanes(&self) -> Option<&Ordered> {
        self.ordered.as_ref().or(match self.state {
            StateScope::Device => Some(&Ordered::Device),
            StateScope::Function => Some(&Ordered::Function),
            StateScope::None | StateScope::Lane => None,
        })
    }
}

/// Policy at a full queue share (DESIGN: limits). A shed event is committed, counted and acked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The ack waits for room, at most the hold limit; then the new event is shed to the dead
    /// letters.
    #[default]
    Hold,
    /// The new event is shed to the dead letters.
    ShedNewest,
    /// The oldest waiting event is shed to the dead letters.
    ShedOldest,
    /// A waiting event of the same lane is replaced.
    LatestPerKey,
}

/// What wakes a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerSpec {
    /// `app/trigger`.
    pub id: TriggerId,
    /// The function it wakes.
    pub function: FunctionId,
    /// By what.
    pub source: TriggerSource,
    /// What happens when attempts fail.
    pub retry: RetryPolicy,
    /// Whether the ack may wait to spare the card.
    pub durability: Durability,
    /// Which messages are worth a job; `None`: all of them.
    pub filter: Option<Arc<EventFilter>>,
    /// Its events are given to the function in batches.
    pub batch: Option<BatchPolicy>,
    /// Where it is told that an event is done.
    pub on_success: Option<Destinations>,
    /// Where it is told that an event was given up, in addition to its dead letter.
    pub on_failure: Option<Destinations>,
}

/// When a batch is full, and what becomes of one that faults. A batch starts when one of its bounds
/// is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Events at most; at least 1.
    pub size_max: u16,
    /// How long the oldest event waits for others, in milliseconds of gateway time.
    pub window_ms: u32,
    /// Bytes of events at most; one event always fits.
    pub bytes_max: u32,
    /// A batch that faults is halved until the culprit stands alone; else all of it failed.
    pub bisect: bool,
}

impl Default for BatchPolicy {
    fn default() -> Self {
        Self { size_max: 100, window_ms: 0, bytes_max: 256 << 10, bisect: true }
    }
}

/// Source of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerSource {
    /// Messages on matching topics.
    Mqtt {
        /// Any of these; a message that matches several wakes the function once.
        filters: Vec<TopicFilter>,
    },
    /// Slots of a schedule.
    Schedule {
        /// The schedule.
        schedule: crate::schedule::Schedule,
        /// What to do about slots missed without power or clock.
        missed: MissedSlots,
    },
    /// Ends of events of another trigger, which names this one as its destination.
    Destination,
}

/// What to do about missed schedule slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissedSlots {
    /// Forget them.
    #[default]
    Skip,
    /// One event for all of them.
    Once,
}

/// How long the ack of a message for this trigger may wait for company in its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// As soon as the store is idle.
    #[default]
    Prompt,
    /// Up to 100 ms.
    Thrifty,
}

/// Retry behaviour of a trigger (DESIGN: failure semantics).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries_max: u8,
    /// Wait before each retry; the last one repeats.
    pub backoff: Vec<Millis>,
    /// Age at which an event is given up, in gateway time.
    pub age_max: Millis,
    /// Whether each wait is drawn at random.
    pub jitter: Jitter,
    /// Whether the age also counts on the wall clock, where that was synced at both ends.
    pub age_by_wall: bool,
}

/// How a wait before a retry is drawn, so that what failed together does not come again together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// The whole wait.
    #[default]
    None,
    /// Evenly between zero and the whole wait.
    Full,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries_max: 2,
            backoff: vec![Millis::from_secs(60), Millis::from_secs(120)],
            age_max: Millis::from_secs(6 * 3_600),
            jitter: Jitter::None,
            age_by_wall: false,
        }
    }
}
