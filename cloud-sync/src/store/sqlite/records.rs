//! Rows of records.

use rusqlite::types::Value;
use rusqlite::{params, params_from_iter};
use sync_protocol::record::{DeadLetter, Report};
use sync_protocol::{Digest, EventId};

use super::codes::Code as _;
use super::query::Columns as _;
use super::{SqliteRows, bits, failed, int};
use crate::limits::{CONFLICTS_PER_GATEWAY_MAX, PAGE_BYTES_MAX};
use crate::store::records::{
    Content, EntryRow, Filter, Found, Kind, LossRow, Place, RecordRows, StreamRow,
};
use crate::store::{GatewayId, StoreError};

mod read;

use read::{entry, found, place, stream};

/// An entry with the tables that hold more of it.
const ENTRY: &str = "r.*, d.trigger_name, d.topic, d.boot, d.sequence, d.reason, d.error,
    d.attempts, d.payload_bytes, p.app, p.revision, p.generation, p.phase, p.code, p.text,
    p.clock_epoch, p.shown_ms, p.true_ms, p.stage, p.firmware_version, CASE WHEN r.synced = 0 THEN
    (SELECT c.true_ms - c.shown_ms FROM clocks c WHERE c.gateway = r.gateway AND c.epoch = r.epoch)
    END AS off_ms";
const TABLES: &str = "records r LEFT JOIN dead_letters d ON d.record = r.id
    LEFT JOIN reports p ON p.record = r.id";

/// About how many bytes an entry takes.
fn entry_bytes(entry: &EntryRow) -> usize {
    300 + match &entry.content {
        Content::Telemetry(telemetry) => telemetry.payload.len(),
        Content::DeadLetter(letter) => letter.payload.len() + letter.error.len(),
        Content::Report(_) | Content::Nothing => 0,
    }
}

/// The columns that an entry fills, by its kind.
#[derive(Default)]
struct Cells<'e> {
    function: Option<&'e str>,
    device: Option<&'e str>,
    name: Option<&'e str>,
    content_type: Option<&'e str>,
    event: Option<EventId>,
    payload: Option<&'e [u8]>,
}

impl<'e> Cells<'e> {
    fn of(content: &'e Content) -> Self {
        match content {
            Content::Telemetry(telemetry) => Self {
                function: Some(&telemetry.function),
                device: telemetry.device.as_deref(),
                name: Some(&telemetry.name),
                content_type: Some(&telemetry.content_type),
                event: Some(telemetry.event),
                payload: Some(&telemetry.payload),
            },
            Content::DeadLetter(letter) => Self {
                function: Some(&letter.function),
                device: letter.device.as_deref(),
                event: Some(letter.event),
                payload: Some(&letter.payload),
                ..Self::default()
            },
            Content::Report(Report::Firmware { device, .. }) => {
                Self { device: Some(device), ..Self::default() }
            }
            Content::Report(_) | Content::Nothing => Self::default(),
        }
    }
}

impl SqliteRows<'_> {
    /// Counts positions of which nothing will come.
    fn add_loss(
        &self,
        gateway: GatewayId,
        stream: u8,
        place: &Place,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO losses (gateway, stream, kind, records, last_ms)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, last_ms = excluded.last_ms",
            params![
                gateway.0,
                stream,
                place.kind.code(),
                int(place.seq - place.first + 1),
                int(now_ms)
            ],
        )?;
        Ok(())
    }

    fn add_dead_letter(&self, record: i64, letter: &DeadLetter) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO dead_letters (record, trigger_name, topic, boot, sequence, reason, error,
             attempts, payload_bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                record,
                letter.trigger,
                letter.topic,
                letter.message.map(|(boot, _)| bits(boot)),
                letter.message.map(|(_, sequence)| int(sequence)),
                letter.reason.code(),
                letter.error,
                letter.attempts,
                int(letter.payload_bytes),
            ],
        )?;
        Ok(())
    }

    fn add_report(&self, record: i64, report: &Report) -> Result<(), StoreError> {
        let sql = "INSERT INTO reports (record, app, revision, generation, phase, code, text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        match report {
            Report::Clock { epoch, shown_ms, true_ms } => {
                self.change(
                    "INSERT INTO reports (record, text, clock_epoch, shown_ms, true_ms)
                     VALUES (?1, '', ?2, ?3, ?4)",
                    params![record, bits(*epoch), int(*shown_ms), int(*true_ms)],
                )?;
            }
            // The device stands with the record.
            Report::Firmware { app, version, stage, reason, .. } => {
                self.change(
                    "INSERT INTO reports (record, app, firmware_version, stage, text)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![record, app, version, stage.code(), reason],
                )?;
            }
            Report::Deployment { app, revision, generation, phase, reason } => {
                let phase = phase.code();
                let none: Option<&str> = None;
                let generation = int(*generation);
                self.change(
                    sql,
                    params![record, app, revision.0, generation, phase, none, reason],
                )?;
            }
            Report::Notice { code, text } => {
                let none: Option<&str> = None;
                self.change(sql, params![record, none, none, none, none, code, text])?;
            }
        }
        Ok(())
    }

    /// Entries of one kind by arrival.
    fn search(&self, kind: Kind, filter: &Filter) -> Result<Vec<Found>, StoreError> {
        let (sql, values) = search_sql(kind, filter);
        let bytes = |found: &Found| entry_bytes(&found.entry);
        self.page(&sql, params_from_iter(values), PAGE_BYTES_MAX, bytes, found)
    }
}

/// The query of a search. Its conditions are put together from fixed texts; values are bound.
///
/// Dead letters and reports are rare among the records: their own tables lead (`CROSS JOIN` keeps
/// SQLite from turning them round), in order of arrival, so that no query reads or sorts it all.
pub(super) fn search_sql(kind: Kind, filter: &Filter) -> (String, Vec<Value>) {
    let (tables, arrival) = match kind {
        Kind::DeadLetter => (
            "dead_letters d CROSS JOIN records r ON r.id = d.record
             LEFT JOIN reports p ON p.record = r.id",
            "d.record",
        ),
        Kind::Report => (
            "reports p CROSS JOIN records r ON r.id = p.record
             LEFT JOIN dead_letters d ON d.record = r.id",
            "p.record",
        ),
        Kind::Telemetry | Kind::Tombstone(_) | Kind::Gap => (TABLES, "r.id"),
    };
    let mut conditions = vec![format!("r.kind = {}", kind.code())];
    let mut values: Vec<Value> = Vec::new();
    let mut add = |column: &str, relation: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{column} {relation} ?{}", values.len()));
    };
    if let Some(gateway) = filter.gateway {
        add("r.gateway", "=", gateway.0.into());
    }
    for (column, text) in
        [("r.function", &filter.function), ("r.device", &filter.device), ("r.name", &filter.name)]
    {
        if let Some(text) = text {
            add(column, "=", text.clone().into());
        }
    }
    for (relation, id) in [(">", filter.after), ("<", filter.before)] {
        if let Some(id) = id {
            add(arrival, relation, int(id).into());
        }
    }
    let conditions = conditions.join(" AND ");
    let order = if filter.newest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT {ENTRY}, (SELECT name FROM gateways g WHERE g.id = r.gateway) AS gateway_name
         FROM {tables} WHERE {conditions} ORDER BY {arrival} {order} LIMIT {}",
        filter.limit
    );
    (sql, values)
}

impl RecordRows for SqliteRows<'_> {
    fn streams(&self, gateway: GatewayId) -> Result<Vec<StreamRow>, StoreError> {
        let sql = "SELECT * FROM streams WHERE gateway = ?1 ORDER BY stream";
        self.list(sql, [gateway.0], stream)
    }

    fn stream(&self, gateway: GatewayId, number: u8) -> Result<StreamRow, StoreError> {
        let sql = "SELECT * FROM streams WHERE gateway = ?1 AND stream = ?2";
        let row = self.one(sql, params![gateway.0, number], stream)?;
        Ok(row.unwrap_or(StreamRow { stream: number, ..StreamRow::default() }))
    }

    fn put_stream(&mut self, gateway: GatewayId, row: &StreamRow) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO streams
             (gateway, stream, stored_to, top, gateway_first, gateway_last)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                gateway.0,
                row.stream,
                int(row.stored_to),
                int(row.top),
                int(row.gateway_first),
                int(row.gateway_last),
            ],
        )?;
        Ok(())
    }

    fn places(
        &self,
        gateway: GatewayId,
        stream: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Place>, StoreError> {
        self.list(
            "SELECT first, seq, kind, epoch, digest FROM records
             WHERE gateway = ?1 AND stream = ?2 AND seq >= ?3 ORDER BY seq LIMIT ?4",
            params![gateway.0, stream, int(from), limit],
            place,
        )
    }

    fn gaps(
        &self,
        gateway: GatewayId,
        stream: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Place>, StoreError> {
        // The kind is written out: else the partial index of gaps is not considered.
        self.list(
            "SELECT first, seq, kind, epoch, digest FROM records
             WHERE gateway = ?1 AND stream = ?2 AND seq >= ?3 AND kind = 3 ORDER BY seq LIMIT ?4",
            params![gateway.0, stream, int(from), limit],
            place,
        )
    }

    fn losses(&self, gateway: GatewayId) -> Result<Vec<LossRow>, StoreError> {
        let sql = "SELECT * FROM losses WHERE gateway = ?1 AND records > 0 ORDER BY stream, kind";
        self.list(sql, [gateway.0], |row| {
            Ok(LossRow {
                stream: row.col("stream")?,
                kind: Kind::from_code(row.col("kind")?)?,
                records: row.uint("records")?,
                last_ms: row.uint("last_ms")?,
            })
        })
    }

    fn add_entry(
        &mut self,
        gateway: GatewayId,
        stream: u8,
        entry: &EntryRow,
    ) -> Result<(), StoreError> {
        let (place, cells) = (&entry.place, Cells::of(&entry.content));
        self.change(
            "INSERT INTO records (gateway, stream, seq, first, kind, epoch, digest, time_ms,
             synced, stored_ms, function, device, name, content_type, event_epoch, event_n, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            params![
                gateway.0,
                stream,
                int(place.seq),
                int(place.first),
                place.kind.code(),
                bits(place.epoch),
                place.digest,
                int(entry.time.unix_ms),
                entry.time.quality.code(),
                int(entry.stored_ms),
                cells.function,
                cells.device,
                cells.name,
                cells.content_type,
                cells.event.map(|event| bits(event.epoch)),
                cells.event.map(|event| int(event.n)),
                cells.payload,
            ],
        )?;
        let record = self.db.last_insert_rowid();
        if place.kind.loss().is_some() {
            self.add_loss(gateway, stream, place, entry.stored_ms)?;
        }
        match &entry.content {
            Content::DeadLetter(letter) => self.add_dead_letter(record, letter),
            Content::Report(report) => self.add_report(record, report),
            Content::Telemetry(_) | Content::Nothing => Ok(()),
        }
    }

    fn put_clock(
        &mut self,
        gateway: GatewayId,
        epoch: u64,
        shown_ms: u64,
        true_ms: u64,
    ) -> Result<(), StoreError> {
        self.change(
            "INSERT OR REPLACE INTO clocks (gateway, epoch, shown_ms, true_ms)
             VALUES (?1, ?2, ?3, ?4)",
            params![gateway.0, bits(epoch), int(shown_ms), int(true_ms)],
        )?;
        Ok(())
    }

    fn delete_gap(&mut self, gateway: GatewayId, stream: u8, seq: u64) -> Result<(), StoreError> {
        self.change(
            "UPDATE losses SET records = records - (SELECT seq - first + 1 FROM records
             WHERE gateway = ?1 AND stream = ?2 AND seq = ?3 AND kind = ?4)
             WHERE gateway = ?1 AND stream = ?2 AND kind = ?4
             AND EXISTS (SELECT 1 FROM records
             WHERE gateway = ?1 AND stream = ?2 AND seq = ?3 AND kind = ?4)",
            params![gateway.0, stream, int(seq), Kind::Gap.code()],
        )?;
        self.change(
            "DELETE FROM records WHERE gateway = ?1 AND stream = ?2 AND seq = ?3 AND kind = ?4",
            params![gateway.0, stream, int(seq), Kind::Gap.code()],
        )?;
        Ok(())
    }

    fn add_conflict(
        &mut self,
        gateway: GatewayId,
        stream: u8,
        seq: u64,
        record: &[u8],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        if self.conflict_count(gateway)? >= CONFLICTS_PER_GATEWAY_MAX {
            return Ok(());
        }
        let digest = Digest::of(record);
        self.change(
            "INSERT OR IGNORE INTO conflicts (gateway, stream, seq, digest, record, stored_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![gateway.0, stream, int(seq), digest.0, record, int(now_ms)],
        )?;
        Ok(())
    }

    fn conflict_count(&self, gateway: GatewayId) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(*) AS n FROM conflicts WHERE gateway = ?1";
        let count = self.one(sql, [gateway.0], |row| row.uint("n"))?;
        count.ok_or_else(|| failed("no count"))
    }

    fn entries(
        &self,
        gateway: GatewayId,
        stream: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let sql = format!(
            "SELECT {ENTRY} FROM {TABLES}
             WHERE r.gateway = ?1 AND r.stream = ?2 AND r.seq >= ?3 ORDER BY r.seq LIMIT ?4"
        );
        let params = params![gateway.0, stream, int(from), limit];
        self.page(&sql, params, PAGE_BYTES_MAX, entry_bytes, entry)
    }

    fn telemetry(&self, filter: &Filter) -> Result<Vec<Found>, StoreError> {
        self.search(Kind::Telemetry, filter)
    }

    fn dead_letters(&self, filter: &Filter) -> Result<Vec<Found>, StoreError> {
        self.search(Kind::DeadLetter, filter)
    }

    fn reports(&self, filter: &Filter) -> Result<Vec<Found>, StoreError> {
        self.search(Kind::Report, filter)
    }
}
