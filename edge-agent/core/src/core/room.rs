//! Room for events: what a function's policy makes of a full queue.

use std::sync::Arc;

use crate::effect::Pace;
use crate::event::{CoreEvent, ShedReason};
use crate::id::JobId;
use crate::op::{DeadReason, Event};
use crate::queue::Room;
use crate::release::{TriggerSpec, WhenFull};
use crate::turn::Turn;

use super::Core;
use super::admit::Cause;
use super::letters::QUEUE_FULL;

impl Core {
    /// Gives an event a job, if there is room or its function's policy makes some. What became a dead
    /// letter for that, or the event itself, is added to `shed`.
    pub(super) fn place_or_shed(
        &mut self,
        trigger: &TriggerSpec,
        event: Arc<Event>,
        cause: Cause<'_>,
        pace: Pace,
        shed: &mut Vec<Arc<Event>>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let mut beyond = false;
        if !self.make_room(trigger, &event, shed, turn) {
            beyond = matches!(cause, Cause::Outcome(_))
                && self.queue.policy(&trigger.function) == WhenFull::Hold
                && self.queue.may_exceed(&trigger.function, turn.at());
            if !beyond {
                let held = matches!(cause, Cause::Delivery { held: true });
                let reason = if held { ShedReason::HeldTooLong } else { ShedReason::Newest };
                self.shed(&trigger.function, event.clone(), reason, turn);
                shed.push(event);
                return false;
            }
        }
        self.admit_job(trigger, event, pace, turn);
        if let Cause::Outcome(from) = cause
            && self.queue.fed(from, &trigger.function, beyond, turn.at())
        {
            let (function, on) = (from.clone(), trigger.function.clone());
            turn.event(CoreEvent::FunctionChoked { function, on });
        }
        true
    }

    pub(super) fn tell_shed<'e>(
        &mut self,
        shed: impl Iterator<Item = &'e Arc<Event>>,
        turn: &mut Turn<'_>,
    ) {
        for event in shed {
            self.tell_failure(event, DeadReason::Shed, QUEUE_FULL, 0, turn);
        }
    }

    /// Whether the function has room, after its policy has made some if it makes any. What became a
    /// dead letter for that is added to `shed`.
    fn make_room(
        &mut self,
        trigger: &TriggerSpec,
        event: &Event,
        shed: &mut Vec<Arc<Event>>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let function = &trigger.function;
        let bytes = event.cost_bytes() as u64;
        while self.queue.room(function, 1, bytes) != Room::Enough {
            let (victim, reason) = match self.queue.policy(function) {
                WhenFull::Hold | WhenFull::ShedNewest => return false,
                WhenFull::ShedOldest => (self.queue.oldest_idle(function), ShedReason::Oldest),
                WhenFull::LatestPerKey => {
                    let lane = self.queue.lane(function, event.into(), JobId(0));
                    (self.queue.oldest_idle_in(function, &lane), ShedReason::Replaced)
                }
            };
            let Some(victim) = victim else { return false };
            let victim = self.shed_job(victim, reason, turn);
            if reason != ShedReason::Replaced {
                shed.push(victim);
            }
        }
        true
    }
}
