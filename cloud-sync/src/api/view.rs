//! Rows as JSON documents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use sync_protocol::record::{DeadLetter, Quality, Report, Telemetry};
use sync_protocol::wire::Health;
use sync_protocol::{Digest, InstanceId};

use crate::deployments::GatewayProgress;
use crate::mqtt::Online;
use crate::store::deployments::{AppRow, DeploymentRow, StepRow, Target};
use crate::store::fleet::{AlarmRow, FirmwareRow, GatewayRow};
use crate::store::records::{Content, EntryRow, Found, LossRow, StreamRow};
use crate::store::revisions::RevisionRow;

/// A page of a list; `next` goes on where it ends.
#[derive(Serialize)]
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    pub(super) next: Option<Value>,
}

pub(super) fn revision(row: &RevisionRow) -> Value {
    json!({
        "digest": row.digest,
        "app": row.app,
        "version": row.version,
        "sequence": row.sequence,
        "floor": row.floor,
        "key": row.key,
        "uploaded_ms": row.uploaded_ms,
    })
}

pub(super) fn deployment(row: &DeploymentRow) -> Value {
    let gateways = match &row.target {
        Target::All => None,
        Target::Gateways(names) => Some(names),
    };
    json!({
        "id": row.id,
        "app": row.app,
        "revision": row.revision,
        "cause": row.cause.as_str(),
        "gateways": gateways,
        "by": row.by,
        "created_ms": row.created_ms,
    })
}

pub(super) fn progress(row: &GatewayProgress, online: bool) -> Value {
    json!({
        "gateway": row.gateway,
        "online": online,
        "progress": row.progress.as_str(),
        "reason": row.reason,
        "at_ms": row.at_ms,
    })
}

pub(super) fn app(row: &AppRow) -> Value {
    json!({
        "app": row.app,
        "revision": row.revision,
        "phase": row.phase.as_str(),
        "reason": row.reason,
        "running": row.running,
        "generation": row.generation,
        "at_ms": row.at_ms,
    })
}

pub(super) fn step(row: &StepRow) -> Value {
    let mut value = app(&row.app);
    if row.gone {
        value["phase"] = "removed".into();
    }
    value
}

/// What is said of a gateway in a list; its own page adds to it.
#[derive(Serialize)]
pub(super) struct Gateway {
    name: String,
    online: bool,
    online_since_ms: Option<u64>,
    added_ms: u64,
    enrolled_ms: Option<u64>,
    removed_ms: Option<u64>,
    last_seen_ms: Option<u64>,
    agent_version: Option<String>,
    platform: Option<String>,
    epoch: Option<String>,
    instance: Option<InstanceId>,
    generation: Option<u64>,
    apps: Vec<Value>,
    health: Option<Health>,
    health_ms: Option<u64>,
}

pub(super) fn gateway(row: GatewayRow, apps: &[AppRow], online: Option<Online>) -> Gateway {
    let (health, health_ms) = row.health.unzip();
    let (instance, generation) = row.reported.unzip();
    let seen = row.seen.as_ref();
    Gateway {
        name: row.name,
        online: online.is_some(),
        online_since_ms: online.map(|online| online.since_ms),
        added_ms: row.added_ms,
        enrolled_ms: row.enrolled_ms,
        removed_ms: row.removed_ms,
        last_seen_ms: row.last_seen_ms,
        agent_version: seen.map(|seen| seen.agent_version.clone()),
        platform: seen.map(|seen| seen.platform.clone()),
        epoch: seen.map(|seen| hex64(seen.epoch)),
        instance,
        generation,
        apps: apps.iter().map(app).collect(),
        health,
        health_ms,
    }
}

pub(super) fn stream(row: &StreamRow) -> Value {
    json!({
        "stream": row.stream,
        "stored_to": row.stored_to,
        "top": row.top,
        "gateway_first": row.gateway_first,
        "gateway_last": row.gateway_last,
    })
}

/// Records that will not come, of one stream and for one reason.
pub(super) fn loss(row: &LossRow) -> Value {
    json!({
        "stream": row.stream,
        "reason": row.kind.loss(),
        "records": row.records,
        "last_ms": row.last_ms,
    })
}

/// How far a device is with the image that it is offered.
pub(super) fn firmware(row: &FirmwareRow) -> Value {
    json!({
        "device": row.device,
        "app": row.app,
        "version": row.version,
        "stage": row.stage.as_str(),
        "reason": row.reason,
        "at_ms": row.at_ms,
    })
}

pub(super) fn alarm(row: &AlarmRow) -> Value {
    json!({
        "id": row.id,
        "gateway": row.gateway,
        "code": row.code,
        "text": row.text,
        "count": row.count,
        "first_ms": row.first_ms,
        "last_ms": row.last_ms,
    })
}

/// An entry of the ledger. Fields of its kind stand beside those of every entry.
pub(super) fn entry(row: &EntryRow) -> Value {
    let place = &row.place;
    let mut value = json!({
        "id": row.id,
        "seq": place.seq,
        "first": place.first,
        "kind": place.kind.as_str(),
        "epoch": hex64(place.epoch),
        "time_ms": row.written_ms(),
        "synced": row.time.quality == Quality::Synced || row.corrected_ms.is_some(),
        "label_ms": row.time.unix_ms,
        "stored_ms": row.stored_ms,
    });
    let more = match &row.content {
        Content::Telemetry(body) => telemetry(body),
        Content::DeadLetter(body) => dead_letter(body),
        Content::Report(body) => report(body),
        Content::Nothing => match place.kind {
            crate::store::records::Kind::Tombstone(reason) => json!({"reason": reason}),
            _ => json!({}),
        },
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

pub(super) fn found(row: &Found) -> Value {
    let mut value = entry(&row.entry);
    value["gateway"] = row.gateway.as_str().into();
    value["stream"] = row.stream.into();
    value
}

fn telemetry(body: &Telemetry) -> Value {
    json!({
        "function": body.function,
        "event": body.event.to_string(),
        "device": body.device,
        "name": body.name,
        "content_type": body.content_type,
        "payload": readable(&body.payload),
        "payload_base64": STANDARD.encode(&body.payload),
    })
}

fn dead_letter(body: &DeadLetter) -> Value {
    let message =
        body.message.map(|(boot, sequence)| json!({"boot": hex64(boot), "sequence": sequence}));
    json!({
        "function": body.function,
        "trigger": body.trigger,
        "event": body.event.to_string(),
        "topic": body.topic,
        "device": body.device,
        "message": message,
        "reason": body.reason,
        "error": body.error,
        "attempts": body.attempts,
        "payload_bytes": body.payload_bytes,
        "payload": readable(&body.payload),
        "payload_base64": STANDARD.encode(&body.payload),
    })
}

fn report(body: &Report) -> Value {
    match body {
        Report::Deployment { app, revision, generation, phase, reason } => json!({
            "report": "deployment",
            "app": app,
            "revision": revision,
            "generation": generation,
            "phase": phase,
            "reason": reason,
        }),
        Report::Notice { code, text } => json!({"report": "notice", "code": code, "text": text}),
        Report::Clock { epoch, shown_ms, true_ms } => json!({
            "report": "clock",
            "run": hex64(*epoch),
            "shown_ms": shown_ms,
            "true_ms": true_ms,
        }),
        Report::Firmware { device, app, version, stage, reason } => json!({
            "report": "firmware",
            "device": device,
            "app": app,
            "version": version,
            "stage": stage,
            "reason": reason,
        }),
    }
}

/// A payload for eyes: the JSON it is, or the text it is; `null` for other bytes.
fn readable(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or_else(|_| match std::str::from_utf8(payload) {
        Ok(text) => text.into(),
        Err(_) => Value::Null,
    })
}

pub(super) fn hex64(number: u64) -> String {
    format!("{number:016x}")
}

/// A digest in a path or a body.
pub(super) fn digest(text: &str) -> Result<Digest, crate::failure::Failure> {
    text.parse().map_err(|error: sync_protocol::id::IdError| {
        crate::failure::Failure::invalid(error.to_string(), "`holm status` shows digests")
    })
}
