//! The launcher as a process, with shell scripts in the place of agents. A real agent on trial is in the
//! end-to-end tests (`tests/tests/e2e/agent_updates.rs`).
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use edge_agent::launch::slots::Slots;
use edge_core::boot::{Before, Offer, Program, Slot, State, Version};
use edge_core::id::Digest;
use rustix::process::{Pid, Signal, kill_process};

/// Says once in a while that it lives, and stops when told to.
const LIVES: &str = "trap 'exit 0' TERM; while :; do printf . >&0; sleep 0.05; done";
/// Says nothing, and does not listen.
const HANGS: &str = "trap '' TERM; while :; do sleep 0.1; done";

struct Rig {
    dir: tempfile::TempDir,
    slots: Slots,
}

impl Rig {
    /// An agent in slot a that proved itself.
    fn new(old: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(&dir.path().join("slots")).unwrap();
        let rig = Self { dir, slots };
        let program = rig.install(Slot::A, "old", old);
        rig.slots.save(&State::new(Slot::A, program)).unwrap();
        rig
    }

    /// An update in slot b.
    fn with_update(self, new: &str, tries: u8) -> Self {
        let program = self.install(Slot::B, "new", new);
        let offer = Offer { program, floor: Version::default(), force: false };
        let state = self.state().begin_trial(&offer, Before::default(), tries, 1);
        self.slots.save(&state).unwrap();
        self
    }

    fn install(&self, slot: Slot, name: &str, script: &str) -> Program {
        let log = self.dir.path().join("log");
        let text = format!("#!/bin/sh\necho {name} $HOLM_SLOT $* >> {}\n{script}\n", log.display());
        let digest = Digest(sync_protocol::id::Digest::of(text.as_bytes()).0);
        self.slots.install(slot, text.as_bytes(), digest).unwrap();
        Program { digest, version: Version(0, 1, 0) }
    }

    fn state(&self) -> State {
        self.slots.load().unwrap().unwrap().state
    }

    fn command(&self) -> Command {
        let mut command = launcher(self.slots.dir(), &["run", "--quick"]);
        command.env_remove("INVOCATION_ID");
        command
    }

    /// Runs to its end.
    fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn wait_log(&self, lines: usize) {
        wait_for("lines of the log", || self.log().len() >= lines);
    }
}

fn launcher(slots: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-agent"));
    command.args(["launch", "--slots"]).arg(slots);
    command.args(["--hang-after", "3 s", "--start-within", "2 s", "--stop-within", "500 ms"]);
    command.arg("--").args(arguments).stdin(Stdio::null()).process_group(0);
    command.stderr(Stdio::null());
    command
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn tell(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn the_first_start_copies_the_launcher_into_slot_a() {
    let dir = tempfile::tempdir().unwrap();
    let output = launcher(dir.path(), &["about"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let about = String::from_utf8(output.stdout).unwrap();
    assert!(about.contains(env!("CARGO_PKG_VERSION")), "{about}");
    let slots = Slots::open(dir.path()).unwrap();
    let state = slots.load().unwrap().unwrap().state;
    assert_eq!((state.confirmed, state.on_trial()), (Slot::A, None));
    assert_eq!(slots.found().linked, Some(Slot::A));
}

#[test]
fn an_update_that_ends_has_its_tries_and_then_the_old_one_runs() {
    for (new, why) in [
        ("exit 9", "it ended with exit code 9"),
        ("kill -KILL $$", "it was ended by signal 9"),
        ("exit 0", "it ended by itself"),
    ] {
        let rig = Rig::new("exit 0").with_update(new, 2);
        assert_eq!(rig.run().status.code(), Some(0));
        assert_eq!(rig.log(), ["new b run --quick", "new b run --quick", "old a run --quick"]);
        let state = rig.state();
        assert_eq!(state.on_trial(), None);
        let reason = &state.failures[0].reason;
        assert_eq!(reason, &format!("it was started 2 times; the last time {why}"));
    }
}

#[test]
fn an_update_that_hangs_is_killed_and_the_old_one_runs() {
    let rig = Rig::new("exit 0").with_update(HANGS, 2);
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["new b run --quick", "new b run --quick", "old a run --quick"]);
    assert_eq!(rig.state().failures[0].reason, "it was started 2 times; the last time it hung");
}

#[test]
fn a_program_that_is_none_has_its_tries_too() {
    let rig = Rig::new("exit 0").with_update("exit 9", 2);
    let bytes = b"\x7fELF of another processor";
    let digest = Digest(sync_protocol::id::Digest::of(bytes).0);
    let offer = Offer {
        program: Program { digest, version: Version::default() },
        floor: Version::default(),
        force: false,
    };
    rig.slots.install(Slot::B, bytes, digest).unwrap();
    let state = rig.state().begin_trial(&offer, Before::default(), 2, 1);
    rig.slots.save(&state).unwrap();
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["old a run --quick"]);
    assert!(rig.state().failures[0].reason.contains("it did not start"));
}

#[test]
fn a_stop_reaches_the_agent_and_costs_an_update_no_try() {
    for signal in [Signal::TERM, Signal::INT] {
        let rig = Rig::new("exit 3").with_update(&LIVES.replace("TERM", "TERM INT"), 3);
        let mut launcher = rig.command().spawn().unwrap();
        rig.wait_log(1);
        // Longer than an agent may be silent that never said a word.
        std::thread::sleep(Duration::from_millis(2_500));
        tell(&launcher, signal);
        assert_eq!(launcher.wait().unwrap().code(), Some(0));
        assert_eq!(rig.log(), ["new b run --quick"]);
        assert_eq!(rig.state().trial.map(|trial| trial.tries_left), Some(3));
    }
}

#[test]
fn an_agent_that_ignores_a_stop_is_killed() {
    let rig = Rig::new(&LIVES.replace("'exit 0'", "''"));
    let mut launcher = rig.command().spawn().unwrap();
    rig.wait_log(1);
    tell(&launcher, Signal::TERM);
    assert_eq!(launcher.wait().unwrap().code(), Some(128 + 9));
}

#[test]
fn under_systemd_the_exit_code_of_a_confirmed_agent_is_passed_on() {
    let rig = Rig::new("exit 7");
    let output = rig.command().env("INVOCATION_ID", "x").output().unwrap();
    assert_eq!((output.status.code(), rig.log().len()), (Some(7), 1));
    // Tries of an update stay the launcher's business.
    let rig = Rig::new("exit 7").with_update("exit 9", 2);
    let output = rig.command().env("INVOCATION_ID", "x").output().unwrap();
    assert_eq!((output.status.code(), rig.log().len()), (Some(7), 3));
}

#[test]
fn without_systemd_a_confirmed_agent_is_started_again() {
    let rig = Rig::new("exit 7");
    let mut launcher = rig.command().spawn().unwrap();
    rig.wait_log(3);
    tell(&launcher, Signal::TERM);
    assert!(launcher.wait().unwrap().code().is_some());
    assert!(rig.log().iter().all(|line| line == "old a run --quick"));
}

#[test]
fn a_damaged_program_does_not_run_and_two_of_them_are_said() {
    let rig = Rig::new("exit 0").with_update("exit 0", 1);
    rig.slots.save(&rig.state().confirm(1)).unwrap();
    fs::write(rig.slots.program(Slot::B), "rotten").unwrap();
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["old a run --quick"]);
    fs::write(rig.slots.program(Slot::A), "rotten").unwrap();
    let output = rig.command().stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("remove state-0 and state-1"), "{said}");
}

#[test]
fn one_launcher_at_a_time() {
    let rig = Rig::new(LIVES);
    let mut first = rig.command().spawn().unwrap();
    rig.wait_log(1);
    let second = rig.command().stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another launcher"), "{said}");
    tell(&first, Signal::TERM);
    assert_eq!(first.wait().unwrap().code(), Some(0));
}
