//! The agent's own update: the shell around [`edge_core::boot`].
//!
//! A live revision brings a program; where it is another one than this, it goes into the free slot and
//! this process ends so that the launcher tries it. On trial this process judges itself, and stays or
//! ends so that the launcher goes back. Then the revision that brought it is taken back like any other.

use edge_core::boot::health::{Facts, Patience, Verdict, judge};
use edge_core::boot::{Before, Offer, Program, State};
use edge_core::id::{BatchSeq, Digest};
use edge_core::reconcile::Input as Reconcile;
use edge_core::time::Millis;
use serde_json::{Value, json};
use sync_protocol::Manifest;

use super::gateway::Gateway;
use super::inbox::Inbound;
use super::prepare::{Prepare, Staging};
use crate::launch::{Launched, TARGET};
use crate::store::FORMAT;

/// How often an agent on trial looks at itself.
const JUDGE_EVERY: Millis = Millis(1_000);
/// Wait after the state of the slots could not be written.
const WRITE_AGAIN_AFTER: Millis = Millis(10_000);

/// What is known of the agent's own update, in one life.
#[derive(Debug, Default)]
pub(super) struct Update {
    launched: Option<Launched>,
    /// The state as this life found or left it; `None` where there is no launcher.
    state: Option<State>,
    patience: Patience,
    /// When this life began.
    begun: Millis,
    /// The control plane was reached in this life.
    pub(super) reached: bool,
    /// The ledger changed: there may be something to do.
    pub(super) look: bool,
    judge_at: Option<Millis>,
    /// App and revision whose program is being written.
    staging: Option<(String, Digest)>,
    switching: bool,
    /// The revision that failed by its program in this life: it is told once, not at every turn.
    failed: Option<Digest>,
    /// A revision that passed its probation while its program is on trial.
    held: Option<(String, Digest)>,
    /// The batch in which the control plane is told of failures.
    telling: Option<BatchSeq>,
}

impl Update {
    /// A life begins.
    ///
    /// # Errors
    /// The state of the slots cannot be read.
    pub(super) fn new(
        launched: Option<Launched>,
        patience: Patience,
        now: Millis,
    ) -> std::io::Result<Self> {
        let state = launched.as_ref().map(Launched::state).transpose()?;
        let mut update =
            Self { launched, state, patience, begun: now, look: true, ..Self::default() };
        update.judge_at = update.is_on_trial().then_some(now);
        Ok(update)
    }

    /// This process is an update that may go again.
    #[must_use]
    pub(super) fn is_on_trial(&self) -> bool {
        let slot = self.launched.as_ref().map(Launched::slot);
        slot.is_some() && self.state.as_ref().and_then(State::on_trial) == slot
    }

    /// A crash before this life was that of an update on trial: no message and no revision is to be
    /// blamed for it.
    #[must_use]
    pub(super) fn excuses_crashes(&self) -> bool {
        self.is_on_trial() || self.has_untold()
    }

    /// Version and slot, for the control plane.
    #[must_use]
    pub(super) fn label(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let slot = self.launched.as_ref().map(|launched| launched.slot().as_str());
        slot.map_or_else(|| version.to_owned(), |slot| format!("{version} (slot {slot})"))
    }

    /// When there is something to do.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.launched.as_ref()?;
        if self.look { Some(Millis(0)) } else { self.judge_at }
    }

    fn has_untold(&self) -> bool {
        self.state.iter().flat_map(|state| &state.failures).any(|failure| !failure.told)
    }

    /// The program that runs.
    fn running(&self) -> Option<&Program> {
        self.state.as_ref()?.program(self.launched.as_ref()?.slot())
    }

    fn save(&mut self, state: State) -> bool {
        let Some(launched) = &self.launched else { return false };
        if let Err(error) = launched.slots().save(&state) {
            tracing::error!(%error, "the state of the slots cannot be written");
            return false;
        }
        // The link is for people, and is led there again at the next start.
        if state.confirmed == launched.slot()
            && let Err(error) = launched.slots().link(state.confirmed)
        {
            tracing::warn!(%error, "the link to the confirmed slot cannot be led there");
        }
        self.state = Some(state);
        true
    }

    /// For `status`.
    #[must_use]
    pub(super) fn json(&self) -> Value {
        let program = |program: &Program| json!({ "version": program.version.to_string(), "digest": program.digest.to_string() });
        let slot = self.launched.as_ref().map(Launched::slot);
        let state = self.state.as_ref();
        let other = slot.and_then(|slot| state?.program(slot.other()));
        let tries = state.and_then(|state| state.trial.as_ref()).map(|trial| trial.tries_left);
        let failures = state.iter().flat_map(|state| &state.failures).rev().map(|failure| {
            let mut row = program(&failure.program);
            row["reason"] = json!(failure.reason);
            row
        });
        json!({
            "target": TARGET,
            "slot": slot.map(edge_core::boot::Slot::as_str),
            "state": slot.map(|_| if self.is_on_trial() { "trial" } else { "confirmed" }),
            "tries_left": tries,
            "digest": self.running().map(|program| program.digest.to_string()),
            "floor": state.map(|state| state.floor.to_string()),
            "data_format": FORMAT,
            "other": other.map(program),
            "taken_back": failures.collect::<Vec<_>>(),
        })
    }
}

/// The program that a manifest brings for this agent, or why there is none.
fn offer(manifest: &Manifest) -> Option<Result<Offer, String>> {
    let agent = manifest.agent.as_ref()?;
    let Some(program) = agent.programs.get(TARGET) else {
        let targets: Vec<_> = agent.programs.keys().map(String::as_str).collect();
        let targets = targets.join(", ");
        let why = format!(
            "no agent program is for {TARGET} (there is one for {targets}): add it to [agent]"
        );
        return Some(Err(why));
    };
    let digest = Digest(program.artifact.0);
    // Checked with the manifest.
    let (version, floor) = (agent.version()?, agent.floor()?);
    Some(Ok(Offer { program: Program { digest, version }, floor, force: agent.force }))
}

impl Gateway {
    /// Whether a revision with an agent can go live beside those that are.
    pub(super) fn check_agent(&self, new: &Manifest) -> Result<(), String> {
        let Some(offer) = offer(new) else { return Ok(()) };
        let (Some(launched), Some(running)) = (&self.update.launched, self.update.running()) else {
            return Err(
                "this agent was not started by `edge-agent launch`, so it has no second slot for \
                        an update: start it so, or update it by hand"
                    .to_owned(),
            );
        };
        let offer = offer?;
        let live = self.deployments.live_revisions();
        let mut others = live.values().filter(|other| other.manifest().app != new.app);
        if let Some(other) = others.find(|other| other.manifest().agent.is_some()) {
            let other = &other.manifest().app;
            return Err(format!(
                "app {other} brings the agent here: take [agent] out of one of them"
            ));
        }
        if offer.program.digest == running.digest {
            return Ok(());
        }
        let state = launched.state().map_err(|error| format!("the state of the slots: {error}"))?;
        state.admit(&offer).map_err(|refusal| refusal.to_string())
    }

    /// What is due.
    pub(super) fn tick_update(&mut self) {
        if self.update.launched.is_none() || self.stop_by.is_some() {
            self.update.look = false;
            return;
        }
        self.update.reached |= self.link.up;
        if std::mem::take(&mut self.update.look) {
            self.tell_failures();
            self.take_update();
        }
        if self.update.judge_at.is_some_and(|at| at <= self.now.at) {
            self.judge_update();
        }
    }

    /// Starts what a live revision wants of this agent.
    fn take_update(&mut self) {
        let Some(launched) = self.update.launched.clone() else { return };
        let busy = self.update.staging.is_some() || self.update.switching;
        let state = match launched.state() {
            Ok(state) if !busy && !self.update.is_on_trial() => state,
            Ok(_) => return,
            Err(error) => return tracing::error!(%error, "the state of the slots cannot be read"),
        };
        if state.trial.is_some() {
            // Written before the store failed.
            return self.switch_agent();
        }
        let running = self.update.running().map(|program| program.digest);
        let failed = self.update.failed;
        let wanted = self.deployments.revisions_on_probation().find_map(|(app, revision)| {
            let offer = offer(revision.manifest())?.ok()?;
            let app = (app.to_owned(), Digest(revision.digest().0));
            let is_wanted = Some(offer.program.digest) != running && Some(app.1) != failed;
            is_wanted.then_some((app, offer))
        });
        let Some(((app, revision), offer)) = wanted else { return };
        let refusal = || state.admit(&offer).err().map(|refusal| refusal.to_string());
        let tried = self.tried(&state, &app, revision, offer.program.digest);
        if let Some(reason) = tried.or_else(refusal) {
            return self.fail_update(&app, revision, reason);
        }
        tracing::info!(app, version = %offer.program.version, "an update of the agent is written");
        self.update.staging = Some((app, revision));
        // A link that is away for this moment only is no excuse for an update that reaches nobody.
        let link_down = self.deployments.is_managed && !self.update.reached;
        let before = Before { link_down, ill: self.ill() };
        self.deployments.ask(Prepare::Stage(Box::new(Staging { launched, offer, before })));
    }

    /// Why the program of a revision did not stay, where it was tried for this revision: then no word of
    /// its author gives it another trial.
    fn tried(&self, state: &State, app: &str, revision: Digest, program: Digest) -> Option<String> {
        let ledger = self.deployments.reconciler.ledger().apps.get(app);
        let failed =
            ledger.and_then(|app| app.failed.as_ref()).filter(|it| it.revision == revision);
        let news = state.failure(program).filter(|failure| !failure.told);
        news.map(|failure| failure.reason.clone()).or_else(|| failed.map(|it| it.reason.clone()))
    }

    /// The update is in its slot, or could not be.
    pub(super) fn agent_staged(&mut self, result: Result<(), String>) {
        let Some((app, revision)) = self.update.staging.take() else { return };
        match result {
            Err(reason) => self.fail_update(&app, revision, reason),
            Ok(()) if self.is_on_probation(revision) => self.switch_agent(),
            Ok(()) => {
                // Its revision went meanwhile; the program was never started.
                let state = self.update.launched.as_ref().and_then(|it| it.state().ok());
                if let Some(state) = state {
                    self.update.save(state.forget_free());
                }
            }
        }
    }

    fn fail_update(&mut self, app: &str, revision: Digest, reason: String) {
        self.update.failed = Some(revision);
        self.probation_failed(app, revision, reason);
    }

    fn is_on_probation(&self, revision: Digest) -> bool {
        let mut live = self.deployments.revisions_on_probation();
        live.any(|(_, live)| live.digest().0 == revision.0)
    }

    /// Ends this process so that the launcher looks at the state anew.
    fn switch_agent(&mut self) {
        if let Some(launched) = &self.update.launched {
            launched.ask_for_switch();
        }
        self.update.switching = true;
        tracing::info!("this process makes room for the agent in the other slot");
        self.inbound(Inbound::Stop);
    }

    fn judge_update(&mut self) {
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
        };
        match judge(trial.before, &facts, self.update.patience) {
            Verdict::Wait(_) => {}
            Verdict::Commit => self.confirm_update(&state),
            Verdict::TakeBack(reason) => self.take_back_update(&reason),
        }
    }

    fn confirm_update(&mut self, state: &State) {
        if !self.update.save(state.confirm(FORMAT)) {
            self.update.judge_at = Some(self.now.at + WRITE_AGAIN_AFTER);
            return;
        }
        self.update.judge_at = None;
        let Some(program) = self.update.running().cloned() else { return };
        let text =
            format!("agent {} ({:.12}) is kept", program.version, program.digest.to_string());
        tracing::info!(text, "update");
        self.tell_cloud("agent-updated", text);
        if let Some((app, revision)) = self.update.held.take() {
            self.reconcile(Reconcile::Passed { app, revision });
        }
    }

    fn take_back_update(&mut self, reason: &str) {
        let Some(state) = self.update.state.clone() else { return };
        tracing::error!(reason, "this agent takes itself back");
        if self.update.save(state.take_back(reason)) {
            self.update.judge_at = None;
            self.switch_agent();
        } else {
            self.update.judge_at = Some(self.now.at + WRITE_AGAIN_AFTER);
        }
    }

    /// Whether the end of a probation does not count (yet): it waits for that of the program which the
    /// revision brings, or the program has failed.
    pub(super) fn holds_pass(&mut self, app: &str, revision: Digest) -> bool {
        let ledger = self.deployments.reconciler.ledger().apps.get(app);
        let failed = ledger.and_then(|app| app.failed.as_ref());
        if failed.is_some_and(|failed| failed.revision == revision) {
            return true;
        }
        let update = &self.update;
        let waits = update.is_on_trial() || update.staging.is_some() || update.switching;
        let live = self.deployments.live_revisions();
        let brings = live.get(app).is_some_and(|live| live.manifest().agent.is_some());
        if waits && brings {
            self.update.held = Some((app.to_owned(), revision));
        }
        waits && brings
    }

    /// A revision failed: where it brought the agent on trial, that goes as well.
    pub(super) fn revision_failed(&mut self, revision: Digest, reason: &str) {
        let live = self.deployments.live_revisions();
        let mut failed = live.values().filter(|live| live.digest().0 == revision.0);
        let brought = failed.any(|live| live.manifest().agent.is_some());
        if brought && self.update.is_on_trial() && !self.update.switching {
            self.take_back_update(&format!("its revision failed: {reason}"));
        }
    }

    /// Apps that are not ready and functions that are paused.
    fn ill(&self) -> u32 {
        let status = self.core.status(self.now);
        let paused = status.functions.iter().filter(|function| function.paused_ms.is_some());
        let ill = paused.count() + self.deployments.not_ready();
        u32::try_from(ill).unwrap_or(u32::MAX)
    }

    /// The control plane hears of updates that did not stay.
    fn tell_failures(&mut self) {
        if self.update.is_on_trial() || !self.update.has_untold() || self.update.telling.is_some() {
            return;
        }
        let failures = self.update.state.iter().flat_map(|state| &state.failures);
        let texts: Vec<String> = failures
            .filter(|failure| !failure.told)
            .map(|failure| {
                let Program { digest, version } = &failure.program;
                format!(
                    "agent {version} ({:.12}) was taken back: {}",
                    digest.to_string(),
                    failure.reason
                )
            })
            .collect();
        for text in texts {
            tracing::error!(text, "update");
            self.tell_cloud("agent-taken-back", text);
        }
        self.update.telling = Some(self.commit.open());
    }

    /// What is durable need not be told again.
    pub(super) fn update_durable(&mut self, ticket: BatchSeq) {
        if self.update.telling.take_if(|at| *at <= ticket).is_some()
            && let Some(state) = self.update.launched.as_ref().and_then(|it| it.state().ok())
        {
            self.update.save(state.told());
        }
    }
}
