//! A store as the operations describe it: rows by key.

use super::*;
use crate::op::{DedupeRow, RecordBody};
use crate::outbox::RecordSummary;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Store {
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) state: BTreeMap<StateKey, Bytes>,
    pub(super) records: BTreeMap<(StreamId, RecordSeq), OutboxRecord>,
    chunks: BTreeMap<(StreamId, RecordSeq), OutboxChunk>,
    stored_to: BTreeMap<StreamId, RecordSeq>,
    dedupe: BTreeMap<(DeviceId, u64, u64), DedupeRow>,
    pub(super) letters: BTreeMap<(EventId, FunctionId), DeadLetter>,
    pub(super) marks: BTreeMap<TriggerId, u64>,
    pub(super) probations: BTreeMap<String, ProbationMark>,
    pub(super) pauses: BTreeMap<FunctionId, PauseRow>,
}

impl Store {
    pub(super) fn apply(&mut self, op: &CoreOp) {
        match op.clone() {
            CoreOp::AdmitJob(job) => {
                let twice = self.jobs.insert(job.id, *job);
                assert!(twice.is_none(), "a job row is made once");
            }
            CoreOp::UpdateJob { job, progress } => {
                self.jobs.get_mut(&job).expect("an update finds its job").progress = progress;
            }
            CoreOp::FinishJob { job } => {
                assert!(self.jobs.remove(&job).is_some(), "a job row is removed once");
            }
            CoreOp::PutState { key, value } => {
                self.state.insert(key, value);
            }
            CoreOp::DeleteState { key } => {
                self.state.remove(&key);
            }
            CoreOp::DropState { function, state_version } => self
                .state
                .retain(|key, _| key.function != function || key.state_version != state_version),
            CoreOp::AppendOutbox(record) => {
                let stone = matches!(record.body, RecordBody::Tombstone { .. });
                let twice = self.records.insert((record.stream, record.seq), *record);
                assert!(twice.is_none() || stone, "a position is used once");
            }
            CoreOp::DeleteOutbox { stream, seq } => {
                self.records.remove(&(stream, seq));
            }
            CoreOp::AckOutboxTo { stream, seq } => {
                self.stored_to.insert(stream, seq);
                self.records.retain(|(s, n), _| *s != stream || *n > seq);
            }
            CoreOp::DropOutbox { stream, from, to, .. } => {
                self.records.retain(|(s, n), _| *s != stream || *n < from || *n > to);
            }
            CoreOp::PutOutboxChunk { stream, chunk } => {
                self.chunks.insert((stream, chunk.first), chunk);
            }
            CoreOp::DeleteOutboxChunk { stream, first } => {
                self.chunks.remove(&(stream, first));
            }
            CoreOp::PutDedupe(row) => {
                self.dedupe.insert((row.device.clone(), row.boot, row.block), row);
            }
            CoreOp::DeleteDedupe { device, boot, blocks } => blocks.into_iter().for_each(|b| {
                self.dedupe.remove(&(device.clone(), boot, b));
            }),
            CoreOp::PutDeadLetter(letter) => {
                self.letters.insert((letter.event.id, letter.function.clone()), *letter);
            }
            CoreOp::DeleteDeadLetter { function, event } => {
                self.letters.remove(&(event, function));
            }
            CoreOp::PutProbation(mark) => {
                self.probations.insert(mark.app.clone(), *mark);
            }
            CoreOp::DeleteProbation { app } => {
                self.probations.remove(&app);
            }
            CoreOp::PutScheduleMark { trigger, slot_s } => {
                self.marks.insert(trigger, slot_s);
            }
            CoreOp::PutPause(row) => {
                self.pauses.insert(row.function.clone(), *row);
            }
            CoreOp::DeletePause { function } => {
                self.pauses.remove(&function);
            }
        }
    }

    pub(super) fn rows(&self) -> Rows {
        let key = |letter: &DeadLetter| DeadLetterKey {
            at: letter.at,
            function: letter.function.clone(),
            event: letter.event.id,
        };
        Rows {
            jobs: self.jobs.values().rev().cloned().collect(),
            dedupe: self.dedupe.values().cloned().collect(),
            dead_letters: self.letters.values().map(key).collect(),
            outbox: StreamId::ALL.into_iter().map(|stream| self.outbox(stream)).collect(),
            schedule_marks: self.marks.iter().map(|(t, slot)| (t.clone(), *slot)).collect(),
            probations: self.probations.values().cloned().collect(),
            pauses: self.pauses.values().cloned().collect(),
        }
    }

    /// Bodies of a stream's records, oldest first.
    pub(super) fn bodies(&self, stream: StreamId) -> Vec<&RecordBody> {
        let of_stream = self.records.iter().filter(|((s, _), _)| *s == stream);
        of_stream.map(|(_, record)| &record.body).collect()
    }

    fn outbox(&self, stream: StreamId) -> OutboxRows {
        let mine = |s: &StreamId| *s == stream;
        let chunks: Vec<_> = self
            .chunks
            .iter()
            .filter(|((s, _), _)| mine(s))
            .map(|(_, chunk)| chunk.clone())
            .collect();
        let above = chunks.iter().map(|chunk| chunk.last).max().unwrap_or_default();
        let tail = self.records.iter().filter(|((s, n), _)| mine(s) && *n > above);
        OutboxRows {
            stream,
            stored_to: self.stored_to.get(&stream).copied().unwrap_or_default(),
            tail: tail.map(|(_, record)| RecordSummary::of(record)).collect(),
            chunks,
        }
    }
}
