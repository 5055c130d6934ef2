//! One function's part of the queue.

use std::collections::{BTreeMap, BTreeSet};

use crate::effect::Pace;
use crate::id::{Digest, FunctionId, JobId, LaneKey, TriggerId};
use crate::order::Ordered;
use crate::release::{BatchPolicy, FunctionSpec, StateScope};
use crate::time::Millis;

use super::gather::{Group, Pool};
use super::health::Health;
use super::lane::Lane;
use super::shares::Used;

/// Triggers of a function whose events go together.
pub(super) type Batches = BTreeMap<TriggerId, Batched>;

/// A trigger whose events go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batched {
    pub(crate) policy: BatchPolicy,
    /// How long an attempt may wait for its rows to be durable.
    pub(crate) pace: Pace,
}

/// A function that has jobs or is deployed.
#[derive(Clone, Debug, Default)]
pub(super) struct Function {
    /// What its attempts run under; `None`: its jobs wait for a revision.
    pub(super) live: Option<Live>,
    /// Its app is being swapped, or failed its probation.
    pub(super) stopped: bool,
    pub(super) lanes: BTreeMap<LaneKey, Lane>,
    pub(super) jobs: BTreeSet<JobId>,
    /// Of these, those that no worker has.
    pub(super) idle: BTreeSet<JobId>,
    /// Heads that an attempt may begin with, suspects apart; the oldest starts first.
    pub(super) ready: BTreeSet<JobId>,
    /// Heads that wait for company in their lane, with what there is of it.
    pub(super) groups: BTreeMap<JobId, Group>,
    /// By batch trigger, jobs without order that may start or wait for company.
    pub(super) pools: BTreeMap<TriggerId, Pool>,
    pub(super) used: Used,
    pub(super) running: u16,
    pub(super) health: Health,
    /// Worker time of its attempts.
    pub(super) worker_us: u64,
    /// Batches it was given.
    pub(super) batches: u64,
    /// Batches that faulted and were halved.
    pub(super) bisected: u64,
    /// Since when it has more than its room, by what other functions sent it.
    pub(super) over_since: Option<Millis>,
    /// Functions that sent it something.
    pub(super) fed_by: BTreeSet<FunctionId>,
    /// Functions for which it has to wait, because it feeds them and they have too much.
    pub(super) choked_by: BTreeSet<FunctionId>,
}

#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) spec: FunctionSpec,
    pub(super) revision: Digest,
    pub(super) batches: Batches,
    /// Attempts at once.
    pub(super) cap: u16,
    /// Of these, so many have a slot of their own.
    pub(super) reserved: u16,
}

impl Function {
    /// Takes a revision. Returns whether its lanes have to be laid out anew. New code is given
    /// the benefit of the doubt: a pause ends.
    pub(super) fn install(&mut self, live: Live) -> bool {
        let before = self.live.replace(live);
        self.health = Health::default();
        match (before, &self.live) {
            (Some(before), Some(live)) => {
                before.spec.lanes() != live.spec.lanes() || before.batches != live.batches
            }
            // Restored jobs carry the lanes of the revision that admitted them.
            _ => !self.jobs.is_empty(),
        }
    }

    pub(super) fn scope(&self) -> StateScope {
        self.live.as_ref().map_or(StateScope::None, |live| live.spec.state)
    }

    /// By what its lanes are laid out; `None` also while no revision says.
    pub(super) fn lanes_by(&self) -> Option<&Ordered> {
        self.live.as_ref().and_then(|live| live.spec.lanes())
    }

    pub(super) fn reserved(&self) -> u16 {
        self.live.as_ref().map_or(0, |live| live.reserved)
    }

    /// Whether all that it runs is in slots of its own.
    pub(super) fn in_own_slots(&self) -> bool {
        self.running <= self.reserved()
    }

    /// Whether it may start an attempt, if it has something to start.
    pub(super) fn may_start(&self) -> bool {
        let below_cap = self.live.as_ref().is_some_and(|live| self.running < live.cap);
        below_cap && !self.stopped && self.choked_by.is_empty() && self.health.may_start()
    }
}
