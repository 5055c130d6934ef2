//! What must be known of a row of the outbox without its contents.

use std::sync::Arc;

use crate::id::{DeviceId, RecordSeq};
use crate::op::{DropReason, OutboxRecord, RecordBody};
use crate::time::Millis;

/// A row of the outbox without its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    /// Position.
    pub seq: RecordSeq,
    /// First position that it stands for.
    pub from: RecordSeq,
    /// For a tombstone: why.
    pub dropped: Option<DropReason>,
    /// [`OutboxRecord::cost_bytes`].
    pub cost_bytes: u64,
    /// What it is: `app/function/series` for what a function recorded, `dead-letters`, `reports`;
    /// empty for a tombstone.
    pub label: Arc<str>,
    /// Whose it is.
    pub device: Option<DeviceId>,
    /// When it outlives its time to live.
    pub expires: Option<Millis>,
}

impl RecordSummary {
    /// Of a record.
    #[must_use]
    pub fn of(record: &OutboxRecord) -> Self {
        let (from, dropped) = match &record.body {
            RecordBody::Tombstone { from, reason, .. } => (*from, Some(*reason)),
            _ => (record.seq, None),
        };
        Self {
            seq: record.seq,
            from,
            dropped,
            cost_bytes: record.cost_bytes(),
            label: label(&record.body).into(),
            device: device(&record.body).cloned(),
            expires: record.expires,
        }
    }
}

pub(super) fn label(body: &RecordBody) -> String {
    match body {
        RecordBody::Telemetry { function, name, .. } => format!("{function}/{name}"),
        RecordBody::DeadLetter(_) => "dead-letters".to_owned(),
        RecordBody::Report(_) => "reports".to_owned(),
        RecordBody::Tombstone { .. } => String::new(),
    }
}

pub(super) fn device(body: &RecordBody) -> Option<&DeviceId> {
    match body {
        RecordBody::Telemetry { device, .. } => device.as_ref(),
        RecordBody::DeadLetter(_) | RecordBody::Report(_) | RecordBody::Tombstone { .. } => None,
    }
}
