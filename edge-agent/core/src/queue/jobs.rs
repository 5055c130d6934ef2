//! The life of a job in the queue: into its lane, to its head, out.

use crate::id::{AttemptId, FunctionId, JobId, LaneKey};
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
        self.hurry(&function, self.room(&function, 1, 0));
        self.refresh(&function);
    }

    /// Takes a job out that no worker has.
    pub(crate) fn end(&mut self, id: JobId, now: Millis) -> Job {
        assert!(self.entry(id).attempt.is_none(), "an attempt ends before its jobs");
        self.unplace(id);
        self.ages.clear(&id);
        let entry = self.jobs.remove(&id).expect("invariant: only jobs of the queue are ended");
        let job = entry.job;
        let function = function_of(&mut self.functions, &job.function);
        function.jobs.remove(&id);
        function.idle.remove(&id);
        self.shares.remove(&mut function.used, entry.cost);
        let lane = function.lanes.get_mut(&job.lane).expect("invariant: a job has a lane");
        let was_head = lane.remove(id);
        if lane.is_empty() {
            function.lanes.remove(&job.lane);
        } else if was_head {
            let next = lane.first();
            self.place(next, now);
        } else {
            self.regroup(&job.function, &job.lane, now);
        }
        self.freed.insert(job.function.clone());
        self.relieve(&job.function);
        self.refresh(&job.function);
        job
    }

    /// An attempt is over: its jobs keep their places, for the caller to end or change them.
    pub(crate) fn leave(&mut self, attempt: AttemptId, now: Millis) -> Vec<JobId> {
        let running = self.attempts.remove(&attempt);
        let running = running.expect("invariant: only a running attempt ends");
        if self.suspect_running == Some(attempt) {
            self.suspect_running = None;
        }
        let function = function_of(&mut self.functions, &running.function);
        assert!(function.running > 0, "running attempts are counted");
        if !function.in_own_slots() {
            self.common_running -= 1;
        }
        function.running -= 1;
        function.health.stopped(running.jobs[0]);
        for id in &running.jobs {
            let entry = self.jobs.get_mut(id).expect("invariant: a running job is in the queue");
            assert!(entry.attempt.take() == Some(attempt), "a job has one attempt at a time");
            function.idle.insert(*id);
            if let Some(at) = entry.too_old_at {
                self.ages.set(*id, at);
            }
        }
        for id in &running.jobs {
            if self.is_head(*id) {
                self.head_to(*id, Head::Ready);
                self.place(*id, now);
            }
        }
        self.refresh(&running.function);
        running.jobs
    }

    /// New progress of a job that is not running.
    pub(crate) fn set_progress(&mut self, id: JobId, progress: Progress, now: Millis) {
        assert!(self.entry(id).attempt.is_none(), "progress of a running job is its outcome's");
        let was_head = self.unplace(id);
        let entry = self.jobs.get_mut(&id).expect("invariant: only jobs of the queue");
        entry.runs = entry.runs.max(progress.runs);
        entry.job.progress = progress;
        let (function, lane) = (entry.job.function.clone(), entry.job.lane.clone());
        if was_head {
            self.place(id, now);
        } else {
            self.regroup(&function, &lane, now);
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
        function.idle.insert(id);
        let is_head = function.join_lane(job.lane.clone(), id);
        let runs = job.progress.runs;
        let batch_max = u16::MAX;
        self.jobs.insert(id, Entry { job, cost, attempt: None, runs, batch_max, too_old_at: None });
        if is_head {
            // A new job has no time before which it may not start; a restored one waits for it.
            self.place(id, Millis(0));
        } else {
            self.joined(id);
        }
    }

    /// Puts a ready head where it belongs: among the waiting, the suspects, those that wait for
    /// company or the ready.
    pub(super) fn place(&mut self, id: JobId, now: Millis) {
        let progress = &self.entry(id).job.progress;
        let (not_before, suspect) = (progress.not_before, progress.crashes > 0);
        if not_before > now {
            self.head_to(id, Head::Waiting);
            self.retries.set(id, not_before);
        } else if suspect {
            self.suspects.insert(id);
        } else {
            self.place_ready(id, now);
        }
    }

    /// Takes a job that is not running from where [`Queue::place`] put it. Returns whether it is
    /// the head of its lane.
    pub(super) fn unplace(&mut self, id: JobId) -> bool {
        let job = &self.jobs[&id].job;
        let function = function_of(&mut self.functions, &job.function);
        let lane = function.lanes.get_mut(&job.lane).expect("invariant: a job has a lane");
        if lane.first() != id {
            return false;
        }
        if lane.head() == Head::Waiting {
            lane.turn_to(Head::Ready);
        }
        self.suspects.remove(&id);
        self.retries.clear(&id);
        self.unplace_ready(id);
        true
    }

    fn is_head(&self, id: JobId) -> bool {
        let job = &self.jobs[&id].job;
        self.functions[&job.function].lanes[&job.lane].first() == id
    }

    pub(super) fn head_to(&mut self, id: JobId, head: Head) {
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
