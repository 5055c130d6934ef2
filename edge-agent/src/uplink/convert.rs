//! Store records to records of the sync protocol. The two shapes differ on purpose: one is a disk
//! format of this gateway, the other a contract with every control plane.

use edge_core::op::{DeadLetter, DeadReason, DropReason, OutboxRecord, RecordBody};
use edge_core::time::{ClockQuality, WallTime};
use sync_protocol::id::EventId;
use sync_protocol::limits::{LABEL_BYTES_MAX, RECORD_PAYLOAD_BYTES_MAX, TEXT_BYTES_MAX};
use sync_protocol::record as wire;

/// Largest part of a dead letter's payload that travels; the letter itself stays on the gateway.
const DEAD_PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// The record as it travels.
#[must_use]
pub fn record(record: OutboxRecord) -> wire::Record {
    wire::Record {
        seq: record.seq.0,
        epoch: record.epoch.0,
        time: stamp(record.time),
        body: match record.body {
            RecordBody::Telemetry { function, event, device, name, payload, content_type } => {
                wire::RecordBody::Telemetry(wire::Telemetry {
                    function: function.as_str().to_owned(),
                    event: event_id(event),
                    device: device.map(|device| device.as_str().to_owned()),
                    name: cut(&name, LABEL_BYTES_MAX),
                    content_type: cut(&content_type, LABEL_BYTES_MAX),
                    payload: payload[..payload.len().min(RECORD_PAYLOAD_BYTES_MAX)].to_vec(),
                })
            }
            RecordBody::DeadLetter(letter) => wire::RecordBody::DeadLetter(dead_letter(&letter)),
            RecordBody::Report(body) => wire::RecordBody::Report(report(&body)),
            RecordBody::Tombstone { from, reason, .. } => {
                wire::RecordBody::Tombstone(wire::Tombstone {
                    from: from.0,
                    reason: match reason {
                        DropReason::Full => wire::DropReason::Full,
                        DropReason::Expired => wire::DropReason::Expired,
                        DropReason::Purged => wire::DropReason::Purged,
                        DropReason::Skipped => wire::DropReason::Skipped,
                        DropReason::Newest => wire::DropReason::Newest,
                        DropReason::Replaced => wire::DropReason::Replaced,
                    },
                })
            }
        },
    }
}

/// An event id as it travels.
#[must_use]
pub fn event_id(id: edge_core::id::EventId) -> EventId {
    EventId { epoch: id.epoch.0, n: id.n }
}

/// Bytes an older agent wrote into the store may be no report of today: it is told, not lost.
fn report(body: &[u8]) -> wire::Report {
    wire::Report::from_bytes(body).unwrap_or_else(|err| wire::Report::Notice {
        code: "unreadable-report".to_owned(),
        text: format!("{} bytes: {err}", body.len()),
    })
}

fn stamp(time: WallTime) -> wire::Stamp {
    let quality = match time.quality {
        ClockQuality::Unsynced => wire::Quality::Unsynced,
        ClockQuality::Synced => wire::Quality::Synced,
        ClockQuality::Unknown => wire::Quality::Unknown,
    };
    wire::Stamp { unix_ms: time.unix_ms, quality }
}

fn dead_letter(letter: &DeadLetter) -> wire::DeadLetter {
    let event = &letter.event;
    wire::DeadLetter {
        function: letter.function.as_str().to_owned(),
        trigger: event.trigger.as_str().to_owned(),
        event: event_id(event.id),
        topic: event.topic.clone(),
        device: event.device.as_ref().map(|device| device.as_str().to_owned()),
        message: event.message_id.as_ref().map(|id| (id.boot, id.seq)),
        reason: match letter.reason {
            DeadReason::AttemptsExhausted => wire::DeadReason::AttemptsExhausted,
            DeadReason::TooOld => wire::DeadReason::TooOld,
            DeadReason::Rejected => wire::DeadReason::Rejected,
            DeadReason::Crashed => wire::DeadReason::Crashed,
            DeadReason::Loop => wire::DeadReason::Loop,
            DeadReason::Shed => wire::DeadReason::Shed,
            DeadReason::FunctionGone => wire::DeadReason::FunctionGone,
        },
        error: cut(&letter.error, TEXT_BYTES_MAX),
        attempts: letter.attempts,
        payload_bytes: event.payload.len() as u64,
        payload: event.payload[..event.payload.len().min(DEAD_PAYLOAD_BYTES_MAX)].to_vec(),
    }
}

fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}
