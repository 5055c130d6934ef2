//! What goes into an attempt and what comes out of it, as plain values.

use alloc::string::String;
use alloc::vec::Vec;

/// What woke the function: the record `event` of the contract `edge-agent/wit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The same text for every attempt at this event and for no other event.
    pub id: String,
    /// Name of the trigger.
    pub trigger: String,
    /// Topic of the message; empty for a schedule.
    pub topic: String,
    /// Payload of the message.
    pub payload: Vec<u8>,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// User properties, in the order in which they were sent.
    pub properties: Vec<(String, String)>,
    /// The device on whose behalf the function runs: here, the device itself.
    pub device: Option<String>,
    /// When the event was.
    pub time: Timestamp,
    /// 1 for the first attempt at this event.
    pub attempt: u32,
    /// Functions between the first message and this event.
    pub hops: u32,
    /// It may have been worked on before.
    pub maybe_repeat: bool,
}

/// A wall-clock stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: u64,
    /// Whether the clock was synchronised when it was taken.
    pub synced: bool,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its result; never an error.
    pub outcome: Outcome,
    /// Lines it logged, whatever the result.
    pub logs: Vec<LogLine>,
    /// Fuel it used: about the number of WebAssembly instructions.
    pub fuel: u64,
    /// Linear memory at its end, in bytes.
    pub memory_bytes: u32,
}

/// Result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned ok: its effects take place.
    Done(Effects),
    /// Again later, and why.
    Retry(String),
    /// Never again, and why.
    Reject(String),
    /// It trapped or broke a limit.
    Fault(Fault),
}

/// What a function did; of an attempt that did not return ok there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Messages to publish, in order.
    pub publishes: Vec<Publication>,
    /// Telemetry records, in order.
    pub records: Vec<Record>,
    /// Changes of state, one per key, in order of keys.
    pub state: Vec<StateChange>,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Deserialize, serde::Serialize))]
pub struct Publication {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: QoS,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// User properties.
    pub properties: Vec<(String, String)>,
}

/// MQTT quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Deserialize, serde::Serialize))]
pub enum QoS {
    /// 0.
    AtMostOnce,
    /// 1.
    AtLeastOnce,
    /// 2.
    ExactlyOnce,
}

/// A telemetry record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Series.
    pub name: String,
    /// Content.
    pub payload: Vec<u8>,
    /// How the content is encoded.
    pub content_type: String,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Deserialize, serde::Serialize))]
pub struct StateChange {
    /// Key.
    pub key: String,
    /// New value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// A line that a function logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// The text.
    pub text: String,
}

/// Levels of the contract's `log`, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For finding a fault.
    Debug,
    /// Ordinary news.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
    /// Last words before a trap.
    Panic,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which kind.
    pub kind: FaultKind,
    /// For its author.
    pub message: String,
}

/// Kinds of faults, as on the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It trapped.
    Trap,
    /// Its fuel ran out: the device's time limit.
    Timeout,
    /// Over its memory.
    Memory,
    /// Over its call stack.
    Stack,
    /// A call that is not granted.
    Denied,
    /// Over a limit of what it may hand over.
    Outputs,
    /// The device's own: not the function's doing.
    Host,
}
