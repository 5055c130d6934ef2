//! The reconciler's shell: carries out its steps and keeps its ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::effect::Pace;
use edge_core::id::{Digest, StreamId};
use edge_core::input::Input as CoreInput;
use edge_core::op::CoreOp;
use edge_core::reconcile::{Facts, Input, Ledger, Reconciler, Revision, Step};
use edge_core::release::{ProbationPolicy, Release};
use edge_core::time::Millis;
use sync_protocol::id as wire;
use sync_protocol::record::{Phase, Report};
use sync_protocol::revision::VerifiedRevision;
use sync_protocol::wire::Desired;
use tokio::sync::oneshot;

use super::gateway::Gateway;
use super::library::Library;
use super::order;
use super::prepare::{Bundled, Prepare, PrepareDone, PreparedApp, Preparer};
use super::release::function_id;
use super::report;
use super::reserve;
use crate::control::Answer;
use crate::launch::TARGET;
use crate::store::{LedgerOp, Op};
use crate::uplink::Say;

/// Name of the ledger's row.
pub(super) const LEDGER_ROW: &str = "deployments";

/// When a new revision is kept: nothing faulted for a minute, or so many attempts went well. One that
/// brings an agent or a system waits for the end of its trial, too.
pub(super) fn probation_of(revision: &VerifiedRevision) -> ProbationPolicy {
    ProbationPolicy {
        faults_max: 1,
        crashes_max: 3,
        successes: Some(100),
        span: Some(Millis::from_secs(60)),
        held: revision.manifest().agent.is_some() || revision.manifest().system.is_some(),
    }
}

/// Deployments of this gateway.
pub(super) struct Deployments {
    pub(super) reconciler: Reconciler,
    pub(super) library: Library,
    preparer: Preparer,
    verified: BTreeMap<Digest, Arc<VerifiedRevision>>,
    apps: BTreeMap<Digest, PreparedApp>,
    migrating: Option<Migrating>,
    local: Option<oneshot::Sender<Answer>>,
    reported: BTreeMap<String, report::Told>,
    /// Whether a control plane states what should run.
    pub(super) is_managed: bool,
}

/// Functions whose state is yet to be carried over, the one in work last.
struct Migrating {
    app: String,
    revision: Digest,
    left: Vec<(String, u32, u32)>,
}

impl Deployments {
    /// Goes on from the ledger; `apps` are ready to run.
    #[must_use]
    pub(super) fn new(
        ledger: Ledger,
        apps: Vec<PreparedApp>,
        library: Library,
        preparer: Preparer,
        is_managed: bool,
    ) -> Self {
        let apps = apps.into_iter().map(|app| (app.release.revision, app)).collect();
        Self {
            reconciler: Reconciler::restore(ledger),
            library,
            preparer,
            verified: BTreeMap::new(),
            apps,
            migrating: None,
            local: None,
            reported: BTreeMap::new(),
            is_managed,
        }
    }
}

impl Deployments {
    /// What runs, by app.
    pub(super) fn live_revisions(&self) -> BTreeMap<String, Arc<VerifiedRevision>> {
        let apps = self.reconciler.ledger().apps.iter();
        let live = apps.filter_map(|(name, app)| {
            let prepared = self.apps.get(&app.live.as_ref()?.digest)?;
            Some((name.clone(), Arc::clone(&prepared.revision)))
        });
        live.collect()
    }

    /// What runs and has yet to prove itself, by app.
    pub(super) fn revisions_on_probation(
        &self,
    ) -> impl Iterator<Item = (&str, &Arc<VerifiedRevision>)> {
        let apps = self.reconciler.ledger().apps.iter().filter(|(_, app)| app.on_probation);
        apps.filter_map(|(name, app)| {
            let prepared = self.apps.get(&app.live.as_ref()?.digest)?;
            Some((name.as_str(), &prepared.revision))
        })
    }

    /// A revision that can run here.
    pub(super) fn revision(&self, digest: Digest) -> Option<&Arc<VerifiedRevision>> {
        self.apps.get(&digest).map(|app| &app.revision)
    }

    /// Apps that should run and could not be made ready.
    pub(super) fn not_ready(&self) -> usize {
        let live = self.reconciler.ledger().apps.values().filter_map(|app| app.live.as_ref());
        live.filter(|live| !self.apps.contains_key(&live.digest)).count()
    }

    /// Asks the preparer.
    pub(super) fn ask(&self, ask: Prepare) {
        self.preparer.ask(ask);
    }
}

/// A digest of the contract, as the core knows it.
fn own(digest: wire::Digest) -> Digest {
    Digest(digest.0)
}

/// The core's digest, as the contract knows it.
pub(super) fn foreign(digest: Digest) -> wire::Digest {
    wire::Digest(digest.0)
}

impl Gateway {
    /// What the control plane states.
    pub(super) fn desired(&mut self, desired: Desired) {
        let apps = desired.apps.into_iter().map(|app| (app.app, own(app.revision))).collect();
        self.reconcile(Input::Desired {
            instance: desired.instance.0,
            generation: desired.generation,
            apps,
        });
    }

    /// Starts what the ledger left to do.
    pub(super) fn resume_deployments(&mut self) {
        let mut steps = Vec::new();
        self.deployments.reconciler.go_on(&mut steps);
        self.carry_out_steps(steps);
    }

    pub(super) fn reconcile(&mut self, input: Input) {
        let mut steps = Vec::new();
        self.deployments.reconciler.handle(input, &mut steps);
        self.carry_out_steps(steps);
    }

    fn carry_out_steps(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Fetch { digest } => self.fetch(digest),
            Step::Verify { revision } => {
                self.deployments.preparer.ask(Prepare::Verify { revision: foreign(revision) });
            }
            Step::Compile { revision } => self.compile(revision),
            Step::Quiesce { app } => self.with_core(CoreInput::Quiesce { app }),
            Step::Resume { app } => self.with_core(CoreInput::Resume { app }),
            Step::Migrate { app, revision, functions } => {
                self.deployments.migrating = Some(Migrating { app, revision, left: functions });
                self.migrate_next();
            }
            Step::Swap { revision, probation, .. } => self.swap(revision, probation),
            Step::Remove { app } => self.with_core(CoreInput::Deactivate { app }),
            Step::DropState { app, function, state_version } => {
                let function = function_id(&app, &function);
                self.core_op(CoreOp::DropState { function, state_version }, Pace::Prompt);
            }
            Step::Save => self.save_ledger(),
            Step::Report => self.report_deployments(),
        }
    }

    fn fetch(&mut self, digest: Digest) {
        if self.deployments.library.has(foreign(digest)) {
            return self.reconcile(Input::Fetched { digest, result: Ok(()) });
        }
        if self.uplink.is_none() {
            let reason = format!("{digest} is not in the library, and no control plane has it");
            return self.reconcile(Input::Fetched { digest, result: Err(reason) });
        }
        // A manifest is not known before it is here, and is shorter than that.
        let named = self.deployments.verified.values();
        let mut named =
            named.filter_map(|it| it.manifest().artifacts().get(&foreign(digest)).copied());
        let bytes_max = named.next().unwrap_or(sync_protocol::limits::ARTIFACT_BYTES_MAX);
        self.say(Say::Fetch { digest: foreign(digest), bytes_max });
    }

    pub(super) fn fetched(
        &mut self,
        digest: wire::Digest,
        result: Result<std::path::PathBuf, String>,
    ) {
        match result {
            Ok(path) => self.deployments.preparer.ask(Prepare::Import { digest, path }),
            Err(reason) => {
                self.reconcile(Input::Fetched { digest: own(digest), result: Err(reason) });
            }
        }
    }

    fn compile(&mut self, revision: Digest) {
        if self.deployments.apps.contains_key(&revision) {
            return self.reconcile(Input::Compiled { revision, result: Ok(()) });
        }
        let verified = self.deployments.verified.get(&revision).cloned();
        let revision = verified.expect("invariant: only what was verified is compiled");
        self.deployments.preparer.ask(Prepare::Compile { revision });
    }

    fn swap(&mut self, revision: Digest, probation: bool) {
        let app = self.deployments.apps.get(&revision).cloned();
        let app = app.expect("invariant: only what was compiled goes live");
        for prepared in &app.functions {
            self.functions.add(Arc::clone(prepared));
        }
        let probation = probation.then(|| probation_of(&app.revision));
        tracing::info!(app = app.release.app, %revision, ?probation, "revision goes live");
        self.with_core(CoreInput::Activate { release: app.release, probation });
    }

    fn save_ledger(&mut self) {
        let ledger = self.deployments.reconciler.ledger();
        let value = postcard::to_stdvec(ledger).expect("invariant: maps and numbers serialise");
        let op = LedgerOp::Put { name: LEDGER_ROW.to_owned(), value: Bytes::from(value) };
        self.commit.push(Op::Ledger(op), Pace::Prompt, self.now.at);
        self.forget_old_revisions();
        self.keep_offers();
        self.update.look();
        self.system.look();
    }

    /// What is neither live nor good nor in work goes.
    fn forget_old_revisions(&mut self) {
        let reconciler = &self.deployments.reconciler;
        let mut keep: Vec<Digest> = Vec::new();
        for app in reconciler.ledger().apps.values() {
            keep.extend([&app.live, &app.good].into_iter().flatten().map(|r| r.digest));
        }
        keep.extend(reconciler.in_work().and_then(|(_, target, _)| target));
        self.deployments.apps.retain(|revision, _| keep.contains(revision));
        self.deployments.verified.retain(|revision, _| keep.contains(revision));
        self.functions.keep_only(|revision| keep.contains(revision));
    }

    /// The preparer has answered.
    pub(super) fn app_prepared(&mut self, done: PrepareDone) {
        match done {
            PrepareDone::Imported { digest, result } => {
                self.reconcile(Input::Fetched { digest: own(digest), result });
            }
            PrepareDone::BundleImported { result } => self.bundle_imported(result),
            PrepareDone::Verified { revision, result } => {
                let revision = own(revision);
                let result = result.and_then(|verified| {
                    // Before tens of megabytes are fetched for nothing.
                    self.check_system(verified.manifest())?;
                    let facts = facts(&verified, self.system.board().as_deref());
                    self.deployments.verified.insert(revision, verified);
                    Ok(facts)
                });
                self.reconcile(Input::Verified { revision, result });
            }
            PrepareDone::Compiled { revision, result } => {
                let revision = own(revision);
                let result = result.and_then(|app| {
                    let live = self.live_release(&app.release.app);
                    live.map_or(Ok(()), |live| order::is_kept(&live, &app.release))?;
                    let others = self.deployments.apps.values().map(|app| &*app.release);
                    reserve::check(self.functions.workers(), &app.release, others)?;
                    self.check_firmware(app.revision.manifest())?;
                    self.check_agent(app.revision.manifest())?;
                    self.check_system(app.revision.manifest())?;
                    self.deployments.apps.insert(revision, app);
                    Ok(())
                });
                self.reconcile(Input::Compiled { revision, result });
            }
            PrepareDone::Loaded { digest, result } => self.image_loaded(digest, result),
            PrepareDone::Staged { result } => self.agent_staged(result),
            PrepareDone::Migrated { app, result } => match result {
                Ok(entries) => {
                    for (key, value) in entries {
                        self.core_op(CoreOp::PutState { key, value }, Pace::Prompt);
                    }
                    self.migrate_next();
                }
                Err(reason) => {
                    self.deployments.migrating = None;
                    self.reconcile(Input::Migrated { app, result: Err(reason) });
                }
            },
        }
    }

    fn migrate_next(&mut self) {
        let Some(migrating) = &mut self.deployments.migrating else { return };
        let Some((function, from, to)) = migrating.left.pop() else {
            let app = migrating.app.clone();
            self.deployments.migrating = None;
            return self.reconcile(Input::Migrated { app, result: Ok(()) });
        };
        let (app, revision) = (migrating.app.clone(), migrating.revision);
        let id = function_id(&app, &function);
        let live = self.live_release(&app);
        let new = &self.deployments.apps[&revision].release;
        let other_order = live.is_some_and(|live| order::differs(&live, new, &id));
        // A copy that an earlier try left half filled must not show through.
        let drop = CoreOp::DropState { function: id.clone(), state_version: to };
        self.core_op(drop, Pace::Prompt);
        if other_order {
            // No lane of the former order would be its own in this one.
            return self.migrate_next();
        }
        let prepared = &self.deployments.apps[&revision].functions;
        let prepared = prepared.iter().find(|prepared| prepared.profile().function == id).cloned();
        let prepared = prepared.expect("invariant: the functions of a revision are compiled");
        self.deployments.preparer.ask(Prepare::Migrate { app, prepared, from });
    }

    /// What runs of an app.
    fn live_release(&self, app: &str) -> Option<Arc<Release>> {
        let entry = self.deployments.reconciler.ledger().apps.get(app)?;
        let live = self.deployments.apps.get(&entry.live.as_ref()?.digest)?;
        Some(Arc::clone(&live.release))
    }

    pub(super) fn quiesced(&mut self, app: &str) {
        self.reconcile(Input::Quiesced { app: app.to_owned() });
    }

    pub(super) fn probation_passed(&mut self, app: &str, revision: Digest) {
        if !self.holds_pass(app, revision) {
            self.keep_revision(app, revision);
        }
    }

    pub(super) fn keep_revision(&mut self, app: &str, revision: Digest) {
        tracing::info!(app, %revision, "revision is kept");
        self.with_core(CoreInput::EndProbation { app: app.to_owned(), revision });
        self.reconcile(Input::Passed { app: app.to_owned(), revision });
    }

    pub(super) fn probation_failed(&mut self, app: &str, revision: Digest, reason: String) {
        tracing::warn!(app, %revision, reason, "revision is taken back");
        self.revision_failed(revision, &reason);
        self.reconcile(Input::Failed { app: app.to_owned(), revision, reason });
    }

    /// Deploys a bundle file of this host.
    pub(super) fn deploy_local(
        &mut self,
        path: std::path::PathBuf,
        answer: oneshot::Sender<Answer>,
    ) {
        let refuse = |answer: oneshot::Sender<Answer>, why: &str| {
            // A client that left is no error.
            let _ = answer.send(Err(why.to_owned()));
        };
        if self.deployments.is_managed {
            return refuse(answer, "a control plane manages this gateway: use `holm deploy`");
        }
        if self.deployments.local.is_some() {
            return refuse(answer, "another local deployment is being read");
        }
        self.deployments.local = Some(answer);
        self.deployments.preparer.ask(Prepare::ImportBundle { path });
    }

    fn bundle_imported(&mut self, result: Result<Bundled, String>) {
        let answer = self.deployments.local.take();
        let reply = result.map(|Bundled { app, version, revision }| {
            self.reconcile(Input::Local { app: app.clone(), revision: Some(own(revision)) });
            let phase = report::phase(&self.deployments.reconciler, &app, revision);
            let phase = phase.map_or("waiting", Phase::as_str);
            let revision = revision.to_string();
            serde_json::json!({ "app": app, "version": version, "revision": revision, "phase": phase })
        });
        if let Some(answer) = answer {
            // A client that left is no error.
            let _ = answer.send(reply);
        }
    }

    /// Tells the control plane where the deployments stand: now, and as records for the history.
    fn report_deployments(&mut self) {
        let state = report::state(&self.deployments.reconciler);
        let generation = state.generation;
        let mut told = BTreeMap::new();
        for app in &state.apps {
            let now = report::Told { revision: app.revision, phase: app.phase };
            if app.phase.is_final() && self.deployments.reported.get(&app.app) != Some(&now) {
                let body = Report::Deployment {
                    app: app.app.clone(),
                    revision: app.revision,
                    generation,
                    phase: app.phase,
                    reason: app.reason.clone(),
                };
                let body = Bytes::from(body.to_bytes());
                self.with_core(CoreInput::Report { stream: StreamId::URGENT, body });
            }
            told.insert(app.app.clone(), now);
        }
        self.deployments.reported = told;
        self.say(Say::State(state));
    }
}

fn facts(verified: &VerifiedRevision, board: Option<&str>) -> Facts {
    let manifest = verified.manifest();
    let versions = manifest.functions.iter();
    Facts {
        app: manifest.app.clone(),
        revision: Revision {
            digest: own(verified.digest()),
            sequence: manifest.sequence,
            floor: manifest.floor,
            state_versions: versions.map(|(name, f)| (name.clone(), f.state_version)).collect(),
        },
        artifacts: manifest.artifacts_for(TARGET, board).keys().copied().map(own).collect(),
    }
}
