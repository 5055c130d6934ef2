//! What is told of an event that ended, at the destinations of its trigger.
//!
//! The record is JSON, after the shape of AWS Lambda's destinations:
//!
//! | field | what it holds |
//! |---|---|
//! | `version` | `"1.0"` |
//! | `time` | when the event ended: `unix_ms`, and `synced` if that clock was |
//! | `condition` | how it ended ([`Condition`]) |
//! | `function`, `revision` | `app/function`, and the digest of the revision that was live |
//! | `attempts` | attempts that counted |
//! | `event` | `id`, `trigger`, `topic`, `device`, `content_type`, `time`, `hops` |
//! | `error` | text of the last error; `null` on success |
//! | `outputs` | numbers of `publishes`, `records` and `state` changes; `null` on failure |
//! | `payload_bytes` | length of the event's payload |
//! | `payload`, `payload_text` or `payload_hex` | the payload as JSON, else as text, else in hexadecimal; none of them where it would take over [`PAYLOAD_BYTES_MAX`] |

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::id::{DeviceId, Digest, FunctionId, TriggerId};
use crate::op::{DeadReason, Event};
use crate::time::{ClockQuality, WallTime};
use crate::topic::Topic;

/// Bytes that the payload may take in a record, so that the record fits one of the sync protocol.
pub const PAYLOAD_BYTES_MAX: usize = 96 << 10;
/// Media type of a record.
pub const CONTENT_TYPE: &str = "application/json";

/// Where the end of an event is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// A topic to publish to, granted to the function.
    pub topic: Option<Topic>,
    /// The internal trigger of a function of the same app.
    pub trigger: Option<TriggerId>,
    /// Series of telemetry for the control plane.
    pub series: Option<String>,
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The function returned ok.
    Success,
    /// It was given up.
    Failed(DeadReason),
}

impl Condition {
    /// The word in the record: Lambda's where Lambda has one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Failed(DeadReason::AttemptsExhausted) => "RetriesExhausted",
            Self::Failed(DeadReason::TooOld) => "EventAgeExceeded",
            Self::Failed(DeadReason::Rejected) => "Rejected",
            Self::Failed(DeadReason::Crashed) => "Crashed",
            Self::Failed(DeadReason::Loop) => "Loop",
            Self::Failed(DeadReason::Shed) => "Shed",
            Self::Failed(DeadReason::FunctionGone) => "FunctionGone",
        }
    }
}

/// Numbers of what an attempt put out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Messages.
    pub publishes: usize,
    /// Telemetry records.
    pub records: usize,
    /// Changes of state.
    pub state: usize,
}

/// The end of an event.
#[derive(Clone, Copy, Debug)]
pub struct End<'e> {
    /// The function that was to work on it.
    pub function: &'e FunctionId,
    /// Its live revision.
    pub revision: Option<Digest>,
    /// The event.
    pub event: &'e Event,
    /// How it ended.
    pub condition: Condition,
    /// Attempts that counted.
    pub attempts: u8,
    /// Text of the last error; `None` on success.
    pub error: Option<&'e str>,
    /// What it put out; `None` on failure.
    pub made: Option<Made>,
    /// When.
    pub time: WallTime,
}

impl End<'_> {
    /// The record.
    #[must_use]
    pub fn record(&self) -> Bytes {
        let Event { id, trigger, topic, payload, properties, device, time, hops, .. } = self.event;
        let made = self.made.map(|made| {
            json!({
                "publishes": made.publishes, "records": made.records, "state": made.state,
            })
        });
        let head = json!({
            "version": "1.0",
            "time": stamp(self.time),
            "condition": self.condition.as_str(),
            "function": self.function.as_str(),
            "revision": self.revision.map(|revision| revision.to_string()),
            "attempts": self.attempts,
            "event": {
                "id": id.to_string(),
                "trigger": trigger.as_str(),
                "topic": topic,
                "device": device.as_ref().map(DeviceId::as_str),
                "content_type": properties.content_type,
                "time": stamp(*time),
                "hops": hops,
            },
            "error": self.error,
            "outputs": made,
            "payload_bytes": payload.len(),
        });
        let mut text = head.to_string();
        assert!(text.pop() == Some('}'), "the head is an object");
        put_payload(&mut text, payload);
        text.push('}');
        text.into()
    }
}

fn stamp(time: WallTime) -> Value {
    json!({ "unix_ms": time.unix_ms, "synced": time.quality == ClockQuality::Synced })
}

/// The payload as it was sent where it is JSON: numbers keep all their digits.
fn put_payload(record: &mut String, payload: &[u8]) {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return;
    }
    let field = match std::str::from_utf8(payload) {
        Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            format!(",\"payload\":{text}")
        }
        Ok(text) => format!(",\"payload_text\":{}", Value::from(text)),
        Err(_) => {
            let hex = payload.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("invariant: writing to a string succeeds");
                hex
            });
            format!(",\"payload_hex\":\"{hex}\"")
        }
    };
    if field.len() <= PAYLOAD_BYTES_MAX {
        record.push_str(&field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, EventId};
    use crate::message::Properties;

    fn record(payload: &'static [u8]) -> Value {
        let event = Event {
            id: EventId { epoch: Epoch(1), n: 2 },
            trigger: TriggerId::new("a/t"),
            topic: "in/x".to_owned(),
            payload: Bytes::from_static(payload),
            properties: Properties::default(),
            device: Some(DeviceId::new("d")),
            message_id: None,
            time: WallTime { unix_ms: 5, quality: ClockQuality::Synced },
            hops: 3,
            maybe_repeat: false,
        };
        let end = End {
            function: &FunctionId::new("a/f"),
            revision: Some(Digest([7; 32])),
            event: &event,
            condition: Condition::Failed(DeadReason::Rejected),
            attempts: 1,
            error: Some("\"no\""),
            made: None,
            time: WallTime::default(),
        };
        serde_json::from_slice(&end.record()).expect("the record is JSON")
    }

    #[test]
    fn a_record_holds_the_event_and_how_it_ended() {
        let found = record(b" {\"n\": 12345678901234567} ");
        let expected = json!({
            "version": "1.0",
            "time": { "unix_ms": 0, "synced": false },
            "condition": "Rejected",
            "function": "a/f",
            "revision": "07".repeat(32),
            "attempts": 1,
            "event": {
                "id": EventId { epoch: Epoch(1), n: 2 }.to_string(), "trigger": "a/t",
                "topic": "in/x", "device": "d", "content_type": null,
                "time": { "unix_ms": 5, "synced": true }, "hops": 3,
            },
            "error": "\"no\"",
            "outputs": null,
            "payload_bytes": 26,
            "payload": { "n": 12_345_678_901_234_567_u64 },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_payload_is_json_or_text_or_hexadecimal_or_left_out() {
        assert_eq!(record(b"he said \"no\"")["payload_text"], "he said \"no\"");
        assert_eq!(record(b"")["payload_text"], "");
        assert_eq!(record(b"\xff\x00")["payload_hex"], "ff00");
        let names = |payload: Vec<u8>| {
            let record = record(payload.leak());
            let record = record.as_object().expect("an object").clone();
            let mut names: Vec<_> = record.into_iter().map(|(name, _)| name).collect();
            names.retain(|name| name.starts_with("payload"));
            names
        };
        assert_eq!(names(vec![b'x'; 96 << 10]), ["payload_bytes"]);
        assert_eq!(names(vec![0xff; 60 << 10]), ["payload_bytes"], "two digits a byte");
        assert_eq!(names(vec![b'x'; 90 << 10]), ["payload_bytes", "payload_text"]);
    }
}
