//! One function's part of the queue.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Digest, FunctionId, JobId, LaneKey};
use crate::order::Ordered;
use crate::release::{FunctionSpec, StateScope};
use crate::time::Millis;

use super::health::Health;
use super::lane::Lane;
use super::shares::Used;

/// A function that has jobs or is deployed.
#[derive(Clone, Debug, Default)]
pub(super) struct Function {
    /// What its attempts run under; `None`: its jobs wait for a revision.
    pub(super) live: Option<Live>,
    /// Its app is being swapped, or failed its probation.
    pub(super) stopped: bool,
    pub(super) lanes: BTreeMap<LaneKey, Lane>,
    pub(super) jobs: BTreeSet<JobId>,
    /// Ready heads, suspects apart; the oldest starts first.
    pub(super) ready: BTreeSet<JobId>,
    pub(super) used: Used,
    pub(super) running: u16,
    pub(super) health: Health,
    /// Worker time of its attempts.
    pub(super) worker_us: u64,
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
    /// Attempts at once.
    pub(super) cap: u16,
    /// Of these, so many have a slot of their own.
    pub(super) reserved: u16,
}

impl Function {
    /// Takes a revision. Returns whether its lanes have to be laid out anew. New code is given
    /// the benefit of the doubt: a pause ends.
    pub(super) fn install(&mut self, live: Live) -> bool {
        let before = self.live.replace(live).map(|live| live.spec.lanes().cloned());
        self.health = Health::default();
        match before {
            Some(before) => before.as_ref() != self.lanes_by(),
            // Restored jobs carry the lanes of the revision that admitted them.
            None => !self.jobs.is_empty(),
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
