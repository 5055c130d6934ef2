//! Which attempt starts next: a suspect, once nothing else is in work; else the functions that may
//! start something take turns, and each starts the oldest of its ready lanes.

use std::ops::Bound::{Excluded, Unbounded};

use crate::effect::Attempt;
use crate::id::{AttemptId, FunctionId, JobId};

use super::lane::Head;
use super::{Queue, function_of};

impl Queue {
    /// Notes whether a function may start something. To be called after every change of it.
    pub(super) fn refresh(&mut self, key: &FunctionId) {
        let Some(function) = self.functions.get(key) else { return };
        if function.may_start() && !function.ready.is_empty() {
            if !self.eligible.contains(key) {
                self.eligible.insert(key.clone());
            }
        } else {
            self.eligible.remove(key);
        }
    }

    /// Starts one attempt, if a slot is free and something may start.
    pub(crate) fn start(&mut self) -> Option<Attempt> {
        if self.running >= self.slots || self.suspect_running.is_some() {
            return None;
        }
        let job = match self.next_suspect() {
            Some(suspect) if self.running == 0 => suspect,
            // What is in work ends within its time limit; until then nothing new begins.
            Some(_) => return None,
            None => self.next_in_turn()?,
        };
        Some(self.start_job(job))
    }

    /// A job that was in work when the process died, and may start but for what is in work now.
    fn next_suspect(&self) -> Option<JobId> {
        let may_start = |job: &JobId| self.functions[&self.jobs[job].job.function].may_start();
        self.suspects.iter().copied().find(may_start)
    }

    fn next_in_turn(&mut self) -> Option<JobId> {
        let after_last = self.served.as_ref().and_then(|last| {
            self.eligible.range::<FunctionId, _>((Excluded(last), Unbounded)).next()
        });
        let function = after_last.or_else(|| self.eligible.first())?.clone();
        let job = self.functions[&function].ready.first().copied();
        self.served = Some(function);
        Some(job.expect("invariant: an eligible function has a ready lane"))
    }

    fn start_job(&mut self, id: JobId) -> Attempt {
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        let entry = self.jobs.get_mut(&id).expect("invariant: a ready job is in the queue");
        entry.runs += 1;
        entry.attempt = Some(attempt);
        let (job, run) = (entry.job.clone(), entry.runs);
        let function = function_of(&mut self.functions, &job.function);
        function.ready.remove(&id);
        let alone = self.suspects.remove(&id);
        if alone {
            self.suspect_running = Some(id);
        }
        let lane = function.lanes.get_mut(&job.lane).expect("invariant: a job has a lane");
        assert!(lane.first() == id, "only the head of a lane starts");
        lane.turn_to(Head::Running);
        function.running += 1;
        self.running += 1;
        let live = function.live.as_ref().expect("invariant: only live functions start");
        assert!(function.running <= live.cap && self.running <= self.slots, "slots are bounded");
        let attempt = Attempt {
            job: id,
            attempt,
            run,
            alone,
            tries: job.progress.attempts.saturating_add(job.progress.crashes).saturating_add(1),
            function: job.function.clone(),
            revision: live.revision,
            state: live.spec.state,
            state_version: live.spec.state_version,
            lane: job.lane,
            event: job.event,
        };
        self.refresh(&job.function);
        attempt
    }
}
