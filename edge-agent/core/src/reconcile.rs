//! Desired deployments become live ones: fetch, verify, prepare, swap, watch, keep or take back.
//!
//! # Invariants
//! - One app is worked on at a time; the steps of one app are serial. Every step that the shell is
//!   asked for is answered by exactly one input.
//! - Nothing goes live that was not verified and prepared, and whose sequence is not at or above
//!   the highest floor of a revision of the app that proved itself. To go back to the last good
//!   revision is always allowed and asks nobody.
//! - A revision that failed is not tried again until the statement about its app changes.
//! - A new `state_version` works on a copy; the old copy stays until the new revision has proved
//!   itself, and a take-back drops the new one.
//! - What the ledger says and what is live change in one batch ([`Step::Swap`], [`Step::Save`]).

mod ledger;

use std::collections::VecDeque;

pub use ledger::{AppLedger, Failure, Instance, Ledger, Revision};

use crate::id::Digest;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A statement of what should run: the whole of it.
    Desired {
        /// Who says so.
        instance: Instance,
        /// A lower generation of the same instance is old news.
        generation: u64,
        /// App and revision; an app that is not named goes.
        apps: Vec<(String, Digest)>,
    },
    /// A local statement about one app.
    Local {
        /// The app.
        app: String,
        /// What should run; `None`: nothing.
        revision: Option<Digest>,
    },
    /// Answer to [`Step::Fetch`].
    Fetched {
        /// Which file.
        digest: Digest,
        /// It is in the library, or why not.
        result: Result<(), String>,
    },
    /// Answer to [`Step::Verify`].
    Verified {
        /// Which revision.
        revision: Digest,
        /// What it says, or why it is refused.
        result: Result<Facts, String>,
    },
    /// Answer to [`Step::Compile`].
    Compiled {
        /// Which revision.
        revision: Digest,
        /// It can run, or why not.
        result: Result<(), String>,
    },
    /// Answer to [`Step::Quiesce`].
    Quiesced {
        /// Which app.
        app: String,
    },
    /// Answer to [`Step::Migrate`].
    Migrated {
        /// Which app.
        app: String,
        /// The new copies are in the open batch, or why there are none.
        result: Result<(), String>,
    },
    /// A revision proved itself.
    Passed {
        /// The app.
        app: String,
        /// The revision.
        revision: Digest,
    },
    /// A revision failed on probation; its app starts nothing meanwhile.
    Failed {
        /// The app.
        app: String,
        /// The revision.
        revision: Digest,
        /// For people.
        reason: String,
    },
}

/// What a verified manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The app it is a revision of.
    pub app: String,
    /// What the ledger keeps of it.
    pub revision: Revision,
    /// Files it needs.
    pub artifacts: Vec<Digest>,
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Get a file into the library (it may be there already).
    Fetch {
        /// Which.
        digest: Digest,
    },
    /// Verify a manifest of the library: author, signature, contents.
    Verify {
        /// Which revision.
        revision: Digest,
    },
    /// Verify the artifacts and compile.
    Compile {
        /// Which revision.
        revision: Digest,
    },
    /// Let the app come to rest.
    Quiesce {
        /// Which.
        app: String,
    },
    /// The app goes on as before: a swap was called off.
    Resume {
        /// Which.
        app: String,
    },
    /// Fill new copies of state: per function its short name, old and new version.
    Migrate {
        /// The app.
        app: String,
        /// The revision whose functions migrate.
        revision: Digest,
        /// Function, from, to.
        functions: Vec<(String, u32, u32)>,
    },
    /// The revision goes live now.
    Swap {
        /// The app.
        app: String,
        /// The revision.
        revision: Digest,
        /// Whether it has to prove itself.
        probation: bool,
    },
    /// The app goes.
    Remove {
        /// Which.
        app: String,
    },
    /// A copy of state goes.
    DropState {
        /// The app.
        app: String,
        /// Short name of the function.
        function: String,
        /// Which copy.
        state_version: u32,
    },
    /// The ledger has changed: into the same batch as the steps of this call.
    Save,
    /// Where the deployments stand has changed.
    Report,
}

/// How far the app in work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Files are being fetched.
    Fetching,
    /// The manifest is being verified.
    Verifying,
    /// It is being compiled, or waits for running attempts to end.
    Preparing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Manifest,
    Verify,
    Artifacts(VecDeque<Digest>),
    Compile,
    Quiesce,
    Migrate,
    /// Back to the last good revision, or away.
    Retreat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Work {
    app: String,
    target: Option<Digest>,
    facts: Option<Facts>,
    stage: Stage,
}

/// The reconciler.
#[derive(Clone, Debug, Default)]
pub struct Reconciler {
    ledger: Ledger,
    work: Option<Work>,
}

impl Reconciler {
    /// Goes on from the ledger. [`Reconciler::go_on`] starts what is left to do.
    #[must_use]
    pub fn restore(ledger: Ledger) -> Self {
        Self { ledger, work: None }
    }

    /// The ledger to keep.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// App and phase of the work in progress.
    #[must_use]
    pub fn in_work(&self) -> Option<(&str, Option<Digest>, Phase)> {
        let work = self.work.as_ref()?;
        let phase = match work.stage {
            Stage::Manifest | Stage::Artifacts(_) => Phase::Fetching,
            Stage::Verify => Phase::Verifying,
            Stage::Compile | Stage::Quiesce | Stage::Migrate | Stage::Retreat => Phase::Preparing,
        };
        Some((&work.app, work.target, phase))
    }

    /// Starts the next app that is behind, where none is in work.
    pub fn go_on(&mut self, steps: &mut Vec<Step>) {
        if self.work.is_some() {
            return;
        }
        let next = self.ledger.apps.iter().find(|(_, app)| app.is_behind());
        let Some((app, ledger)) = next else { return };
        let (app, target) = (app.clone(), ledger.desired);
        let stage = if let Some(digest) = target {
            steps.push(Step::Fetch { digest });
            Stage::Manifest
        } else {
            steps.push(Step::Quiesce { app: app.clone() });
            Stage::Retreat
        };
        self.work = Some(Work { app, target, facts: None, stage });
        steps.push(Step::Report);
    }

    /// Takes an input; steps are appended.
    pub fn handle(&mut self, input: Input, steps: &mut Vec<Step>) {
        match input {
            Input::Desired { instance, generation, apps } => {
                self.desired(instance, generation, apps, steps);
            }
            Input::Local { app, revision } => {
                let entry = self.ledger.apps.entry(app).or_default();
                entry.desired = revision;
                entry.failed = None;
                steps.push(Step::Save);
            }
            Input::Fetched { digest, result } => self.fetched(digest, result, steps),
            Input::Verified { revision, result } => self.verified(revision, result, steps),
            Input::Compiled { revision, result } => self.compiled(revision, result, steps),
            Input::Quiesced { app } => self.quiesced(&app, steps),
            Input::Migrated { app, result } => self.migrated(&app, result, steps),
            Input::Passed { app, revision } => self.passed(&app, revision, steps),
            Input::Failed { app, revision, reason } => {
                self.failed_on_probation(&app, revision, reason, steps);
            }
        }
        self.go_on(steps);
    }

    fn desired(
        &mut self,
        instance: Instance,
        generation: u64,
        apps: Vec<(String, Digest)>,
        steps: &mut Vec<Step>,
    ) {
        let known = self.ledger.instance == Some(instance);
        if known && generation <= self.ledger.generation {
            return;
        }
        // A new instance id is accepted once; a second control plane needs a signed statement.
        if !known && self.ledger.instance.is_some() {
            return;
        }
        self.ledger.instance = Some(instance);
        self.ledger.generation = generation;
        for app in self.ledger.apps.values_mut() {
            app.desired = None;
        }
        for (app, revision) in apps {
            let entry = self.ledger.apps.entry(app).or_default();
            entry.desired = Some(revision);
        }
        // A new statement is a new chance: whoever makes it knows of the failure.
        for app in self.ledger.apps.values_mut() {
            if app.failed.as_ref().is_some_and(|failed| app.desired != Some(failed.revision)) {
                app.failed = None;
            }
        }
        steps.extend([Step::Save, Step::Report]);
    }

    fn fetched(&mut self, digest: Digest, result: Result<(), String>, steps: &mut Vec<Step>) {
        let Some(work) = &mut self.work else { return };
        match (&mut work.stage, work.target) {
            (Stage::Manifest, Some(revision)) if revision == digest => {
                if let Err(reason) = result {
                    return self.fail(reason, steps);
                }
                work.stage = Stage::Verify;
                steps.extend([Step::Verify { revision }, Step::Report]);
            }
            (Stage::Artifacts(left), Some(revision)) if left.front() == Some(&digest) => {
                if let Err(reason) = result {
                    return self.fail(reason, steps);
                }
                left.pop_front();
                if let Some(next) = left.front() {
                    steps.push(Step::Fetch { digest: *next });
                } else {
                    work.stage = Stage::Compile;
                    steps.extend([Step::Compile { revision }, Step::Report]);
                }
            }
            _ => {}
        }
    }

    fn verified(&mut self, revision: Digest, result: Result<Facts, String>, steps: &mut Vec<Step>) {
        let Some(work) = &mut self.work else { return };
        if work.stage != Stage::Verify || work.target != Some(revision) {
            return;
        }
        let facts = match result {
            Ok(facts) => facts,
            Err(reason) => return self.fail(reason, steps),
        };
        if facts.app != work.app {
            let reason = format!("it is a revision of {:?}, not of {:?}", facts.app, work.app);
            return self.fail(reason, steps);
        }
        let floor = self.ledger.apps.get(&work.app).map_or(0, |app| app.floor);
        if facts.revision.sequence < floor {
            let sequence = facts.revision.sequence;
            let reason = format!("its sequence {sequence} is below the floor {floor} of this app");
            return self.fail(reason, steps);
        }
        let mut left: VecDeque<_> = facts.artifacts.iter().copied().collect();
        work.facts = Some(facts);
        if let Some(first) = left.front().copied() {
            steps.push(Step::Fetch { digest: first });
            work.stage = Stage::Artifacts(std::mem::take(&mut left));
        } else {
            steps.push(Step::Compile { revision });
            work.stage = Stage::Compile;
        }
        steps.push(Step::Report);
    }

    fn compiled(&mut self, revision: Digest, result: Result<(), String>, steps: &mut Vec<Step>) {
        let Some(work) = &mut self.work else { return };
        if work.stage != Stage::Compile || work.target != Some(revision) {
            return;
        }
        if let Err(reason) = result {
            return self.fail(reason, steps);
        }
        work.stage = Stage::Quiesce;
        steps.push(Step::Quiesce { app: work.app.clone() });
    }

    fn quiesced(&mut self, app: &str, steps: &mut Vec<Step>) {
        let Some(work) = &mut self.work else { return };
        if work.app != app {
            return;
        }
        match work.stage {
            Stage::Quiesce => {
                let functions = migrations(&self.ledger, work);
                match (functions.is_empty(), work.target) {
                    (false, Some(revision)) => {
                        let app = work.app.clone();
                        work.stage = Stage::Migrate;
                        steps.push(Step::Migrate { app, revision, functions });
                    }
                    _ => self.swap(steps),
                }
            }
            Stage::Retreat => self.retreat(steps),
            _ => {}
        }
    }

    fn migrated(&mut self, app: &str, result: Result<(), String>, steps: &mut Vec<Step>) {
        let Some(work) = &self.work else { return };
        if work.app != app || work.stage != Stage::Migrate {
            return;
        }
        match result {
            Ok(()) => self.swap(steps),
            Err(reason) => {
                for (function, _, to) in migrations(&self.ledger, work) {
                    let app = app.to_owned();
                    steps.push(Step::DropState { app, function, state_version: to });
                }
                steps.push(Step::Resume { app: app.to_owned() });
                self.fail(reason, steps);
            }
        }
    }

    fn swap(&mut self, steps: &mut Vec<Step>) {
        let work = self.work.take().expect("invariant: a swap belongs to work");
        let facts = work.facts.expect("invariant: nothing goes live unverified");
        let entry = self.ledger.apps.entry(work.app.clone()).or_default();
        assert!(facts.revision.sequence >= entry.floor, "below the floor nothing goes live");
        let revision = facts.revision.digest;
        entry.live = Some(facts.revision);
        entry.on_probation = true;
        entry.failed = None;
        steps.push(Step::Swap { app: work.app, revision, probation: true });
        steps.extend([Step::Save, Step::Report]);
    }

    fn passed(&mut self, app: &str, revision: Digest, steps: &mut Vec<Step>) {
        let Some(entry) = self.ledger.apps.get_mut(app) else { return };
        let Some(live) = entry.live.clone().filter(|live| live.digest == revision) else { return };
        for (function, old) in unused_copies(entry.good.as_ref(), &live) {
            steps.push(Step::DropState { app: app.to_owned(), function, state_version: old });
        }
        entry.on_probation = false;
        entry.floor = entry.floor.max(live.floor);
        entry.good = Some(live);
        steps.extend([Step::Save, Step::Report]);
    }

    fn failed_on_probation(
        &mut self,
        app: &str,
        revision: Digest,
        reason: String,
        steps: &mut Vec<Step>,
    ) {
        let Some(entry) = self.ledger.apps.get_mut(app) else { return };
        if entry.live.as_ref().is_none_or(|live| live.digest != revision) {
            return;
        }
        entry.failed = Some(Failure { revision, taken_back: true, reason });
        steps.extend([Step::Save, Step::Report]);
        // What was in work can wait: an app that stands still goes first.
        if let Some(work) = self.work.take()
            && work.app != app
            && matches!(work.stage, Stage::Quiesce | Stage::Migrate)
        {
            steps.push(Step::Resume { app: work.app });
        }
        if entry.good.is_some() {
            let target = entry.good.as_ref().map(|good| good.digest);
            let app = app.to_owned();
            steps.push(Step::Quiesce { app: app.clone() });
            self.work = Some(Work { app, target, facts: None, stage: Stage::Retreat });
        }
    }

    /// The app is at rest: back to the last good revision, or away.
    fn retreat(&mut self, steps: &mut Vec<Step>) {
        let work = self.work.take().expect("invariant: a retreat belongs to work");
        let entry = self.ledger.apps.entry(work.app.clone()).or_default();
        match (work.target, entry.good.clone()) {
            (Some(_), Some(good)) => {
                for (function, new) in unused_copies(entry.live.as_ref(), &good) {
                    let app = work.app.clone();
                    steps.push(Step::DropState { app, function, state_version: new });
                }
                let revision = good.digest;
                entry.live = Some(good);
                entry.on_probation = false;
                steps.push(Step::Swap { app: work.app, revision, probation: false });
            }
            _ => {
                // The floor stays: an app that comes again must not come as an older one.
                entry.live = None;
                entry.good = None;
                entry.on_probation = false;
                entry.failed = None;
                steps.push(Step::Remove { app: work.app });
            }
        }
        steps.extend([Step::Save, Step::Report]);
    }

    fn fail(&mut self, reason: String, steps: &mut Vec<Step>) {
        let work = self.work.take().expect("invariant: only work fails");
        let entry = self.ledger.apps.entry(work.app).or_default();
        if let Some(revision) = work.target {
            entry.failed = Some(Failure { revision, taken_back: false, reason });
        }
        steps.extend([Step::Save, Step::Report]);
    }
}

/// Functions whose state version changes from what is live: name, from, to.
fn migrations(ledger: &Ledger, work: &Work) -> Vec<(String, u32, u32)> {
    let live = ledger.apps.get(&work.app).and_then(|app| app.live.as_ref());
    let (Some(live), Some(facts)) = (live, &work.facts) else { return Vec::new() };
    let new = &facts.revision.state_versions;
    new.iter()
        .filter_map(|(function, to)| {
            let from = live.state_versions.get(function)?;
            (from != to).then(|| (function.clone(), *from, *to))
        })
        .collect()
}

/// Copies of state that `from` used and `kept` does not.
fn unused_copies(from: Option<&Revision>, kept: &Revision) -> Vec<(String, u32)> {
    let Some(from) = from else { return Vec::new() };
    from.state_versions
        .iter()
        .filter(|(function, version)| {
            kept.state_versions.get(*function).is_some_and(|kept| kept != *version)
        })
        .map(|(function, version)| (function.clone(), *version))
        .collect()
}

#[cfg(test)]
mod tests;
