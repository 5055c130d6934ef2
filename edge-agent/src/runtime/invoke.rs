//! Runs a function once on an event from a file: no broker, no store, no gateway.

use std::sync::Arc;

use bytes::Bytes;
use edge_core::effect::{Member, Work};
use edge_core::id::{DeviceId, Epoch, EventId, JobId, LaneKey, TriggerId};
use edge_core::message::Properties;
use edge_core::op::Event;
use edge_core::outcome::Outcome;
use edge_core::release::StateScope;
use edge_core::time::{ClockQuality, WallTime};
use serde::Deserialize;

use super::attempt::{Attempt, Report};
use super::compile::Compiler;
use super::engine::EngineSettings;
use super::prepared::{FunctionProfile, PrepareError, Runtime, RuntimeError};
use super::state::{MemoryState, StateDomain};

/// An event as its author writes it, in JSON. Everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventFile {
    /// Topic of the message.
    pub topic: String,
    /// Payload as JSON: the function gets its text.
    pub payload: Option<serde_json::Value>,
    /// Payload as it is, instead of `payload`.
    pub payload_text: Option<String>,
    /// Payload in hexadecimal, instead of `payload`.
    pub payload_hex: Option<String>,
    /// Media type; `application/json` where `payload` is given.
    pub content_type: Option<String>,
    /// User properties.
    pub properties: Vec<(String, String)>,
    /// The device.
    pub device: Option<String>,
    /// Name of the trigger.
    pub trigger: String,
    /// Time of the event in milliseconds since 1970; then the clock counts as synced.
    pub time_unix_ms: Option<u64>,
    /// Number of the attempt, from 1.
    pub attempt: Option<u32>,
}

/// What an invocation came to.
#[derive(Debug)]
pub struct InvokeReport {
    /// Outcome, log lines and what it used.
    pub report: Report,
    /// State of the event's lane afterwards, in order of keys.
    pub state: Vec<(String, Bytes)>,
}

/// Why a function was not invoked.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The event file contradicts itself.
    #[error("the event is not usable: {0}")]
    Event(&'static str),
    /// The engine did not start.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The component cannot be run.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

/// Runs `component` once. What it changes goes into `state` if it returned ok, as on a gateway.
///
/// # Errors
/// See [`InvokeError`]; a fault of the function is no error but the report's outcome.
pub fn invoke_once(
    component: &[u8],
    profile: FunctionProfile,
    event: EventFile,
    state: &Arc<MemoryState>,
) -> Result<InvokeReport, InvokeError> {
    let tries = event.tries();
    let event = event.into_event()?;
    let lane = match profile.grants.state {
        StateScope::Device => {
            LaneKey::Device(event.device.clone().unwrap_or_else(|| DeviceId::new("")))
        }
        StateScope::Function => LaneKey::Function,
        StateScope::None => LaneKey::Job(JobId(0)),
        // The profile does not tell the order, and one event is in one lane.
        StateScope::Lane => LaneKey::Keyless,
    };
    let domain = StateDomain {
        function: profile.function.clone(),
        state_version: profile.state_version,
        lane: lane.clone(),
    };
    let settings = EngineSettings {
        slots: 1,
        function_memory_bytes_max: profile.limits.memory_bytes,
        ..EngineSettings::default()
    };
    let runtime = Runtime::new(settings, Compiler::InProcess, None)?;
    let prepared = runtime.prepare(component, profile)?;
    let member = Member { job: JobId(0), tries, event: Arc::new(event) };
    let work = if prepared.takes_events() { Work::One(member) } else { Work::Batch(vec![member]) };
    let view = Arc::clone(state);
    let report = prepared.run(&Attempt { work, lane, state: view });
    match &report.outcome {
        Outcome::Done(outputs) => state.apply(&domain, &outputs.state),
        Outcome::BatchDone(batch) if batch.failures.is_empty() => {
            for segment in &batch.segments {
                state.apply(&domain, &segment.outputs.state);
            }
        }
        _ => {}
    }
    Ok(InvokeReport { report, state: state.entries(&domain) })
}

impl EventFile {
    /// Number of the attempt, as far as attempts are counted.
    #[must_use]
    pub fn tries(&self) -> u8 {
        self.attempt.map_or(1, |number| u8::try_from(number).unwrap_or(u8::MAX)).max(1)
    }

    /// The event.
    ///
    /// # Errors
    /// When more than one payload is given or the hexadecimal one is none.
    pub fn into_event(self) -> Result<Event, InvokeError> {
        let json_type = self.payload.as_ref().map(|_| "application/json".to_owned());
        let payload = match (self.payload, self.payload_text, self.payload_hex) {
            (Some(json), None, None) => Bytes::from(json.to_string()),
            (None, Some(text), None) => Bytes::from(text),
            (None, None, Some(hex)) => Bytes::from(
                decode_hex(&hex).ok_or(InvokeError::Event("`payload_hex` is not hexadecimal"))?,
            ),
            (None, None, None) => Bytes::new(),
            _ => {
                let why = "give one of `payload`, `payload_text` and `payload_hex`";
                return Err(InvokeError::Event(why));
            }
        };
        let time = match self.time_unix_ms {
            Some(unix_ms) => WallTime { unix_ms, quality: ClockQuality::Synced },
            None => WallTime::default(),
        };
        let properties = Properties {
            content_type: self.content_type.or(json_type),
            user: self.properties,
            ..Properties::default()
        };
        Ok(Event {
            id: EventId { epoch: Epoch(0), n: 1 },
            trigger: TriggerId::new(&self.trigger),
            topic: self.topic,
            payload,
            properties,
            device: self.device.as_deref().map(DeviceId::new),
            message_id: None,
            time,
            hops: 0,
            maybe_repeat: false,
        })
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    whole.then(|| pairs.map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect())?
}
