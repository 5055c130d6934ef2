//! How messages and other causes become jobs.
//!
//! # Rules
//! - The order is: dedupe, routing, room. A message that matches several filters of one trigger
//!   wakes it once; one that matches several triggers makes a job for each.
//! - An event without room meets its function's policy. Holding is for deliveries that can wait,
//!   of functions that are not paused: the backlog of a paused function takes no acks from
//!   others. Whatever cannot wait is shed to the dead letters.
//! - More than `hops_max` functions in a row are a loop: a dead letter.
//! - An event that its trigger's filter does not want has no job and takes no room.
//! - A message without any match is acked as well; sessions may have got it in the same batch.

use std::sync::Arc;

use crate::effect::{Pace, RefusedReason, Verdict};
use crate::event::{CoreEvent, ShedReason};
use crate::holds::{Blocked, HoldNo, Lanes};
use crate::id::{DeliveryId, FunctionId, JobId, LaneKey, MessageId};
use crate::input::Patience;
use crate::message::Message;
use crate::op::{CoreOp, DeadReason, Event, Job, Progress};
use crate::order::Subject;
use crate::queue::Room;
use crate::release::{Durability, TriggerSpec, WhenFull};
use crate::routes::Routed;
use crate::turn::Turn;

use super::letters::QUEUE_FULL;
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

type Targets = Vec<Arc<TriggerSpec>>;

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
        match &blocked {
            Some(Blocked::Function(full)) => self.queue.hurry(full, Room::ShareFull),
            Some(Blocked::Common(full)) => self.queue.hurry(full, Room::CommonFull),
            Some(Blocked::Lane(_) | Blocked::Unknown) | None => {}
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

    pub(super) fn admit_will(&mut self, message: &Message, turn: &mut Turn<'_>) {
        let routed = self.routes.route(message);
        for trigger in &routed.targets {
            let event = self.event_of(trigger, message, None, false);
            self.place(trigger, event, Cause::Free, pace_of(trigger), turn);
        }
        self.tell_unwanted(message, &routed, turn);
    }

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
                Some(blocked) => self.holds.blocked_by(no, &blocked),
                None => self.release(no, turn),
            }
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
    fn ordered_lanes(&self, targets: &Targets, message: &Message) -> Lanes {
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
    fn blocked(
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

    /// Takes a delivery: its dedupe key, its jobs, its answer.
    fn admit(
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
        let bytes = event.cost_bytes() as u64;
        let mut beyond = false;
        let mut shed = Vec::new();
        if !self.make_room(trigger, &event, bytes, &mut shed, turn) {
            beyond = matches!(cause, Cause::Outcome(_))
                && self.queue.policy(&trigger.function) == WhenFull::Hold
                && self.queue.may_exceed(&trigger.function, turn.at());
            if !beyond {
                let held = matches!(cause, Cause::Delivery { held: true });
                let reason = if held { ShedReason::HeldTooLong } else { ShedReason::Newest };
                self.shed(&trigger.function, event.clone(), reason, turn);
                shed.push(event);
                self.tell_shed(shed.iter().filter(|_| is_told), turn);
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
        // Only now: what is told may need room as well.
        self.tell_shed(shed.iter().filter(|_| is_told), turn);
        true
    }

    fn tell_shed<'e>(&mut self, shed: impl Iterator<Item = &'e Arc<Event>>, turn: &mut Turn<'_>) {
        for event in shed {
            self.tell_failure(event, DeadReason::Shed, QUEUE_FULL, 0, turn);
        }
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

    /// Whether the function has room, after its policy has made some if it makes any. What became a
    /// dead letter for that is added to `shed`.
    fn make_room(
        &mut self,
        trigger: &TriggerSpec,
        event: &Event,
        bytes: u64,
        shed: &mut Vec<Arc<Event>>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let function = &trigger.function;
        loop {
            let room = self.queue.room(function, 1, bytes);
            if room == Room::Enough {
                return true;
            }
            self.queue.hurry(function, room);
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
