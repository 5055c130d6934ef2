//! An update of the whole system, where the agent runs from a card image: the shell around
//! [`edge_core::boot::system`]. A live revision brings a system; the image's helper writes it, the boot loader
//! tries it, the image keeps it or goes back, and the revision follows.

use edge_core::boot::system::{Next, Request, View, Wanted, next};
use edge_core::boot::{Offer, Program, Slot};
use edge_core::id::Digest;
use edge_core::time::Millis;
use serde_json::{Value, json};
use sync_protocol::Manifest;

use super::gateway::Gateway;
use crate::system::OnImage;

/// How often is looked while somebody else has to do something.
const LOOK_EVERY: Millis = Millis(1_000);
/// Wait after the helper could not be seen or asked.
const AGAIN_AFTER: Millis = Millis(10_000);
/// A helper that wrote nothing by then does not.
const PATIENCE: Millis = Millis(15 * 60_000);
/// A restart that did not come by then is asked for again.
const RESTART_WITHIN: Millis = Millis(5 * 60_000);

/// What is known of the system's update, in one life.
#[derive(Debug, Default)]
pub(super) struct SystemUpdate {
    image: Option<OnImage>,
    /// When to look whether there is something to do: at once after the ledger changed.
    look_at: Option<Millis>,
    /// What the helper was asked to write, and when: its number, too.
    asked: Option<(Digest, Millis)>,
    /// The end of a trial, or a restart, which was asked for and is not asked for again before then.
    quiet: Option<(Request, Millis)>,
    /// The revision that failed by its system in this life: it is told once, not at every turn.
    failed: Option<Digest>,
}

impl SystemUpdate {
    /// A life begins.
    pub(super) fn new(image: Option<OnImage>, now: Millis) -> Self {
        Self { image, look_at: Some(now), ..Self::default() }
    }

    /// There may be something to do.
    pub(super) fn look(&mut self) {
        self.look_at = Some(Millis(0));
    }

    /// When there is something to do.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.image.as_ref().and(self.look_at)
    }

    fn view(&self) -> Option<View> {
        self.image.as_ref()?.view().ok()
    }

    /// The board, where this is an image.
    #[must_use]
    pub(super) fn board(&self) -> Option<String> {
        self.view().map(|view| view.board)
    }

    /// Version and slot, for the control plane.
    #[must_use]
    pub(super) fn label(&self) -> Option<String> {
        let view = self.view()?;
        Some(format!("system {} (slot {})", view.version, view.slot.as_str()))
    }

    /// For `status`.
    #[must_use]
    pub(super) fn json(&self) -> Value {
        let Some(view) = self.view() else { return Value::Null };
        let program = |program: &Program| json!({ "version": program.version.to_string(), "digest": program.digest.to_string() });
        let at = |slot: Slot| view.system.program(slot);
        let failures = view.system.failures.iter().rev().map(|failure| {
            let mut row = program(&failure.program);
            row["reason"] = json!(failure.reason);
            row
        });
        json!({
            "board": view.board,
            "version": view.version.to_string(),
            "slot": view.slot.as_str(),
            "state": if view.is_on_trial() { "trial" } else { "confirmed" },
            "digest": at(view.slot).map(|program| program.digest.to_string()),
            "other": at(view.slot.other()).map(program),
            "waits_for_restart": view.system.trial.is_some() && !view.is_on_trial(),
            "floor": view.system.floor.to_string(),
            "taken_back": failures.collect::<Vec<_>>(),
        })
    }
}

/// The system that a manifest brings for this board, or why there is none; with its length.
fn offer(manifest: &Manifest, board: &str) -> Option<Result<(Offer, u64), String>> {
    let system = manifest.system.as_ref()?;
    let Some(file) = system.programs.get(board) else {
        let boards: Vec<_> = system.programs.keys().map(String::as_str).collect();
        let boards = boards.join(", ");
        let why = format!(
            "no system is for the board {board} (there is one for {boards}): add it to [system]"
        );
        return Some(Err(why));
    };
    // Checked with the manifest.
    let (version, floor) = (system.version()?, system.floor()?);
    let program = Program { digest: Digest(file.artifact.0), version };
    Some(Ok((Offer { program, floor, force: system.force }, file.size)))
}

impl Gateway {
    /// Whether a revision with a system can go live beside those that are. Asked before its file is fetched,
    /// and after.
    pub(super) fn check_system(&self, new: &Manifest) -> Result<(), String> {
        if new.system.is_none() {
            return Ok(());
        }
        let image = self.system.image.as_ref().ok_or(
            "this gateway does not run from a card image, so it has no second slot for a system: deploy \
             [agent], or update it by hand",
        )?;
        let view = image.view().map_err(|why| {
            format!("the image's helper for systems does not work, see the console: {why}")
        })?;
        let Some(offer) = offer(new, &view.board) else { return Ok(()) };
        let (offer, bytes) = offer?;
        let live = self.deployments.live_revisions();
        let mut others = live.values().filter(|other| other.manifest().app != new.app);
        if let Some(other) = others.find(|other| other.manifest().system.is_some()) {
            let other = &other.manifest().app;
            return Err(format!(
                "app {other} brings the system here: take [system] out of one of them"
            ));
        }
        let runs = view.system.program(view.slot) == Some(&offer.program);
        if runs || view.system.tried() == Some(&offer.program) {
            return Ok(());
        }
        if self.update.is_on_trial() {
            let text = "the agent that runs is itself on trial: deploy again once it is confirmed";
            return Err(text.to_owned());
        }
        view.system.admit(&offer).map_err(|refusal| refusal.to_string())?;
        if self.deployments.library.has(super::deploy::foreign(offer.program.digest)) {
            return Ok(());
        }
        image.check_room(bytes)
    }

    /// What is due.
    pub(super) fn tick_system(&mut self) {
        let now = self.now.at;
        let Some(image) = self.system.image.clone() else { return };
        if self.stop_by.is_some() || self.system.look_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        match image.view() {
            Ok(view) => self.follow_system(&image, &view),
            Err(error) => {
                tracing::warn!(error, "the image's helper for systems shows nothing");
                self.system.look_at = Some(now + AGAIN_AFTER);
            }
        }
    }

    fn follow_system(&mut self, image: &OnImage, view: &View) {
        let now = self.now.at;
        self.fail_again(&view.board);
        let failed = self.system.failed;
        let wanted = self.deployments.revisions_on_probation().find_map(|(app, revision)| {
            let (offer, _) = offer(revision.manifest(), &view.board)?.ok()?;
            let wanted = Wanted { revision: Digest(revision.digest().0), offer };
            (Some(wanted.revision) != failed).then(|| (app.to_owned(), wanted))
        });
        if let Some((app, _)) = &wanted
            && self.deployments.reconciler.is_changing(app)
        {
            // The ledger soon says what came of it.
            self.system.look_at = Some(now + LOOK_EVERY);
            return;
        }
        let asked = self.system.asked.filter(|(revision, _)| {
            wanted.as_ref().is_some_and(|(_, wanted)| wanted.revision == *revision)
        });
        self.system.asked = asked;
        let next = next(view, wanted.as_ref().map(|(_, wanted)| wanted), asked.map(|(_, at)| at.0));
        let is_late = asked.is_some_and(|(_, at)| now.since(at) > PATIENCE);
        match (next, wanted) {
            (Next::Nothing, _) => {}
            (Next::CallOff, _) => self.ask_once(image, &Request::CallOff),
            (Next::Restart, _) => self.ask_once(image, &Request::Restart),
            (Next::Install, Some((_, wanted))) => self.ask_install(image, &wanted),
            (Next::Keep, Some((app, wanted))) => self.keep_system(&app, &wanted, view),
            (Next::Fail(reason), Some((app, wanted))) => {
                self.fail_system(&app, &wanted, view, reason);
            }
            (Next::Wait, Some((app, wanted))) if is_late && !view.is_on_trial() => {
                let reason = "the image's helper did not write the system in 15 minutes".to_owned();
                self.fail_system(&app, &wanted, view, reason);
            }
            (Next::Wait, _) => self.system.look_at = Some(now + LOOK_EVERY),
            (Next::Install | Next::Keep | Next::Fail(_), None) => {
                unreachable!("invariant: they are about a revision")
            }
        }
    }

    /// A revision that failed before this life, and is still there: its way back was cut, or there is none.
    fn fail_again(&mut self, board: &str) {
        let ledger = self.deployments.reconciler.ledger();
        // Another statement of what should run may have forgiven it.
        let mut failures = ledger.apps.values().filter_map(|app| app.failed.as_ref());
        let told = self.system.failed.filter(|told| failures.any(|it| it.revision == *told));
        let again = self.deployments.revisions_on_probation().find_map(|(app, revision)| {
            offer(revision.manifest(), board)?.ok()?;
            let failed = ledger.apps.get(app)?.failed.as_ref()?;
            let is_it = failed.revision.0 == revision.digest().0 && Some(failed.revision) != told;
            is_it.then(|| (app.to_owned(), failed.clone()))
        });
        self.system.failed = told;
        let Some((app, failed)) = again else { return };
        self.system.failed = Some(failed.revision);
        self.probation_failed(&app, failed.revision, failed.reason);
    }

    fn ask_install(&mut self, image: &OnImage, wanted: &Wanted) {
        let now = self.now.at;
        tracing::info!(version = %wanted.offer.program.version, "a system is to be written");
        let request = Request::Install { ask: now.0, revision: wanted.revision };
        self.system.look_at = Some(match image.ask(&request) {
            Ok(()) => {
                self.system.asked = Some((wanted.revision, now));
                now + LOOK_EVERY
            }
            Err(error) => {
                tracing::error!(%error, "the image's helper cannot be asked");
                now + AGAIN_AFTER
            }
        });
    }

    /// A restart, or the end of a trial. While the agent's own update is under way it waits.
    fn ask_once(&mut self, image: &OnImage, request: &Request) {
        let now = self.now.at;
        self.system.look_at = Some(now + LOOK_EVERY);
        let waits = *request == Request::Restart && self.update.is_under_way();
        let quiet = self.system.quiet.as_ref();
        let is_asked = quiet.is_some_and(|(asked, until)| asked == request && now < *until);
        if is_asked || waits {
            return;
        }
        tracing::info!(?request, "the image's helper is asked");
        match image.ask(request) {
            Ok(()) => self.system.quiet = Some((request.clone(), now + RESTART_WITHIN)),
            Err(error) => tracing::error!(%error, "the image's helper cannot be asked"),
        }
    }

    fn keep_system(&mut self, app: &str, wanted: &Wanted, view: &View) {
        let Program { version, digest } = &wanted.offer.program;
        let (digest, slot) = (digest.to_string(), view.slot.as_str());
        let text = format!("system {version} ({digest:.12}) is kept in slot {slot}");
        tracing::info!(text, "update");
        self.tell_cloud("system-updated", text);
        self.keep_revision(app, wanted.revision);
    }

    fn fail_system(&mut self, app: &str, wanted: &Wanted, view: &View, reason: String) {
        self.system.failed = Some(wanted.revision);
        self.system.asked = None;
        let mut failures = view.system.failures.iter();
        if failures.any(|failure| failure.by == wanted.revision) {
            let Program { version, digest } = &wanted.offer.program;
            let digest = digest.to_string();
            let text = format!("system {version} ({digest:.12}) was taken back: {reason}");
            tracing::error!(text, "update");
            self.tell_cloud("system-taken-back", text);
        }
        self.probation_failed(app, wanted.revision, reason);
    }
}
