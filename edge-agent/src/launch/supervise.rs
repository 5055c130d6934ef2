//! The launcher: starts the program of a slot, watches that it lives, and starts another one where
//! it does not.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use edge_core::boot::restart::{Again, Restarts};
use edge_core::boot::{End, Own, Said, Slot, State};
use edge_core::time::Millis;
use tokio::time::Instant;

use super::slots::Slots;
use super::{BEAT_VARIABLE, SLOT_VARIABLE, SLOTS_VARIABLE, SWITCH_EXIT, probe};
use crate::supervisor::Supervisor;

mod choose;
mod lack;
mod signals;
mod watch;

use choose::Chosen;
use lack::Lack;
use signals::Signals;
use watch::{Patience, Run, watch};

/// Wait between two tries of an update.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Beats in the time after which a silent agent hangs.
const BEATS: u32 = 4;
/// What a supervisor waits longer for a start than the launcher does.
const START_MARGIN: Duration = Duration::from_secs(30);
/// How long is looked whether a stop was asked for while the launcher did something else.
const LOOK: Duration = Duration::from_millis(1);
/// How often is looked whether the agent of a launcher before is gone.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Set by systemd for its services; all that these start inherit it.
const SYSTEMD: &str = "INVOCATION_ID";
/// Number of the process that systemd itself started; versions below 248 do not say it.
const SYSTEMD_PID: &str = "SYSTEMD_EXEC_PID";

/// How a launcher works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the slots.
    pub slots: PathBuf,
    /// The launcher's own program: for empty slots, and for an upgrade of its package. For as long as the
    /// launcher lives it names the same file.
    pub own: PathBuf,
    /// Arguments of the agent.
    pub arguments: Vec<OsString>,
    /// An agent that is silent for so long hangs.
    pub hang_after: Duration,
    /// So long an agent may take to be there.
    pub start_within: Duration,
    /// So long an agent may take to stop; then it is killed.
    pub stop_within: Duration,
}

/// Launches until told to stop, or until it gives up; returns the exit code.
///
/// # Errors
/// The slots cannot be used, or no program of them may run.
pub fn launch(options: &Options) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async { Launcher::new(options)?.run().await })
}

struct Launcher<'o> {
    options: &'o Options,
    slots: Slots,
    signals: Signals,
    /// Who watches the launcher itself.
    supervisor: Supervisor,
    /// The launcher's own program, where it can be read.
    own: Option<Own>,
    /// What programs said that were asked, by slot.
    said: [Option<Said>; 2],
    /// Held for as long as the launcher lives.
    _lock: std::fs::File,
}

impl<'o> Launcher<'o> {
    fn new(options: &'o Options) -> Result<Self, String> {
        let dir = options.slots.display();
        let failed = |error: std::io::Error| format!("slots in {dir}: {error}");
        let slots = Slots::open(&options.slots).map_err(failed)?;
        let lock = slots.lock().map_err(failed)?;
        let signals = Signals::new().map_err(|error| error.to_string())?;
        let supervisor = Supervisor::from_environment();
        Ok(Self {
            options,
            slots,
            signals,
            own: choose::own(&options.own),
            said: [None; 2],
            supervisor,
            _lock: lock,
        })
    }

    /// Waits until no agent of a launcher before this one is there; whether a stop was asked for
    /// meanwhile. That agent sees at its next beat that its launcher is gone.
    async fn wait_for_orphan(&mut self) -> Result<bool, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.slots.dir().display());
        let until = Instant::now() + self.options.hang_after + self.options.stop_within;
        let mut is_told = false;
        while self.slots.lock_agent().map_err(failed)?.is_none() {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(
                    "the agent of a launcher that is gone still runs: waiting for its end"
                );
            }
            if Instant::now() >= until {
                return Err(format!(
                    "an agent still runs with the slots in {}, though its launcher is gone: end it, then \
                     start again",
                    self.slots.dir().display()
                ));
            }
            if self.signals.stop_within(LOOK_EVERY).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn run(mut self) -> Result<u8, String> {
        if self.wait_for_orphan().await? {
            return Ok(0);
        }
        let mut restarts = Restarts::default();
        let mut before = None;
        loop {
            let Some(Chosen { slot, state, is_written }) = self.choose().await? else {
                return Ok(0);
            };
            if self.signals.stop_within(LOOK).await {
                // The try was counted, and never began.
                self.note_end(slot, End::Stopped);
                return Ok(0);
            }
            if before.replace(slot).is_some_and(|before| before != slot) {
                restarts.begin_anew();
            }
            let on_trial = state.on_trial() == Some(slot);
            tracing::info!(slot = slot.as_str(), on_trial, "starting the agent");
            let mut run = self.run_once(slot, &state).await;
            // It may have been confirmed meanwhile.
            let on_trial = self.state().is_some_and(|state| state.on_trial() == Some(slot));
            // Told to stop while it was about to make room: both are a good end.
            let code = if run.was_told && run.end == End::Switch { 0 } else { run.code() };
            if run.was_told && !run.hung {
                // However it took that. One that hung before has lost its try already.
                run.end = End::Stopped;
            } else if on_trial && run.end == End::Stopped {
                // Else an update that does nothing would stop the gateway for good.
                run.end = End::Failed("it ended by itself".to_owned());
            }
            self.note_end(slot, run.end.clone());
            if run.was_told || run.end == End::Stopped {
                return Ok(code);
            }
            // What could not be written the last time: else they would ask each other for ever.
            let is_switch = is_written && run.end == End::Switch && self.leads_elsewhere(slot);
            let wait = match restarts.ended(run.lived) {
                _ if is_switch => continue,
                _ if on_trial => TRY_AGAIN_AFTER,
                // Whoever started this decides on restarts.
                _ if is_of_systemd() => return Ok(code),
                Again::GiveUp => {
                    tracing::error!(end = ?run.end, "the agent keeps ending: the launcher gives up");
                    return Ok(code);
                }
                Again::After(wait) => Duration::from_millis(wait.0),
            };
            tracing::warn!(end = ?run.end, ?wait, "the agent ended and is started again");
            if self.stop_within(wait).await {
                return Ok(0);
            }
        }
    }

    /// Waits, and its supervisor hears meanwhile that the launcher turns; whether a stop was asked for.
    async fn stop_within(&mut self, wait: Duration) -> bool {
        let now = std::time::Instant::now;
        let until = now() + wait;
        while let Some(wait) = self.supervisor.beat_until(now(), until) {
            if self.signals.stop_within(wait).await {
                return true;
            }
        }
        false
    }

    async fn run_once(&mut self, slot: Slot, state: &State) -> Run {
        let patience = Patience {
            hang_after: self.options.hang_after,
            start_within: self.options.start_within,
            stop_within: self.options.stop_within,
        };
        let (child, line) = match self.start(slot, state).await {
            Ok(started) => started,
            Err(run) => return run,
        };
        let begun = Instant::now();
        let mut run = watch(child, line, &mut self.signals, &mut self.supervisor, patience).await;
        let lived = u64::try_from(begun.elapsed().as_millis());
        run.lived = Millis(lived.unwrap_or(u64::MAX));
        run
    }

    /// Starts the program of a slot, and waits where the machine is too short of something for that.
    async fn start(
        &mut self,
        slot: Slot,
        state: &State,
    ) -> Result<(Child, tokio::net::UnixStream), Run> {
        let mut lack = Lack::default();
        loop {
            // Else systemd, tired of waiting for an update that never gets ready, stops the launcher in
            // the midst of the next start, which is none of its fault.
            self.supervisor.starting(self.start_max());
            let error = match self.spawn(slot, state) {
                Ok(spawned) => return Ok(spawned),
                Err(error) => error,
            };
            let Some(wait) = lack.wait_after(&error) else { return Err(Run::not_started(&error)) };
            tracing::warn!(%error, ?wait, "the machine is too short of something to start the agent: waiting");
            if self.stop_within(wait).await {
                return Err(Run::stopped());
            }
        }
    }

    /// What a start may take, as the supervisor sees it.
    fn start_max(&self) -> Duration {
        self.options.start_within + self.options.stop_within + START_MARGIN
    }

    /// The file that is run as the program of a slot. Where the slot holds a copy of the launcher's own
    /// program it is the launcher's file: processes of one file share its pages in memory.
    fn file_of(&self, slot: Slot, state: &State) -> PathBuf {
        let own = self.own.as_ref().map(|own| own.program.digest);
        let named = state.program(slot).map(|program| program.digest);
        if own.is_some() && own == named {
            self.options.own.clone()
        } else {
            self.slots.program(slot)
        }
    }

    fn spawn(&self, slot: Slot, state: &State) -> std::io::Result<(Child, tokio::net::UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let line = tokio::net::UnixStream::from_std(ours)?;
        let beat = self.options.hang_after / BEATS;
        let mut command = Command::new(self.file_of(slot, state));
        // Whichever file it is, people see the slot.
        command.arg0(self.slots.program(slot));
        command.args(&self.options.arguments);
        command.env(SLOTS_VARIABLE, self.slots.dir());
        command.env(SLOT_VARIABLE, slot.as_str());
        command.env(BEAT_VARIABLE, beat.as_millis().to_string());
        // systemd's watchdog is over the launcher: an agent that fed it would hide one that hangs.
        command.env_remove("WATCHDOG_PID").env_remove("WATCHDOG_USEC");
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        Ok((probe::spawn(&mut command)?, line))
    }

    fn note_end(&self, slot: Slot, end: End) {
        if let Err(error) = self.slots.change(|state| state.ended(slot, end)) {
            // The try is counted already; only the words are lost.
            tracing::warn!(%error, "how the agent ended cannot be noted");
        }
    }

    /// Whether the next start is of another slot: an agent that asks for a switch to itself loops.
    fn leads_elsewhere(&self, slot: Slot) -> bool {
        let next = self.state().map(|state| state.on_trial().unwrap_or(state.confirmed));
        next.is_some_and(|next| next != slot)
    }

    fn state(&self) -> Option<State> {
        self.slots.load().ok().flatten().map(|stored| stored.state)
    }
}

/// The exit code that stands for the end of a program, as shells have it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// What the end of a program means.
fn end_of(status: ExitStatus) -> End {
    match status.code() {
        Some(0) => End::Stopped,
        Some(code) if code == i32::from(SWITCH_EXIT) => End::Switch,
        Some(code) => End::Failed(format!("it ended with exit code {code}")),
        None => match status.signal() {
            Some(signal) => End::Failed(format!("it was ended by signal {signal}")),
            None => End::Failed("it ended".to_owned()),
        },
    }
}

/// Whether systemd started this very process, and not a shell that runs below one of its services.
fn is_of_systemd() -> bool {
    let is_own = |pid: String| pid.parse() == Ok(std::process::id());
    std::env::var_os(SYSTEMD).is_some() && std::env::var(SYSTEMD_PID).map_or(true, is_own)
}
