//! Deliveries whose ack waits because a function with `when_full = "hold"` has no room.
//!
//! # Invariants
//! - All or nothing: a delivery that wakes several functions is held until every one of them that
//!   holds has room (the others have their policy); then all its jobs enter one batch. Its
//!   message id is noted in that batch and not before.
//! - Nothing overtakes: a delivery for a (function, lane) in which an earlier one is held waits
//!   behind it, whatever the policy of that function; and room of a function goes to those that
//!   wait for it in their order, so that small messages do not starve a large one.
//! - At most `held_max`, each at most `hold_ms_max`; one more ends the time of the oldest. What has
//!   no room then is shed.
//! - A held delivery is looked at again only when what it waited for may have come: room of one
//!   function, room in the common part, or the end of the one before it in a lane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::deadline::Deadlines;
use crate::id::{DeliveryId, FunctionId, LaneKey, MessageId};
use crate::message::Message;
use crate::time::Millis;

/// Order of arrival of a held delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HoldNo(u64);

/// What a delivery waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Room of this function.
    Function(FunctionId),
    /// Room in the common part of the queue, for this function.
    Common(FunctionId),
    /// The end of an earlier one in a lane of this function.
    Lane(FunctionId),
    /// Nothing known: it is looked at again in this turn.
    Unknown,
}

pub(crate) type Lanes = Vec<(FunctionId, LaneKey)>;

/// A held delivery.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) delivery: DeliveryId,
    pub(crate) message: Arc<Message>,
    pub(crate) id: Option<MessageId>,
    /// Later deliveries of the same message id; they are answered with it.
    pub(crate) copies: Vec<DeliveryId>,
    until: Millis,
    lanes: Lanes,
    blocked: Blocked,
}

#[derive(Clone, Debug)]
pub(crate) struct Holds {
    max: usize,
    next: u64,
    held: BTreeMap<HoldNo, Held>,
    /// By lane in order of arrival; only the first may be admitted.
    lanes: BTreeMap<(FunctionId, LaneKey), BTreeSet<HoldNo>>,
    by_function: BTreeMap<FunctionId, BTreeSet<HoldNo>>,
    by_common: BTreeSet<HoldNo>,
    by_id: BTreeMap<MessageId, HoldNo>,
    deadlines: Deadlines<HoldNo>,
    /// To be looked at again.
    again: BTreeSet<HoldNo>,
}

impl Holds {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max: max.max(1) as usize,
            next: 0,
            held: BTreeMap::new(),
            lanes: BTreeMap::new(),
            by_function: BTreeMap::new(),
            by_common: BTreeSet::new(),
            by_id: BTreeMap::new(),
            deadlines: Deadlines::new(),
            again: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// The one whose time ends if one more is to be held.
    pub(crate) fn oldest_if_full(&self) -> Option<HoldNo> {
        self.held.first_key_value().map(|(no, _)| *no).filter(|_| self.held.len() >= self.max)
    }

    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first()
    }

    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<HoldNo> {
        self.deadlines.pop_due(now)
    }

    /// The time of all ends then.
    pub(crate) fn begin_again(&mut self, until: Millis) {
        for (no, held) in &mut self.held {
            held.until = until;
            self.deadlines.set(*no, until);
        }
    }

    /// A lane in which somebody waits before `no`, or before a newcomer.
    pub(crate) fn behind(&self, lanes: &Lanes, no: Option<HoldNo>) -> Option<FunctionId> {
        let is_behind = |lane: &&(FunctionId, LaneKey)| {
            let first = self.lanes.get(*lane).and_then(BTreeSet::first);
            first.is_some_and(|first| no.is_none_or(|no| *first < no))
        };
        lanes.iter().find(is_behind).map(|(function, _)| function.clone())
    }

    /// Whether somebody waits for room of this function before `no`, or before a newcomer.
    pub(crate) fn queues_for(&self, function: &FunctionId, no: Option<HoldNo>) -> bool {
        let first = self.by_function.get(function).and_then(BTreeSet::first);
        first.is_some_and(|first| no.is_none_or(|no| *first < no))
    }

    /// Joins a copy to the held delivery of its message id, if there is one.
    pub(crate) fn join(&mut self, id: &MessageId, delivery: DeliveryId) -> bool {
        let Some(no) = self.by_id.get(id) else { return false };
        let held = self.held.get_mut(no).expect("invariant: by_id names held ones");
        held.copies.push(delivery);
        true
    }

    pub(crate) fn add(
        &mut self,
        delivery: DeliveryId,
        message: Arc<Message>,
        lanes: Lanes,
        blocked: Blocked,
        until: Millis,
    ) {
        let no = HoldNo(self.next);
        self.next += 1;
        let id = message.message_id();
        if let Some(id) = &id {
            self.by_id.insert(id.clone(), no);
        }
        for lane in &lanes {
            self.lanes.entry(lane.clone()).or_default().insert(no);
        }
        self.deadlines.set(no, until);
        self.register(no, &blocked);
        let copies = Vec::new();
        self.held.insert(no, Held { delivery, message, id, copies, until, lanes, blocked });
        assert!(self.held.len() <= self.max, "the number of held deliveries is bounded");
    }

    /// Puts back one that was taken, at its place, under lanes that may have changed. It is to be
    /// looked at again.
    pub(crate) fn put_back(&mut self, no: HoldNo, held: Held, lanes: Lanes) {
        if let Some(id) = &held.id {
            self.by_id.insert(id.clone(), no);
        }
        for lane in &lanes {
            self.lanes.entry(lane.clone()).or_default().insert(no);
        }
        self.deadlines.set(no, held.until);
        self.again.insert(no);
        self.held.insert(no, Held { lanes, blocked: Blocked::Unknown, ..held });
    }

    pub(crate) fn get(&self, no: HoldNo) -> Option<&Held> {
        self.held.get(&no)
    }

    pub(crate) fn lanes(&self, no: HoldNo) -> &Lanes {
        &self.held[&no].lanes
    }

    /// Takes one out; whoever waited behind it is to be looked at again.
    pub(crate) fn take(&mut self, no: HoldNo) -> Option<Held> {
        let held = self.held.remove(&no)?;
        self.unregister(no, &held.blocked);
        self.next_after(&held.blocked);
        self.deadlines.clear(&no);
        self.again.remove(&no);
        if let Some(id) = &held.id {
            self.by_id.remove(id);
        }
        for lane in &held.lanes {
            if let Some(waiting) = self.lanes.get_mut(lane) {
                waiting.remove(&no);
                match waiting.first() {
                    Some(next) => {
                        self.again.insert(*next);
                    }
                    None => {
                        self.lanes.remove(lane);
                    }
                }
            }
        }
        Some(held)
    }

    /// Takes all, in order of arrival.
    pub(crate) fn take_all(&mut self) -> Vec<(HoldNo, Held)> {
        let numbers: Vec<HoldNo> = self.held.keys().copied().collect();
        let held = numbers.into_iter().filter_map(|no| Some((no, self.take(no)?))).collect();
        self.again.clear();
        held
    }

    /// It waits for something else now; others may get what it waited for.
    pub(crate) fn blocked_by(&mut self, no: HoldNo, blocked: &Blocked) {
        let Some(held) = self.held.get_mut(&no) else { return };
        let before = std::mem::replace(&mut held.blocked, blocked.clone());
        if before == *blocked {
            return;
        }
        self.unregister(no, &before);
        self.register(no, blocked);
        self.next_after(&before);
    }

    /// A function has room, or may have.
    pub(crate) fn freed(&mut self, function: &FunctionId) {
        self.again.extend(self.by_function.get(function).and_then(BTreeSet::first));
        self.again.extend(self.by_common.first());
    }

    /// The next one to look at.
    pub(crate) fn pop_again(&mut self) -> Option<HoldNo> {
        self.again.pop_first()
    }

    /// One that waited for this no longer does: the next one may get it.
    fn next_after(&mut self, blocked: &Blocked) {
        match blocked {
            Blocked::Function(function) => {
                self.again.extend(self.by_function.get(function).and_then(BTreeSet::first));
            }
            Blocked::Common(_) => self.again.extend(self.by_common.first()),
            Blocked::Lane(_) | Blocked::Unknown => {}
        }
    }

    fn register(&mut self, no: HoldNo, blocked: &Blocked) {
        match blocked {
            Blocked::Function(function) => {
                self.by_function.entry(function.clone()).or_default().insert(no);
            }
            Blocked::Common(_) => {
                self.by_common.insert(no);
            }
            Blocked::Lane(_) | Blocked::Unknown => {}
        }
    }

    fn unregister(&mut self, no: HoldNo, blocked: &Blocked) {
        match blocked {
            Blocked::Function(function) => {
                if let Some(waiting) = self.by_function.get_mut(function) {
                    waiting.remove(&no);
                    if waiting.is_empty() {
                        self.by_function.remove(function);
                    }
                }
            }
            Blocked::Common(_) => {
                self.by_common.remove(&no);
            }
            Blocked::Lane(_) | Blocked::Unknown => {}
        }
    }
}
