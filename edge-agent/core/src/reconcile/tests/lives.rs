//! Random lives: statements, answers that come late or fail, probations that end either way,
//! restarts. A model of the core and of the copies of state stands beside the reconciler.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const APPS: [&str; 2] = ["a", "b"];
/// Per app: sequence, floor, state version.
const REVISIONS: [(u64, u64, u32); 5] = [(1, 0, 1), (2, 0, 2), (3, 3, 1), (4, 0, 3), (5, 0, 2)];

#[derive(Clone, Debug)]
enum Action {
    /// Revision of each app; 5 and above: none.
    Desire(usize, usize),
    /// Answer one of the open steps; some fail.
    Answer(usize, bool),
    Pass(usize),
    Fail(usize),
    /// The live function works on its copy of the state.
    Write(usize),
    Restart,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0..6usize, 0..6usize).prop_map(|(a, b)| Action::Desire(a, b)),
        24 => (any::<usize>(), prop::bool::weighted(0.95)).prop_map(|(n, ok)| Action::Answer(n, ok)),
        4 => (0..2usize).prop_map(Action::Pass),
        2 => (0..2usize).prop_map(Action::Fail),
        6 => (0..2usize).prop_map(Action::Write),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..120)
}

fn name(app: usize, revision: usize) -> Digest {
    digest(u8::try_from(app * 10 + revision + 1).unwrap())
}

fn revision(name: Digest) -> Facts {
    let n = usize::from(name.0[0] - 1);
    let (sequence, floor, state_version) = REVISIONS[n % 10];
    let mut facts = facts(name.0[0], sequence, floor, state_version);
    facts.app = APPS[n / 10].to_owned();
    facts
}

fn version(name: Digest) -> u32 {
    revision(name).revision.state_versions["smooth"]
}

/// What the core knows of an app.
#[derive(Clone, Debug, Default)]
struct App {
    live: Option<Digest>,
    on_probation: bool,
    failed: bool,
    quiescing: bool,
    /// Copies of the state by version: who wrote what.
    copies: BTreeMap<u32, String>,
    /// The copy of the last good revision when another copy became the live one.
    set_aside: Option<(u32, String)>,
}

#[derive(Default)]
struct Life {
    reconciler: Reconciler,
    generation: u64,
    open: Vec<Step>,
    verified: BTreeSet<Digest>,
    compiled: BTreeSet<Digest>,
    apps: BTreeMap<String, App>,
}

impl Life {
    fn tell(&mut self, input: Input) {
        let mut steps = Vec::new();
        self.reconciler.handle(input, &mut steps);
        self.take(steps);
    }

    fn take(&mut self, steps: Vec<Step>) {
        let saves = steps.contains(&Step::Save);
        for step in steps {
            match step {
                Step::Swap { app, revision, probation } => {
                    assert!(saves, "live and ledger change together");
                    self.swap(&app, revision, probation);
                }
                Step::Remove { app } => {
                    let entry = self.apps.get_mut(&app).expect("only what is there goes");
                    assert!(saves && entry.quiescing, "{app} goes when it is at rest");
                    // Its state stays for when it comes again; what becomes of it then is not
                    // looked at here.
                    *entry = App::default();
                }
                Step::Resume { app } => {
                    self.open.retain(|step| *step != Step::Quiesce { app: app.clone() });
                    self.apps.entry(app).or_default().quiescing = false;
                }
                Step::DropState { app, state_version, .. } => {
                    let entry = self.apps.entry(app).or_default();
                    let used = entry.live.is_some_and(|live| version(live) == state_version);
                    assert!(!used || entry.quiescing, "a copy in use is not dropped");
                    entry.copies.remove(&state_version);
                }
                Step::Quiesce { app } => {
                    self.apps.entry(app.clone()).or_default().quiescing = true;
                    self.open.push(Step::Quiesce { app });
                }
                Step::Save | Step::Report => {}
                step => self.open.push(step),
            }
        }
    }

    fn swap(&mut self, app: &str, revision: Digest, probation: bool) {
        let facts = super::lives::revision(revision);
        let ledger = &self.reconciler.ledger().apps[app];
        let entry = self.apps.entry(app.to_owned()).or_default();
        assert!(entry.quiescing, "{app} is swapped when it is at rest");
        assert_eq!(facts.app, app);
        assert!(self.compiled.contains(&revision) && self.verified.contains(&revision));
        if probation {
            assert!(facts.revision.sequence >= ledger.floor, "not below the floor");
            let good = ledger.good.as_ref().map(|good| version(good.digest));
            let aside = good
                .filter(|good| *good != version(revision))
                .and_then(|good| Some((good, entry.copies.get(&good)?.clone())));
            entry.set_aside = entry.set_aside.take().or(aside);
        } else if let Some((good, copy)) = entry.set_aside.take() {
            assert_eq!(entry.copies.get(&good), Some(&copy), "the old copy, as it was left");
        }
        (entry.live, entry.on_probation) = (Some(revision), probation);
        (entry.failed, entry.quiescing) = (false, false);
    }

    fn answer(&mut self, pick: usize, ok: bool) {
        if self.open.is_empty() {
            return;
        }
        let step = self.open.remove(pick % self.open.len());
        let result = if ok { Ok(()) } else { Err("no".to_owned()) };
        let input = match step {
            Step::Fetch { digest } => Input::Fetched { digest, result },
            Step::Verify { revision } => {
                self.verified.extend(ok.then_some(revision));
                let result = result.map(|()| super::lives::revision(revision));
                Input::Verified { revision, result }
            }
            Step::Compile { revision } => {
                self.compiled.extend(ok.then_some(revision));
                Input::Compiled { revision, result }
            }
            Step::Quiesce { app } => Input::Quiesced { app },
            Step::Migrate { app, functions, .. } => {
                let (_, from, to) = functions[0].clone();
                let entry = self.apps.get_mut(&app).expect("only live apps migrate");
                let live = entry.live.expect("only live apps migrate");
                // A migration that was called off writes to a copy that nobody uses.
                assert!(version(live) != to, "the live copy is not overwritten");
                let aside = entry.set_aside.as_ref().map(|(good, _)| *good);
                assert!(aside != Some(to), "nor that of the last good revision");
                if ok && let Some(copy) = entry.copies.get(&from).cloned() {
                    entry.copies.insert(to, format!("{copy}m"));
                }
                Input::Migrated { app, result }
            }
            other => panic!("not answered: {other:?}"),
        };
        self.tell(input);
    }

    fn end_probation(&mut self, app: usize, well: bool) {
        let app = APPS[app].to_owned();
        let Some(entry) = self.apps.get_mut(&app) else { return };
        let Some(revision) = entry.live.filter(|_| entry.on_probation && !entry.failed) else {
            return;
        };
        if well {
            (entry.on_probation, entry.set_aside) = (false, None);
            self.tell(Input::Passed { app, revision });
        } else {
            entry.failed = true;
            self.tell(Input::Failed { app, revision, reason: "it traps".into() });
        }
    }

    fn write(&mut self, app: usize) {
        let Some(entry) = self.apps.get_mut(APPS[app]) else { return };
        if let Some(live) = entry.live.filter(|_| !entry.failed && !entry.quiescing) {
            entry.copies.entry(version(live)).or_default().push('w');
        }
    }

    /// The ledger is as durable as what is live; all else is forgotten.
    fn restart(&mut self) {
        self.reconciler = Reconciler::restore(self.reconciler.ledger().clone());
        self.open.clear();
        self.apps.values_mut().for_each(|app| app.quiescing = false);
        for (name, app) in self.apps.clone() {
            let ledger = self.reconciler.ledger().apps.get(&name).cloned().unwrap_or_default();
            assert_eq!(ledger.live.as_ref().map(|live| live.digest), app.live);
            assert_eq!(ledger.on_probation, app.on_probation, "{name}");
            if let Some(revision) = app.live.filter(|_| app.failed) {
                // The core tells it again.
                self.tell(Input::Failed { app: name, revision, reason: "it traps".into() });
            }
        }
        let mut steps = Vec::new();
        self.reconciler.go_on(&mut steps);
        self.take(steps);
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Desire(a, b) => {
                self.generation += 1;
                let wanted = [(0, *a), (1, *b)].into_iter().filter(|(_, n)| *n < REVISIONS.len());
                let apps = wanted.map(|(app, n)| (APPS[app].to_owned(), name(app, n))).collect();
                let generation = self.generation;
                self.tell(Input::Desired { instance: [1; 16], generation, apps });
            }
            Action::Answer(pick, ok) => self.answer(*pick, *ok),
            Action::Pass(app) => self.end_probation(*app, true),
            Action::Fail(app) => self.end_probation(*app, false),
            Action::Write(app) => self.write(*app),
            Action::Restart => self.restart(),
        }
    }

    /// From now on all goes well: what was stated last is what runs, or has failed before.
    fn come_to_rest(&mut self) {
        for _ in 0..200 {
            while !self.open.is_empty() {
                self.answer(0, true);
            }
            (0..APPS.len()).for_each(|app| self.end_probation(app, true));
        }
        assert!(self.open.is_empty() && self.reconciler.in_work().is_none());
        for (name, app) in &self.apps {
            let ledger = self.reconciler.ledger().apps.get(name).cloned().unwrap_or_default();
            let failed = ledger.failed.as_ref().map(|failed| failed.revision);
            assert!(ledger.desired == app.live || ledger.desired == failed, "{name} {ledger:?}");
            assert!(!app.quiescing || app.failed, "{name} is left at rest");
            if let Some(live) = app.live.filter(|_| !app.failed) {
                let left: Vec<_> = app.copies.keys().filter(|v| **v != version(live)).collect();
                assert!(left.is_empty(), "{name} leaves copies {left:?} behind");
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_stated_becomes_live_and_nothing_good_is_lost(actions in actions()) {
        let mut life = Life::default();
        for action in &actions {
            life.act(action);
        }
        life.come_to_rest();
    }
}
