//! Pauses of functions that fault again and again, as people and the store see them.
//!
//! # Rules
//! - A pause is a row of the store, in the batch of the fault that began it: a restart is no way
//!   out of it, and what is left of its time is left after it. Time without power does not count.
//! - It ends with a good attempt, with another revision, or because an operator says so.

use std::collections::BTreeMap;

use crate::effect::Pace;
use crate::event::CoreEvent;
use crate::id::{Digest, FunctionId, JobId};
use crate::op::{CoreOp, PauseRow};
use crate::turn::Turn;

use super::Core;

/// Rows of pauses; after a restart also those of functions that are not active yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Pauses(BTreeMap<FunctionId, PauseRow>);

impl Pauses {
    pub(super) fn new(rows: Vec<PauseRow>) -> Self {
        Self(rows.into_iter().map(|row| (row.function.clone(), row)).collect())
    }
}

impl Core {
    /// An attempt faulted, of a revision that is past its probation.
    pub(super) fn note_fault(&mut self, job: JobId, function: &FunctionId, turn: &mut Turn<'_>) {
        let Some((revision, pause)) = self.queue.fault(function, job, turn.at()) else { return };
        let row = PauseRow {
            function: function.clone(),
            revision,
            faults: pause.faults,
            until: pause.until,
            length: pause.length,
        };
        turn.op(CoreOp::PutPause(Box::new(row.clone())), Pace::Prompt);
        let before = self.pauses.0.insert(function.clone(), row);
        turn.event(CoreEvent::FunctionPaused {
            function: function.clone(),
            faults: pause.faults,
            until: pause.until,
            again: before.is_some(),
        });
    }

    /// An attempt ended as the function meant it.
    pub(super) fn note_answer(&mut self, job: JobId, function: &FunctionId, turn: &mut Turn<'_>) {
        if self.queue.answered(function, job) {
            self.tell_resumed(function, turn);
        }
    }

    /// An operator says that a function is to go on.
    pub(super) fn resume_function(&mut self, function: &FunctionId, turn: &mut Turn<'_>) {
        if self.queue.resume(function) {
            self.tell_resumed(function, turn);
        }
    }

    /// A revision of a function is live: the pause of the same one before a restart goes on, that
    /// of another one is over.
    pub(super) fn keep_pause(
        &mut self,
        function: &FunctionId,
        revision: Digest,
        turn: &mut Turn<'_>,
    ) {
        match self.pauses.0.get(function) {
            Some(row) if row.revision == revision => self.queue.restore_pause(row),
            Some(_) => self.tell_resumed(function, turn),
            None => {}
        }
    }

    /// A function is gone.
    pub(super) fn forget_pause(&mut self, function: &FunctionId, turn: &mut Turn<'_>) {
        if self.pauses.0.remove(function).is_some() {
            turn.op(CoreOp::DeletePause { function: function.clone() }, Pace::Prompt);
        }
    }

    /// All functions that there are are active: pauses of others are over.
    pub(super) fn forget_lost_pauses(&mut self, turn: &mut Turn<'_>) {
        let lost: Vec<_> = self
            .pauses
            .0
            .keys()
            .filter(|function| !self.queue.is_paused(function))
            .cloned()
            .collect();
        lost.iter().for_each(|function| self.forget_pause(function, turn));
    }

    fn tell_resumed(&mut self, function: &FunctionId, turn: &mut Turn<'_>) {
        self.forget_pause(function, turn);
        turn.event(CoreEvent::FunctionResumed { function: function.clone() });
    }
}
