//! The launcher: starts the program of a slot, watches that it lives, and starts another one where
//! it does not.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use edge_core::boot::restart::{Again, Restarts};
use edge_core::boot::{End, Program, Slot, Start, State, Version, start};
use edge_core::time::Millis;
use tokio::time::Instant;

use super::slots::{self, Slots};
use super::{BEAT_VARIABLE, SLOT_VARIABLE, SLOTS_VARIABLE, SWITCH_EXIT, probe};
use crate::supervisor::Supervisor;

mod signals;
mod watch;

use signals::Signals;
use watch::{Patience, Run, watch};

/// Wait between two tries of an update.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Beats in the time after which a silent agent hangs.
const BEATS: u32 = 4;
/// What a supervisor waits longer for a start than the launcher does.
const START_MARGIN: Duration = Duration::from_secs(30);
/// Set by systemd for its services.
const SYSTEMD: &str = "INVOCATION_ID";

/// How a launcher works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the slots.
    pub slots: PathBuf,
    /// The program for an empty slot.
    pub seed: PathBuf,
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
    /// Held for as long as the launcher lives.
    _lock: std::fs::File,
}

/// What is started.
struct Chosen {
    slot: Slot,
    state: State,
}

impl<'o> Launcher<'o> {
    fn new(options: &'o Options) -> Result<Self, String> {
        let dir = options.slots.display();
        let failed = |error: std::io::Error| format!("slots in {dir}: {error}");
        let slots = Slots::open(&options.slots).map_err(failed)?;
        let lock = slots.lock().map_err(failed)?;
        let signals = Signals::new().map_err(|error| error.to_string())?;
        let supervisor = Supervisor::from_environment();
        Ok(Self { options, slots, signals, supervisor, _lock: lock })
    }

    async fn run(mut self) -> Result<u8, String> {
        let mut restarts = Restarts::default();
        let mut before = None;
        loop {
            let Chosen { slot, state } = self.choose()?;
            if before.replace(slot).is_some_and(|before| before != slot) {
                restarts.begin_anew();
            }
            let on_trial = state.on_trial() == Some(slot);
            tracing::info!(slot = slot.as_str(), on_trial, "starting the agent");
            let mut run = self.run_once(slot).await;
            // It may have been confirmed meanwhile.
            let on_trial = self.state().is_some_and(|state| state.on_trial() == Some(slot));
            if on_trial && run.end == End::Stopped && !run.was_told {
                // Else an update that does nothing would stop the gateway for good.
                run.end = End::Failed("it ended by itself".to_owned());
            }
            // Told to stop while it was about to make room: both are a good end.
            let code = if run.was_told && run.end == End::Switch { 0 } else { run.code() };
            self.note_end(slot, run.end.clone());
            if run.was_told || run.end == End::Stopped {
                return Ok(code);
            }
            let is_switch = run.end == End::Switch && self.leads_elsewhere(slot);
            let wait = match restarts.ended(run.lived) {
                _ if is_switch => continue,
                _ if on_trial => TRY_AGAIN_AFTER,
                // Whoever started this decides on restarts.
                _ if std::env::var_os(SYSTEMD).is_some() => return Ok(code),
                Again::GiveUp => {
                    tracing::error!(end = ?run.end, "the agent keeps ending: the launcher gives up");
                    return Ok(code);
                }
                Again::After(wait) => Duration::from_millis(wait.0),
            };
            tracing::warn!(end = ?run.end, ?wait, "the agent ended and is started again");
            if self.signals.stop_within(wait).await {
                return Ok(0);
            }
        }
    }

    /// Decides, and writes down what must be durable before the start.
    fn choose(&self) -> Result<Chosen, String> {
        let dir = self.slots.dir().display();
        let failed = |error: std::io::Error| format!("slots in {dir}: {error}");
        let mut stored = self.slots.load().map_err(failed)?.map(|stored| stored.state);
        let mut found = self.slots.found();
        if start(stored.as_ref(), &found) == Start::Empty {
            stored = Some(self.seed(stored.as_ref())?);
            found = self.slots.found();
        }
        match start(stored.as_ref(), &found) {
            Start::Run { slot, state, changed } => {
                if changed {
                    self.slots.save(&state).map_err(failed)?;
                }
                if found.linked != Some(state.confirmed)
                    && let Err(error) = self.slots.link(state.confirmed)
                {
                    // It is for people: the state says which slot starts.
                    tracing::warn!(%error, "the link to the confirmed slot cannot be led there");
                }
                Ok(Chosen { slot, state: *state })
            }
            Start::Empty | Start::Damaged => Err(format!(
                "no program in {dir} is what its state says: put good ones there and remove state-0 and \
                 state-1, then what is there is taken"
            )),
        }
    }

    /// The launcher's own program into slot a. What failed before, and the floor, are not forgotten.
    fn seed(&self, before: Option<&State>) -> Result<State, String> {
        let seed = &self.options.seed;
        let failed = |error: std::io::Error| format!("{}: {error}", seed.display());
        let bytes = std::fs::read(seed).map_err(failed)?;
        let digest = slots::digest_of(seed).map_err(failed)?;
        self.slots.install(Slot::A, &bytes, digest).map_err(failed)?;
        let version: Result<Version, _> = env!("CARGO_PKG_VERSION").parse();
        let program = Program { digest, version: version.unwrap_or_default() };
        let mut state = State::new(Slot::A, program);
        if let Some(before) = before {
            state = State {
                programs: state.programs,
                confirmed: Slot::A,
                trial: None,
                ..before.clone()
            };
        }
        self.slots.save(&state).map_err(failed)?;
        tracing::info!(seed = %seed.display(), "slot a has its first program");
        Ok(state)
    }

    async fn run_once(&mut self, slot: Slot) -> Run {
        let begun = Instant::now();
        let patience = Patience {
            hang_after: self.options.hang_after,
            start_within: self.options.start_within,
            stop_within: self.options.stop_within,
        };
        // Else systemd, tired of waiting for an update that never gets ready, stops the launcher in
        // the midst of the next start, which is none of its fault.
        self.supervisor.starting(patience.start_within + patience.stop_within + START_MARGIN);
        let (child, line) = match self.spawn(slot) {
            Ok(spawned) => spawned,
            Err(error) => return Run::not_started(&error),
        };
        let mut run = watch(child, line, &mut self.signals, &mut self.supervisor, patience).await;
        let lived = u64::try_from(begun.elapsed().as_millis());
        run.lived = Millis(lived.unwrap_or(u64::MAX));
        run
    }

    fn spawn(&self, slot: Slot) -> std::io::Result<(Child, tokio::net::UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let line = tokio::net::UnixStream::from_std(ours)?;
        let beat = self.options.hang_after / BEATS;
        let mut command = Command::new(self.slots.program(slot));
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
        let next = self.slots.load().map(|stored| stored.and_then(|it| it.state.ended(slot, end)));
        let saved = next.and_then(|next| next.map_or(Ok(()), |next| self.slots.save(&next)));
        if let Err(error) = saved {
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
