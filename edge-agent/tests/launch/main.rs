//! The launcher as a process, with shell scripts in the place of agents. A real agent on trial is in the
//! end-to-end tests (`tests/tests/e2e/agent_updates.rs`).
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use edge_agent::launch::slots::Slots;
use edge_core::boot::record::{self, Stored};
use edge_core::boot::{Before, Offer, Program, Seen, Slot, Source, State, Terms, Version};
use edge_core::id::Digest;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, prlimit};

mod adopted;
mod real;
mod shortage;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// What systemd tells its services.
const SYSTEMD: [&str; 2] = ["INVOCATION_ID", "SYSTEMD_EXEC_PID"];

/// Says once in a while that it lives, and stops when told to.
const LIVES: &str = "trap 'exit 0' TERM; while :; do printf . >&0; sleep 0.05; done";
/// Says once in a while that it lives, and does not listen.
const DEAF: &str = "trap '' TERM; while :; do printf . >&0; sleep 0.05; done";
/// Says nothing, and does not listen.
const HANGS: &str = "trap '' TERM; while :; do sleep 0.1; done";

struct Rig {
    dir: tempfile::TempDir,
    slots: Slots,
}

impl Rig {
    /// An agent in slot a that proved itself, of the launcher's version.
    fn new(old: &str) -> Self {
        Self::with_version(old, env!("CARGO_PKG_VERSION").parse().unwrap())
    }

    fn with_version(old: &str, version: Version) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(&dir.path().join("slots")).unwrap();
        let rig = Self { dir, slots };
        let program = Program { version, ..rig.install(Slot::A, "old", old) };
        rig.slots.save(&State::new(Slot::A, program)).unwrap();
        rig
    }

    /// An update in slot b.
    fn with_update(self, new: &str, tries: u8) -> Self {
        let program = self.install(Slot::B, "new", new);
        let offer = Offer { program, floor: Version::default(), force: false };
        self.slots.save(&self.state().begin_trial(&offer, terms(tries))).unwrap();
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
        launcher(self.slots.dir(), &["run", "--quick"])
    }

    /// What the launcher says when it cannot go on.
    fn says(&self) -> String {
        let output = self.command().stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn tries_left(&self) -> Option<u8> {
        self.state().trial.map(|trial| trial.tries_left)
    }

    /// From here on the state cannot be written: there is a folder in the place of its older copy.
    fn freeze(&self) -> PathBuf {
        let Stored { generation, state } = self.slots.load().unwrap().unwrap();
        let place = record::encode(&state, generation).place;
        let copy = self.slots.dir().join(format!("state-{place}"));
        let _ = fs::remove_file(&copy);
        fs::create_dir(&copy).unwrap();
        copy
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
    launcher_within(["3 s", "2 s", "500 ms"], slots, arguments)
}

/// Times: to hang, to start, to stop.
fn launcher_within(times: [&str; 3], slots: &Path, arguments: &[&str]) -> Command {
    launcher_of(Path::new(env!("CARGO_BIN_EXE_edge-agent")), times, slots, arguments)
}

fn launcher_of(package: &Path, times: [&str; 3], slots: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(package);
    command.args(["launch", "--slots"]).arg(slots);
    let [hang, start, stop] = times;
    command.args(["--hang-after", hang, "--start-within", start, "--stop-within", stop]);
    command.arg("--").args(arguments).stdin(Stdio::null()).process_group(0);
    command.stderr(Stdio::null());
    for name in SYSTEMD {
        command.env_remove(name);
    }
    command
}

fn terms(tries: u8) -> Terms {
    let by = Source::Revision(Digest([7; 32]));
    Terms { by, before: Before::default(), tries, data: 1 }
}

/// Waits until a program says these words, and goes on listening.
fn wait_line(child: &mut Child, words: &str) -> BufReader<ChildStderr> {
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended, and did not say {words:?}");
    }
    said
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
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
    assert_eq!(slots.found(None).linked, Some(Slot::A));
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
    rig.slots.save(&rig.state().begin_trial(&offer, terms(2))).unwrap();
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["old a run --quick"]);
    assert!(rig.state().failures[0].reason.contains("it did not start"));
}

#[test]
fn a_stop_reaches_the_agent_and_costs_an_update_no_try() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let rig = Rig::new("exit 3").with_update(LIVES, 3);
        let mut launcher = rig.command().spawn().unwrap();
        rig.wait_log(1);
        // Longer than an agent may be silent that never said a word.
        std::thread::sleep(Duration::from_millis(2_500));
        tell(&launcher, signal);
        assert_eq!(launcher.wait().unwrap().code(), Some(0), "{signal:?}");
        assert_eq!(rig.log(), ["new b run --quick"]);
        assert_eq!(rig.tries_left(), Some(3));
    }
}

#[test]
fn a_stop_that_takes_too_long_costs_an_update_no_try_either() {
    let rig = Rig::new("exit 3").with_update(DEAF, 3);
    let mut launcher = rig.command().spawn().unwrap();
    rig.wait_log(1);
    tell(&launcher, Signal::TERM);
    assert_eq!(launcher.wait().unwrap().code(), Some(128 + 9));
    assert_eq!((rig.tries_left(), rig.log().len()), (Some(3), 1));
}

/// The launcher reads the programs before it decides: a pipe in the place of one holds it there.
#[test]
fn a_stop_before_the_start_costs_an_update_no_try() {
    let rig = Rig::new("exit 3").with_update("exit 9", 3);
    let pipe = rig.slots.program(Slot::A);
    fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut launcher = rig.command().spawn().unwrap();
    let (sender, opened) = mpsc::channel();
    // It opens when the launcher opens it to read.
    std::thread::spawn(move || sender.send(fs::OpenOptions::new().write(true).open(pipe)));
    let open = opened.recv_timeout(PATIENCE).expect("the launcher reads").unwrap();
    tell(&launcher, Signal::TERM);
    drop(open);
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
    assert_eq!((rig.tries_left(), rig.log().len()), (Some(3), 0));
}

#[test]
fn the_agent_that_proved_itself_starts_though_the_state_cannot_be_written() {
    let rig = Rig::new("exit 0");
    rig.freeze();
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["old a run --quick"]);
}

#[test]
fn a_try_that_cannot_be_counted_is_not_made_and_the_agent_before_it_goes_on() {
    let rig = Rig::new("exit 0").with_update("exit 9", 1);
    let frozen = rig.freeze();
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["old a run --quick"]);
    assert_eq!(rig.tries_left(), Some(1));
    fs::remove_dir(frozen).unwrap();
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log()[1..], ["new b run --quick", "old a run --quick"]);
}

/// Each would send the other on for ever.
#[test]
fn an_agent_that_makes_room_for_a_try_that_cannot_be_counted_is_started_no_faster_than_one_that_ends()
 {
    let rig = Rig::new("exit 88").with_update("exit 9", 1);
    rig.freeze();
    let output = rig.command().env("INVOCATION_ID", "x").output().unwrap();
    assert_eq!((output.status.code(), rig.log().len()), (Some(88), 1));
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
    let starts_again = |command: &mut Command, rig: &Rig| {
        let mut launcher = command.spawn().unwrap();
        rig.wait_log(3);
        tell(&launcher, Signal::TERM);
        assert!(launcher.wait().unwrap().code().is_some());
    };
    let rig = Rig::new("exit 7");
    starts_again(&mut rig.command(), &rig);
    // A shell below one of its services.
    let rig = Rig::new("exit 7");
    starts_again(rig.command().env("INVOCATION_ID", "x").env("SYSTEMD_EXEC_PID", "1"), &rig);
    assert!(rig.log().iter().all(|line| line == "old a run --quick"));
}

#[test]
fn a_damaged_program_does_not_run_and_the_launcher_takes_the_place_of_two() {
    let rig = Rig::new("exit 0").with_update("exit 0", 1);
    rig.slots.save(&rig.state().confirm(1, None)).unwrap();
    fs::write(rig.slots.program(Slot::B), "rotten").unwrap();
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["old a run --quick"]);
    fs::write(rig.slots.program(Slot::A), "rotten").unwrap();
    let output = launcher(rig.slots.dir(), &["about"]).output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
    let state = rig.state();
    let own = state.program(state.confirmed).unwrap().digest;
    assert_eq!((Some(own), state.confirmed), (state.offered, Slot::A));
    assert_eq!(state.failures.len(), 2, "both are remembered");
}

/// A folder in the place of a program cannot be read, as one on a bad block.
#[test]
fn a_program_that_cannot_be_read_is_not_written_over() {
    let rig = Rig::new("exit 0").with_update("exit 0", 1);
    rig.slots.save(&rig.state().confirm(1, None)).unwrap();
    let hide = |slot| {
        fs::remove_file(rig.slots.program(slot)).unwrap();
        fs::create_dir(rig.slots.program(slot)).unwrap();
    };
    hide(Slot::B);
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["old a run --quick"]);
    assert_eq!(rig.state().failures[0].reason, "its file cannot be read");
    hide(Slot::A);
    let said = rig.says();
    assert!(said.contains("cannot be read"), "{said}");
    assert!(rig.slots.program(Slot::A).is_dir() && rig.slots.program(Slot::B).is_dir());
}

#[test]
fn the_link_is_for_people_and_no_update_fails_by_it() {
    let rig = Rig::new("exit 3").with_update("exit 0", 1);
    rig.slots.save(&rig.state().confirm(1, None)).unwrap();
    fs::create_dir(rig.slots.dir().join("current.new")).unwrap();
    assert_eq!(rig.run().status.code(), Some(0));
    assert_eq!(rig.log(), ["new b run --quick"]);
    assert!(fs::read_link(rig.slots.dir().join("current")).is_err(), "it could not be made");
}

#[test]
fn the_agent_of_a_launcher_that_is_gone_is_waited_for() {
    let rig = Rig::new("exit 0");
    let orphan = rig.slots.lock_agent().unwrap().unwrap();
    let mut second = rig.command().stderr(Stdio::piped()).spawn().unwrap();
    let _heard = wait_line(&mut second, "waiting for its end");
    assert_eq!(rig.log().len(), 0, "not beside it");
    drop(orphan);
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(rig.log().len(), 1);

    let _orphan = rig.slots.lock_agent().unwrap().unwrap();
    let said = rig.says();
    assert!(said.contains("an agent still runs with the slots"), "{said}");
    let mut waiting = rig.command().stderr(Stdio::piped()).spawn().unwrap();
    let _heard = wait_line(&mut waiting, "waiting for its end");
    tell(&waiting, Signal::TERM);
    assert_eq!(waiting.wait().unwrap().code(), Some(0), "it can be stopped meanwhile");
    assert_eq!(rig.log().len(), 1);
}

#[test]
fn the_program_of_a_newer_package_has_its_trial_once() {
    let rig = Rig::with_version("exit 0", Version(0, 0, 9));
    // What it is started with lets the launcher's own program end at once.
    let run = || launcher(rig.slots.dir(), &["about"]).output().unwrap();
    let output = run();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 3, "three tries");
    assert_eq!(rig.log(), ["old a about"]);
    let state = rig.state();
    assert_eq!((state.confirmed, state.failures.len()), (Slot::A, 1));
    assert_eq!(state.offered, Some(state.failures[0].program.digest));
    assert_eq!(run().stdout.len(), 0, "not again");
    assert_eq!(rig.log().len(), 2);
}

#[test]
fn the_program_of_a_package_that_is_not_newer_or_below_the_floor_is_not_taken() {
    for (version, floor) in
        [(Version(0, 1, 0), Version::default()), (Version(0, 0, 9), Version(0, 2, 0))]
    {
        let rig = Rig::with_version("exit 0", version);
        rig.slots.save(&State { floor, ..rig.state() }).unwrap();
        assert_eq!(rig.run().status.code(), Some(0));
        assert_eq!(rig.log(), ["old a run --quick"]);
        let state = rig.state();
        assert!(state.offered.is_some() && state.failures.is_empty());
        assert_eq!(rig.slots.found(None).programs[1], Seen::Absent);
    }
}

#[test]
fn one_launcher_at_a_time() {
    let rig = Rig::new(LIVES);
    let mut first = rig.command().spawn().unwrap();
    rig.wait_log(1);
    let said = rig.says();
    assert!(said.contains("another launcher"), "{said}");
    tell(&first, Signal::TERM);
    assert_eq!(first.wait().unwrap().code(), Some(0));
}
