//! The jobs: lanes by function, shares, retries and ages, and what may start next.
//!
//! # Invariants
//! - At most one attempt of a lane is running, of its first job or, in a batch, of its first jobs
//!   ([`mod@gather`]; A5).
//! - At most `worker_slots` attempts run in all; of one function at most its concurrency, which is
//!   at most a quarter of the slots (at least 1).
//! - Slots that a function reserved are kept free for it: all others together never use more than
//!   what is not reserved ([`mod@slots`]). That part is divided fairly by worker time
//!   ([`mod@fair`]).
//! - Every change of a function ends with [`Queue::refresh`], so that the set of functions that
//!   may start something is always right; no step looks at all jobs.
//! - A job in work when the process died is a suspect: it runs alone, with nothing else in work.
//!   A crash then tells that this event is to blame, and the innocent are not given up with it.

mod fair;
mod function;
mod gather;
mod health;
mod jobs;
mod lane;
mod pause;
mod pick;
mod pressure;
mod shares;
mod slots;

use std::collections::{BTreeMap, BTreeSet};

use crate::deadline::Deadlines;
use crate::id::{AttemptId, Digest, FunctionId, JobId, LaneKey};
use crate::limits::{Limits, function_slots_max};
use crate::op::Job;
use crate::order::{Ordered, Subject, lane};
use crate::release::{FunctionSpec, StateScope, WhenFull};
use crate::status::FunctionStatus;
use crate::time::Millis;

use fair::{Charge, Fair};
pub(crate) use function::Batched;
use function::{Batches, Function, Live};
pub(crate) use health::Pause;
pub(crate) use shares::Room;
use shares::{Shares, Used};

/// A job and what only this process knows of it.
#[derive(Clone, Debug)]
struct Entry {
    job: Job,
    cost: Used,
    /// The running attempt.
    attempt: Option<AttemptId>,
    /// Attempts so far, accounted for in the row or not.
    runs: u32,
    /// Size of any batch that it is in, at most.
    batch_max: u16,
    /// When it is too old; `None`: its trigger is not known yet.
    too_old_at: Option<Millis>,
}

/// An attempt in work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) function: FunctionId,
    /// Never empty; the first names the attempt.
    pub(crate) jobs: Vec<JobId>,
    /// The function was given a batch, if only of one.
    pub(crate) batch: bool,
    /// What the function was charged, if the attempt has a slot of all.
    charge: Option<Charge>,
}

/// All jobs and the functions they wait for.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    limits: Limits,
    slots: u16,
    attempts: BTreeMap<AttemptId, Running>,
    next_job: u64,
    next_attempt: u64,
    jobs: BTreeMap<JobId, Entry>,
    functions: BTreeMap<FunctionId, Function>,
    shares: Shares,
    /// Heads that failed, by when they are tried again.
    retries: Deadlines<JobId>,
    /// Jobs by when they wait for company in their batch no longer.
    windows: Deadlines<JobId>,
    /// Jobs by when they are too old.
    ages: Deadlines<JobId>,
    /// Paused functions by when they get a try.
    pauses: Deadlines<FunctionId>,
    /// Overfull functions by when they no longer stop those that feed them.
    presses: Deadlines<FunctionId>,
    /// Functions that may start something in a slot of all.
    fair: Fair,
    /// Functions that may start something in a slot of their own.
    own_ready: BTreeSet<FunctionId>,
    /// Slots that are reserved.
    reserved: u16,
    /// Attempts in slots of all.
    common_running: u16,
    /// Ready heads that were in work when the process died.
    suspects: BTreeSet<JobId>,
    suspect_running: Option<AttemptId>,
    /// Functions that got room since somebody asked.
    freed: BTreeSet<FunctionId>,
}

/// What became due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// This job is too old; the caller ends it.
    TooOld(JobId),
    /// This function gets a try.
    Probing(FunctionId),
}

impl Queue {
    pub(crate) fn new(limits: &Limits, slots: u16, first_attempt: u64) -> Self {
        Self {
            limits: limits.clone(),
            slots,
            attempts: BTreeMap::new(),
            next_job: 1,
            next_attempt: first_attempt,
            jobs: BTreeMap::new(),
            functions: BTreeMap::new(),
            shares: Shares::new(limits),
            retries: Deadlines::new(),
            windows: Deadlines::new(),
            ages: Deadlines::new(),
            pauses: Deadlines::new(),
            presses: Deadlines::new(),
            fair: Fair::default(),
            own_ready: BTreeSet::new(),
            reserved: 0,
            common_running: 0,
            suspects: BTreeSet::new(),
            suspect_running: None,
            freed: BTreeSet::new(),
        }
    }

    /// Makes a function's revision the one that its attempts run under.
    pub(crate) fn install(
        &mut self,
        spec: &FunctionSpec,
        revision: Digest,
        batches: Batches,
        now: Millis,
    ) {
        let cap = spec.concurrency.clamp(1, function_slots_max(self.slots));
        let new = !self.functions.contains_key(&spec.id);
        let function = self.functions.entry(spec.id.clone()).or_default();
        assert!(function.running == 0, "a function is swapped when nothing of it runs");
        let lanes_changed =
            function.install(Live { spec: spec.clone(), revision, batches, cap, reserved: 0 });
        self.divide_slots();
        self.unpress(&spec.id);
        self.pauses.clear(&spec.id);
        if new {
            self.divide();
        }
        if lanes_changed {
            self.lay_lanes(&spec.id, now);
        }
        self.refresh(&spec.id);
    }

    /// A function is no longer deployed; its jobs have been ended.
    pub(crate) fn uninstall(&mut self, function: &FunctionId) {
        self.unpress(function);
        self.pauses.clear(function);
        self.own_ready.remove(function);
        self.fair.forget(function);
        if let Some(gone) = self.functions.remove(function) {
            assert!(gone.jobs.is_empty() && gone.running == 0, "its jobs were ended before");
            for feeder in self.functions.values_mut() {
                feeder.fed_by.remove(function);
            }
            self.divide();
            self.divide_slots();
        }
    }

    /// Starts nothing (or again something) of a function.
    pub(crate) fn stop(&mut self, function: &FunctionId, stopped: bool) {
        if let Some(entry) = self.functions.get_mut(function) {
            entry.stopped = stopped;
            self.refresh(function);
        }
    }

    pub(crate) fn next_attempt(&self) -> u64 {
        self.next_attempt
    }

    pub(crate) fn running(&self) -> u16 {
        u16::try_from(self.attempts.len()).expect("invariant: attempts have a slot each")
    }

    pub(crate) fn is_paused(&self, function: &FunctionId) -> bool {
        self.functions.get(function).is_some_and(|function| function.health.is_paused())
    }

    pub(crate) fn policy(&self, function: &FunctionId) -> WhenFull {
        let live = self.functions.get(function).and_then(|function| function.live.as_ref());
        live.map_or(WhenFull::ShedNewest, |live| live.spec.when_full)
    }

    /// By what a function's events are ordered.
    pub(crate) fn lanes_by(&self, function: &FunctionId) -> Option<&Ordered> {
        self.functions.get(function).and_then(Function::lanes_by)
    }

    /// The lane of a future job.
    pub(crate) fn lane(&self, key: &FunctionId, subject: Subject<'_>, job: JobId) -> LaneKey {
        lane(self.lanes_by(key), subject, job)
    }

    /// Whether a function has room for `jobs` more that cost `bytes` together.
    pub(crate) fn room(&self, function: &FunctionId, jobs: u64, bytes: u64) -> Room {
        let used = self.functions.get(function).map(|function| function.used).unwrap_or_default();
        self.shares.room(used, Used { jobs, bytes })
    }

    /// The attempt, if it is running and this job names it (A4).
    pub(crate) fn at_work(&self, job: JobId, attempt: AttemptId) -> Option<&Running> {
        self.attempts.get(&attempt).filter(|running| running.jobs[0] == job)
    }

    pub(crate) fn get(&self, job: JobId) -> Option<&Job> {
        self.jobs.get(&job).map(|entry| &entry.job)
    }

    /// Highest number of hops of the events of these jobs.
    pub(crate) fn hops_max(&self, jobs: &[JobId]) -> u8 {
        jobs.iter().map(|job| self.jobs[job].job.event.hops).max().unwrap_or_default()
    }

    /// Runs of a job so far.
    pub(crate) fn runs(&self, job: JobId) -> u32 {
        self.jobs.get(&job).map_or(0, |entry| entry.runs)
    }

    /// Oldest job of a function that no worker has.
    pub(crate) fn oldest_idle(&self, function: &FunctionId) -> Option<JobId> {
        self.functions.get(function)?.idle.first().copied()
    }

    /// Oldest job of a lane that no worker has.
    pub(crate) fn oldest_idle_in(&self, function: &FunctionId, lane: &LaneKey) -> Option<JobId> {
        self.functions.get(function)?.lanes.get(lane)?.oldest_idle()
    }

    pub(crate) fn is_running(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|entry| entry.attempt.is_some())
    }

    /// The attempt that just ended counts.
    pub(crate) fn count_attempt(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            let attempts = &mut entry.job.progress.attempts;
            *attempts = attempts.saturating_add(1);
        }
    }

    pub(crate) fn scope(&self, function: &FunctionId) -> StateScope {
        self.functions.get(function).map(Function::scope).unwrap_or_default()
    }

    /// State version of the revision under which a function runs.
    pub(crate) fn state_version(&self, function: &FunctionId) -> u32 {
        let live = self.functions.get(function).and_then(|function| function.live.as_ref());
        live.map_or(0, |live| live.spec.state_version)
    }

    pub(crate) fn jobs(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
    }

    pub(crate) fn jobs_of(&self, function: &FunctionId) -> Vec<JobId> {
        let jobs = self.functions.get(function).map(|function| &function.jobs);
        jobs.map(|jobs| jobs.iter().copied().collect()).unwrap_or_default()
    }

    /// Functions of an app that have jobs or are deployed.
    pub(crate) fn functions_of(&self, app: &str) -> Vec<FunctionId> {
        self.functions.keys().filter(|function| function.app() == app).cloned().collect()
    }

    /// Functions that are not deployed; restored jobs wait for them.
    pub(crate) fn sleeping(&self) -> Vec<FunctionId> {
        let sleeps = |(_, function): &(&FunctionId, &Function)| function.live.is_none();
        self.functions.iter().filter(sleeps).map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn set_too_old_at(&mut self, job: JobId, at: Millis) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.too_old_at = Some(at);
            self.ages.set(job, at);
        }
    }

    pub(crate) fn is_too_old(&self, job: JobId, now: Millis) -> bool {
        self.jobs.get(&job).and_then(|entry| entry.too_old_at).is_some_and(|at| at <= now)
    }

    /// Attempts of an app that are running.
    pub(crate) fn running_of(&self, app: &str) -> u32 {
        let of_app = self.functions.iter().filter(|(id, _)| id.app() == app);
        of_app.map(|(_, function)| u32::from(function.running)).sum()
    }

    /// Functions that got room since the last call.
    pub(crate) fn take_freed(&mut self) -> BTreeSet<FunctionId> {
        std::mem::take(&mut self.freed)
    }

    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let sets = [
            self.retries.first(),
            self.windows.first(),
            self.ages.first(),
            self.pauses.first(),
            self.presses.first(),
        ];
        sets.into_iter().flatten().min()
    }

    /// Does what is due by itself, up to the first thing that the caller has to do.
    pub(crate) fn due(&mut self, now: Millis) -> Option<Due> {
        while let Some(job) = self.retries.pop_due(now) {
            self.wake(job, now);
        }
        while let Some(job) = self.windows.pop_due(now) {
            self.ripen(job);
        }
        while let Some(function) = self.presses.pop_due(now) {
            self.unchoke_feeders(&function);
        }
        if let Some(function) = self.pauses.pop_due(now) {
            function_of(&mut self.functions, &function).health.probe();
            self.refresh(&function);
            return Some(Due::Probing(function));
        }
        while let Some(job) = self.ages.pop_due(now) {
            // A running attempt may still end well; put back, its job is too old at once.
            if self.jobs[&job].attempt.is_none() {
                return Some(Due::TooOld(job));
            }
        }
        None
    }

    /// Jobs and bytes in the queue.
    pub(crate) fn total(&self) -> (u32, u64) {
        let total = self.shares.total();
        (u32::try_from(total.jobs).unwrap_or(u32::MAX), total.bytes)
    }

    pub(crate) fn status(&self, now: Millis) -> Vec<FunctionStatus> {
        let one = |(id, function): (&FunctionId, &Function)| FunctionStatus {
            function: id.clone(),
            jobs: u32::try_from(function.used.jobs).unwrap_or(u32::MAX),
            bytes: function.used.bytes,
            running: function.running,
            oldest_ms: function.jobs.first().map(|job| now.since(self.jobs[job].job.admitted_at)),
            faults_in_row: function.health.faults_in_row(),
            paused_ms: function.health.paused_for(now),
            probing: function.health.is_probing(),
            dormant: function.live.is_none(),
            concurrency: function.live.as_ref().map_or(0, |live| live.cap),
            reserved: function.live.as_ref().map_or(0, |live| live.reserved),
            worker_us: function.worker_us,
            batches: function.batches,
            bisected: function.bisected,
        };
        self.functions.iter().map(one).collect()
    }

    fn divide(&mut self) {
        self.shares.divide(self.functions.values().map(|function| function.used));
    }
}

fn function_of<'f>(
    functions: &'f mut BTreeMap<FunctionId, Function>,
    key: &FunctionId,
) -> &'f mut Function {
    functions.get_mut(key).expect("invariant: a job's function has an entry")
}
