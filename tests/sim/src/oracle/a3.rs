//! A3: what an attempt did stands in one batch, and once, also where it was a batch of events; a start
//! finds exactly the rows of the durable batches.

use std::collections::{BTreeMap, BTreeSet};

use edge_agent::store::{Batch, Op};
use edge_core::event::CoreEvent;
use edge_core::id::{AttemptId, BatchSeq, EventId, FunctionId, JobId};
use edge_core::op::{CoreOp, RecordBody};

use super::moved::Moved;
use super::rows::Rows;
use super::{Oracle, hold};
use crate::payload::{self, MessageNo};
use crate::seen::{Promise, Seen};

#[derive(Default)]
pub(super) struct A3 {
    rows: Rows,
    moved: Moved,
    last: BatchSeq,
    promises: BTreeMap<MessageNo, Promise>,
    events: BTreeSet<(FunctionId, EventId)>,
    done: BTreeSet<(FunctionId, MessageNo)>,
    /// The attempt of each job that was started last.
    attempts: BTreeMap<JobId, AttemptId>,
    /// Events that attempts finished, until they are durable.
    together: BTreeMap<AttemptId, BTreeSet<EventId>>,
}

impl Oracle for A3 {
    fn name(&self) -> &'static str {
        "a3"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        self.moved.see(seen);
        match seen {
            Seen::Published(sent) => {
                self.promises.insert(sent.no, sent.promise);
                Ok(())
            }
            Seen::Died => {
                self.attempts.clear();
                self.together.clear();
                Ok(())
            }
            Seen::Core(CoreEvent::Started { job, attempt, .. }) => {
                self.attempts.insert(*job, *attempt);
                Ok(())
            }
            Seen::Core(CoreEvent::Done { job, event, .. }) => {
                if let Some(attempt) = self.attempts.remove(job) {
                    self.together.entry(attempt).or_default().insert(*event);
                }
                Ok(())
            }
            Seen::Durable(batch) => {
                let judged = self.batch(batch);
                self.rows.apply(batch);
                self.last = batch.seq;
                judged
            }
            Seen::Opened { found, last } => {
                hold(*last == self.last, || {
                    format!("a start found batch {last:?}, durable is {:?}", self.last)
                })?;
                match self.rows.difference(found) {
                    Some(difference) => Err(format!("a start found other rows: {difference}")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

impl A3 {
    fn batch(&mut self, batch: &Batch) -> Result<(), String> {
        let parts = Parts::of(batch, &self.moved);
        let recorded: BTreeSet<EventId> =
            parts.records.iter().map(|(_, event, _)| *event).collect();
        // Attempts of which something is durable now; the others are in later batches.
        let ended = self.together.extract_if(.., |_, events| !events.is_disjoint(&recorded));
        for (attempt, events) in ended {
            hold(events.is_subset(&recorded), || {
                format!("{attempt:?} finished {events:?}, and only some of them in one batch")
            })?;
        }
        for (function, event, no) in &parts.records {
            hold(self.events.insert((function.clone(), *event)), || {
                format!("{function} has done event {event} twice (message {no})")
            })?;
            let is_first = self.done.insert((function.clone(), *no));
            let promise = self.promises.get(no).copied();
            hold(is_first || promise != Some(Promise::Once), || {
                format!("{function} has worked on message {no} twice")
            })?;
            let job = self
                .rows
                .jobs
                .iter()
                .find(|(_, (owner, job))| owner == function && job.id == *event);
            hold(job.is_none_or(|(job, _)| parts.finished.contains(job)), || {
                format!("{function} has done event {event}, and its job is not finished")
            })?;
            let is_count = function.as_str().ends_with("/count");
            hold(!is_count || parts.went_on.contains(no), || {
                format!("message {no} is done, and what it caused is not in the same batch")
            })?;
        }
        Ok(())
    }
}

/// What a batch says.
#[derive(Default)]
struct Parts {
    records: Vec<(FunctionId, EventId, MessageNo)>,
    finished: BTreeSet<JobId>,
    /// Messages that the second function of the chain has: as a job, done, or dead.
    went_on: BTreeSet<MessageNo>,
}

impl Parts {
    fn of(batch: &Batch, moved: &Moved) -> Self {
        let mut parts = Self::default();
        for op in &batch.ops {
            let Op::Core(op) = op else { continue };
            let (function, body) = match op {
                CoreOp::FinishJob { job } => {
                    parts.finished.insert(*job);
                    continue;
                }
                CoreOp::AdmitJob(job) => (&job.function, &job.event.payload),
                CoreOp::PutDeadLetter(letter) => (&letter.function, &letter.event.payload),
                CoreOp::AppendOutbox(record) if !moved.has(record) => {
                    let RecordBody::Telemetry { function, event, payload, .. } = &record.body
                    else {
                        continue;
                    };
                    if let Some(no) = payload::number(payload) {
                        parts.records.push((function.clone(), *event, no));
                    }
                    (function, payload)
                }
                _ => continue,
            };
            if function.as_str().ends_with("/relay") {
                parts.went_on.extend(payload::number(body));
            }
        }
        parts
    }
}
