//! The launcher with a real agent.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use edge_agent::launch::slots::Slots;
use edge_core::boot::{Program, Slot, State, Version};
use edge_core::id::Digest;
use rustix::process::{Pid, Signal, kill_process};

use super::{launcher_of, tell, wait_for, wait_line};

/// A real agent, with what it tells a supervisor.
struct Real {
    dir: tempfile::TempDir,
    heard: UnixDatagram,
}

impl Real {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heard = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let text = format!(
            "name = \"barn\"\ndata_dir = {:?}\nauthor_keys = []\n[update]\nsettle = \"1 s\"\n\
             [[listeners]]\nbind = \"127.0.0.1:0\"\n[anonymous]\npublish = [\"#\"]\n\
             subscribe = [\"#\"]\n",
            dir.path().join("data"),
        );
        fs::write(dir.path().join("agent.toml"), text).unwrap();
        Self { dir, heard }
    }

    fn slots(&self) -> PathBuf {
        self.dir.path().join("slots")
    }

    fn launcher(&self) -> Command {
        self.launcher_of(Path::new(env!("CARGO_BIN_EXE_edge-agent")))
    }

    fn launcher_of(&self, package: &Path) -> Command {
        launcher_of(package, ["30 s", "60 s", "30 s"], &self.slots(), &["run", "--config"])
    }

    fn start(&self, mut command: Command) -> Child {
        command.arg(self.dir.path().join("agent.toml"));
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command.stderr(Stdio::null()).spawn().unwrap()
    }

    /// The next word of the agent.
    fn word(&self) -> Option<String> {
        let mut bytes = [0; 64];
        match self.heard.recv(&mut bytes) {
            Ok(len) => Some(String::from_utf8_lossy(&bytes[..len]).into_owned()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        }
    }

    /// Waits until the agent is ready.
    fn wait_ready(&self) {
        while self.word().expect("it gets ready in time") != "READY=1\n" {}
    }

    /// Stops it, and returns what it said since.
    fn stop(&self, mut child: Child) -> Vec<String> {
        tell(&child, Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        self.heard.set_nonblocking(true).unwrap();
        let said = std::iter::from_fn(|| self.word()).collect();
        self.heard.set_nonblocking(false).unwrap();
        said
    }
}

/// More workers than there is room for would leave nothing for threads and heap.
#[test]
fn workers_are_fitted_to_the_address_space_at_the_start() {
    let real = Real::new();
    let config = real.dir.path().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "[limits]\nworkers = 200\n").unwrap();
    let mut narrow = Command::new("sh");
    narrow.args(["-c", "ulimit -v 3000000; exec \"$0\" run --config \"$1\""]);
    narrow.arg(env!("CARGO_BIN_EXE_edge-agent")).arg(config);
    narrow.env("NOTIFY_SOCKET", real.dir.path().join("notify")).stderr(Stdio::piped());
    let mut child = narrow.spawn().unwrap();
    let _said = wait_line(&mut child, "address space is short: fewer workers");
    real.wait_ready();
    real.stop(child);
}

#[test]
fn systemd_is_told_once_of_a_stop() {
    let real = Real::new();
    let mut alone = Command::new(env!("CARGO_BIN_EXE_edge-agent"));
    alone.args(["run", "--config"]);
    let child = real.start(alone);
    assert_eq!(real.word().as_deref(), Some("READY=1\n"));
    assert_eq!(real.stop(child), ["STOPPING=1\n"]);
    // By the launcher: its agent ends for an update as well, and to systemd the unit goes on then.
    let child = real.start(real.launcher());
    assert!(real.word().is_some_and(|word| word.starts_with("EXTEND_TIMEOUT_USEC=")));
    assert_eq!(real.word().as_deref(), Some("READY=1\n"));
    assert_eq!(real.stop(child), ["STOPPING=1\n"]);
}

#[test]
fn an_upgrade_of_the_package_that_is_well_stays_and_one_agent_runs_at_a_time() {
    let real = Real::new();
    let slots = Slots::open(&real.slots()).unwrap();
    let old = b"#!/bin/sh\nexit 1\n";
    let digest = Digest(sync_protocol::id::Digest::of(old).0);
    slots.install(Slot::A, old, digest).unwrap();
    let program = Program { digest, version: Version(0, 0, 9) };
    slots.save(&State::new(Slot::A, program)).unwrap();
    let child = real.start(real.launcher());
    let state = || slots.load().unwrap().unwrap().state;
    wait_for("the agent of the package to be kept", || state().confirmed == Slot::B);
    assert_eq!((state().on_trial(), state().failures.len()), (None, 0));
    assert!(slots.lock_agent().unwrap().is_none(), "the agent holds it");
    real.stop(child);
    assert!(slots.lock_agent().unwrap().is_some());
}

/// The file that a process runs, by device and number.
fn file_of(process: &Path) -> (u64, u64) {
    let file = fs::metadata(process.join("exe")).unwrap();
    (file.dev(), file.ino())
}

/// Two processes of one file share its pages in memory, those of two copies share none. What is seen of the
/// agent is that of its slot; and the package may be replaced meanwhile.
#[test]
fn an_agent_that_is_the_launchers_own_program_runs_from_the_launchers_file() {
    let real = Real::new();
    let package = real.dir.path().join("package");
    let own = Path::new(env!("CARGO_BIN_EXE_edge-agent"));
    // A link, but where the folder is on another disk.
    fs::hard_link(own, &package).or_else(|_| fs::copy(own, &package).map(|_| ())).unwrap();
    let child = real.start(real.launcher_of(&package));
    real.wait_ready();
    let launcher = PathBuf::from(format!("/proc/{}", child.id()));
    let agent = || {
        let children = launcher.join("task").join(child.id().to_string()).join("children");
        let id = fs::read_to_string(children).unwrap();
        (Path::new("/proc").join(id.trim()), id.trim().parse().ok().and_then(Pid::from_raw))
    };
    let (first, id) = agent();
    assert_eq!(file_of(&first), file_of(&launcher));
    let in_slot = fs::metadata(real.slots().join("a/edge-agent")).unwrap();
    assert_ne!(file_of(&first), (in_slot.dev(), in_slot.ino()), "the slot holds a copy");
    assert_eq!(fs::read_to_string(first.join("comm")).unwrap(), "edge-agent\n");
    let words = fs::read(first.join("cmdline")).unwrap();
    let slot = real.slots().join("a/edge-agent");
    assert!(words.starts_with(slot.as_os_str().as_encoded_bytes()), "{words:?}");

    fs::remove_file(&package).unwrap();
    kill_process(id.unwrap(), Signal::KILL).unwrap();
    real.wait_ready();
    let (second, again) = agent();
    assert_ne!(again, id);
    assert_eq!(file_of(&second), file_of(&launcher));
    real.stop(child);
}
