//! Events that are given up, and those taken up again.
//!
//! # Rules
//! - A dead letter is a row of the store and a record on its way to the control plane: on the
//!   urgent stream, but a shed one on the bulk stream, because sheds come in floods.
//! - An event that a newer one replaced (`latest-per-key`) is no dead letter: it was to be
//!   forgotten. It is counted, and told as an event.

use std::sync::Arc;

use crate::effect::Pace;
use crate::event::{CoreEvent, RedriveRefusal, ShedReason};
use crate::id::{EventId, FunctionId, JobId};
use crate::op::{CoreOp, DeadLetter, DeadReason, Event, Job};
use crate::queue::Room;
use crate::release::TriggerSpec;
use crate::turn::Turn;

use super::{Core, Phase};

/// Error of an event that was shed.
pub(super) const QUEUE_FULL: &str = "its function's queue was full";

impl Core {
    /// Ends a job that cannot be done.
    pub(super) fn give_up(
        &mut self,
        id: JobId,
        reason: DeadReason,
        error: Option<String>,
        turn: &mut Turn<'_>,
    ) {
        let job = self.queue.end(id, turn.at());
        self.tell_gone(job, reason, error, turn);
    }

    /// Makes a job that has ended a dead letter, and tells so.
    pub(super) fn tell_gone(
        &mut self,
        job: Job,
        reason: DeadReason,
        error: Option<String>,
        turn: &mut Turn<'_>,
    ) {
        turn.op(CoreOp::FinishJob { job: job.id }, Pace::Prompt);
        let Job { function, event, progress, .. } = job;
        let error = error.or(progress.last_error).unwrap_or_default();
        self.bury(&function, event.clone(), reason, error.clone(), progress.attempts, turn);
        self.tell_failure(&event, reason, &error, progress.attempts, turn);
    }

    /// Makes an event a dead letter.
    pub(super) fn bury(
        &mut self,
        function: &FunctionId,
        event: Arc<Event>,
        reason: DeadReason,
        error: String,
        attempts: u8,
        turn: &mut Turn<'_>,
    ) {
        for (function, event) in self.letters.add(function, event.id) {
            turn.op(CoreOp::DeleteDeadLetter { function: function.clone(), event }, Pace::Lazy);
            turn.event(CoreEvent::DeadLetterPushedOut { function, event });
        }
        let letter = DeadLetter {
            function: function.clone(),
            event,
            reason,
            error: error.clone(),
            attempts,
            at: turn.at(),
            time: turn.now.wall,
        };
        turn.op(CoreOp::PutDeadLetter(Box::new(letter.clone())), Pace::Prompt);
        turn.event(CoreEvent::DeadLettered {
            function: function.clone(),
            event: letter.event.id,
            message_id: letter.event.message_id.clone(),
            reason,
            error,
        });
        self.outbox.append_letter(letter, reason != DeadReason::Shed, turn);
    }

    /// An event finds no place.
    pub(super) fn shed(
        &mut self,
        function: &FunctionId,
        event: Arc<Event>,
        reason: ShedReason,
        turn: &mut Turn<'_>,
    ) {
        turn.event(CoreEvent::Shed {
            function: function.clone(),
            event: event.id,
            message_id: event.message_id.clone(),
            reason,
        });
        if reason != ShedReason::Replaced {
            self.bury(function, event, DeadReason::Shed, QUEUE_FULL.to_owned(), 0, turn);
        }
    }

    /// A waiting job loses its place to a newer event.
    pub(super) fn shed_job(
        &mut self,
        id: JobId,
        reason: ShedReason,
        turn: &mut Turn<'_>,
    ) -> Arc<Event> {
        let job = self.queue.end(id, turn.at());
        turn.op(CoreOp::FinishJob { job: id }, Pace::Prompt);
        self.shed(&job.function, job.event.clone(), reason, turn);
        job.event
    }

    /// Gives up all jobs of a function that is no longer deployed, and forgets it.
    pub(super) fn abandon(&mut self, function: &FunctionId, turn: &mut Turn<'_>) {
        for job in self.queue.jobs_of(function) {
            self.give_up(job, DeadReason::FunctionGone, None, turn);
        }
        self.queue.uninstall(function);
        self.forget_pause(function, turn);
    }

    /// Why a dead letter would not be taken up again now; `None`: it would.
    #[must_use]
    pub fn redrive_refusal(&self, letter: &DeadLetter) -> Option<RedriveRefusal> {
        self.redrive_target(letter).err()
    }

    fn redrive_target(&self, letter: &DeadLetter) -> Result<Arc<TriggerSpec>, RedriveRefusal> {
        let function = &letter.function;
        if self.phase == Phase::Stopping {
            return Err(RedriveRefusal::Stopping);
        }
        if !self.letters.contains(function, letter.event.id) {
            return Err(RedriveRefusal::Unknown);
        }
        let trigger = self.trigger(&letter.event.trigger);
        let trigger = trigger.filter(|trigger| trigger.function == *function);
        let trigger = trigger.ok_or(RedriveRefusal::FunctionGone)?;
        let bytes = letter.event.cost_bytes() as u64;
        match self.queue.room(function, 1, bytes) {
            Room::Enough => Ok(trigger),
            Room::ShareFull | Room::CommonFull => Err(RedriveRefusal::Full),
        }
    }

    pub(super) fn redrive(&mut self, letter: &DeadLetter, turn: &mut Turn<'_>) {
        let (function, event) = (letter.function.clone(), letter.event.id);
        match self.redrive_target(letter) {
            Ok(trigger) => {
                self.letters.remove(&function, event);
                let op = CoreOp::DeleteDeadLetter { function: function.clone(), event };
                turn.op(op, Pace::Prompt);
                // Who asked waits for it, whatever the trigger says.
                let job = self.admit_job(&trigger, letter.event.clone(), Pace::Prompt, turn);
                turn.event(CoreEvent::Redriven { job, function, event });
            }
            Err(reason) => turn.event(CoreEvent::RedriveRefused { function, event, reason }),
        }
    }

    pub(super) fn purge(&mut self, function: FunctionId, event: EventId, turn: &mut Turn<'_>) {
        if self.letters.remove(&function, event) {
            let op = CoreOp::DeleteDeadLetter { function: function.clone(), event };
            turn.op(op, Pace::Prompt);
            turn.event(CoreEvent::Purged { function, event });
        }
    }
}
