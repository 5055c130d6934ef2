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
//!   itself, and a take-back drops the new one. There are never more than two copies: a revision
//!   that needs another one waits until the live one has proved itself or failed.
//! - Work that a newer statement made void is dropped; answers that still come are ignored.
//! - What the ledger says and what is live change in one batch ([`Step::Swap`], [`Step::Save`]).

mod ledger;
mod step;

use std::collections::{BTreeSet, VecDeque};

pub use ledger::{AppLedger, Failure, Instance, Ledger, Revision};
pub use step::{Facts, Input, Phase, Step};

use crate::id::Digest;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Manifest,
    Verify,
    Artifacts(VecDeque<Digest>),
    Compile,
    /// Ready, but the live revision has to end its probation first.
    Wait,
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
    /// Apps whose live revision failed. After a restart the core tells it again.
    fallen: BTreeSet<String>,
}

impl Reconciler {
    /// Goes on from the ledger. [`Reconciler::go_on`] starts what is left to do.
    #[must_use]
    pub fn restore(ledger: Ledger) -> Self {
        Self { ledger, work: None, fallen: BTreeSet::new() }
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
            Stage::Compile | Stage::Wait | Stage::Quiesce | Stage::Migrate | Stage::Retreat => {
                Phase::Preparing
            }
        };
        Some((&work.app, work.target, phase))
    }

    /// Whether what runs of an app is about to change, and nothing is waited for but its rest.
    #[must_use]
    pub fn is_changing(&self, app: &str) -> bool {
        let ending =
            |work: &Work| matches!(work.stage, Stage::Quiesce | Stage::Migrate | Stage::Retreat);
        self.fallen.contains(app)
            || self.work.as_ref().is_some_and(|work| work.app == app && ending(work))
    }

    /// Starts the next app that is behind, where none is in work.
    pub fn go_on(&mut self, steps: &mut Vec<Step>) {
        if self.work.is_some() {
            return;
        }
        if let Some(work) = self.take_back() {
            steps.extend([Step::Quiesce { app: work.app.clone() }, Step::Report]);
            self.work = Some(work);
            return;
        }
        let next = self.ledger.apps.iter().find(|(_, app)| app.is_behind());
        let Some((app, ledger)) = next else { return };
        let (app, target) = (app.clone(), ledger.desired);
        let good = ledger.good.as_ref().map(|good| good.digest);
        let stage = match target {
            Some(digest) if target != good => {
                steps.push(Step::Fetch { digest });
                Stage::Manifest
            }
            // Away, or back to the last good one, whose state is still here.
            _ => {
                steps.push(Step::Quiesce { app: app.clone() });
                Stage::Retreat
            }
        };
        self.work = Some(Work { app, target, facts: None, stage });
        steps.push(Step::Report);
    }

    /// The way back of an app that stands still and has one.
    fn take_back(&self) -> Option<Work> {
        self.fallen.iter().find_map(|app| {
            let target = Some(self.ledger.apps.get(app)?.good.as_ref()?.digest);
            Some(Work { app: app.clone(), target, facts: None, stage: Stage::Retreat })
        })
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
                self.drop_void_work(steps);
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
        self.drop_void_work(steps);
        steps.extend([Step::Save, Step::Report]);
    }

    /// Drops work on what is no longer wanted, up to the point from which it is over soon anyway.
    fn drop_void_work(&mut self, steps: &mut Vec<Step>) {
        let Some(work) = &self.work else { return };
        let desired = self.ledger.apps.get(&work.app).and_then(|app| app.desired);
        let going = work.stage == Stage::Retreat && work.target.is_none();
        let ending = matches!(work.stage, Stage::Quiesce | Stage::Migrate | Stage::Retreat);
        if desired == work.target || (ending && !going) {
            return;
        }
        if going {
            steps.push(Step::Resume { app: work.app.clone() });
        }
        self.work = None;
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
        if let Some(reason) = below_floor(&self.ledger, &facts) {
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
        if !self.fallen.contains(&work.app) && must_wait(&self.ledger, work) {
            work.stage = Stage::Wait;
        } else {
            work.stage = Stage::Quiesce;
            steps.push(Step::Quiesce { app: work.app.clone() });
        }
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
            Err(reason) => self.call_off(reason, steps),
        }
    }

    /// The app is at rest, but does not change: it goes on as it was.
    fn call_off(&mut self, reason: String, steps: &mut Vec<Step>) {
        let work = self.work.as_ref().expect("invariant: only work is called off");
        let app = work.app.clone();
        for (function, _, to) in migrations(&self.ledger, work) {
            steps.push(Step::DropState { app: app.clone(), function, state_version: to });
        }
        steps.push(Step::Resume { app });
        self.fail(reason, steps);
    }

    fn swap(&mut self, steps: &mut Vec<Step>) {
        let facts = self.work.as_ref().and_then(|work| work.facts.as_ref());
        let facts = facts.expect("invariant: nothing goes live unverified");
        if let Some(reason) = below_floor(&self.ledger, facts) {
            // The live one proved itself meanwhile, and raised the floor.
            return self.call_off(reason, steps);
        }
        let work = self.work.take().expect("invariant: a swap belongs to work");
        self.fallen.remove(&work.app);
        let facts = work.facts.expect("invariant: nothing goes live unverified");
        let entry = self.ledger.apps.entry(work.app.clone()).or_default();
        let revision = facts.revision.digest;
        let before = entry.live.replace(facts.revision.clone());
        entry.on_probation = true;
        entry.failed = None;
        steps.push(Step::Swap { app: work.app.clone(), revision, probation: true });
        // A revision that failed without a good one before it leaves its copy to nobody.
        for (function, state_version) in unused_copies(before.as_ref(), &facts.revision) {
            let good = entry.good.as_ref().and_then(|good| good.state_versions.get(&function));
            if good != Some(&state_version) {
                steps.push(Step::DropState { app: work.app.clone(), function, state_version });
            }
        }
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
        if let Some(work) = &mut self.work
            && work.app == app
            && work.stage == Stage::Wait
        {
            work.stage = Stage::Quiesce;
            steps.push(Step::Quiesce { app: app.to_owned() });
        }
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
        self.fallen.insert(app.to_owned());
        steps.extend([Step::Save, Step::Report]);
        // An app that stands still goes first: what was in work can wait, but not where the shell
        // is already changing something.
        let changing = |work: &Work| match work.stage {
            Stage::Quiesce => work.app != app,
            Stage::Migrate | Stage::Retreat => true,
            _ => false,
        };
        if self.work.as_ref().is_some_and(|work| !changing(work)) {
            self.work = None;
        }
    }

    /// The app is at rest: back to the last good revision, or away.
    fn retreat(&mut self, steps: &mut Vec<Step>) {
        let work = self.work.take().expect("invariant: a retreat belongs to work");
        self.fallen.remove(&work.app);
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

fn below_floor(ledger: &Ledger, facts: &Facts) -> Option<String> {
    let floor = ledger.apps.get(&facts.app).map_or(0, |app| app.floor);
    let sequence = facts.revision.sequence;
    (sequence < floor)
        .then(|| format!("its sequence {sequence} is below the floor {floor} of this app"))
}

/// Whether a swap would need a third copy of some state: the last good revision's, that of the
/// live one, which is yet on probation, and its own.
fn must_wait(ledger: &Ledger, work: &Work) -> bool {
    let Some(app) = ledger.apps.get(&work.app) else { return false };
    let live = app.live.as_ref();
    let same_copies =
        app.good.as_ref().map(|good| &good.state_versions) == live.map(|live| &live.state_versions);
    app.on_probation && !same_copies && !migrations(ledger, work).is_empty()
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
