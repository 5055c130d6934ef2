//! How messages and other causes become jobs.
//!
//! # Rules
//! - The order is: claims, dedupe, routing, room. What claims falsely ([`claim::check`]) is refused. A message that matches several filters of one trigger
//!   wakes it once; one that matches several triggers makes a job for each.
//! - An event without room meets its function's policy. Holding is for deliveries that can wait,
//!   of functions that are not paused: the backlog of a paused function takes no acks from
//!   others. Whatever cannot wait is shed to the dead letters.
//! - More than `hops_max` functions in a row are a loop: a dead letter.
//! - An event that its trigger's filter does not want has no job and takes no room.
//! - A message without any match is acked as well; sessions may have got it in the same batch.

use std::sync::Arc;

use crate::claim::{self, ClaimError};
use crate::effect::{Pace, RefusedReason, Verdict};
use crate::event::CoreEvent;
use crate::holds::Blocked;
use crate::id::{DeliveryId, FunctionId, JobId, LaneKey, MessageId};
use crate::input::Patience;
use crate::message::{Message, Origin};
use crate::op::{CoreOp, DeadReason, Event, Job, Progress};
use crate::order::Subject;
use crate::release::{Durability, TriggerSpec};
use crate::routes::Routed;
use crate::turn::Turn;

use super::{Core, Phase};
use crate::dedupe::Seen;

/// Where an event comes from, and with that what can be done if there is no room for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause<'a> {
    /// A delivery that is not to be held (any longer).
    Delivery {
        /// It was held.
        held: bool,
    },
    /// A will or a schedule: nobody waits.
    Free,
    /// An outcome of this function.
    Outcome(&'a FunctionId),
    /// The end of another event, told here.
    Destination,
}

pub(super) type Targets = Vec<Arc<TriggerSpec>>;

impl Core {
    pub(super) fn deliver(
        &mut self,
        delivery: DeliveryId,
        message: Arc<Message>,
        patience: Patience,
        turn: &mut Turn<'_>,
    ) {
        if self.phase == Phase::Stopping {
            let verdict = Verdict::Refused { reason: RefusedReason::Stopping };
            turn.settle(delivery, verdict, Pace::Prompt);
            return;
        }
        if let Err(claim) = self.check_claims(&message, turn) {
            let verdict = Verdict::Refused { reason: RefusedReason::Claim(claim) };
            turn.settle(delivery, verdict, Pace::Prompt);
            return;
        }
        if let Some(id) = message.message_id() {
            if self.holds.join(&id, delivery) {
                return;
            }
            if self.dedupe.look(&id) == Seen::Before {
                turn.event(CoreEvent::Repeat { id });
                turn.settle(delivery, Verdict::Duplicate, Pace::Prompt);
                return;
            }
        }
        let routed = self.routes.route(&message);
        let targets = &routed.targets;
        let lanes = self.ordered_lanes(targets, &message);
        if patience == Patience::Holdable
            && self.blocked(targets, &lanes, &message, None).is_some()
            && let Some(oldest) = self.holds.oldest_if_full()
        {
            self.release(oldest, turn);
        }
        let blocked = self.blocked(targets, &lanes, &message, None);
        if let Some(blocked) = &blocked {
            self.hurry_for(blocked);
        }
        match blocked.filter(|_| patience == Patience::Holdable) {
            Some(blocked) => {
                if let Blocked::Function(on) | Blocked::Common(on) | Blocked::Lane(on) = &blocked {
                    turn.event(CoreEvent::Held { delivery, function: on.clone() });
                }
                let until = turn.at() + self.settings.limits.hold_ms_max;
                self.holds.add(delivery, message, lanes, blocked, until);
            }
            None => self.admit(delivery, &message, &routed, false, turn),
        }
    }

    /// Tells of a message that claims what is not so.
    fn check_claims(&self, message: &Message, turn: &mut Turn<'_>) -> Result<(), ClaimError> {
        let checked = claim::check(message);
        if let (Err(claim), Origin::Client { identity, .. }) = (checked, &message.origin) {
            let (client, topic) = (identity.clone(), message.topic.clone());
            turn.event(CoreEvent::FalseClaim { client, topic, claim });
        }
        checked
    }

    pub(super) fn admit_will(&mut self, message: &Message, turn: &mut Turn<'_>) {
        if self.check_claims(message, turn).is_err() {
            return;
        }
        let routed = self.routes.route(message);
        for trigger in &routed.targets {
            let event = self.event_of(trigger, message, None, false);
            self.place(trigger, event, Cause::Free, pace_of(trigger), turn);
        }
        self.tell_unwanted(message, &routed, turn);
    }

    /// Takes a delivery: its dedupe key, its jobs, its answer.
    pub(super) fn admit(
        &mut self,
        delivery: DeliveryId,
        message: &Message,
        routed: &Routed,
        held: bool,
        turn: &mut Turn<'_>,
    ) {
        let targets = &routed.targets;
        let pace = pace_of_all(targets);
        let id = message.message_id();
        let maybe_repeat = id.as_ref().is_some_and(|id| self.note_id(id, pace, turn));
        let (mut jobs, mut shed) = (0, 0);
        for trigger in targets {
            let event = self.event_of(trigger, message, id.clone(), maybe_repeat);
            if self.place(trigger, event, Cause::Delivery { held }, pace, turn) {
                jobs += 1;
            } else {
                shed += 1;
            }
        }
        self.tell_unwanted(message, routed, turn);
        let verdict =
            if shed == 0 { Verdict::Accepted { jobs } } else { Verdict::Shed { jobs, shed } };
        turn.settle(delivery, verdict, pace);
    }

    /// Notes a message id. Returns whether it is too old to tell if it came before.
    fn note_id(&mut self, id: &MessageId, pace: Pace, turn: &mut Turn<'_>) -> bool {
        let below = self.dedupe.look(id) == Seen::BelowWindow;
        if below {
            turn.event(CoreEvent::BelowWindow { id: id.clone() });
        }
        self.dedupe.note(id, pace, turn);
        below
    }

    pub(super) fn event_of(
        &mut self,
        trigger: &TriggerSpec,
        message: &Message,
        message_id: Option<MessageId>,
        maybe_repeat: bool,
    ) -> Event {
        Event {
            id: self.next_event_id(),
            trigger: trigger.id.clone(),
            topic: message.topic.as_str().to_owned(),
            payload: message.payload.clone(),
            properties: message.properties.clone(),
            device: message.device.clone(),
            message_id,
            time: message.wall,
            hops: message.hops,
            maybe_repeat,
        }
    }

    /// Gives an event a job, or sheds by its function's policy. Returns whether it has one.
    pub(super) fn place(
        &mut self,
        trigger: &TriggerSpec,
        event: Event,
        cause: Cause<'_>,
        pace: Pace,
        turn: &mut Turn<'_>,
    ) -> bool {
        let event = Arc::new(event);
        let is_told = !matches!(cause, Cause::Destination);
        if event.hops > self.settings.limits.hops_max {
            let error = format!("more than {} functions in a row", event.hops - 1);
            let reason = DeadReason::Loop;
            self.bury(&trigger.function, event.clone(), reason, error.clone(), 0, turn);
            if is_told {
                self.tell_failure(&event, reason, &error, 0, turn);
            }
            return false;
        }
        let mut shed = Vec::new();
        let had_room = self.queue.room(&trigger.function, 1, event.cost_bytes() as u64);
        let placed = self.place_or_shed(trigger, event, cause, pace, &mut shed, turn);
        // Only now: what was shed may have been the head of what waits.
        self.queue.hurry(&trigger.function, had_room);
        // And this last: what is told may need room as well.
        self.tell_shed(shed.iter().filter(|_| is_told), turn);
        placed
    }

    pub(super) fn admit_job(
        &mut self,
        trigger: &TriggerSpec,
        event: Arc<Event>,
        pace: Pace,
        turn: &mut Turn<'_>,
    ) -> JobId {
        let id = self.queue.next_id();
        let mut progress = Progress::default();
        if !self.strays.is_empty() {
            let stray = (trigger.function.clone(), event.likeness());
            progress.crashes = u8::from(self.strays.remove(&stray));
        }
        let job = Job {
            id,
            function: trigger.function.clone(),
            lane: self.queue.lane(&trigger.function, Subject::from(&*event), id),
            event,
            admitted_at: turn.at(),
            progress,
            admitted_wall: turn.now.wall,
        };
        turn.op(CoreOp::AdmitJob(Box::new(job.clone())), pace);
        turn.event(CoreEvent::Admitted {
            job: id,
            function: job.function.clone(),
            trigger: trigger.id.clone(),
            event: job.event.id,
        });
        if job.lane == LaneKey::Keyless {
            let (function, event) = (job.function.clone(), job.event.id);
            turn.event(CoreEvent::Keyless { function, event });
        }
        self.queue.admit(job, turn.at() + trigger.retry.age_max);
        id
    }
}

/// The pace of what a trigger's events cause.
pub(super) fn pace_of(trigger: &TriggerSpec) -> Pace {
    trigger.durability.into()
}

/// An ack can wait only if all that it stands for can.
fn pace_of_all(targets: &Targets) -> Pace {
    let thrifty = |trigger: &Arc<TriggerSpec>| trigger.durability == Durability::Thrifty;
    if !targets.is_empty() && targets.iter().all(thrifty) { Pace::Thrifty } else { Pace::Prompt }
}
