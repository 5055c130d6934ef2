//! The agent's own update: the shell around [`edge_core::boot`].
//!
//! A live revision brings a program; where it is another one than this, it goes into the free slot and
//! this process ends so that the launcher tries it. On trial this process judges itself ([`trial`]), and
//! stays or ends so that the launcher goes back. The revision stands and falls with it.

use edge_core::boot::health::Patience;
use edge_core::boot::{Before, Offer, Program, Source, State};
use edge_core::id::{BatchSeq, Digest};
use edge_core::time::Millis;
use serde_json::{Value, json};
use sync_protocol::Manifest;

use super::gateway::Gateway;
use super::inbox::Inbound;
use super::prepare::{Prepare, Staging};
use crate::launch::install::RUNNING;
use crate::launch::{Launched, TARGET};
use crate::store::FORMAT;

mod trial;

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
    /// When to look whether there is something to do: at once after the ledger changed.
    look_at: Option<Millis>,
    judge_at: Option<Millis>,
    /// It was found well on trial, and waits for its revision: it says so once.
    is_well: bool,
    /// App and revision whose program is being written.
    staging: Option<(String, Digest)>,
    switching: bool,
    /// It is told once that an update waits because this agent runs from the slot that it would go into.
    is_waiting: bool,
    /// The revision that failed by its program in this life: it is told once, not at every turn.
    failed: Option<Digest>,
    /// A revision whose functions passed their probation, and whose program did not yet.
    met: Option<Digest>,
    /// The batch in which the control plane is told of failures.
    telling: Option<BatchSeq>,
    /// The batch in which the ledger says that the revision is kept which the state owes.
    settling: Option<BatchSeq>,
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
            Self { launched, state, patience, begun: now, look_at: Some(now), ..Self::default() };
        update.judge_at = update.is_on_trial().then_some(now);
        Ok(update)
    }

    /// This process is an update that may go again.
    #[must_use]
    pub(super) fn is_on_trial(&self) -> bool {
        let slot = self.launched.as_ref().map(Launched::slot);
        slot.is_some() && self.state.as_ref().and_then(State::on_trial) == slot
    }

    /// Whether a revision is kept by the state of the slots, though the ledger may not say so yet.
    #[must_use]
    pub(super) fn owes(&self, revision: Digest) -> bool {
        self.state.as_ref().is_some_and(|state| state.owed == Some(revision))
    }

    /// There may be something to do.
    pub(super) fn look(&mut self) {
        self.look_at = Some(Millis(0));
    }

    /// An update is being written, or on trial, or about to be.
    #[must_use]
    pub(super) fn is_under_way(&self) -> bool {
        self.is_on_trial() || self.switching || self.staging.is_some()
    }

    /// Version and slot, for the control plane.
    #[must_use]
    fn label(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let slot = self.launched.as_ref().map(|launched| launched.slot().as_str());
        slot.map_or_else(|| version.to_owned(), |slot| format!("{version} (slot {slot})"))
    }

    /// When there is something to do.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.launched.as_ref()?;
        [self.look_at, self.judge_at].into_iter().flatten().min()
    }

    fn has_untold(&self) -> bool {
        self.state.iter().flat_map(|state| &state.failures).any(|failure| !failure.told)
    }

    /// The program that runs.
    fn running(&self) -> Option<&Program> {
        self.state.as_ref()?.program(self.launched.as_ref()?.slot())
    }

    /// Changes the state of the slots, durably; whether that worked.
    fn change(&mut self, change: impl FnOnce(&State) -> Option<State>) -> bool {
        let Some(launched) = &self.launched else { return false };
        let state = match launched.slots().change(change) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(%error, "the state of the slots cannot be written");
                return false;
            }
        };
        let before = self.state.as_ref().map(|before| before.confirmed);
        // The link is for people, and is led there again at the next start.
        if before != Some(state.confirmed)
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
            "state": slot.map(|slot| match state.is_some_and(|state| state.confirmed == slot) {
                true => "confirmed",
                false => "trial",
            }),
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
    /// Version and slot of the agent, and of the system below it, for the control plane.
    pub(super) fn label(&self) -> String {
        let agent = self.update.label();
        self.system.label().map_or_else(|| agent.clone(), |system| format!("{agent}, {system}"))
    }

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
            self.update.look_at = None;
            return;
        }
        let now = self.now.at;
        self.update.reached |= self.link.up;
        if self.update.look_at.take_if(|at| *at <= now).is_some() {
            self.note_format();
            self.keep_owed();
            self.tell_failures();
            self.take_update();
            // The revision that brought this agent may be another one, or gone.
            self.update.judge_at = self.update.judge_at.map(|_| now);
        }
        if self.update.judge_at.is_some_and(|at| at <= now) {
            self.judge_update();
        }
    }

    /// A launcher that has another program to offer asks which format the data is in.
    fn note_format(&mut self) {
        let is_news = self.update.state.as_ref().is_some_and(|state| state.data != FORMAT);
        if is_news && !self.update.is_on_trial() {
            self.update.change(|state| Some(State { data: FORMAT, ..state.clone() }));
        }
    }

    /// Starts what a live revision wants of this agent.
    fn take_update(&mut self) {
        let Some(launched) = self.update.launched.clone() else { return };
        let busy = self.update.staging.is_some() || self.update.switching;
        let state = match launched.state() {
            Ok(state) if !busy && !self.update.is_on_trial() => state,
            Ok(_) => return,
            Err(error) => {
                tracing::error!(%error, "the state of the slots cannot be read");
                self.update.look_at = Some(self.now.at + WRITE_AGAIN_AFTER);
                return;
            }
        };
        if state.trial.is_some() {
            // Written before the store failed.
            return self.begin_trial();
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
        if state.free() == launched.slot() {
            return self.wait_for_slot();
        }
        let refusal = || state.admit(&offer).err().map(|refusal| refusal.to_string());
        let tried = self.tried(&state, &app, revision, offer.program.digest);
        if let Some(reason) = tried.or_else(refusal) {
            return self.fail_update(&app, revision, reason);
        }
        tracing::info!(app, version = %offer.program.version, "an update of the agent is written");
        self.update.staging = Some((app, revision));
        let (by, before) = (Source::Revision(revision), self.before_update());
        self.deployments.ask(Prepare::Stage(Box::new(Staging { launched, offer, by, before })));
    }

    /// The free slot is the one that this agent runs from: an update waits, and fails by nothing.
    fn wait_for_slot(&mut self) {
        if !std::mem::replace(&mut self.update.is_waiting, true) {
            tracing::error!(why = RUNNING, "no update of the agent is taken");
        }
        self.update.look_at = Some(self.now.at + WRITE_AGAIN_AFTER);
    }

    /// How things are now, for which an update is not to blame.
    fn before_update(&self) -> Before {
        // A link that is away for this moment only is no excuse for an update that reaches nobody.
        let is_away = self.link.is_away(self.update.patience.grace, self.now.at);
        Before { link_down: self.deployments.is_managed && is_away, ill: self.ill() }
    }

    /// This process stops: how things are now counts for an update that the next launcher brings.
    pub(super) fn note_usual(&mut self) {
        let update = &self.update;
        let lived = self.now.at.since(update.begun) >= update.patience.settle;
        let knows = lived || update.reached || !self.deployments.is_managed;
        if update.launched.is_some() && knows && !update.is_on_trial() && !update.switching {
            let usual = self.before_update();
            self.update.change(|state| state.note_usual(usual));
        }
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
            Err(reason) => {
                self.fail_update(&app, revision, reason);
                // Another revision may have waited.
                self.update.look();
            }
            Ok(()) => self.begin_trial(),
        }
    }

    fn fail_update(&mut self, app: &str, revision: Digest, reason: String) {
        self.update.failed = Some(revision);
        self.probation_failed(app, revision, reason);
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
        if self.update.telling.take_if(|at| *at <= ticket).is_some() {
            self.update.change(|state| Some(state.told()));
        }
        if self.update.settling.take_if(|at| *at <= ticket).is_some() {
            self.update.change(|state| Some(state.settled()));
        }
    }
}
