//! What the launcher makes of programs where no copy of the state is left.

use std::fs;
use std::path::Path;

use edge_agent::launch::probe::About;
use edge_core::boot::{Slot, Version};
use rustix::process::Signal;

use super::shortage::lift_limit;
use super::{LIVES, Rig, launcher, tell, wait_line};

/// The launcher's own.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Neither starts nor answers.
const ROTTEN: &[u8] = b"\x7fELF that is damaged";

/// Both copies of the state are gone.
fn forget(rig: &Rig) {
    for copy in ["state-0", "state-1"] {
        let _ = fs::remove_file(rig.slots.dir().join(copy));
    }
}

/// A program that says which version it is, and does something else where it is not asked.
fn says(version: &str, otherwise: &str) -> String {
    let about = About { version: version.to_owned(), ..About::own() };
    let about = serde_json::to_string(&about).unwrap();
    format!("if [ $1 = about ]; then echo '{about}'; exit 0; fi\n{otherwise}")
}

fn damage(path: &Path) {
    fs::write(path, ROTTEN).unwrap();
}

#[test]
fn without_a_state_a_program_says_itself_which_version_it_is() {
    for (version, is_older) in [("0.0.9", true), ("9.0.0", false)] {
        let rig = Rig::new(&says(version, ""));
        forget(&rig);
        // What it is started with lets the launcher's own program end at once.
        let output = launcher(rig.slots.dir(), &["about"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let state = rig.state();
        let named = state.program(Slot::A).unwrap();
        assert_eq!((state.confirmed, named.version), (Slot::A, version.parse().unwrap()));
        // The package had its trial, and was taken back because it ended.
        assert_eq!(state.failures.len(), usize::from(is_older), "{version}");
        assert!(state.offered.is_some());
    }
}

/// It would be started for ever, and no package would help.
#[test]
fn without_a_state_a_damaged_program_gives_way_to_the_other_one() {
    let rig = Rig::new("exit 3");
    rig.install(Slot::B, "other", &says(VERSION, "exit 0"));
    rig.slots.link(Slot::A).unwrap();
    damage(&rig.slots.program(Slot::A));
    forget(&rig);
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log().last().unwrap(), "other b run --quick");
    let state = rig.state();
    assert_eq!((state.confirmed, state.program(Slot::A)), (Slot::B, None));
    assert!(state.failures[0].reason.contains("does not say which version"));
    assert_eq!(rig.slots.found(None).linked, Some(Slot::B));
}

#[test]
fn without_a_state_the_launcher_takes_the_place_of_damaged_programs() {
    for is_alone in [true, false] {
        let rig = Rig::new("exit 3");
        if !is_alone {
            rig.install(Slot::B, "other", "exit 3");
            damage(&rig.slots.program(Slot::B));
        }
        rig.slots.link(Slot::A).unwrap();
        damage(&rig.slots.program(Slot::A));
        forget(&rig);
        // What it is started with lets the launcher's own program end at once.
        let output = launcher(rig.slots.dir(), &["about"]).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
        let state = rig.state();
        // Those of the same bytes are one.
        assert_eq!((state.confirmed, state.failures.len()), (Slot::B, 1));
        let own = state.program(Slot::B).unwrap();
        assert_eq!((Some(own.digest), own.version), (state.offered, VERSION.parse().unwrap()));
    }
}

#[test]
fn what_the_machine_is_short_of_is_no_answer_of_a_program() {
    let rig = Rig::new(&says("9.0.0", LIVES));
    let files = rig.files_held();
    forget(&rig);
    let mut launcher = rig.with_files(files);
    let said = wait_line(&mut launcher, "too short of something to ask a program what it is");
    assert_eq!(rig.log().len(), 1);
    lift_limit(&launcher);
    rig.wait_log(3);
    assert_eq!(rig.log()[1..], ["old about", "old a run --quick"]);
    let state = rig.state();
    let named = state.program(Slot::A).unwrap();
    assert_eq!((named.version, state.failures.len()), (Version(9, 0, 0), 0));
    tell(&launcher, Signal::TERM);
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
    drop(said);
}
