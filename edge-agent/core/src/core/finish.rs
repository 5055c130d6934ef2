//! What outcomes do.
//!
//! # Rules (DESIGN, sections 4 and 8)
//! - An outcome of an attempt that is not the running one changes nothing (A4).
//! - Done: job, state, records and the jobs of its publishes, in that order, in one batch.
//! - A fault, a retry: counts an attempt; the event waits at the head of its lane, or is given up
//!   when its attempts are used up or it is too old. A rejection ends it at once.
//! - On probation neither counts (see [`super::apps`]); once the revision has failed, not even a
//!   good outcome is taken: the event runs again on the restored revision.
//! - A crash of the process counts apart; an event is given up at `crashes_max` of them, the last
//!   of which must have come while it was alone in work: in company another may be to blame.
//! - A crash before the event was durable leaves no row. Its likeness is kept: the repeat that its
//!   sender makes has one crash behind it ([`Event::likeness`](crate::op::Event::likeness)).

use std::sync::Arc;

use crate::effect::Pace;
use crate::event::CoreEvent;
use crate::id::{AttemptId, FunctionId, JobId};
use crate::input::Crumb;
use crate::message::{Message, Origin};
use crate::op::{CoreOp, DeadReason, Job, Progress, RecordBody, StateKey};
use crate::outcome::{Fault, FaultKind, Outcome, Outputs, Publish};
use crate::release::StateScope;
use crate::turn::Turn;

use super::Core;
use super::admit::{Cause, pace_of};
use super::apps::Trial;
use super::backoff::wait;
use super::destinations::made;

impl Core {
    pub(super) fn finished(
        &mut self,
        job: JobId,
        attempt: AttemptId,
        outcome: Outcome,
        turn: &mut Turn<'_>,
    ) {
        let Some(at_work) = self.queue.at_work(job, attempt) else {
            turn.event(CoreEvent::StaleOutcome { job, attempt });
            return;
        };
        let function = at_work.function.clone();
        if self.apps.has_failed(function.app()) {
            turn.event(CoreEvent::OutcomeDiscarded { job, function: function.clone() });
            self.queue.put_back(job, None, turn.at());
        } else {
            let scope = self.queue.scope(&function);
            match checked(outcome, scope) {
                Outcome::Done(outputs) => self.done(job, outputs, turn),
                Outcome::BatchDone(_) => {
                    let message = "the answer to a batch, for one event".to_owned();
                    self.faulted(job, &Fault { kind: FaultKind::Host, message }, turn);
                }
                Outcome::Retry { reason } => self.failed(job, reason, turn),
                Outcome::Reject { reason } => {
                    self.answered(job, turn);
                    self.queue.count_attempt(job);
                    self.give_up(job, DeadReason::Rejected, Some(reason), turn);
                }
                Outcome::Fault(fault) => self.faulted(job, &fault, turn),
            }
        }
        self.tell_quiet(function.app(), turn);
        self.tell_idle(turn);
    }

    fn done(&mut self, id: JobId, outputs: Outputs, turn: &mut Turn<'_>) {
        self.answered(id, turn);
        self.succeeded_on_probation(id, turn);
        let state_version = self.queue.state_version(id);
        let job = self.queue.end(id, turn.at());
        let trigger = self.trigger(&job.event.trigger);
        let pace = trigger.as_deref().map_or(Pace::Prompt, pace_of);
        let is_told = trigger.as_ref().is_some_and(|trigger| trigger.on_success.is_some());
        let silent = outputs == Outputs::default() && !is_told;
        let made = made(&outputs);
        turn.op(CoreOp::FinishJob { job: id }, if silent { Pace::Lazy } else { pace });
        for change in outputs.state {
            let key = StateKey {
                function: job.function.clone(),
                state_version,
                lane: job.lane.clone(),
                key: change.key,
            };
            let op = match change.value {
                Some(value) => CoreOp::PutState { key, value },
                None => CoreOp::DeleteState { key },
            };
            turn.op(op, pace);
        }
        for record in outputs.records {
            let policy = self.apps.series_policy(job.function.app(), &record.name);
            let body = RecordBody::Telemetry {
                function: job.function.clone(),
                event: job.event.id,
                device: job.event.device.clone(),
                name: record.name,
                payload: record.payload,
                content_type: record.content_type,
            };
            self.outbox.append_series(policy, body, pace, turn);
        }
        turn.event(CoreEvent::Done {
            job: id,
            function: job.function.clone(),
            event: job.event.id,
            message_id: job.event.message_id.clone(),
        });
        for publish in outputs.publishes {
            self.publish(&job, publish, pace, turn);
        }
        if let Some(trigger) = trigger {
            self.tell_success(&trigger, &job, made, pace, turn);
        }
    }

    /// Routes a publish to triggers, as new jobs of this batch, and hands it to the broker.
    fn publish(&mut self, job: &Job, publish: Publish, pace: Pace, turn: &mut Turn<'_>) {
        let message = Arc::new(Message {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            expiry_s: None,
            origin: Origin::Function { function: job.function.clone(), event: job.event.id },
            device: job.event.device.clone(),
            hops: job.event.hops.saturating_add(1),
            at: turn.at(),
            wall: turn.now.wall,
        });
        self.spread(message, Cause::Outcome(&job.function), pace, turn);
    }

    fn faulted(&mut self, id: JobId, fault: &Fault, turn: &mut Turn<'_>) {
        let function = self.function_of(id);
        let error = format!("{}: {}", fault.kind, fault.message);
        match self.apps.fault(function.app(), &error) {
            Trial::NotOnProbation => {
                self.note_fault(id, &function, turn);
                self.queue.count_attempt(id);
                self.retry_or_give_up(id, error, turn);
            }
            trial => {
                self.queue.put_back(id, None, turn.at());
                self.tell_probation(function.app(), trial, turn);
            }
        }
    }

    /// The function asks for another attempt.
    fn failed(&mut self, id: JobId, reason: String, turn: &mut Turn<'_>) {
        self.answered(id, turn);
        if !self.apps.on_probation(self.function_of(id).app()) {
            self.queue.count_attempt(id);
        }
        self.retry_or_give_up(id, reason, turn);
    }

    fn retry_or_give_up(&mut self, id: JobId, error: String, turn: &mut Turn<'_>) {
        let Some(job) = self.queue.get(id) else { return };
        let (function, mut progress) = (job.function.clone(), job.progress.clone());
        let retry = self.trigger(&job.event.trigger).map(|t| t.retry.clone()).unwrap_or_default();
        if progress.attempts > retry.retries_max {
            self.give_up(id, DeadReason::AttemptsExhausted, Some(error), turn);
        } else if self.queue.is_too_old(id, turn.at()) {
            self.give_up(id, DeadReason::TooOld, Some(error), turn);
        } else {
            let run = (self.settings.epoch, id, self.queue.runs(id));
            progress.not_before = turn.at() + wait(&retry, progress.attempts, run);
            progress.last_error = Some(error.clone());
            progress.runs = self.queue.runs(id);
            let not_before = progress.not_before;
            self.queue.put_back(id, Some(progress.clone()), turn.at());
            turn.op(CoreOp::UpdateJob { job: id, progress }, Pace::Lazy);
            turn.event(CoreEvent::Retrying { job: id, function, not_before, error });
        }
    }

    /// A breadcrumb tells that the process died during an attempt.
    pub(super) fn crashed(&mut self, crumb: &Crumb, turn: &mut Turn<'_>) {
        let Crumb { job: id, run, function, .. } = crumb;
        let (id, run) = (*id, *run);
        let Some(job) = self.queue.get(id).filter(|job| job.event.id == crumb.event) else {
            turn.event(CoreEvent::StaleBreadcrumb { job: id, run });
            self.strays.insert((function.clone(), crumb.likeness));
            let trial = self.apps.crash(function.app());
            return self.tell_probation(function.app(), trial, turn);
        };
        if run <= job.progress.runs || self.queue.is_running(id) {
            turn.event(CoreEvent::StaleBreadcrumb { job: id, run });
            return;
        }
        let mut progress = Progress { runs: run, ..job.progress.clone() };
        let trial = self.apps.crash(function.app());
        let crashes_max = self.settings.limits.crashes_max;
        let crashes = progress.crashes.saturating_add(1);
        if trial == Trial::NotOnProbation && (crumb.alone || crashes < crashes_max) {
            progress.crashes = crashes;
            progress.last_error = Some(format!("{}: the process died", FaultKind::Crashed));
        }
        let crashes = progress.crashes;
        turn.event(CoreEvent::CrashCounted { job: id, function: function.clone(), crashes });
        turn.op(CoreOp::UpdateJob { job: id, progress: progress.clone() }, Pace::Prompt);
        self.queue.set_progress(id, progress, turn.at());
        if crashes >= crashes_max {
            self.give_up(id, DeadReason::Crashed, None, turn);
        }
        self.tell_probation(function.app(), trial, turn);
    }

    /// The function said what it meant to say: it works.
    fn answered(&mut self, id: JobId, turn: &mut Turn<'_>) {
        let function = self.function_of(id);
        self.note_answer(id, &function, turn);
    }

    fn function_of(&self, id: JobId) -> FunctionId {
        self.queue.get(id).expect("invariant: a job at work is in the queue").function.clone()
    }
}

/// A function without state that wrote some: the runtime refuses that, and so do we.
fn checked(outcome: Outcome, scope: StateScope) -> Outcome {
    match outcome {
        Outcome::Done(outputs) if scope == StateScope::None && !outputs.state.is_empty() => {
            let message = "the function wrote state but declares state = \"none\"".to_owned();
            Outcome::Fault(Fault { kind: FaultKind::Denied, message })
        }
        other => other,
    }
}
