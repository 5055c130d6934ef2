//! A5: one attempt at a time in a lane; a lane's jobs are done in order of arrival.

use std::collections::BTreeMap;

use edge_core::event::CoreEvent;
use edge_core::id::{FunctionId, JobId, LaneKey};

use super::{Oracle, hold};
use crate::seen::Seen;

type Lane = (FunctionId, LaneKey);

#[derive(Default)]
pub(super) struct A5 {
    running: BTreeMap<Lane, JobId>,
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
            Seen::Died | Seen::Opened { .. } => *self = Self::default(),
            Seen::Run { job, function, lane, .. } => {
                let lane = ((*function).clone(), (*lane).clone());
                self.lane_of.insert(*job, lane.clone());
                let other = self.running.insert(lane.clone(), *job);
                hold(other.is_none(), || format!("{lane:?}: {job:?} runs beside {other:?}"))?;
            }
            Seen::Ran { job, .. } => {
                self.running.retain(|_, running| running != job);
            }
            Seen::Core(CoreEvent::Done { job, .. }) => {
                let Some(lane) = self.lane_of.get(job) else { return Ok(()) };
                let before = self.done.insert(lane.clone(), *job);
                hold(before.is_none_or(|before| before < *job), || {
                    format!("{lane:?}: {job:?} is done after {before:?}")
                })?;
            }
            _ => {}
        }
        Ok(())
    }
}
