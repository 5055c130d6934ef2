//! Rows as the cores want them at start, and pages of rows for people.

use bytes::Bytes;
use edge_broker::broker::op::BrokerOp;
use edge_core::core::{DeadLetterKey, OutboxRows, Rows};
use edge_core::id::{EventId, FunctionId, LaneKey, RecordSeq, StreamId, TriggerId};
use edge_core::op::{DeadLetter, Job, OutboxChunk, OutboxRecord, Progress};
use edge_core::outbox::RecordSummary;
use serde::de::DeserializeOwned;

use super::error::ReadError;
use super::op::{self, StreamRow};
use super::reader::{Reader, decode, row_error};
use super::scan::{Span, View};
use super::table::{KeyBuf, KeyReader, Table, successor};

/// A state value with the key it has within its function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// The lane.
    pub lane: LaneKey,
    /// The function's own key.
    pub key: String,
    /// The value.
    pub value: Bytes,
}

fn all(table: Table) -> Span {
    Span { table, start: Box::new([]), end: Box::new([]) }
}

impl Reader {
    /// Everything the decision core is restored from.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn core_rows(&self) -> Result<Rows, ReadError> {
        Ok(Rows {
            jobs: self.jobs()?,
            dedupe: self.table(Table::Dedupe)?,
            dead_letters: self.dead_letter_keys()?,
            outbox: self.outbox_rows()?,
            schedule_marks: self.schedule_marks()?,
            probations: self.table(Table::Probation)?,
            pauses: self.table(Table::Pause)?,
        })
    }

    /// Everything the broker is restored from.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn broker_rows(&self) -> Result<Vec<BrokerOp>, ReadError> {
        let mut rows = Vec::new();
        for table in op::BROKER_TABLES {
            rows.append(&mut self.table(table)?);
        }
        Ok(rows)
    }

    /// All rows of the reconciler's ledger.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn ledger(&self) -> Result<Vec<(String, Bytes)>, ReadError> {
        let mut rows = Vec::new();
        self.shared.each(&all(Table::Ledger), View::Applied, |key, value| {
            let name = KeyReader::new(key).tail_text().ok_or(row_error(Table::Ledger))?;
            rows.push((name, Bytes::copy_from_slice(value)));
            Ok(())
        })?;
        Ok(rows)
    }

    /// Dead letters in the order of function and event, from behind `after`, at most `rows_max`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn dead_letters(
        &self,
        after: Option<(&FunctionId, EventId)>,
        rows_max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        const BYTES_MAX: usize = 4 << 20;
        let mut span = all(Table::DeadLetter);
        if let Some((function, event)) = after {
            span.start = successor(&op::dead_letter_key(function, event));
        }
        let rows = self.shared.scan(&span, View::Applied, rows_max, BYTES_MAX)?;
        rows.iter().map(|(_, row)| decode(Table::DeadLetter, row)).collect()
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn dead_letter(
        &self,
        function: &FunctionId,
        event: EventId,
    ) -> Result<Option<DeadLetter>, ReadError> {
        let row = self.shared.get(Table::DeadLetter, &op::dead_letter_key(function, event))?;
        row.map(|row| decode(Table::DeadLetter, &row)).transpose()
    }

    /// State of one version of a function over all lanes, from behind `after`, at most `rows_max`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn state_rows(
        &self,
        function: &FunctionId,
        state_version: u32,
        after: Option<(&LaneKey, &str)>,
        rows_max: usize,
    ) -> Result<Vec<StateRow>, ReadError> {
        const BYTES_MAX: usize = 4 << 20;
        let prefix = || KeyBuf::new().text(function.as_str()).u32(state_version);
        let (mut start, end) = prefix().prefix();
        if let Some((lane, key)) = after {
            start = prefix().lane(lane).tail(key.as_bytes()).u8(0).key();
        }
        let span = Span { table: Table::State, start, end };
        let rows = self.shared.scan(&span, View::Applied, rows_max, BYTES_MAX)?;
        rows.into_iter()
            .map(|(key, value)| state_row(&key, value).ok_or(row_error(Table::State)))
            .collect()
    }

    fn table<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>, ReadError> {
        let mut rows = Vec::new();
        self.shared.each(&all(table), View::Applied, |_, value| {
            rows.push(decode(table, value)?);
            Ok(())
        })?;
        Ok(rows)
    }

    fn jobs(&self) -> Result<Vec<Job>, ReadError> {
        let mut jobs: Vec<Job> = self.table(Table::Job)?;
        self.shared.each(&all(Table::JobProgress), View::Applied, |key, value| {
            let id = KeyReader::new(key).u64().ok_or(row_error(Table::JobProgress))?;
            let progress: Progress = decode(Table::JobProgress, value)?;
            if let Ok(at) = jobs.binary_search_by_key(&id, |job| job.id.0) {
                jobs[at].progress = progress;
            }
            Ok(())
        })?;
        Ok(jobs)
    }

    fn dead_letter_keys(&self) -> Result<Vec<DeadLetterKey>, ReadError> {
        let mut keys = Vec::new();
        self.shared.each(&all(Table::DeadLetter), View::Applied, |_, value| {
            let letter: DeadLetter = decode(Table::DeadLetter, value)?;
            keys.push(DeadLetterKey {
                at: letter.at,
                function: letter.function,
                event: letter.event.id,
            });
            Ok(())
        })?;
        Ok(keys)
    }

    fn schedule_marks(&self) -> Result<Vec<(TriggerId, u64)>, ReadError> {
        let mut marks = Vec::new();
        self.shared.each(&all(Table::ScheduleMark), View::Applied, |key, value| {
            let trigger = KeyReader::new(key).tail_text().ok_or(row_error(Table::ScheduleMark))?;
            marks.push((TriggerId::new(&trigger), decode(Table::ScheduleMark, value)?));
            Ok(())
        })?;
        Ok(marks)
    }

    /// No scan over the records: the runs' rows, and the records behind the last of them.
    fn outbox_rows(&self) -> Result<Vec<OutboxRows>, ReadError> {
        let mut streams = Vec::new();
        self.shared.each(&all(Table::Stream), View::Applied, |key, value| {
            let stream = KeyReader::new(key).u8().ok_or(row_error(Table::Stream))?;
            let row: StreamRow = decode(Table::Stream, value)?;
            streams.push((StreamId(stream), row));
            Ok(())
        })?;
        streams.into_iter().map(|(stream, row)| self.stream_rows(stream, row)).collect()
    }

    fn stream_rows(&self, stream: StreamId, row: StreamRow) -> Result<OutboxRows, ReadError> {
        let (start, end) = KeyBuf::new().u8(stream.0).prefix();
        let mut chunks: Vec<OutboxChunk> = Vec::new();
        let span = Span { table: Table::OutboxChunk, start, end: end.clone() };
        self.shared.each(&span, View::Applied, |_, value| {
            chunks.push(decode(Table::OutboxChunk, value)?);
            Ok(())
        })?;
        let indexed = chunks.iter().map(|chunk| chunk.last).max().unwrap_or_default();
        let from = indexed.max(row.acked).next();
        let span = Span { table: Table::Outbox, start: op::outbox_key(stream, from), end };
        let tail = self.summaries(&span)?;
        Ok(OutboxRows { stream, stored_to: row.acked, chunks, tail })
    }

    /// What stands at the positions `from..=to` of a stream, as applied.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn outbox_summaries(
        &self,
        stream: StreamId,
        from: RecordSeq,
        to: RecordSeq,
    ) -> Result<Vec<RecordSummary>, ReadError> {
        let (start, end) = (op::outbox_key(stream, from), successor(&op::outbox_key(stream, to)));
        self.summaries(&Span { table: Table::Outbox, start, end })
    }

    /// The record or tombstone at a position, as applied.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn outbox_record(
        &self,
        stream: StreamId,
        seq: RecordSeq,
    ) -> Result<Option<OutboxRecord>, ReadError> {
        let row = self.shared.get(Table::Outbox, &op::outbox_key(stream, seq))?;
        row.map(|row| decode(Table::Outbox, &row)).transpose()
    }

    fn summaries(&self, span: &Span) -> Result<Vec<RecordSummary>, ReadError> {
        let mut rows = Vec::new();
        self.shared.each(span, View::Applied, |_, value| {
            let record: OutboxRecord = decode(Table::Outbox, value)?;
            rows.push(RecordSummary::of(&record));
            Ok(())
        })?;
        Ok(rows)
    }
}

fn state_row(key: &[u8], value: Bytes) -> Option<StateRow> {
    let mut reader = KeyReader::new(key);
    reader.text()?;
    reader.u32()?;
    Some(StateRow { lane: reader.lane()?, key: reader.tail_text()?, value })
}
