//! A5: one attempt at a time in a lane; a lane's jobs are done in order of arrival, and in the store
//! none is done while an earlier one is not.

use std::collections::{BTreeMap, BTreeSet};

use edge_agent::store::{Batch, Op};
use edge_core::event::CoreEvent;
use edge_core::id::{AttemptId, DeviceId, EventId, FunctionId, JobId, LaneKey};
use edge_core::op::{CoreOp, Event};

use super::rows::Rows;
use super::{Oracle, hold};
use crate::seen::Seen;

type Lane = (FunctionId, LaneKey);

#[derive(Default)]
pub(super) struct A5 {
    rows: Rows,
    life: Life,
}

/// What is known of one life of the gateway.
#[derive(Default)]
struct Life {
    running: BTreeMap<Lane, AttemptId>,
    lane_of: BTreeMap<JobId, Lane>,
    /// The last job of each lane that was done.
    done: BTreeMap<Lane, JobId>,
}

impl Oracle for A5 {
    fn name(&self) -> &'static str {
        "a5"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Died | Seen::Opened { .. } => self.life = Life::default(),
            Seen::Run { jobs, attempt, function, lane, .. } => {
                return self.life.run(jobs, *attempt, function, lane);
            }
            Seen::Ran { attempt, .. } => {
                self.life.running.retain(|_, running| running != attempt);
            }
            Seen::Core(CoreEvent::Done { job, .. }) => return self.life.is_done(*job),
            Seen::Durable(batch) => return self.batch(batch),
            _ => {}
        }
        Ok(())
    }
}

impl Life {
    fn run(
        &mut self,
        jobs: &[JobId],
        attempt: AttemptId,
        function: &FunctionId,
        lane: &LaneKey,
    ) -> Result<(), String> {
        hold(jobs.is_sorted(), || format!("{lane:?}: {jobs:?} are given out of order"))?;
        let mut lanes = BTreeSet::new();
        for job in jobs {
            // Without order each job is alone in its lane.
            let lane = if let LaneKey::Job(_) = lane { LaneKey::Job(*job) } else { lane.clone() };
            let lane = (function.clone(), lane);
            self.lane_of.insert(*job, lane.clone());
            lanes.insert(lane);
        }
        for lane in lanes {
            let other = self.running.insert(lane.clone(), attempt);
            hold(other.is_none(), || format!("{lane:?}: {jobs:?} run beside {other:?}"))?;
        }
        Ok(())
    }

    fn is_done(&mut self, job: JobId) -> Result<(), String> {
        let Some(lane) = self.lane_of.get(&job) else { return Ok(()) };
        let before = self.done.insert(lane.clone(), job);
        hold(before.is_none_or(|before| before < job), || {
            format!("{lane:?}: {job:?} is done after {before:?}")
        })
    }
}

impl A5 {
    /// A checkpoint never passes an unfinished event. One that was given up ends out of order.
    fn batch(&mut self, batch: &Batch) -> Result<(), String> {
        let mut dead: BTreeSet<(FunctionId, EventId)> = BTreeSet::new();
        let mut ended = Vec::new();
        for op in &batch.ops {
            match op {
                Op::Core(CoreOp::PutDeadLetter(letter)) => {
                    dead.insert((letter.function.clone(), letter.event.id));
                }
                Op::Core(CoreOp::FinishJob { job }) => {
                    ended.extend(self.rows.jobs.get(job).cloned().map(|row| (*job, row)));
                }
                _ => {}
            }
        }
        self.rows.apply(batch);
        ended.retain(|(_, (function, event))| !dead.contains(&(function.clone(), event.id)));
        for (job, (function, event)) in ended {
            let Some(lane) = lane(&function, &event) else { continue };
            let mut before = self.rows.jobs.range(..job);
            let passed = before.find(|(_, (other, event))| {
                *other == function && self::lane(other, event).as_ref() == Some(&lane)
            });
            hold(passed.is_none(), || {
                format!("{function} {lane:?}: {job:?} is done, and {passed:?} before it is not")
            })?;
        }
        Ok(())
    }
}

/// The lane of an event of a function with order.
fn lane(function: &FunctionId, event: &Event) -> Option<LaneKey> {
    match function.as_str().rsplit('/').next() {
        Some("count" | "tally") => {
            Some(LaneKey::Device(event.device.clone().unwrap_or(DeviceId::new(""))))
        }
        Some("relay") => Some(LaneKey::Function),
        _ => None,
    }
}
