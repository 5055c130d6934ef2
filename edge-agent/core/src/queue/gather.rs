//! Which events go together in a batch, and when it starts.
//!
//! # Rules
//! - A batch holds events of one trigger. With order they are the first of one lane, without gaps;
//!   without, the oldest that may start. An event that waits for its next try ends it, and so does a
//!   suspect, which runs alone.
//! - It starts when its trigger's size or bytes are reached, when its oldest event was admitted a
//!   window ago, or when nothing more can join it. Events that were tried before wait for nobody, and
//!   neither does a function without room for one more job. Bytes may be short before that: an event
//!   that finds no room starts what waits ([`Queue::hurry`]).
//! - An event may have a limit: no batch that it is in is larger. It is known to this process only
//!   ([`Queue::halve`], [`Queue::limit_all`]).
//!
//! # Invariants
//! - A job that waits for company has a time at which it stops waiting.
//! - No job of a function begins to wait while it has no room for one more, and none goes on waiting
//!   once its own jobs took the last of it.
//! - What is looked at for an event that comes is bounded by the size of one batch.

use std::collections::BTreeSet;

use crate::id::{FunctionId, JobId, LaneKey, TriggerId};
use crate::release::BatchPolicy;
use crate::time::Millis;

use super::function::{Batched, Function};
use super::{Entry, Queue, Room, function_of};

/// Events that would go together, as far as they are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    jobs: u16,
    jobs_max: u16,
    bytes: u64,
    bytes_max: u64,
}

impl Group {
    fn new(policy: &BatchPolicy) -> Self {
        Self {
            jobs: 0,
            jobs_max: policy.size_max.max(1),
            bytes: 0,
            bytes_max: policy.bytes_max.into(),
        }
    }

    /// Takes one more, if it fits; the first one does.
    fn take(&mut self, limit: u16, bytes: u64) -> bool {
        let jobs_max = self.jobs_max.min(limit);
        let fits = self.jobs < jobs_max && self.bytes + bytes <= self.bytes_max;
        if self.jobs > 0 && !fits {
            return false;
        }
        self.jobs += 1;
        self.jobs_max = jobs_max;
        self.bytes += bytes;
        true
    }

    fn is_full(&self) -> bool {
        self.jobs >= self.jobs_max || self.bytes >= self.bytes_max
    }
}

/// Jobs of one trigger that may start, in no order but that of their age.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    jobs: BTreeSet<JobId>,
    bytes: u64,
    /// Those that wait for company.
    waiting: BTreeSet<JobId>,
}

impl Pool {
    fn is_full(&self, policy: &BatchPolicy) -> bool {
        self.jobs.len() >= usize::from(policy.size_max) || self.bytes >= policy.bytes_max.into()
    }
}

impl Entry {
    /// It was tried before, or is not to wait for others.
    fn is_urgent(&self) -> bool {
        self.runs > 0 || self.batch_max < u16::MAX
    }

    fn may_join(&self, trigger: &TriggerId, now: Millis) -> bool {
        let progress = &self.job.progress;
        self.job.event.trigger == *trigger && progress.crashes == 0 && progress.not_before <= now
    }
}

impl Queue {
    /// How the events of a job's trigger go together; `None`: not at all.
    pub(crate) fn batch_policy(&self, job: JobId) -> Option<BatchPolicy> {
        self.batched(job).map(|batched| batched.policy)
    }

    pub(super) fn batched(&self, job: JobId) -> Option<Batched> {
        let job = &self.jobs.get(&job)?.job;
        let live = self.functions.get(&job.function)?.live.as_ref()?;
        live.batches.get(&job.event.trigger).copied()
    }

    /// There is no room for more events of a function: those who could make some wait for nobody.
    pub(crate) fn hurry(&mut self, key: &FunctionId, room: Room) {
        match room {
            Room::Enough => {}
            Room::ShareFull => self.start_as_they_are(key),
            Room::CommonFull => {
                let waits =
                    |function: &Function| !function.groups.is_empty() || !function.pools.is_empty();
                let waiting = self.functions.iter().filter(|(_, function)| waits(function));
                let keys: Vec<FunctionId> = waiting.map(|(key, _)| key.clone()).collect();
                keys.iter().for_each(|key| self.start_as_they_are(key));
            }
        }
    }

    /// Batches of a function wait for no more company.
    fn start_as_they_are(&mut self, key: &FunctionId) {
        let Some(function) = self.functions.get_mut(key) else { return };
        let heads = std::mem::take(&mut function.groups).into_keys();
        let pools = function.pools.values_mut();
        let jobs: Vec<JobId> =
            heads.chain(pools.flat_map(|pool| std::mem::take(&mut pool.waiting))).collect();
        for job in jobs {
            self.windows.clear(&job);
            function.ready.insert(job);
        }
        self.refresh(key);
    }

    /// No batch with one of these may be larger.
    fn limit(&mut self, jobs: &[JobId], batch_max: u16) {
        for job in jobs {
            if let Some(entry) = self.jobs.get_mut(job) {
                entry.batch_max = entry.batch_max.min(batch_max.max(1));
            }
        }
    }

    /// A batch faulted: each half of it goes again by itself. Returns the size of a half.
    pub(crate) fn halve(&mut self, key: &FunctionId, jobs: &[JobId]) -> u16 {
        let half = u16::try_from(jobs.len().div_ceil(2)).unwrap_or(u16::MAX);
        self.limit(jobs, half);
        function_of(&mut self.functions, key).bisected += 1;
        half
    }

    /// All jobs that a function has now run alone from now on, each in a batch of one.
    pub(crate) fn limit_all(&mut self, key: &FunctionId) {
        let jobs = self.jobs_of(key);
        self.limit(&jobs, 1);
        self.start_as_they_are(key);
    }

    /// A head that may start: at once, or when it has company.
    pub(super) fn place_ready(&mut self, id: JobId, now: Millis) {
        let policy = self.batch_policy(id);
        let entry = &self.jobs[&id];
        let has_room = self.room(&entry.job.function, 1, 0) == Room::Enough;
        let function = function_of(&mut self.functions, &entry.job.function);
        let Some(policy) = policy else {
            function.ready.insert(id);
            return;
        };
        let waits = policy.window_ms > 0 && !entry.is_urgent() && has_room;
        let window_ends = entry.job.admitted_at + Millis(policy.window_ms.into());
        if matches!(entry.job.lane, LaneKey::Job(_)) {
            let pool = function.pools.entry(entry.job.event.trigger.clone()).or_default();
            pool.jobs.insert(id);
            pool.bytes += entry.cost.bytes;
            if waits {
                pool.waiting.insert(id);
                self.windows.set(id, window_ends);
            } else {
                function.ready.insert(id);
            }
            let (key, trigger) = (entry.job.function.clone(), entry.job.event.trigger.clone());
            self.ripen_pool(&key, &trigger);
            return;
        }
        let open =
            waits.then(|| self.together(id, &policy, now)).filter(|(_, group)| group.is_some());
        let function = function_of(&mut self.functions, &self.jobs[&id].job.function);
        if let Some((_, Some(group))) = open {
            function.groups.insert(id, group);
            self.windows.set(id, window_ends);
        } else {
            function.ready.insert(id);
        }
    }

    /// Takes a head out of what waits for company or may start.
    pub(super) fn unplace_ready(&mut self, id: JobId) {
        self.windows.clear(&id);
        let entry = &self.jobs[&id];
        let function = function_of(&mut self.functions, &entry.job.function);
        function.ready.remove(&id);
        function.groups.remove(&id);
        if let Some(pool) = function.pools.get_mut(&entry.job.event.trigger)
            && pool.jobs.remove(&id)
        {
            pool.bytes -= entry.cost.bytes;
            pool.waiting.remove(&id);
            if pool.jobs.is_empty() {
                function.pools.remove(&entry.job.event.trigger);
            }
        }
    }

    /// A job waits for company no longer.
    pub(super) fn ripen(&mut self, id: JobId) {
        self.windows.clear(&id);
        let job = &self.jobs[&id].job;
        let key = job.function.clone();
        let function = function_of(&mut self.functions, &key);
        function.groups.remove(&id);
        if let Some(pool) = function.pools.get_mut(&job.event.trigger) {
            pool.waiting.remove(&id);
        }
        function.ready.insert(id);
        self.refresh(&key);
    }

    /// A job came to the end of a lane.
    pub(super) fn joined(&mut self, id: JobId) {
        let entry = &self.jobs[&id];
        let function = function_of(&mut self.functions, &entry.job.function);
        let head = function.lanes[&entry.job.lane].first();
        let Some(group) = function.groups.get_mut(&head) else { return };
        // A new job has no time before which it may not start.
        let joins = entry.may_join(&self.jobs[&head].job.event.trigger, Millis(0))
            && group.take(entry.batch_max, entry.cost.bytes);
        if !joins || group.is_full() {
            self.ripen(head);
        }
    }

    /// A lane lost or changed a job behind its head: others may go together now.
    pub(super) fn regroup(&mut self, key: &FunctionId, lane: &LaneKey, now: Millis) {
        let function = &self.functions[key];
        let head = function.lanes.get(lane).map(super::lane::Lane::first);
        if let Some(head) = head.filter(|head| function.groups.contains_key(head)) {
            self.unplace(head);
            self.place(head, now);
        }
    }

    /// The jobs that start together with this one.
    pub(super) fn batch_of(&self, id: JobId, policy: &BatchPolicy, now: Millis) -> Vec<JobId> {
        self.together(id, policy, now).0
    }

    /// Takes jobs that start out of what may start, and sees to those that stay.
    pub(super) fn take_batch(&mut self, jobs: &[JobId]) {
        let job = &self.jobs[&jobs[0]].job;
        let (key, trigger) = (job.function.clone(), job.event.trigger.clone());
        jobs.iter().for_each(|job| self.unplace_ready(*job));
        self.ripen_pool(&key, &trigger);
    }

    /// The jobs that would start together with this one, and their group while more may join it.
    fn together(
        &self,
        id: JobId,
        policy: &BatchPolicy,
        now: Millis,
    ) -> (Vec<JobId>, Option<Group>) {
        let job = &self.jobs[&id].job;
        let (function, trigger) = (&self.functions[&job.function], &job.event.trigger);
        let (mut jobs, mut group) = (Vec::new(), Group::new(policy));
        let mut take = |id: &JobId| {
            let entry = &self.jobs[id];
            let joins = !group.is_full()
                && entry.may_join(trigger, now)
                && group.take(entry.batch_max, entry.cost.bytes);
            if joins {
                jobs.push(*id);
            }
            joins
        };
        let all_join = match function.pools.get(trigger).filter(|pool| pool.jobs.contains(&id)) {
            Some(pool) => pool.jobs.iter().all(&mut take),
            None => function.lanes[&job.lane].jobs().all(&mut take),
        };
        let open = all_join && !group.is_full();
        (jobs, open.then_some(group))
    }

    /// A pool that holds a batch starts it, with its oldest job.
    fn ripen_pool(&mut self, key: &FunctionId, trigger: &TriggerId) {
        let Some(function) = self.functions.get_mut(key) else { return };
        let batched = function.live.as_ref().and_then(|live| live.batches.get(trigger));
        let policy = batched.map(|batched| batched.policy);
        let (Some(pool), Some(policy)) = (function.pools.get_mut(trigger), policy) else { return };
        if let Some(first) = pool.jobs.first().copied().filter(|_| pool.is_full(&policy)) {
            pool.waiting.remove(&first);
            function.ready.insert(first);
            self.windows.clear(&first);
        }
    }
}
