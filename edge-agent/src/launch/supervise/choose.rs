//! Which slot is started, and what is written before.

use std::io;
use std::path::Path;

use edge_core::boot::{
    Found, Own, Program, Said, Seen, Slot, Start, State, Stuck, Unwanted, Version, instead_of_try,
    start,
};

use super::Launcher;
use super::lack::{Lack, is_lack};
use crate::launch::probe::{self, About, NoAnswer};
use crate::launch::slots::digest_of;

/// Answers of the core until there is one to run: two questions, a first program, and an update of the package.
const ANSWERS_MAX: usize = 6;

/// What is started.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) slot: Slot,
    pub(super) state: State,
    /// The state is durable. Only what proved itself is started without that.
    pub(super) is_written: bool,
}

/// The launcher's own program; `None` where it cannot be read, which matters to empty slots alone.
pub(super) fn own(path: &Path) -> Option<Own> {
    let digest = match digest_of(path) {
        Ok(digest) => digest,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the launcher's own program cannot be read");
            return None;
        }
    };
    let About { version, formats, .. } = About::own();
    let version: Result<Version, _> = version.parse();
    Some(Own { program: Program { digest, version: version.unwrap_or_default() }, formats })
}

impl Launcher<'_> {
    /// Decides, and writes down what must be durable before the start; `None`: a stop was asked for.
    pub(super) async fn choose(&mut self) -> Result<Option<Chosen>, String> {
        let mut own = self.own.clone();
        let mut why_not = String::new();
        for _ in 0..ANSWERS_MAX {
            let stored = self.slots.load().map_err(|error| self.failed(&error))?;
            let stored = stored.map(|stored| stored.state);
            let found = Found { said: self.said, ..self.slots.found(own.clone()) };
            match start(stored.as_ref(), &found) {
                Start::Run { slot, state, changed } => {
                    say_unwanted(stored.as_ref(), &state, &found);
                    return self.begin(slot, *state, changed, &found).map(Some);
                }
                Start::Ask { slot } => match self.ask(slot, &found).await? {
                    Some(said) => self.said[usize::from(slot == Slot::B)] = Some(said),
                    None => return Ok(None),
                },
                Start::Put { slot, ahead, then } => {
                    if let Err(error) = self.put(slot, ahead.as_deref(), &then, &found) {
                        // What is there goes on, if it can.
                        tracing::error!(%error, "the launcher's own program cannot be written");
                        why_not =
                            format!("; the launcher's own program cannot be written: {error}");
                        own = None;
                    }
                }
                Start::Stuck(stuck) => return Err(self.stuck(stuck) + &why_not),
            }
        }
        Err(self.stuck(Stuck::Damaged))
    }

    fn begin(
        &self,
        slot: Slot,
        state: State,
        changed: bool,
        found: &Found,
    ) -> Result<Chosen, String> {
        let unwritten = if changed { self.slots.save(&state).err() } else { None };
        let is_written = unwritten.is_none();
        if let Some(error) = unwritten {
            tracing::error!(%error, "the state of the slots cannot be written");
            if slot != state.confirmed {
                // A try that is not counted is not made. What proved itself needs no count.
                let slot = instead_of_try(&state, found).ok_or_else(|| self.failed(&error))?;
                tracing::error!(
                    slot = slot.as_str(),
                    "no update is tried: the agent before it goes on"
                );
                return Ok(Chosen { slot, state, is_written });
            }
        }
        if found.linked != Some(state.confirmed)
            && let Err(error) = self.slots.link(state.confirmed)
        {
            // It is for people: the state says which slot starts.
            tracing::warn!(%error, "the link to the confirmed slot cannot be led there");
        }
        Ok(Chosen { slot, state, is_written })
    }

    /// Asks the program of a slot which version it is, and waits where the machine is too short of something
    /// for that; `None`: a stop was asked for.
    async fn ask(&mut self, slot: Slot, found: &Found) -> Result<Option<Said>, String> {
        let Seen::Present(digest) = found.program(slot) else {
            unreachable!("invariant: only a program that is there is asked")
        };
        let (mut lack, name) = (Lack::default(), slot.as_str());
        let version = loop {
            self.supervisor.starting(self.start_max());
            let error = match probe::ask(&self.slots.program(slot)) {
                Ok(about) => break about.version.parse().ok(),
                Err(NoAnswer::NotStarted(error)) if is_lack(&error) => error,
                Err(error) => {
                    tracing::warn!(slot = name, %error, "a program does not say which version it is");
                    break None;
                }
            };
            // That is not the fault of the program, and nothing about it follows from that.
            let Some(wait) = lack.wait_after(&error) else {
                return Err(format!(
                    "the program in slot {name} cannot be asked what it is: {error}"
                ));
            };
            tracing::warn!(slot = name, %error, ?wait, "the machine is too short of something to ask a program what it is: waiting");
            if self.stop_within(wait).await {
                return Ok(None);
            }
        };
        Ok(Some(Said { digest, version }))
    }

    /// Writes the launcher's own program into a slot.
    fn put(
        &self,
        slot: Slot,
        ahead: Option<&State>,
        then: &State,
        found: &Found,
    ) -> io::Result<()> {
        let own = found.own.as_ref().expect("invariant: only what is there is put into a slot");
        let bytes = std::fs::read(&self.options.own)?;
        let beside = self.slots.write_beside(slot, &bytes, own.program.digest)?;
        if let Some(ahead) = ahead {
            self.slots.save(ahead)?;
        }
        beside.name()?;
        self.slots.save(then)?;
        let (slot, version) = (slot.as_str(), own.program.version);
        let on_trial = then.trial.is_some();
        tracing::info!(slot, %version, on_trial, "the launcher's own program is in its slot");
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("slots in {}: {error}", self.slots.dir().display())
    }

    fn stuck(&self, stuck: Stuck) -> String {
        let dir = self.slots.dir().display();
        match stuck {
            Stuck::Damaged => format!(
                "no program in {dir} is what its state says, or may run: put good ones there and remove \
                 state-0 and state-1, then what is there is taken"
            ),
            Stuck::Unreadable => format!(
                "programs in {dir} cannot be read: look at the disk, and at the owner of the folder (the \
                 user that the launcher runs as)"
            ),
        }
    }
}

/// People who upgraded a package want to know why it is not taken.
fn say_unwanted(before: Option<&State>, now: &State, found: &Found) {
    let Some(own) = &found.own else { return };
    let Some(offered) = before.map(|before| before.offered) else { return };
    if let Err(why) = (State { offered, ..now.clone() }).wants(own)
        && (offered != now.offered || why == Unwanted::Unknown)
        && why != Unwanted::Same
    {
        tracing::warn!(version = %own.program.version, %why, "the launcher's own program is not tried");
    }
}
