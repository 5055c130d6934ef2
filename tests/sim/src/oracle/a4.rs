//! A4: an outcome applies only if its (job, attempt) is the live one.

use std::collections::BTreeMap;

use edge_core::event::CoreEvent;
use edge_core::id::{AttemptId, JobId};

use super::{Oracle, hold};
use crate::seen::Seen;

#[derive(Default)]
pub(super) struct A4 {
    /// The attempt of each job that was started last.
    live: BTreeMap<JobId, AttemptId>,
    /// The attempt of each job that was handed back last.
    back: BTreeMap<JobId, AttemptId>,
}

impl Oracle for A4 {
    fn name(&self) -> &'static str {
        "a4"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            // Numbers of jobs that are gone may be used again.
            Seen::Died | Seen::Opened { .. } => {
                self.live.clear();
                self.back.clear();
                Ok(())
            }
            Seen::Core(CoreEvent::Started { job, attempt, .. }) => {
                let before = self.live.insert(*job, *attempt);
                hold(before.is_none_or(|before| before < *attempt), || {
                    format!("{job:?}: {attempt:?} starts after {before:?}")
                })
            }
            Seen::Ran { jobs, attempt } => {
                self.back.extend(jobs.iter().map(|job| (*job, *attempt)));
                Ok(())
            }
            Seen::Core(CoreEvent::Done { job, .. }) => {
                let (live, back) = (self.live.get(job), self.back.get(job));
                hold(live.is_some() && live == back, || {
                    format!("{job:?}: an outcome applied; live is {live:?}, back came {back:?}")
                })
            }
            _ => Ok(()),
        }
    }
}
