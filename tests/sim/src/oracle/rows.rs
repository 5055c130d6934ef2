//! Rows as the durable batches make them: a plain model of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use edge_agent::store::{Batch, Op, ReadError, Reader};
use edge_core::id::{EventId, FunctionId, JobId, RecordSeq, StreamId};
use edge_core::op::{CoreOp, Event, StateKey};

use crate::app::{APP, FUNCTIONS};

/// Versions of state that are looked for; more than a simulation makes.
const STATE_VERSIONS: u32 = 40;
/// Rows read of one table; more than a simulation makes.
const ROWS_MAX: usize = 100_000;
/// Bytes read of one table.
const BYTES_MAX: usize = 1 << 30;

/// The rows that the oracles look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Waiting jobs.
    pub jobs: BTreeMap<JobId, (FunctionId, Arc<Event>)>,
    /// State of functions.
    pub state: BTreeMap<StateKey, Bytes>,
    /// Dead letters.
    pub letters: BTreeSet<(FunctionId, EventId)>,
    /// Positions of the outbox.
    pub outbox: BTreeSet<(StreamId, RecordSeq)>,
}

impl Rows {
    /// Applies a batch.
    pub(super) fn apply(&mut self, batch: &Batch) {
        for op in &batch.ops {
            if let Op::Core(op) = op {
                self.op(op);
            }
        }
    }

    /// Applies an operation.
    pub(super) fn op(&mut self, op: &CoreOp) {
        match op {
            CoreOp::AdmitJob(job) => {
                let row = (job.function.clone(), Arc::clone(&job.event));
                self.jobs.insert(job.id, row);
            }
            CoreOp::FinishJob { job } => {
                self.jobs.remove(job);
            }
            CoreOp::PutState { key, value } => {
                self.state.insert(key.clone(), value.clone());
            }
            CoreOp::DeleteState { key } => {
                self.state.remove(key);
            }
            CoreOp::DropState { function, state_version } => {
                self.state.retain(|key, _| {
                    key.function != *function || key.state_version != *state_version
                });
            }
            CoreOp::AppendOutbox(record) => {
                self.outbox.insert((record.stream, record.seq));
            }
            CoreOp::AckOutboxTo { stream, seq } => {
                self.outbox.retain(|(of, at)| of != stream || at > seq);
            }
            CoreOp::DropOutbox { stream, from, to, .. } => {
                // Its tombstone is a record of its own.
                self.outbox.retain(|(of, at)| of != stream || at < from || at > to);
            }
            CoreOp::PutDeadLetter(letter) => {
                self.letters.insert((letter.function.clone(), letter.event.id));
            }
            CoreOp::DeleteDeadLetter { function, event } => {
                self.letters.remove(&(function.clone(), *event));
            }
            CoreOp::DeleteOutbox { stream, seq } => {
                self.outbox.remove(&(*stream, *seq));
            }
            CoreOp::UpdateJob { .. }
            | CoreOp::PutPause(_)
            | CoreOp::DeletePause { .. }
            | CoreOp::PutOutboxChunk { .. }
            | CoreOp::DeleteOutboxChunk { .. }
            | CoreOp::PutDedupe(_)
            | CoreOp::DeleteDedupe { .. }
            | CoreOp::PutProbation(_)
            | CoreOp::DeleteProbation { .. }
            | CoreOp::PutScheduleMark { .. } => {}
        }
    }

    /// The rows of a store that was just opened.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(reader: &Reader) -> Result<Self, ReadError> {
        let core = reader.core_rows()?;
        let jobs = core.jobs.into_iter().map(|job| (job.id, (job.function, job.event)));
        let letters = core.dead_letters.into_iter().map(|letter| (letter.function, letter.event));
        let mut rows = Self { jobs: jobs.collect(), letters: letters.collect(), ..Self::default() };
        for name in FUNCTIONS {
            let function = FunctionId::new(&format!("{APP}/{name}"));
            for state_version in 1..=STATE_VERSIONS {
                for row in reader.state_rows(&function, state_version, None, ROWS_MAX)? {
                    let function = function.clone();
                    let key = StateKey { function, state_version, lane: row.lane, key: row.key };
                    rows.state.insert(key, row.value);
                }
            }
        }
        for stream in StreamId::ALL {
            let records = reader.outbox_read(stream, RecordSeq(1), ROWS_MAX, BYTES_MAX)?;
            rows.outbox.extend(records.into_iter().map(|record| (stream, record.seq)));
        }
        Ok(rows)
    }

    /// Where `found` differs; `None` where it does not.
    pub(super) fn difference(&self, found: &Self) -> Option<String> {
        let jobs = differ("jobs", self.jobs.keys(), found.jobs.keys());
        let letters = differ("dead letters", self.letters.iter(), found.letters.iter());
        let outbox = differ("outbox", self.outbox.iter(), found.outbox.iter());
        let state = differ("state", self.state.iter(), found.state.iter());
        jobs.or(letters).or(outbox).or(state)
    }
}

fn differ<T: Ord + std::fmt::Debug>(
    what: &str,
    wanted: impl Iterator<Item = T>,
    found: impl Iterator<Item = T>,
) -> Option<String> {
    let wanted: BTreeSet<T> = wanted.collect();
    let found: BTreeSet<T> = found.collect();
    let lost = wanted.difference(&found).next();
    let strange = found.difference(&wanted).next();
    if lost.is_none() && strange.is_none() {
        return None;
    }
    Some(format!("{what}: missing {lost:?}, too much {strange:?}"))
}
