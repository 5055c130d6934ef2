//! A shell that answers every step at once; `lives` has one that answers late, or never.

use super::*;

mod lives;

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn facts(n: u8, sequence: u64, floor: u64, state_version: u32) -> Facts {
    Facts {
        app: "cold-chain".into(),
        revision: Revision {
            digest: digest(n),
            sequence,
            floor,
            state_versions: [("smooth".to_owned(), state_version)].into(),
        },
        artifacts: vec![digest(n + 100)],
    }
}

/// A shell that answers every step as told.
struct Shell {
    reconciler: Reconciler,
    swaps: Vec<(Digest, bool)>,
    dropped: Vec<u32>,
    revisions: Vec<Facts>,
    broken: Option<&'static str>,
}

impl Shell {
    fn new(revisions: Vec<Facts>) -> Self {
        let reconciler = Reconciler::default();
        Self { reconciler, swaps: Vec::new(), dropped: Vec::new(), revisions, broken: None }
    }

    fn broken(&self, step: &'static str) -> Result<(), String> {
        if self.broken == Some(step) { Err(format!("{step} is broken")) } else { Ok(()) }
    }

    fn tell(&mut self, input: Input) {
        let mut steps = Vec::new();
        self.reconciler.handle(input, &mut steps);
        for step in steps {
            let answer = match step {
                Step::Fetch { digest } => Input::Fetched { digest, result: self.broken("fetch") },
                Step::Verify { revision } => {
                    let facts = self.revisions.iter().find(|f| f.revision.digest == revision);
                    let facts = facts.cloned().ok_or("unknown".to_owned());
                    let result = self.broken("verify").and(facts);
                    Input::Verified { revision, result }
                }
                Step::Compile { revision } => {
                    Input::Compiled { revision, result: self.broken("compile") }
                }
                Step::Quiesce { app } => Input::Quiesced { app },
                Step::Migrate { app, .. } => {
                    Input::Migrated { app, result: self.broken("migrate") }
                }
                Step::Swap { revision, probation, .. } => {
                    self.swaps.push((revision, probation));
                    continue;
                }
                Step::DropState { state_version, .. } => {
                    self.dropped.push(state_version);
                    continue;
                }
                Step::Resume { .. } | Step::Remove { .. } | Step::Save | Step::Report => continue,
            };
            self.tell(answer);
        }
    }

    fn desire(&mut self, generation: u64, revision: Option<u8>) {
        let apps = revision.map(|n| ("cold-chain".to_owned(), digest(n))).into_iter().collect();
        self.tell(Input::Desired { instance: [1; 16], generation, apps });
    }

    fn pass(&mut self, n: u8) {
        self.tell(Input::Passed { app: "cold-chain".into(), revision: digest(n) });
    }

    fn app(&self) -> &AppLedger {
        &self.reconciler.ledger().apps["cold-chain"]
    }
}

#[test]
fn a_revision_goes_live_and_is_kept() {
    let mut shell = Shell::new(vec![facts(1, 1, 0, 1)]);
    shell.desire(1, Some(1));
    assert_eq!(shell.swaps, [(digest(1), true)]);
    assert!(shell.app().on_probation);
    shell.pass(1);
    assert_eq!(shell.app().good.as_ref().map(|good| good.digest), Some(digest(1)));
    shell.desire(1, None);
    assert!(shell.app().live.is_some(), "an old generation is old news");
    shell.desire(2, None);
    assert!(shell.app().live.is_none());
}

#[test]
fn a_bad_revision_is_taken_back_with_its_copy_of_state_and_not_tried_again() {
    let mut shell = Shell::new(vec![facts(1, 1, 0, 1), facts(2, 2, 0, 2)]);
    shell.desire(1, Some(1));
    shell.pass(1);
    shell.desire(2, Some(2));
    assert_eq!(shell.swaps.last(), Some(&(digest(2), true)));
    let reason = "it traps".to_owned();
    shell.tell(Input::Failed { app: "cold-chain".into(), revision: digest(2), reason });
    assert_eq!(shell.swaps.last(), Some(&(digest(1), false)));
    assert_eq!(shell.dropped, [2]);
    let app = shell.app();
    assert_eq!(app.failed.as_ref().map(|f| (f.revision, f.taken_back)), Some((digest(2), true)));
    assert!(!app.is_behind());
    shell.desire(3, Some(2));
    assert_eq!(shell.swaps.len(), 3, "the same revision is not tried again");
}

#[test]
fn every_step_may_fail_and_what_runs_goes_on() {
    for step in ["fetch", "verify", "compile", "migrate"] {
        let mut shell = Shell::new(vec![facts(1, 1, 0, 1), facts(2, 2, 0, 2)]);
        shell.desire(1, Some(1));
        shell.pass(1);
        shell.broken = Some(step);
        shell.desire(2, Some(2));
        assert_eq!(shell.swaps, [(digest(1), true)], "{step}");
        let failed = shell.app().failed.clone().expect(step);
        assert!(failed.reason.contains(step) && !failed.taken_back);
        assert!(shell.reconciler.in_work().is_none());
    }
}

#[test]
fn below_the_floor_is_refused_and_the_old_copy_goes_when_the_new_one_is_kept() {
    let mut shell = Shell::new(vec![facts(1, 1, 0, 1), facts(2, 5, 5, 2)]);
    shell.desire(1, Some(1));
    shell.pass(1);
    shell.desire(2, Some(2));
    shell.pass(2);
    assert_eq!(shell.dropped, [1]);
    assert_eq!(shell.app().floor, 5);
    shell.desire(3, Some(1));
    assert_eq!(shell.swaps.len(), 2);
    assert!(shell.app().failed.as_ref().expect("refused").reason.contains("below the floor 5"));
}

#[test]
fn another_control_plane_is_not_obeyed() {
    let mut shell = Shell::new(vec![facts(1, 1, 0, 1)]);
    shell.desire(1, Some(1));
    shell.tell(Input::Desired { instance: [2; 16], generation: 9, apps: Vec::new() });
    assert!(shell.app().live.is_some());
}

#[test]
fn a_first_revision_that_fails_leaves_the_app_standing_still() {
    let mut shell = Shell::new(vec![facts(1, 1, 0, 1), facts(2, 2, 0, 1)]);
    shell.desire(1, Some(1));
    let reason = "it traps".to_owned();
    shell.tell(Input::Failed { app: "cold-chain".into(), revision: digest(1), reason });
    assert_eq!(shell.swaps, [(digest(1), true)]);
    shell.desire(2, Some(2));
    assert_eq!(shell.swaps.last(), Some(&(digest(2), true)), "the next one may heal it");
}

/// The answer of one step, and the steps that follow.
fn steps(reconciler: &mut Reconciler, input: Input) -> Vec<Step> {
    let mut steps = Vec::new();
    reconciler.handle(input, &mut steps);
    steps.retain(|step| !matches!(step, Step::Save | Step::Report));
    steps
}

fn statement(generation: u64, apps: &[(&str, u8)]) -> Input {
    let apps = apps.iter().map(|(app, n)| ((*app).to_owned(), digest(*n))).collect();
    Input::Desired { instance: [1; 16], generation, apps }
}

#[test]
fn a_newer_statement_makes_a_fetch_that_hangs_void() {
    let mut reconciler = Reconciler::default();
    let out = steps(&mut reconciler, statement(1, &[("cold-chain", 1)]));
    assert_eq!(out, [Step::Fetch { digest: digest(1) }]);
    let out = steps(&mut reconciler, statement(2, &[("cold-chain", 2)]));
    assert_eq!(out, [Step::Fetch { digest: digest(2) }]);
    assert!(!reconciler.is_changing("cold-chain"), "what is fetched changes nothing yet");
    let late = Input::Fetched { digest: digest(1), result: Err("too late".into()) };
    assert_eq!(steps(&mut reconciler, late), []);
    assert!(reconciler.ledger().apps["cold-chain"].failed.is_none());
    assert_eq!(steps(&mut reconciler, statement(3, &[])), []);
    assert!(reconciler.in_work().is_none());
}

#[test]
fn back_to_the_last_good_revision_asks_nobody_and_waits_for_nothing() {
    let mut shell = Shell::new(vec![facts(1, 1, 0, 1), facts(2, 2, 0, 2)]);
    shell.desire(1, Some(1));
    shell.pass(1);
    shell.desire(2, Some(2));
    shell.broken = Some("fetch");
    shell.desire(3, Some(1));
    assert_eq!(shell.swaps.last(), Some(&(digest(1), false)));
    assert_eq!(shell.dropped, [2]);
    assert!(!shell.app().is_behind());
}

#[test]
fn a_third_copy_waits_for_the_end_of_the_probation() {
    let revisions = vec![facts(1, 1, 0, 1), facts(2, 2, 0, 2), facts(3, 3, 0, 3)];
    let mut shell = Shell::new(revisions);
    shell.desire(1, Some(1));
    shell.pass(1);
    shell.desire(2, Some(2));
    shell.desire(3, Some(3));
    assert_eq!(shell.swaps.last(), Some(&(digest(2), true)));
    shell.pass(2);
    assert_eq!(shell.swaps.last(), Some(&(digest(3), true)));
    assert_eq!(shell.dropped, [1]);
}

#[test]
fn what_the_shell_is_changing_is_ended_before_another_app_is_taken_back() {
    let mut shell = Shell::new(vec![facts(1, 1, 0, 1), facts(2, 2, 0, 2)]);
    let mut other = facts(11, 1, 0, 1);
    other.app = "other".into();
    let mut other_bad = facts(12, 2, 0, 1);
    other_bad.app = "other".into();
    shell.revisions.extend([other, other_bad]);
    shell.tell(statement(1, &[("cold-chain", 1), ("other", 11)]));
    shell.pass(1);
    shell.tell(Input::Passed { app: "other".into(), revision: digest(11) });
    shell.tell(statement(2, &[("cold-chain", 1), ("other", 12)]));
    let reconciler = &mut shell.reconciler;
    let mut out = steps(reconciler, statement(3, &[("cold-chain", 2), ("other", 12)]));
    while !matches!(out[..], [Step::Migrate { .. }]) {
        let input = match out.remove(0) {
            Step::Fetch { digest } => Input::Fetched { digest, result: Ok(()) },
            Step::Verify { revision } => {
                Input::Verified { revision, result: Ok(facts(2, 2, 0, 2)) }
            }
            Step::Compile { revision } => Input::Compiled { revision, result: Ok(()) },
            Step::Quiesce { app } => Input::Quiesced { app },
            step => panic!("{step:?}"),
        };
        out = steps(reconciler, input);
    }
    let reason = "it traps".to_owned();
    let failed = Input::Failed { app: "other".into(), revision: digest(12), reason };
    assert_eq!(steps(reconciler, failed), []);
    assert!(reconciler.is_changing("cold-chain") && reconciler.is_changing("other"));
    let migrated = Input::Migrated { app: "cold-chain".into(), result: Ok(()) };
    let out = steps(reconciler, migrated);
    assert!(matches!(&out[..], [Step::Swap { .. }, Step::Quiesce { app }] if app == "other"));
}
