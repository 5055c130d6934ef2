//! An update on trial, and the revision that brought it: they stand and fall together, by the rule of
//! [`edge_core::boot::health`].

use edge_core::boot::health::{Facts, Revision, Verdict, judge};
use edge_core::boot::{Source, Trial};
use edge_core::id::Digest;
use edge_core::time::Millis;

use super::super::gateway::Gateway;
use super::{FORMAT, JUDGE_EVERY, WRITE_AGAIN_AFTER, offer};
use crate::launch::Launched;
use crate::launch::slots::Slots;

/// The live revision that brings the update on trial, and did not fail.
struct Bringer {
    app: String,
    revision: Digest,
    on_probation: bool,
    /// `None`: it could not be made ready here.
    has_functions: Option<bool>,
}

impl Gateway {
    /// The live revision that brought an update, or another one with the same program.
    fn bringer(&self, by: Digest, program: Option<Digest>) -> Option<Bringer> {
        let ledger = self.deployments.reconciler.ledger();
        ledger.apps.iter().find_map(|(app, entry)| {
            let revision = entry.live.as_ref()?.digest;
            let has_failed = entry.failed.as_ref().is_some_and(|it| it.revision == revision);
            let ready = self.deployments.revision(revision);
            let brings = || {
                let offer = offer(ready?.manifest())?.ok()?;
                Some(offer.program.digest)
            };
            let is_it = revision == by || (program.is_some() && brings() == program);
            (is_it && !has_failed).then(|| Bringer {
                app: app.clone(),
                revision,
                on_probation: entry.on_probation,
                has_functions: ready.map(|ready| !ready.manifest().functions.is_empty()),
            })
        })
    }

    /// The revision that brought the update of a trial; `None`: it was no revision, or is gone.
    fn bringer_of(&self, trial: &Trial) -> Option<Bringer> {
        let state = self.update.state.as_ref()?;
        let program = state.program(state.confirmed.other()).map(|program| program.digest);
        match trial.by {
            Source::Package => None,
            Source::Revision(by) => self.bringer(by, program),
        }
    }

    fn revision_of(&self, trial: &Trial) -> Revision {
        if trial.by == Source::Package {
            return Revision::Passed;
        }
        let Some(bringer) = self.bringer_of(trial) else { return Revision::Gone };
        let is_changing = self.deployments.reconciler.is_changing(&bringer.app);
        let has_met = self.update.met == Some(bringer.revision)
            || bringer.has_functions == Some(false)
            || !bringer.on_probation;
        if has_met && !is_changing { Revision::Passed } else { Revision::OnProbation }
    }

    /// An update stands in the free slot: it has its trial, unless its revision went meanwhile.
    pub(super) fn begin_trial(&mut self) {
        // What the preparer wrote.
        self.update.change(|_| None);
        let trial = self.update.state.as_ref().and_then(|state| state.trial.clone());
        let Some(trial) = trial else { return };
        let is_changing = |bringer: Bringer| {
            let reconciler = &self.deployments.reconciler;
            reconciler.is_changing(&bringer.app)
        };
        if self.revision_of(&trial) == Revision::Gone {
            tracing::info!("an update of the agent is not wanted any more");
            let is_gone = self.update.change(|state| Some(state.forget_free()));
            let again = if is_gone { Millis(0) } else { self.now.at + WRITE_AGAIN_AFTER };
            self.update.look_at = Some(again);
        } else if !self.bringer_of(&trial).is_some_and(is_changing) {
            // Else the ledger soon says what came of it.
            self.make_room();
        }
    }

    /// The launcher has to count the tries: where it could not this agent goes on.
    fn make_room(&mut self) {
        let slots = self.update.launched.as_ref().map(Launched::slots);
        match slots.map_or(Ok(()), Slots::rewrite) {
            Ok(()) => self.switch_agent(),
            Err(error) => {
                tracing::error!(%error, "an update waits: the state of the slots cannot be written");
                self.update.look_at = Some(self.now.at + WRITE_AGAIN_AFTER);
            }
        }
    }

    pub(super) fn judge_update(&mut self) {
        self.update.judge_at = Some(self.now.at + JUDGE_EVERY);
        let Some(state) = self.update.state.clone() else { return };
        let Some(trial) = state.trial.as_ref().filter(|_| self.update.is_on_trial()) else {
            self.update.judge_at = None;
            return;
        };
        let facts = Facts {
            alive: self.now.at.since(self.update.begun),
            is_managed: self.deployments.is_managed,
            reached: self.update.reached,
            ill: self.ill(),
            safe_mode: self.core.is_in_safe_mode(),
            data: (state.data, FORMAT),
            revision: self.revision_of(trial),
        };
        match judge(trial.before, &facts, self.update.patience) {
            Verdict::Wait => {}
            Verdict::WaitForRevision => {
                if !std::mem::replace(&mut self.update.is_well, true) {
                    tracing::info!("this agent is well: it stays if the functions of its app do");
                }
            }
            Verdict::Commit => self.confirm_update(trial),
            Verdict::TakeBack(reason) => self.take_back_update(&reason),
            Verdict::Withdraw => self.withdraw_update(),
        }
    }

    fn confirm_update(&mut self, trial: &Trial) {
        let bringer = self.bringer_of(trial).filter(|bringer| bringer.on_probation);
        let revision = bringer.map(|bringer| bringer.revision);
        if !self.update.change(|state| Some(state.confirm(FORMAT, revision))) {
            self.update.judge_at = Some(self.now.at + WRITE_AGAIN_AFTER);
            return;
        }
        self.update.judge_at = None;
        let Some(program) = self.update.running().cloned() else { return };
        let text =
            format!("agent {} ({:.12}) is kept", program.version, program.digest.to_string());
        tracing::info!(text, "update");
        self.tell_cloud("agent-updated", text);
        self.keep_owed();
        // What waited for the end of the trial.
        self.update.look();
    }

    /// The ledger says what the state of the slots said first: that the revision is kept.
    pub(super) fn keep_owed(&mut self) {
        let owed = self.update.state.as_ref().and_then(|state| state.owed);
        let Some(owed) = owed.filter(|_| self.update.settling.is_none()) else { return };
        let mut apps = self.deployments.reconciler.ledger().apps.iter();
        let app = apps.find(|(_, entry)| {
            let is_live = entry.live.as_ref().is_some_and(|live| live.digest == owed);
            is_live && entry.on_probation
        });
        match app.map(|(app, _)| app.clone()) {
            Some(app) => {
                self.update.settling = Some(self.commit.open());
                self.keep_revision(&app, owed);
            }
            None => {
                self.update.change(|state| Some(state.settled()));
            }
        }
    }

    fn take_back_update(&mut self, reason: &str) {
        tracing::error!(reason, "this agent takes itself back");
        if self.update.change(|state| Some(state.take_back(reason))) {
            self.update.judge_at = None;
            self.switch_agent();
        } else {
            self.update.judge_at = Some(self.now.at + WRITE_AGAIN_AFTER);
        }
    }

    fn withdraw_update(&mut self) {
        tracing::warn!("this agent goes again: something else is deployed than what brought it");
        if self.update.change(|state| Some(state.forget_free())) {
            self.update.judge_at = None;
            self.switch_agent();
        } else {
            self.update.judge_at = Some(self.now.at + WRITE_AGAIN_AFTER);
        }
    }

    /// Whether the end of a probation does not count (yet): it waits for that of the program which the
    /// revision brings, or the program has failed.
    pub(in crate::agent) fn holds_pass(&mut self, app: &str, revision: Digest) -> bool {
        let ledger = self.deployments.reconciler.ledger().apps.get(app);
        let failed = ledger.and_then(|app| app.failed.as_ref());
        if failed.is_some_and(|failed| failed.revision == revision) {
            return true;
        }
        let update = &self.update;
        let revision_here = self.deployments.revision(revision);
        if revision_here.is_some_and(|it| it.manifest().system.is_some()) {
            // The image keeps a system, and the revision follows.
            return true;
        }
        let brought = revision_here.and_then(|it| offer(it.manifest()));
        let (Some(_), Some(Ok(offer))) = (&update.launched, brought) else { return false };
        let running = update.running().map(|program| program.digest);
        let is_kept = running == Some(offer.program.digest) && !update.is_on_trial();
        if !is_kept {
            self.update.met = Some(revision);
        }
        !is_kept
    }

    /// A revision failed: where it brought the agent on trial, that goes as well.
    pub(in crate::agent) fn revision_failed(&mut self, revision: Digest, reason: &str) {
        let trial = self.update.state.as_ref().and_then(|state| state.trial.clone());
        let Some(trial) = trial.filter(|_| self.update.is_on_trial()) else { return };
        let is_its = self.bringer_of(&trial).is_some_and(|it| it.revision == revision);
        if is_its && !self.update.switching {
            self.take_back_update(&format!("its revision failed: {reason}"));
        }
    }
}
