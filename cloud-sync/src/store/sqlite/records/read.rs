//! What a row of records says.

use rusqlite::Row;
use sync_protocol::EventId;
use sync_protocol::record::{
    DeadLetter, DeadReason, FirmwareStage, Phase, Quality, Report, Stamp, Telemetry,
};

use super::super::codes::Code as _;
use super::super::from_bits;
use super::super::query::Columns as _;
use crate::store::StoreError;
use crate::store::records::{Content, EntryRow, Found, Kind, Place, StreamRow};

pub(super) fn place(row: &Row<'_>) -> Result<Place, StoreError> {
    Ok(Place {
        first: row.uint("first")?,
        seq: row.uint("seq")?,
        kind: Kind::from_code(row.col("kind")?)?,
        epoch: row.bits("epoch")?,
        digest: row.col("digest")?,
    })
}

pub(super) fn stream(row: &Row<'_>) -> Result<StreamRow, StoreError> {
    Ok(StreamRow {
        stream: row.col("stream")?,
        stored_to: row.uint("stored_to")?,
        top: row.uint("top")?,
        gateway_first: row.uint("gateway_first")?,
        gateway_last: row.uint("gateway_last")?,
    })
}

fn event(row: &Row<'_>) -> Result<EventId, StoreError> {
    Ok(EventId { epoch: row.bits("event_epoch")?, n: row.uint("event_n")? })
}

fn dead_letter(row: &Row<'_>) -> Result<DeadLetter, StoreError> {
    let message = match (row.col::<Option<i64>>("boot")?, row.uint_opt("sequence")?) {
        (Some(boot), Some(sequence)) => Some((from_bits(boot), sequence)),
        _ => None,
    };
    Ok(DeadLetter {
        function: row.col("function")?,
        trigger: row.col("trigger_name")?,
        event: event(row)?,
        topic: row.col("topic")?,
        device: row.col("device")?,
        message,
        reason: DeadReason::from_code(row.col("reason")?)?,
        error: row.col("error")?,
        attempts: row.col("attempts")?,
        payload_bytes: row.uint("payload_bytes")?,
        payload: row.col("payload")?,
    })
}

fn report(row: &Row<'_>) -> Result<Report, StoreError> {
    if let Some(epoch) = row.col::<Option<i64>>("clock_epoch")? {
        let (shown_ms, true_ms) = (row.uint("shown_ms")?, row.uint("true_ms")?);
        return Ok(Report::Clock { epoch: from_bits(epoch), shown_ms, true_ms });
    }
    if let Some(stage) = row.col::<Option<i64>>("stage")? {
        return Ok(Report::Firmware {
            device: row.col("device")?,
            app: row.col("app")?,
            version: row.col("firmware_version")?,
            stage: FirmwareStage::from_code(stage)?,
            reason: row.col("text")?,
        });
    }
    match row.col::<Option<String>>("code")? {
        Some(code) => Ok(Report::Notice { code, text: row.col("text")? }),
        None => Ok(Report::Deployment {
            app: row.col("app")?,
            revision: row.digest("revision")?,
            generation: row.uint("generation")?,
            phase: Phase::from_code(row.col("phase")?)?,
            reason: row.col("text")?,
        }),
    }
}

pub(super) fn entry(row: &Row<'_>) -> Result<EntryRow, StoreError> {
    let place = place(row)?;
    let content = match place.kind {
        Kind::Telemetry => Content::Telemetry(Telemetry {
            function: row.col("function")?,
            event: event(row)?,
            device: row.col("device")?,
            name: row.col("name")?,
            content_type: row.col("content_type")?,
            payload: row.col("payload")?,
        }),
        Kind::DeadLetter => Content::DeadLetter(dead_letter(row)?),
        Kind::Report => Content::Report(report(row)?),
        Kind::Tombstone(_) | Kind::Gap => Content::Nothing,
    };
    let time =
        Stamp { unix_ms: row.uint("time_ms")?, quality: Quality::from_code(row.col("synced")?)? };
    let off_ms: Option<i64> = row.col("off_ms")?;
    let corrected_ms = off_ms.map(|off_ms| time.unix_ms.saturating_add_signed(off_ms));
    let stored_ms = row.uint("stored_ms")?;
    Ok(EntryRow { id: row.uint("id")?, place, time, corrected_ms, stored_ms, content })
}

pub(super) fn found(row: &Row<'_>) -> Result<Found, StoreError> {
    Ok(Found { gateway: row.col("gateway_name")?, stream: row.col("stream")?, entry: entry(row)? })
}
