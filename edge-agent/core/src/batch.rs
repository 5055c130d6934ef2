//! The open batch: what is to become durable together, and when to close it.
//!
//! # Invariants
//! - Operations keep their order, but for those that a later one makes void: a job admitted and
//!   finished in one batch leaves nothing, and of several writes to one place the last remains.
//!   The store ends in the same state as if all had been applied.
//! - A batch may end empty and still be waited for: its acks follow the batches before it.
//! - Lazy operations never close a batch before `lazy_ms_max`; they ride along with others.
//!
//! # When to close ([`OpenBatch::seal_now`])
//! Never while the store is busy: the batch grows meanwhile, which is the group commit. Else at
//! once, but at most `unfinished_ms_max` later while a job that this batch admitted is in work
//! (its outcome would spare the admission's write), at most `thrifty_ms_max` later if all that
//! wait can spare it, and at most `lazy_ms_max` later if nobody waits.
//!
//! In a crowd (`crowd_min` waiting) one with something to write is closed `crowd_ms_max` after the
//! one before at the earliest. A disk that is done in no time would else be asked again for every
//! few messages, and all that a sync costs beside the disk (wake-ups, flash) would be paid by them.
//! Where flash is to be spared (`interval_ms_min`), that holds for every batch, and for so long. One
//! with nothing to write costs no flash: it waits for nothing, and nothing waits longer for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::effect::Pace;
use crate::id::{DeviceId, FunctionId, JobId, RecordSeq, StreamId, TriggerId};
use crate::op::{CoreOp, StateKey};
use crate::time::Millis;

/// How an operation bears on the life of a job's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobChange {
    /// Makes the row.
    Admit(JobId),
    /// Changes it.
    Update(JobId),
    /// Removes it.
    Finish(JobId),
}

/// A place in the store that an operation overwrites as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Progress of a job.
    Job(JobId),
    /// A state value.
    State(StateKey),
    /// 64 numbers of a dedupe window.
    Dedupe(DeviceId, u64, u64),
    /// How far a stream is stored by the control plane.
    Stored(StreamId),
    /// The last slot of a schedule.
    Schedule(TriggerId),
    /// The probation of an app.
    Probation(String),
    /// The pause of a function.
    Pause(FunctionId),
    /// A run of the outbox.
    Run(StreamId, RecordSeq),
    /// A row that the shell keeps beside the core's, by its key.
    Row(Vec<u8>),
}

/// What the open batch must know of an operation. The agent's own operation type delegates to
/// [`CoreOp`] and answers `None` for rows of others.
pub trait BatchOp {
    /// How it bears on a job's row.
    fn job(&self) -> Option<JobChange>;
    /// The place it overwrites as a whole; an earlier operation of this batch on the same place
    /// is then void.
    fn overwrites(&self) -> Option<Place>;
}

impl BatchOp for CoreOp {
    fn job(&self) -> Option<JobChange> {
        match self {
            Self::AdmitJob(job) => Some(JobChange::Admit(job.id)),
            Self::UpdateJob { job, .. } => Some(JobChange::Update(*job)),
            Self::FinishJob { job } => Some(JobChange::Finish(*job)),
            _ => None,
        }
    }

    fn overwrites(&self) -> Option<Place> {
        match self {
            Self::UpdateJob { job, .. } => Some(Place::Job(*job)),
            Self::PutState { key, .. } | Self::DeleteState { key } => {
                Some(Place::State(key.clone()))
            }
            Self::PutDedupe(row) => Some(Place::Dedupe(row.device.clone(), row.boot, row.block)),
            Self::AckOutboxTo { stream, .. } => Some(Place::Stored(*stream)),
            Self::PutScheduleMark { trigger, .. } => Some(Place::Schedule(trigger.clone())),
            Self::PutProbation(mark) => Some(Place::Probation(mark.app.clone())),
            Self::DeleteProbation { app } => Some(Place::Probation(app.clone())),
            Self::PutPause(row) => Some(Place::Pause(row.function.clone())),
            Self::DeletePause { function } => Some(Place::Pause(function.clone())),
            Self::PutOutboxChunk { stream, chunk } => Some(Place::Run(*stream, chunk.first)),
            Self::DeleteOutboxChunk { stream, first } => Some(Place::Run(*stream, *first)),
            _ => None,
        }
    }
}

/// How long an open batch may wait for company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// For the outcome of a job that it admitted.
    pub unfinished_ms_max: Millis,
    /// If all that wait can spare it.
    pub thrifty_ms_max: Millis,
    /// If nobody waits.
    pub lazy_ms_max: Millis,
    /// After the batch before, in a crowd.
    pub crowd_ms_max: Millis,
    /// So many are a crowd.
    pub crowd_min: u64,
    /// After the batch before, always.
    pub interval_ms_min: Millis,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            unfinished_ms_max: Millis(2),
            thrifty_ms_max: Millis(100),
            lazy_ms_max: Millis::from_secs(5),
            crowd_ms_max: Millis(1),
            crowd_min: 16,
            interval_ms_min: Millis(0),
        }
    }
}

/// Whether to close the open batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Now.
    Now,
    /// Not before this gateway time; ask again then, or when something changes.
    At(Millis),
    /// There is nothing to close, or the store is busy: ask again when it is idle.
    No,
}

/// A closed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed<O> {
    /// The operations, in order. Empty: nothing to write, and durable with the batch before it.
    pub ops: Vec<O>,
    /// Whether somebody waits for it.
    pub awaited: bool,
}

/// The batch that is being filled.
#[derive(Clone, Debug)]
pub struct OpenBatch<O> {
    limits: BatchLimits,
    /// Voided operations leave a hole until the batch is closed.
    ops: Vec<Option<O>>,
    holes: usize,
    admitted: BTreeMap<JobId, usize>,
    places: BTreeMap<Place, usize>,
    /// Jobs admitted here that are in work.
    unfinished: BTreeSet<JobId>,
    prompt_since: Option<Millis>,
    thrifty_since: Option<Millis>,
    lazy_since: Option<Millis>,
    /// When the last batch that had something to write was closed.
    sealed_at: Option<Millis>,
}

impl<O: BatchOp> OpenBatch<O> {
    /// An empty batch.
    #[must_use]
    pub fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            ops: Vec::new(),
            holes: 0,
            admitted: BTreeMap::new(),
            places: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            prompt_since: None,
            thrifty_since: None,
            lazy_since: None,
            sealed_at: None,
        }
    }

    /// Adds an operation. Returns false if it and its job's admission made each other void.
    pub fn push(&mut self, op: O, pace: Pace, now: Millis) -> bool {
        self.awaited_since(pace, now);
        if let Some(JobChange::Finish(job)) = op.job() {
            self.unfinished.remove(&job);
            self.void_place(&Place::Job(job));
            if let Some(index) = self.admitted.remove(&job) {
                self.void(index);
                return false;
            }
        }
        let index = self.ops.len();
        if let Some(JobChange::Admit(job)) = op.job() {
            let twice = self.admitted.insert(job, index);
            assert!(twice.is_none(), "a job is admitted once: {job:?}");
        }
        if let Some(place) = op.overwrites() {
            self.void_place(&place);
            self.places.insert(place, index);
        }
        self.ops.push(Some(op));
        true
    }

    /// Notes that something waits for this batch: an ack, a publish, a CONNACK.
    pub fn awaited(&mut self, pace: Pace, now: Millis) {
        self.awaited_since(pace, now);
    }

    /// Notes that a job is in work; only those admitted in this batch matter.
    pub fn started(&mut self, job: JobId) {
        if self.admitted.contains_key(&job) {
            self.unfinished.insert(job);
        }
    }

    /// Notes that an attempt ended without ending its job (it goes on later).
    pub fn stopped(&mut self, job: JobId) {
        self.unfinished.remove(&job);
    }

    /// Whether somebody waits for it and it has something to write: what rides along now causes no
    /// commit of its own.
    #[must_use]
    pub fn will_write(&self) -> bool {
        self.is_awaited() && self.has_ops()
    }

    const fn has_ops(&self) -> bool {
        self.ops.len() > self.holes
    }

    fn is_awaited(&self) -> bool {
        self.prompt_since.is_some() || self.thrifty_since.is_some()
    }

    /// Operations that would be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len() - self.holes
    }

    /// Nothing to write and nobody waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && !self.is_awaited()
    }

    /// Whether to close it (see the module's head). The thread that owns the batch asks at the
    /// end of each turn and when a time it was told comes. `waiting` counts the jobs and the
    /// sessions that wait for any batch.
    #[must_use]
    pub fn seal_now(&self, store_idle: bool, waiting: u64, now: Millis) -> Seal {
        if !store_idle || self.is_empty() {
            return Seal::No;
        }
        let is_crowd = waiting >= self.limits.crowd_min;
        let crowd = if is_crowd { self.limits.crowd_ms_max } else { Millis(0) };
        let distance = self.limits.interval_ms_min;
        // A crowd is for those who wait at once; the interval is for the disk, whoever waits.
        let writes_after = self.sealed_at.filter(|_| self.has_ops());
        let spaced = writes_after.map(|at| at + distance.max(crowd)).unwrap_or_default();
        let rested = writes_after.map(|at| at + distance).unwrap_or_default();
        let prompt = self.prompt_since.map(|since| {
            let with_outcomes = if self.unfinished.is_empty() {
                since
            } else {
                since + self.limits.unfinished_ms_max
            };
            with_outcomes.max(spaced)
        });
        let thrifty =
            self.thrifty_since.map(|since| (since + self.limits.thrifty_ms_max).max(rested));
        let lazy = self.lazy_since.map(|since| (since + self.limits.lazy_ms_max).max(rested));
        match [prompt, thrifty, lazy].into_iter().flatten().min() {
            Some(at) if at > now => Seal::At(at),
            Some(_) => Seal::Now,
            None => Seal::No,
        }
    }

    /// Closes the batch and opens the next one.
    pub fn seal(&mut self, now: Millis) -> Sealed<O> {
        let sealed_at = if self.has_ops() { Some(now) } else { self.sealed_at };
        let next = Self { sealed_at, ..Self::new(self.limits) };
        let closed = std::mem::replace(self, next);
        Sealed { awaited: closed.is_awaited(), ops: closed.ops.into_iter().flatten().collect() }
    }

    fn awaited_since(&mut self, pace: Pace, now: Millis) {
        let since = match pace {
            Pace::Prompt => &mut self.prompt_since,
            Pace::Thrifty => &mut self.thrifty_since,
            Pace::Lazy => &mut self.lazy_since,
        };
        since.get_or_insert(now);
    }

    fn void_place(&mut self, place: &Place) {
        if let Some(index) = self.places.remove(place) {
            self.void(index);
        }
    }

    fn void(&mut self, index: usize) {
        let was = self.ops[index].take();
        assert!(was.is_some(), "an operation is made void once");
        self.holes += 1;
    }
}

#[cfg(test)]
mod tests;
