//! Opens the store that a power cut left, with the code of the agent, and reads what is in it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cold_chain_model::{Alarm, Change, Moving};
use edge_agent::store::{self, Reader};
use edge_broker::broker::op::BrokerOp;
use edge_core::core::Rows;
use edge_core::id::{DeviceId, FunctionId, LaneKey, RecordSeq, StreamId};
use edge_core::op::{DedupeRow, Job, OutboxRecord, RecordBody};
use serde_json::Value;

use crate::crash::Point;

use super::load::{self, DEVICES};

const SMOOTH: &str = "cold-chain/smooth";
const ALARM: &str = "cold-chain/alarm";
const STATE_VERSION: u32 = 1;
/// Rows of a page.
const PAGE_ROWS: usize = 1_000;
const PAGE_BYTES: usize = 4 << 20;

/// What a device's messages left in the store, by their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DeviceRows {
    /// State of `smooth`.
    pub(super) moving: Option<Moving>,
    /// State of `alarm`.
    pub(super) alarm: Option<Alarm>,
    /// What `alarm` published last, retained.
    pub(super) change: Option<Change>,
    /// Messages that wait for `smooth`, in order of admission.
    pub(super) for_smooth: Vec<u64>,
    /// Messages that `smooth` published and that wait for `alarm`.
    pub(super) for_alarm: Vec<u64>,
    /// Records of `alarm`, in order of position.
    pub(super) points: Vec<Point>,
    /// Dead letters, of either function.
    pub(super) dead: Vec<u64>,
    /// Its own messages that wait for the subscriber.
    pub(super) queued_raw: BTreeSet<u64>,
    /// Messages of `smooth` that wait for the subscriber.
    pub(super) queued_smooth: BTreeSet<u64>,
    /// Message ids that are known as worked on.
    pub(super) known: BTreeSet<u64>,
    /// QoS 2 messages whose packet ids are taken.
    pub(super) taken: BTreeSet<u64>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    /// By place of the device.
    pub(super) devices: Vec<DeviceRows>,
    /// What must not be and is no matter of one message.
    pub(super) oddities: Vec<String>,
    /// Batches rolled forward from the journal.
    pub(super) replayed_batches: u64,
    /// Bytes of a batch that was being written.
    pub(super) torn_bytes: u64,
}

/// Reads the store below a data directory. `stored` is what a control plane has, by stream: of that
/// counts what the store deleted after a receipt.
pub(super) fn read(data: &Path, stored: &[Vec<Value>]) -> Result<Found> {
    let settings = store::Settings { new_store_id: 1, background: false, ..Default::default() };
    let opened = store::open(&data.join("store"), settings).context("the store does not open")?;
    let reader = &opened.reader;
    let mut found = Found {
        devices: vec![DeviceRows::default(); DEVICES.len()],
        replayed_batches: opened.recovered.replayed_batches,
        torn_bytes: opened.recovered.torn_bytes,
        ..Found::default()
    };
    let rows = reader.core_rows().context("the core's rows")?;
    for stream in StreamId::ALL {
        let index = rows.outbox.iter().find(|row| row.stream == stream);
        let receipted = index.map_or(RecordSeq(0), |row| row.stored_to);
        let elsewhere = stored.get(usize::from(stream.0)).map_or(&[][..], Vec::as_slice);
        found.take_stored(stream, receipted, elsewhere)?;
        let records = records(reader, stream, receipted)?;
        check_positions(stream, receipted, &records, &rows, &mut found.oddities);
        found.take_points(&records)?;
    }
    rows.jobs.iter().try_for_each(|job| found.take_job(job))?;
    rows.dedupe.iter().for_each(|row| found.take_known(row));
    for letter in reader.dead_letters(None, PAGE_ROWS).context("dead letters")? {
        let seq = load::seq_of(&letter.event.payload)?;
        found.of(letter.event.device.as_ref())?.dead.push(seq);
    }
    found.take_broker(&reader.broker_rows().context("the broker's rows")?)?;
    found.take_state(reader)?;
    Ok(found)
}

/// All records of a stream, behind those that were receipted.
fn records(reader: &Reader, stream: StreamId, receipted: RecordSeq) -> Result<Vec<OutboxRecord>> {
    let mut records: Vec<OutboxRecord> = Vec::new();
    loop {
        let from = records.last().map_or(receipted, |record| record.seq).next();
        let page = reader.outbox_read(stream, from, PAGE_ROWS, PAGE_BYTES).context("the outbox")?;
        if page.is_empty() {
            return Ok(records);
        }
        records.extend(page);
    }
}

/// Positions have no gaps, and the index of the runs says the same as the records.
fn check_positions(
    stream: StreamId,
    receipted: RecordSeq,
    records: &[OutboxRecord],
    rows: &Rows,
    oddities: &mut Vec<String>,
) {
    let stream_n = stream.0;
    if let Some((due, record)) =
        (receipted.0 + 1..).zip(records).find(|(due, record)| record.seq.0 != *due)
    {
        oddities.push(format!("outbox {stream_n}: {} stands where {due} belongs", record.seq.0));
    }
    let index = rows.outbox.iter().find(|row| row.stream == stream);
    let chunks = || index.into_iter().flat_map(|row| &row.chunks);
    let tail = || index.into_iter().flat_map(|row| &row.tail).filter(|row| row.seq > receipted);
    let runs = chunks().map(|run| run.last.0.saturating_sub(receipted.0.max(run.first.0 - 1)));
    let (count, indexed) = (records.len() as u64, runs.sum::<u64>() + tail().count() as u64);
    if indexed != count {
        oddities.push(format!("outbox {stream_n}: {count} records, the index says {indexed}"));
    }
    // The bytes of a run are those of all its records, also of what was receipted since it was closed.
    if chunks().all(|run| run.first > receipted) {
        let costs = records.iter().map(OutboxRecord::cost_bytes).sum::<u64>();
        let runs = chunks().map(|run| run.bytes).sum::<u64>();
        let indexed = runs + tail().map(|row| row.cost_bytes).sum::<u64>();
        if indexed != costs {
            oddities.push(format!("outbox {stream_n}: {costs} bytes, the index says {indexed}"));
        }
    }
}

impl Found {
    fn of(&mut self, device: Option<&DeviceId>) -> Result<&mut DeviceRows> {
        let name = device.context("a row without its device")?.as_str();
        let place = DEVICES.iter().position(|device| device.name == name);
        Ok(&mut self.devices[place.with_context(|| format!("a row of {name}"))?])
    }

    fn take_points(&mut self, records: &[OutboxRecord]) -> Result<()> {
        for record in records {
            let RecordBody::Telemetry { device, payload, .. } = &record.body else { continue };
            let point = serde_json::from_slice(payload).context("a record of `alarm`")?;
            self.of(device.as_ref())?.points.push(point);
        }
        Ok(())
    }

    /// Records that a control plane has, up to the receipt that the store knows.
    fn take_stored(
        &mut self,
        stream: StreamId,
        receipted: RecordSeq,
        rows: &[Value],
    ) -> Result<()> {
        let mut last = 0;
        for row in rows {
            let seq = row["seq"].as_u64().context("a row without its position")?;
            if seq > receipted.0 {
                break;
            }
            last = seq;
            if row["kind"] == "telemetry" {
                let point: Point = serde_json::from_value(row["payload"].clone())?;
                let device = DeviceId::new(&point.smoothed.device);
                self.of(Some(&device))?.points.push(point);
            }
        }
        if last < receipted.0 {
            let (stream, upto) = (stream.0, receipted.0);
            self.oddities
                .push(format!("outbox {stream}: LOST, receipted to {upto} and sent to {last}"));
        }
        Ok(())
    }

    fn take_job(&mut self, job: &Job) -> Result<()> {
        let seq = load::seq_of(&job.event.payload).context("the event of a job")?;
        let rows = self.of(job.event.device.as_ref())?;
        match job.function.as_str() {
            SMOOTH => rows.for_smooth.push(seq),
            ALARM => rows.for_alarm.push(seq),
            other => ensure!(false, "a job of {other}"),
        }
        Ok(())
    }

    fn take_known(&mut self, row: &DedupeRow) {
        let Ok(rows) = self.of(Some(&row.device)) else { return };
        let bits = (0..64).filter(|bit| row.bits >> bit & 1 == 1);
        rows.known.extend(bits.map(|bit| row.block * 64 + bit));
    }

    fn take_broker(&mut self, rows: &[BrokerOp]) -> Result<()> {
        let mut owners = Vec::new();
        for row in rows {
            if let BrokerOp::PutSession(session) = row {
                owners.push((session.session, session.client_id.as_str()));
            }
        }
        for row in rows {
            match row {
                BrokerOp::AppendMessage { message, .. } => {
                    let topic = message.topic.as_str();
                    let (place, is_raw) = load::place_of(topic).context("a queued message")?;
                    let device = &mut self.devices[place];
                    let queue =
                        if is_raw { &mut device.queued_raw } else { &mut device.queued_smooth };
                    queue.insert(load::seq_of(&message.payload)?);
                }
                BrokerOp::PutInbound { session, packet_id } => {
                    let owner = owners.iter().find(|(id, _)| id == session);
                    let owner = owner.context("a taken packet id of no session")?.1;
                    let seq = u64::from(packet_id.get()) - 1;
                    self.of(Some(&DeviceId::new(owner)))?.taken.insert(seq);
                }
                BrokerOp::PutRetained { message } => {
                    let change = serde_json::from_slice(&message.payload)?;
                    self.of(message.device.as_ref())?.change = Some(change);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take_state(&mut self, reader: &Reader) -> Result<()> {
        for function in [SMOOTH, ALARM] {
            let function = FunctionId::new(function);
            let rows = reader.state_rows(&function, STATE_VERSION, None, PAGE_ROWS);
            for row in rows.context("state")? {
                let LaneKey::Device(device) = &row.lane else { continue };
                let rows = self.of(Some(device))?;
                match row.key.as_str() {
                    "moving" => rows.moving = serde_json::from_slice(&row.value)?,
                    "alarm" => rows.alarm = serde_json::from_slice(&row.value)?,
                    other => ensure!(false, "state under {other:?}"),
                }
            }
        }
        Ok(())
    }
}
