//! The life of a job in the queue: into its lane, to its head, out.

use crate::id::{FunctionId, JobId, LaneKey};
use crate::op::{Job, Progress};
use crate::order::{Subject, lane};
use crate::time::Millis;

use super::function::Function;
use super::lane::{Head, Lane};
use super::shares::Used;
use super::{Entry, Queue, function_of};

impl Queue {
    /// Takes a row of the store. Rows come in order of their ids. The job's function sleeps until
    /// it is installed.
    pub(crate) fn restore(&mut self, job: Job) {
        self.next_job = self.next_job.max(job.id.0.saturating_add(1));
        self.insert(job);
    }

    pub(crate) fn next_id(&mut self) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        id
    }

    /// Puts a new job into its lane. Whether there is room is the caller's business.
    pub(crate) fn admit(&mut self, job: Job, too_old_at: Millis) {
        let (id, function) = (job.id, job.function.clone());
        self.insert(job);
        self.set_too_old_at(id, too_old_at);
        self.refresh(&function);
    }

    /// Takes a job out, running or not.
    pub(crate) fn end(&mut self, id: JobId, now: Millis) -> Job {
        if self.entry(id).attempt.is_some() {
            self.stop_attempt(id);
        } else {
            self.unplace(id);
        }
        self.ages.clear(&id);
        let entry = self.jobs.remove(&id).expect("invariant: only jobs of the queue are ended");
        let job = entry.job;
        let function = function_of(&mut self.functions, &job.function);
        function.jobs.remove(&id);
        self.shares.remove(&mut function.used, entry.cost);
        let lane = function.lanes.get_mut(&job.lane).expect("invariant: a job has a lane");
        let was_head = lane.remove(id);
        if lane.is_empty() {
            function.lanes.remove(&job.lane);
        } else if was_head {
            let next = lane.first();
            self.place(next, now);
        }
        self.freed.insert(job.function.clone());
        self.relieve(&job.function);
        self.refresh(&job.function);
        job
    }

    /// The running attempt is over; the job keeps its place, with new progress if it made some.
    pub(crate) fn put_back(&mut self, id: JobId, progress: Option<Progress>, now: Millis) {
        self.stop_attempt(id);
        let entry = self.jobs.get_mut(&id).expect("invariant: a running job is in the queue");
        if let Some(progress) = progress {
            entry.job.progress = progress;
        }
        let (function, too_old_at) = (entry.job.function.clone(), entry.too_old_at);
        if let Some(at) = too_old_at {
            self.ages.set(id, at);
        }
        self.place(id, now);
        self.refresh(&function);
    }

    /// New progress of a job that is not running.
    pub(crate) fn set_progress(&mut self, id: JobId, progress: Progress, now: Millis) {
        assert!(self.entry(id).attempt.is_none(), "progress of a running job is its outcome's");
        let was_head = self.unplace(id);
        let entry = self.jobs.get_mut(&id).expect("invariant: only jobs of the queue");
        entry.runs = entry.runs.max(progress.runs);
        entry.job.progress = progress;
        let function = entry.job.function.clone();
        if was_head {
            self.place(id, now);
        }
        self.refresh(&function);
    }

    /// The next try of a head has come.
    pub(super) fn wake(&mut self, id: JobId, now: Millis) {
        self.head_to(id, Head::Ready);
        self.place(id, now);
        let function = self.entry(id).job.function.clone();
        self.refresh(&function);
    }

    /// Lays out a function's lanes anew after its order changed. Nothing of it runs.
    pub(super) fn lay_lanes(&mut self, key: &FunctionId, now: Millis) {
        let function = function_of(&mut self.functions, key);
        let lanes = function.lanes_by().cloned();
        let jobs: Vec<JobId> = function.jobs.iter().copied().collect();
        for id in &jobs {
            self.unplace(*id);
        }
        function_of(&mut self.functions, key).lanes.clear();
        for id in &jobs {
            let entry = self.jobs.get_mut(id).expect("invariant: a function's jobs exist");
            entry.job.lane = lane(lanes.as_ref(), Subject::from(&*entry.job.event), *id);
            let lane = entry.job.lane.clone();
            if function_of(&mut self.functions, key).join_lane(lane, *id) {
                self.place(*id, now);
            }
        }
    }

    fn insert(&mut self, mut job: Job) {
        let id = job.id;
        let cost = Used { jobs: 1, bytes: job.event.cost_bytes() as u64 };
        // One name for all jobs of a function, not one copy each.
        match self.functions.get_key_value(&job.function) {
            Some((name, _)) => job.function = name.clone(),
            None => {
                self.functions.insert(job.function.clone(), Function::default());
                self.divide();
            }
        }
        let function = function_of(&mut self.functions, &job.function);
        self.shares.add(&mut function.used, cost);
        assert!(function.jobs.insert(id), "a job is in the queue once");
        let is_head = function.join_lane(job.lane.clone(), id);
        let runs = job.progress.runs;
        self.jobs
            .insert(id, Entry { job, cost, attempt: None, charge: None, runs, too_old_at: None });
        if is_head {
            // A new job has no time before which it may not start; a restored one waits for it.
            self.place(id, Millis(0));
        }
    }

    /// Puts a ready head where it belongs: among the waiting, the suspects or the ready.
    fn place(&mut self, id: JobId, now: Millis) {
        let progress = &self.entry(id).job.progress;
        let (not_before, suspect) = (progress.not_before, progress.crashes > 0);
        if not_before > now {
            self.head_to(id, Head::Waiting);
            self.retries.set(id, not_before);
        } else if suspect {
            self.suspects.insert(id);
        } else {
            let function = &self.jobs[&id].job.function;
            function_of(&mut self.functions, function).ready.insert(id);
        }
    }

    /// Takes a job that is not running from where [`Queue::place`] put it. Returns whether it is
    /// the head of its lane.
    fn unplace(&mut self, id: JobId) -> bool {
        let job = &self.jobs[&id].job;
        let function = function_of(&mut self.functions, &job.function);
        let lane = function.lanes.get_mut(&job.lane).expect("invariant: a job has a lane");
        if lane.first() != id {
            return false;
        }
        if lane.head() == Head::Waiting {
            lane.turn_to(Head::Ready);
        }
        function.ready.remove(&id);
        self.suspects.remove(&id);
        self.retries.clear(&id);
        true
    }

    fn stop_attempt(&mut self, id: JobId) {
        self.head_to(id, Head::Ready);
        let entry = self.jobs.get_mut(&id).expect("invariant: a running job is in the queue");
        assert!(entry.attempt.take().is_some(), "only a running attempt ends");
        let function = function_of(&mut self.functions, &entry.job.function);
        assert!(function.running > 0 && self.running > 0, "running attempts are counted");
        if !function.in_own_slots() {
            self.common_running -= 1;
        }
        function.running -= 1;
        function.health.stopped(id);
        self.running -= 1;
        if self.suspect_running == Some(id) {
            self.suspect_running = None;
        }
    }

    fn head_to(&mut self, id: JobId, head: Head) {
        let job = &self.jobs[&id].job;
        let function = function_of(&mut self.functions, &job.function);
        let lane = function.lanes.get_mut(&job.lane).expect("invariant: a job has a lane");
        assert!(lane.first() == id, "only a head has a state");
        lane.turn_to(head);
    }

    fn entry(&self, id: JobId) -> &Entry {
        self.jobs.get(&id).expect("invariant: only jobs of the queue are asked for")
    }
}

impl Function {
    /// Returns whether the job is the head of its lane.
    fn join_lane(&mut self, lane: LaneKey, job: JobId) -> bool {
        match self.lanes.get_mut(&lane) {
            Some(lane) => {
                lane.push(job);
                false
            }
            None => {
                self.lanes.insert(lane, Lane::new(job));
                true
            }
        }
    }
}
