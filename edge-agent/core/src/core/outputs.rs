//! What finished events leave behind: state, records, publishes, and word of their end.
//!
//! # Rules
//! - What was made for one event belongs to it: its id, its device, one hop more than it had.
//! - What was made for a batch as a whole belongs to the first event of it that is finished, with one
//!   hop more than any event of the batch had: a loop through batches ends as well.

use std::sync::Arc;

use crate::destination::Made;
use crate::effect::Pace;
use crate::event::CoreEvent;
use crate::id::FunctionId;
use crate::message::{Message, Origin};
use crate::op::{CoreOp, Job, RecordBody, StateKey};
use crate::outcome::{Outputs, Publish, Record, Segment, StateChange};
use crate::turn::Turn;

use super::Core;
use super::admit::{Cause, pace_of};

/// For whom something was made.
#[derive(Clone, Copy)]
struct Author<'j> {
    job: &'j Job,
    /// Of its position in the batch; `None`: of all of it.
    of: Option<usize>,
    hops: u8,
}

impl Core {
    /// Commits what was made for these jobs of one attempt, which have ended, in order of their
    /// positions. `hops` is the highest number of any event of the attempt.
    pub(super) fn commit_done(
        &mut self,
        done: &[(u16, Job)],
        hops: u8,
        segments: Vec<Segment>,
        turn: &mut Turn<'_>,
    ) {
        let first = &done[0].1;
        let trigger = self.trigger(&first.event.trigger);
        let pace = trigger.as_deref().map_or(Pace::Prompt, pace_of);
        let is_told = trigger.as_ref().is_some_and(|trigger| trigger.on_success.is_some());
        let silent = !is_told && segments.iter().all(|made| made.outputs == Outputs::default());
        for (_, job) in done {
            turn.op(CoreOp::FinishJob { job: job.id }, if silent { Pace::Lazy } else { pace });
        }
        let state_version = self.queue.state_version(&first.function);
        let mut made = vec![Made::default(); done.len()];
        let (mut records, mut publishes) = (Vec::new(), Vec::new());
        for Segment { of, outputs } in segments {
            let author = match of {
                None => Author { job: first, of: None, hops },
                Some(of) => {
                    let at = done.binary_search_by_key(&of, |(index, _)| *index);
                    let at =
                        at.expect("invariant: what is committed was made for a finished event");
                    Author { job: &done[at].1, of: Some(at), hops: done[at].1.event.hops }
                }
            };
            if let Some(at) = author.of {
                made[at].add(&outputs);
            }
            outputs
                .state
                .into_iter()
                .for_each(|change| put(first, state_version, change, pace, turn));
            records.extend(outputs.records.into_iter().map(|record| (author, record)));
            publishes.extend(outputs.publishes.into_iter().map(|publish| (author, publish)));
        }
        for (author, record) in records {
            self.record(author.job, record, pace, turn);
        }
        for (_, job) in done {
            turn.event(CoreEvent::Done {
                job: job.id,
                function: job.function.clone(),
                event: job.event.id,
                message_id: job.event.message_id.clone(),
            });
        }
        for (author, publish) in publishes {
            let message = message(author, publish, turn);
            self.spread(message, Cause::Outcome(&first.function), pace, turn);
        }
        if let Some(trigger) = trigger {
            for ((_, job), made) in done.iter().zip(made) {
                self.tell_success(&trigger, job, made, pace, turn);
            }
        }
    }

    fn record(&mut self, job: &Job, record: Record, pace: Pace, turn: &mut Turn<'_>) {
        let policy = self.apps.series_policy(job.function.app(), &record.name);
        let body = RecordBody::Telemetry {
            function: job.function.clone(),
            event: job.event.id,
            device: job.event.device.clone(),
            name: record.name,
            payload: record.payload,
            content_type: record.content_type,
        };
        self.outbox.append_series(policy, body, pace, turn);
    }
}

/// State is the lane's, and all events of an attempt that has some are of one lane.
fn put(job: &Job, state_version: u32, change: StateChange, pace: Pace, turn: &mut Turn<'_>) {
    let function: FunctionId = job.function.clone();
    let key = StateKey { function, state_version, lane: job.lane.clone(), key: change.key };
    let op = match change.value {
        Some(value) => CoreOp::PutState { key, value },
        None => CoreOp::DeleteState { key },
    };
    turn.op(op, pace);
}

/// A publish, to be routed to triggers and handed to the broker.
fn message(author: Author<'_>, publish: Publish, turn: &Turn<'_>) -> Arc<Message> {
    let Author { job, hops, .. } = author;
    Arc::new(Message {
        topic: publish.topic,
        payload: publish.payload,
        qos: publish.qos,
        retain: publish.retain,
        properties: publish.properties,
        expiry_s: None,
        origin: Origin::Function { function: job.function.clone(), event: job.event.id },
        device: job.event.device.clone(),
        hops: hops.saturating_add(1),
        at: turn.at(),
        wall: turn.now.wall,
    })
}
