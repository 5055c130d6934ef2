//! Which attempt starts next: a suspect, once nothing else is in work; else one of a function that
//! has a slot of its own free; else one of the function whose turn it is. Each starts with the oldest
//! of its ready heads, and of a batch trigger with what goes with that.

use crate::effect::{Attempt, Member, Pace, Work};
use crate::id::{AttemptId, FunctionId, JobId, LaneKey};
use crate::time::Millis;

use super::lane::Head;
use super::{Queue, Running, function_of};

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
    pub(crate) fn start(&mut self, now: Millis) -> Option<Attempt> {
        if self.running() >= self.slots || self.suspect_running.is_some() {
            return None;
        }
        let suspect = self.next_suspect();
        let job = match suspect {
            Some(suspect) if self.attempts.is_empty() => suspect,
            // What is in work ends within its time limit; until then nothing new begins.
            Some(_) => return None,
            None => self.next_in_turn()?,
        };
        let batched = self.batched(job);
        let jobs = match &batched {
            Some(batched) if suspect.is_none() => self.batch_of(job, &batched.policy, now),
            _ => vec![job],
        };
        let after = match suspect {
            Some(_) => Some(Pace::Prompt),
            None => batched.map(|batched| batched.pace),
        };
        Some(self.start_jobs(jobs, suspect.is_some(), batched.is_some(), after))
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

    /// Gives jobs to a worker: one, or the `batch` that goes together.
    fn start_jobs(
        &mut self,
        jobs: Vec<JobId>,
        suspect: bool,
        batch: bool,
        after_durable: Option<Pace>,
    ) -> Attempt {
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        self.turn_lanes(&jobs);
        let members: Vec<Member> = jobs.iter().map(|job| self.enlist(*job, attempt)).collect();
        let first = &self.jobs[&jobs[0]];
        let (key, lane, run) = (first.job.function.clone(), first.job.lane.clone(), first.runs);
        let function = function_of(&mut self.functions, &key);
        function.running += 1;
        function.health.started(jobs[0]);
        function.batches += u64::from(batch);
        let charge = (!function.in_own_slots()).then(|| self.fair.begin(&key));
        self.common_running += u16::from(charge.is_some());
        self.suspect_running = suspect.then_some(attempt);
        self.attempts.insert(attempt, Running { function: key.clone(), jobs, batch, charge });
        let running = self.running();
        let function = function_of(&mut self.functions, &key);
        let live = function.live.as_ref().expect("invariant: only live functions start");
        assert!(function.running <= live.cap && running <= self.slots, "slots are bounded");
        let work = if batch { Work::Batch(members) } else { one(members) };
        let attempt = Attempt {
            attempt,
            run,
            after_durable,
            function: key.clone(),
            revision: live.revision,
            state: live.spec.state,
            state_version: live.spec.state_version,
            lane,
            work,
        };
        self.refresh(&key);
        attempt
    }

    /// Jobs start: of one lane its first ones, or each the only one of its lane.
    fn turn_lanes(&mut self, jobs: &[JobId]) {
        for job in jobs {
            self.suspects.remove(job);
        }
        self.take_batch(jobs);
        if matches!(self.jobs[&jobs[0]].job.lane, LaneKey::Job(_)) {
            jobs.iter().for_each(|job| self.head_to(*job, Head::Running(1)));
        } else {
            self.head_to(jobs[0], Head::Running(jobs.len()));
        }
    }

    /// A job becomes part of an attempt.
    fn enlist(&mut self, id: JobId, attempt: AttemptId) -> Member {
        let entry = self.jobs.get_mut(&id).expect("invariant: a ready job is in the queue");
        assert!(entry.attempt.is_none(), "a job has one attempt at a time");
        entry.runs += 1;
        entry.attempt = Some(attempt);
        function_of(&mut self.functions, &entry.job.function).idle.remove(&id);
        let progress = &entry.job.progress;
        let tries = progress.attempts.saturating_add(progress.crashes).saturating_add(1);
        Member { job: id, tries, event: entry.job.event.clone() }
    }
}

fn one(members: Vec<Member>) -> Work {
    let [member] = <[Member; 1]>::try_from(members)
        .unwrap_or_else(|members| panic!("invariant: {} events are a batch", members.len()));
    Work::One(member)
}
