//! What outcomes do.
//!
//! # Rules (DESIGN, sections 4 and 8)
//! - An outcome of an attempt that is not the running one changes nothing (A4).
//! - Done: job, state, records and the jobs of its publishes, in that order, in one batch. Of a batch
//!   of events all that is finished and what was made for it stand in one batch too.
//! - A fault, a retry: counts an attempt; the event waits at the head of its lane, or is given up
//!   when its attempts are used up or it is too old. A rejection ends it at once.
//! - A batch of several events that faults is halved, if its trigger says so: nothing counts, and each
//!   of its events goes again in a batch of half the size at most. So the culprit ends alone.
//! - On probation neither counts (see [`super::apps`]); once the revision has failed, not even a
//!   good outcome is taken: the event runs again on the restored revision.

use crate::effect::Pace;
use crate::event::CoreEvent;
use crate::id::{AttemptId, JobId};
use crate::op::{CoreOp, DeadReason, Job};
use crate::outcome::{Fault, Outcome};
use crate::queue::Running;
use crate::turn::Turn;

use super::Core;
use super::apps::Trial;
use super::backoff::wait;
use super::fates::{self, Answer, Fate, Given};

/// Bytes of the last error in the row of a job that failed together with others: an attempt at a
/// batch writes as many.
const ERROR_OF_MANY_BYTES_MAX: usize = 256;

/// A job that ended without being done.
struct Gone {
    job: Job,
    reason: DeadReason,
    error: String,
}

impl Core {
    pub(super) fn finished(
        &mut self,
        job: JobId,
        attempt: AttemptId,
        outcome: Outcome,
        turn: &mut Turn<'_>,
    ) {
        let Some(at_work) = self.queue.at_work(job, attempt).cloned() else {
            turn.event(CoreEvent::StaleOutcome { job, attempt });
            return;
        };
        let function = at_work.function.clone();
        if self.apps.has_failed(function.app()) {
            for job in self.queue.leave(attempt, turn.at()) {
                turn.event(CoreEvent::OutcomeDiscarded { job, function: function.clone() });
            }
        } else {
            let given = Given {
                events: at_work.jobs.len(),
                batch: at_work.batch,
                ordered: self.queue.lanes_by(&function).is_some(),
                scope: self.queue.scope(&function),
            };
            match fates::read(outcome, given) {
                Ok(answer) => self.answered(attempt, &at_work, answer, turn),
                Err(fault) => self.faulted(attempt, &at_work, &fault, turn),
            }
        }
        self.tell_quiet(function.app(), turn);
        self.tell_idle(turn);
    }

    /// The function said what it meant to say: it works.
    fn answered(
        &mut self,
        attempt: AttemptId,
        at_work: &Running,
        answer: Answer,
        turn: &mut Turn<'_>,
    ) {
        let Running { function, jobs, .. } = at_work;
        self.note_answer(jobs[0], function, turn);
        if answer.fates.contains(&Fate::Done) {
            let trial = self.apps.success(function.app());
            self.tell_probation(function.app(), trial, turn);
        }
        self.settle(attempt, at_work, answer, turn);
    }

    fn faulted(
        &mut self,
        attempt: AttemptId,
        at_work: &Running,
        fault: &Fault,
        turn: &mut Turn<'_>,
    ) {
        let Running { function, jobs, .. } = at_work;
        let error = format!("{}: {}", fault.kind, fault.message);
        let bisect = self.queue.batch_policy(jobs[0]).is_some_and(|policy| policy.bisect);
        match self.apps.fault(function.app(), &error) {
            Trial::NotOnProbation if bisect && jobs.len() > 1 => {
                self.queue.leave(attempt, turn.at());
                let size = self.queue.halve(function, jobs);
                let (job, function) = (jobs[0], function.clone());
                turn.event(CoreEvent::BatchHalved { job, attempt, function, size, error });
            }
            Trial::NotOnProbation => {
                self.note_fault(jobs[0], function, turn);
                let fates = vec![Fate::Retry(error); jobs.len()];
                self.settle(attempt, at_work, Answer { fates, segments: Vec::new() }, turn);
            }
            trial => {
                self.queue.leave(attempt, turn.at());
                self.tell_probation(function.app(), trial, turn);
            }
        }
    }

    /// Gives each event its fate. First the queue is set right, for what is told then may take the
    /// place of what waits there.
    fn settle(
        &mut self,
        attempt: AttemptId,
        at_work: &Running,
        answer: Answer,
        turn: &mut Turn<'_>,
    ) {
        let Running { function, .. } = at_work;
        let counts = !self.apps.on_probation(function.app());
        let hops = self.queue.hops_max(&at_work.jobs);
        let (mut done, mut gone) = (Vec::new(), Vec::new());
        let jobs = self.queue.leave(attempt, turn.at());
        let kept_bytes = if jobs.len() > 1 { ERROR_OF_MANY_BYTES_MAX } else { usize::MAX };
        for (index, (job, fate)) in (0..).zip(jobs.into_iter().zip(answer.fates)) {
            match fate {
                Fate::Done => done.push((index, self.queue.end(job, turn.at()))),
                Fate::Retry(error) => {
                    if counts {
                        self.queue.count_attempt(job);
                    }
                    gone.extend(self.retry_or_end(job, error, kept_bytes, turn));
                }
                Fate::Reject(error) => {
                    self.queue.count_attempt(job);
                    let (job, reason) = (self.queue.end(job, turn.at()), DeadReason::Rejected);
                    gone.push(Gone { job, reason, error });
                }
                Fate::Again => {}
            }
        }
        if !done.is_empty() {
            self.commit_done(&done, hops, answer.segments, turn);
        }
        for Gone { job, reason, error } in gone {
            self.tell_gone(job, reason, Some(error), turn);
        }
    }

    /// Lets a job wait for its next try, with so much of the error in its row, or ends it.
    fn retry_or_end(
        &mut self,
        id: JobId,
        mut error: String,
        kept_bytes: usize,
        turn: &mut Turn<'_>,
    ) -> Option<Gone> {
        let job = self.queue.get(id)?;
        let (function, mut progress) = (job.function.clone(), job.progress.clone());
        let retry = self.trigger(&job.event.trigger).map(|t| t.retry.clone()).unwrap_or_default();
        let reason = if progress.attempts > retry.retries_max {
            DeadReason::AttemptsExhausted
        } else if self.queue.is_too_old(id, turn.at()) {
            DeadReason::TooOld
        } else {
            let run = (self.settings.epoch, id, self.queue.runs(id));
            progress.not_before = turn.at() + wait(&retry, progress.attempts, run);
            error.truncate(error.floor_char_boundary(kept_bytes));
            progress.last_error = Some(error.clone());
            progress.runs = self.queue.runs(id);
            let not_before = progress.not_before;
            self.queue.set_progress(id, progress.clone(), turn.at());
            turn.op(CoreOp::UpdateJob { job: id, progress }, Pace::Lazy);
            turn.event(CoreEvent::Retrying { job: id, function, not_before, error });
            return None;
        };
        Some(Gone { job: self.queue.end(id, turn.at()), reason, error })
    }
}
