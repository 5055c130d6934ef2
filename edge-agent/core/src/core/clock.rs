//! What time brings: retries, ages, ends of holds, pauses and probations, schedule slots.

use bytes::Bytes;

use crate::effect::Pace;
use crate::event::CoreEvent;
use crate::id::TriggerId;
use crate::message::Properties;
use crate::op::{CoreOp, DeadReason, Event};
use crate::queue::Due;
use crate::release::TriggerSource;
use crate::slots::SlotDue;
use crate::time::{ClockQuality, WallTime};
use crate::turn::Turn;

use super::Core;
use super::admit::{Cause, pace_of};
use super::apps::Trial;

impl Core {
    /// Does what is due. Each call of the core begins and ends with this.
    pub(super) fn run_due(&mut self, turn: &mut Turn<'_>) {
        while let Some(due) = self.queue.due(turn.at()) {
            match due {
                Due::TooOld(job) => self.give_up(job, DeadReason::TooOld, None, turn),
                Due::Probing(function) => turn.event(CoreEvent::FunctionProbing { function }),
            }
        }
        let acting = !self.settings.safe_mode;
        while acting && let Some(app) = self.apps.pop_due(turn.at()) {
            self.tell_probation(&app, Trial::Passed, turn);
        }
        self.outbox.expire(turn);
        // Room that came with the above goes to those that waited in time.
        self.retry_held(turn);
        while acting && let Some(no) = self.holds.pop_due(turn.at()) {
            self.release(no, turn);
        }
        if self.fires() {
            while let Some(due) = self.slots.due(turn.now) {
                self.slot(due, turn);
            }
        }
        self.retry_held(turn);
    }

    fn slot(&mut self, due: SlotDue, turn: &mut Turn<'_>) {
        match due {
            SlotDue::Fire { trigger, slot_s, missed } => {
                if missed {
                    let (trigger, last_s) = (trigger.clone(), slot_s);
                    turn.event(CoreEvent::SlotsMissed { trigger, last_s });
                }
                self.fire(&trigger, slot_s, turn);
            }
            SlotDue::Skip { trigger, slot_s } => {
                let op = CoreOp::PutScheduleMark { trigger: trigger.clone(), slot_s };
                turn.op(op, Pace::Lazy);
                turn.event(CoreEvent::SlotsMissed { trigger, last_s: slot_s });
            }
            SlotDue::Behind { trigger, mark_s, now_s } => {
                let op = CoreOp::PutScheduleMark { trigger: trigger.clone(), slot_s: now_s };
                turn.op(op, Pace::Prompt);
                turn.event(CoreEvent::ClockBehindMark { trigger, mark_s, now_s });
            }
        }
    }

    /// The mark and the job of a slot stand in one batch.
    fn fire(&mut self, trigger: &TriggerId, slot_s: u64, turn: &mut Turn<'_>) {
        let Some(spec) = self.trigger(trigger) else { return };
        let pace = pace_of(&spec);
        let time = match &spec.source {
            TriggerSource::Schedule { schedule, .. } if schedule.is_on_wall_time() => {
                WallTime { unix_ms: slot_s.saturating_mul(1_000), quality: ClockQuality::Synced }
            }
            _ => turn.now.wall,
        };
        turn.op(CoreOp::PutScheduleMark { trigger: trigger.clone(), slot_s }, pace);
        turn.event(CoreEvent::SlotFired { trigger: trigger.clone(), slot_s });
        let event = Event {
            id: self.next_event_id(),
            trigger: trigger.clone(),
            topic: String::new(),
            payload: Bytes::new(),
            properties: Properties::default(),
            device: None,
            message_id: None,
            time,
            hops: 0,
            maybe_repeat: false,
        };
        self.place(&spec, event, Cause::Free, pace, turn);
    }
}
