//! A machine that is short of what a start needs.

use super::*;

impl Rig {
    /// How many files a launcher holds that has started the agent, which lives once before. With so many it
    /// reads and writes all that it has to, and starts nothing: the connection to the agent is one more.
    pub(super) fn files_held(&self) -> u32 {
        let mut launcher = self.command().stderr(Stdio::piped()).spawn().unwrap();
        self.wait_log(1);
        // It has woken up from the start of the agent, and waits.
        wait_for("the launcher to rest", || is_asleep(&launcher));
        let held = first_free(&launcher);
        tell(&launcher, Signal::TERM);
        assert_eq!(launcher.wait().unwrap().code(), Some(0));
        held
    }

    /// A launcher that may have so many files.
    pub(super) fn with_files(&self, files_max: u32) -> Child {
        let command = self.command();
        let mut short = Command::new("sh");
        short.args(["-c", &format!("ulimit -S -n {files_max}; exec \"$0\" \"$@\"")]);
        short.arg(command.get_program()).args(command.get_args());
        for name in SYSTEMD {
            short.env_remove(name);
        }
        short.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn short_of_files(&self) -> Child {
        self.with_files(self.files_held())
    }
}

fn is_asleep(process: &Child) -> bool {
    let text = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    // Behind the name, which may have spaces (proc(5)).
    text.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('S'))
}

/// The lowest number that a process has no file under.
fn first_free(process: &Child) -> u32 {
    let fds = fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    let taken = fds.filter_map(|fd| fd.unwrap().file_name().to_str()?.parse().ok());
    let taken: BTreeSet<u32> = taken.collect();
    (0..).find(|number| !taken.contains(number)).unwrap()
}

/// It may have as many files as this process.
pub(super) fn lift_limit(process: &Child) {
    let id = Pid::from_child(process);
    prlimit(Some(id), Resource::Nofile, getrlimit(Resource::Nofile)).unwrap();
}

/// What a launcher says that can start nothing.
const SHORT: &str = "too short of something to start the agent";

#[test]
fn what_the_machine_is_short_of_costs_an_update_no_try() {
    let rig = Rig::new("exit 3").with_update(LIVES, 3);
    let mut launcher = rig.short_of_files();
    let said = wait_line(&mut launcher, SHORT);
    assert_eq!((rig.tries_left(), rig.log().len()), (Some(2), 1), "a try has begun");
    lift_limit(&launcher);
    rig.wait_log(2);
    assert_eq!(rig.log()[1], "new b run --quick");
    assert_eq!(rig.tries_left(), Some(2), "it is still the same one");
    tell(&launcher, Signal::TERM);
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
    assert_eq!(rig.tries_left(), Some(3));
    drop(said);
}

#[test]
fn a_stop_is_heard_while_the_machine_is_short_of_something() {
    let rig = Rig::new("exit 3").with_update(LIVES, 3);
    let mut launcher = rig.short_of_files();
    let _said = wait_line(&mut launcher, SHORT);
    tell(&launcher, Signal::TERM);
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
    assert_eq!((rig.tries_left(), rig.log().len()), (Some(3), 1));
}
