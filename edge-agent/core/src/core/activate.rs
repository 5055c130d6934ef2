//! How revisions come and go.
//!
//! # Rules (DESIGN, section 4, deployments)
//! - An app is swapped when nothing of it runs; an attempt runs under the revision that is live
//!   when it starts.
//! - A function that both revisions have keeps its queue. A job whose function or trigger the new
//!   one does not have is a dead letter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::effect::{Effect, Pace};
use crate::event::CoreEvent;
use crate::id::{Digest, FunctionId, JobId, TriggerId};
use crate::op::{CoreOp, DeadReason};
use crate::queue::Batched;
use crate::release::{ProbationPolicy, Release, TriggerSource, TriggerSpec};
use crate::turn::Turn;

use super::Core;
use super::apps::Trial;
use super::backoff::too_old_at;

impl Core {
    pub(super) fn activate(
        &mut self,
        release: &Arc<Release>,
        probation: Option<ProbationPolicy>,
        turn: &mut Turn<'_>,
    ) {
        let app = release.app.clone();
        assert!(self.queue.running_of(&app) == 0, "{app} is swapped when nothing of it runs");
        self.unroute(&app);
        let kept: BTreeSet<&FunctionId> = release.functions.iter().map(|spec| &spec.id).collect();
        assert!(kept.iter().all(|id| id.app() == app), "functions carry their app's name");
        for function in self.queue.functions_of(&app) {
            if !kept.contains(&function) {
                self.abandon(&function, turn);
            }
        }
        self.routes.insert(release);
        self.filtered.keep(&self.routes);
        for trigger in &release.triggers {
            if let TriggerSource::Schedule { schedule, missed } = &trigger.source {
                self.slots.add(&trigger.id, schedule.clone(), *missed);
            }
        }
        let mark_changed = self.apps.insert(Arc::clone(release), probation, turn.at());
        if mark_changed {
            self.write_mark(&app, Pace::Prompt, turn);
        }
        let stopped = self.apps.is_stopped(&app);
        for spec in &release.functions {
            let batches = batches_of(release, &spec.id);
            self.queue.install(spec, release.revision, batches, turn.at());
            self.keep_pause(&spec.id, release.revision, turn);
            self.queue.stop(&spec.id, stopped);
            for job in self.queue.jobs_of(&spec.id) {
                self.take_over(job, turn);
            }
        }
        turn.event(CoreEvent::Activated {
            app: app.clone(),
            revision: release.revision,
            on_probation: probation.is_some(),
        });
        if self.apps.has_failed(&app) {
            // It had failed before the restart; whoever has to know may have died too.
            self.tell_probation(&app, Trial::Failed, turn);
        }
        self.lay_holds();
    }

    pub(super) fn deactivate(&mut self, app: &str, turn: &mut Turn<'_>) {
        assert!(self.queue.running_of(app) == 0, "{app} goes when nothing of it runs");
        self.unroute(app);
        for function in self.queue.functions_of(app) {
            self.abandon(&function, turn);
        }
        if self.apps.remove(app) {
            turn.op(CoreOp::DeleteProbation { app: app.to_owned() }, Pace::Prompt);
        }
        self.filtered.keep(&self.routes);
        turn.event(CoreEvent::Deactivated { app: app.to_owned() });
        self.lay_holds();
    }

    pub(super) fn quiesce(&mut self, app: &str, turn: &mut Turn<'_>) {
        self.apps.set_quiescing(app, true);
        self.stop_functions(app);
        if self.apps.is_quiescing(app) {
            self.tell_quiet(app, turn);
        } else {
            // An app that is not active is quiet.
            turn.effect(Effect::Quiesced { app: app.to_owned() });
        }
    }

    pub(super) fn resume(&mut self, app: &str) {
        self.apps.set_quiescing(app, false);
        self.stop_functions(app);
    }

    /// Tells that nothing of an app runs any more, if somebody waits for that.
    pub(super) fn tell_quiet(&mut self, app: &str, turn: &mut Turn<'_>) {
        if self.apps.is_quiescing(app) && self.queue.running_of(app) == 0 {
            turn.effect(Effect::Quiesced { app: app.to_owned() });
        }
    }

    /// Writes down what an attempt meant for a revision on probation, and tells its end.
    pub(super) fn tell_probation(&mut self, app: &str, trial: Trial, turn: &mut Turn<'_>) {
        match trial {
            Trial::NotOnProbation => {}
            Trial::Goes => self.write_mark(app, Pace::Lazy, turn),
            Trial::Passed if self.apps.is_held(app) => {
                self.write_mark(app, Pace::Lazy, turn);
                if let Some(revision) = self.apps.meet(app) {
                    turn.effect(Effect::ProbationPassed { app: app.to_owned(), revision });
                }
            }
            Trial::Passed => {
                if let Some(revision) = self.apps.pass(app) {
                    self.write_mark(app, Pace::Prompt, turn);
                    turn.effect(Effect::ProbationPassed { app: app.to_owned(), revision });
                }
            }
            Trial::Failed => {
                self.write_mark(app, Pace::Prompt, turn);
                self.stop_functions(app);
                if let Some(mark) = self.apps.mark(app) {
                    turn.effect(Effect::ProbationFailed {
                        app: app.to_owned(),
                        revision: mark.revision,
                        reason: mark.failed.clone().unwrap_or_default(),
                    });
                }
            }
        }
    }

    /// A revision is kept, whoever it waited for.
    pub(super) fn end_probation(&mut self, app: &str, revision: Digest, turn: &mut Turn<'_>) {
        let is_it = self.apps.mark(app).is_some_and(|mark| mark.revision == revision);
        if is_it && self.apps.pass(app).is_some() {
            self.write_mark(app, Pace::Prompt, turn);
            self.stop_functions(app);
        }
    }

    pub(super) fn write_mark(&mut self, app: &str, pace: Pace, turn: &mut Turn<'_>) {
        let op = match self.apps.mark(app) {
            Some(mark) => CoreOp::PutProbation(Box::new(mark.clone())),
            None => CoreOp::DeleteProbation { app: app.to_owned() },
        };
        turn.op(op, pace);
    }

    /// A waiting job goes on under a new revision, if that knows its trigger as one of its function:
    /// another function may not export what this one's batches call, and has other state.
    fn take_over(&mut self, id: JobId, turn: &mut Turn<'_>) {
        let Some(job) = self.queue.get(id) else { return };
        let trigger = self.trigger(&job.event.trigger);
        match trigger.filter(|trigger| trigger.function == job.function) {
            Some(trigger) => {
                let at = too_old_at(&trigger, job, turn.now);
                self.queue.set_too_old_at(id, at);
            }
            None => self.give_up(id, DeadReason::FunctionGone, None, turn),
        }
    }

    fn unroute(&mut self, app: &str) {
        if let Some(before) = self.apps.release(app) {
            self.routes.remove(&before);
            before.triggers.iter().for_each(|trigger| self.slots.remove(&trigger.id));
        }
    }

    fn stop_functions(&mut self, app: &str) {
        let stopped = self.apps.is_stopped(app);
        for function in self.queue.functions_of(app) {
            self.queue.stop(&function, stopped);
        }
    }
}

/// How the events of a function's triggers go together, where they do.
fn batches_of(release: &Release, function: &FunctionId) -> BTreeMap<TriggerId, Batched> {
    let own = release.triggers.iter().filter(|trigger| trigger.function == *function);
    let batched = |trigger: &TriggerSpec| {
        Some(Batched { policy: trigger.batch?, pace: trigger.durability.into() })
    };
    own.filter_map(|trigger| Some((trigger.id.clone(), batched(trigger)?))).collect()
}
