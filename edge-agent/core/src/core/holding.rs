//! Deliveries that wait for room: their acks are held back.
//!
//! # Rules
//! - A delivery waits where a function that holds has no room, behind earlier ones of its lanes, and
//!   at most as long as the limit says.
//! - While one waits for room, no batch waits for company: only work makes room.

use std::sync::Arc;

use crate::effect::{Pace, Verdict};
use crate::event::CoreEvent;
use crate::holds::{Blocked, HoldNo, Lanes};
use crate::id::{JobId, LaneKey};
use crate::message::Message;
use crate::queue::Room;
use crate::release::{TriggerSpec, WhenFull};
use crate::turn::Turn;

use super::Core;
use super::admit::Targets;

impl Core {
    /// Looks again at held deliveries that may have room now.
    pub(super) fn retry_held(&mut self, turn: &mut Turn<'_>) {
        loop {
            for function in self.queue.take_freed() {
                self.holds.freed(&function);
            }
            let Some(no) = self.holds.pop_again() else { return };
            let Some(held) = self.holds.get(no) else { continue };
            let message = held.message.clone();
            let targets = self.routes.route(&message).targets;
            let lanes = self.holds.lanes(no);
            match self.blocked(&targets, lanes, &message, Some(no)) {
                Some(blocked) => {
                    self.hurry_for(&blocked);
                    self.holds.blocked_by(no, &blocked);
                }
                None => self.release(no, turn),
            }
        }
    }

    /// While a delivery is held for room, no batch waits for company.
    pub(super) fn hurry_for(&mut self, blocked: &Blocked) {
        match blocked {
            Blocked::Function(full) => self.queue.hurry(full, Room::ShareFull),
            Blocked::Common(full) => self.queue.hurry(full, Room::CommonFull),
            Blocked::Lane(_) | Blocked::Unknown => {}
        }
    }

    /// Admits a held delivery now, with room or without.
    pub(super) fn release(&mut self, no: HoldNo, turn: &mut Turn<'_>) {
        let Some(held) = self.holds.take(no) else { return };
        let routed = self.routes.route(&held.message);
        self.admit(held.delivery, &held.message, &routed, true, turn);
        for copy in held.copies {
            if let Some(id) = held.id.clone() {
                turn.event(CoreEvent::Repeat { id });
            }
            turn.settle(copy, Verdict::Duplicate, Pace::Prompt);
        }
    }

    /// Revisions changed: held deliveries may have other targets and lanes. They are looked at
    /// again at the end of the turn.
    pub(super) fn lay_holds(&mut self) {
        for (no, held) in self.holds.take_all() {
            let targets = self.routes.route(&held.message).targets;
            let lanes = self.ordered_lanes(&targets, &held.message);
            self.holds.put_back(no, held, lanes);
        }
    }

    /// The lanes in which this message must not be overtaken.
    pub(super) fn ordered_lanes(&self, targets: &Targets, message: &Message) -> Lanes {
        let lane = |trigger: &Arc<TriggerSpec>| {
            let lane = self.queue.lane(&trigger.function, message.into(), JobId(0));
            (trigger.function.clone(), lane)
        };
        let mut lanes: Lanes =
            targets.iter().map(lane).filter(|(_, lane)| !matches!(lane, LaneKey::Job(_))).collect();
        lanes.dedup();
        lanes
    }

    /// What a delivery would have to wait for.
    pub(super) fn blocked(
        &self,
        targets: &Targets,
        lanes: &Lanes,
        message: &Message,
        no: Option<HoldNo>,
    ) -> Option<Blocked> {
        if let Some(function) = self.holds.behind(lanes, no) {
            return Some(Blocked::Lane(function));
        }
        for (index, trigger) in targets.iter().enumerate() {
            let function = &trigger.function;
            if self.queue.policy(function) != WhenFull::Hold || self.queue.is_paused(function) {
                continue;
            }
            if self.holds.queues_for(function, no) {
                return Some(Blocked::Function(function.clone()));
            }
            // Two triggers may wake one function: it needs room for both.
            let same = |other: &&Arc<TriggerSpec>| other.function == *function;
            let jobs = targets[..=index].iter().filter(same).count() as u64;
            match self.queue.room(function, jobs, jobs * message.cost_bytes() as u64) {
                Room::Enough => {}
                Room::ShareFull => return Some(Blocked::Function(function.clone())),
                Room::CommonFull => return Some(Blocked::Common(function.clone())),
            }
        }
        None
    }
}
