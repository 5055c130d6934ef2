//! Which attempt starts next: a suspect, once nothing else is in work; else one of a function that
//! has a slot of its own free; else one of the function whose turn it is. Each starts the oldest of
//! its ready lanes.

use crate::effect::{Attempt, Member, Work};
use crate::id::{AttemptId, FunctionId, JobId};

use super::lane::Head;
use super::{Queue, function_of};

impl Queue {
    /// Notes whether a function may start something. To be called after every change of it.
    pub(super) fn refresh(&mut self, key: &FunctionId) {
        let Some(function) = self.functions.get(key) else { return };
        let waits = function.may_start() && !function.ready.is_empty();
        let own = waits && function.running < function.reserved();
        if !own {
            self.own_ready.remove(key);
        } else if !self.own_ready.contains(key) {
            self.own_ready.insert(key.clone());
        }
        self.fair.wait(key, waits && !own);
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
        let function = match self.own_ready.first() {
            Some(function) => function.clone(),
            None if self.has_common_slot() => self.fair.next()?,
            None => return None,
        };
        let job = self.functions[&function].ready.first().copied();
        Some(job.expect("invariant: a function that may start something has a ready lane"))
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
        let suspect = self.suspects.remove(&id);
        if suspect {
            self.suspect_running = Some(id);
        }
        let lane = function.lanes.get_mut(&job.lane).expect("invariant: a job has a lane");
        assert!(lane.first() == id, "only the head of a lane starts");
        lane.turn_to(Head::Running);
        function.running += 1;
        function.health.started(id);
        self.running += 1;
        if !function.in_own_slots() {
            self.common_running += 1;
            let entry = self.jobs.get_mut(&id).expect("invariant: it was there just now");
            entry.charge = Some(self.fair.begin(&job.function));
        }
        let live = function.live.as_ref().expect("invariant: only live functions start");
        assert!(function.running <= live.cap && self.running <= self.slots, "slots are bounded");
        let attempt = Attempt {
            attempt,
            run,
            after_durable: suspect,
            function: job.function.clone(),
            revision: live.revision,
            state: live.spec.state,
            state_version: live.spec.state_version,
            lane: job.lane,
            work: Work::One(Member {
                job: id,
                tries: job.progress.attempts.saturating_add(job.progress.crashes).saturating_add(1),
                event: job.event,
            }),
        };
        self.refresh(&job.function);
        attempt
    }
}
