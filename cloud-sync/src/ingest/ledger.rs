//! The ledger of one stream: where a record goes, what is a repeat, a gap or a conflict.
//!
//! Entries never overlap. `stored_to` is the highest position up to which every position is in
//! some entry; it moves over tombstones and gaps.

use sync_protocol::Digest;
use sync_protocol::record::{Quality, Record, RecordBody, Report, Stamp};
use sync_protocol::wire::{Records, StreamPosition};

use super::alarm;
use crate::store::fleet::FirmwareRow;
use crate::store::records::{Content, EntryRow, Kind, Place, StreamRow};
use crate::store::{GatewayId, Rows, StoreError};

/// Places looked at in one query.
const PAGE: u32 = 256;

/// What became of a run of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Highest contiguous position stored now.
    pub(crate) stored_to: u64,
    /// Records that were new.
    pub(crate) new: u64,
    /// Records that were there already, the same.
    pub(crate) repeated: u64,
    /// Positions of records that contradict what is there.
    pub(crate) conflicts: Vec<u64>,
}

/// What is put where nothing stands.
#[derive(Clone, Copy)]
struct Filling {
    kind: Kind,
    epoch: u64,
    time: Stamp,
}

/// One stream of one gateway within a transaction.
pub(crate) struct Ledger<'r> {
    rows: &'r mut dyn Rows,
    gateway: GatewayId,
    stream: StreamRow,
    now_ms: u64,
    taken: Taken,
}

impl<'r> Ledger<'r> {
    pub(crate) fn open(
        rows: &'r mut dyn Rows,
        gateway: GatewayId,
        stream: u8,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        let stream = rows.stream(gateway, stream)?;
        Ok(Self { rows, gateway, stream, now_ms, taken: Taken::default() })
    }

    /// Takes a run: what it skips is a gap.
    pub(crate) fn take_run(mut self, run: &Records) -> Result<Taken, StoreError> {
        let mut last = None;
        for record in &run.records {
            if let Some(last) = last
                && record.first() > last + 1
            {
                self.lose(last + 1, record.first() - 1)?;
            }
            self.take(record)?;
            last = Some(record.seq);
        }
        self.close()
    }

    /// Takes what the gateway says about the stream: positions it no longer keeps and that are
    /// not here are lost.
    pub(crate) fn take_position(mut self, said: &StreamPosition) -> Result<Taken, StoreError> {
        if self.stream.top > said.last {
            let text = format!(
                "stream {}: the gateway wrote up to {}, {} are stored here: its store was lost or \
                 an old copy was restored; it continues above",
                said.stream, said.last, self.stream.top
            );
            self.alarm(alarm::GATEWAY_BEHIND, &text)?;
            // What is missing below the top will never come, and no position may be used twice.
            self.lose(self.stream.stored_to + 1, self.stream.top)?;
        }
        let missing = self.stream.stored_to + 1..said.first;
        if !missing.is_empty() && self.lose(missing.start, missing.end - 1)? {
            let text = format!(
                "stream {}: the gateway was told that everything up to {} is stored and keeps none \
                 of it, here is everything up to {} only: an old copy of this control plane was \
                 restored; what is missing is shown as a gap",
                said.stream,
                missing.end - 1,
                missing.start - 1
            );
            self.alarm(alarm::CLOUD_BEHIND, &text)?;
        }
        (self.stream.gateway_first, self.stream.gateway_last) = (said.first, said.last);
        self.close()
    }

    fn close(mut self) -> Result<Taken, StoreError> {
        self.advance()?;
        self.rows.put_stream(self.gateway, &self.stream)?;
        Ok(Taken { stored_to: self.stream.stored_to, ..self.taken })
    }

    fn take(&mut self, record: &Record) -> Result<(), StoreError> {
        match &record.body {
            RecordBody::Tombstone(tombstone) => {
                let kind = Kind::Tombstone(tombstone.reason);
                let filling = Filling { kind, epoch: record.epoch, time: record.time };
                let filled = self.fill(tombstone.from, record.seq, &filling)?;
                let counter = if filled { &mut self.taken.new } else { &mut self.taken.repeated };
                *counter += 1;
                Ok(())
            }
            RecordBody::Telemetry(_) | RecordBody::DeadLetter(_) | RecordBody::Report(_) => {
                self.take_one(record)
            }
        }
    }

    fn take_one(&mut self, record: &Record) -> Result<(), StoreError> {
        let bytes = encode(record)?;
        let digest = Digest::of(&bytes).0[..16].to_vec();
        if let Some(place) = self.place_of(record.seq)? {
            if place.kind == Kind::Gap {
                self.cut_gap(&place, record.seq, record.seq)?;
            } else if place.seq == record.seq && place.digest == digest {
                self.taken.repeated += 1;
                return Ok(());
            } else {
                return self.conflict(record, &place, &bytes);
            }
        }
        let entry = entry(record, digest, self.now_ms);
        self.add(&entry)?;
        match &record.body {
            RecordBody::Report(Report::Notice { code, text }) => self.alarm(code, text)?,
            RecordBody::Report(Report::Clock { epoch, shown_ms, true_ms }) => {
                self.rows.put_clock(self.gateway, *epoch, *shown_ms, *true_ms)?;
            }
            RecordBody::Report(Report::Firmware { device, app, version, stage, reason }) => {
                self.rows.put_firmware(
                    self.gateway,
                    &FirmwareRow {
                        device: device.clone(),
                        app: app.clone(),
                        version: *version,
                        stage: *stage,
                        reason: reason.clone(),
                        at_ms: self.now_ms,
                    },
                )?;
            }
            _ => {}
        }
        self.taken.new += 1;
        Ok(())
    }

    /// What stands at a position; nothing can above the top.
    fn place_of(&self, seq: u64) -> Result<Option<Place>, StoreError> {
        if seq > self.stream.top {
            return Ok(None);
        }
        let places = self.rows.places(self.gateway, self.stream.stream, seq, 1)?;
        Ok(places.into_iter().find(|place| place.first <= seq))
    }

    fn add(&mut self, entry: &EntryRow) -> Result<(), StoreError> {
        self.rows.add_entry(self.gateway, self.stream.stream, entry)?;
        let (first, seq) = (entry.place.first, entry.place.seq);
        self.stream.top = self.stream.top.max(seq);
        if first <= self.stream.stored_to + 1 {
            self.stream.stored_to = self.stream.stored_to.max(seq);
        }
        Ok(())
    }

    fn conflict(&mut self, record: &Record, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        let (stream, seq) = (self.stream.stream, record.seq);
        let text = format!(
            "stream {stream}, position {seq}: a {} of process run {:016x} is stored, now came \
             another record of run {:016x}; it is kept aside, and the gateway sends it again at a \
             position of its own",
            place.kind.as_str(),
            place.epoch,
            record.epoch
        );
        self.alarm(alarm::RECORD_CONFLICT, &text)?;
        self.rows.add_conflict(self.gateway, stream, seq, bytes, self.now_ms)?;
        self.taken.conflicts.push(seq);
        Ok(())
    }

    fn alarm(&mut self, code: &str, text: &str) -> Result<(), StoreError> {
        self.rows.raise_alarm(self.gateway, code, text, self.now_ms)
    }

    /// Positions are lost: whatever of them is not here becomes a gap. Says whether any was missing.
    fn lose(&mut self, from: u64, to: u64) -> Result<bool, StoreError> {
        self.fill(from, to, &self.gap())
    }

    fn gap(&self) -> Filling {
        let time = Stamp { unix_ms: self.now_ms, quality: Quality::Synced };
        Filling { kind: Kind::Gap, epoch: 0, time }
    }

    /// Puts a tombstone or gap wherever nothing stands within `from..=to`. A tombstone also takes
    /// the place of gaps: now it is known why. Says whether there was room.
    fn fill(&mut self, from: u64, to: u64, filling: &Filling) -> Result<bool, StoreError> {
        // Up to here something stands everywhere; only gaps can be replaced.
        let covered = self.stream.stored_to;
        let mut filled = match filling.kind {
            Kind::Gap => false,
            _ => self.explain_gaps(from, to.min(covered), filling)?,
        };
        let from = from.max(covered + 1);
        let (mut scan, mut hole) = (from, from);
        'pages: while scan <= to && scan <= self.stream.top {
            let page = self.rows.places(self.gateway, self.stream.stream, scan, PAGE)?;
            if page.is_empty() {
                break;
            }
            for place in page {
                if place.first > to {
                    break 'pages;
                }
                scan = place.seq + 1;
                if place.kind == Kind::Gap && filling.kind != Kind::Gap {
                    self.cut_gap(&place, from, to)?;
                    continue;
                }
                filled |= self.fill_hole(hole, place.first.saturating_sub(1), filling)?;
                hole = place.seq + 1;
            }
        }
        Ok(self.fill_hole(hole, to, filling)? | filled)
    }

    /// Replaces what of the gaps lies within `from..=to`.
    fn explain_gaps(&mut self, from: u64, to: u64, filling: &Filling) -> Result<bool, StoreError> {
        let (mut scan, mut filled) = (from, false);
        while scan <= to {
            let gaps = self.rows.gaps(self.gateway, self.stream.stream, scan, PAGE)?;
            let within: Vec<Place> = gaps.into_iter().filter(|gap| gap.first <= to).collect();
            let Some(last) = within.last() else { break };
            scan = last.seq + 1;
            for gap in &within {
                self.cut_gap(gap, from, to)?;
                filled |= self.fill_hole(gap.first.max(from), gap.seq.min(to), filling)?;
            }
        }
        Ok(filled)
    }

    fn fill_hole(&mut self, first: u64, seq: u64, filling: &Filling) -> Result<bool, StoreError> {
        if first > seq {
            return Ok(false);
        }
        let Filling { kind, epoch, time } = *filling;
        let place = Place { first, seq, kind, epoch, digest: Vec::new() };
        let (id, stored_ms, content) = (0, self.now_ms, Content::Nothing);
        self.add(&EntryRow { id, place, time, corrected_ms: None, stored_ms, content })?;
        Ok(true)
    }

    /// Removes a gap but for what of it lies outside `from..=to`.
    fn cut_gap(&mut self, gap: &Place, from: u64, to: u64) -> Result<(), StoreError> {
        self.rows.delete_gap(self.gateway, self.stream.stream, gap.seq)?;
        let filling = self.gap();
        self.fill_hole(gap.first, gap.seq.min(from - 1), &filling)?;
        self.fill_hole(gap.first.max(to + 1), gap.seq, &filling)?;
        Ok(())
    }

    /// Moves `stored_to` over everything that follows it without a hole.
    fn advance(&mut self) -> Result<(), StoreError> {
        while self.stream.stored_to < self.stream.top {
            let from = self.stream.stored_to + 1;
            let page = self.rows.places(self.gateway, self.stream.stream, from, PAGE)?;
            for place in page {
                if place.first > self.stream.stored_to + 1 {
                    return Ok(());
                }
                self.stream.stored_to = self.stream.stored_to.max(place.seq);
            }
            if self.stream.stored_to < from {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn encode(record: &Record) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(record).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn entry(record: &Record, digest: Vec<u8>, now_ms: u64) -> EntryRow {
    let (kind, content) = match &record.body {
        RecordBody::Telemetry(body) => (Kind::Telemetry, Content::Telemetry(body.clone())),
        RecordBody::DeadLetter(body) => (Kind::DeadLetter, Content::DeadLetter(body.clone())),
        RecordBody::Report(body) => (Kind::Report, Content::Report(body.clone())),
        RecordBody::Tombstone(body) => (Kind::Tombstone(body.reason), Content::Nothing),
    };
    let (first, seq, epoch) = (record.first(), record.seq, record.epoch);
    let place = Place { first, seq, kind, epoch, digest };
    let (time, stored_ms) = (record.time, now_ms);
    EntryRow { id: 0, place, time, corrected_ms: None, stored_ms, content }
}
